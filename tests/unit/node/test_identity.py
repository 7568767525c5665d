"""What names a job and its documents, and what does not."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ainode.node.domain import (
    UID,
    Algorithm,
    DocumentContext,
    DocumentKind,
    Instance,
    InstanceRef,
    Location,
    WeightsStatus,
)
from ainode.node.identity import (
    MODEL_NAME,
    configuration_hash,
    digest,
    document_context,
    is_ours,
    job_id,
    made_uid,
    run_digest,
    wishes,
)
from ainode.node.routes import PriorRule, Route
from ainode.node.settings import Peer, Settings

LOCATIONS = (
    Location((1.5, -2.25, 0.1), "SR", UID("1.2.3.9"), UID("2.25.42"), UID("1.2.3.1")),
    Location((0.0, 10.0, 1e-7), "request"),
)
FOLLOWED = Route(
    "lung-nodule",
    "lung_nodule",
    priors=PriorRule("pacs", modality=("CT",), body_part=("CHEST",), tags={"SeriesDescription": "*LUNG*"}, count=2),
)
EVIDENCE = tuple(
    InstanceRef(UID("1.2.3"), UID("1.2.3.1"), UID("1.2.840.10008.5.1.4.1.1.2"), UID(f"1.2.3.1.{n}")) for n in (2, 1)
)
ROUTE = Route("spine", "spine_radiograph", destinations=("a", "b"))
PR, FRACTIONAL, LABELMAP, PDF = (kind for kind in DocumentKind if kind.is_optional)


def a_peer(name: str, **keys: object) -> Peer:
    return Peer(name=name, ae_title="A", host="127.0.0.1", port=104).model_copy(update=keys)


def settings_with(**first: object) -> Settings:
    peers = (a_peer("a", **first), a_peer("b", segmentation="labelmap"), a_peer("c", segmentation="fractional"))
    return Settings(peers=peers)


def test_a_reading_makes_what_any_destination_of_its_route_asks_for() -> None:
    def made(settings: Settings) -> tuple[DocumentKind, ...]:
        return document_context(settings, ROUTE, host="here", created=datetime(2026, 1, 1, tzinfo=UTC)).optional

    assert made(settings_with()) == (LABELMAP,)
    assert made(settings_with(segmentation="fractional", presentation_state=True)) == (PR, FRACTIONAL, LABELMAP)
    assert made(settings_with(pdf=True)) == (PDF, LABELMAP)


def test_a_destination_gets_what_it_asks_for_and_one_that_is_gone_asks_for_nothing() -> None:
    settings = settings_with(presentation_state=True, segmentation="fractional", pdf=True)
    assert wishes(settings, ["a", "b", "gone"]) == {"a": (PR, FRACTIONAL, PDF), "b": (LABELMAP,)}
    assert wishes(Settings(peers=(a_peer("a"),)), ["a"]) == {"a": ()}


def test_a_listener_asks_for_messages_alone_and_changes_nothing_that_archives_get() -> None:
    listener = Peer(name="b", host="h", port=1, deliver="hl7")
    settings, before = Settings(peers=(a_peer("a"), listener)), Settings(peers=(a_peer("a"), a_peer("b")))
    assert wishes(settings, ["a", "b"]) == {"a": (), "b": (DocumentKind.MESSAGE,)}
    context, context_before = (
        document_context(each, ROUTE, host="here", created=datetime(2026, 1, 1, tzinfo=UTC))
        for each in (settings, before)
    )
    assert [address.destination for address in context.messages] == ["b"]
    assert dataclasses.replace(context, messages=()) == context_before
    assert run_digest((), context) == run_digest((), context_before)


def test_a_new_wish_makes_no_study_a_new_one_and_renames_no_document() -> None:
    plain, wishful = settings_with(), settings_with(presentation_state=True)
    assert configuration_hash(plain, ROUTE) == configuration_hash(wishful, ROUTE)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    before, after = (document_context(one, ROUTE, host="here", created=now) for one in (plain, wishful))
    assert before != after
    assert run_digest(EVIDENCE, before) == run_digest(EVIDENCE, after)


def test_digests_of_a_job_with_locations_and_priors_never_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ainode.node.identity.__version__", "0.1.0")
    configuration = configuration_hash(settings_with(), FOLLOWED, LOCATIONS)
    assert configuration == "370bdbbf8a0edd3f"
    assert configuration_hash(settings_with(), ROUTE) == "4bc237aa4d9cac14"
    content = {UID("1.2.3.1.1"): "ab" * 32, UID("1.2.3.1.2"): "cd" * 32}
    assert (
        job_id(UID("1.2.3"), content=content, weights_sha256="ef" * 32, configuration=configuration)
        == "69e92ece9868581dfcee744b893ba3c2"
    )


def test_uids_of_documents_never_change() -> None:
    context = DocumentContext(
        created=datetime(2026, 1, 1, tzinfo=UTC),
        device_uid=UID("2.25.7"),
        device_name="node",
        software_versions=("ainode 0.1.0",),
        configuration_hash="0123456789abcdef",
        predecessors=EVIDENCE[:1],
        comprehensive_3d=False,
    )
    algorithm = Algorithm("lung_nodule", "0.1.0", "ab" * 32, WeightsStatus.RESEARCH, (("threshold", "0.5"),))
    digest = run_digest(EVIDENCE, context, algorithm=algorithm)
    assert digest == "8d8a3b5e0405191ab2976feaa30793d2179ee12b9b9570c43eacd9d569eae6ff"
    assert made_uid("report", digest) == "2.25.39444221315357767819817954290870480220"
    later = dataclasses.replace(context, created=datetime(2030, 1, 1, tzinfo=UTC))
    assert run_digest(EVIDENCE, later, algorithm=algorithm) == digest


def test_a_position_of_minus_zero_names_the_same_job_as_zero() -> None:
    zero, minus = (
        configuration_hash(settings_with(), ROUTE, (Location((number, 1.0, 2.0), "SR"),)) for number in (0.0, -0.0)
    )
    assert zero == minus


def test_a_number_that_is_not_finite_has_no_digest() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"position_mm": [float("nan"), 1.0, 2.0]})


def test_documents_of_every_ainode_are_ours() -> None:
    def made_by(model: str) -> Instance:
        return Instance(EVIDENCE[0], UID("1.2"), Path("x"), "", 0, {"ManufacturerModelName": model})

    assert is_ours(made_by(MODEL_NAME))
    assert is_ours(made_by(" AINODE "))
    assert not is_ours(made_by("ainodes"))
