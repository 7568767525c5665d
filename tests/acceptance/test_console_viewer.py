"""The slice viewer in a real browser: the pixel under a drawn box is the pixel of the region in the report."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.made import CONTEXT, a_finding, a_result, sources_of
from integration.console.conftest import visit_of
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from support import axe, installed, instance_ref, program

installed("playwright", "fastapi", "jinja2")

from fastapi import APIRouter, Request  # noqa: E402
from fastapi.responses import HTMLResponse  # noqa: E402
from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402
from support.browser import ARGUMENTS, PATIENCE_MS  # noqa: E402
from support.web_bench import Bench  # noqa: E402

from ainode.node import reports, testing  # noqa: E402
from ainode.node.console.pages import POLICY  # noqa: E402
from ainode.node.console.study.viewer import Source, add_viewer  # noqa: E402
from ainode.node.domain import Region, SyntheticImage  # noqa: E402
from ainode.node.keeping.saliency import saliency_file  # noqa: E402

ROWS, COLUMNS = 40, 60
ROW, COLUMN = 13, 22
"""of the middle of the cross, whose outer corner is a corner of the box; two arms end with the box"""
ARM = 3
RIGHT, BOTTOM = 34, 25
PLACE = 45, 30
"""column and row of the pixel that a report points at in mm"""
SLICES = 5
MIDDLE = 2
VIEWER = "document.querySelector('figure')?.viewer"
ORIGIN = np.array([-20.0, 30.0, 100.0])
SCREENS = {"desktop": (1400, 900, 1), "phone": (390, 844, 3)}
GEOMETRIES: dict[str, tuple[tuple[float, ...], tuple[float, float]]] = {
    "axial": ((1, 0, 0, 0, 1, 0), (1.0, 1.0)),
    "non-square": ((1, 0, 0, 0, 1, 0), (2.0, 0.8)),
    "rotated": ((0, 1, 0, -1, 0, 0), (0.7, 0.7)),
    "mirrored": ((-1, 0, 0, 0, 1, 0), (0.5, 1.0)),
    "oblique": ((0.8, 0.6, 0, 0, 0, -1), (0.9, 0.9)),
}
PAGE = """<!doctype html><html lang="en"><head><title>t</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="{{ static('style.css') }}"><link rel="icon" href="{{ static('icon.svg') }}"></head>
<body><main><h1>Viewer</h1>{% from "_viewer.html" import viewer %}
{{ viewer("/console/show/" ~ name ~ "/series.json", point="place") }}
{% for axis in "xyzijk" %}<label>{{ axis }} <input id="place-{{ axis }}"></label>{% endfor %}</main></body></html>"""


@dataclass
class Shown:
    """A series in a folder, with a report of it."""

    images: Mapping[str, Path]
    written_reports: Sequence[Path] = ()
    maps: Sequence[Path] = field(default=())

    def files(self) -> Sequence[Path]:
        return list(self.images.values())

    def file(self, sop_instance_uid: str) -> Path | None:
        return self.images.get(sop_instance_uid)

    def reports(self) -> Sequence[Path]:
        return self.written_reports

    def saliency(self) -> Sequence[Path]:
        return self.maps


def cross() -> NDArray[np.uint16]:
    pixels = np.zeros((ROWS, COLUMNS), "<u2")
    pixels[ROW, COLUMN - ARM : RIGHT] = pixels[ROW - ARM : BOTTOM, COLUMN] = 1000
    return pixels


def position_of(
    orientation: tuple[float, ...], spacing: tuple[float, float], column: float, row: float
) -> NDArray[np.float64]:
    """Return the position of the center of a pixel of the middle slice (PS3.3 C.7.6.2.1.1)."""
    across, down = np.array(orientation[:3], float), np.array(orientation[3:], float)
    middle = ORIGIN + 5.0 * MIDDLE * np.cross(across, down)
    return np.asarray(middle + column * spacing[1] * across + row * spacing[0] * down)


def written_series(folder: Path, orientation: tuple[float, ...], spacing: tuple[float, float]) -> Shown:
    """Write slices of which the middle one has a cross, and the report of a box at the middle of the cross."""
    normal = np.cross(orientation[:3], orientation[3:])
    header = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "Modality": "CT",
        "ImageOrientationPatient": tuple(map(float, orientation)),
        "PixelSpacing": spacing,
        "FrameOfReferenceUID": testing.uid(folder.name),
        "WindowCenter": 500.0,
        "WindowWidth": 1000.0,
        "RescaleIntercept": 0.0,
        "RescaleSlope": 1.0,
        "BodyPartExamined": "TSPINE",
        "KVP": 120.0,
    }
    images = []
    for number in range(SLICES):
        pixels = cross() if number == MIDDLE else np.zeros((ROWS, COLUMNS), "<u2")
        pixels[0, 0] = 1000 if number != MIDDLE else 0
        position = tuple(float(value) for value in (ORIGIN + 5.0 * number * normal).round(6))
        images.append(SyntheticImage(ROWS, COLUMNS, pixels.tobytes(), {**header, "ImagePositionPatient": position}))
    paths = testing.write(images, folder, study=folder.name)
    middle = paths[MIDDLE]
    image = instance_ref(middle)
    region = Region.box(image, left=COLUMN, top=ROW, right=RIGHT, bottom=BOTTOM)
    result = a_result(middle)
    finding = a_finding(1, image, region=region)
    result = replace(result, findings=(finding,), captures=(replace(result.captures[0], findings=(finding,)),))
    *_, report = reports.documents(result, sources_of(*paths), CONTEXT)
    pointing, report_path, maps = folder / "pointing.dcm", folder / "report.dcm", folder / ".saliency.zip"
    place = position_of(orientation, spacing, *PLACE)
    testing.pointing_report([dcmread(path) for path in paths], [tuple(place)]).save_as(pointing)
    report_path.write_bytes(report.content)
    maps.write_bytes(saliency_file(result.captures))
    return Shown({instance_ref(path).sop_instance_uid: path for path in paths}, [report_path, pointing], [maps])


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    folder = tmp_path_factory.mktemp("series")
    return {name: written_series(folder / name, *geometry) for name, geometry in GEOMETRIES.items()}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, shown: dict[str, Shown]) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("viewer"))
    bench.pages.state.visit_of = visit_of
    pages = bench.pages.state.pages

    def source(request: Request) -> Source:
        return shown[request.path_params["name"]]

    def page(name: str) -> HTMLResponse:
        content = pages._environment.from_string(PAGE).render(name=name)
        return HTMLResponse(content, headers={"Content-Security-Policy": POLICY})

    routes = APIRouter()
    add_viewer(routes, "/show/{name}", source, bench.parts.rendering)
    routes.add_api_route("/page/{name}", page)
    bench.pages.include_router(routes)
    yield bench
    bench.web.stop()
    bench.parts.stop()
    bench.engine.dispose()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=list(ARGUMENTS))
        yield browser
        browser.close()


@dataclass
class Viewer:
    """The viewer on a page, as its canvas and the words of the page show it."""

    page: Page
    ratio: int
    problems: list[str]

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - what a page answers
        return self.page.evaluate(f"(() => {{ const v = {VIEWER}; {expression} }})()")

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.until("v.slice && !v.pending")

    def until(self, condition: str) -> None:
        """Wait until a condition holds; the policy of the pages forbids what Playwright waits with."""
        deadline = time.monotonic() + 120
        while not self.page.evaluate(
            f"(() => {{ const v = {VIEWER}; return Boolean(v?.series && ({condition})); }})()"
        ):
            assert time.monotonic() < deadline, condition
            self.page.wait_for_timeout(20)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the pixels of the screen where the canvas is, (rows, columns, 3)."""
        content = self.page.locator("canvas").screenshot(scale="device")
        pixels = np.array(Image.open(BytesIO(content)).convert("RGB"))
        edge = 8 * self.ratio  # round corners, through which the bright page is seen
        pixels[:edge] = pixels[-edge:] = pixels[:, :edge] = pixels[:, -edge:] = 0
        return pixels

    def text(self, part: str) -> str:
        return self.page.locator(f'[data-part="{part}"]').inner_text()


