"""Priors from Debian's Orthanc by each way, and from archives that are slow, broken, absent or endless."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pydicom.config
import pydicom.uid
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, CTImageStorage, DeflatedExplicitVRLittleEndian
from pynetdicom import AE, evt
from support import Orthanc, free_port, orthanc
from support.disks import SMALL_DISK_BYTES, small_disk
from support.entities import served
from support.key_objects import key_object
from support.node import RunningNode, configured, peer_table, running
from support.web_archives import a_file_of, dicomweb_orthanc, http, said

from ainode.node import logs, testing
from ainode.node.archive.dicomweb import WebArchive
from ainode.node.archive.dimse import Link
from ainode.node.archive.multipart import Body
from ainode.node.archive.search import Archive, Deadline, SeriesEntry, StudyEntry, StudyQuery
from ainode.node.archive.store import Outgoing, send
from ainode.node.archive.web import WebLink
from ainode.node.audit.messages import Message
from ainode.node.domain import (
    UID,
    JobState,
)
from ainode.node.errors import OutOfResources
from ainode.node.jobs.requests import request_of
from ainode.node.priors.gathering import Priors
from ainode.node.priors.shelf import PriorRecord
from ainode.node.routes import PriorRule, Route
from ainode.node.settings import NodeTable, Peer, PriorsTable, Settings, load

FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
ADA = {"PatientID": "7", "IssuerOfPatientID": "HOSPITAL", "PatientBirthDate": "19500101", "PatientName": "Doe^A"}
SAME_NAME = ADA | {"PatientBirthDate": "19610101"}
OTHER_ISSUER = ADA | {"IssuerOfPatientID": "CLINIC"}
CHEST = {"BodyPartExamined": "CHEST", "SeriesDescription": "thin"}


def files_of(study: str, day: str, patient: dict[str, str] = ADA) -> list[bytes]:
    """Return a CT study: three slices, one of them deflated, a scout, and a report."""
    common = {"study": study, "StudyDate": day, "StudyTime": "101010", **patient}
    slices = [a_file_of(**common, **CHEST, InstanceNumber=number) for number in range(2)]
    deflated = dcmread(BytesIO(slices[0]))
    deflated.SOPInstanceUID = deflated.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(f"{study}.9")
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = BytesIO()
    deflated.save_as(stream)
    scout = a_file_of(**common, series=f"{study}.2", SeriesDescription="Scout", BodyPartExamined="CHEST")
    report = dcmread(BytesIO(a_file_of(**common, series=f"{study}.3", Modality="SR")))
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = Comprehensive3DSRStorage
    del report.PixelData
    sr = BytesIO()
    report.save_as(sr)
    return [*slices, stream.getvalue(), scout, sr.getvalue()]


@pytest.fixture(scope="module")
def move_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, move_port: int) -> Iterator[tuple[Orthanc, Peer]]:
    known = {"priors": ("AINODE_PRIORS", move_port)}
    with dicomweb_orthanc(tmp_path_factory.mktemp("orthanc"), known) as (server, peer):
        studies = [
            files_of("1.2.4", "20230101", SAME_NAME),
            files_of("1.2.5", "20250601", OTHER_ISSUER),
            files_of("1.2.1", "20250101"),
            files_of("1.2.2", "20240101"),
            files_of("1.2.3", "20220101"),
            files_of("1.2.6", "20100101"),
        ]
        sent = send(Link(peer, "CT1"), [Outgoing.of(one) for study in studies for one in study])
        assert not [one.error for one in sent if one.error]
        yield server, peer


def settings(folder: Path, peer: Peer, *, move_port: int = 0) -> Settings:
    node = NodeTable(data=folder / "data", min_free_bytes=0, network_timeout_s=5)
    return Settings(node=node, priors=PriorsTable(move_port=move_port), peers=(peer,))


def route(source: str, **values: object) -> Route:
    rule = {"tags": {"SeriesDescription": "!Scout"}, "timeout_s": 20.0} | values
    return Route(
        "nodule",
        "nodule",
        companions=("SR",),
        priors=PriorRule(source, ("CT",), ("CHEST",), **rule),  # type: ignore[arg-type]
    )


@pytest.fixture
def current(tmp_path: Path) -> Path:
    path = tmp_path / "current.dcm"
    path.write_bytes(a_file_of(study="1.2.7", StudyDate="20260101", StudyTime="101010", **ADA, **CHEST))
    return path


def studies(files: tuple[object, ...]) -> list[str]:
    found = [dcmread(one.path, stop_before_pixels=True) for one in files]  # type: ignore[attr-defined]
    return list(dict.fromkeys(one.StudyInstanceUID for one in found))


# A real Orthanc


@pytest.mark.parametrize("way", ["get", "move", "dicomweb"])
def test_the_two_newest_studies_of_the_same_patient_come_with_their_images_and_report(
    archive: tuple[Orthanc, Peer], tmp_path: Path, current: Path, move_port: int, way: str
) -> None:
    peer = archive[1].model_copy(update={"retrieve": way})
    messages: list[Message] = []
    priors = Priors(settings(tmp_path, peer, move_port=move_port), record=messages.append)
    gathered = priors.gather("job", route("orthanc"), current)
    query, *transfers = messages
    assert query.event.value == "110112"
    assert query.subjects[0].identifier == (peer.dicomweb if way == "dicomweb" else "1.2.840.10008.5.1.4.1.2.2.1")
    assert [
        (entry.event.value, entry.subjects[0].identifier, sum(entry.subjects[0].sop_classes.values()))
        for entry in transfers
    ] == [
        ("110104", "1.2.1", 3),
        ("110104", "1.2.1", 1),
        ("110104", "1.2.2", 3),
        ("110104", "1.2.2", 1),
    ]
    found = [dcmread(one.path, stop_before_pixels=True) for one in gathered.files]
    assert studies(gathered.files) == ["1.2.1", "1.2.2"]
    assert sorted((one.SeriesInstanceUID, one.Modality) for one in found) == [
        *[("1.2.1.1", "CT")] * 3,
        ("1.2.1.3", "SR"),
        *[("1.2.2.1", "CT")] * 3,
        ("1.2.2.3", "SR"),
    ]
    assert {one.PatientBirthDate for one in found} == {"19500101"}
    assert gathered.notes == (
        "Earlier studies: 1 under this Patient ID not used: another birth date.",
        "Earlier studies: 1 under this Patient ID not used: the same Patient ID of another issuer.",
    )
    assert gathered.query_s > 0
    assert gathered.retrieve_s > 0
    assert priors.record("job") == gathered


def test_an_instance_comes_in_the_transfer_syntax_it_is_stored_in(
    archive: tuple[Orthanc, Peer], tmp_path: Path, current: Path
) -> None:
    for way in ("get", "dicomweb"):
        peer = archive[1].model_copy(update={"retrieve": way})
        gathered = Priors(settings(tmp_path / way, peer)).gather("job", route("orthanc", count=1), current)
        syntaxes = [dcmread(one.path, stop_before_pixels=True).file_meta.TransferSyntaxUID for one in gathered.files]
        assert syntaxes.count(DeflatedExplicitVRLittleEndian) == 1


def test_a_series_is_fetched_once_and_a_job_decided_once(
    archive: tuple[Orthanc, Peer], tmp_path: Path, current: Path
) -> None:
    counted = Counting(Priors(settings(tmp_path, archive[1]))._configured_archive(archive[1]))
    priors = Priors(settings(tmp_path, archive[1]), lambda _: counted)
    first = priors.gather("job", route("orthanc"), current)
    fetched = counted.fetched
    assert priors.gather("another job", route("orthanc"), current).files == first.files
    assert counted.fetched == fetched == 4
    searches = counted.searches
    assert priors.gather("job", route("orthanc"), current) == first
    assert counted.searches == searches


def test_what_is_no_longer_kept_is_left_out_and_said(
    archive: tuple[Orthanc, Peer], tmp_path: Path, current: Path
) -> None:
    priors = Priors(settings(tmp_path, archive[1]))
    gathered = priors.gather("job", route("orthanc"), current)
    late = datetime.now(UTC) + timedelta(days=8)
    priors.sweep(late, ["job"])
    assert priors.usable("job", None) == gathered
    gathered.files[0].path.unlink()
    usable = priors.usable("job", None)
    assert studies(usable.files) == ["1.2.2"]
    assert usable.notes[-1] == "Earlier studies: the node no longer keeps them all as they were fetched."
    priors.sweep(late, [])
    assert not list((tmp_path / "data" / "priors" / "series").iterdir())
    assert priors.record("job") == PriorRecord()


def rejecting(day: str, study: str, folder: Path, patient: dict[str, str]) -> tuple[list[bytes], bytes]:
    """Return the files of a study and a rejection note about one of its slices."""
    path, (image, *others) = folder / "image.dcm", files_of(study, day, patient)
    path.write_bytes(image)
    return [image, *others], key_object("113001", [path], folder / f"note {study}.dcm").read_bytes()


@pytest.mark.parametrize("way", ["get", "move", "dicomweb"])
def test_a_prior_of_which_the_archive_has_a_rejection_note_is_not_used_and_that_is_said(
    archive: tuple[Orthanc, Peer], tmp_path: Path, move_port: int, way: str
) -> None:
    _, peer = archive
    patient = ADA | {"PatientID": f"rejected-{way}"}
    newest = f"1.2.30.{len(way)}"
    images, note = rejecting("20250101", newest, tmp_path, patient)
    older = files_of(f"1.2.40.{len(way)}", "20240101", patient)
    sent = send(Link(peer, "CT1"), [Outgoing.of(content) for content in (*images, note, *older)])
    assert not [answer.error for answer in sent if answer.error]
    current = tmp_path / "current.dcm"
    current.write_bytes(a_file_of(study="1.2.7", StudyDate="20260101", StudyTime="101010", **patient, **CHEST))
    priors = Priors(settings(tmp_path, peer.model_copy(update={"retrieve": way}), move_port=move_port))
    gathered = priors.gather("job", route("orthanc"), current)
    assert studies(gathered.files) == [f"1.2.40.{len(way)}"], gathered.notes
    (said,) = gathered.notes
    assert said.startswith(
        "Earlier studies: a CT series is not used: images of it are not to be used, a rejection note "
    )
    assert "113001 DCM Rejected for Quality Reasons" in said


class Counting:
    """Another archive, and how often it was asked."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.searches = self.fetched = 0

    def studies(self, query: StudyQuery, deadline: Deadline) -> Iterator[StudyEntry]:
        self.searches += 1
        return self._archive.studies(query, deadline)

    def series(self, study: UID, deadline: Deadline) -> tuple[SeriesEntry, ...]:
        return self._archive.series(study, deadline)

    def fetch(self, series: SeriesEntry, folder: Path, deadline: Deadline) -> None:
        self.fetched += 1
        self._archive.fetch(series, folder, deadline)


