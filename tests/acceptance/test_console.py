"""The console of a real node with studies of every model and a real Orthanc, as persons see it in Chromium."""

import json
import re
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydicom import dcmread
from pypdf import PdfReader
from support import Orthanc, installed, orthanc

installed("playwright", "fastapi", "openvino", "torch", "keras", "monai")

from playwright.sync_api import Locator, Page, expect  # noqa: E402
from support import axe, cut_off, keyboard  # noqa: E402
from support.browser import PATIENCE_MS  # noqa: E402
from support.console import log_in, picture  # noqa: E402
from support.hospital import Hospital, every_page, opened  # noqa: E402

from ainode.node import testing  # noqa: E402
from ainode.node.domain import UID  # noqa: E402

PATIENT = "Synthetic"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with opened(tmp_path_factory.mktemp("hospital")) as hospital:
        yield hospital


@pytest.fixture(scope="module")
def pages(hospital: Hospital) -> dict[str, str]:
    return every_page(hospital)


@pytest.mark.parametrize("look", ["light", "dark", "phone-light", "phone-dark"])
def test_nobody_is_kept_from_any_page_by_its_look(hospital: Hospital, pages: dict[str, str], look: str) -> None:
    page = hospital.console.person("administrator", dark=look.endswith("dark"), phone=look.startswith("phone"))
    problems = {}
    for name, address in pages.items():
        answer = page.goto(address)
        assert answer
        assert answer.status == 200, address
        picture(page, f"{name}-{look}")
        problems[name] = [*axe.problems(page), *sideways(page)]
        problems[name] += cut_off.faults(page) if look == "phone-light" else []
    page.context.close()
    assert not any(problems.values()), problems


def test_every_page_can_be_used_at_twice_its_size(hospital: Hospital, pages: dict[str, str]) -> None:
    page = hospital.console.person("administrator")
    page.set_viewport_size({"width": 640, "height": 450})
    for address in pages.values():
        page.goto(address)
        assert not sideways(page), address
    page.context.close()


def test_every_page_can_be_used_without_a_mouse(hospital: Hospital, pages: dict[str, str]) -> None:
    page = hospital.console.person("administrator")
    problems = {}
    for address in pages.values():
        page.goto(address)
        problems[address] = keyboard.problems(page)
    page.context.close()
    assert not any(problems.values()), problems


def test_a_part_of_a_page_that_is_replaced_leaves_the_focus_where_it_is(hospital: Hospital) -> None:
    page = hospital.console.person("viewer")
    page.goto("/console/system")
    queues = page.get_by_role("region", name="Queues").last
    queues.focus()
    before = queues.element_handle()
    assert before
    before.wait_for_element_state("hidden")  # it is replaced
    expect(queues).to_be_focused()
    page.context.close()


def test_the_viewer_on_a_study_page_shows_what_was_found_and_scrolls(hospital: Hospital) -> None:
    page = hospital.console.person("reader")
    page.goto(f"/console/studies/{hospital.studies['ct_pneumonia']}#images")
    viewer = page.locator(".viewer")
    status = viewer.locator("[data-part=status]")
    expect(status).to_contain_text("Slice")
    viewer.get_by_role("group", name="Places that were found").get_by_role("button").first.click()
    marked = status.inner_text()
    viewer.locator("[data-part=opacity]").fill("50")
    expect(viewer.locator("[data-part=message]")).to_be_hidden()
    viewer.scroll_into_view_if_needed()
    picture(page, "viewer-light", whole=False)
    viewer.locator(".viewer-stage").press("ArrowDown")
    expect(status).not_to_have_text(marked)
    page.context.close()


def test_what_a_reader_downloads_is_what_the_archive_has(hospital: Hospital, tmp_path: Path) -> None:
    study = hospital.studies["skin_lesion"]
    page = hospital.console.person("reader")
    page.goto(f"/console/studies/{study}")
    headline = page.locator(".verdict").inner_text()
    with page.expect_download() as printed:
        page.get_by_role("link", name="report.pdf").click()
    printed.value.save_as(tmp_path / "report.pdf")
    words = " ".join(PdfReader(tmp_path / "report.pdf").pages[0].extract_text().split())
    assert headline.partition(",")[0] in words
    page.get_by_text("DICOM documents").click()
    with page.expect_download() as report:
        page.get_by_role("link", name="Structured report 1").click()
    report.value.save_as(tmp_path / "report.dcm")
    uid = dcmread(tmp_path / "report.dcm").SOPInstanceUID
    archived = hospital.archive.download(hospital.archive.instances_of(study)[uid])
    assert dcmread(BytesIO(archived)).ContentSequence == dcmread(tmp_path / "report.dcm").ContentSequence
    page.context.close()