@pytest.fixture
def opened(bench: Bench, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Viewer]:
    geometry, screen = getattr(request, "param", ("axial", "desktop"))
    width, height, ratio = SCREENS[screen]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=ratio,
        has_touch=screen == "phone",
        is_mobile=screen == "phone",
        extra_http_headers={"X-Role": "READER"},
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"http://127.0.0.1:{bench.settings.web.port}/console/page/{geometry}")
    viewer = Viewer(page, ratio, problems)
    viewer.until("v.overlays.regions.length")
    viewer.settle()
    yield viewer
    assert problems == []
    context.close()


def lines(selected: NDArray[np.bool_], axis: int) -> tuple[float, float]:
    """Return the middles of the first and the last line across an axis: rows or columns with many selected pixels."""
    counts = selected.sum(axis=axis)
    places = np.flatnonzero(counts >= 0.6 * counts.max())
    breaks = np.flatnonzero(np.diff(places) > 1)
    first, last = places[: breaks[0] + 1], places[breaks[-1] + 1 :]
    return float(first.mean()) + 0.5, float(last.mean()) + 0.5


def crossing(selected: NDArray[np.bool_], axis: int) -> float:
    """Return the middle of the line of a cross across an axis."""
    counts = selected.sum(axis=axis)
    return float(np.flatnonzero(counts >= 0.9 * counts.max()).mean()) + 0.5