# Another patient's


def test_files_of_another_birth_date_are_not_used_whatever_the_archive_lists(tmp_path: Path, current: Path) -> None:
    with listing([answer("1.2.1", "20250101")], files_of("1.2.1", "20250101", SAME_NAME)[:3]) as peer:
        gathered = Priors(settings(tmp_path, peer)).gather("job", route("scp"), current)
    assert gathered.files == ()
    assert "another birth date" in gathered.notes[0]
    assert not list((tmp_path / "data" / "priors" / "series").rglob("*.dcm"))


@pytest.mark.parametrize("allowed", [False, True])
def test_a_study_without_a_birth_date_is_used_only_where_the_route_allows_it(
    tmp_path: Path, current: Path, *, allowed: bool
) -> None:
    unknown = ADA | {"PatientBirthDate": ""}
    with listing([answer("1.2.1", "20250101", unknown)], files_of("1.2.1", "20250101", unknown)[:3]) as peer:
        rule = route("scp", allow_missing_birth_date=allowed)
        gathered = Priors(settings(tmp_path, peer)).gather("job", rule, current)
    assert len(gathered.files) == (3 if allowed else 0)
    assert bool(gathered.notes) is not allowed


def test_a_current_study_without_a_birth_date_asks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(a_file_of(study="1.2.7", StudyDate="20260101", **(ADA | {"PatientBirthDate": ""})))
    gathered = Priors(settings(tmp_path, nowhere())).gather("job", route("gone"), path)
    assert gathered.notes == ("Earlier studies: not looked for, since the study has no birth date to compare.",)


