"""The console of a real node with studies of every model and a real Orthanc, as persons see it in Chromium."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pypdf import PdfReader
from support import Orthanc, free_port, installed, orthanc
from support.node import configured, running, shipped_routes

installed("playwright", "fastapi", "openvino", "torch", "keras", "monai")

from playwright.sync_api import Locator, Page, expect  # noqa: E402
from support import axe  # noqa: E402
from support.console import Console, add_persons, console, picture, web_tables  # noqa: E402

from ainode.node import testing  # noqa: E402
from ainode.node.archive.dimse import Link  # noqa: E402
from ainode.node.archive.store import Outgoing, send  # noqa: E402
from ainode.node.domain import UID  # noqa: E402
from ainode.node.reading import registry  # noqa: E402
from ainode.node.reading.weights import environment  # noqa: E402
from ainode.node.settings import Peer, load  # noqa: E402

PATIENT = "Synthetic"


@dataclass(frozen=True)
class Hospital:
    """A console, its archive, and the study of each model."""

    console: Console
    archive: Orthanc
    away: Peer
    """an archive that is switched off"""
    studies: dict[str, UID]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    port, tables = web_tables('patient = "full"\naddendum = "assessment"')
    away = Peer(name="away", ae_title="AWAY", host="127.0.0.1", port=free_port())
    routes = shipped_routes(*(name for name in registry.names() if name != "skin_lesion"))
    routes = routes.replace("DESTINATIONS", '["orthanc"]') + shipped_routes("skin_lesion")
    with orthanc(folder / "archive") as archive:
        peers = [archive.peer, away]
        more = f"{tables}\n\n[delivery]\nattempts = 1"
        node = configured(folder / "node", peers=peers, routes=routes, more=more)
        with running(node), console(node, port) as pages:
            add_persons(node)
            studies = {name: sent(name, pages, folder / "sent") for name in registry.names()}
            for study in studies.values():
                node.read(study, within_s=300)
            yield Hospital(pages, archive, away, studies)


def sent(name: str, pages: Console, folder: Path) -> UID:
    """Send the synthetic study of a model; return its Study Instance UID."""
    study = f"console of {name}"
    example = registry.handler(name, environment(load(pages.node.config))).demonstration(0)
    paths = testing.write(example.images, folder / name, study=study, positions_mm=example.positions_mm)
    assert not any(answer.error for answer in send(Link(pages.node.peer, "MODALITY"), map(Outgoing.of, paths)))
    return UID(testing.uid(study))


def addresses(hospital: Hospital) -> dict[str, str]:
    """Return the address of every page by a name for its picture."""
    study = hospital.studies["lung_nodule"]
    return {
        "worklist": "/console/",
        "study": f"/console/studies/{study}",
        "unread": "/console/unread",
        "routes": "/console/routes",
        "route-tester": "/console/routes/test",
        "route-change": "/console/routes/change",
        "explanation": f"/console/studies/{study}/explanation",
        "system": "/console/system",
        "failures": "/console/system/failures",
        "records": "/console/system/records",
        "configuration": "/console/system/configuration",
        "self-test": "/console/system/test",
        "models": "/console/models",
        "model": "/console/models/lung_nodule",
        "live": "/console/models/lung_nodule/live",
        "compare": "/console/compare",
        "answers": "/console/answers",
        "judgements": "/console/judgements",
        "try": "/console/trials",
        "persons": "/console/persons",
    }


@pytest.mark.parametrize("look", ["light", "dark", "phone-light", "phone-dark"])
def test_nobody_is_kept_from_any_page_by_its_look(hospital: Hospital, look: str) -> None:
    page = hospital.console.person("administrator", dark=look.endswith("dark"), phone=look.startswith("phone"))
    problems = {}
    for name, address in addresses(hospital).items():
        answer = page.goto(address)
        assert answer
        assert answer.status == 200, address
        picture(page, f"{name}-{look}")
        problems[name] = [*axe.problems(page), *sideways(page)]
    page.context.close()
    assert not any(problems.values()), problems


def test_every_page_can_be_used_at_twice_its_size(hospital: Hospital) -> None:
    page = hospital.console.person("administrator")
    page.set_viewport_size({"width": 640, "height": 450})
    for address in addresses(hospital).values():
        page.goto(address)
        assert not sideways(page), address
    page.context.close()


def test_the_viewer_on_a_study_page_shows_what_was_found_and_scrolls(hospital: Hospital) -> None:
    page = hospital.console.person("reader")
    page.goto(f"/console/studies/{hospital.studies['ct_pneumonia']}#images")
    viewer = page.locator(".viewer")
    status = viewer.locator("[data-part=status]")
    expect(status).to_contain_text("Slice", timeout=60_000)
    viewer.get_by_role("group", name="Places that were found").get_by_role("button").first.click()
    marked = status.inner_text()
    viewer.locator("[data-part=opacity]").fill("50")
    expect(viewer.locator("[data-part=message]")).to_be_hidden(timeout=60_000)
    viewer.scroll_into_view_if_needed()
    picture(page, "viewer-light", whole=False)
    viewer.locator(".viewer-stage").press("ArrowDown")
    expect(status).not_to_have_text(marked)
    page.context.close()


def test_what_a_reader_downloads_is_what_the_archive_has(hospital: Hospital, tmp_path: Path) -> None:
    study = hospital.studies["spine_radiograph"]
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
    page.get_by_text("Read once more, for a comparison").click()
    page.get_by_role("button", name="Read once more").click()
    page.get_by_text("byte for byte").wait_for(timeout=120_000)
    picture(page, "rereading-light")
    assert page.get_by_role("row").filter(has_text="Answer").count() == 1
    page.context.close()


def test_a_dropped_file_is_explained_and_nothing_of_it_stays(hospital: Hospital, tmp_path: Path) -> None:
    (path,) = testing.write([testing.noise(300, 300, seed=7, Modality="MR")], tmp_path, study="an MR")
    page = hospital.console.person("reader")
    page.goto("/console/routes/test")
    page.get_by_label("Files or ZIP archives").set_input_files(path)
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("No route takes this study").wait_for(timeout=60_000)
    assert page.get_by_text("Modality should be CR or DX but is MR").first.is_visible()
    picture(page, "route-tester-explained")
    assert testing.uid("an MR") not in {str(study) for study in hospital.console.node.catalog.unrouted()}
    assert not [*(hospital.console.node.folder / "data" / "trials").rglob("*.dcm")]
    page.context.close()


def test_a_self_test_shows_each_hop_to_the_confirmation_of_the_archive(hospital: Hospital) -> None:
    page = hospital.console.person("operator")
    page.goto("/console/system/test")
    page.get_by_label("a study made for spine-radiograph").check()
    page.get_by_role("button", name="Send the study").click()
    confirmed = page.get_by_role("row").filter(has_text=f"confirmed by {hospital.archive.peer.name}")
    confirmed.get_by_text("done").wait_for(timeout=120_000)
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
        lambda: sum("SR" in modality for modality in modalities(hospital.archive, study)) == reports + 1, within_s=60
    )
    reloaded(page, page.get_by_text("Addendum in orthanc").filter(has_text="confirmed"))
    picture(page, "judged-light")
    page.goto("/console/judgements")
    assert page.get_by_text("the-reader").first.is_visible()
    page.context.close()


def test_an_operator_finds_the_dead_letter_and_has_it_delivered(hospital: Hospital, tmp_path: Path) -> None:
    study = hospital.studies["skin_lesion"]
    page = hospital.console.person("operator")
    page.get_by_role("link", name="System").click()
    page.get_by_role("link", name="Dead letters").first.click()
    row = page.get_by_role("row").filter(has_text=study)
    picture(page, "dead-letter")
    with orthanc(tmp_path, port=hospital.away.port, DicomAet="AWAY") as archive:
        row.get_by_role("button", name="Try again").click()
        page.get_by_text("tried again").wait_for()
        hospital.console.node.read(study)
        assert len(archive.instances_of(study)) == len(hospital.archive.instances_of(study))
    page.goto("/console/system/failures")
    assert page.get_by_role("row").filter(has_text=study).count() == 0
    page.context.close()


def modalities(archive: Orthanc, study: UID) -> list[str]:
    """Return the modality of each instance of a study in an archive."""
    return [
        json.loads(archive.call("GET", f"/instances/{identifier}/simplified-tags"))["Modality"]
        for identifier in archive.instances_of(study).values()
    ]


def reloaded(page: Page, locator: Locator) -> None:
    """Load a page again until it shows something."""
    deadline = time.monotonic() + 60
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
