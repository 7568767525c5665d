"""The kit holds a model to what every model must do: a careful one passes, and each mistake of others is seen."""

import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from highdicom.sc import SCImage
from onnx import helper, numpy_helper
from pydicom import Dataset, dcmread
from support import program
from support.described import BOXES, DescribedNode, write_model
from support.graphs import graph_file
from support.programs import environment_of, shell, write_program
from support.proved_models import BOASTFUL, CAREFUL, CARELESS, FILM_SEED, FORGETFUL
from typer.testing import CliRunner

from ainode.node.commands.model_app import model_app
from ainode.node.domain import UID, Document, DocumentKind, InstanceRef, OutOfScope, Reading
from ainode.node.proving.checks import Check, Outcome
from ainode.node.proving.kit import Kit, StudyReport, is_passed
from ainode.node.proving.prover import Prover
from ainode.node.proving.refusals import Refusals
from ainode.node.proving.repetition import Repetition
from ainode.node.proving.same_study import SameStudy
from ainode.node.proving.statements import statement_checks
from ainode.node.proving.studies import Case, patient_words, synthetic_case
from ainode.node.proving.validators import validator_checks
from ainode.node.reading.weights import ModelEnvironment, WeightStore
from ainode.node.settings import Settings
from ainode.node.testing import noise, write

HANDLER = "support.proved_models"
CT_SEED = 0


class Bench:
    """One model of `proved_models`, its study and its process."""

    def __init__(self, model: str, seed: int, folder: Path) -> None:
        self.folder = folder
        self.models = ModelEnvironment(WeightStore(folder / "site"), folder / model)
        self.settings = Settings()
        self.case: Case = synthetic_case(HANDLER, self.models, seed, folder)
        self.prover = Prover(HANDLER, self.settings, self.models)

    def outcomes(self, checks: Iterator[Check], *, last: str = "") -> dict[str, Check]:
        """Return each check by its name, those after `last` not made, and end the process."""
        outcomes: dict[str, Check] = {}
        try:
            for check in checks:
                outcomes[check.name] = check
                if check.name == last:
                    break
        finally:
            self.prover.end()
        return outcomes

    def same_study(self, *, last: str = "") -> dict[str, Check]:
        answer = self.prover.read(self.case.paths).answer
        assert answer is not None
        return self.outcomes(SameStudy(self.case, self.prover, answer, self.folder).checks(), last=last)


def failures(checks: dict[str, Check]) -> dict[str, str]:
    return {name: check.words for name, check in checks.items() if check.outcome is Outcome.FAILED}


def kit_report(seed: int, folder: Path) -> tuple[list[str], StudyReport]:
    bench = Bench(CAREFUL, seed, folder)
    lines: list[str] = []
    (report,) = reports = Kit(HANDLER, bench.settings, bench.models, lines.append).run(None, seed)
    assert is_passed(reports), lines
    return lines, report


def names_of(report: StudyReport, outcome: Outcome) -> list[str]:
    return [check.name for check in report.checks if check.outcome is outcome]


def test_a_careful_model_of_a_volume_passes_every_check_and_each_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # the validators take most of the time; acceptance tests have them
    lines, report = kit_report(CT_SEED, tmp_path)
    assert names_of(report, Outcome.NOT_APPLICABLE) == ["turned, grays the other way round (MONOCHROME1)"]
    assert lines[1:-1] == [check.line for check in report.checks]
    counts = f"{len(report.checks) - 4} passed, 1 not applicable, 3 not checked"
    assert lines[-1] == f"total: 1 study, 1 read, 0 refused; {counts}"


def test_a_careful_model_of_a_film_passes_where_no_validator_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lines, report = kit_report(FILM_SEED, tmp_path)
    assert names_of(report, Outcome.NOT_APPLICABLE) == [
        "permuted, Instance Numbers that say nothing",
        "split, a series sent in two parts",
        "turned",
        "refused, one slice of a stack",
        "refused, a CT without Hounsfield units",
    ]
    assert "validators, dciodvfy: not checked: install dicom3tools" in lines
    assert len(names_of(report, Outcome.NOT_CHECKED)) == 3


