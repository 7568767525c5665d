"""Candidates of a search: when a search is made, what is said of them, and what never is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support import installed

installed("torch", "timm", "openvino", "safetensors")

from conformance.made import CONTEXT  # noqa: E402  # after the packages were seen to be here
from conformance.test_ct_documents import a_slice  # noqa: E402
from conformance.test_outlines import outlined as outlined_result  # noqa: E402
from support import instance_ref  # noqa: E402

from ainode.handlers.lung_nodule import LungNodule, build  # noqa: E402
from ainode.handlers.lung_nodule.answering import Answering  # noqa: E402
from ainode.handlers.lung_nodule.findings import Origin  # noqa: E402
from ainode.handlers.lung_nodule.searching import Search, is_evaluated, no_candidate  # noqa: E402
from ainode.models.following import Omission  # noqa: E402
from ainode.models.lung_nodule.card import read_card  # noqa: E402
from ainode.models.nodule_reading.weights import DETECTION  # noqa: E402
from ainode.node import reports, testing  # noqa: E402
from ainode.node.domain import OWN_REPORT, OWN_SEARCH, OutOfScope, Presence, Selection, Study  # noqa: E402
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.imaging.geometry import Stack, stack  # noqa: E402
from ainode.node.imaging.positions import pointed_locations  # noqa: E402
from ainode.node.reading.weights import ModelEnvironment, WeightStore  # noqa: E402


@pytest.fixture
def handler(tmp_path: Path) -> LungNodule:
    return build(ModelEnvironment(WeightStore(tmp_path / "site"), tmp_path / "cache"))


def a_study(handler: LungNodule, folder: Path, *, point: bool) -> Study:
    made = handler.demonstration(3)
    paths = testing.write(made.images, folder, study="study", positions_mm=made.positions_mm if point else ())
    return headers.study(headers.instance(path, sha256="") for path in paths)


def test_a_search_is_made_only_where_the_route_asks_and_nobody_pointed(handler: LungNodule, tmp_path: Path) -> None:
    unmarked, marked = (a_study(handler, tmp_path / str(point), point=point) for point in (False, True))
    assert isinstance(handler.select(unmarked), OutOfScope)
    searching, pointed = (handler.select(replace(study, wanted_candidates=3)) for study in (unmarked, marked))
    assert isinstance(searching, Selection)
    assert isinstance(pointed, Selection)
    assert (searching.wanted_candidates, searching.locations) == (3, ())
    assert (pointed.wanted_candidates, len(pointed.locations)) == (0, 1)


def test_without_weights_of_the_search_the_answer_names_the_command(handler: LungNodule) -> None:
    environment = handler._environment
    refusal = Answering(environment, read_card(), {}, weights=()).detector
    assert isinstance(refusal, OutOfScope)
    assert refusal.code == "not-ready"
    assert "`ainode train nodule_detection`" in refusal.reason


@pytest.mark.parametrize(
    ("origin", "presence"),
    [
        (Origin(), Presence.ABSENT),
        (Origin(is_candidate=True), Presence.INDETERMINATE),
        (Origin(is_candidate=True, is_evaluated=True), Presence.ABSENT),
    ],
    ids=["a person pointed", "a search", "a search that the site has measured"],
)
def test_of_a_candidate_no_negative_answer_is_given_before_the_site_measured_the_search(
    origin: Origin, presence: Presence
) -> None:
    card = read_card()
    assert origin.verdict(0.01, card).presence is presence
    assert origin.verdict(0.99, card).presence is Presence.PRESENT


def test_the_search_counts_as_measured_by_a_record_of_these_weights_with_a_search(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    folder = tmp_path / "external" / "lung_nodule"
    folder.mkdir(parents=True)
    digest = store.entry(DETECTION).sha256
    for name, values in (("a", {"weights": {DETECTION: digest}}), ("b", {"detect": True, "weights": {DETECTION: "0"}})):
        (folder / f"external-{name}.json").write_text(json.dumps(values), "utf-8")
    assert not is_evaluated(store)
    (folder / "external-c.json").write_text(json.dumps({"detect": True, "weights": {DETECTION: digest}}), "utf-8")
    assert is_evaluated(store)


def test_no_candidate_is_no_negative_answer(handler: LungNodule, tmp_path: Path) -> None:
    ct = stack(a_study(handler, tmp_path / "study", point=False).instances)
    assert isinstance(ct, Stack)
    absences = (Omission("no-nodule", "no nodule at this point"),) * 2
    answer = no_candidate(Search((), 0.7, 0, absences, ct), {})
    assert answer.code == "no-candidate"
    assert answer.reason == (
        "no candidate marked: 0 marked above 0.70; 0 more not reported; 2 marks left out: no nodule at this point; "
        "what is not marked was not ruled out; this is no negative answer"
    )
    half = no_candidate(Search((), 0.7, 0, (), ct, cut="the lungs reach the lowest slice of the scan"), {})
    assert "0 more not reported; the lungs reach the lowest slice of the scan; what is not" in half.reason


@pytest.mark.parametrize(
    ("name", "source"), [("nodule 1", OWN_REPORT), ("candidate 1", OWN_SEARCH)], ids=["pointed at", "searched"]
)
def test_an_own_report_says_whether_a_search_marked_its_lesion(name: str, source: str, tmp_path: Path) -> None:
    path = a_slice(tmp_path / "now")
    result = outlined_result(path)
    result = replace(result, findings=(replace(result.findings[0], tracking_identifier=name),))
    report = tmp_path / "report.dcm"
    report.write_bytes(reports.documents(result, {instance_ref(path).sop_instance_uid: path}, CONTEXT)[-1].content)
    instances = [headers.instance(file, sha256="") for file in (path, report)]
    assert {mark.location.source for mark in pointed_locations(instances, own_reports=True)} == {source}
