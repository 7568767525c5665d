"""What holds for every page."""

from integration.console.conftest import Browser


def test_nobody_who_is_not_logged_in_sees_a_page(nobody: Browser) -> None:
    answer = nobody.get("/console/?state=failed")
    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        "/console/login?next=%2Fconsole%2F%3Fstate%3Dfailed",
    )


def test_a_page_runs_nothing_but_the_scripts_of_the_node(viewer: Browser) -> None:
    answer = viewer.get("/console/")
    policy = answer.headers["Content-Security-Policy"]
    assert answer.status_code == 200
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert "style=" not in answer.text
    assert "<script>" not in answer.text


def test_the_first_page_with_everything_it_loads_is_below_100_kilobytes(viewer: Browser) -> None:
    import re

    page = viewer.get("/console/").text
    addresses = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page)
    assert len(addresses) == 4
    assert len(page) + sum(len(viewer.get(address).content) for address in addresses) < 100_000


def test_a_static_file_stays_in_the_browser_and_no_other_file_is_served(nobody: Browser) -> None:
    assert "immutable" in nobody.get("/console/static/style.css").headers["Cache-Control"]
    for path in ("..%2fpages.py", "%2e%2e/pages.py", "vendor", "absent.js", "%00"):
        assert nobody.get(f"/console/static/{path}").status_code == 404


def test_a_page_that_does_not_exist_says_so_as_a_page(viewer: Browser) -> None:
    answer = viewer.get("/console/absent")
    assert answer.status_code == 404
    assert "Not Found" in answer.text


def test_the_address_of_the_node_leads_to_the_console(nobody: Browser) -> None:
    assert nobody.get("/").headers["Location"] == "/console/"


def test_an_error_of_a_part_of_a_page_is_told_at_the_top_of_the_page_that_is_open(viewer: Browser) -> None:
    answer = viewer.get("/console/absent", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Retarget"]) == (404, "#problem")
    assert "Not Found" in answer.text
    assert "<html" not in answer.text
    assert 'id="problem"' in viewer.get("/console/").text
