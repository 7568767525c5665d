"""Which answers are urgent, and which studies, as routes say."""

from dataclasses import replace
from pathlib import Path

import pytest

from ainode.node.deciding import router
from ainode.node.domain import (
    UID,
    Algorithm,
    Code,
    Finding,
    Instance,
    InstanceRef,
    OutOfScope,
    Presence,
    Result,
    Series,
    Study,
    UrgentRule,
    Verdict,
    WeightsStatus,
    is_urgent,
)
from ainode.node.routes import Route

IMAGE = InstanceRef(UID("1"), UID("2"), UID("3"), UID("4"))
LESION, CANCER = Code("52988006", "SCT", "Lesion"), Code("86049000", "SCT", "Malignant")


def result(*findings: Finding) -> Result:
    algorithm = Algorithm("model", "1", "ff", WeightsStatus.SITE)
    return Result(UID("1"), algorithm, "Task", LESION, findings, (), (IMAGE,), (IMAGE,))


def finding(probability: float, about: Code | None = None) -> Finding:
    verdict = replace(Verdict.of(probability, 0.5), about=about)
    return Finding("lesion", LESION, LESION, (), (IMAGE,), verdict=verdict)


@pytest.mark.parametrize(
    ("rule", "answer", "expected"),
    [
        (UrgentRule(), result(finding(0.9)), True),
        (UrgentRule(), result(finding(0.1)), False),
        (UrgentRule(), result(finding(0.1), finding(0.6)), True),
        (UrgentRule(), result(), False),
        (UrgentRule(), OutOfScope("no", "no"), False),
        (UrgentRule(min_probability=0.8), result(finding(0.7)), False),
        (UrgentRule(min_probability=0.8), result(finding(0.8)), True),
        (UrgentRule(concepts=("52988006",)), result(finding(0.9)), True),
        (UrgentRule(concepts=("86049000",)), result(finding(0.9)), False),
        (UrgentRule(concepts=("86049000",)), result(finding(0.9, CANCER)), True),
        (UrgentRule(presence=(Presence.ABSENT,)), result(finding(0.1)), True),
        (None, result(finding(0.9)), False),
    ],
)
def test_an_answer_is_urgent_where_one_of_its_findings_fits_the_whole_rule(
    rule: UrgentRule | None, answer: Result | OutOfScope, *, expected: bool
) -> None:
    assert is_urgent(answer, rule) is expected


def test_a_candidate_without_a_verdict_is_urgent_only_where_the_rule_asks_for_no_probability() -> None:
    candidate = replace(finding(0.9), verdict=None, is_candidate=True)
    rule = UrgentRule(presence=(Presence.INDETERMINATE,))
    assert is_urgent(result(candidate), rule)
    assert not is_urgent(result(candidate), replace(rule, min_probability=0.1))


@pytest.mark.parametrize(
    ("tags", "headers", "priority"),
    [
        ({}, [{"RequestedProcedurePriority": "STAT"}], 100),
        ({"RequestedProcedurePriority": "STAT|HIGH"}, [{}, {"RequestedProcedurePriority": "stat"}], 1),
        ({"RequestedProcedurePriority": "STAT|HIGH"}, [{"RequestedProcedurePriority": "ROUTINE"}], 100),
        ({"RequestedProcedurePriority": "STAT", "StationName": "ER*"}, [{"RequestedProcedurePriority": "STAT"}], 100),
    ],
)
def test_a_study_comes_first_where_an_image_fits_the_urgent_tags_of_its_route(
    tags: dict[str, str], headers: list[dict[str, str]], priority: int
) -> None:
    instances = [Instance(IMAGE, UID("1.2"), Path(), "ff", 1, header) for header in headers]
    study = Study(UID("1"), (Series(UID("2"), "CT", tuple(instances)),))
    route = Route("chest", "reader", urgent_tags=tags)
    router.refuse_broken(route)
    assert router.priority_of(study, route) == priority
    assert set(tags) <= router.keywords([route])
