"""The console on a phone: nothing is cut off, with the longest texts that DICOM and the node have."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import installed

installed("playwright", "fastapi", "jinja2", "highdicom")

from integration.console.conftest import CSRF, is_open  # noqa: E402
from playwright.sync_api import Page, expect  # noqa: E402
from support import cut_off  # noqa: E402
from support.answers import an_answer, put_answers  # noqa: E402
from support.broken_words import broken_words  # noqa: E402
from support.browser import PATIENCE_MS  # noqa: E402
from support.console import DESKTOP, PHONE, launched, picture  # noqa: E402
from support.tried import ANSWERED, REFUSED, SHOWN, try_files  # noqa: E402
from support.web_bench import Bench  # noqa: E402
from support.whole_console import FAILED, HANDLER, READ, UNMATCHED, whole_console  # noqa: E402

from ainode.node.console.entry.access import Role, Visit  # noqa: E402
from ainode.node.console.trials.owners import owner  # noqa: E402
from ainode.node.reading.reader import ReaderState  # noqa: E402
from ainode.node.routes import Route, RouteMode  # noqa: E402
from ainode.node.settings import ConsoleTable  # noqa: E402

TRIALS = tuple(f"/console/trials/{identifier}" for identifier in (ANSWERED, SHOWN, REFUSED))
FIRST = ("/console/", *(f"/console/studies/{study}" for study in (READ, FAILED, UNMATCHED)), *TRIALS)
LEAST = 28
"""pages: each kind, and some of which a page does not show everything"""
PERSON = Visit("somebody-with-a-long-name-administrator", Role.ADMINISTRATOR, CSRF)
ROUTES = '[[route]]\nname = "another"\nhandler = "spine_radiograph"\nmodality = ["CT"]\nbody_part = ["CHEST"]\n'


async def visit_of(_: object) -> Visit:
    return PERSON


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Return a page of an administrator, on a phone."""
    with whole_console(tmp_path_factory.mktemp("phone"), ConsoleTable(patient="full")) as bench, launched() as browser:
        bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
        try_files(bench, owner(PERSON))
        states = (ReaderState(HANDLER, f"study {READ}", 12.0, 900_000_000),)
        bench.parts.readers.states = lambda: states  # type: ignore[method-assign] - no study is read here
        context = browser.new_context(base_url=f"http://127.0.0.1:{bench.settings.web.port}", viewport=PHONE)
        context.set_default_timeout(PATIENCE_MS)
        yield context.new_page()


def each_kind(page: Page) -> Iterator[str]:
    """Open each kind of page that a page links to; yield its address."""
    pending, kinds = [*reversed(FIRST)], set(FIRST)
    while pending:
        address = pending.pop()
        answer = page.goto(address)
        assert answer
        assert answer.ok, address
        yield address
        for link in page.evaluate("[...document.querySelectorAll('a[href^=\"/console/\"]')].map((a) => a.pathname)"):
            kind = re.sub(
                r"/([0-9]+(\.[0-9]+)+|[0-9a-f]{32})(?=/|$)", "/ID", re.sub("/models/[^/]+", "/models/M", link)
            )
            if kind not in kinds and not re.search(r"\.[a-z]+$|/studies/ID$", kind):
                kinds.add(kind)
                pending.append(link)


def test_the_colors_that_are_offered_are_not_those_of_the_system(page: Page) -> None:
    for scheme, offered in (("dark", "Light colors"), ("light", "Dark colors")):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its words
        page.goto("/console/")
        assert page.locator("button[name=theme]:visible").all_inner_texts() == [offered]


def test_no_page_is_wider_than_the_screen_and_no_text_is_cut_off_or_broken_on_phone_and_desktop(page: Page) -> None:
    faults = {}
    for address in each_kind(page):
        faults[address] = cut_off.faults(page) + broken_words(page)
        picture(page, f"long-{len(faults):02}")
        page.set_viewport_size(DESKTOP)
        faults[address] += cut_off.faults(page) + broken_words(page)
        page.set_viewport_size(PHONE)
    assert not {address: found for address, found in faults.items() if found}
    assert len(faults) >= LEAST
    assert set(TRIALS) < set(faults)


