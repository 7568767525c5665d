"""The newest of three CTs of one patient comes in, and the node finds, fetches and follows the others by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from support import Orthanc, installed, orthanc
from support.dated import dated, growth_percent
from support.judges import module_errors, set_errors, template_errors, tree_errors
from support.node import RunningNode, configured, running, shipped_routes
from support.pointing import pointing_report

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import DeliveryState, JobState
from ainode.node.settings import Peer

installed("openvino", "torch", "timm")

NOW, THEN, LONG_AGO = "20260101", "20250705", "20250101"
CURRENT, PRIORS = testing.uid("now"), [testing.uid("then"), testing.uid("long ago")]
OTHER = testing.uid("another patient")
# Of a second patient only the oldest CT is pointed into.
LATER = "20260701"
SECOND = "8"
SECOND_CURRENT, SECOND_LATER = testing.uid("second now"), testing.uid("second later")
SECOND_PRIORS = [testing.uid("second then"), testing.uid("second long ago")]


@dataclass(frozen=True)
class Answer:
    """What came back into the archive, and the slices that were sent."""

    documents: tuple[Path, ...]
    slices: tuple[Path, ...]

    @property
    def report(self) -> Dataset:
        (found,) = [one for path in self.documents if (one := dcmread(path)).Modality == "SR"]
        return found

    @property
    def told(self) -> dict[str, str]:
        """Return the algorithm's parameters by name."""
        return dict(str(item.TextValue).split("=", 1) for item in items(self.report, "111002") if "=" in item.TextValue)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An archive with the patient's two earlier CTs, and one of somebody of the same name and Patient ID."""
    folder = tmp_path_factory.mktemp("archive")
    with orthanc(folder, DicomAlwaysAllowGet=True) as server:
        earlier = [
            *dated(THEN, 10.0).write(folder / "then", "then"),
            *dated(LONG_AGO, 8.0).write(folder / "long ago", "long ago"),
            *dated("20250901", 20.0, patient=3, PatientBirthDate="19610101").write(folder / "o", "another patient"),
            *dated(THEN, 10.0, PatientID=SECOND).write(folder / "second then", "second then"),
            *dated(LONG_AGO, 8.0, PatientID=SECOND).write(folder / "second long ago", "second long ago", point=True),
        ]
        sent_to(server.peer, earlier)
        yield server


def sent_to(peer: Peer, paths: Sequence[Path]) -> None:
    sent = send(Link(peer, "CT1"), [Outgoing.of(path) for path in paths])
    assert not [one.error for one in sent if one.error]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc) -> Iterator[RunningNode]:
    """A node with the shipped route of the nodule model, and the archive as the source of its priors."""
    rule = '[route.priors]\nfrom = "orthanc"\nmodality = ["CT"]\nbody_part = ["CHEST"]\n'
    routes = shipped_routes("lung_nodule") + f"\n{rule}"
    with running(configured(tmp_path_factory.mktemp("node"), peers=[archive.peer], routes=routes)) as started:
        yield started


def answered(archive: Orthanc, node: RunningNode, study: str, folder: Path, paths: Sequence[Path]) -> Answer:
    """Send a study to the node; wait for what the node sends to the archive."""
    before = set(archive.instances_of(study))
    sent_to(node.peer, paths)
    job, deliveries = node.read(study, within_s=300)
    assert job.state is JobState.REPORTED, job.reason
    assert {one.state for one in deliveries} == {DeliveryState.CONFIRMED}
    documents: list[Path] = []
    for uid, identifier in archive.instances_of(study).items():
        if uid not in before:
            documents.append(folder / f"document {len(documents)}.dcm")
            documents[-1].write_bytes(archive.download(identifier))
    return Answer(tuple(documents), tuple(paths))


@pytest.fixture(scope="module")
def pointed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The newest CT and, as its last file, a report that points at its nodule."""
    folder = tmp_path_factory.mktemp("now")
    newest = dated(NOW, 13.0)
    slices = newest.write(folder, "now")
    return (*slices, pointing_report(slices[0], [newest.position_mm], folder / "pointing.dcm"))


@pytest.fixture(scope="module")
def answer(archive: Orthanc, node: RunningNode, pointed: tuple[Path, ...]) -> Answer:
    """Send the newest CT with the report that points at its nodule."""
    return answered(archive, node, CURRENT, pointed[0].parent, pointed)


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc, node: RunningNode) -> Answer:
    """Send the second patient's newest CT, into which nobody points; the archive has it too."""
    folder = tmp_path_factory.mktemp("second now")
    slices = dated(NOW, 13.0, PatientID=SECOND).write(folder, "second now")
    sent_to(archive.peer, slices)
    return answered(archive, node, SECOND_CURRENT, folder, slices)


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc, node: RunningNode, carried: Answer) -> Answer:
    """Send a still newer CT of the second patient: of the two before it only our own report points into one."""
    assert carried.documents
    folder = tmp_path_factory.mktemp("second later")
    slices = dated(LATER, 15.0, PatientID=SECOND).write(folder, "second later")
    return answered(archive, node, SECOND_LATER, folder, slices)


def items(item: Dataset, code: str) -> Iterator[Dataset]:
    """Yield every content item of this concept."""
    for child in item.get("ContentSequence", ()):
        if any(one.CodeValue == code for one in child.get("ConceptNameCodeSequence", ())):
            yield child
        yield from items(child, code)