def extent(selected: NDArray[np.bool_], axis: int) -> tuple[float, float]:
    places = np.flatnonzero(selected.any(axis=axis))
    return float(places[0]), float(places[-1] + 1)


@pytest.mark.parametrize(
    "opened", [(geometry, screen) for geometry in GEOMETRIES for screen in SCREENS], indirect=True, ids=str
)
def test_the_pixel_under_a_drawn_box_is_the_pixel_of_the_region(opened: Viewer) -> None:
    """Pixels of the canvas alone decide: where the cross ends, and where the lines of the box are."""
    assert opened.evaluate("return v.number") in {MIDDLE, SLICES - 1 - MIDDLE}
    opened.page.locator('[data-part="opacity"]').fill("0")
    opened.evaluate("v.overlays.regions.splice(1); v.overlays.regions[0].label = ''; v.plane.letters = null; v.draw()")
    opened.settle()
    box = opened.pixels().astype(int)
    yellow = (box[:, :, 0] > 200) & (box[:, :, 1] > 160) & (box[:, :, 2] < 90)
    opened.evaluate("v.toggleRegions()")
    opened.settle()
    bright = opened.pixels().min(axis=2) > 128
    for axis, middle, end in ((0, COLUMN, RIGHT), (1, ROW, BOTTOM)):
        begin, stop = extent(bright, axis)
        first, last = lines(yellow, axis)
        expected = begin + ARM * (stop - begin) / (end - middle + ARM)
        assert abs(first - expected) <= 1.5, f"the line at {middle}"
        assert abs(last - stop) <= 1.5, f"the line at {end}"


