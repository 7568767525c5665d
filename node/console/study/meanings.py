"""What conditions of routes, statuses of DICOM and proofs mean, in the words of whoever reads a study. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ainode.node.deciding.reasons import kept_deciding_words
from ainode.node.domain import DeliveryState
from ainode.node.keeping.records import Delivery

_TAKEN: Final = frozenset({DeliveryState.SENT, DeliveryState.CONFIRMED, DeliveryState.CHECKING})
_PROOFS: Final = {
    "query": "found there when the node asked",
    "storage commitment": "by its promise to keep them (storage commitment)",
    "acknowledgment": "by its acknowledgment",
}


def match_reasons(explanation: Sequence[Mapping[str, Any]] | None) -> dict[str, str]:
    """Return why each route matched a series of the study, such as `modality CT, body part CHEST`."""
    reasons: dict[str, str] = {}
    for decision in explanation or ():
        if decision["checks"] and all(check["passed"] for check in decision["checks"]):
            reasons.setdefault(decision["route"], kept_deciding_words(decision["checks"]))
    return reasons


def receipt_words(deliveries: Sequence[Delivery]) -> str:
    """Return what a destination answered when it took documents, such as `the archive accepted them`.

    '' where no status tells: of messages, whose acknowledgment is their proof, and of what was refused meanwhile.
    """
    accepted = [item for item in deliveries if item.state in _TAKEN and item.archive_status is not None]
    if not accepted:
        return ""
    whom, noun = accepted[0].whom, "it" if len(deliveries) == 1 else "them"
    warnings = dict.fromkeys(item.warning for item in accepted if item.warning)
    if not warnings:
        return f"{whom} accepted {noun}"
    return f"{whom} accepted {noun} with a warning: {', '.join(warnings)}"


def proof_words(deliveries: Sequence[Delivery]) -> str:
    """Return how it was proved that documents arrived, such as `found there when the node asked`."""
    proofs = sorted({item.proof for item in deliveries if item.proof})
    return ", ".join(_PROOFS.get(proof, f"by {proof}") for proof in proofs)
