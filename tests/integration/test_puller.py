"""Announced studies pulled from DICOMweb servers that answer as a test says; from an Orthanc: see acceptance/."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from support import a_file, free_port, installed, instance_ref
from support.databases import migrated
from support.node import configured, running
from support.waiting import until
from support.web_archives import Answer, http, said, web_peer

installed("fastapi", "uvicorn")

from ainode.node.archive import wado  # noqa: E402
from ainode.node.archive.web import WebLink  # noqa: E402
from ainode.node.domain import UID  # noqa: E402
from ainode.node.errors import ArchiveUnreachable  # noqa: E402
from ainode.node.keeping.announcements import Announcement, Announcements, Fetching  # noqa: E402
from ainode.node.keeping.catalog import Catalog  # noqa: E402
from ainode.node.keeping.ledger import Ledger  # noqa: E402
from ainode.node.keeping.records import Job  # noqa: E402
from ainode.node.keeping.spool import Limits, Spool  # noqa: E402
from ainode.node.receiving.events import Event, InstanceStored  # noqa: E402
from ainode.node.receiving.negotiation import policy  # noqa: E402
from ainode.node.settings import DeliveryTable, Peer, Settings  # noqa: E402
from ainode.node.web.doorway import Doorway  # noqa: E402
from ainode.node.web.puller import Puller, PullerDependencies  # noqa: E402

STUDY, OTHER = UID("1.2.9"), UID("1.2.10")
PATIENT_NAME = "DOE^JANE"


class BrokenLedger(Ledger):
    """Fails as no code of ours is expected to, for one study."""

    def jobs(self, *, study: UID | None = None, **_: object) -> tuple[Job, ...]:
        """Return nothing."""
        if study == STUDY:
            raise RuntimeError(PATIENT_NAME)
        return ()


@dataclass
class Pull:
    """A puller of one peer, and what it brought."""

    puller: Puller
    announcements: Announcements
    events: list[Event]

    def announce(self, study: UID) -> None:
        now = datetime.now(UTC)
        self.announcements.announce(
            Announcement(study, announced_at=now, due_at=now, peer="web", state=Fetching.WAITING)
        )
        self.puller.wake()

    def known(self, study: UID) -> Announcement:
        found = self.announcements.of(study)
        assert found
        return found

    def stored(self) -> set[UID]:
        return {one.ref.sop_instance_uid for one in self.events if isinstance(one, InstanceStored)}


@contextmanager
def pulling(folder: Path, peer: Peer, ledger: type[Ledger] = Ledger) -> Iterator[Pull]:
    engine = migrated(f"sqlite:///{folder}/node.sqlite")
    events: list[Event] = []
    announcements, spool = Announcements(engine), Spool(folder / "spool", Limits(0, 1 << 30))
    doorway = Doorway(spool, policy(Settings(peers=(peer,))), events.append)
    retries = DeliveryTable(first_wait_s=0.1)
    dependencies = PullerDependencies(announcements, Catalog(engine), ledger(engine), doorway, lambda _: None, retries)
    puller = Puller(WebLink(peer, 30), dependencies)
    puller.start()
    yield Pull(puller, announcements, events)
    puller.stop()
    engine.dispose()


def archive(files: list[bytes], *, per_page: int = 500, empty_answers: int = 0) -> Answer:
    """Return what holds these files; its first answers to WADO-RS are messages without a part."""
    refs = {instance_ref(one): one for one in files}
    empty = iter(range(empty_answers))

    def answer(request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        if address.path.endswith("/instances"):
            start = int(parse_qs(address.query).get("offset", ["0"])[0])
            listed = [
                {"00080018": {"Value": [one.sop_instance_uid]}, "0020000E": {"Value": [one.series_instance_uid]}}
                for one in refs
            ]
            return said(request, 200, listed[start : start + per_page])
        found = next(file for one, file in refs.items() if address.path.endswith(one.sop_instance_uid))
        part = b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + found
        request.send_response(200)
        request.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary=b')
        request.end_headers()
        request.wfile.write((part if next(empty, None) is None else b"") + b"\r\n--b--\r\n")
        return None

    return answer


def test_a_study_is_listed_page_by_page_and_every_file_taken(tmp_path: Path) -> None:
    files = [a_file(study=STUDY) for _ in range(7)]
    with http(archive(files, per_page=2)) as peer, pulling(tmp_path, peer) as pull:
        pull.announce(STUDY)
        until(lambda: pull.known(STUDY).state is Fetching.HERE)
    assert pull.stored() == {instance_ref(one).sop_instance_uid for one in files}
    assert pull.known(STUDY).expected == 7


def test_an_answer_without_an_instance_is_tried_again(tmp_path: Path) -> None:
    file = a_file(study=STUDY)
    with http(archive([file], empty_answers=1)) as peer, pulling(tmp_path, peer) as pull:
        pull.announce(STUDY)
        until(lambda: pull.known(STUDY).attempts == 1)
        assert "cannot be understood" in pull.known(STUDY).reason
        until(lambda: pull.known(STUDY).state is Fetching.HERE)
    assert pull.stored() == {instance_ref(file).sop_instance_uid}


def test_whatever_a_pull_provokes_ends_that_pull_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with http(archive([a_file(study=OTHER)])) as peer, pulling(tmp_path, peer, BrokenLedger) as pull:
        pull.announce(STUDY)
        pull.announce(OTHER)
        until(lambda: pull.known(OTHER).state is Fetching.HERE)
        assert pull.puller.is_alive()
        known = pull.known(STUDY)
    assert (known.state, known.reason) == (Fetching.FAILED, "not pulled: RuntimeError while pulling; see the log")
    assert "sender_counts.py" in caplog.text
    assert PATIENT_NAME not in caplog.text


def listed(body: object) -> dict[UID, str]:
    with http(lambda request: said(request, 200, body)) as peer, wado.pull_session(WebLink(peer, 30)) as opened:
        (identifiers,) = opened.instances(STUDY)
        return identifiers


@pytest.mark.parametrize("body", [7, "no", True])
def test_what_is_no_list_of_instances_cannot_be_understood(body: object) -> None:
    with pytest.raises(ArchiveUnreachable, match="cannot be understood"):
        listed(body)


@pytest.mark.parametrize("body", [[], {"a": 1}, [None, 7, {}, {"00080018": {"Value": ["../other"]}}]])
def test_what_names_no_instance_brings_none(body: object) -> None:
    assert listed(body) == {}


def test_a_list_without_end_is_left_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ainode.node.archive.qido._MAX_INSTANCES", 50)
    files = [a_file(study=STUDY) for _ in range(60)]
    with (
        http(archive(files, per_page=20)) as peer,
        wado.pull_session(WebLink(peer, 30)) as opened,
        pytest.raises(ArchiveUnreachable, match="more than 50"),
    ):
        opened.instances(STUDY)


def test_a_node_whose_puller_ended_stops_so_that_it_is_started_again(tmp_path: Path) -> None:
    web = f"[web]\nenabled = true\nport = {free_port()}"
    with running(configured(tmp_path, peers=[web_peer("http://127.0.0.1:1/dicom-web")], more=web)) as node:
        with node.engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE announcements"))
        assert node.process
        assert node.process.wait(120) == 1
    assert "the web interface or a puller ended" in node.log.read_text()
