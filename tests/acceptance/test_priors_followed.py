"""The newest of three CTs of one patient comes in, and the node finds, fetches and follows the others by itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from support import Orthanc, installed, orthanc
from support.dated import dated, growth_percent
from support.judges import module_errors, set_errors, template_errors, tree_errors
from support.node import ROOT, RunningNode, configured, running
from support.pointing import pointing_report

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import DeliveryState, JobState

installed("openvino", "torch", "timm")

NOW, THEN, LONG_AGO = "20260101", "20250705", "20250101"
CURRENT, PRIORS = testing.uid("now"), [testing.uid("then"), testing.uid("long ago")]
OTHER = testing.uid("another patient")


@dataclass(frozen=True)
class Answer:
    """What came back into the archive, and the slices that were sent."""

    documents: tuple[Path, ...]
    slices: tuple[Path, ...]
    pointed: Dataset

    @property
    def report(self) -> Dataset:
        (found,) = [one for path in self.documents if (one := dcmread(path)).Modality == "SR"]
        return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An archive with the patient's two earlier CTs, and one of somebody of the same name and Patient ID."""
    folder = tmp_path_factory.mktemp("archive")
    with orthanc(folder, DicomAlwaysAllowGet=True) as server:
        earlier = [
            *dated(THEN, 10.0).write(folder / "then", "then"),
            *dated(LONG_AGO, 8.0).write(folder / "long ago", "long ago"),
            *dated("20250901", 20.0, patient=3, PatientBirthDate="19610101").write(folder / "o", "another patient"),
        ]
        sent = send(Link(server.peer, "CT1"), [Outgoing.of(path) for path in earlier])
        assert not [one.error for one in sent if one.error]
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc) -> Iterator[RunningNode]:
    """A node with the shipped route of the nodule model, and the archive as the source of its priors."""
    shipped = (ROOT / "config" / "routes.toml").read_text(encoding="utf-8").split("[[route]]")
    (route,) = [one for one in shipped if 'handler = "lung_nodule"' in one]
    rule = '[route.priors]\nfrom = "orthanc"\nmodality = ["CT"]\nbody_part = ["CHEST"]\n'
    routes = f"[[route]]\ndestinations = DESTINATIONS\n{route}\n{rule}"
    with running(configured(tmp_path_factory.mktemp("node"), peers=[archive.peer], routes=routes)) as started:
        yield started


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc, node: RunningNode) -> Answer:
    """Send the newest CT with a report that points at its nodule; wait for what the node sends to the archive."""
    folder = tmp_path_factory.mktemp("answer")
    newest = dated(NOW, 13.0)
    slices = newest.write(folder / "now", "now")
    pointed = pointing_report(slices[0], [newest.position_mm], folder / "pointing.dcm")
    sent = send(Link(node.peer, "CT1"), [Outgoing.of(path) for path in (*slices, pointed)])
    assert not [one.error for one in sent if one.error]
    job, deliveries = node.read(CURRENT)
    assert job.state is JobState.REPORTED, job.reason
    assert {one.state for one in deliveries} == {DeliveryState.CONFIRMED}
    held = archive.instances_of(CURRENT)
    documents = []
    for number, identifier in enumerate(held.values()):
        path = folder / f"{number}.dcm"
        path.write_bytes(archive.download(identifier))
        documents.append(path)
    return Answer(tuple(documents), slices, dcmread(pointed))


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


def test_the_lesion_keeps_the_tracking_uid_of_who_pointed(answer: Answer) -> None:
    asked = {item.UID for item in items(answer.pointed, "112040")}
    assert {item.UID for item in items(answer.report, "112040")} == asked


def test_no_judge_finds_an_error(answer: Answer) -> None:
    found = [error for path in answer.documents for error in module_errors(path)]
    reports = [path for path in answer.documents if dcmread(path, stop_before_pixels=True).Modality == "SR"]
    assert len(reports) == 1
    assert len(answer.documents) == 2
    found += [error for path in reports for error in (*tree_errors(path), *template_errors(path))]
    assert [*found, *set_errors(answer.documents, answer.slices)] == []
