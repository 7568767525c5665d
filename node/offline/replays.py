"""A reading once more of what a job read, of which nothing leaves the node, and what differs from the first reading."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ainode.node.domain import DocumentKind, Reading, Request
from ainode.node.errors import ConfigError
from ainode.node.jobs.requests import request_of
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument
from ainode.node.settings import Settings


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reading says, and what it was read with."""

    headline: str
    """'' where the reading has no verdict"""
    presence: str
    """present, absent or indeterminate; '' where the reading has no verdict"""
    scores: Mapping[str, float]
    software: str
    model: str
    """name and version"""
    weights_sha256: str
    configuration: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The reading of a job beside a later reading of the same files."""

    earlier: Answer
    later: Answer
    documents: tuple[tuple[DocumentKind, bool], ...]
    """the documents of the later reading, and whether the earlier reading has the same bytes"""
    is_same: bool
    """whether both readings have the same documents, byte for byte"""

    @property
    def scores(self) -> tuple[tuple[str, float | None, float | None], ...]:
        """Return each score with its earlier and its later value."""
        names = {**self.earlier.scores, **self.later.scores}
        return tuple((name, self.earlier.scores.get(name), self.later.scores.get(name)) for name in names)

    @property
    def identical_count(self) -> int:
        """Return how many documents have the same bytes."""
        return sum(is_identical for _, is_identical in self.documents)


def replayed_request(job: Job, settings: Settings, ledger: Ledger, catalog: Catalog) -> Request:
    """Return the request of a job once more, for documents of the kinds that the job has.

    Raises: ConfigError if the route of the job was removed; LookupError if a file of the job is no longer here.
    """
    routes = {route.name: route for route in settings.routes}
    if job.route not in routes:
        raise ConfigError(f"route {job.route!r} of the last job is no longer in routes.toml")
    request = request_of(job, routes[job.route], settings, catalog)
    if {file.sop_instance_uid for file in request.files} != set(job.content):
        raise LookupError(
            f"study {job.study_instance_uid}: files that the job read are gone or replaced; send the study again"
        )
    # The kinds of the stored documents, whatever the destinations ask for now; a message says what the report says.
    kinds = {document.kind for document in ledger.documents(job.id)}
    optional = tuple(kind for kind in DocumentKind if kind.is_optional and kind in kinds)
    return dataclasses.replace(
        request, context=dataclasses.replace(request.context, optional=optional, messages=(), servers=())
    )


def comparison(job: Job, documents: Sequence[KeptDocument], reading: Reading) -> Comparison:
    """Return the difference between the reading of a job and a later reading."""
    earlier = {
        document.ref.sop_instance_uid: document.sha256
        for document in documents
        # A person made an assessment, and no reading does.
        if document.kind is not DocumentKind.ASSESSMENT and not document.kind.is_message
    }
    later = {
        document.ref.sop_instance_uid: hashlib.sha256(document.content).hexdigest() for document in reading.documents
    }
    kinds = tuple(
        (document.kind, earlier.get(document.ref.sop_instance_uid) == later[document.ref.sop_instance_uid])
        for document in reading.documents
    )
    return Comparison(_answer(job.result), _answer(reading.summary), kinds, earlier == later)


def _answer(summary: str) -> Answer:
    values: Mapping[str, Any] = json.loads(summary)
    algorithm: Mapping[str, Any] = values.get("algorithm") or {}
    refusal: Mapping[str, Any] = values.get("out_of_scope") or {}
    return Answer(
        headline=(values.get("verdict") or {}).get("headline") or refusal.get("reason", ""),
        presence=(values.get("verdict") or {}).get("presence") or "",
        scores=values.get("scores", {}),
        software=", ".join(values.get("software", ())),
        model=f"{algorithm.get('name', '')} {algorithm.get('version', '')}".strip(),
        weights_sha256=algorithm.get("weights_sha256", ""),
        configuration=values.get("configuration", ""),
    )
