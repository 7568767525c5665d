"""The worklist as people use it in Chromium: live, by keyboard, on a phone, in the dark, without a script."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from support import installed

installed("playwright", "fastapi", "uvicorn", "jinja2")

from fastapi import Request  # noqa: E402
from playwright.sync_api import Browser, Page, expect  # noqa: E402
from support import axe  # noqa: E402
from support.console import launched, new_page  # noqa: E402
from support.web_bench import Bench  # noqa: E402

from ainode.node.console.entry.access import Role, Visit  # noqa: E402
from ainode.node.domain import UID, JobState  # noqa: E402
from ainode.node.keeping.records import Job  # noqa: E402

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def visit_of(_: Request) -> Visit:
    return Visit("ada", Role.OPERATOR, "token")


async def is_open(_: Visit) -> bool:
    return True


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("worklist"))
    bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
    yield bench
    bench.web.stop()
    bench.parts.rendering.stop()
    bench.engine.dispose()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


def opened(chromium: Browser, bench: Bench, *, phone: bool = False, dark: bool = False, scripts: bool = True) -> Page:
    page = new_page(chromium, bench.settings.web.port, phone=phone, dark=dark, scripts=scripts)
    page.goto("/console/")
    return page


def queue(bench: Bench, study: str, minute: int) -> str:
    at = NOW + timedelta(minutes=minute)
    identifier = f"{minute:032x}"
    assert bench.ledger.open(Job(identifier, UID(study), "spine", "spine_radiograph", {}, at, at, ("pacs",)))
    return identifier


def test_the_first_study_appears_by_itself_and_checks_and_focus_stay(chromium: Browser, bench: Bench) -> None:
    page = opened(chromium, bench)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    assert page.get_by_text("No study has arrived yet").is_visible()
    first = queue(bench, "1.2.1", 1)
    link = page.get_by_role("link", name="1.2.1", exact=True)
    link.wait_for()
    box = page.get_by_role("checkbox", name="Study 1.2.1, route spine")
    box.check()
    link.focus()
    bench.ledger.move(first, JobState.READING)
    expect(page.locator("tbody")).to_contain_text("being read")
    assert box.is_checked()
    expect(link).to_be_focused()
    page.get_by_label("State").select_option("failed")
    page.get_by_text("No study fits these filters").wait_for()
    expect(page).to_have_url(re.compile("state=failed"))
    bench.ledger.move(first, JobState.FAILED, reason="the reader ended")
    expect(page.locator("tbody")).to_contain_text("the reader ended")
    assert faults == []


@pytest.mark.parametrize("scripts", [True, False])
def test_readings_are_cancelled_and_a_row_is_opened_by_keyboard_alone(
    chromium: Browser, bench: Bench, *, scripts: bool
) -> None:
    job, study = queue(bench, f"1.3.{scripts:d}", 10 + scripts), f"1.3.{scripts:d}"
    page = opened(chromium, bench, scripts=scripts)
    page.get_by_role("checkbox", name=f"Study {study}, route spine").press("Space")
    page.get_by_text("Cancel readings …", exact=True).press("Enter")
    page.get_by_label("Reason").select_option("wrong patient or study")
    page.get_by_role("button", name="Cancel the readings that wait").press("Enter")
    page.get_by_text("Reading cancelled: wrong patient or study.").wait_for()
    assert bench.ledger.job(job).reason == "cancelled by ada: wrong patient or study"
    page.get_by_role("link", name=study, exact=True).press("Enter")
    page.wait_for_url(f"**/console/studies/{study}")


@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)])
def test_the_list_has_no_serious_problem_for_people_who_see_or_point_otherwise(
    chromium: Browser, bench: Bench, *, phone: bool, dark: bool
) -> None:
    queue(bench, f"1.4.{phone:d}", 20 + phone)
    page = opened(chromium, bench, phone=phone, dark=dark)
    if phone:
        page.get_by_text("Filters", exact=True).click()
        page.get_by_text("Checked rows", exact=True).click()
    page.get_by_role("checkbox").first.check()
    page.get_by_text("Cancel readings …", exact=True).click()
    assert axe.problems(page) == []
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0


@pytest.mark.parametrize("scripts", [True, False])
def test_the_first_screen_of_a_phone_has_the_whole_menu_and_the_first_studies(
    chromium: Browser, bench: Bench, *, scripts: bool
) -> None:
    studies = [f"1.5.{number}" for number in range(3)]
    for number, study in enumerate(studies):
        queue(bench, study, 40 + 4 * scripts + number)
    page = opened(chromium, bench, phone=True, scripts=scripts)
    for entry in page.get_by_role("navigation", name="Pages").get_by_role("link").all():
        expect(entry).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("row").filter(has_text=studies[-1])).to_be_in_viewport(ratio=1)
    expect(page.locator("select[name=route]")).to_be_hidden()
    page.get_by_text("Filters", exact=True).click()
    expect(page.locator("select[name=route]")).to_be_visible()
    page.goto("/console/?route=spine")
    expect(page.locator("select[name=route]")).to_have_value("spine")
    expect(page.locator("select[name=route]")).to_be_visible()


def test_a_wide_screen_shows_filters_and_actions_without_a_click(chromium: Browser, bench: Bench) -> None:
    page = opened(chromium, bench)
    expect(page.locator("select[name=route]")).to_be_visible()
    expect(page.get_by_role("button", name="Read next").first).to_be_visible()
    expect(page.get_by_text("Filters", exact=True)).to_be_hidden()


@pytest.mark.parametrize("scripts", [True, False])
def test_what_is_done_to_checked_rows_is_there_once_a_row_is_checked(
    chromium: Browser, bench: Bench, *, scripts: bool
) -> None:
    study = f"1.7.{int(scripts)}"
    queue(bench, study, 70 + scripts)
    page = opened(chromium, bench, scripts=scripts)
    button, hint = page.get_by_role("button", name="Read again"), page.get_by_text("Check rows to read them again")
    expect(hint).to_be_visible()
    expect(button).to_be_hidden()
    page.get_by_role("checkbox", name=f"Study {study}, route spine").check()
    expect(button).to_be_visible()
    expect(hint).to_be_hidden()


@pytest.mark.parametrize("phone", [False, True])
def test_fields_buttons_and_links_of_a_row_of_filters_stand_on_one_line(
    chromium: Browser, bench: Bench, *, phone: bool
) -> None:
    page = opened(chromium, bench, phone=phone)
    if phone:
        page.get_by_text("Filters", exact=True).click()
    for path in ("/console/", "/console/unread"):
        page.goto(path)
        fields = page.locator('form.filters[method="get"] :is(select, input:not([type="hidden"]), button, a)')
        boxes = [box for field in fields.all() if (box := field.bounding_box())]
        rows = {round(box["y"] + box["height"] / 2) for box in boxes}
        assert phone or len(rows) == 1, boxes
        assert all(abs(a - b) > 20 for a in rows for b in rows if a != b), boxes


def test_a_list_of_one_page_offers_no_other_page(chromium: Browser, bench: Bench) -> None:
    page = opened(chromium, bench)
    page.goto("/console/?study=1.2")
    further = page.get_by_role("navigation", name="Further entries")
    expect(further).to_be_visible()
    assert "Older" not in further.inner_text()


def test_a_folded_part_of_a_study_opens_by_its_link_without_a_script(chromium: Browser, bench: Bench) -> None:
    queue(bench, "1.6.1", 60)
    page = opened(chromium, bench, scripts=False)
    page.goto("/console/studies/1.6.1")
    expect(page.locator("#earlier")).to_be_hidden()
    page.get_by_role("link", name="Earlier readings").click()
    expect(page.locator("#earlier")).to_be_visible()
    expect(page.get_by_role("heading", name="Earlier readings")).to_be_in_viewport()
    page.goto("/console/worklist")
    page.goto("/console/studies/1.6.1#why")
    expect(page.locator("#why")).to_be_visible()