def test_no_value_of_an_odd_answer_reaches_a_log_or_a_warning(
    tmp_path: Path, current: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pydicom.config.disable_value_validation():
        odd = answer("1.2.1", "20250101", ADA | {"PatientBirthDate": "1950-SECRET", "PatientID": "7\\n"})
        odd.StudyInstanceUID = odd.StudyTime = "1.2.SECRET"
    caplog.set_level("INFO")
    with listing([odd, answer("1.2.2", "20240101")], files_of("1.2.2", "20240101")[:2]) as peer:
        gathered = Priors(settings(tmp_path, peer)).gather("job", route("scp"), current)
    said = capfd.readouterr()
    assert "SECRET" not in said.out + said.err + caplog.text
    assert studies(gathered.files) == ["1.2.2"]


@pytest.mark.parametrize("line", [b"no header, but SECRET\r\n", b'Warning: 299 pacs "no PatientID=SECRET"\r\n'])
def test_neither_an_address_nor_a_warning_of_a_server_reaches_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes
) -> None:
    def raw(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/dicom+json\r\n" + line + b"\r\n[]")

    path = tmp_path / "one.dcm"
    path.write_bytes(a_file_of(study="1.2.7", StudyDate="20260101", **(ADA | {"PatientID": "SECRET"}), **CHEST))
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure()
        with http(raw) as peer:
            gathered = Priors(settings(tmp_path, peer)).gather("job", route("web"), path)
    finally:
        root.handlers[:], root.level = before
    assert gathered.notes == ("Earlier studies: web has none that fits.",)
    assert "SECRET" not in capsys.readouterr().err


# Slow, in parts, with errors, not at all, endless


def nowhere() -> Peer:
    return Peer(name="gone", ae_title="GONE", host="127.0.0.1", port=free_port())


def answer(study: str, day: str, patient: dict[str, str] = ADA) -> Dataset:
    found = Dataset()
    found.QueryRetrieveLevel = "STUDY"
    found.StudyInstanceUID, found.StudyDate, found.StudyTime, found.ModalitiesInStudy = study, day, "1010", "CT"
    found.PatientID, found.IssuerOfPatientID = patient["PatientID"], patient["IssuerOfPatientID"]
    found.PatientBirthDate = patient["PatientBirthDate"]
    return found


def series_answer(study: str, instances: int) -> Dataset:
    found = Dataset()
    found.QueryRetrieveLevel = "SERIES"
    found.StudyInstanceUID, found.SeriesInstanceUID, found.Modality = study, f"{study}.1", "CT"
    found.BodyPartExamined, found.SeriesDescription = "CHEST", "thin"
    found.NumberOfSeriesRelatedInstances = instances
    return found


Before = Callable[[int], int | None]
"""Called with the number of an answer, of a file from 1000 on: it may wait, or return a status to fail with."""


def never(_: int) -> None:
    pass


@dataclass(frozen=True)
class Listing:
    """An archive that lists `answers` and gives `files`."""

    answers: list[Dataset]
    files: list[bytes]
    before: Before
    claimed: int

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        if event.identifier.QueryRetrieveLevel == "SERIES":
            yield 0xFF00, series_answer(event.identifier.StudyInstanceUID, self.claimed)
        else:
            for number, one in enumerate(self.answers):
                if failure := self.before(number):
                    yield failure, None
                    return
                yield 0xFF00, one

    def get(self, _: evt.Event) -> Iterator[object]:
        yield len(self.files)
        for number, content in enumerate(self.files):
            if failure := self.before(1000 + number):
                yield failure, None
                return
            yield 0xFF00, dcmread(BytesIO(content))


@contextmanager
def listing(
    answers: list[Dataset], files: list[bytes], *, before: Before = never, claimed: int | None = None
) -> Iterator[Peer]:
    """Run such an archive."""
    archive = Listing(answers, files, before, claimed or len(files))
    entity = AE("SCP")
    for uid in (FIND, GET):
        entity.add_supported_context(uid)
    entity.add_supported_context(CTImageStorage, scu_role=True, scp_role=True)
    with served(entity, (evt.EVT_C_FIND, archive.find), (evt.EVT_C_GET, archive.get)) as port:
        yield Peer(name="scp", ae_title="SCP", host="127.0.0.1", port=port)


def test_an_archive_that_is_not_there_is_said_at_once(tmp_path: Path, current: Path) -> None:
    started = time.monotonic()
    peer = nowhere()
    gathered = Priors(settings(tmp_path, peer)).gather("job", route("gone"), current)
    assert gathered.files == ()
    assert gathered.notes == ("Earlier studies: gone did not deliver them (the log says why); read with 0 of up to 2.",)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("way", ["get", "dicomweb"])
def test_an_archive_that_hangs_is_left_at_the_time_limit(tmp_path: Path, current: Path, way: str) -> None:
    with silent() as port:
        peer = Peer(
            name="scp",
            ae_title="SCP",
            host="127.0.0.1",
            port=port,
            dicomweb=f"http://127.0.0.1:{port}",
            retrieve=way,  # type: ignore[arg-type]
        )
        started = time.monotonic()
        gathered = Priors(settings(tmp_path, peer)).gather("job", route("scp", timeout_s=1.0), current)
        assert time.monotonic() - started < 30
    assert gathered.notes == ("Earlier studies: scp did not deliver them within 1 s; read with 0 of up to 2.",)


@contextmanager
def silent() -> Iterator[int]:
    """Listen, and never say a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_an_archive_that_answers_slowly_is_left_at_the_time_limit(tmp_path: Path, current: Path) -> None:
    answers = [answer(f"1.2.{number}", "20250101") for number in range(100)]

    def slow(_: int) -> None:
        time.sleep(0.2)

    with listing(answers, [], before=slow) as peer:
        started = time.monotonic()
        gathered = Priors(settings(tmp_path, peer)).gather("job", route("scp", timeout_s=1.0), current)
        assert time.monotonic() - started < 19  # of the twenty that all of them take
    assert "within 1 s" in gathered.notes[0]


class OnePort:
    """An archive whose retrievals come one after the other, as C-MOVEs to one port do."""

    def __init__(self) -> None:
        self.port = threading.Lock()

    def studies(self, query: StudyQuery, _: Deadline) -> Iterator[StudyEntry]:
        yield StudyEntry(UID("1.2.1"), query.patient, "20250101", "", ("CT",))

    def series(self, _: UID, deadline: Deadline) -> tuple[SeriesEntry, ...]:
        """Wait for the port, and use it for two seconds."""
        with self.port:
            time.sleep(2)
        deadline.check()
        return ()

    def fetch(self, *_: object) -> None:
        raise NotImplementedError


def test_the_time_of_a_search_by_move_begins_when_the_searches_before_it_have_ended(
    tmp_path: Path, current: Path
) -> None:
    peer = Peer(name="scp", ae_title="SCP", host="127.0.0.1", port=1, retrieve="move")
    archive = OnePort()
    priors = Priors(settings(tmp_path, peer), lambda _: archive)
    with ThreadPoolExecutor(3) as threads:
        gather = partial(priors.gather, route=route("scp", timeout_s=5.0), study_file=current)
        records = [*threads.map(gather, ["first", "second", "third"])]
    assert [record.notes for record in records] == [("Earlier studies: scp has none that fits.",)] * 3


def test_what_arrived_before_the_time_limit_is_used(tmp_path: Path, current: Path) -> None:
    kept = tmp_path / "data" / "priors" / "series"
    gave_up = threading.Event()

    def slow_second(number: int) -> None:
        if number >= 1000 and list(kept.rglob("*.dcm")):
            gave_up.wait(120)

    files = files_of("1.2.1", "20250101")[:2]
    answers = [answer("1.2.1", "20250601"), answer("1.2.2", "20250101")]
    with listing(answers, files, before=slow_second) as peer:
        site = settings(tmp_path, peer)
        patient = site.model_copy(update={"node": site.node.model_copy(update={"network_timeout_s": 60.0})})
        gathered = Priors(patient).gather("job", route("scp", timeout_s=10.0), current)
        gave_up.set()
    assert len(gathered.files) == 2
    assert gathered.notes == ("Earlier studies: scp did not deliver them within 10 s; read with 1 of up to 2.",)


def test_a_series_that_comes_in_parts_is_not_used(tmp_path: Path, current: Path) -> None:
    files = files_of("1.2.1", "20250101")[:2]
    with listing([answer("1.2.1", "20250101")], files, claimed=5) as peer:
        gathered = Priors(settings(tmp_path, peer)).gather("job", route("scp"), current)
    assert gathered.files == ()
    assert gathered.notes == ("Earlier studies: a CT series is not used: the archive sent 2 of 5 instances.",)


@pytest.mark.parametrize(("status", "word"), [(0xA700, "log"), (0xC001, "log")])
def test_a_query_that_fails_is_said(tmp_path: Path, current: Path, status: int, word: str) -> None:
    with listing([answer("1.2.1", "20250101")], [], before=lambda _: status) as peer:
        gathered = Priors(settings(tmp_path, peer)).gather("job", route("scp"), current)
    assert gathered.files == ()
    assert word in gathered.notes[0]


def test_a_refused_retrieval_leaves_the_next_study(tmp_path: Path, current: Path) -> None:
    files = files_of("1.2.2", "20240101")[:2]
    refused = iter([0xA801])
    answers = [answer("1.2.1", "20250101"), answer("1.2.2", "20240101")]
    with listing(answers, files, before=lambda number: next(refused, None) if number == 1000 else None) as peer:
        gathered = Priors(settings(tmp_path, peer)).gather("job", route("scp"), current)
    assert studies(gathered.files) == ["1.2.2"]
    assert gathered.notes == ("Earlier studies: a CT series is not used: scp refused it.",)


def test_an_archive_without_query_or_retrieve_is_said(tmp_path: Path, current: Path) -> None:
    with orthanc(tmp_path / "closed", DicomAlwaysAllowFind=False) as server:
        gathered = Priors(settings(tmp_path, server.peer)).gather("job", route("orthanc"), current)
    assert gathered.files == ()
    assert "orthanc did not deliver them" in gathered.notes[0]


def test_of_ten_thousand_studies_the_newest_is_used_in_little_memory(tmp_path: Path, current: Path) -> None:
    day = datetime(2025, 12, 31, tzinfo=UTC)
    dates = [f"{day - timedelta(days=number % 1500):%Y%m%d}" for number in range(1, 10_001)]
    answers = [answer(f"1.2.9.{number}", one) for number, one in enumerate(dates)]
    answers[5_000] = answer("1.2.1", "20251231")
    with listing(answers, files_of("1.2.1", "20251231")[:3]) as peer:
        before = most_resident_kib(reset=True)
        gathered = Priors(settings(tmp_path, peer)).gather("job", route("scp", count=1, timeout_s=500.0), current)
        grown = most_resident_kib() - before
    assert studies(gathered.files) == ["1.2.1"]
    assert grown < 60 * 1024, (grown, gathered.query_s)


def most_resident_kib(*, reset: bool = False) -> int:
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    (line,) = [one for one in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if "VmHWM" in one]
    return int(line.split()[1])


def test_of_ten_thousand_studies_by_qido_the_newest_is_used_in_little_memory(tmp_path: Path, current: Path) -> None:
    day = datetime(2025, 12, 31, tzinfo=UTC)
    dates = {f"1.2.9.{number}": f"{day - timedelta(days=number % 1500):%Y%m%d}" for number in range(1, 10_001)}
    answers = [answer(study, one).to_json_dict() for study, one in (dates | {"1.2.1": "20251231"}).items()]
    files = files_of("1.2.1", "20251231")[:3]
    body = Body(tuple(files), "edge")

    def archive(request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        asked = {"offset": 0, **{key: int(value) for key, value in parse_qsl(address.query) if value.isdecimal()}}
        if address.path.endswith("/studies"):
            said(request, 200, answers[asked["offset"] :][: asked["limit"]])
        elif address.path.endswith("/series"):
            said(request, 200, [series_answer("1.2.1", 3).to_json_dict()][asked["offset"] :])
        else:
            request.send_response(200)
            request.send_header("Content-Type", body.content_type)
            request.end_headers()
            request.wfile.writelines(body)

    with http(archive) as peer:
        before = most_resident_kib(reset=True)
        rule = route("web", count=1, timeout_s=500.0)
        gathered = Priors(settings(tmp_path, peer)).gather("job", rule, current)
        grown = most_resident_kib() - before
    assert studies(gathered.files) == ["1.2.1"]
    assert grown < 60 * 1024, (grown, gathered.query_s)


def test_ten_thousand_studies_within_too_short_a_time_are_none(tmp_path: Path, current: Path) -> None:
    answers = [answer(f"1.2.9.{number}", "20250101") for number in range(10_000)]
    with listing(answers, []) as peer:
        gathered = Priors(settings(tmp_path, peer)).gather("job", route("scp", timeout_s=0.5), current)
    assert gathered.files == ()
    assert gathered.notes == ("Earlier studies: scp did not deliver them within 0.5 s; read with 0 of up to 2.",)


def test_an_archive_that_lists_the_world_is_left(
    tmp_path: Path, current: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ainode.node.archive.retrieve.MAX_STUDIES", 50)
    with listing([answer(f"1.2.9.{number}", "20250101") for number in range(60)], []) as peer:
        gathered = Priors(settings(tmp_path, peer)).gather("job", route("scp"), current)
    assert gathered.files == ()
    assert gathered.notes


@pytest.mark.parametrize("way", ["get", "move", "dicomweb"])
def test_a_full_disk_is_no_reason_to_read_a_study_without_its_priors(
    archive: tuple[Orthanc, Peer], tmp_path: Path, current: Path, move_port: int, way: str
) -> None:
    peer = archive[1].model_copy(update={"retrieve": way})
    (tmp_path / "data").mkdir()
    with small_disk(tmp_path / "data"):
        priors = Priors(settings(tmp_path, peer, move_port=move_port))
        (tmp_path / "data" / "other").write_bytes(bytes(SMALL_DISK_BYTES - 16384))
        with pytest.raises(OutOfResources, match="no room for earlier studies"):
            priors.gather("job", route("orthanc"), current)
        assert priors.usable("job", route("orthanc").priors).notes == (
            "Earlier studies: not used, since the node has no record of a search for them (the log says why).",
        )
        (tmp_path / "data" / "other").unlink()
        assert studies(priors.gather("job", route("orthanc"), current).files) == ["1.2.1", "1.2.2"]


def test_below_the_watermark_no_priors_are_fetched(
    archive: tuple[Orthanc, Peer], tmp_path: Path, current: Path
) -> None:
    full = settings(tmp_path, archive[1])
    full = full.model_copy(update={"node": full.node.model_copy(update={"min_free_bytes": 1 << 60})})
    with pytest.raises(OutOfResources, match="min_free_bytes"):
        Priors(full).gather("job", route("orthanc"), current)
    assert Priors(full).record("job") == PriorRecord()


def test_a_series_by_wado_ends_where_the_disk_has_no_room_for_its_next_file(tmp_path: Path) -> None:
    body = Body(tuple(files_of("1.2.1", "20250101")[:2]), "edge")

    def archive(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", body.content_type)
        request.end_headers()
        request.wfile.writelines(body)

    series = SeriesEntry(UID("1.2.1"), UID("1.2.1.1"))
    with http(archive) as peer, pytest.raises(OutOfResources, match="min_free_bytes"):
        WebArchive(WebLink(peer), min_free_bytes=1 << 60).fetch(series, tmp_path, Deadline())
    assert not list(tmp_path.iterdir())


def test_a_move_to_a_port_that_is_taken_is_said(archive: tuple[Orthanc, Peer], tmp_path: Path, current: Path) -> None:
    with silent() as port:
        peer = archive[1].model_copy(update={"retrieve": "move"})
        gathered = Priors(settings(tmp_path, peer, move_port=port)).gather("job", route("orthanc"), current)
    assert gathered.files == ()
    assert "orthanc did not deliver them" in gathered.notes[-1]


ODD = "SECRET"


class Odd:
    """An archive whose library is broken."""

    def studies(self, *_: object) -> Iterator[StudyEntry]:
        raise KeyError(ODD)

    def series(self, *_: object) -> tuple[SeriesEntry, ...]:
        raise NotImplementedError

    def fetch(self, *_: object) -> None:
        raise NotImplementedError


def test_a_search_that_breaks_is_left_at_once_and_does_not_blame_the_archive(
    tmp_path: Path, current: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peer = nowhere()
    gathered = Priors(settings(tmp_path, peer), lambda _: Odd()).gather("job", route("gone"), current)
    assert gathered.notes == (
        "Earlier studies: the node's search for them failed (the log says why); read with 0 of up to 2.",
    )
    assert "KeyError" in caplog.text
    assert "SECRET" not in caplog.text


# What was written down


def test_a_search_that_could_not_be_written_down_is_said_of_the_job(tmp_path: Path, current: Path) -> None:
    priors = Priors(settings(tmp_path, nowhere()))
    blocked = tmp_path / "data" / "priors" / "jobs"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where the folder has to be")
    rule = route("gone").priors
    with pytest.raises(OSError, match="jobs"):
        priors.gather("job", route("gone"), current)
    blocked.unlink()
    assert "no record of a search" in priors.usable("job", rule).notes[0]
    assert priors.record("job") == priors.usable("job", None) == PriorRecord()


def test_a_damaged_record_leaves_its_job_readable_and_is_said(tmp_path: Path, current: Path) -> None:
    priors = Priors(settings(tmp_path, nowhere()))
    priors.gather("job", route("gone"), current)
    (record,) = (tmp_path / "data" / "priors" / "jobs").iterdir()
    record.write_bytes(b"")
    gathered = priors.record("job")
    assert gathered.files == ()
    assert "damaged" in gathered.notes[0]


def test_a_certificate_that_is_being_renewed_fails_only_the_search_that_needs_it(tmp_path: Path, current: Path) -> None:
    peer = nowhere().model_copy(update={"retrieve": "move"})
    renewed = settings(tmp_path, peer)
    missing = {"tls_certificate": tmp_path / "gone.pem", "tls_key": tmp_path / "gone.key"}
    renewed = renewed.model_copy(update={"node": renewed.node.model_copy(update=missing)})
    assert Priors(renewed).record("job") == PriorRecord()
    gathered = Priors(renewed).gather("job", route("gone"), current)
    assert gathered.notes[0].startswith("Earlier studies: the node's search for them failed")


# The whole node

FOLLOW_UP = """
[[route]]
name = "spine"
handler = "support.handler"
modality = ["DX"]

[route.priors]
from = "SOURCE"
modality = ["CT"]
timeout_s = 3.0
"""


def radiograph(folder: Path, name: str) -> tuple[str, list[Path]]:
    identity = {"PatientID": "7", "IssuerOfPatientID": "HOSPITAL", "PatientBirthDate": "19500101"}
    image = testing.noise(512, 512, seed=1, SeriesDescription="read", StudyDate="20260101", **identity)
    return testing.uid(name), list(testing.write([image], folder, study=name))


def follow_up(folder: Path, peer: Peer) -> RunningNode:
    """Return a node whose studies get priors from this peer, and that delivers nothing."""
    return configured(folder, routes=FOLLOW_UP.replace("SOURCE", peer.name), more=peer_table(peer))


def test_a_job_is_read_once_its_priors_are_there(archive: tuple[Orthanc, Peer], tmp_path: Path) -> None:
    study, paths = radiograph(tmp_path / "study", "with priors")
    node = follow_up(tmp_path / "node", archive[1])
    with running(node):
        send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
        job, _ = node.read(study)
    request = request_of(job, load(node.config).routes[0], load(node.config), node.catalog)
    assert job.state is JobState.REPORTED
    assert studies(request.priors) == ["1.2.1", "1.2.2"]
    assert len(request.notes) == 2


def test_a_prior_of_which_the_node_has_a_rejection_note_is_not_used(
    archive: tuple[Orthanc, Peer], tmp_path: Path
) -> None:
    study, paths = radiograph(tmp_path / "study", "with a rejected prior")
    (note_of,) = [uid for uid in archive[0].instances_of("1.2.1") if uid == "1.2.1.9"]
    prior = tmp_path / "prior.dcm"
    prior.write_bytes(archive[0].download(archive[0].instances_of("1.2.1")[note_of]))
    note = key_object("113037", [prior], tmp_path / "note.dcm")
    node = follow_up(tmp_path / "node", archive[1])
    with running(node):
        send(Link(node.peer, "MODALITY"), [Outgoing.of(note)])
        node.until(lambda: node.catalog.is_routed(UID("1.2.1")), within_s=120)
        send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
        job, _ = node.read(study)
    request = request_of(job, load(node.config).routes[0], load(node.config), node.catalog)
    assert job.state is JobState.REPORTED
    assert "1.2.1.1" not in {dcmread(file.path, stop_before_pixels=True).SeriesInstanceUID for file in request.priors}
    assert any("113037 DCM Rejected for Patient Safety Reasons" in words for words in request.notes)


def test_a_dead_archive_fails_no_job(tmp_path: Path) -> None:
    study, paths = radiograph(tmp_path / "study", "alone")
    node = follow_up(tmp_path / "node", nowhere())
    with running(node):
        send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
        job, _ = node.read(study)
    request = request_of(job, load(node.config).routes[0], load(node.config), node.catalog)
    assert job.state is JobState.REPORTED
    assert request.priors == ()
    assert "gone did not deliver them" in request.notes[0]


def test_a_node_that_is_killed_while_it_searches_reads_the_study_after_it_starts_again(tmp_path: Path) -> None:
    study, paths = radiograph(tmp_path / "study", "killed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        peer = Peer(name="scp", ae_title="SCP", host="127.0.0.1", port=server.getsockname()[1])
        node = follow_up(tmp_path / "node", peer)
        node.start()
        send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
        searching, _ = server.accept()
        node.kill()
        searching.close()
        with running(node):
            job, _ = node.read(study)
    assert job.state is JobState.REPORTED
    assert len(node.ledger.jobs(study=UID(study))) == 1