def test_a_refused_study_has_two_lines_and_a_total_ends_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    bench = Bench(CAREFUL, FILM_SEED, tmp_path)
    bench.prover.end()
    write([noise(64, 64, Modality="MG", BodyPartExamined="BREAST")], tmp_path / "films", study="refused")
    lines: list[str] = []
    (report,) = reports = Kit(HANDLER, bench.settings, bench.models, lines.append).run(tmp_path / "films", 0)
    passed = len(names_of(report, Outcome.PASSED))
    assert not is_passed(reports)
    assert passed > 5
    assert [line.partition(": ")[0].partition(" ")[0] for line in lines] == [
        *("study", "read", "further", "total", "studies"),
    ]
    assert lines[1].startswith("read: not applicable: ")
    assert lines[2].startswith(f"further checks of the refusal: {passed} passed, ")
    assert lines[3].startswith(f"total: 1 study, 0 read, 1 refused; {passed} passed, ")


def test_a_study_that_fails_is_told_so_once(tmp_path: Path) -> None:
    models = replace(environment_of(tmp_path), allows_unconfined=True)
    write_program(tmp_path / "models", shell("exit 3"))
    lines: list[str] = []
    (report,) = Kit("tool", Settings(), models, lines.append).run(None, 0)
    assert names_of(report, Outcome.FAILED) == ["read"]
    assert [line.partition(" ")[0] for line in lines] == ["study", "read:", "total:"]
    assert lines[1].startswith("read: FAILED: HandlerError: ")
    assert lines[2] == "total: 1 study, 0 read, 0 refused; 1 FAILED; FAILED: read"


def capture_of(film: Dataset, series_instance_uid: UID) -> Reading:
    """Return a reading with one capture of a film, in a series of its own."""
    capture = SCImage.from_ref_dataset(
        film,
        np.zeros((8, 8), np.uint8),
        "MONOCHROME2",
        8,
        "PATIENT",
        series_instance_uid=series_instance_uid,
        series_number=1,
        sop_instance_uid="2.25.8",
        instance_number=1,
        manufacturer="a test",
        patient_orientation=("L", "F"),
    )
    capture.Laterality = ""
    content = BytesIO()
    capture.save_as(content)
    ref = InstanceRef(UID(film.StudyInstanceUID), series_instance_uid, UID("2.25.8"), UID(capture.SOPClassUID))
    document = Document(DocumentKind.SECONDARY_CAPTURE, ref, content.getvalue())
    return Reading(OutOfScope("a test", "test"), (document,), "{}", 0.0)


def test_an_error_of_a_value_in_the_source_is_no_fault_of_the_model(tmp_path: Path) -> None:
    program("dciodvfy")
    (path,) = write([noise(64, 64, BodyPartExamined="CHEST")], tmp_path / "film", study="film")
    film = dcmread(path)
    film.StudyInstanceUID, film.SeriesInstanceUID = "999.1.2", "2.25.7"
    film.save_as(path)
    for series, outcome in (("2.25.9", Outcome.PASSED), ("999.3.4", Outcome.FAILED)):
        (tmp_path / series).mkdir()
        reading = capture_of(film, UID(series))
        checks = {check.name: check for check in validator_checks(reading, (path,), tmp_path / series)}
        check = checks["validators, dciodvfy"]
        assert check.outcome is outcome, check.words
        assert "999.1.2" not in check.words
    assert "999.3.4" in check.words


