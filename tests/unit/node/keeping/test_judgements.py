from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.rows import put_job, read

from ainode.node.domain import UID, Correction, DocumentKind, InstanceRef, JobState, Judgement, Opinion, Presence
from ainode.node.keeping.agreement import agreements
from ainode.node.keeping.judgements import AddendumState, Filter, JudgedCase, Judgements
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument, Outcome

NOW = datetime(2026, 11, 2, 3, 4, 5, tzinfo=UTC)
RESULT = '{"algorithm": {"name": "spine", "version": "1.0.0"}, "verdict": {"presence": "present"}}'
ACCEPTANCE = Judgement("a", "", Opinion.ACCEPT, "jdoe")
REJECTION = Judgement("a", "box 1", Opinion.REJECT, "jdoe", reason="false-positive", comment="a vessel")


@pytest.fixture
def judgements(engine: sa.Engine) -> Judgements:
    a_read_job(Ledger(engine))
    return Judgements(engine)


def a_read_job(ledger: Ledger, name: str = "a", **changes: object) -> Job:
    """Put a job with a report into the ledger."""
    job = Job(
        id=name,
        study_instance_uid=UID(f"1.2.{name}" if name.isdigit() else "1.2"),
        route="spine",
        handler="spine_radiograph",
        content={UID("1.2.3"): "00"},
        created_at=NOW,
        queued_at=NOW,
        destinations=("archive", "second"),
    )
    job = replace(job, **changes)  # type: ignore[arg-type]
    assert ledger.open(job)
    read(ledger, job, [a_document(job, "1")], Outcome(JobState.REPORTED, RESULT, "", 1.5))
    return job


def a_document(job: Job, number: str, kind: DocumentKind = DocumentKind.STRUCTURED_REPORT) -> KeptDocument:
    uid = UID(f"1.2.9.{job.study_instance_uid[4:] or 0}.{number}")
    ref = InstanceRef(job.study_instance_uid, UID("1.2.9"), UID("1.2.840.10008.5.1.4.1.1.88.33"), uid)
    return KeptDocument(job.id, ref, kind, Path(f"{uid}.dcm"), "ff")


def keep(judgements: Judgements, judgement: Judgement, *, presence: str = "present", later_s: float = 0.0) -> int:
    at = NOW + timedelta(seconds=later_s)
    return judgements.keep(judgement, at, statement="in words", presence=presence, has_addendum=False)


def test_a_judgement_is_read_back_whole_with_the_answer_that_it_is_about(judgements: Judgements) -> None:
    correction = Correction(Presence.ABSENT, "Diameter", 4.5, "vessel")
    change = Judgement("a", "box 1", Opinion.CHANGE, "jdoe", correction, "wrong-value", "see the prior")
    keep(judgements, change)
    (kept,) = judgements.of_job("a")
    assert kept.judgement == change
    assert (kept.route, kept.model, kept.version) == ("spine", "spine", "1.0.0")
    assert (kept.judged_at, kept.study_instance_uid, kept.statement) == (NOW, "1.2", "in words")


def test_a_later_judgement_replaces_the_earlier_of_the_same_finding_alone_and_both_stay(judgements: Judgements) -> None:
    for judgement in (ACCEPTANCE, REJECTION, replace(REJECTION, opinion=Opinion.ACCEPT, reason="")):
        keep(judgements, judgement)
    states = [(kept.judgement.finding, kept.judgement.opinion, kept.is_replaced) for kept in judgements.of_job("a")]
    assert states == [("", "accept", False), ("box 1", "reject", True), ("box 1", "accept", False)]
    assert [(case.finding, case.opinion) for case in judgements.current(NOW)] == [("", "accept"), ("box 1", "accept")]
    assert judgements.current(NOW, "another_handler") == ()


def test_judgements_outlive_the_job_and_its_documents(engine: sa.Engine, judgements: Judgements) -> None:
    keep(judgements, REJECTION)
    ledger = Ledger(engine)
    for delivery in ledger.deliveries("a"):
        ledger.outbox.sent(delivery, status=0, comment="", at=NOW)
        ledger.outbox.confirmed(delivery, proof="query", at=NOW)
    assert ledger.archive("a", NOW + timedelta(days=1), NOW + timedelta(days=2))
    (kept,) = judgements.of_job("a")
    assert (kept.judgement, kept.route, kept.model) == (REJECTION, "spine", "spine")


def test_the_list_is_filtered_by_route_model_opinion_person_and_time_and_read_in_parts(
    engine: sa.Engine, judgements: Judgements
) -> None:
    a_read_job(Ledger(engine), "2", route="chest")
    keep(judgements, ACCEPTANCE)
    keep(judgements, REJECTION, later_s=60)
    keep(judgements, replace(ACCEPTANCE, job="2", person="other"), later_s=120)
    minute = NOW + timedelta(seconds=60)
    for criteria, ids in (
        (Filter(), [3, 2, 1]),
        (Filter(route="chest"), [3]),
        (Filter(model="spine"), [3, 2, 1]),
        (Filter(opinion="reject"), [2]),
        (Filter(person="other"), [3]),
        (Filter(since=minute), [3, 2]),
        (Filter(before=minute), [1]),
    ):
        assert [kept.id for kept in judgements.page(criteria, count=9, offset=0)] == ids
        assert [kept.id for kept in judgements.all(criteria)] == ids[::-1]
        assert judgements.count(criteria) == len(ids)
    assert [kept.id for kept in judgements.page(Filter(), count=1, offset=1)] == [2]
    assert (judgements.persons(), judgements.models()) == (("jdoe", "other"), ("spine",))


