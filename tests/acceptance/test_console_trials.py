"""The page Try it of a real node, in Chromium: drop, point, progress, answer, three dates, example, discard."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from support import installed, shared
from support.dated import ball_mm3, dated
from support.files import content_of
from support.node import configured, running, shipped_routes
from support.waiting import until

installed("playwright", "fastapi", "openvino", "torch", "timm", "ultralytics")

from playwright.sync_api import Locator, Page, expect  # noqa: E402
from support import axe, keyboard  # noqa: E402
from support.console import Console, add_persons, console, picture, web_tables  # noqa: E402
from support.regions import center_mm, regions  # noqa: E402

from ainode.node import testing  # noqa: E402
from ainode.node.reading import registry  # noqa: E402
from ainode.node.reading.weights import environment  # noqa: E402
from ainode.node.settings import load  # noqa: E402

THIN = "data/dicom/ct_chest_thin_R01-001"
WITHIN_MS = 300_000


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("trials")
    port, tables = web_tables()
    node = configured(folder / "node", peers=[], routes=shipped_routes("spine_radiograph", "lung_nodule"), more=tables)
    with running(node), console(node, port) as pages:
        add_persons(node)
        yield pages


def left(pages: Console) -> list[Path]:
    return content_of(pages.node.folder / "data" / "trials")


def test_an_example_is_one_click_away_and_looks_right_on_a_phone(pages: Console) -> None:
    page = pages.person("reader", phone=True, dark=True)
    page.goto("/console/trials")
    picture(page, "trials-phone-dark")
    page.get_by_role("button", name="spine radiograph").click()
    page.get_by_role("heading", name="Example of spine radiograph").wait_for()
    picture(page, "trial-waiting-phone-dark")
    page.get_by_text("Not ready for patients:").first.wait_for(timeout=120_000)
    picture(page, "trial-phone-dark")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("heading", name="Try it").wait_for()
    assert left(pages) == []


def test_a_file_that_is_no_image_is_refused_on_the_page(pages: Console, tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_text("a text that is no image at all")
    page = pages.person("reader")
    page.goto("/console/trials")
    with page.expect_file_chooser() as chooser:
        page.get_by_label("Files: DICOM").press("Space")
    chooser.value.set_files(tmp_path / "scan.dcm")
    page.get_by_role("button", name="Read", exact=True).press("Enter")
    page.get_by_role("alert").get_by_text("not read: scan.dcm: it is a text").wait_for()
    picture(page, "trial-refused")
    assert left(pages) == []


def test_a_click_on_a_slice_is_the_position_that_the_model_reads(
    pages: Console, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = load(pages.node.config)
    example = registry.handler("lung_nodule", environment(settings)).demonstration(0)

    files = testing.write(example.images, tmp_path_factory.mktemp("thorax"), study="thorax")
    page = pages.person("reader")
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("Files: DICOM").set_input_files(files)
    picture(page, "trials-desktop-light")
    assert axe.problems(page) == []
    page.get_by_role("button", name="Look at the images first").click()
    page.get_by_role("heading", name="Images, and the position of a nodule").wait_for(timeout=300_000)
    page.locator("[data-part=status]").get_by_text("window").wait_for()
    page.locator("canvas").click()
    position = [float(page.locator(f"#point-1-{axis}").input_value()) for axis in "xyz"]
    picture(page, "trial-pointed")
    page.get_by_label("Model").select_option("lung_nodule")
    page.get_by_role("button", name="Read", exact=True).click()
    page.locator(".answer").wait_for(timeout=300_000)
    picture(page, "trial-nodule")
    assert axe.problems(page) == []
    assert keyboard.problems(page) == []
    assert [float(page.locator(f"#point-1-{axis}").input_value()) for axis in "xyz"] == position
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("heading", name="Try it").wait_for()
    assert left(pages) == []


def drop(page: Page, field: Locator, files: Sequence[Path]) -> None:
    """Drag files from outside the browser over a field, and let go."""
    field.scroll_into_view_if_needed()
    box = field.bounding_box()
    assert box
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
    until(lambda: field.evaluate("(field) => field.files.length") == len(files))


def type_position(page: Page, number: int, position: Sequence[float] | None) -> None:
    """Type the position of a date; of None, empty the fields."""
    for axis, value in zip("xyz", position or ("", "", ""), strict=True):
        page.locator(f"#point-{number}-{axis}").fill(str(value))


def read_positions(page: Page, slices: Sequence[Path], folder: Path) -> np.ndarray:
    """Return each place where the report of the only answer says that the nodule is, in LPS mm."""
    page.get_by_text("DICOM documents").click()
    with page.expect_download() as report:
        page.get_by_role("link", name="structured report 1").click()
    report.value.save_as(folder / "report.dcm")
    images = {str(image.SOPInstanceUID): image for image in (dcmread(path, stop_before_pixels=True) for path in slices)}
    centers = [center_mm(points, images[image]) for points, image in regions(dcmread(folder / "report.dcm"))]
    assert centers
    return np.asarray(centers)


def click_at(page: Page, position: Sequence[float]) -> None:
    """Scroll the viewer to the slice of a position, and click on the pixel there."""
    stage, status = page.locator(".viewer-stage"), page.locator("[data-part=status]")
    stage.scroll_into_view_if_needed()
    expect(status).to_contain_text("window", timeout=60_000)
    viewer = "const v = document.querySelector('.viewer').viewer; "
    number = page.evaluate(
        f"(place) => {{ {viewer} const far = v.series.slices.map((slice) => "
        "sliceViewer.toPoint(v.series.planes[slice.plane], slice.origin, place).distance); "
        "return far.indexOf(Math.min(...far)); }",
        position,
    )
    page.locator("[data-part=slider]").fill(str(number + 1))
    expect(status).to_contain_text(f"Slice {number + 1} of")
    aim = (
        f"(place) => {{ {viewer} return sliceViewer.toCanvas(v.place, "
        "sliceViewer.toPoint(v.plane, v.entry.origin, place).point); }"
    )
    x, y = page.evaluate(aim, position)
    stage.click(position={"x": x, "y": y})


def test_a_nodule_of_a_real_ct_is_read_where_it_was_typed_and_where_it_was_clicked(
    pages: Console, tmp_path: Path
) -> None:
    slices = sorted(shared(f"{THIN}/dicom").rglob("*.dcm"))
    annotation = json.loads(shared(f"{THIN}/nodule.json").read_text("utf-8"))
    nodule, spacing = annotation["nodule_center_LPS_mm"], annotation["spacing_mm"]
    page = pages.person("reader")
    page.goto("/console/trials")
    drop(page, page.get_by_label("Files: DICOM"), slices)
    page.get_by_label("Model").select_option("lung_nodule")
    page.get_by_text("Position of a nodule, where you know it").click()
    type_position(page, 1, nodule)
    page.get_by_role("button", name="Read", exact=True).click()
    page.get_by_role("status").filter(has_text=re.compile("arrive|turn|Looks|Reads")).first.wait_for()
    page.locator(".answer").wait_for(timeout=WITHIN_MS)
    half_a_pixel = np.asarray(spacing) / 2 + 0.05
    assert (np.abs(read_positions(page, slices, tmp_path) - nodule) <= half_a_pixel).all()
    type_position(page, 1, None)
    click_at(page, nodule)
    clicked = np.asarray([float(page.locator(f"#point-1-{axis}").input_value()) for axis in "xyz"])
    assert (np.abs(clicked - nodule) <= 2 * half_a_pixel).all()
    picture(page, "trial-real-nodule", whole=False)
    with page.expect_navigation():  # the page of before has an answer, too
        page.get_by_role("button", name="Read again").click()
    page.locator(".answer").wait_for(timeout=WITHIN_MS)
    assert (np.abs(read_positions(page, slices, tmp_path) - clicked) <= half_a_pixel).all()
    picture(page, "trial-real-nodule-read")
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("heading", name="Try it").wait_for()
    page.context.close()


def course(page: Page) -> list[dict[str, float]]:
    """Return the numbers of each date, the oldest first, by the heads of the table."""
    table = page.locator("table.course")
    heads = table.locator("thead th").all_inner_texts()
    rows = [row.locator("th, td").all_inner_texts() for row in table.locator("tbody tr").all()]
    return [
        {head: float(text) for head, text in zip(heads[1:-1], row[1:-1], strict=True) if text != "-"} for row in rows
    ]


def test_three_dates_of_a_patient_are_compared_each_at_its_own_point_and_with_a_point_missing(
    pages: Console, tmp_path: Path
) -> None:
    diameters = {"20250101": 8.0, "20250705": 10.0, "20260101": 13.0}
    scans = [dated(date, diameter) for date, diameter in diameters.items()]
    page = pages.person("reader")
    page.goto("/console/trials")
    page.get_by_text("Further dates of the same patient").click()
    page.get_by_text("Position of a nodule, where you know it").click()
    for number, (scan, label) in enumerate(zip(scans, ("Files: DICOM", "Second date", "Third date"), strict=True), 1):
        drop(page, page.get_by_label(label), scan.write(tmp_path / f"{number}", f"date {number}"))
        type_position(page, number, scan.position_mm)
    page.get_by_label("Model").select_option("lung_nodule")
    page.get_by_role("button", name="Read", exact=True).click()
    page.locator(".answer").wait_for(timeout=WITHIN_MS)
    check_course(page, diameters)
    assert page.get_by_text("carried").count() == 0
    picture(page, "trial-three-dates")
    type_position(page, 2, None)
    with page.expect_navigation():  # the page of before has an answer, too
        page.get_by_role("button", name="Read again").click()
    page.locator(".answer").wait_for(timeout=WITHIN_MS)
    check_course(page, diameters)
    picture(page, "trial-three-dates-two-points")
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("heading", name="Try it").wait_for()
    page.context.close()


def test_the_example_of_a_nodule_has_three_dates_and_their_growth(pages: Console) -> None:
    page = pages.person("reader")
    page.goto("/console/trials")
    page.get_by_role("button", name="lung nodule").click()
    page.locator(".answer").wait_for(timeout=WITHIN_MS)
    picture(page, "trial-nodule-example")
    rows = course(page)
    diameters = [row["diameter in mm"] for row in rows]
    assert diameters == sorted(diameters)
    grown = [0.75, 0.87]  # of the diameter now
    doubling = [days * np.log(2) / (-3 * np.log(part)) for days, part in zip((366, 183), grown, strict=True)]
    assert [row.get("doubling time in days") for row in rows] == [
        pytest.approx(doubling[0], rel=0.25),
        pytest.approx(doubling[1], rel=0.25),
        None,
    ]
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("heading", name="Try it").wait_for()
    page.context.close()


def check_course(page: Page, diameters: dict[str, float]) -> None:
    """Check the table and the charts of a growing ball."""
    rows = course(page)
    assert sum(row["attention"] for row in rows) == pytest.approx(1, abs=1e-3)
    # The outline learned blurred real nodules: it lies outside of the sharp edge of a phantom's ball.
    for row, diameter in zip(rows, diameters.values(), strict=True):
        assert 0 < row["diameter in mm"] - diameter < 1.8
        assert 1 < row["volume in mm3"] / ball_mm3(diameter) < 1.5
    doubling = [180 * np.log(2) / (3 * np.log(13 / 10)), 365 * np.log(2) / (3 * np.log(13 / 8))]
    assert [row.get("doubling time in days") for row in rows] == [
        pytest.approx(doubling[1], rel=0.1),
        pytest.approx(doubling[0], rel=0.1),
        None,
    ]
    for name in ("attention", "diameter in mm", "volume in mm3"):
        assert page.get_by_role("img", name=re.compile(name)).is_visible()