def test_an_operator_has_a_study_read_once_more_and_sees_no_difference(hospital: Hospital) -> None:
    page = hospital.console.person("operator")
    page.goto(f"/console/studies/{hospital.studies['skin_lesion']}")
    page.get_by_text("Check by a second reading").click()
    page.get_by_role("button", name="Read and compare").click()
    page.get_by_text("byte for byte").wait_for()
    picture(page, "rereading-light")
    assert page.get_by_role("row").filter(has_text="Answer").count() == 1
    page.context.close()


def test_a_dropped_file_is_explained_and_nothing_of_it_stays(hospital: Hospital, tmp_path: Path) -> None:
    (path,) = testing.write([testing.noise(300, 300, seed=7, Modality="MR")], tmp_path, study="an MR")
    page = hospital.console.person("reader")
    page.goto("/console/routes/test")
    page.get_by_label("Files or ZIP archives").set_input_files(path)
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("No route takes this study").wait_for()
    expect(page.get_by_text("takes Modality CR or DX, and this is MR").first).to_be_visible()
    picture(page, "route-tester-explained")
    assert testing.uid("an MR") not in {str(study) for study in hospital.console.node.catalog.unrouted()}
    assert not [*(hospital.console.node.folder / "data" / "trials").rglob("*.dcm")]
    page.context.close()


def test_a_self_test_shows_each_hop_to_the_golden_answer_and_sends_the_archive_nothing(hospital: Hospital) -> None:
    page = hospital.console.person("operator")
    page.goto("/console/system/test")
    page.get_by_label("The whole way of spine-radiograph").check()
    page.get_by_role("button", name="Send the study").click()
    documents = page.get_by_role("row").filter(has_text="documents of spine-radiograph")
    documents.filter(has_text="confirmed by self-test").get_by_text("done").wait_for()
    page.get_by_text("Every step is well").wait_for()
    picture(page, "self-test-hops")
    page.context.close()


def test_a_reader_accepts_a_result_and_the_archive_gets_the_assessment(hospital: Hospital) -> None:
    study = hospital.studies["ct_pneumonia"]
    reports = sum("SR" in modality for modality in modalities(hospital.archive, study))
    page = hospital.console.person("reader")
    page.goto(f"/console/studies/{study}")
    page.locator(".judged").first.get_by_role("button", name="Accept").first.click()
    page.get_by_text("by the-reader").first.wait_for()
    hospital.console.node.until(
        lambda: sum("SR" in modality for modality in modalities(hospital.archive, study)) == reports + 1, within_s=120
    )
    reloaded(page, page.get_by_text("Addendum in orthanc").filter(has_text="confirmed"))
    picture(page, "judged-light")
    page.goto("/console/judgements")
    assert page.get_by_text("the-reader").first.is_visible()
    page.context.close()


@pytest.fixture(scope="module")
def plain(hospital: Hospital) -> Page:
    """Return a page of an administrator whose browser runs no script."""
    return hospital.console.person("administrator", scripts=False)


def test_without_a_script_what_failed_is_tried_again(hospital: Hospital, plain: Page) -> None:
    study = hospital.studies["skin_lesion"]
    plain.goto("/console/system/failures")
    plain.get_by_role("row").filter(has_text=study).get_by_role("button", name="Deliver again").click()
    plain.get_by_text("tried again").wait_for()
    hospital.console.node.read(study)


def test_an_operator_finds_the_dead_letter_and_has_it_delivered(hospital: Hospital, tmp_path: Path) -> None:
    study = hospital.studies["skin_lesion"]
    page = hospital.console.person("operator")
    page.get_by_role("link", name="System").click()
    page.get_by_role("link", name="Dead letters").first.click()
    row = page.get_by_role("row").filter(has_text=study)
    picture(page, "dead-letter")
    with orthanc(tmp_path, port=hospital.away.port, DicomAet="AWAY") as archive:
        row.get_by_role("button", name="Deliver again").click()
        page.get_by_text("tried again").wait_for()
        hospital.console.node.read(study)
        assert len(archive.instances_of(study)) == len(hospital.archive.instances_of(study))
    page.goto("/console/system/failures")
    assert page.get_by_role("row").filter(has_text=study).count() == 0
    page.context.close()


