"""Two routes on the same studies: which studies count, and the figures over them."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from support.answers import an_answer, put_answers, verdict

from ainode.node.commands.comparison_lines import comparison_lines
from ainode.node.domain import UID, JobState
from ainode.node.keeping.intervals import kappa, median_interval
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.paired_answers import (
    Opinion,
    PairedAnswer,
    PairedAnswers,
    RouteAnswer,
    Stated,
    newest_pairs,
)
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex
from ainode.node.keeping.records import Job
from ainode.node.keeping.route_comparison import ENOUGH, compared
from ainode.node.keeping.schema import jobs
from ainode.node.keeping.statistics import Period
from ainode.node.routes import RouteMode

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROUTES = ("skin", "skin next")
MODES = {"skin": RouteMode.LIVE, "skin next": RouteMode.SHADOW}


def pair(engine: sa.Engine, number: int, first: float | None, second: float | None, **changes: object) -> None:
    """Insert the answers of both routes on a study, the newer the greater its number."""
    at, study = NOW + number * HOUR, f"1.2.{number}"
    first_row = an_answer(2 * number, at, first, seconds=1.0 + number, study_instance_uid=study)
    shadow = {"route": "skin next", "study_instance_uid": study, "version": "0.2.0", **changes}
    put_answers(engine, [first_row, an_answer(2 * number + 1, at, second, **shadow)])


def test_the_newest_studies_of_both_routes_count_and_synthetic_ones_and_replaced_answers_do_not(
    engine: sa.Engine,
) -> None:
    for number in range(5):
        pair(engine, number, 0.9, 0.8)
    pair(engine, 5, 0.9, 0.8, is_superseded=True)
    put_answers(engine, [an_answer(100, NOW + 9 * HOUR, 0.9, study_instance_uid="1.2.100")])
    PatientIndex(engine, Naming.HIDDEN).write(UID("1.2.4"), Labels(is_synthetic=True))
    answers = newest_pairs(engine, ROUTES, most=3)
    assert [item.study_instance_uid for item in answers.pairs] == ["1.2.3", "1.2.2", "1.2.1"]
    assert answers.synthetic == 1
    newest = answers.pairs[0]
    assert (newest.first.probability, newest.second.probability, newest.first.seconds) == (0.9, 0.8, 4.0)
    assert (newest.first.version, newest.second.version) == ("0.1.0", "0.2.0")
    within = newest_pairs(engine, ROUTES, most=9, period=Period(NOW, NOW + 2 * HOUR))
    assert [item.study_instance_uid for item in within.pairs] == ["1.2.1", "1.2.0"]


def test_readings_of_an_earlier_model_or_threshold_are_left_out_and_counted(engine: sa.Engine) -> None:
    pair(engine, 1, 0.9, 0.8, weights_sha256="b" * 64)
    pair(engine, 2, 0.9, None)  # a refusal names no model: that of its time refused it
    pair(engine, 3, 0.9, 0.8, weights_sha256="b" * 64)
    pair(engine, 4, 0.9, 0.8)
    pair(engine, 5, 0.9, None)
    answers = newest_pairs(engine, ROUTES, most=9)
    assert [item.study_instance_uid for item in answers.pairs] == ["1.2.5", "1.2.4"]
    assert (answers.older, compared(answers).older) == (3, 3)
    assert "3 from before a route's model or precision last changed left out" in next(
        comparison_lines(compared(answers), MODES)
    )
    earlier = newest_pairs(engine, ROUTES, most=9, period=Period(NOW, NOW + 4 * HOUR))
    assert ([item.study_instance_uid for item in earlier.pairs], earlier.older) == (["1.2.3", "1.2.2", "1.2.1"], 0)


def read_in(engine: sa.Engine, number: int, side: int, precision: str, threshold: float) -> None:
    """Give the answer of a route on a study the result.json of its job."""
    algorithm = {"parameters": {"lung precision": f"{precision} on cpu", "input": f"{number} slices"}}
    finding = {"finding": "Nodule", "verdict": verdict("present", 0.9, threshold) | {"about": "Malignant"}}
    job = Job(f"{2 * number + side:032x}", UID(f"1.2.{number}"), ROUTES[side], "skin_lesion", {}, NOW, NOW, ())
    ledger = Ledger(engine)
    ledger.open(job)
    with engine.begin() as connection:
        result = json.dumps({"algorithm": algorithm, "findings": [finding]})
        connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(result=result))


def test_readings_in_another_precision_are_not_pooled_and_other_thresholds_are_said(engine: sa.Engine) -> None:
    for number, precision in enumerate(("f32", "f32", "bf16", "bf16"), start=1):
        pair(engine, number, 0.9, 0.8)
        read_in(engine, number, 0, precision, 0.5)
        read_in(engine, number, 1, "f32", 0.25)
    pair(engine, 5, None, None)
    answers = newest_pairs(engine, ROUTES, most=9)
    assert [item.study_instance_uid for item in answers.pairs] == ["1.2.5", "1.2.4", "1.2.3"]
    figures = compared(answers)
    assert figures.older == 2
    assert figures.different_settings == (
        "lung precision: skin bf16 on cpu, skin next f32 on cpu",
        "threshold of Malignant: skin 0.5, skin next 0.25",
    )
    assert "set differently: threshold of Malignant: skin 0.5, skin next 0.25" in list(comparison_lines(figures, MODES))


def test_two_thresholds_of_one_model_are_no_change(engine: sa.Engine) -> None:
    for number in range(1, 5):
        pair(engine, number, 0.9, 0.8)
        for side in (0, 1):
            read_in(engine, number, side, "f32", (0.25, 0.5)[number % 2])
    figures = compared(newest_pairs(engine, ROUTES, most=9))
    assert (figures.studies, figures.older, figures.different_settings) == (4, 0, ())


def test_readings_that_failed_since_the_oldest_study_are_counted_by_route(engine: sa.Engine) -> None:
    pair(engine, 1, 0.9, 0.8)
    ledger = Ledger(engine)
    failed = (("1", "skin next", NOW + 2 * HOUR), ("2", "skin next", NOW - HOUR), ("3", "skin", NOW + 3 * HOUR))
    for name, route, end in (*failed, ("4", "skin next", NOW + 4 * HOUR)):
        ledger.open(Job(name, UID(f"1.3.{name}"), route, "skin_lesion", {}, end, end, ()))
        ledger.move(name, JobState.READING)
        ledger.move(name, JobState.FAILED, reason="broke", at=end)
    assert newest_pairs(engine, ROUTES, most=9).failures == (1, 2)


def a_pair(first: float | None, second: float | None, *, seconds: tuple[float, float] = (1.0, 2.0)) -> PairedAnswer:
    answers = [
        RouteAnswer("", None, "too-small", duration, "", "")
        if probability is None
        else RouteAnswer("present" if probability > 0.5 else "absent", probability, "", duration, "skin", f"{number}.0")
        for number, (probability, duration) in enumerate(zip((first, second), seconds, strict=True), start=1)
    ]
    return PairedAnswer(UID("1.2.3"), NOW, *answers)


def test_a_comparison_counts_agreement_refusals_of_one_alone_and_seconds_of_what_both_read() -> None:
    pairs = (
        *[a_pair(0.9, 0.8)] * 10,
        *[a_pair(0.1, 0.1)] * 8,
        *[a_pair(0.9, 0.2, seconds=(1.0, 60.0))] * 2,
        a_pair(None, 0.7, seconds=(0.0, 500.0)),
        *[a_pair(0.7, None)] * 3,
        a_pair(None, None),
    )
    figures = compared(PairedAnswers(ROUTES, pairs, 4, (0, 1)))
    assert (figures.studies, figures.read, figures.refused, figures.synthetic, figures.judged) == (25, 20, 1, 4, 20)
    assert figures.agreement[0] == pytest.approx(19 / 25)
    assert len(figures.different) == 6
    assert figures.kinds["present", "absent"] == 2
    assert [route.refused_alone for route in figures.routes] == [1, 3]
    assert [route.failures for route in figures.routes] == [0, 1]
    assert [route.versions for route in figures.routes] == [("skin 1.0",), ("skin 2.0",)]
    assert [route.seconds for route in figures.routes] == [1.0, 2.0]
    assert figures.routes[0].seconds_interval == (1.0, 1.0)
    assert figures.median_gap == pytest.approx(-0.1)
    assert figures.gap_limits == pytest.approx((-0.7, 0.0))
    assert figures.kappa is not None
    assert figures.kappa[0] == pytest.approx(0.8)
    assert figures.shortage == ""


def of_several(*, effusion: tuple[float, float], mass: tuple[float, float]) -> PairedAnswer:
    """Return what two routes answered to two questions, 0.5 being the threshold of both."""
    answers = []
    for probabilities in zip(effusion, mass, strict=True):
        presences = ["present" if probability > 0.5 else "absent" for probability in probabilities]
        opinions = dict(zip(("Effusion", "Mass"), map(Opinion, presences, probabilities), strict=True))
        strongest = "present" if "present" in presences else "absent"
        answers.append(RouteAnswer(strongest, max(probabilities), "", 1.0, "chest", "1", Stated({}, opinions)))
    return PairedAnswer(UID("1.2.3"), NOW, *answers)


def test_two_routes_with_the_same_strongest_verdict_differ_where_they_answer_a_question_otherwise() -> None:
    same = of_several(effusion=(0.9, 0.8), mass=(0.1, 0.2))
    other = of_several(effusion=(0.9, 0.9), mass=(0.2, 0.6))
    neither = of_several(effusion=(0.1, 0.2), mass=(0.2, 0.1))
    figures = compared(PairedAnswers(ROUTES, (*[same] * 5, *[other] * 12, *[neither] * 5), 0))
    assert figures.agreement[0] == pytest.approx(10 / 22)
    assert len(figures.different) == 12
    effusion, mass = figures.questions
    assert (effusion.question, effusion.judged, effusion.agreement[0], effusion.kappa) == (
        "Effusion",
        22,
        1.0,
        pytest.approx((1.0, 1.0, 1.0)),
    )
    assert (mass.question, mass.agreement[0]) == ("Mass", pytest.approx(10 / 22))
    assert mass.median_gap == pytest.approx(0.4)
    assert (figures.kappa, figures.gaps) == (None, ())
    lines = "\n".join(comparison_lines(figures, MODES))
    assert "same answer: 45.5 % " in lines
    assert "Mass: same verdict on 45.5 % " in lines
    assert "Mass: absent 0.2000  Mass: present 0.6000" in lines


def test_a_kappa_that_is_none_says_why() -> None:
    lines = comparison_lines(compared(PairedAnswers(ROUTES, (a_pair(0.9, 0.9),) * 20, 0)), MODES)
    assert "Cohen's kappa: none (both routes gave one answer alone) over 20 verdicts" in list(lines)


def test_a_question_that_one_route_alone_answers_is_named_and_not_compared() -> None:
    pair = of_several(effusion=(0.9, 0.8), mass=(0.1, 0.2))
    alone = replace(pair, second=replace(pair.second, stated=Stated({}, {"Effusion": Opinion("present", 0.8)})))
    figures = compared(PairedAnswers(ROUTES, (alone,) * 20, 0))
    assert (figures.asked_by_one, [item.question for item in figures.questions]) == (("Mass",), ["Effusion"])
    assert "answered by one route alone, and not compared: Mass" in list(comparison_lines(figures, MODES))


def test_a_question_to_which_a_route_says_nothing_on_a_study_is_answered_otherwise_there() -> None:
    pair = of_several(effusion=(0.9, 0.8), mass=(0.7, 0.7))
    silent = replace(pair, second=replace(pair.second, stated=Stated({}, {"Effusion": Opinion("present", 0.8)})))
    figures = compared(PairedAnswers(ROUTES, (*[silent] * 24, pair), 0))
    assert (len(figures.different), figures.agreement[0]) == (24, pytest.approx(1 / 25))
    effusion, mass = figures.questions
    assert (effusion.agreement[0], mass.judged, mass.agreement[0]) == (1.0, 25, pytest.approx(1 / 25))
    assert mass.median_gap == pytest.approx(0.0)
    assert "Mass: present 0.7000  Mass: no verdict" in "\n".join(comparison_lines(figures, MODES))


def test_a_finding_of_the_left_side_is_another_question_than_that_of_the_right(engine: sa.Engine) -> None:
    pair(engine, 1, 0.9, 0.9)
    for side, presences in enumerate((("present", "absent"), ("absent", "present"))):
        findings = [
            {"finding": "Effusion", "site": f"{part} lung", "region": None, "verdict": verdict(presence, 0.5)}
            for part, presence in zip(("Left", "Right"), presences, strict=True)
        ]
        state_findings(engine, f"{2 + side:032x}", ROUTES[side], findings)
    (answers,) = newest_pairs(engine, ROUTES, most=9).pairs
    assert answers.different_questions == ("Effusion, Left lung", "Effusion, Right lung")


def state_findings(engine: sa.Engine, job_id: str, route: str, findings: list[dict[str, object]]) -> None:
    """Put a job that states findings of the study 1.2.1."""
    job = Job(job_id, UID("1.2.1"), route, "skin_lesion", {}, NOW, NOW, ())
    Ledger(engine).open(job)
    with engine.begin() as connection:
        result = json.dumps({"findings": findings})
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(result=result))


def test_of_several_lesions_the_strongest_verdict_is_the_answer_to_their_question(engine: sa.Engine) -> None:
    pair(engine, 1, 0.9, 0.9)
    for side, presences in enumerate((("absent", "present", "indeterminate"), ("absent", "absent", "indeterminate"))):
        findings = [
            {"finding": "Nodule", "verdict": verdict(presence, 0.1 * number)}
            for number, presence in enumerate(presences, start=1)
        ]
        state_findings(engine, f"{2 + side:032x}", ROUTES[side], findings)
    (answers,) = newest_pairs(engine, ROUTES, most=9).pairs
    first, second = (side.stated.opinions["Nodule"] for side in (answers.first, answers.second))
    assert (first.presence, first.probability) == ("present", pytest.approx(0.2))
    assert (second.presence, second.probability) == ("indeterminate", pytest.approx(0.3))
    assert answers.different_questions == ("Nodule",)


def test_too_few_studies_that_both_read_are_a_shortage_however_many_both_refused() -> None:
    pairs = (*[a_pair(0.9, 0.9)] * (ENOUGH - 1), *[a_pair(None, None)] * 50)
    words = compared(PairedAnswers(ROUTES, pairs, 2)).shortage
    assert words == "both routes read 19 of the same studies, and 20 are needed; 2 synthetic ones do not count"


def test_without_a_common_study_there_is_no_figure() -> None:
    nothing = compared(PairedAnswers(ROUTES, (), 0))
    assert (nothing.kappa, nothing.median_gap, nothing.gap_limits) == (None, None, None)
    assert [route.seconds for route in nothing.routes] == [None, None]


def test_limits_leave_out_a_fortieth_of_many_studies_at_either_end() -> None:
    pairs = tuple(a_pair(0.4, 0.4 + number / 1000) for number in range(-40, 41))
    figures = compared(PairedAnswers(ROUTES, pairs, 0))
    assert figures.gap_limits == pytest.approx((-0.038, 0.038))
    assert figures.gap_studies == "95 % of 81 studies"
    few = compared(PairedAnswers(ROUTES, pairs[:3], 0))
    assert (few.gap_limits, few.gap_studies) == (pytest.approx((-0.04, -0.038)), "3 studies")


def test_kappa_is_that_of_scikit_learn_and_has_none_where_one_answer_is_all() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    counts = {("present", "present"): 40, ("present", "absent"): 9, ("absent", "present"): 6, ("absent", "absent"): 45}
    first = [pair[0] for pair, count in counts.items() for _ in range(count)]
    second = [pair[1] for pair, count in counts.items() for _ in range(count)]
    estimate = kappa(counts)
    assert estimate is not None
    assert estimate[0] == pytest.approx(metrics.cohen_kappa_score(first, second))
    assert -1 <= estimate[1] < estimate[0] < estimate[2] <= 1
    assert kappa({("absent", "absent"): 30}) is None
    assert kappa({}) is None


@pytest.mark.parametrize("n", [6, 9, 25, 100, 1000])
def test_the_interval_of_a_median_has_the_ranks_of_the_binomial_distribution(n: int) -> None:
    from scipy.stats import binom

    interval = median_interval([float(value) for value in range(1, n + 1)])
    assert interval is not None
    _, low, high = interval
    outside = 2 * binom.cdf(low - 1, n, 0.5)
    assert outside <= 0.05 < 2 * binom.cdf(low, n, 0.5)
    assert high == n + 1 - low


def test_five_values_have_no_interval_of_a_median() -> None:
    assert median_interval([1.0] * 5) is None
