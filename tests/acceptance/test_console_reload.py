"""A real node takes up its files from the browser: the page is there again afterwards, and says what changed."""

from pathlib import Path

from support import installed
from support.node import SPINE, configured, running

installed("playwright", "fastapi")

from support.console import add_persons, console, web_tables  # noqa: E402

ROUTES = SPINE.replace("DESTINATIONS", "[]")


def test_the_page_outlives_the_program_and_says_what_changed_or_why_nothing_did(tmp_path: Path) -> None:
    port, tables = web_tables()
    node = configured(tmp_path / "node", routes=ROUTES, more=tables)
    with running(node), console(node, port) as pages:
        add_persons(node)
        page = pages.person("administrator")
        page.goto("/console/system/reload")
        routes = node.folder / "routes.toml"
        routes.write_text("[[route]\n")
        page.get_by_role("button", name="Take up the files").click()
        page.get_by_text("Refused, and nothing was changed").wait_for()
        assert "routes.toml: is not TOML" in page.inner_text("#reload")
        routes.write_text(ROUTES + ROUTES.replace('"spine"', '"other"'))
        page.get_by_role("button", name="Take up the files").click()
        page.get_by_text("[[route]] other: new").wait_for()
        assert node.log.read_text().count("action=ready") == 2
        page.goto("/console/routes")
        assert page.get_by_role("row").filter(has_text="other").count() == 1
        page.context.close()
