"""What a person sees of OHIF in a browser: the pixels of its first viewport, the lines over them, and its texts."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page
from pydicom import Dataset

from support.browser import PATIENCE_MS

Box = tuple[float, float, float, float]
"""left, top, right, bottom"""
Color = tuple[int, int, int]
_CANVAS = ".cornerstone-canvas"
_SLICE = "[data-cy='viewport-overlay-bottom-right']"
_TRIES = 4
_NOTCH = 100
"""of a mouse wheel, in pixels"""


@dataclass(frozen=True, slots=True)
class Screen:
    """A browser's page with OHIF on it; screenshots are kept where AINODE_SCREENSHOTS says, else in `folder`."""

    tab: Page
    folder: Path

    def open(self, address: str, image: Dataset) -> None:
        """Open the study of an image at its series, by the viewer's address."""
        # the tour for newcomers lies over everything
        self.tab.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
        where = f"StudyInstanceUIDs={image.StudyInstanceUID}&initialSeriesInstanceUID={image.SeriesInstanceUID}"
        self.tab.goto(f"{address}/viewer?{where}")
        self.tab.locator(_CANVAS).first.wait_for(timeout=PATIENCE_MS)

    def show(self, series_number: int, shown: Callable[[], bool]) -> None:
        """Double-click a series in the list until it is shown, as a person does; load the page anew between two tries.

        The list moves under the two clicks as long as it fills.
        """
        for _ in range(_TRIES):
            self.tab.get_by_text(f"S:{series_number}", exact=True).first.dblclick(timeout=PATIENCE_MS)
            if self._within(shown, PATIENCE_MS / 3):
                return
            self.tab.reload()
            self.tab.locator(_CANVAS).first.wait_for(timeout=PATIENCE_MS)
        pytest.fail(f"{self.keep('not-drawn')} is what is there")

    def press(self, name: str) -> None:
        """Press the button that OHIF's own tests know by that name."""
        self.tab.locator(f"[data-cy='{name}']").click(timeout=PATIENCE_MS)

    def scroll(self, slices: int) -> None:
        """Turn the wheel over the image: down the stack, or up where `slices` is negative; wait until it is there."""
        left, top, right, bottom = self._canvas()
        there = self.slice()[1] + slices
        self.tab.mouse.move((left + right) / 2, (top + bottom) / 2)
        for _ in range(abs(slices)):
            self.tab.mouse.wheel(0, _NOTCH if slices > 0 else -_NOTCH)
            # Notches at once count as one.
            self.tab.wait_for_timeout(300)
        self.until(lambda: self.slice()[1] == there)

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for the viewer to draw."""
        assert self._within(true, PATIENCE_MS), f"{self.keep('not-drawn')} is what is there"

    def _within(self, true: Callable[[], bool], patience_ms: float) -> bool:
        deadline = time.monotonic() + patience_ms / 1000
        while not true():
            if time.monotonic() > deadline:
                return False
            self.tab.wait_for_timeout(500)
        return True

    def says(self, text: str) -> int:
        """Return how often a text is on the page."""
        return self.tab.get_by_text(text).count()

    def slice(self) -> tuple[int, int]:
        """Return the Instance Number of the image that is shown, and which of the stack it is: "I:31 (34/64)"."""
        said = re.search(r"I:\s*(\d+)\s*\((\d+)/\d+\)", self.tab.locator(_SLICE).first.inner_text())
        return (int(said[1]), int(said[2])) if said else (0, 0)

    def keep(self, name: str) -> Path:
        """Keep a picture of the whole screen under that name."""
        folder = Path(os.environ.get("AINODE_SCREENSHOTS", self.folder))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"ohif-{name}.png"
        self.tab.screenshot(path=path)
        return path

    def seen(self, name: str) -> NDArray[np.int16]:
        """Keep a picture of the whole screen, and return the pixels of the first viewport."""
        left, top, right, bottom = (round(side) for side in self._canvas())
        screen = np.asarray(Image.open(self.keep(name)).convert("RGB")).astype(np.int16)
        return screen[top:bottom, left:right]

    def lines(self) -> list[Box]:
        """Return what each line of several points encloses that is drawn over the image, in pixels of the viewport."""
        drawn = self.tab.locator("svg.svg-layer polyline")
        return _enclosed(drawn.evaluate_all("all => all.map(one => one.getAttribute('points'))"))

    def straight_lines(self) -> list[Box]:
        """Return what each line of two points encloses, in pixels of the viewport; those to texts are among them."""
        drawn = self.tab.locator("svg.svg-layer line")
        ends = "['x1', 'y1', 'x2', 'y2'].map(name => one.getAttribute(name)).join(' ')"
        return _enclosed(drawn.evaluate_all(f"all => all.map(one => {ends})"))

    def placed(self, box: Box, image: Dataset) -> Box:
        """Return where a box of an image, in its pixels, is in the viewport that the image fills."""
        left, top, right, bottom = self._canvas()
        width, height, columns, rows = right - left, bottom - top, int(image.Columns), int(image.Rows)
        scale = min(width / columns, height / rows)
        x, y = (width - columns * scale) / 2, (height - rows * scale) / 2
        return x + box[0] * scale, y + box[1] * scale, x + box[2] * scale, y + box[3] * scale

    def _canvas(self) -> Box:
        """Return where the first viewport is on the screen."""
        box = self.tab.locator(_CANVAS).first.bounding_box()
        assert box
        return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]


def _enclosed(texts: list[str]) -> list[Box]:
    """Return the box around the points in each text; none of a text without points."""
    numbers = [re.findall(r"-?[\d.]+", text) for text in texts]
    points = [np.array(found, float).reshape(-1, 2) for found in numbers if found and len(found) % 2 == 0]
    return [(*one.min(axis=0), *one.max(axis=0)) for one in points]


def near(pixels: NDArray[np.int16], color: Color) -> NDArray[np.bool_]:
    """Return which pixels have about that color."""
    close: NDArray[np.bool_] = np.abs(pixels - np.array(color)).max(axis=-1) <= 30
    return close


def is_colored(pixels: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Return which pixels are clearly no gray."""
    colored: NDArray[np.bool_] = np.ptp(pixels, axis=-1) > 40
    return colored


def outlined(drawn: NDArray[np.bool_], box: Box) -> tuple[float, ...]:
    """Return how much of each side of a box is drawn, within 2 pixels: left, right, top, bottom."""
    left, top, right, bottom = (round(side) for side in box)
    upright = [drawn[top:bottom, x - 2 : x + 3].any(axis=1) for x in (left, right)]
    level = [drawn[y - 2 : y + 3, left:right].any(axis=0) for y in (top, bottom)]
    return tuple(float(side.mean()) for side in (*upright, *level))
