"""The answer that a result.json holds, as far as report.txt and report.pdf show an answer.

What no page shows is not in a result.json: the values of codes, saliency, captures.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ainode.node.domain import (
    NO_UID,
    UID,
    Algorithm,
    Band,
    Code,
    Finding,
    GraphicType,
    InstanceRef,
    Measurement,
    OutOfScope,
    Presence,
    Region,
    Result,
    Verdict,
    WeightsStatus,
)

_NO_CODE = Code("", "", "")


def answer_of(summary: str) -> Result | OutOfScope:
    """Return the answer of a result.json."""
    values = json.loads(summary)
    if refusal := values.get("out_of_scope"):
        # Older nodes kept the reason alone.
        return OutOfScope(refusal["reason"], refusal["code"], _refs(values["evidence"]), refusal.get("words", ""))
    return Result(
        study_instance_uid=UID(values["study_instance_uid"]),
        algorithm=_algorithm(values["algorithm"]),
        title=values["title"],
        procedure=_NO_CODE,
        findings=tuple(map(_finding, values["findings"])),
        captures=(),
        evidence=_refs(values["evidence"]),
        # Older nodes did not write them down.
        key_images=_refs(values.get("key_images", ())),
        scores=values["scores"],
    )


def _refs(uids: Sequence[str]) -> tuple[InstanceRef, ...]:
    return tuple(InstanceRef(NO_UID, NO_UID, NO_UID, UID(uid)) for uid in uids)


def _algorithm(values: Mapping[str, Any]) -> Algorithm:
    return Algorithm(
        name=values["name"],
        version=values["version"],
        weights_sha256=values["weights_sha256"],
        weights_status=WeightsStatus(values["weights_status"]),
        parameters=tuple(values["parameters"].items()),
        not_for=tuple(values["not_for"]),
        known_limits=tuple(values["known_limits"]),
    )


def _finding(values: Mapping[str, Any]) -> Finding:
    region, verdict = values["region"], values["verdict"]
    return Finding(
        tracking_identifier=values["name"],
        concept=_code(values["finding"]),
        site=_code(values["site"]),
        measurements=tuple(
            # Older nodes named no place.
            Measurement(_code(item["name"]), item["value"], Code(item["unit"], "", ""), (), place=item.get("place", ""))
            for item in values["measurements"]
        ),
        evidence=_refs(values["evidence"]),
        region=_region(region) if region else None,
        label=values["label"],
        verdict=_verdict(verdict) if verdict else None,
        laterality=_code(values["laterality"]) if values["laterality"] else None,
        # Older nodes neither described findings nor searched.
        qualities=tuple((_code(item["name"]), _code(item["value"])) for item in values.get("qualities", ())),
        is_candidate=values.get("is_candidate", False),
    )


def _region(values: Mapping[str, Any]) -> Region:
    (image,) = _refs([values["sop_instance_uid"]])
    points = tuple((column, row) for column, row in values["points"])
    return Region(image, points, GraphicType(values["type"]), values.get("frame"))  # older nodes named no frame


def _verdict(values: Mapping[str, Any]) -> Verdict:
    band, about = values["band"], values["about"]
    return Verdict(
        Presence(values["presence"]),
        values["probability"],
        values["threshold"],
        Band(*band) if band else None,
        _code(about) if about else None,
    )


def _code(meaning: str) -> Code:
    return Code("", "", meaning)
