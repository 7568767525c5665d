"""Logins and persons as people do them in Chromium: by keyboard, on a phone, in the dark, without a script."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from support import installed

installed("playwright", "fastapi", "uvicorn", "jinja2", "argon2")

from playwright.sync_api import Browser, Page, expect  # noqa: E402
from support import axe  # noqa: E402
from support.console import PASSWORD, launched, new_page  # noqa: E402
from support.web_bench import Bench  # noqa: E402

from ainode.node.keeping.people import People, Role  # noqa: E402

PAGES = ("/console/persons", "/console/password")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("people"))
    yield bench
    bench.web.stop()
    bench.parts.rendering.stop()
    bench.engine.dispose()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


def opened(chromium: Browser, bench: Bench, *, phone: bool = False, dark: bool = False, scripts: bool = True) -> Page:
    return new_page(chromium, bench.settings.web.port, phone=phone, dark=dark, scripts=scripts)


def test_a_first_visit_says_how_the_first_person_is_made(chromium: Browser, bench: Bench) -> None:
    page = opened(chromium, bench)
    page.goto("/")
    assert page.get_by_text("ainode user add NAME --role administrator").is_visible()
    assert axe.problems(page) == []


@pytest.fixture
def persons(bench: Bench) -> None:
    people = People(bench.engine)
    if people.are_none():
        for role in Role:
            people.add(f"the-{role.word}", role, PASSWORD, datetime.now(UTC))


@pytest.mark.usefixtures("persons")
def test_a_person_logs_in_adds_another_and_logs_out_by_keyboard_alone(chromium: Browser, bench: Bench) -> None:
    page = opened(chromium, bench)
    page.goto("/console/persons")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("the-administrator")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Password")).to_be_focused()
    page.keyboard.type(PASSWORD)
    expect(page.get_by_label("Password")).to_have_value(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/persons")
    page.get_by_label("Name", exact=True).press_sequentially("Newcomer")
    page.keyboard.press("Tab")
    role = page.get_by_label("Role", exact=True)
    expect(role).to_be_focused()
    page.keyboard.type("reader")
    expect(role).to_have_value("reader")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Add")).to_be_focused()
    page.keyboard.press("Enter")
    notice = page.get_by_role("status").filter(has_text="newcomer")
    password = notice.locator("code").inner_text()
    page.get_by_role("button", name="Log out").press("Enter")
    page.wait_for_url("**/login")
    page.get_by_label("Name").fill("newcomer")
    page.get_by_label("Password").fill(password)
    page.get_by_label("Password").press("Enter")
    page.wait_for_url("**/console/")
    assert page.get_by_role("link", name="Persons").count() == 0
    page.goto("/console/persons")
    assert page.get_by_text(re.compile("needs the role administrator; you are reader")).is_visible()


@pytest.mark.usefixtures("persons")
@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)])
def test_no_page_about_persons_keeps_anybody_out(chromium: Browser, bench: Bench, *, phone: bool, dark: bool) -> None:
    page = opened(chromium, bench, phone=phone, dark=dark)
    page.goto("/console/login")
    assert axe.problems(page) == []
    page.get_by_label("Name").fill("the-administrator")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Log in").click()
    assert page.get_by_role("alert").inner_text() == "Name or password is wrong."
    assert axe.problems(page) == []
    page.get_by_label("Name").fill("the-administrator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/console/")
    for address in PAGES:
        page.goto(address)
        assert axe.problems(page) == []
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= page.viewport_size["width"]  # type: ignore[index]


@pytest.mark.usefixtures("persons")
def test_without_a_script_a_person_is_removed_after_a_question(chromium: Browser, bench: Bench) -> None:
    People(bench.engine).add("leaver", Role.VIEWER, PASSWORD, datetime.now(UTC))
    page = opened(chromium, bench, scripts=False)
    page.goto("/console/persons")
    page.get_by_label("Name").fill("the-administrator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    row = page.get_by_role("row").filter(has_text="leaver")
    row.locator("summary", has_text="Remove").click()
    assert row.get_by_text("Remove leaver?").is_visible()
    row.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("row").filter(has_text="leaver")).to_have_count(0)
    assert People(bench.engine).person("leaver") is None