@pytest.fixture
def unlit(hospital: Hospital) -> Iterator[Page]:
    """Return a page of an administrator whose browser runs no script, and whose colors nobody else has."""
    page = hospital.console.person("administrator", scripts=False)
    yield page
    page.context.close()


def send(button: Locator) -> None:
    """Press a button or a link that leads to a page, and wait for the page."""
    with button.page.expect_navigation():
        button.click()


def test_without_a_script_every_filter_and_the_colors_are_plain_forms(
    hospital: Hospital, unlit: Page, pages: dict[str, str]
) -> None:
    plain, colors = unlit, unlit.locator("html")
    for address in pages.values():
        plain.goto(address)
        for number in range(plain.locator("form[method=get]").count()):
            button = plain.locator("form[method=get]").nth(number).get_by_role("button")
            with plain.expect_navigation() as answer:
                button.click()
            assert answer.value.ok, address
            assert urlsplit(plain.url).path == urlsplit(address).path
    plain.goto("/console/")
    plain.get_by_label("State").select_option("failed")
    plain.get_by_role("button", name="Show").click()
    expect(plain.get_by_text("No study fits these filters")).to_be_visible()
    plain.get_by_role("button", name="Dark colors").click()
    expect(colors).to_have_attribute("data-theme", "dark")
    expect(plain).to_have_url(re.compile("state=failed"))
    plain.get_by_role("searchbox").fill(hospital.studies["ct_tumor"])
    plain.get_by_role("button", name="Search").click()
    expect(plain).to_have_url(re.compile("search="))
    plain.get_by_role("button", name="Light colors").click()
    expect(colors).to_have_attribute("data-theme", "light")


def test_without_a_script_a_study_is_delivered_judged_and_looked_into(hospital: Hospital, plain: Page) -> None:
    study = hospital.studies["ct_tumor"]
    plain.goto("/console/")
    plain.get_by_role("checkbox", name=f"Study {study}").first.check()
    plain.get_by_role("button", name="Deliver again").first.click()
    plain.get_by_role("status").first.wait_for()
    send(plain.locator(f'a[href="/console/studies/{study}"]').first)
    plain.get_by_role("button", name="Deliver again").first.click()
    plain.get_by_role("status").first.wait_for()
    rejection = plain.locator(".judged-how details:has(button.bad)").first
    rejection.locator("summary").click()
    rejection.get_by_label("Reason").select_option("other")
    rejection.get_by_label("Comment").fill("seen without a script")
    rejection.get_by_role("button", name="Reject").click()
    expect(plain.get_by_text("seen without a script").first).to_be_visible()
    plain.get_by_text("item by item").first.click()
    plain.get_by_role("link", name="Show the report").first.click()
    expect(plain.get_by_text("Imaging Measurements").first).to_be_visible()
    plain.go_back()
    send(plain.get_by_role("link", name="Show what the headers say"))
    plain.locator("#series-table").get_by_role("link", name="Show", exact=True).first.click()
    expect(plain.get_by_role("cell", name="Modality").first).to_be_visible()
    plain.go_back()
    expect(plain.get_by_text("The viewer needs JavaScript")).to_be_visible()
    expect(plain.get_by_role("button", name="Zoom in")).to_have_count(0)


def test_without_a_script_files_are_explained_and_tried(plain: Page, tmp_path: Path) -> None:
    (path,) = testing.write([testing.noise(300, 300, seed=8, Modality="MR")], tmp_path, study="a plain MR")
    plain.goto("/console/routes/test")
    plain.get_by_label("Files or ZIP archives").set_input_files(path)
    plain.get_by_role("button", name="Explain").click()
    plain.get_by_text("No route takes this study").wait_for()
    plain.goto("/console/trials")
    plain.get_by_label("Files: DICOM").set_input_files(path)
    plain.get_by_role("button", name="Read", exact=True).click()
    followed(plain, "Load the page again", plain.get_by_text("No route takes these files"))
    plain.get_by_role("button", name="Discard").click()
    plain.get_by_role("heading", name="Try it").wait_for()
    plain.goto("/console/routes/change")
    plain.get_by_label("or its text").fill("[[route]]")
    plain.get_by_role("button", name="Check and compare").click()
    plain.get_by_text("The file cannot be taken").wait_for()


