"""Questions of every day, on a node with 200 studies of which 60 are judged: each is answered in three clicks."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

import pytest
import sqlalchemy as sa
from support import installed, program

installed("playwright", "fastapi", "jinja2")

from integration.console.conftest import visit_of  # noqa: E402
from playwright.sync_api import Locator, Page, expect, sync_playwright  # noqa: E402
from support.browser import PATIENCE_MS  # noqa: E402
from support.web_bench import Bench  # noqa: E402

from ainode.node.bench.full_catalog import ROUTES, fill, study_of  # noqa: E402
from ainode.node.domain import Judgement, Opinion  # noqa: E402
from ainode.node.keeping.judgements import Judgements  # noqa: E402
from ainode.node.keeping.schema import jobs  # noqa: E402

STUDIES, JUDGED = 200, 60
DOUBTED = ROUTES[2]
"""the route whose answers persons reject most"""
UNMATCHED = study_of(8)
"""no route took this study"""


class Person:
    """Somebody at the worklist, whose clicks are counted."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0

    def click(self, locator: Locator) -> None:
        locator.click()
        self.clicks += 1

    def search(self, text: str) -> None:
        """Type a text into the search, and press Enter."""
        self.page.get_by_role("searchbox").fill(text)
        self.page.get_by_role("searchbox").press("Enter")
        self.clicks += 1


def judge(bench: Bench, now: datetime) -> None:
    """Accept the newest answers, but reject two of three of one route."""
    query = sa.select(jobs.c.id, jobs.c.route).where(jobs.c.state == "reported").order_by(jobs.c.queued_at.desc())
    with bench.engine.connect() as connection:
        rows = [*islice(connection.execute(query), JUDGED)]
    for number, row in enumerate(rows):
        is_rejected = row.route == DOUBTED and number % 9 > 2
        opinion, reason = (Opinion.REJECT, "other") if is_rejected else (Opinion.ACCEPT, "")
        judgement = Judgement(row.id, "", opinion, "the reader", reason=reason)
        Judgements(bench.engine).keep(judgement, now, statement="fracture", presence="present", has_addendum=False)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    bench = Bench(tmp_path_factory.mktemp("clicks"))
    bench.pages.state.visit_of = visit_of
    now = datetime.now(UTC)
    fill(bench.engine, STUDIES, now)
    judge(bench, now)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        address = f"http://127.0.0.1:{bench.settings.web.port}"
        context = browser.new_context(base_url=address, extra_http_headers={"X-Role": "READER"})
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()
    bench.web.stop()
    bench.engine.dispose()


@pytest.fixture
def person(page: Page) -> Person:
    page.goto("/console/")
    return Person(page)


def test_why_was_this_study_not_read(person: Person) -> None:
    person.click(person.page.get_by_role("link", name="Not read"))
    row = person.page.get_by_role("row").filter(has_text=UNMATCHED)
    expect(row.get_by_text("takes Modality DX or CR, and this is MR")).to_be_visible()
    assert person.clicks <= 3


def test_where_is_that_report(person: Person) -> None:
    study = study_of(150)
    person.search(study)
    row = person.page.get_by_role("row").filter(has_text=study)
    row.wait_for()
    assert "in archive, confirmed" in " ".join(row.inner_text().split())
    assert person.clicks <= 3


def test_which_model_was_right_least_often_this_month(person: Person) -> None:
    person.click(person.page.get_by_role("link", name="Judgements"))
    agreement = person.page.get_by_role("region").filter(has_text="Agreement by model").get_by_role("row")
    assert DOUBTED in agreement.nth(1).inner_text()
    assert person.clicks <= 3