def test_the_first_screens_of_a_study_have_the_verdict_and_its_pictures_and_a_tap_unfolds_the_rest(page: Page) -> None:
    page.goto(f"/console/studies/{READ}")
    tops = "(name) => document.querySelector(name).getBoundingClientRect().top"
    assert page.evaluate(tops, ".verdict") < PHONE["height"]
    assert page.evaluate(tops, ".captures img") < PHONE["height"]
    assert page.evaluate(tops, "#images") < 3 * PHONE["height"]
    assert page.evaluate("document.scrollingElement.scrollHeight") < 5 * PHONE["height"]
    picture(page, "study-folded")
    timeline = page.locator("#events-table")
    expect(timeline).to_be_hidden()
    expect(page.get_by_role("button", name="Accept the whole result", exact=True)).to_be_hidden()
    page.locator("summary", has_text="Timeline").click()
    expect(timeline).to_be_visible()
    page.goto(f"/console/studies/{READ}?image=#series")  # as a link of the list of parts does
    expect(page.locator("#series-table")).to_be_visible()
    page.set_viewport_size(DESKTOP)
    page.goto(f"/console/studies/{READ}")
    expect(timeline).to_be_visible()
    expect(page.get_by_role("button", name="Accept the whole result", exact=True)).to_be_visible()
    page.set_viewport_size(PHONE)


def test_of_a_study_that_nothing_was_read_of_the_reason_stands_before_its_images(page: Page) -> None:
    page.goto(f"/console/studies/{UNMATCHED}")
    expect(page.locator("#why")).to_be_visible()
    expect(page.locator("#images")).to_be_visible()
    top = "(name) => document.querySelector(name).getBoundingClientRect().top"
    assert page.evaluate(top, "#why") < page.evaluate(top, "#images")
    assert page.locator("#why").count() == 1


def test_the_page_of_the_interface_for_programs_fits_a_phone_and_its_style_is_allowed(page: Page) -> None:
    page.goto("/docs")
    picture(page, "long-docs")
    assert not cut_off.faults(page)
    assert page.locator("pre").first.evaluate("(code) => getComputedStyle(code).whiteSpace") == "pre-wrap"
    page.goto("/console/")


def test_what_a_changed_file_of_routes_would_change_fits_a_phone(page: Page) -> None:
    page.goto("/console/routes/change")
    page.get_by_label("or its text").fill(ROUTES)
    page.get_by_role("button", name="Check and compare").click()
    expect(page.get_by_role("row").filter(has_text="spine-of-every-department")).to_be_visible(timeout=60_000)
    picture(page, "long-routes-compared")
    assert not cut_off.faults(page)


def test_the_table_of_a_comparison_says_on_a_phone_alone_that_it_goes_on_at_the_side(
    tmp_path: Path, page: Page
) -> None:
    routes = (Route("skin", "skin_lesion"), Route("next", "skin_lesion", mode=RouteMode.SHADOW))
    bench = Bench(tmp_path / "node", routes=routes)
    bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
    now = datetime.now(UTC)
    answers = [an_answer(number, now, 0.9, study_instance_uid="1.2.3") for number in (1, 2)]
    put_answers(bench.engine, [answers[0], {**answers[1], "route": "next"}])
    browser = page.context.browser
    assert browser
    with browser.new_context(base_url=f"http://127.0.0.1:{bench.settings.web.port}", viewport=PHONE) as context:
        visitor = context.new_page()
        visitor.goto("/console/compare?first=skin&second=next")
        table, hint = visitor.locator(".scroll:has(> .matrix)"), visitor.get_by_text("Swipe the table")
        is_wider = "(box) => box.scrollWidth > box.clientWidth"
        for size, goes_on in ((PHONE, True), (DESKTOP, False)):
            visitor.set_viewport_size(size)
            assert table.evaluate(is_wider) is goes_on
            assert hint.is_visible() is goes_on
    bench.web.stop()
    bench.engine.dispose()


def test_the_uid_of_a_study_that_is_read_pushes_no_column_out_of_the_page(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto("/console/system")
    expect(page.locator("#readers")).to_contain_text(f"study …{READ[-8:]}")
    assert page.locator("#readers").evaluate("(box) => box.scrollWidth <= box.clientWidth")
    page.set_viewport_size(PHONE)


def test_a_button_that_takes_something_away_differs_by_more_than_its_color(page: Page) -> None:
    page.goto("/console/persons")
    mark = "(button) => [getComputedStyle(button, '::before').content, getComputedStyle(button).borderWidth]"
    removal = page.locator("summary", has_text="Remove").first.evaluate(mark)
    password = page.locator("summary", has_text="New password").first.evaluate(mark)
    assert "✕" in removal[0]
    assert password[0] == "none"
    assert removal[1] != password[1]


def test_all_dead_letters_are_tried_again_on_a_phone_and_the_next_visit_asks_anew(page: Page) -> None:
    page.goto("/console/system/failures")
    page.locator("summary", has_text="Read and deliver all again").click()
    picture(page, "long-failures-question")
    page.get_by_role("button", name="Read and deliver all again").click()
    expect(page.get_by_text("2 jobs are tried again")).to_be_visible()
    picture(page, "long-failures-tried")
    assert not cut_off.faults(page)
    page.get_by_role("link", name="Dead letters").click()
    expect(page.get_by_text("being read or delivered again")).to_be_visible()
    expect(page.get_by_text("jobs are tried again")).to_have_count(0)
