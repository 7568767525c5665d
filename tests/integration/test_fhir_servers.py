"""Transactions to a FHIR server that does them, refuses them, is silent, answers nonsense, dies, or is away."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from support import Orthanc
from support.certificates import authority, issued
from support.fhir import WORDS, Wrong, medplum, serving
from support.languages import ehr, sendable, transaction
from support.node import RunningNode, configured, running
from support.studies import statuses, stored, written

from ainode.node.archive import fhir
from ainode.node.archive.fhir import FhirLink
from ainode.node.archive.oauth2 import Tokens
from ainode.node.archive.store import Outgoing, SendOutcome
from ainode.node.diagnosis.checks import check_lines
from ainode.node.domain import UID, DeliveryState, DocumentKind, JobState
from ainode.node.errors import ArchiveRefused, ArchiveUnreachable
from ainode.node.jobs.retries import retry
from ainode.node.keeping.job_events import Instruction
from ainode.node.keeping.records import Delivery
from ainode.node.settings import NodeTable, OAuth2Table, Peer, Settings, load

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
QUICK = "[delivery]\nfirst_wait_s = 0.1\nlongest_wait_s = 0.2\nattempts = ATTEMPTS"
STUDY = UID("1.2")
AFTER_ALL = ("503", "429", "409", "401", "404", "silence", "closes", "half", "page", "fewer", "entry", "batch", "done")
"""what a server may do wrong for a while"""


def outgoing(number: int = 1) -> Outgoing:
    return sendable(transaction(number))


def outcome(wrong: Wrong, **values: object) -> SendOutcome:
    with serving(wrong) as base:
        (answer,) = fhir.send(FhirLink(ehr(base, **values), Tokens()), [outgoing()])  # type: ignore[arg-type]
    return answer


# One transaction


def test_the_list_of_what_was_done_is_the_proof_that_a_transaction_arrived() -> None:
    wrong = Wrong(["done"])
    answer = outcome(wrong)
    assert (answer.error, answer.is_proven) == (None, True)
    assert wrong.transactions == [transaction().content]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("401", "look at token_env, user_env and password_env, or [peer.oauth2]"),
        ("403", "refused the transaction (HTTP 403)"),
        ("404", "refused the transaction (HTTP 404)"),
        ("405", "refused the transaction (HTTP 405)"),
        ("409", "HTTP 409, a conflict"),
        ("429", "cannot do the transaction now (HTTP 429)"),
        ("500", "cannot do the transaction now (HTTP 500)"),
        ("503", "cannot do the transaction now (HTTP 503)"),
        ("silence", "the transaction failed"),
        ("closes", "the transaction failed"),
        ("half", "the transaction failed"),
        ("page", "a sign-in page answers so"),
        ("batch", "without the answer to a transaction"),
        ("fewer", "another number of entries"),
        ("entry", "the failure of an entry"),
    ],
)
def test_what_may_pass_is_tried_again_and_says_why(answer: str, words: str) -> None:
    outcome_of_it = outcome(Wrong([answer]), answer_s=0.5 if answer == "silence" else 20)
    assert isinstance(outcome_of_it.error, ArchiveUnreachable)
    assert words in str(outcome_of_it.error)
    assert "MUELLER" not in str(outcome_of_it.error)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("400", "refused the transaction (HTTP 400)"),
        ("422", "refused the transaction (HTTP 422)"),
        ("412", "several resources there have an identifier"),
        ("413", "refused the transaction (HTTP 413)"),
    ],
)
def test_what_cannot_pass_is_refused_for_good_with_the_words_of_the_server_beside(answer: str, words: str) -> None:
    outcome_of_it = outcome(Wrong([answer]))
    assert isinstance(outcome_of_it.error, ArchiveRefused)
    assert words in str(outcome_of_it.error)
    assert "MUELLER" not in str(outcome_of_it.error)
    assert outcome_of_it.comment == f"processing {WORDS}"


# Credentials


def client(base: str, monkeypatch: pytest.MonkeyPatch, **values: object) -> OAuth2Table:
    monkeypatch.setenv("EHR_ID", "the node")
    monkeypatch.setenv("EHR_SECRET", "s:ecret")
    given = {"client_id_env": "EHR_ID", "client_secret_env": "EHR_SECRET", "scope": "system/*.write", **values}
    return OAuth2Table(token_url=f"{base.removesuffix('/fhir')}/token", **given)  # type: ignore[arg-type]


def test_a_token_of_the_environment_goes_with_every_transaction_and_to_no_other_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EHR_TOKEN", "mine")
    other = Wrong(["done"])
    with serving(other) as elsewhere:
        wrong = Wrong(["redirect"], elsewhere=elsewhere)
        answer = outcome(wrong, token_env="EHR_TOKEN")  # noqa: S106
    assert wrong.authorizations == ["Bearer mine"]
    assert "redirects the transaction" in str(answer.error)
    assert other.transactions == other.authorizations == []


def test_a_token_of_client_credentials_is_kept_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Wrong(["done"], tokens=["first"])
    with serving(wrong) as base:
        link = FhirLink(ehr(base, oauth2=client(base, monkeypatch)), Tokens())
        answers = [
            *fhir.send(link, [outgoing(1), outgoing(2)]),
            *fhir.send(link, [outgoing(3)]),
        ]
    assert [answer.is_proven for answer in answers] == [True] * 3
    ((authorization, form),) = wrong.token_requests
    assert base64.b64decode(authorization.removeprefix("Basic ")) == b"the+node:s%3Aecret"
    assert form == {"grant_type": ["client_credentials"], "scope": ["system/*.write"]}


@pytest.mark.parametrize("expires_in", [10, None])
def test_a_token_that_is_about_to_expire_is_used_once(
    monkeypatch: pytest.MonkeyPatch, expires_in: float | None
) -> None:
    wrong = Wrong(["done"], tokens=["first", "second"], expires_in=expires_in)
    with serving(wrong) as base:
        link = FhirLink(ehr(base, oauth2=client(base, monkeypatch, authentication="post", scope="")), Tokens())
        assert all(answer.is_proven for answer in fhir.send(link, [outgoing(1), outgoing(2)]))
    assert wrong.authorizations == ["Bearer first", "Bearer second"]
    assert wrong.token_requests[0] == (
        "",
        {"grant_type": ["client_credentials"], "client_id": ["the node"], "client_secret": ["s:ecret"]},
    )


@pytest.mark.parametrize(("accepted", "is_proven"), [("second", True), ("none of them", False)])
def test_a_token_that_the_server_refuses_is_fetched_anew_once(
    monkeypatch: pytest.MonkeyPatch, accepted: str, *, is_proven: bool
) -> None:
    wrong = Wrong(["done"], tokens=[accepted])
    with serving(wrong) as base:
        (answer,) = fhir.send(FhirLink(ehr(base, oauth2=client(base, monkeypatch)), Tokens()), [outgoing()])
    assert answer.is_proven is is_proven
    assert wrong.authorizations == ["Bearer first", "Bearer second"]
    assert is_proven or isinstance(answer.error, ArchiveUnreachable)


def test_a_client_that_the_server_of_tokens_refuses_sends_nothing_and_says_where_to_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = Wrong(["done"], issued=[])
    with serving(wrong) as base:
        (answer,) = fhir.send(FhirLink(ehr(base, oauth2=client(base, monkeypatch)), Tokens()), [outgoing()])
    assert "look at token_url, client_id_env" in str(answer.error)
    assert "s:ecret" not in str(answer.error)
    assert wrong.transactions == []


def test_a_server_over_tls_is_trusted_by_its_authority_alone(tmp_path: Path) -> None:
    ca = authority(tmp_path, "ca")
    certificate = issued(ca, "ehr")
    wrong = Wrong(["done"])
    with serving(wrong, certificate=certificate) as base:
        assert base.startswith("https")
        (answer,) = fhir.send(FhirLink(ehr(base, ca_file=str(ca.path))), [outgoing()])
        (refused,) = fhir.send(FhirLink(ehr(base)), [outgoing(2)])
    assert answer.is_proven
    assert "TLS failed" in str(refused.error)
    assert len(wrong.transactions) == 1


def test_check_says_that_a_server_speaks_another_version(tmp_path: Path) -> None:
    with serving(Wrong(["done"], version="5.0.0")) as base:
        settings = Settings(node=NodeTable(data=tmp_path, min_free_bytes=0), peers=(ehr(base),))
        (line,) = [line for line in check_lines(settings) if line[0] == "peer ehr"]
    assert line[1:] == (
        "not ready",
        "ehr: speaks FHIR 5.0.0, the node speaks 4.0.x (R4); enter the address of its R4 interface",
    )


# The whole node


def node_with(folder: Path, *peers: Peer, attempts: int = 1000) -> RunningNode:
    return configured(folder, peers=peers, more=QUICK.replace("ATTEMPTS", str(attempts)))


def to_ehr(deliveries: Sequence[Delivery]) -> Delivery:
    (delivery,) = [item for item in deliveries if item.destination == "ehr"]
    return delivery


def test_every_fault_of_a_server_leads_to_the_same_transaction_again_and_a_refused_one_is_sent_when_a_person_asks(
    tmp_path: Path,
) -> None:
    wrong, study = Wrong([*AFTER_ALL[:-1], "412", "done"]), written(tmp_path, "at last")
    with serving(wrong) as base, running(node_with(tmp_path / "node", ehr(base, answer_s=6))) as node:
        stored(node, study)
        job, deliveries = node.read(study.uid)
        assert to_ehr(deliveries).state is DeliveryState.FAILED
        assert retry(load(node.config), node.ledger, job.id, Instruction(datetime.now(UTC), "ada")) == ("ehr",)
        _, deliveries = node.read(study.uid)
    assert to_ehr(deliveries).state is DeliveryState.CONFIRMED
    assert len(wrong.transactions) == len(AFTER_ALL) + 1
    assert len(set(wrong.transactions)) == 1
    assert "MUELLER" not in node.log.read_text()


def test_a_server_that_did_the_transaction_and_was_not_heard_has_nothing_twice(tmp_path: Path) -> None:
    study = written(tmp_path, "unheard")
    with medplum() as base, serving(Wrong(["silence"])) as silent:
        node = node_with(tmp_path / "node", ehr(silent, answer_s=60))
        node.start()
        stored(node, study)
        node.until(lambda: bool(tried(node)), within_s=120)
        node.kill()
        (delivery,) = tried(node)
        content = delivery.document.path.read_bytes()
        headers = {"Content-Type": "application/fhir+json"}
        requests.post(base, data=content, headers=headers, timeout=120).raise_for_status()
        text = node.config.read_text(encoding="utf-8")
        node.config.write_text(text.replace(silent, base), encoding="utf-8")
        with running(node):
            _, deliveries = node.read(study.uid)
        kinds = [entry["resource"]["resourceType"] for entry in json.loads(content)["entry"]]
        counts = {kind: len(requests.get(f"{base}/{kind}", timeout=120).json()["entry"]) for kind in kinds}
    assert to_ehr(deliveries).state is DeliveryState.CONFIRMED
    assert counts == {kind: kinds.count(kind) for kind in kinds}


def tried(node: RunningNode) -> list[Delivery]:
    deliveries = [item for job in node.ledger.jobs() for item in node.ledger.deliveries(job.id)]
    return [item for item in deliveries if item.tried_at]


def test_a_study_is_in_archive_and_server_and_a_late_image_changes_its_report_and_makes_no_second_one(
    archive: Orthanc, tmp_path: Path
) -> None:
    study = written(tmp_path, "late", instances=2)
    with medplum() as base, running(node_with(tmp_path / "node", archive.peer, ehr(base))) as node:
        assert statuses(node, study.paths[:1]) == [0x0000]
        first, before = node.read(study.uid)
        assert first.state is JobState.REPORTED
        assert {item.state for item in before} == {DeliveryState.CONFIRMED}
        assert to_ehr(before).proof == "acknowledgment"
        assert statuses(node, study.paths[1:]) == [0x0000]
        node.until(lambda: len(node.ledger.jobs(study=UID(study.uid))) == 2, within_s=120)
        second, after = node.read(study.uid)
        (entry,) = requests.get(f"{base}/DiagnosticReport", timeout=120).json()["entry"]
        observations = requests.get(f"{base}/Observation", timeout=120).json()["entry"]
    assert first.id != second.id
    assert to_ehr(after).state is DeliveryState.CONFIRMED
    reports = [
        item.document.ref.sop_instance_uid
        for item in (*after, *before)
        if item.document.kind is DocumentKind.STRUCTURED_REPORT
    ]
    resource = entry["resource"]
    assert [item["value"] for item in resource["identifier"]] == [f"urn:oid:{uid}" for uid in reports]
    assert resource["status"] == "partial"
    results = [item["reference"] for item in resource["result"]]
    assert sorted(results) == sorted(f"Observation/{item['resource']['id']}" for item in observations)