@pytest.mark.parametrize(
    "opened",
    [(geometry, screen) for geometry, screen in zip(GEOMETRIES, ("phone", "desktop") * 3, strict=False)],
    indirect=True,
    ids=str,
)
def test_a_click_fills_in_the_position_of_its_pixel_and_a_position_is_drawn_on_its_pixel_alone(
    opened: Viewer, request: pytest.FixtureRequest
) -> None:
    points = opened.evaluate(
        "const region = v.overlays.regions.find((entry) => entry.positions);"
        "return [...v.series.slices.keys()].map((number) => v.pointsOn(region, number));"
    )
    number = opened.evaluate("return v.number")
    assert [index for index, point in enumerate(points) if point] == [number]
    assert np.abs(np.array(points[number][0]) - np.array(PLACE) - 0.5).max() < 0.01
    orientation, spacing = GEOMETRIES[request.node.callspec.params["opened"][0]]
    opened.evaluate("v.toggleRegions(); v.plane.letters = null; v.draw()")
    opened.settle()
    bright = opened.pixels().min(axis=2) > 128
    x, y = (crossing(bright, axis) / opened.ratio for axis in (0, 1))
    corner = opened.page.locator("canvas").bounding_box()
    assert corner
    opened.page.evaluate("addEventListener('viewer:point', (event) => { window.point = event.detail; })")
    press = opened.page.touchscreen.tap if opened.ratio > 1 else opened.page.mouse.click
    press(corner["x"] + x, corner["y"] + y)
    opened.until("window.point")
    expected = position_of(orientation, spacing, COLUMN, ROW)
    position = opened.page.evaluate("window.point.position")
    assert np.abs(np.array(position) - expected).max() < 0.5 * max(spacing)
    assert opened.page.evaluate("window.point.index") == [COLUMN, ROW, MIDDLE]
    values = [float(opened.page.locator(f"#place-{axis}").input_value()) for axis in "xyz"]
    assert np.abs(np.array(values) - position).max() <= 0.051


def test_axe_finds_no_serious_problem_in_the_viewer(opened: Viewer) -> None:
    opened.page.locator("summary").click()
    assert axe.problems(opened.page) == []


def test_the_wheel_scrolls_the_page_behind_the_last_slice(opened: Viewer) -> None:
    corner = opened.page.locator("canvas").bounding_box()
    assert corner
    opened.page.set_viewport_size({"width": 1000, "height": 500})
    opened.page.mouse.move(corner["x"] + 200, corner["y"] + 100)
    for _ in range(2 * SLICES):
        opened.page.mouse.wheel(0, 100)
    opened.until(f"v.number === {SLICES - 1} && scrollY > 0")


