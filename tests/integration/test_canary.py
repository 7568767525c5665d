"""Words of a patient through success and every failure of a node, then a search of whatever else was written."""

import base64
import json
import os
import pickle
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote
from zipfile import ZipFile

import pytest
from pydicom import Dataset
from pynetdicom import evt
from support import free_port, installed
from support.archives import SmallArchive, serving
from support.caller import CT, Caller, data_set, store_request
from support.canaries import QUOTATION, WORDS, Elements, as_file, deformed, image, rows, traces, typed, typed_in
from support.hostile_visits import HostileVisit
from support.node import ROOT, RunningNode, configured, running
from support.studies import statuses

from ainode.node import testing
from ainode.node.domain import UID, JobState
from ainode.node.receiving.command_set import Tag, decode
from ainode.node.settings import Peer
from ainode.node.web.tokens import Tokens

installed("fastapi", "uvicorn", "requests")

import requests  # noqa: E402

ROUTES = """
[[route]]
name = "talkative"
handler = "support.talkative"
modality = ["DX"]
tags = {Rows = ">=16", AccessionNumber = "*", PatientName = "*", SeriesDescription = "*", InstitutionName = "!zz"}
destinations = ["good", "refusing", "away"]
[route.priors]
from = "good"
allow_missing_birth_date = true

[[route]]
name = "never"
handler = "support.talkative"
tags = {ImageComments = "zz", StudyDescription = "zz", ProtocolName = "zz", OperatorsName = "zz", PatientID = "zz"}
"""
CYRILLIC, JAPANESE = WORDS[1:]
CHARACTER_SETS = (
    ("cyrillic", "ISO_IR 144", CYRILLIC, "iso8859-5"),
    ("japanese", r"\ISO 2022 IR 87", JAPANESE, "iso2022-jp"),
    ("unicode", "ISO_IR 192", f"{CYRILLIC}{JAPANESE}", "utf-8"),
    ("wrong", "ISO_IR 6", CYRILLIC, "koi8-r"),
    ("unknown", f"{WORDS[0]}_CS", CYRILLIC, "utf-8"),
)
"""name of a study, what the study claims, a word, and how it is encoded"""
ORDERS = ("READ", "DECLINE", "SHOUT", "RAISE", "DECODE", "CRASH", "PIXELS")
"""what the handler does with the study of that name"""
# PS3.8 9.3.8
_ABORT = 0x07
SCALED = "[delivery]\nattempts = 2\nfirst_wait_s = 0.1\nlongest_wait_s = 0.2"


class Describing(SmallArchive):
    """An archive that describes an earlier study in words, and hands none out."""

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        query = event.identifier
        if query.QueryRetrieveLevel not in {"STUDY", "SERIES"}:
            yield from super()._find(event)
            return
        answer = Dataset()
        answer.SpecificCharacterSet = query.get("SpecificCharacterSet")
        for element in query:
            if element.VR in {"LO", "PN", "SH"}:
                answer.add_new(element.tag, element.VR, typed_in(int(element.tag), WORDS[0]))
        answer.QueryRetrieveLevel, answer.PatientID = query.QueryRetrieveLevel, query.get("PatientID")
        answer.StudyInstanceUID, answer.SeriesInstanceUID = testing.uid("earlier"), testing.uid("earlier series")
        answer.StudyDate, answer.StudyTime, answer.Modality = "20250101", "120000", "DX"
        answer.ModalitiesInStudy, answer.NumberOfSeriesRelatedInstances = "DX", 1
        yield 0xFF00, answer


