"""A real OHIF in a real browser shows where the model looked and what it outlined: label maps over their slices."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conformance.made import CONTEXT
from conformance.test_segmentations import LABELMAP, SIDE, looked, outlined, slices
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from support import installed, orthanc
from support.viewer import built, viewer

installed("playwright")

from support.browser import page  # noqa: E402
from support.screen import Box, Screen, is_colored  # noqa: E402

from ainode.node import reports  # noqa: E402

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.fixture(autouse=True)
def _can_be_shown() -> None:
    built()
    if not DICOMWEB.exists():
        pytest.skip(f"{DICOMWEB} is not installed")


def content_of(segmentation: Dataset) -> bytes:
    written = BytesIO()
    segmentation.save_as(written)
    return written.getvalue()


def shown(
    folder: Path, paths: Sequence[Path], segmentation: bytes, image: Dataset, box: Box
) -> tuple[NDArray[np.int16], list[int]]:
    """Return the viewport once a box of an image (left, top, right, bottom) is colored, and the box in the viewport."""
    series = int(dcmread(BytesIO(segmentation)).SeriesNumber)
    with orthanc(folder / "archive", Plugins=[str(DICOMWEB)]) as archive:
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


def test_lung_and_infection_are_drawn_at_their_pixels_in_two_colors(tmp_path: Path) -> None:
    segmentation, paths, maps = outlined(tmp_path / "study", LABELMAP)
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