def numbers(report: Dataset, code: str) -> list[tuple[float, str, list[str]]]:
    """Return value, unit and source images of each measurement."""
    found = []
    for item in items(report, code):
        (value,) = item.MeasuredValueSequence
        below = [one for one in item.get("ContentSequence", ()) if one.ValueType == "IMAGE"]
        images = [one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in below]
        found.append((float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue, images))
    return found


def referenced(report: Dataset, keyword: str) -> dict[str, set[str]]:
    """Return the instances by study of an evidence sequence."""
    return {
        str(study.StudyInstanceUID): {
            str(one.ReferencedSOPInstanceUID)
            for series in study.ReferencedSeriesSequence
            for one in series.ReferencedSOPSequence
        }
        for study in report.get(keyword, ())
    }


def test_the_newest_ct_gives_one_report_with_a_weight_for_each_date(answer: Answer) -> None:
    weights = numbers(answer.report, "attention-weight")
    assert len(weights) == 3
    assert sum(value for value, _, _ in weights) == pytest.approx(1, abs=1e-3)


def test_the_growth_is_the_phantoms_and_names_the_images_of_both_dates(answer: Answer) -> None:
    report = answer.report
    grown, doubling = numbers(report, "volume-growth"), numbers(report, "doubling-time")
    assert [value for value, _, _ in grown] == [
        pytest.approx(growth_percent(10, 13), rel=0.1),
        pytest.approx(growth_percent(8, 13), rel=0.1),
    ]
    assert doubling[0][0] == pytest.approx(180 * np.log(2) / np.log((13 / 10) ** 3), rel=0.1)
    assert {unit for _, unit, _ in grown} == {"%"}
    assert {unit for _, unit, _ in doubling} == {"d"}
    slices = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in answer.slices}
    others = referenced(report, "PertinentOtherEvidenceSequence")
    for (_, _, images), prior in zip(grown, PRIORS, strict=True):
        assert images[0] in slices
        assert images[1] in others[prior]


def test_the_priors_are_in_pertinent_other_evidence_and_the_current_study_is_not(answer: Answer) -> None:
    assert set(referenced(answer.report, "PertinentOtherEvidenceSequence")) == set(PRIORS)
    assert set(referenced(answer.report, "CurrentRequestedProcedureEvidenceSequence")) == {CURRENT}


def test_somebody_of_the_same_name_and_another_birth_date_is_not_used_and_that_is_said(answer: Answer) -> None:
    report = answer.report
    told = {item.TextValue for item in items(report, "111002")}
    note = "note 1=Earlier studies: 1 under this Patient ID not used: another birth date."
    assert note in told
    assert "time points=3" in told
    assert OTHER not in str(report)
    assert "19610101" not in str(report)


def tracked(report: Dataset) -> set[str]:
    return {str(item.UID) for item in items(report, "112040")}


def test_the_lesion_keeps_the_tracking_uid_of_who_pointed(answer: Answer, pointed: tuple[Path, ...]) -> None:
    assert tracked(answer.report) == tracked(dcmread(pointed[-1]))


def test_a_nodule_that_only_the_oldest_study_points_at_is_read_in_the_newest_and_followed(
    archive: Orthanc, carried: Answer
) -> None:
    report = carried.report
    assert len(numbers(report, "attention-weight")) == 3
    assert [value for value, _, _ in numbers(report, "volume-growth")] == [
        pytest.approx(growth_percent(10, 13), rel=0.1),
        pytest.approx(growth_percent(8, 13), rel=0.1),
    ]
    assert carried.told["carried"].startswith("nodule 1 from SR in prior 2, 365 days before")
    others = referenced(report, "PertinentOtherEvidenceSequence")
    assert set(others) == set(SECOND_PRIORS)
    (mark,) = mark_of(archive, SECOND_PRIORS[1])
    assert tracked(report) == tracked(mark)
    assert mark.SOPInstanceUID in others[SECOND_PRIORS[1]]


def mark_of(archive: Orthanc, study: str) -> list[Dataset]:
    """Return the reports of a study in the archive."""
    held = (dcmread(BytesIO(archive.download(one))) for one in archive.instances_of(study).values())
    return [one for one in held if one.Modality == "SR"]


def test_our_own_report_of_the_study_before_points_for_the_next_one_and_is_named(
    carried: Answer, chained: Answer
) -> None:
    report = chained.report
    assert len(numbers(report, "attention-weight")) == 3
    assert numbers(report, "volume-growth")[0][0] == pytest.approx(growth_percent(13, 15), rel=0.1)
    assert chained.told["carried"].startswith("nodule 1 from own report in prior 1, 181 days before")
    assert tracked(report) == tracked(carried.report)
    others = referenced(report, "PertinentOtherEvidenceSequence")
    assert carried.report.SOPInstanceUID in others[SECOND_CURRENT]
    predecessors = referenced(report, "PredecessorDocumentsSequence")
    assert predecessors == {SECOND_CURRENT: {carried.report.SOPInstanceUID}}


@pytest.mark.parametrize("which", ["answer", "chained"])
def test_no_judge_finds_an_error(which: str, request: pytest.FixtureRequest) -> None:
    answer: Answer = request.getfixturevalue(which)
    found = [error for path in answer.documents for error in module_errors(path)]
    reports = [path for path in answer.documents if dcmread(path, stop_before_pixels=True).Modality == "SR"]
    assert len(reports) == 1
    assert len(answer.documents) == 2
    found += [error for path in reports for error in (*tree_errors(path), *template_errors(path))]
    assert [*found, *set_errors(answer.documents, answer.slices)] == []
