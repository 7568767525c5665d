"""The newest of three chest CTs comes in, nobody points at anything, and the node finds the nodule that grows."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import dist
from pathlib import Path

import highdicom.seg
import highdicom.sr
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from support import installed, orthanc, shared
from support.grown import SLAB, WHOLE, Grown, grown
from support.judges import instance_errors, module_errors, template_errors, tree_errors
from support.node import configured, running, shipped_routes

installed("openvino", "torch", "timm")

from ainode.models.nodule_outline.nodules import NODULES, read_nodules  # noqa: E402
from ainode.node import testing  # noqa: E402
from ainode.node.archive.dimse import Link  # noqa: E402
from ainode.node.archive.store import Outgoing, send  # noqa: E402
from ainode.node.domain import JobState  # noqa: E402
from ainode.node.settings import Peer  # noqa: E402

PATIENT, NUMBER = "LIDC-IDRI-0129", 2
"""a solid nodule of 13 mm, in slices of 1.25 mm"""
Group = highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
RULE = '\n[route.priors]\nfrom = "orthanc"\nmodality = ["CT"]\nbody_part = ["CHEST"]\n'


@dataclass(frozen=True)
class Found:
    """What came back, and where the nodule is."""

    truth: Grown
    report: Path
    segmentations: tuple[Path, ...]
    captures: tuple[Path, ...]

    @property
    def tree(self) -> highdicom.sr.MeasurementReport:
        tree = highdicom.sr.srread(self.report).content
        assert isinstance(tree, highdicom.sr.MeasurementReport)
        return tree

    @property
    def parameters(self) -> dict[str, str]:
        items = self.tree.get_image_measurement_groups()[0][0].ContentSequence
        texts = [str(item.TextValue) for item in items if item.ConceptNameCodeSequence[0].CodeValue == "111002"]
        return dict(text.split("=", 1) for text in texts if "=" in text)


def sent_to(peer: Peer, *paths: Path) -> None:
    assert not [one.error for one in send(Link(peer, "CT1"), [Outgoing.of(path) for path in paths]) if one.error]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """Send the newest CT to a node whose route searches; its archive has the earlier CTs."""
    data = shared(f"data/labelled/{NODULES}").parent
    nodule = next(one for one in read_nodules(data, "train") if (one.patient, one.number) == (PATIENT, NUMBER))
    folder = tmp_path_factory.mktemp("found")
    dates = {"20260101": (1.0, "now", WHOLE), "20250705": (0.5, "then", SLAB), "20250101": (0.25, "long ago", SLAB)}
    now, *priors = (
        grown(nodule, share, folder, date=date, name=name, size=size) for date, (share, name, size) in dates.items()
    )
    routes = shipped_routes("lung_nodule").replace("min_instances", "detect = true\nmost_candidates = 2\nmin_instances")
    with orthanc(folder / "archive", DicomAlwaysAllowGet=True) as archive:
        sent_to(archive.peer, *(path for prior in priors for path in prior.paths))
        peer = archive.peer.model_copy(update={"segmentation": "fractional"})
        with running(configured(folder / "node", peers=[peer], routes=routes + RULE)) as node:
            sent_to(node.peer, *now.paths)
            job, _ = node.read(testing.uid("now"), within_s=400)
            assert job.state is JobState.REPORTED, job.reason
        by_modality: dict[str, list[Path]] = {"SR": [], "SEG": [], "OT": []}
        for number, identifier in enumerate(archive.instances_of(testing.uid("now")).values()):
            path = folder / f"document {number}.dcm"
            path.write_bytes(archive.download(identifier))
            by_modality[dcmread(path, stop_before_pixels=True).Modality].append(path)
        (report,) = by_modality["SR"]
        yield Found(now, report, tuple(by_modality["SEG"]), tuple(by_modality["OT"]))


def grown_group(found: Found) -> Group:
    """Return the outlined group of the nodule at the place of the truth."""
    groups = found.tree.get_volumetric_roi_measurement_groups()
    (group,) = [group for group in groups if dist(center_of(group), found.truth.position_mm) < 3]
    return group


def center_of(group: Group) -> tuple[float, float, float]:
    points = np.concatenate([item.value for item in group.roi if item.ValueType == "SCOORD3D"])
    x, y, z = ((points.min(axis=0) + points.max(axis=0)) / 2).tolist()
    return x, y, z


def test_the_nodule_is_found_and_its_growth_is_within_a_quarter_though_nobody_pointed(found: Found) -> None:
    uid = grown_group(found).tracking_uid
    (group,) = [group for group in found.tree.get_image_measurement_groups() if group.tracking_uid == uid]
    growth = [item.value for item in group.get_measurements() if item.name.value == "volume-growth"]
    assert growth == [pytest.approx(100, rel=0.25), pytest.approx(300, rel=0.25)]


def test_every_document_says_that_a_search_marked_it_and_none_says_that_something_is_absent(found: Found) -> None:
    tree = found.tree
    groups = [*tree.get_image_measurement_groups(), *tree.get_planar_roi_measurement_groups()]
    groups += tree.get_volumetric_roi_measurement_groups()
    assert len({group.tracking_uid for group in groups}) == 2
    for group in groups:
        assert group.tracking_identifier.startswith("candidate ")
        evaluations = {item.name.value: item.value.value for item in group.get_qualitative_evaluations()}
        assert evaluations["marked-by"] == "node-search"
        assert evaluations["27925004"] == "82334004"  # a nodule: indeterminate
        assert evaluations["21594007"] in {"52101004", "82334004"}  # malignant: present or indeterminate
    assert found.parameters["position from"] == "registration, search"
    assert found.parameters["search"].startswith("2 marked above ")
    assert found.parameters["search"].endswith("what is not marked was not ruled out")
    assert found.parameters["weights status"] == "demonstration"
    segments = [segment for path in outlines(found) for segment in path.SegmentSequence]
    assert all(segment.TrackingID.startswith("candidate ") for segment in segments)


def outlines(found: Found) -> list[Dataset]:
    objects = [dcmread(path) for path in found.segmentations]
    return [segmentation for segmentation in objects if segmentation.ContentLabel == "LUNG_NODULES"]


def test_report_and_segmentation_outline_one_lesion_at_the_place_of_the_truth(found: Found) -> None:
    (dataset,) = outlines(found)
    segmentation = highdicom.seg.Segmentation.from_dataset(dataset)
    group = grown_group(found)
    (number,) = segmentation.get_segment_numbers(tracking_uid=group.tracking_uid)
    description = segmentation.get_segment_description(number)
    assert description.tracking_id == group.tracking_identifier
    volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True)
    middle = volume.map_indices_to_reference(np.argwhere(volume.array > 0)).mean(axis=0)
    assert dist(middle, found.truth.position_mm) < 2
    assert dist(middle, center_of(group)) < 2


def test_captures_come_back_and_no_judge_finds_an_error(found: Found) -> None:
    assert found.captures
    documents = [found.report, *found.segmentations, found.captures[0]]
    errors = [error for path in documents for error in module_errors(path)]
    (segmentation,) = [path for path in found.segmentations if dcmread(path).ContentLabel == "LUNG_NODULES"]
    # As of every segmentation, PixelMed misses a Laterality that only a paired part needs.
    errors += [error for error in instance_errors(segmentation) if "GeneralSeriesModule/Laterality" not in error]
    assert [*errors, *tree_errors(found.report), *template_errors(found.report)] == []