@dataclass
class World:
    """A node that met everything, and what its callers and its operator were told."""

    node: RunningNode
    temporary: Path
    port: int
    token: str
    answers: dict[str, str] = field(default_factory=dict)
    """of HTTP and of commands, by their question"""

    states: dict[str, JobState] = field(default_factory=dict)
    """of the newest job of each study"""

    @property
    def data(self) -> Path:
        """Return the copy of the data folder that somebody took while the node ran."""
        return self.node.folder / "copy"

    def call(self, method: str, path: str, **options: object) -> int:
        """Send a request; note the answer."""
        address, headers = f"http://127.0.0.1:{self.port}{path}", {"Authorization": f"Bearer {self.token}"}
        headers |= dict(options.pop("headers", {}))  # type: ignore[call-overload]
        answer = requests.request(method, address, headers=headers, timeout=240, **options)  # type: ignore[arg-type]
        self.answers[f"{method} {path} {len(self.answers)}"] = f"{answer.status_code} {answer.headers} {answer.text}"
        return answer.status_code

    def command(self, *arguments: str) -> None:
        """Run a command; note what it printed."""
        command = [sys.executable, "-m", "ainode.node.commands.cli", *arguments, "--config", str(self.node.config)]
        paths = os.pathsep.join(map(str, (ROOT / ".ns", ROOT / "tests")))
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}, timeout=300, check=False
        )
        self.answers[f"{arguments[0]}: output"], self.answers[f"{arguments[0]}: errors"] = done.stdout, done.stderr


