"""What the slice viewer loads of a study in the spool, and what it gets when the images are gone."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conformance.made import CONTEXT, a_result, source, sources_of
from integration.console.conftest import Browser
from pydicom import dcmread
from support import instance_ref
from support.web_bench import Bench

from ainode.node import reports
from ainode.node.console.pages import STATIC
from ainode.node.domain import UID, JobState, Result
from ainode.node.keeping.catalog import StoredInstance
from ainode.node.keeping.records import Job, KeptDocument, Outcome
from ainode.node.keeping.saliency import FILE_NAME, saliency_file

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@dataclass
class ReadSeries:
    """A radiograph in the spool, and what a job found on it."""

    path: Path
    result: Result

    @property
    def address(self) -> str:
        ref = instance_ref(self.path)
        return f"/console/studies/{ref.study_instance_uid}/series/{ref.series_instance_uid}"

    @property
    def image(self) -> str:
        return f"{instance_ref(self.path).sop_instance_uid}/0"


@pytest.fixture(scope="module")
def read(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> ReadSeries:
    path = source(tmp_path_factory.mktemp("viewed"))
    ref = instance_ref(path)
    bench.catalog.index([StoredInstance(ref, UID("1.2.840.10008.1.2.1"), "ff", 1, path, "MODALITY", NOW)])
    result = a_result(path, boxes=2)
    *_, report = reports.documents(result, sources_of(path), CONTEXT)
    folder = bench.settings.data / "documents" / "viewed"
    folder.mkdir(parents=True)
    (folder / "report.dcm").write_bytes(report.content)
    (folder / FILE_NAME).write_bytes(saliency_file(result.captures))
    job = Job("viewed", ref.study_instance_uid, "spine", "spine_radiograph", {ref.sop_instance_uid: "ff"}, NOW, NOW, ())
    assert bench.ledger.open(job)
    bench.ledger.move("viewed", JobState.READING)
    kept = KeptDocument("viewed", report.ref, report.kind, folder / "report.dcm", "ff")
    assert bench.ledger.report(job, [kept], Outcome(JobState.REPORTED, "{}", "", 1.0))
    return ReadSeries(path, result)


def test_the_regions_are_those_of_the_report_and_the_saliency_that_of_the_reading(
    viewer: Browser, read: ReadSeries
) -> None:
    series = viewer.get(f"{read.address}/series.json?job=viewed").json()
    assert [f"{item['uid']}/{item['frame']}" for item in series["slices"]] == [read.image]
    overlays = viewer.get(f"{read.address}/overlays.json{series['query']}").json()
    expected = [[list(point) for point in finding.region.points] for finding in read.result.findings if finding.region]
    assert [region["points"] for region in overlays["regions"]] == expected
    assert [region["label"] for region in overlays["regions"]] == ["box 1 0.89", "box 2 0.88"]
    (entry,) = overlays["saliency"]
    (capture,) = read.result.captures
    assert capture.saliency
    assert (entry["rows"], entry["columns"], entry["title"]) == (9, 7, "Spine radiograph")
    answer = viewer.get(f"{read.address}/{entry['address']}{series['query']}")
    assert answer.content == capture.saliency.values
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_viewer_is_the_only_script_of_our_own_and_below_600_lines() -> None:
    (script,) = STATIC.glob("*.js")
    assert len(script.read_text(encoding="utf-8").splitlines()) < 600


def test_another_job_draws_nothing_of_this_one(viewer: Browser, read: ReadSeries) -> None:
    answer = viewer.get(f"{read.address}/overlays.json?job=another").json()
    assert (answer["regions"], answer["saliency"]) == ([], [])


def test_slices_and_thumbnails_are_pictures_of_the_image(viewer: Browser, read: ReadSeries) -> None:
    content = viewer.get(f"{read.address}/slices/{read.image}").content
    assert content[-2:] == dcmread(read.path).pixel_array.astype("<u2").tobytes()[-2:]
    assert viewer.get(f"{read.address}/thumbnails/{read.image}").content.startswith(b"\xff\xd8")


@pytest.mark.parametrize("path", ["slices/1.2.3/0", "thumbnails/1.2.3/0", "saliency/0/7", "saliency/9/0"])
def test_what_is_not_there_is_refused_with_a_reason(viewer: Browser, read: ReadSeries, path: str) -> None:
    answer = viewer.get(f"{read.address}/{path}")
    assert answer.status_code == 404


def test_a_frame_beyond_the_last_is_refused_with_a_reason(viewer: Browser, read: ReadSeries) -> None:
    uid = read.image.partition("/")[0]
    answer = viewer.get(f"{read.address}/slices/{uid}/5")
    assert answer.status_code == 422
    assert uid in answer.json()["reason"]


def test_a_removed_series_leads_to_the_archive(viewer: Browser) -> None:
    answer = viewer.get("/console/studies/1.2.3/series/1.2.3.4/series.json")
    assert (answer.status_code, answer.json()["reason"]) == (
        404,
        "the images are no longer on this node; the archive has them",
    )


def test_nobody_sees_a_picture_without_a_login(nobody: Browser, read: ReadSeries) -> None:
    for path in ("series.json", "overlays.json", f"slices/{read.image}", f"thumbnails/{read.image}", "saliency/0/0"):
        assert nobody.get(f"{read.address}/{path}").status_code == 303