def test_everything_can_be_done_by_keyboard(opened: Viewer) -> None:
    page = opened.page
    page.locator(".viewer-stage").focus()

    def press(key: str) -> None:
        page.keyboard.press(key)
        opened.settle()

    for key, number in (("Home", 0), ("ArrowDown", 1), ("End", 4), ("ArrowUp", 3), ("PageUp", 0), ("n", 2)):
        press(key)
        assert opened.evaluate("return v.number") == number
    assert opened.text("status").startswith(f"Series 1 · Slice 3 of {SLICES}, ")
    press("+")
    press("Shift+ArrowLeft")
    assert opened.evaluate("return [v.view.zoom, v.view.x]") == [1.25, 30]
    press("1")
    assert opened.evaluate("return v.window") == [500, 1000]
    press("]")
    press("i")
    assert opened.evaluate("return [Math.round(v.window[1]), v.inverted]") == [1100, True]
    press("r")
    assert opened.evaluate("return [v.view.zoom, v.window, v.inverted]") == [1, None, False]
    press("o")
    assert page.locator('[data-do="regions"]').get_attribute("aria-pressed") == "false"
    press("Enter")
    assert page.locator("#place-i").input_value() == str(COLUMNS // 2)


def test_each_control_of_the_viewer_works_by_keys_and_none_keeps_the_focus(opened: Viewer) -> None:
    page = opened.page

    def press(selector: str, key: str) -> None:
        page.locator(selector).press(key)
        opened.settle()

    press('[data-part="slider"]', "Home")
    press('[data-part="slider"]', "ArrowRight")
    assert opened.evaluate("return v.number") == 1
    press('[data-part="findings"] button:first-child', "Enter")
    assert opened.evaluate("return v.number") == MIDDLE
    press('[data-part="preset"]', "ArrowDown")
    assert opened.evaluate("return v.window") == [500, 1000]
    press('[data-part="opacity"]', "ArrowRight")
    assert page.locator('[data-part="opacity"]').input_value() == "45"
    press('[data-do="in"]', "Enter")
    press('[data-do="invert"]', "Space")
    assert opened.evaluate("return [v.view.zoom, v.inverted]") == [1.25, True]
    press('[data-do="reset"]', "Enter")
    assert opened.evaluate("return [v.view.zoom, v.inverted]") == [1, False]
    press(".viewer-stage", "Tab")
    expect(page.locator('[data-part="slider"]')).to_be_focused()
    press('[data-part="slider"]', "Shift+Tab")
    press(".viewer-stage", "Shift+Tab")
    expect(page.locator(".viewer :focus")).to_have_count(0)


def test_the_mouse_scrolls_drags_the_window_and_reads_values(opened: Viewer) -> None:
    page = opened.page
    corner = page.locator("canvas").bounding_box()
    assert corner
    x, y = opened.evaluate(f"return sliceViewer.toCanvas(v.place, [{COLUMN + 0.5}, {ROW + 0.5}])")
    page.mouse.move(corner["x"] + x, corner["y"] + y)
    assert opened.text("cursor").startswith(f"1000 HU at column {COLUMN}, row {ROW}, ")
    on_marked_slice = opened.text("cursor")
    page.mouse.wheel(0, 100)
    opened.until("v.number === 3")
    opened.settle()
    # The pointer has not moved: the value and the position are those of the slice below it now.
    assert opened.text("cursor").endswith(" mm")
    assert opened.text("cursor") != on_marked_slice
    page.mouse.wheel(0, -100)
    opened.until("v.number === 2")
    opened.settle()
    assert opened.text("cursor") == on_marked_slice
    page.mouse.down()
    page.mouse.move(corner["x"] + x + 200, corner["y"] + y)
    page.mouse.up()
    assert opened.evaluate("return v.window[1]") > 1100
    page.locator('[data-part="slider"]').fill("1")
    opened.settle()
    assert opened.evaluate("return v.number") == 0


def test_the_label_of_a_box_and_of_the_outline_in_the_box_stands_once(opened: Viewer) -> None:
    labels = opened.evaluate(
        "const [box] = v.overlays.regions, said = [];"
        "v.overlays.regions = ['nodule', 'nodule', 'other'].map((label) => ({ ...box, label }));"
        "v.write = (_, text) => said.push(text); v.paint(); return said.filter((text) => text.length > 2)"
    )
    assert labels == ["nodule", "other"]


def test_the_viewer_says_which_saliency_it_shows_and_how_strongly(opened: Viewer) -> None:
    assert opened.text("status").endswith("saliency 40 %: Spine radiograph")
    opened.page.locator('[data-part="opacity"]').fill("0")
    opened.settle()
    assert "saliency" not in opened.text("status")
    opened.page.locator('[data-part="opacity"]').fill("40")
    opened.evaluate("v.go(0)")
    opened.settle()
    assert "saliency" not in opened.text("status"), "this slice has none"


@pytest.mark.parametrize("opened", [("axial", screen) for screen in SCREENS], indirect=True, ids=str)
def test_the_controls_stay_where_they_are_while_the_slices_change(opened: Viewer) -> None:
    places = []
    for number in (0, MIDDLE):
        opened.evaluate(f"v.go({number})")
        opened.settle()
        box = opened.page.locator(".viewer-tools").bounding_box()
        assert box
        places.append(box["y"])
    assert "saliency" in opened.text("status")
    assert places[0] == places[1]


def test_each_button_names_a_finding_of_its_own(opened: Viewer) -> None:
    """Two routes call what they found on two slices by one name; a capture of a slice names the slice itself."""
    opened.evaluate("""
        const [box] = v.overlays.regions, [map] = v.overlays.saliency;
        const of = (finding, label, number) => ({ ...box, finding, label, image: v.series.slices[number].uid });
        v.overlays.regions = [["1", 1], ["1", 2], ["2", 3], ["3", 3]].map(([uid, slice]) => of(uid, "nodule 1", slice));
        const on = (title, number) => ({ ...map, title, image: v.series.slices[number].uid });
        const elsewhere = { ...map, title: "Chest, another series", image: "1.2.3" };
        const own = [on("Lung nodule 1", 1), on("Chest, slice 2 of 5", 1), on("Chest, slice 5 of 5", 4)];
        v.overlays.saliency = [...own, elsewhere];
        v.fillOverlays();
        v.go(0);
    """)
    expect(opened.page.locator('[data-part="findings"] button')).to_have_text(
        ["nodule 1 (slice 2)", "nodule 1 (slice 4)", "saliency: Chest, slice 2 of 5", "saliency: Chest, slice 5 of 5"]
    )
    assert "Chest, another series" not in opened.page.locator('[data-part="map"] option').all_inner_texts()
    steps = []
    for _ in range(4):
        opened.evaluate("v.nextFinding(1)")
        steps.append(opened.evaluate("return v.number"))
    assert steps == [1, 3, 4, 1]


def test_the_list_of_saliency_follows_the_slice_and_a_choice_goes_to_the_slice_of_the_map(opened: Viewer) -> None:
    opened.evaluate("""
        const [map] = v.overlays.saliency;
        const of = (number) => ({ ...map, title: `slice ${number + 1}`, image: v.series.slices[number].uid });
        v.overlays.saliency = [of(1), of(4)];
        v.fillOverlays();
        v.go(4);
    """)
    opened.settle()
    chosen = opened.page.locator('[data-part="map"]')
    expect(chosen).to_have_value("slice 5")
    chosen.select_option("slice 2")
    opened.until("v.number === 1")
    opened.settle()
    assert opened.text("status").endswith("saliency 40 %: slice 2")
    expect(chosen).to_have_value("slice 2")


def test_the_window_and_its_words_stay_while_the_slices_change(opened: Viewer) -> None:
    """The middle slice states 500 / 1000; another slice alone would have its own."""
    opened.evaluate("v.slices.kept.forEach((slice, number) => { slice.window = [12.34 * number, 1423.7 + number]; })")
    windows = set()
    for number in range(SLICES):
        opened.evaluate(f"v.go({number})")
        opened.settle()
        windows.add(opened.text("status").split(" · ")[2])
    assert windows == {"window 500 / 1000 HU"}
    options = opened.page.locator('[data-part="preset"] option').all_inner_texts()
    assert options[0] == "Series (500 / 1000)"
    assert not [text for text in options if "." in text]


def test_the_saliency_that_was_kept_lies_over_its_image(opened: Viewer) -> None:
    opened.page.locator('[data-part="opacity"]').fill("0")
    opened.settle()
    before = opened.pixels().astype(int)
    opened.page.locator('[data-part="opacity"]').fill("100")
    opened.until("[...v.maps.values()][0]")
    opened.settle()
    after = opened.pixels().astype(int)
    x, y = opened.evaluate(f"return sliceViewer.toCanvas(v.place, [{COLUMNS / 2}, {ROWS / 2}])")
    assert after[int(y), int(x)][0] > 200 > after[int(y), int(x)][2]
    assert (before[int(y), int(x)] < 50).all()


def test_a_finger_scrolls_and_two_fingers_zoom(bench: Bench, browser: Browser) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844},
        device_scale_factor=3,
        has_touch=True,
        is_mobile=True,
        extra_http_headers={"X-Role": "VIEWER"},
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{bench.settings.web.port}/console/page/axial")
    viewer = Viewer(page, 3, [])
    viewer.until("v.overlays.regions.length")
    viewer.settle()
    corner = page.locator("canvas").bounding_box()
    assert corner
    touch = context.new_cdp_session(page)
    middle = (corner["x"] + corner["width"] / 2, corner["y"] + corner["height"] / 2)

    def move(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": middle[0] + x, "y": middle[1] + y, "id": number} for number, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    move("touchStart", (0, 0))
    move("touchMove", (0, 40))
    move("touchMove", (0, 120))
    move("touchEnd")
    viewer.until("v.number > 2")
    assert viewer.evaluate("return v.point") is None
    move("touchStart", (-30, 0), (30, 0))
    move("touchMove", (-60, 0), (60, 0))
    move("touchEnd")
    viewer.until("v.view.zoom > 1.5")
    context.close()


def test_a_damaged_slice_is_named_and_the_others_are_shown(
    bench: Bench, browser: Browser, shown: dict[str, Shown], tmp_path: Path
) -> None:
    series = written_series(tmp_path / "damaged", *GEOMETRIES["axial"])
    broken = series.files()[0]
    broken.write_bytes(broken.read_bytes()[:-2000])
    shown["damaged"] = series
    context = browser.new_context(extra_http_headers={"X-Role": "READER"})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{bench.settings.web.port}/console/page/damaged")
    viewer = Viewer(page, 1, [])
    viewer.until("v.overlays.regions.length")
    viewer.settle()
    viewer.evaluate("v.go(0)")
    viewer.until("v.part('message').textContent.includes('cannot be decoded')")
    context.close()


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the area that two rectangles [left, top, right, bottom] share."""
    sides = (min(first[axis + 2], second[axis + 2]) - max(first[axis], second[axis]) for axis in (0, 1))
    return math.prod(max(side, 0.0) for side in sides)


CROWD: dict[str, list[tuple[float, float, float, float]]] = {
    "in a row": [(100 + 30 * number, 200, 125 + 30 * number, 225) for number in range(6)],
    "in a column": [(300, 100 + 26 * number, 330, 124 + 26 * number) for number in range(5)],
    "in a corner": [(0, 0, 40, 30), (45, 0, 90, 30), (0, 35, 40, 70)],
    "at the same place": [(200, 200, 240, 240)] * 4,
}


@pytest.mark.parametrize("name", CROWD)
def test_labels_of_regions_cover_neither_each_other_nor_a_region_and_lie_in_the_picture(
    opened: Viewer, name: str
) -> None:
    taken: list[Sequence[float]] = list(CROWD[name])
    for box in CROWD[name]:
        arguments = f"{list(box)}, [110, 18], {[list(place) for place in taken]}, [700, 500]"
        label = opened.page.evaluate(f"sliceViewer.labelPlace({arguments})")
        assert [overlap(label, place) for place in taken] == [0] * len(taken)
        assert overlap(label, (0, 0, 700, 500)) == pytest.approx(110 * 18)
        taken.append(label)


def test_the_label_of_a_region_is_drawn_beside_the_region_and_not_over_its_neighbor(opened: Viewer) -> None:
    """A neighbor stands where the label of the first region would be written."""
    opened.evaluate("v.plane.letters = null; v.overlays.regions.splice(1); v.draw()")
    opened.settle()
    opened.evaluate("""
        const [region] = v.overlays.regions;
        const [left, top] = [0, 1].map((axis) => Math.min(...region.points.map((point) => point[axis])));
        const [right, high] = [left + 90 / v.place.across, 30 / v.place.down];
        const points = [[left, top - high], [right, top - high], [right, top - 1], [left, top - 1]];
        region.label = "finding 1, malignant";
        v.overlays.regions.push({ ...region, points, label: "" });
        v.draw();
    """)
    opened.settle()
    places = opened.evaluate("return v.overlays.regions[1].points.map((point) => sliceViewer.toCanvas(v.place, point))")
    (left, top), (right, bottom) = ([int(value * opened.ratio) for value in places[corner]] for corner in (0, 2))
    inside = opened.pixels().astype(int)[top + 4 : bottom - 4, left + 4 : right - 4]
    assert inside.size
    assert not ((inside[:, :, 0] > 200) & (inside[:, :, 1] > 160) & (inside[:, :, 2] < 90)).any()