def studies(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Write a study for each order, in character sets that are right, wrong and unknown, whole and broken."""
    files: dict[str, tuple[Path, ...]] = {}

    def write(name: str, dataset: Dataset, elements: Elements) -> None:
        dataset.file_meta.ImplementationVersionName = f"{WORDS[0]} 1"
        dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
        dataset.file_meta.PrivateInformation = WORDS[0].encode()
        path = folder / f"{name}.dcm"
        path.write_bytes(as_file(dataset, elements))
        files[name] = (path,)

    folder.mkdir()
    for name in ORDERS:
        dataset = image(name, name)
        if name == "PIXELS":
            dataset.PixelData = bytes(8)
        write(name, dataset, typed())
    for name, terms, word, encoding in CHARACTER_SETS:
        elements = typed(word, encoding=encoding, groups=(0x0008, 0x0010))
        write(name, image(name, "READ"), elements | {0x00080005: ("CS", terms.encode())})
    write("deformed", image("deformed", "READ"), typed() | deformed())
    colors = {0x00280004: ("CS", typed_in(0x00280004, WORDS[0]).encode())}
    write("colors", image("colors", "PIXELS"), typed() | colors)
    write("unroutable", image("unroutable", "READ", Modality="MG"), typed())
    write("late", image("READ", "READ", 2), typed())
    return files


def refuse(node: RunningNode) -> None:
    """Send what the receiver refuses: damaged data sets, and UIDs that are words."""
    whole = data_set(patient=WORDS[0])
    for content, instance in (
        (whole[:60], "1.3.1"),
        (whole.replace(b"1.5", WORDS[0].encode()), "1.3.1"),
        (data_set(WORDS[0], patient=WORDS[0]), WORDS[0]),
        (data_set("1.3.2", patient=WORDS[0]), "1.3.1"),
    ):
        with Caller(node.port) as caller:
            caller.send(store_request(CT, instance), control=0x03)
            with suppress(BrokenPipeError):
                caller.send(content)
            with suppress(ConnectionResetError):
                kind, body = caller.pdu()
                assert kind == _ABORT or decode(body[6:]).number(Tag.STATUS) != 0x0000


def ask(world: World, files: dict[str, tuple[Path, ...]]) -> None:
    """Ask everything over HTTP and by commands."""
    study, part = testing.uid("READ"), files["deformed"][0].read_bytes()
    multipart = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b0'}
    for content in (part, part[:-5000], part[:400], b"no dicom " + WORDS[0].encode()):
        body = b"--b0\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--b0--\r\n"
        world.call("POST", "/dicom-web/studies", data=body, headers=multipart)
    world.call("POST", f"/studies/{study}/read", json={"positions": [{"position_mm": [1, 2, 3]}]})
    world.call("POST", f"/studies/{study}/read", json={"positions": [{"position_mm": [1, 2, f"{WORDS[0]}"]}]})
    for name in files:
        world.call("GET", f"/studies/{testing.uid(name)}")
        world.call("GET", f"/studies/{testing.uid(name)}/explanation")
    job = next(job for job in world.node.ledger.jobs() if job.state is JobState.FAILED)
    world.command("jobs")
    world.command("explain", study)
    world.command("replay", testing.uid("deformed"))
    for name in files:
        world.command("trace", testing.uid(name))
        world.answers[f"trace {name}"] = world.answers.pop("trace: output")
    bundle = world.node.folder / "bundle.zip"
    world.command("support-bundle", str(bundle), "--log", str(world.node.log), "--keep-uids")
    with ZipFile(bundle) as archive:
        world.answers |= {f"bundle {name}": archive.read(name).decode() for name in archive.namelist()}
    world.call("GET", "/metrics")
    world.command("retry", job.id)
    world.command("read", str(files["deformed"][0]), "--out", str(world.node.folder / "out"))
    world.command("send", str(files["deformed"][0]), "away")


def visit(world: World, files: dict[str, tuple[Path, ...]]) -> None:
    """Type the words into the console, see the studies there, and upload what has the words."""
    person, uids = HostileVisit(world.node, world.port), [testing.uid(name) for name in ("READ", "deformed")]
    answers = [*person.type_everywhere(f"{WORDS[0]}^Ana", uids)]
    for content in (files["deformed"][0].read_bytes(), f"no dicom of {WORDS[0]}".encode()):
        answers += person.upload_everywhere(f"{WORDS[0]}^Ana.dcm", content)
    faults = [f"{answer.url} {answer.text}" for answer in answers if answer.status_code == 500]
    assert not faults
    trials = world.node.folder / "data" / "trials"
    world.node.until(lambda: not any(trials.iterdir()), within_s=240)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("canary")
    port, temporary = free_port(), folder / "temporary"
    temporary.mkdir()
    words = f"{QUOTATION} has another birth date"
    with ExitStack() as stack:
        ports = [stack.enter_context(serving(archive)) for archive in (Describing(), SmallArchive(0xC000, words))]
        peers = [
            Peer(name=name, ae_title=name.upper(), host="127.0.0.1", port=peer_port)
            for name, peer_port in zip(("good", "refusing", "away"), (*ports, free_port()), strict=True)
        ]
        more = f'{SCALED}\n\n[web]\nenabled = true\nport = {port}\n\n[console]\npatient = "full"'
        node = configured(folder / "node", peers=peers, routes=ROUTES, more=more, silence_s=0.3)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("TMPDIR", str(temporary))
        world = World(node, temporary, port, Tokens(folder / "node" / "data").add("tester"))
        damaged = folder / "node" / "data" / "spool" / "new" / "1.dcm"
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(f"no DICOM of {WORDS[0]}".encode())
        files = studies(folder / "sent")
        with running(node):
            late = files.pop("late")
            refuse(node)
            assert set(statuses(node, [path for paths in files.values() for path in paths])) == {0}
            for name in ("READ", "RAISE", "CRASH", "deformed"):
                node.read(testing.uid(name))
            assert statuses(node, late) == [0]
            node.until(lambda: len(node.ledger.jobs(study=UID(testing.uid("READ")))) == 2, within_s=120)
            for name in files.keys() - {"unroutable"}:
                node.read(testing.uid(name))
            ask(world, files)
            visit(world, files)
            world.states = {str(job.study_instance_uid): job.state for job in node.ledger.jobs()}
            shutil.copytree(folder / "node" / "data", world.data)
    remove_names(world.data / "catalog.sqlite")
    return world


def remove_names(path: Path) -> None:
    """Empty the one table that may name a patient in a copy of the database, after a look that it does."""
    with closing(sqlite3.connect(path)) as connection:
        assert traces(str(connection.execute("SELECT * FROM patient_index").fetchall()).encode())
        connection.execute("DELETE FROM patient_index")
        connection.commit()
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")


def places(world: World) -> Iterator[tuple[str, bytes]]:
    """Yield all that was written but for received instances and documents, each with its place."""
    for root in (world.data, world.temporary):
        for path in root.rglob("*"):
            if path.is_file() and not path.is_relative_to(world.data / "spool") and "documents" not in path.parts:
                yield str(path), path.read_bytes()
    for path in world.data.glob("*.sqlite"):
        yield from ((f"{path.name} {place}", content) for place, content in rows(path))
    yield "log", world.node.log.read_bytes()
    yield from ((name, text.encode()) for name, text in world.answers.items() if name != "explain: output")


def test_every_fault_was_reached(world: World) -> None:
    reached = {name: world.states[testing.uid(name)] for name in ORDERS}
    assert reached == dict.fromkeys(ORDERS, JobState.FAILED) | {
        "READ": JobState.REPORTED,
        "SHOUT": JobState.REPORTED,
        "DECLINE": JobState.OUT_OF_SCOPE,
    }
    log = world.node.log.read_text()
    for action in (
        *("spool_damaged", "object_refused", "delivery_failed", "dead_letter", "handler_failed"),
        *("uncaught", "job_opened", "complete", "prior_left_out"),
    ):
        assert f"action={action}" in log, action
    assert {"WARNING UserWarning: ", "WARNING pydicom: ", "ERROR a_library: "} <= {*re.findall(r"[A-Z]+ \w+: ", log)}
    assert QUOTATION in world.answers["jobs: output"]
    assert {answer[:3] for answer in world.answers.values()} >= {"200", "202", "409", "422"}


def test_the_bundle_and_the_traces_have_what_those_who_help_need(world: World) -> None:
    failures = world.answers["bundle failures.txt"]
    assert "failed" in failures
    assert "refusing" in failures  # a destination whose archive refused, without its words
    assert f"study_instance_uid={testing.uid('READ')}" in world.answers["bundle log.txt"]
    assert "route" in world.answers["bundle check.txt"]
    assert "Complete" in world.answers["trace READ"]


def test_words_of_a_patient_are_in_instances_and_documents_and_nowhere_else(world: World) -> None:
    findings = {place: forms for place, content in places(world) if (forms := traces(content))}
    assert not findings, "\n".join(f"{place}: {forms}" for place, forms in findings.items())


def test_the_words_of_an_archive_are_with_their_delivery_alone(world: World) -> None:
    columns = {
        place
        for place, content in rows(world.data / "catalog.sqlite")
        if traces(content, (QUOTATION,)) and not place.endswith("decoded")
    }
    assert columns == {"deliveries.archive_comment"}
    for place, content in places(world):
        if not place.startswith(
            ("jobs", "catalog.sqlite", str(world.data / "catalog.sqlite"), "GET /studies", "POST /studies")
        ):
            assert not traces(content, (QUOTATION,)), place


def test_whoever_asks_reads_descriptions_and_no_attribute_of_the_patient(world: World) -> None:
    explained = world.answers["explain: output"]
    assert f"{WORDS[0]}0008103E" in explained
    assert f"{WORDS[0]}0010" not in explained


def test_only_the_user_of_the_node_can_read_what_it_wrote(world: World) -> None:
    modes = {
        (stat.S_ISDIR(status.st_mode), stat.S_IMODE(status.st_mode))
        for path in (world.data, *world.data.rglob("*"))
        for status in (path.lstat(),)
    }
    assert modes == {(True, 0o700), (False, 0o600)}


@pytest.mark.parametrize("word", WORDS)
def test_a_planted_word_is_found_in_each_form(word: str) -> None:
    text = f"x{word.upper()}00100010"
    content = text.encode()
    assert not traces(text[:3].encode())
    for form in (
        *(content, text.encode("utf-16"), json.dumps(text).encode(), ascii(text).encode(), quote(text).encode()),
        *(
            content.hex().encode(),
            pickle.dumps({"input": [text]}),
            repr(content).encode() if word.isascii() else content,
        ),
        *(base64.b64encode(bytes(shift) + content) for shift in range(3)),
        *(base64.b64encode(pickle.dumps(text)), text.encode("koi8-r", "ignore") if word == CYRILLIC else content),
    ):
        assert traces(form), form


@pytest.mark.parametrize("place", ["copy/planted.txt", "copy/catalog.sqlite", "copy/catalog.sqlite-wal", "node.log"])
def test_a_planted_word_is_found_in_each_place(world: World, place: str) -> None:
    path = world.node.folder / place
    before = path.read_bytes() if path.exists() else b""
    with path.open("ab") as file:
        file.write(WORDS[0].encode())
    names = {name for name, content in places(world) if traces(content)}
    path.write_bytes(before)
    assert names == {"log" if place == "node.log" else str(path)}


def test_instances_and_documents_hold_the_words(world: World) -> None:
    for folder in ("spool/kept", "spool/damaged", "documents"):
        assert any(traces(path.read_bytes()) for path in (world.data / folder).rglob("*.dcm")), folder
