"""The page Try it of a real node, in Chromium: drop, progress, answer, example, discard; and by keyboard."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import installed
from support.files import content_of
from support.node import configured, running, shipped_routes

installed("playwright", "fastapi", "openvino", "torch", "timm", "ultralytics")

from support import axe  # noqa: E402
from support.console import Console, add_persons, console, picture, web_tables  # noqa: E402

from ainode.node import testing  # noqa: E402
from ainode.node.reading import registry  # noqa: E402
from ainode.node.reading.weights import environment  # noqa: E402
from ainode.node.settings import load  # noqa: E402


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
    page.get_by_text("Demonstration weights: they show").wait_for(timeout=300_000)
    picture(page, "trial-phone-dark")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("heading", name="Try it").wait_for()
    assert left(pages) == []


def test_a_file_that_is_no_image_is_refused_on_the_page(pages: Console, tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_text("a text that is no image at all")
    page = pages.person("reader")
    page.goto("/console/trials")
    page.get_by_label("Files: DICOM").set_input_files(tmp_path / "scan.dcm")
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
    assert [float(page.locator(f"#point-1-{axis}").input_value()) for axis in "xyz"] == position
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("heading", name="Try it").wait_for()
    assert left(pages) == []
