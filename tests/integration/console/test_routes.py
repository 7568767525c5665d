"""The pages about routes: the table, a file dropped on the routes, a changed routes.toml."""

import html
import io
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from integration.console.conftest import CSRF, Browser, is_open, visit_of
from requests import Response
from support import installed
from support.web_bench import Bench

from ainode.node import testing
from ainode.node.console.entry.access import Role
from ainode.node.diagnosis.checks import route_lines
from ainode.node.routes import Route

CHANGED = """
[[route]]
name = "spine"
handler = "spine_radiograph"
modality = ["DX"]
body_part = ["SPINE"]
tags = { Rows = ">=256" }

[[route]]
name = "hand"
handler = "spine_radiograph"
modality = ["DX"]
"""


def image(number: int = 1, **header: str | int) -> bytes:
    dataset = testing.dataset(testing.noise(8, 8, seed=number, **header), study="study", number=number)
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def dropped(browser: Browser, *files: tuple[str, bytes], path: str = "/console/routes/test", **fields: str) -> Response:
    """Send files as a browser sends a form."""
    form = {"csrf": (None, CSRF)} | {name: (None, value) for name, value in fields.items()}
    return browser._call("POST", path, files=[*form.items(), *(("files", file) for file in files)])


def test_the_table_says_of_each_route_what_it_asks_and_where_documents_go(viewer: Browser) -> None:
    page = viewer.get("/console/routes").text
    for words in ("spine", "Modality DX", "body part SPINE", "spine_radiograph", "nowhere: they stay in the node"):
        assert words in page


def test_a_dropped_file_is_explained_condition_by_condition_and_nothing_of_it_is_kept(
    reader: Browser, bench: Bench
) -> None:
    page = dropped(reader, ("Müller^Ursula.dcm", image(BodyPartExamined="HAND"))).text
    assert "No route takes this study" in page
    assert "takes BodyPartExamined SPINE, and this is HAND (BodyPartExamined: HAND)" in page
    assert bench.catalog.studies() == frozenset()
    assert list((bench.folder / "trials").iterdir()) == []


def test_a_zip_archive_and_what_is_no_dicom_in_it_are_named_as_the_caller_names_them(reader: Browser) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.dcm", image(1, BodyPartExamined="TSPINE"))
        file.writestr("notes.dcm", b"some words " * 100)
    page = dropped(reader, ("study.zip", archive.getvalue()), ("<b>.txt", b"words")).text
    assert "spine_radiograph</strong> " in page
    assert "study.zip/000001" in page
    assert "&lt;b&gt;.txt" in page
    assert "/trials/" not in page


def test_a_form_without_a_file_and_a_damaged_archive_are_told_in_words(reader: Browser) -> None:
    assert "Choose or drop a file first." in dropped(reader).text
    content = b"PK\x03\x04" + bytes(100)
    assert "ZIP archive is damaged" in dropped(reader, ("a.zip", content)).text
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(80 << 20))
    assert "unpacks to more than" in dropped(reader, ("a.zip", bomb.getvalue())).text


def test_a_form_of_another_site_is_refused_and_leaves_nothing(reader: Browser, bench: Bench) -> None:
    answer = reader._call("POST", "/console/routes/test", files={"files": ("a.dcm", image()), "csrf": (None, "guess")})
    assert answer.status_code == 403
    assert list((bench.folder / "trials").iterdir()) == []


def test_a_viewer_drops_no_file_and_an_operator_checks_no_routes(viewer: Browser, operator: Browser) -> None:
    assert viewer.get("/console/routes/test").status_code == 403
    assert dropped(viewer, ("a.dcm", image())).status_code == 403
    assert operator.get("/console/routes/change").status_code == 403


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[route", "routes.toml: is not TOML"),
        ('[[route]]\nname = "a"\nhandler = "absent"', "no handler"),
        ('[[route]]\nname = "a"\nhandler = "spine_radiograph"\nbody_part = ["ELBOWS"]', "ELBOWS"),
        ('[[route]]\nname = "a"\nhandler = "spine_radiograph"\nmodalities = ["CT"]', "modality"),
    ],
)
def test_a_routes_toml_with_a_mistake_is_refused_as_the_start_would(
    administrator: Browser, text: str, words: str
) -> None:
    page = dropped(administrator, path="/console/routes/change", text=text).text
    assert "The file cannot be taken" in page
    assert words in page
    assert "/trials/" not in page


def test_the_comparison_names_the_studies_that_a_changed_file_reads_otherwise(
    administrator: Browser, bench: Bench
) -> None:
    token = bench.tokens.add("modality")
    bench.store(token, image(BodyPartExamined="TSPINE"))
    bench.take()
    assert len(bench.catalog.studies()) == 1
    page = dropped(administrator, path="/console/routes/change", text=CHANGED).text
    assert "Compared: 1 of the last 1 study" in page
    assert "hand is new" in page
    assert "spine has another tags" in page
    assert "spine: no, it takes Rows &gt;=256, and this is 8" in page
    assert bench.settings.routes[0].name == "spine"


def test_the_newest_studies_are_compared_until_the_time_is_over(bench: Bench, tmp_path: Path) -> None:
    from ainode.node.console.assistant.changed_routes import compared

    path = tmp_path / "routes.toml"
    path.write_text(CHANGED)
    assert compared(bench.settings, path, study_count=200, limit_s=-1.0)["compared"] == 0


def test_a_route_whose_documents_are_withheld_is_called_shadow_as_by_check_and_never_live(tmp_path: Path) -> None:
    installed("openvino", "timm")
    asking = Route(name="spine", handler="spine_radiograph", modality=("DX",), destinations=("pacs",))
    allowing = replace(asking, name="allowing", allow_demonstration=True)
    bench = Bench(tmp_path, routes=(asking, allowing))
    try:
        bench.pages.state.visit_of, bench.pages.state.is_open = visit_of, is_open
        viewer = Browser(bench, Role.VIEWER)
        unasked, allowed = rows_of(viewer)
        assert '"badge warn">live or shadow<' in unasked
        assert "press Check the routes now" in unasked
        assert '"badge plain">live<' in allowed
        viewer.get("/console/routes/ready")
        withheld, allowed = rows_of(viewer)
        (_, state, reason), _ = route_lines(bench.settings)
        assert state == "shadow"
        assert f'"badge warn">{state}<' in withheld
        assert reason in html.unescape(withheld)
        unfolded = html.unescape(re.sub("</summary>.*?</details>", "", withheld, flags=re.DOTALL))
        assert "not ready for patients: the weights " in unfolded
        assert "allow_demonstration" not in unfolded
        assert "nowhere: they stay in the node" in withheld
        assert '"badge plain">live<' in allowed
    finally:
        bench.web.stop()
        bench.parts.stop()
        bench.engine.dispose()


def rows_of(viewer: Browser) -> list[str]:
    """Return the row of each route."""
    return viewer.get("/console/routes").text.split("<tbody>")[1].split("</tr>")[:-1]
