"""What the catalog keeps of an explanation, and what a person reads who asks."""

import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.intake_bench import IntakeBench, intake_bench

from ainode.node import testing
from ainode.node.deciding.explanations import remedies, storable
from ainode.node.domain import UID, JobState
from ainode.node.keeping.ledger import Ledger
from ainode.node.offline.explanation_lines import explanation, stored_explanation
from ainode.node.routes import NOT_KEPT, PART_UNKNOWN, Check, Route, RouteDecision
from ainode.node.settings import Settings

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
STUDY = UID(testing.uid("study"))
WORDS = "Canary, Ursula"
HEADER: dict[str, str | int | float] = {
    "AccessionNumber": "4711 Ursula",
    "SeriesDescription": WORDS,
    "ProtocolName": WORDS,
    "ImageComments": WORDS,
    "InstitutionName": WORDS,
    "PatientName": "Canary^Ursula",
    "ViewPosition": "AP",
    "KVP": 120.0,
}


@pytest.fixture
def bench(tmp_path: Path) -> IntakeBench:
    """Return a bench whose route asks for every attribute of the header."""
    bench = intake_bench(tmp_path)
    tags = {keyword: "*" if number % 2 else "!*" for number, keyword in enumerate(HEADER)}
    asking = Route(name="asking", handler="any", modality=("DX",), tags=tags)
    bench.settings = bench.settings.model_copy(update={"routes": (*bench.settings.routes, asking)})
    bench.restart()
    bench.send(1, at=NOW, **HEADER)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    return bench


def values_of(bench: IntakeBench) -> dict[str, str]:
    return {check["attribute"]: check["found"] for row in bench.catalog.explanation(STUDY) for check in row["checks"]}


def test_the_catalog_keeps_codes_and_numbers_and_of_words_that_they_were_there(bench: IntakeBench) -> None:
    values = values_of(bench)
    assert {keyword for keyword in HEADER if values[keyword] == NOT_KEPT} == {
        *("AccessionNumber", "SeriesDescription", "ProtocolName", "ImageComments", "InstitutionName")
    }
    codes = {keyword: values[keyword] for keyword in ("Modality", "ImageType", "Rows", "ViewPosition", "KVP")}
    assert codes == {
        "Modality": "DX",
        "ImageType": r"ORIGINAL\PRIMARY",
        "Rows": "8 x 8",
        "ViewPosition": "AP",
        "KVP": "120.0",
    }
    assert values["BodyPartExamined"] == "TSPINE (BodyPartExamined: TSPINE)"
    for path in bench.folder.glob("catalog*"):
        assert b"Ursula" not in path.read_bytes()


def test_whoever_asks_reads_the_words_from_the_files(bench: IntakeBench) -> None:
    text = "\n".join(stored_explanation(STUDY, bench.settings))
    assert NOT_KEPT not in text
    assert f"found {WORDS}" in text
    assert "asking: no, it takes AccessionNumber !*, and this is 4711 Ursula" in text


def test_of_a_study_that_no_route_took_a_line_of_its_own_says_why_before_all_routes(tmp_path: Path) -> None:
    bench = intake_bench(tmp_path)
    bench.send(1, at=NOW, Modality="MR")
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    (spine,) = bench.settings.routes
    difference = f"takes Modality {' or '.join(spine.modality)}, and this is MR"
    summary = f"  not read: route {spine.name} {difference}"
    assert stored_explanation(STUDY, bench.settings)[1] == summary
    two = spine, replace(spine, name="other", body_part=("HAND",))
    settings = bench.settings.model_copy(update={"routes": two})
    summary += "; of 2 routes this came nearest"
    assert explanation(bench.folder / "spool" / "kept", settings)[1] == summary


def test_without_the_files_the_explanation_tells_what_was_checked_and_that_the_words_are_gone(
    bench: IntakeBench,
) -> None:
    shutil.rmtree(bench.folder / "spool" / "kept")
    lines = stored_explanation(STUDY, bench.settings)
    assert "    asking: no, it takes AccessionNumber !*, and this has another value, which is not kept" in lines
    assert lines[-1] == "  values that are not kept are in the files of the study, which are gone or cannot be read"


def test_after_retention_the_command_tells_that_the_files_are_gone_and_what_became_of_the_jobs(
    bench: IntakeBench,
) -> None:
    ledger = Ledger(bench.engine)
    ledger.open(bench.opened[0])
    bench.catalog.forget(STUDY)
    lines = stored_explanation(STUDY, bench.settings)
    assert lines[1] == "  the files, and why each route matched or not, were removed after [node] retention_days"
    assert lines[2].endswith(f"by spine_radiograph: {JobState.WAITING}")
    with pytest.raises(LookupError, match="not routed here: the node has none of it"):
        stored_explanation("1.2.3", bench.settings)


