"""What holds for every page."""

import html

import pytest
from integration.console.conftest import Browser
from support.web_bench import Bench

from ainode.node.console.pages import sentence
from ainode.node.logs import _Formatter


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
    for path in ("..%2fpages.py", "%2e%2e/pages.py", "vendor", "absent.js", "x" * 5_000):
        assert nobody.get(f"/console/static/{path}").status_code == 404
    assert nobody.get("/console/static/%00").status_code == 400


def test_no_file_outside_the_pages_is_served_by_its_whole_path(nobody: Browser, bench: Bench) -> None:
    for path in ("/etc/passwd", f"{bench.folder}/catalog.sqlite"):
        for address in (path, path.replace("/", "%2f"), f"/{path}", f".{path}", f"vendor{path}", f"//{path}"):
            answer = nobody.get(f"/console/static/{address}")
            assert (answer.status_code, "root:" in answer.text, "SQLite" in answer.text) == (404, False, False), address


def test_a_page_that_does_not_exist_says_so_as_a_page(viewer: Browser) -> None:
    answer = viewer.get("/console/absent")
    assert answer.status_code == 404
    assert "There is no such page" in answer.text


def test_an_address_of_the_page_before_that_is_none_is_left_out(reader: Browser) -> None:
    answer = reader.post("/console/trials/x/read", {"csrf": "wrong"}, headers={"Referer": "http://["})
    assert answer.status_code in {403, 404}
    assert "Back to the page before" not in answer.text


def test_the_refusal_of_a_page_is_a_sentence_that_says_who_gives_the_role(viewer: Browser, reader: Browser) -> None:
    page = html.unescape(viewer.get("/console/trials").text)
    assert "<p>This needs the role reader; you are viewer. An administrator of this node gives roles, on the " in page
    assert "page Persons or by `ainode user role`.</p>" in page
    part = html.unescape(reader.post("/console/worklist/absent", headers={"HX-Request": "true"}).text)
    assert ": This needs the role operator; you are reader." in part


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "/console/studies/1.2.3",
            "Study 1.2.3: nobody sent or announced the study here; send it, or look at the UID.",
        ),
        ("/console/answers?since=never", "&#39;never&#39; is no date; give one such as 2026-03-31."),
    ],
)
def test_an_error_on_a_page_is_a_sentence_that_says_what_to_do(viewer: Browser, path: str, words: str) -> None:
    assert f"<p>{words}</p>" in viewer.get(path).text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the node stops", "The node stops."),
        ("study 1.2: is gone; send it again", "Study 1.2: is gone; send it again."),
        ("routes.toml: is not TOML", "routes.toml: is not TOML."),
        ("Given already.", "Given already."),
        ("", ""),
    ],
)
def test_the_words_of_an_error_become_a_sentence_and_the_name_of_a_file_stays(text: str, words: str) -> None:
    assert sentence(text) == words


def test_the_address_of_the_node_leads_to_the_console(nobody: Browser) -> None:
    assert nobody.get("/").headers["Location"] == "/console/"


def test_an_error_of_a_part_of_a_page_is_told_at_the_top_of_the_page_that_is_open(viewer: Browser) -> None:
    answer = viewer.get("/console/absent", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Retarget"]) == (404, "#problem")
    assert "There is no such page" in answer.text
    assert "<html" not in answer.text
    assert 'id="problem"' in viewer.get("/console/").text


def test_a_page_that_fails_names_itself_and_the_place_in_the_log_and_says_when_and_where_to_look(
    bench: Bench, viewer: Browser, operator: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str) -> None:
        message = f"the value {name}"
        raise LookupError(message)

    bench.pages.add_api_route("/failing/{name}", fail)
    answer = operator.get("/console/failing/SECRET^NAME?text=SECRET^NAME")
    (record,) = [record for record in caplog.records if getattr(record, "action", "") == "page_failed"]
    line = _Formatter("%(levelname)s %(message)s").format(record)
    assert line.startswith("ERROR a page failed action=page_failed path=/console/failing/{name} LookupError (")
    assert "console/test_pages.py:" in line
    assert "SECRET" not in line
    assert answer.status_code == 500
    assert '<time datetime="' in answer.text
    assert 'href="/console/system/records?about=page_failed"' in answer.text
    assert "an operator finds it" in viewer.get("/console/failing/x", headers={"HX-Request": "true"}).text