def test_a_model_whose_answer_does_not_fit_its_description_is_told_the_cause(tmp_path: Path) -> None:
    shapes = {"boxes": (1, 7, 4), "scores": (1, 2, 7), "labels": (7,)}
    constants = [numpy_helper.from_array(np.full(shape, 0.5, np.float32), f"{key}_0") for key, shape in shapes.items()]
    nodes = [helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0)]
    nodes += [helper.make_node("Add", [f"{key}_0", "mean"], [key]) for key in shapes]
    file = graph_file(tmp_path / "net.onnx", nodes, constants, list(shapes.items()))
    text = BOXES.replace('labels = "labels"\n', "first_label = 0\n").replace(
        "channels = 3", "channels = 3\nscale = 0.1"
    )
    write_model(tmp_path / "models", "turned", file, text)
    lines: list[str] = []
    Kit("turned", Settings(), DescribedNode(tmp_path, ()).environment, lines.append).run(None, 0)
    assert any(
        line.startswith("read: FAILED") and "the scores have the shape (1, 2, 7); (n, 2) or (1, n, 2) is read" in line
        for line in lines
    ), lines


def test_documents_that_are_not_valid_fail_by_the_program_that_judges_them(tmp_path: Path) -> None:
    for name in ("dciodvfy", "dcentvfy", "DicomSRValidator"):
        program(name)
    bench = Bench(CAREFUL, FILM_SEED, tmp_path)
    reading = bench.prover.read(bench.case.paths).reading
    assert reading is not None
    bench.prover.end()
    report = dcmread(BytesIO(reading.documents[-1].content))
    del report.ContentSequence
    report.PatientID, report.PatientSex, report.Manufacturer = "ANOTHER", "NONE", None
    content = BytesIO()
    report.save_as(content)
    broken = replace(reading, documents=(replace(reading.documents[-1], content=content.getvalue()),))
    (tmp_path / "documents").mkdir()
    checks = validator_checks(broken, bench.case.paths, tmp_path / "documents")
    assert len(failures({check.name: check for check in checks})) == 3


def test_a_careless_model_fails_each_check_of_a_volume_for_its_own_mistake(tmp_path: Path) -> None:
    words = failures(Bench(CARELESS, CT_SEED, tmp_path).same_study())
    assert "by the name of a file" in words["permuted, files shuffled and renamed"]
    assert words["permuted, Instance Numbers that say nothing"]
    assert "by the folders" in words["split, over several folders"].replace("by the name of a file", "by the folders")
    assert words["split, beside a foreign series"] == "score by the number of images was 4, and is 5"
    syntaxes = {name for name, text in words.items() if "by the transfer syntax" in text or "and 1 more" in text}
    assert {name for name in words if name.startswith(("compressed", "stored otherwise"))} <= syntaxes
    turned = {name for name in words if name.startswith("turned")}
    assert turned == {"turned, rows reversed", "turned, columns reversed", "turned, rows as columns"}


def test_a_careless_model_fails_where_the_grays_of_a_film_are_turned(tmp_path: Path) -> None:
    words = failures(Bench(CARELESS, FILM_SEED, tmp_path).same_study())
    assert "turned, grays the other way round (MONOCHROME1)" in words


def test_a_model_that_refuses_nothing_fails_each_refusal_but_that_of_the_node(tmp_path: Path) -> None:
    bench = Bench(CARELESS, CT_SEED, tmp_path)
    checks = bench.outcomes(Refusals(bench.case, bench.prover, tmp_path).checks())
    assert set(checks) - set(failures(checks)) == {"refused, two patients", "refused, another body part"}
    assert checks["refused, another body part"].outcome is Outcome.NOT_APPLICABLE
    assert all(words.startswith("it was read: brightness: present") for words in failures(checks).values())


def test_what_a_study_without_a_patient_identifier_cannot_tell_is_said(tmp_path: Path) -> None:
    bench = Bench(CARELESS, FILM_SEED, tmp_path)
    for path in bench.case.paths:
        image = dcmread(path)
        image.PatientID = ""
        image.save_as(path)
    name = "refused, two patients"
    case = Case(bench.case.study_instance_uid, bench.case.paths)
    check = bench.outcomes(Refusals(case, bench.prover, tmp_path).checks(), last=name)[name]
    assert (check.outcome, check.words) == (Outcome.NOT_APPLICABLE, "the study states no Patient ID")


