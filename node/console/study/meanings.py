"""What conditions of routes, statuses of DICOM and proofs mean, in the words of whoever reads a study. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydicom.datadict import dictionary_description, tag_for_keyword

from ainode.node.domain import DeliveryState
from ainode.node.keeping.records import Delivery
from ainode.node.routes import HAS_PIXELS, NOT_KEPT

_TAKEN: Final = frozenset({DeliveryState.SENT, DeliveryState.CONFIRMED, DeliveryState.CHECKING})
_PROOFS: Final = {
    "query": "found there when the node asked",
    "storage commitment": "by its promise to keep them (storage commitment)",
    "acknowledgment": "by its acknowledgment",
}
# A body part as the catalog keeps it: the part, and which attribute said so in which word.
_BODY_PART: Final = re.compile(r"([A-Z ]+) \(([A-Za-z]+): ([^)]*)\)")


def match_reasons(explanation: Sequence[Mapping[str, Any]] | None) -> dict[str, str]:
    """Return why each route matched a series of the study, such as `Modality is CT, Body Part Examined is CHEST`."""
    reasons: dict[str, str] = {}
    for decision in explanation or ():
        if decision["checks"] and all(check["passed"] for check in decision["checks"]):
            # Two conditions may look at the same attribute; every image has pixels, and says by its size that it has.
            telling = [check for check in decision["checks"] if check["expected"] != HAS_PIXELS]
            words = dict.fromkeys(map(_reason, telling))
            reasons.setdefault(decision["route"], ", ".join(words))
    return reasons


def _reason(check: Mapping[str, Any]) -> str:
    """Return a condition that holds, in words; of a value that is not kept, what the route asks for."""
    name, found = attribute_words(check["attribute"]), str(check["found"])
    if found == NOT_KEPT:
        return f'{name} fits "{check["expected"]}" (its own words are not kept: they may name a person)'
    if part := _BODY_PART.fullmatch(found):
        is_plain = part[1] == part[3] and part[2] == check["attribute"]
        found = part[1] if is_plain else f"{part[1]} (by {attribute_words(part[2])}: {part[3]})"
    return f"{name} is {found}"


def attribute_words(keyword: str) -> str:
    """Return the name of an attribute as DICOM prints it; what is no keyword of DICOM stays as it is."""
    tag = tag_for_keyword(keyword)
    return keyword if tag is None else dictionary_description(tag)


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
