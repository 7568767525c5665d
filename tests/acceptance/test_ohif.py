"""A real OHIF in a real browser opens the study from Orthanc: what a radiologist sees of a capture and of a report."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from support import Orthanc, installed, orthanc
from support.handler import BOX
from support.node import SPINE, configured, running
from support.viewer import built, viewer

installed("playwright")

from playwright.sync_api import Page  # noqa: E402
from support.browser import page  # noqa: E402

from ainode.node import testing  # noqa: E402
from ainode.node.archive.dimse import Link  # noqa: E402
from ainode.node.archive.store import Outgoing, send  # noqa: E402

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
SIDE = 512
BOX_COLOR = (80, 220, 255)
"""of the boxes in a capture (`reports/drawing.py`); no gray of the image is near it"""
CANVAS = ".cornerstone-canvas"
# Software rendering on a shared machine.
_PATIENCE_MS = 120_000


@dataclass(frozen=True, slots=True)
class Reported:
    """A study with its capture and its report in an archive, and a viewer before it."""

    archive: Orthanc
    study: str
    address: str

    def open(self, tab: Page, modality: str) -> tuple[int, int]:
        """Open the study at its series of that modality; return rows and columns of its image."""
        files = (self.archive.download(one) for one in self.archive.instances_of(self.study).values())
        headers = (dcmread(BytesIO(one), stop_before_pixels=True) for one in files)
        image = next(one for one in headers if one.Modality == modality)
        tab.goto(
            f"{self.address}/viewer?StudyInstanceUIDs={self.study}&initialSeriesInstanceUID={image.SeriesInstanceUID}"
        )
        tab.locator(CANVAS).first.wait_for(timeout=_PATIENCE_MS)
        return int(image.Rows), int(image.Columns)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reported]:
    built()
    if not DICOMWEB.exists():
        pytest.skip(f"{DICOMWEB} is not installed")
    folder = tmp_path_factory.mktemp("ohif")
    flat = testing.noise(SIDE, SIDE, seed=1, SeriesDescription="read", BodyPartExamined="TSPINE")
    paths = testing.write([flat], folder / "files", study="ohif")
    with orthanc(folder / "archive", Plugins=[str(DICOMWEB)]) as archive:
        archive.call("POST", "/instances", paths[0].read_bytes())
        routes = SPINE.replace("support.handler", "support.pictured")
        with running(configured(folder / "node", peers=[archive.peer], routes=routes)) as node:
            send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
            node.read(testing.uid("ohif"))
        with viewer(archive.http_port) as address:
            yield Reported(archive, testing.uid("ohif"), address)


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with page() as opened:
        # the tour for newcomers lies over everything
        opened.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
        yield opened


def screenshot(tab: Page, name: str, tmp_path: Path) -> NDArray[np.int16]:
    """Return the first viewport as it is on the screen; the whole screen is kept where AINODE_SCREENSHOTS says."""
    folder = Path(os.environ.get("AINODE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=folder / f"ohif-{name}.png")
    left, top, width, height = canvas(tab)
    screen = np.asarray(Image.open(folder / f"ohif-{name}.png").convert("RGB")).astype(np.int16)
    return screen[round(top) : round(top + height), round(left) : round(left + width)]


def canvas(tab: Page) -> tuple[float, float, float, float]:
    """Return left, top, width and height of the first viewport on the screen."""
    box = tab.locator(CANVAS).first.bounding_box()
    assert box
    return box["x"], box["y"], box["width"], box["height"]


def near(pixels: NDArray[np.int16], color: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return which pixels have about that color."""
    close: NDArray[np.bool_] = np.abs(pixels - np.array(color)).max(axis=-1) <= 30
    return close


def is_colored(pixels: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Return which pixels are clearly no gray."""
    colored: NDArray[np.bool_] = np.ptp(pixels, axis=-1) > 40
    return colored


def until(true: Callable[[], bool], tab: Page) -> None:
    """Wait for the viewer to draw."""
    deadline = time.monotonic() + _PATIENCE_MS / 1000
    while not true():
        assert time.monotonic() < deadline
        tab.wait_for_timeout(500)


def fitted(tab: Page, rows: int, columns: int) -> tuple[float, float, float]:
    """Return the scale at which an image fills the viewport, and where its left top corner is in it."""
    _, _, width, height = canvas(tab)
    scale = min(width / columns, height / rows)
    return scale, (width - columns * scale) / 2, (height - rows * scale) / 2


def test_the_capture_is_shown_in_its_colors(reported: Reported, tab: Page, tmp_path: Path) -> None:
    """Both boxes are blue, the left half is hot, the right half is gray."""
    rows, columns = reported.open(tab, "OT")
    scale, margin, above = fitted(tab, rows, columns)

    def part(left: float, top: float, right: float, bottom: float) -> NDArray[np.int16]:
        x = slice(round(margin + left * scale), round(margin + right * scale))
        y = slice(round(above + top * scale), round(above + bottom * scale))
        return seen[y, x]

    until(lambda: bool(near(screenshot(tab, "capture", tmp_path), BOX_COLOR).mean() > 0.001), tab)
    seen = screenshot(tab, "capture", tmp_path)
    assert is_colored(part(20, 300, 240, 500)).mean() > 0.5
    assert is_colored(part(280, 300, 500, 500)).mean() < 0.01
    left, top, right, bottom = BOX
    for edge in (left, right, left + 150, right + 150):
        blue = near(part(edge - 3, top + 10, edge + 3, bottom - 10), BOX_COLOR)
        assert blue.any(axis=1).mean() > 0.7  # OHIF's player lies over a part of one


def test_both_boxes_of_the_report_are_drawn_at_their_pixels(reported: Reported, tab: Page, tmp_path: Path) -> None:
    rows, columns = reported.open(tab, "DX")
    tab.get_by_text("S:9001").first.dblclick(timeout=_PATIENCE_MS)
    until(lambda: len(polylines(tab)) >= 2, tab)
    screenshot(tab, "report", tmp_path)
    scale, margin, above = fitted(tab, rows, columns)
    drawn = {tuple(round(value) for value in one) for one in polylines(tab)}
    left, top, right, bottom = BOX
    for shift in (0, 150):
        sides = np.array((left + shift, top, right + shift, bottom)) * scale
        corners = np.add(sides, (margin, above, margin, above))
        assert any(np.allclose(corners, one, atol=2) for one in drawn), (corners, drawn)
    assert tab.get_by_text("Probability: 81.00 %").count() >= 2


def polylines(tab: Page) -> list[tuple[float, float, float, float]]:
    """Return left, top, right and bottom of each line that is drawn over the image."""
    found = tab.locator("svg.svg-layer polyline").evaluate_all("all => all.map(one => one.getAttribute('points'))")
    points = [np.array([pair.split(",") for pair in one.split(" ") if "," in pair], float) for one in squeezed(found)]
    return [(*one.min(axis=0), *one.max(axis=0)) for one in points if len(one)]


def squeezed(found: list[str]) -> list[str]:
    return [one.replace(", ", ",") for one in found]