def test_the_document_of_a_judgement_goes_to_every_destination_of_the_job(
    engine: sa.Engine, judgements: Judgements
) -> None:
    ledger = Ledger(engine)
    job = ledger.job("a")
    number = judgements.keep(REJECTION, NOW, statement="", presence="present", has_addendum=True)
    assert [kept.id for kept in judgements.due()] == [number]
    document = a_document(job, "2", DocumentKind.ASSESSMENT)
    assert ledger.append([document], number)
    assert judgements.due() == ()
    assert [item.kind for item in ledger.documents("a")] == ["sr", "assessment"]
    ways = [item.destination for item in ledger.deliveries("a") if item.document == document]
    assert ways == ["archive", "second"]
    (kept,) = judgements.of_job("a")
    assert (kept.addendum, kept.addendum_uid) == (AddendumState.COMPOSED, document.ref.sop_instance_uid)
    later = judgements.keep(REJECTION, NOW, statement="", presence="present", has_addendum=True)
    assert judgements.replaced_addendum(judgements.due()[0]) == document.ref.sop_instance_uid
    assert later != number


def test_no_document_of_a_judgement_leaves_once_a_newer_job_superseded_the_job(
    engine: sa.Engine, judgements: Judgements
) -> None:
    ledger = Ledger(engine)
    number = judgements.keep(REJECTION, NOW, statement="", presence="present", has_addendum=True)
    job = ledger.job("a")
    put_job(ledger, "a", state=JobState.SUPERSEDED)
    assert not ledger.append([a_document(job, "2", DocumentKind.ASSESSMENT)], number)
    assert [item.kind for item in ledger.documents("a")] == ["sr"]
    judgements.give_up(number, "replaced")
    (kept,) = judgements.of_job("a")
    assert (kept.addendum, kept.addendum_error) == (AddendumState.FAILED, "replaced")


@pytest.mark.parametrize(
    "wrong",
    [
        {"opinion": Opinion.REJECT},
        {"opinion": Opinion.CHANGE, "reason": "other"},
        {"correction": Correction(label="vessel")},
        {"comment": "x" * 2001},
    ],
)
def test_a_judgement_that_says_too_little_or_contradicts_itself_cannot_be_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"choose a reason|say what holds|is longer"):
        replace(ACCEPTANCE, **wrong)  # type: ignore[arg-type]


def a_case(job: str, opinion: str = "accept", finding: str = "", **changes: object) -> JudgedCase:
    """Return a judgement of a positive reading of model `spine`, in November."""
    case = JudgedCase(job, finding, "present", opinion, "", NOW, "r", "h", "spine", "1.0.0")
    return replace(case, **changes)  # type: ignore[arg-type]


def test_agreement_tells_how_many_of_the_judged_studies_were_made_up() -> None:
    made_up = (a_case("a", is_synthetic=True), a_case("a", finding="box 1", is_synthetic=True))
    (figures,) = agreements([*made_up, a_case("b")])
    assert (figures.readings, figures.synthetic) == (2, 1)


def test_agreement_counts_each_reading_once_however_many_findings_were_judged() -> None:
    (figures,) = agreements(
        [
            *(a_case("a", finding="box 1"), a_case("a", finding="box 2"), a_case("a", "reject", "box 3")),
            *(a_case("b"), a_case("c")),
            a_case("d", "reject"),
        ]
    )
    assert (figures.readings, figures.agreed) == (4, 2)
    # b and c are accepted, d is rejected; nobody judged the whole of a, whose other boxes may be right or wrong.
    assert (figures.positives, figures.right_positives) == (3, 2)


def test_a_positive_is_right_while_something_is_present_for_the_person_too() -> None:
    (figures,) = agreements(
        [
            a_case("another label", "change"),
            a_case("still present", "change", presence_instead=Presence.PRESENT),
            a_case("absent", "change", presence_instead=Presence.ABSENT),
            a_case("undecided", "change", presence_instead=Presence.INDETERMINATE),
            a_case("a negative reading", presence="absent"),
            a_case("the whole decides", "reject"),
            a_case("the whole decides", "accept", "box 1"),
        ]
    )
    assert (figures.positives, figures.right_positives) == (5, 2)
    assert (figures.readings, figures.agreed) == (6, 1)


def test_months_are_those_of_the_zone_newest_first_and_the_least_agreement_leads() -> None:
    october = NOW.replace(month=10)
    figures = agreements(
        [
            *(a_case("a", judged_at=october), a_case("b", "reject", route="poor"), a_case("c", route="good")),
        ]
    )
    assert [(item.month, item.route) for item in figures] == [
        ("2026-11", "poor"),
        ("2026-11", "good"),
        ("2026-10", "r"),
    ]
