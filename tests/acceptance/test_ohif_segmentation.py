"""A real OHIF in a real browser shows where the model looked and what it outlined: label maps over their slices."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conformance.made import CONTEXT
from conformance.test_segmentations import FRACTIONAL, LABELMAP, SIDE, looked, outlined, slices
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from support import Orthanc, installed, shared
from support.node import configured, running, shipped_routes
from support.viewer import viewable_archive, viewer

installed("playwright")

from support.browser import page  # noqa: E402
from support.screen import Box, Screen, is_colored  # noqa: E402

from ainode.node import reports  # noqa: E402
from ainode.node.archive.dimse import Link  # noqa: E402
from ainode.node.archive.store import Outgoing, send  # noqa: E402
from ainode.node.domain import DocumentKind, JobState  # noqa: E402


def content_of(segmentation: Dataset) -> bytes:
    written = BytesIO()
    segmentation.save_as(written)
    return written.getvalue()


def shown(
    folder: Path, paths: Sequence[Path], segmentation: bytes, image: Dataset, box: Box
) -> tuple[NDArray[np.int16], list[int]]:
    """Return the viewport once a box of an image (left, top, right, bottom) is colored, and the box in the viewport."""
    series = int(dcmread(BytesIO(segmentation)).SeriesNumber)
    with viewable_archive(folder / "archive") as archive:
        for content in (*(path.read_bytes() for path in paths), segmentation):
            archive.call("POST", "/instances", content)
        with viewer(archive.http_port) as address, page() as tab:
            screen = Screen(tab, folder)
            screen.open(address, image)
            screen.show(series, lambda: screen.says("Do you want to open this Segmentation?") == 1)
            screen.until(lambda: screen.slice()[0] == image.InstanceNumber)
            left, top, right, bottom = (round(side) for side in screen.placed(box, image))
            screen.until(lambda: is_colored(screen.seen("label-map"))[top:bottom, left:right].mean() > 0.9)
            return screen.seen("label-map"), [left, top, right, bottom]


def colored_around(seen: NDArray[np.int16], box: Sequence[int]) -> float:
    """Return the colored share of what lies around a box of the viewport."""
    left, top, right, bottom = box
    colored = is_colored(seen)
    colored[top - 4 : bottom + 4, left - 4 : right + 4] = False
    return float(colored[top - 40 : bottom + 40, left - 40 : right + 40].mean())


def test_a_label_map_is_drawn_at_its_pixels_on_its_slice(tmp_path: Path) -> None:
    box = left, top, right, bottom = (12, 24, 36, 40)
    paths = slices(tmp_path / "study", 5)
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[top:bottom, left:right] = 200
    documents = reports.documents(*looked({paths[3]: values}), replace(CONTEXT, optional=(LABELMAP,)))
    content = next(document.content for document in documents if document.kind is LABELMAP)
    image = dcmread(paths[3])
    seen, place = shown(tmp_path, paths, content, image, box)
    assert str(image.SeriesInstanceUID) == dcmread(BytesIO(content)).ReferencedSeriesSequence[0].SeriesInstanceUID
    assert colored_around(seen, place) < 0.01


@pytest.mark.parametrize("kind", [LABELMAP, FRACTIONAL])
def test_lung_and_infection_are_drawn_at_their_pixels_in_two_colors(kind: DocumentKind, tmp_path: Path) -> None:
    segmentation, paths, maps = outlined(tmp_path / "study", kind)
    rows, columns = np.nonzero(maps[0])
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    seen, place = shown(tmp_path, paths, content_of(segmentation), dcmread(paths[0]), box)
    assert colored_around(seen, place) < 0.01
    left, top, right, _ = place
    scale = (right - left) / (box[2] - box[0])

    def color(row: float, column: float) -> NDArray[np.int16]:
        down, along = top + round((row - box[1]) * scale), left + round((column - box[0]) * scale)
        return np.asarray(np.median(seen[down - 2 : down + 3, along - 2 : along + 3], axis=(0, 1)), np.int16)

    infection, lung = color(13, 34), color(17, 42)
    assert np.abs(infection - lung).max() > 40


def outlines_candidates(segmentation: Dataset) -> bool:
    """Return whether a label map outlines candidates, and does not show where a model looked."""
    return any("candidate" in str(segment.SegmentLabel) for segment in segmentation.SegmentSequence)


def masks_by_image(segmentation: Dataset) -> dict[str, NDArray[np.bool_]]:
    """Return what is outlined on each image that has something outlined, by SOP Instance UID."""
    groups = segmentation.PerFrameFunctionalGroupsSequence
    uids = [str(group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID) for group in groups]
    frames = segmentation.pixel_array.reshape(len(uids), segmentation.Rows, segmentation.Columns) > 0
    return {uid: frame for uid, frame in zip(uids, frames, strict=True) if frame.any()}


def documents_of(archive: Orthanc, paths: Sequence[Path], folder: Path) -> list[Dataset]:
    """Return what a node that searches the CT for nodules sent into the archive."""
    study = str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)
    peer = archive.peer.model_copy(update={"segmentation": "labelmap"})
    routes = shipped_routes("lung_nodule").replace("min_instances", "detect = true\nmin_instances")
    with running(configured(folder, peers=[peer], routes=routes)) as node:
        send(Link(node.peer, "CT1"), [Outgoing.of(path) for path in paths])
        job, _ = node.read(study, within_s=600)
    assert job.state is JobState.REPORTED, job.reason
    return [dcmread(BytesIO(archive.download(identifier))) for identifier in archive.instances_of(study).values()]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_nodule_that_was_found_in_a_real_scan_is_drawn_where_it_was_outlined(tmp_path: Path) -> None:
    installed("openvino", "torch", "timm")
    paths = sorted(shared("data/dicom/ct_chest_thin_R01-001").rglob("*.dcm"))
    images = {int(image.InstanceNumber): image for image in (dcmread(path, stop_before_pixels=True) for path in paths)}
    # An Orthanc without the option does not know label maps.
    with viewable_archive(tmp_path / "archive", UnknownSopClassAccepted=True) as archive:
        made = documents_of(archive, paths, tmp_path / "node")
        send(Link(archive.peer, "CT1"), [Outgoing.of(path) for path in paths])
        (segmentation,) = [item for item in made if item.Modality == "SEG" and outlines_candidates(item)]
        (captures,) = {int(item.SeriesNumber) for item in made if item.Modality == "OT"}
        masks = masks_by_image(segmentation)
        with viewer(archive.http_port) as address, page() as tab:
            screen = Screen(tab, tmp_path)
            screen.open(address, next(iter(images.values())))
            screen.show(segmentation.SeriesNumber, lambda: screen.says("Do you want to open this Segmentation?") == 1)
            screen.until(lambda: images[screen.slice()[0]].SOPInstanceUID in masks)
            image = images[screen.slice()[0]]
            rows, columns = np.nonzero(masks[str(image.SOPInstanceUID)])
            box = (float(columns.min()), float(rows.min()), float(columns.max()) + 1, float(rows.max()) + 1)
            left, top, right, bottom = (round(side) for side in screen.placed(box, image))
            screen.until(lambda: is_colored(screen.seen("real-outline"))[top:bottom, left:right].mean() > 0.4)
            assert colored_around(screen.seen("real-outline"), (left, top, right, bottom)) < 0.01
            screen.show(captures, lambda: is_colored(screen.seen("real-capture")).mean() > 1e-3)
