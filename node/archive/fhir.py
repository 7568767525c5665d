"""FHIR R4 as a client: each answer is one transaction, and the server's list of what it did is the proof.

Source: FHIR R4, 3.1.0 (RESTful API), 2.36 (Bundle).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from requests import Response, Session

from ainode.node.archive.comments import comment, response_comment
from ainode.node.archive.oauth2 import Tokens
from ainode.node.archive.store import Outgoing, SendOutcome, always
from ainode.node.archive.web import Bearer, WebLink
from ainode.node.domain import UID, InstanceRef
from ainode.node.encoding.fhir import MEDIA_TYPE, outcome_words
from ainode.node.errors import ArchiveError, ArchiveRefused, ArchiveUnreachable
from ainode.node.settings import Peer

_TRANSACTION: Final = "the transaction"
# FHIR R4, 3.1.0.2.1, 3.1.0.8: the resources cannot be processed; a condition that several resources meet.
_LASTING: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
_VERSION: Final = "4.0."
# One for the process: a token outlives the delivery that fetched it.
_tokens: Final = Tokens()


@dataclass(frozen=True, slots=True)
class FhirLink:
    """A FHIR server; each answer may take `answer_s` of its `[peer.resources]`."""

    peer: Peer
    tokens: Tokens = _tokens

    @property
    def web(self) -> WebLink:
        """Return the link of the web service."""
        return WebLink(self.peer, self.peer.server.answer_s)

    @property
    def address(self) -> str:
        """Return the base address."""
        return self.peer.fhir.rstrip("/")


def send(
    link: FhirLink, documents: Sequence[Outgoing], may_leave: Callable[[], None] = always
) -> tuple[SendOutcome, ...]:
    """Send the transactions and return the outcome of each, in their order, as `store.send` does.

    `may_leave` is called before each transaction leaves, also where a refused token has it sent again.

    Raises: OSError if a file cannot be read. A failure of the server is an outcome.
    """
    return tuple(_sent(link, document, may_leave) for document in documents)


def confirm_by_query(link: FhirLink, refs: Sequence[InstanceRef]) -> frozenset[UID]:
    """Return nothing: a server cannot be asked for transactions; to send one again changes nothing.

    Raises: ArchiveRefused.
    """
    raise ArchiveRefused(f"{link.peer.name}: nobody can ask for {len(refs)} transactions", archive_status=None)


def capabilities(link: FhirLink) -> Mapping[str, Any]:
    """Return the CapabilityStatement of a server.

    Raises: ArchiveError if the server does not answer with one of FHIR R4; ConfigError.
    """
    request = "GET /metadata"

    def ask(session: Session) -> Response:
        return session.get(f"{link.address}/metadata", headers={"Accept": MEDIA_TYPE})

    response = _answered(link, request, ask)
    if not response.ok:
        raise link.web.http_error(response.status_code, request, _words(response))
    statement = _body(response)
    version = str(statement.get("fhirVersion", ""))
    if statement.get("resourceType") != "CapabilityStatement":
        raise ArchiveUnreachable(
            f"{link.peer.name}: answers {request} with no CapabilityStatement; look at `fhir`, its base address"
        )
    if not version.startswith(_VERSION):
        raise ArchiveRefused(
            f"{link.peer.name}: speaks FHIR {version or 'of no stated version'}, the node speaks {_VERSION}x (R4); "
            "enter the address of its R4 interface",
            archive_status=None,
        )
    return statement


def offers_transactions(statement: Mapping[str, Any]) -> bool:
    """Return whether a CapabilityStatement says that the server takes transactions."""
    rest = [item for item in statement.get("rest") or () if isinstance(item, Mapping) and item.get("mode") == "server"]
    interactions = (interaction for item in rest for interaction in item.get("interaction") or ())
    return any(
        isinstance(interaction, Mapping) and interaction.get("code") == "transaction" for interaction in interactions
    )


def _sent(link: FhirLink, document: Outgoing, may_leave: Callable[[], None]) -> SendOutcome:
    content = document.read()
    headers = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE, "Prefer": "return=minimal"}

    def post(session: Session) -> Response:
        may_leave()
        return session.post(link.address, data=content, headers=headers)

    try:
        response = _answered(link, _TRANSACTION, post)
    except ArchiveError as error:
        return SendOutcome.failed(document, error)
    return _outcome(link, document, response, content)


def _answered(link: FhirLink, request: str, ask: Callable[[Session], Response]) -> Response:
    """Return the answer to a request; a token that is refused is fetched anew, once.

    Raises: ArchiveError; ConfigError.
    """
    table = link.peer.oauth2
    response = _asked(link, request, ask, token := link.tokens.token(link.web, table) if table else "")
    if table and response.status_code == HTTPStatus.UNAUTHORIZED:
        link.tokens.drop(table, token)
        response = _asked(link, request, ask, link.tokens.token(link.web, table))
    return response


def _asked(link: FhirLink, request: str, ask: Callable[[Session], Response], token: str) -> Response:
    with link.web.session(request) as session:
        if token:
            session.auth = Bearer(token)
        return ask(session)


def _outcome(link: FhirLink, document: Outgoing, response: Response, content: bytes) -> SendOutcome:
    """Return the outcome of a transaction: done as a whole, refused for good, or not now."""
    uid, status, words, name = document.sop_instance_uid, response.status_code, _words(response), link.peer.name
    if response.ok:
        if (problem := _unproven(_body(response), content)) is None:
            return SendOutcome(uid, 0)
        error: ArchiveError = ArchiveUnreachable(f"{name}: {problem}; the transaction is sent again", comment=words)
        return SendOutcome(uid, None, error, words)
    if status == HTTPStatus.PRECONDITION_FAILED:
        text = (
            f"{name}: refused the transaction (HTTP 412): several resources there have an identifier that should be "
            "of one; its words name them: join them there, then `ainode retry`"
        )
        error = ArchiveRefused(text, archive_status=status, comment=words)
    elif status in _LASTING:
        text = (
            f"{name}: refused the transaction (HTTP {status}); `ainode jobs` has its words: let the server take the "
            "resources, or correct [peer.resources], then `ainode retry`"
        )
        error = ArchiveRefused(text, archive_status=status, comment=words)
    elif status == HTTPStatus.CONFLICT:
        text = f"{name}: cannot do the transaction now (HTTP 409, a conflict with another change); try again later"
        error = ArchiveUnreachable(text, comment=words)
    elif status == HTTPStatus.UNAUTHORIZED:
        text = (
            f"{name}: refused the transaction (HTTP 401): the server asks for other credentials: look at token_env, "
            "user_env and password_env, or [peer.oauth2]"
        )
        error = ArchiveUnreachable(text, comment=words)
    else:
        error = link.web.http_error(status, _TRANSACTION, words)
    return SendOutcome(uid, None, error, words)


def _unproven(answer: Mapping[str, Any], content: bytes) -> str | None:
    """Return why a success is no proof that the whole transaction was done; None if it is a proof."""
    if answer.get("resourceType") != "Bundle" or answer.get("type") != "transaction-response":
        return "reports success without the answer to a transaction (a proxy or a sign-in page answers so)"
    entries = answer.get("entry")
    statuses = [_status_of(entry) for entry in entries] if isinstance(entries, list) else []
    if len(statuses) != len(json.loads(content)["entry"]):
        return "answers to another number of entries than it got"
    if not all(status.startswith("2") for status in statuses):
        return "reports success of a transaction, and the failure of an entry"
    return None


def _status_of(entry: object) -> str:
    response = entry.get("response") if isinstance(entry, Mapping) else None
    return str(response.get("status", "")) if isinstance(response, Mapping) else ""


def _words(response: Response) -> str:
    """Return what a server says: its OperationOutcome, else what a person would read."""
    return comment(outcome_words(_body(response))) or response_comment(response)


def _body(response: Response) -> Mapping[str, Any]:
    """Return the resource of an answer, {} where it is none."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, Mapping) else {}