def test_without_a_script_a_peer_is_called_and_a_study_is_sent(hospital: Hospital, plain: Page) -> None:
    plain.goto("/console/system")
    plain.get_by_role("button", name=f"Test connection of {hospital.archive.peer.name}").click()
    plain.get_by_role("heading", name=f"Trial of {hospital.archive.peer.name}").wait_for()
    expect(plain.get_by_text("yes").first).to_be_visible()
    for theme in ("dark", "light"):
        plain.get_by_role("button", name=f"{theme.capitalize()} colors").click()
        expect(plain.locator("html")).to_have_attribute("data-theme", theme)
        expect(plain.get_by_role("heading", name="System", exact=True)).to_be_visible()
    plain.goto("/console/system/test")
    plain.get_by_label("Up to the routes alone").check()
    plain.get_by_role("button", name="Send the study").click()
    followed(plain, "Look again", plain.get_by_role("row").filter(has_text="done").nth(1))


def test_without_a_script_a_person_is_added_changed_and_removed(hospital: Hospital, plain: Page) -> None:
    plain.goto("/console/persons")
    plain.get_by_label("Name", exact=True).fill("newcomer")
    plain.get_by_label("Role", exact=True).select_option("viewer")
    plain.get_by_role("button", name="Add").click()
    row = plain.get_by_role("row").filter(has_text="newcomer")
    row.get_by_label("Role of newcomer").select_option("reader")
    send(row.get_by_role("button", name="Change"))
    row.locator("summary", has_text="New password").click()
    send(row.get_by_role("button", name="New password"))
    password = plain.get_by_role("status").locator("code").inner_text()
    other = plain.context.browser.new_context(base_url=hospital.console.address, java_script_enabled=False).new_page()  # type: ignore[union-attr]
    other.set_default_timeout(PATIENCE_MS)
    log_in(other, "newcomer", password)
    other.goto("/console/password")
    other.get_by_label("Current password").fill(password)
    other.get_by_label("New password, 15").fill(password[::-1])
    other.get_by_label("New password again").fill(password[::-1])
    send(other.get_by_role("button", name="Change the password"))
    log_in(other, "newcomer", password[::-1])
    assert other.get_by_text("reader", exact=True).is_visible()
    other.get_by_role("button", name="Log out").click()
    other.get_by_role("heading", name="Log in").wait_for()
    other.context.close()
    row.locator("summary", has_text="Remove").click()
    row.get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)


def modalities(archive: Orthanc, study: UID) -> list[str]:
    """Return the modality of each instance of a study in an archive."""
    return [
        json.loads(archive.call("GET", f"/instances/{identifier}/simplified-tags"))["Modality"]
        for identifier in archive.instances_of(study).values()
    ]


def followed(page: Page, name: str, locator: Locator) -> None:
    """Follow the link that loads the page again until the page shows something."""
    again = page.get_by_role("link", name=name)
    deadline = time.monotonic() + 120
    while not locator.count():
        assert time.monotonic() < deadline, page.locator("main").inner_text()
        again.or_(locator).first.wait_for()
        if again.count():
            again.click()


def reloaded(page: Page, locator: Locator) -> None:
    """Load a page again until it shows something."""
    deadline = time.monotonic() + 120
    while not locator.count():
        assert time.monotonic() < deadline, page.locator("main").inner_text()
        page.wait_for_timeout(200)
        page.reload()


@pytest.mark.parametrize(
    ("role", "forbidden"),
    [("viewer", ("/console/trials", "/console/persons")), ("operator", ("/console/persons",))],
)
def test_a_person_reaches_the_pages_of_the_role_and_no_others(
    hospital: Hospital, role: str, forbidden: tuple[str, ...]
) -> None:
    page = hospital.console.person(role)
    links = {link.get_attribute("href") for link in page.get_by_role("navigation").get_by_role("link").all()}
    for address in forbidden:
        answer = page.goto(address)
        assert answer
        assert answer.status == 403
        assert address not in links
        assert page.get_by_text(f"you are {role}").is_visible()
    page.context.close()


def sideways(page: Page) -> list[str]:
    """Return whether the page, and not a table in it, scrolls sideways."""
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    return [f"the page is {widths[0]} wide on a screen of {widths[1]}"] if widths[0] > widths[1] else []