def test_a_study_that_is_refused_anyway_may_be_refused_for_its_foreign_series(tmp_path: Path) -> None:
    bench = Bench(CAREFUL, FILM_SEED, tmp_path)
    for path in bench.case.paths:
        image = dcmread(path)
        image.BodyPartExamined = "FOOT"
        image.save_as(path)
    answer = bench.prover.read(bench.case.paths).answer
    assert isinstance(answer, OutOfScope)
    checks = SameStudy(bench.case, bench.prover, replace(answer, code="another-code"), tmp_path).checks()
    name = "split, beside a foreign series"
    assert bench.outcomes(checks, last=name)[name].outcome is Outcome.PASSED


def test_a_forgetful_model_fails_to_repeat_itself(tmp_path: Path) -> None:
    bench = Bench(FORGETFUL, CT_SEED, tmp_path)
    first = bench.prover.read(bench.case.paths)
    checks = bench.outcomes(Repetition(bench.case, bench.prover, first).checks())
    assert set(failures(checks)) == {"repeated, twice in one process", "repeated, in a fresh process"}
    name = "split, a series sent in two parts"
    parts = failures(Bench(FORGETFUL, CT_SEED, tmp_path / "again").same_study(last=name))
    assert "score count was 1" in parts[name]


def test_a_boastful_model_fails_by_its_codes_its_units_and_the_name_of_the_patient(tmp_path: Path) -> None:
    bench = Bench(BOASTFUL, CT_SEED, tmp_path)
    reading = bench.prover.read(bench.case.paths).reading
    assert reading is not None
    checks = bench.outcomes(statement_checks(reading, patient_words(bench.case.headers)))
    assert failures(checks) == {
        "codes, scheme and form": "(12345678, SCT, No concept): no identifier of SNOMED CT; and 1 more",
        "codes, thresholds and units": "brightness: (percent, SCT, percent): no identifier of SNOMED CT; and 1 more",
        "no patient attribute in a text": "a text of the answer has a word of PatientID",
    }


class Greedy(Prover):
    """A prover whose process took more than it may."""

    def peak_bytes(self) -> int:
        return self.settings.reader.memory_limit_bytes + 1


def test_a_process_that_took_more_memory_or_time_than_its_limit_fails(tmp_path: Path) -> None:
    bench = Bench(CAREFUL, CT_SEED, tmp_path)
    short = bench.settings.model_copy(
        update={"reader": bench.settings.reader.model_copy(update={"time_limit_s": 1e-6})}
    )
    first = bench.prover.read(bench.case.paths)
    greedy = Greedy(HANDLER, bench.settings, bench.models)
    memory = bench.outcomes(Repetition(bench.case, greedy, first).checks())
    assert set(failures(memory)) == {"memory of the reader"}
    greedy.end()
    time = bench.outcomes(Repetition(bench.case, Prover(HANDLER, short, bench.models), first).checks())
    assert "time of a reading" in failures(time)


def test_the_command_writes_what_it_saw_and_ends_with_1_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("AINODE_READER__NETWORKS", str(tmp_path / CARELESS))
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata = "{tmp_path / "data"}"\n')
    (tmp_path / "routes.toml").write_text("")
    bench = Bench(CAREFUL, FILM_SEED, tmp_path)
    arguments = ["test", HANDLER, "--data", str(bench.case.paths[0].parent), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(model_app, [*arguments, "--config", str(config)])
    values = json.loads((tmp_path / "out" / "model-test.json").read_text())
    assert (done.exit_code, values["passed"], values["handler"]) == (1, False, HANDLER)
    lines = [f"{item['check']}: {item['outcome']}" for item in values["studies"][0]["checks"]]
    assert all(line in done.output for line in lines)
    assert "refused, uniform images: FAILED" in lines
    assert "KITPATIENT" not in done.output + json.dumps(values)