def test_a_study_that_is_not_complete_yet_is_told_from_a_study_that_never_came(tmp_path: Path) -> None:
    bench = intake_bench(tmp_path)
    bench.send(1, at=NOW)
    with pytest.raises(LookupError, match="1 instance came, and the node waits for the last one"):
        stored_explanation(STUDY, bench.settings)


def with_route(bench: IntakeBench, name: str, modality: str = "DX") -> Settings:
    """Return the settings with one more route."""
    route = Route(name=name, handler="spine_radiograph", modality=(modality,))
    return bench.settings.model_copy(update={"routes": (*bench.settings.routes, route)})


def test_a_route_that_was_added_after_a_study_was_routed_is_told_with_the_command_that_has_it_read(
    bench: IntakeBench,
) -> None:
    assert not any("has changed" in line for line in stored_explanation(STUDY, bench.settings))
    lines = stored_explanation(STUDY, with_route(bench, "newcomer"))
    begin = lines.index("  since the study was routed, routes.toml has changed; it says now:")
    assert [line.strip().partition(":")[0] for line in lines[begin + 1 :] if line.startswith("    new")] == ["newcomer"]
    assert "    newcomer: yes, " in "\n".join(lines[begin:])
    assert f"`ainode read-again {STUDY}`" in lines[-1]


def test_a_study_that_came_before_there_was_a_route_is_told_the_routes_of_now(tmp_path: Path) -> None:
    bench = intake_bench(tmp_path)
    settings, bench.settings = bench.settings, bench.settings.model_copy(update={"routes": ()})
    bench.restart()
    bench.send(1, at=NOW)
    bench.intake.route_complete(NOW + timedelta(seconds=11))
    lines = stored_explanation(STUDY, settings)
    assert any(line.startswith("    spine: yes") for line in lines)
    assert f"`ainode read-again {STUDY}`" in lines[-1]


def test_a_new_route_that_does_not_take_the_study_is_told_without_the_command(bench: IntakeBench) -> None:
    lines = stored_explanation(STUDY, with_route(bench, "newcomer", "CT"))
    assert "    newcomer: no, " in "\n".join(lines)
    assert not any("read-again" in line for line in lines)


def test_a_route_that_is_gone_or_takes_the_study_no_more_is_told(bench: IntakeBench) -> None:
    (spine, asking) = bench.settings.routes
    other = replace(spine, modality=("CT",))
    lines = stored_explanation(STUDY, bench.settings.model_copy(update={"routes": (other,)}))
    assert f"  route {asking.name} is not in routes.toml any more" in lines
    begin = lines.index("  since the study was routed, routes.toml has changed; it says now:")
    assert any(line.startswith("    spine: no, ") for line in lines[begin:])


def test_a_study_of_which_a_late_image_waits_is_told_nothing_of_changed_routes(bench: IntakeBench) -> None:
    bench.send(2, at=NOW + timedelta(seconds=20))
    assert not any("has changed" in line for line in stored_explanation(STUDY, with_route(bench, "newcomer")))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("BodyPartExamined", "CHEST Ursula"),
        ("Rows", "Ursula x 8"),
        ("ImageType", r"ORIGINAL\Ursula Canary"),
        ("Modality", "CT, Ursula"),
        ("StudyInstanceUID", "1.2.Ursula"),
        ("ManufacturerModelName", "URSULA"),
        ("PatientName", "URSULA"),
        ("StudyDate", "20260101"),
    ],
)
def test_a_value_that_does_not_look_like_its_attribute_or_is_text_is_not_kept(attribute: str, value: str) -> None:
    decision = RouteDecision("any", UID("1.2"), (Check(attribute, "x", value, passed=True),))
    (check,) = storable(decision).checks
    assert check == replace(decision.checks[0], found=NOT_KEPT)


def decision(route: str, expected: str, *others: Check, found: str = PART_UNKNOWN) -> dict[str, object]:
    part = Check("BodyPartExamined", expected, found, passed=False)
    return asdict(RouteDecision(route, UID("1.2"), (*others, part)))


def test_a_body_part_that_no_header_names_is_told_what_would_help() -> None:
    misfit = Check("Modality", "CT", "DX", passed=False)
    rows = [
        decision("lung-nodule", "CHEST"),
        decision("ct-tumor", "PANCREAS or LUNG"),
        decision("ct-pneumonia", "CHEST, or a CT that names no part"),
        decision("another", "CHEST", misfit),
        decision("a hand", "CHEST", found="HAND (BodyPartExamined: HAND)"),
    ]
    header = "name the body part in BodyPartExamined, and send the images again"
    assert remedies(rows) == {
        f'for a CT, write body_part_from = "pixels" into the route (routes.toml) '
        f"and type `ainode reload`; or {header}": ["lung-nodule"],
        header: ["ct-tumor", "ct-pneumonia"],
    }
