"""A program's answer as a result: findings, the volumes of its mask, pictures, objects, and what made them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ainode.handlers import BODY, threshold_texts
from ainode.handlers.program.answer import Answer, agreed_words, numbers_in
from ainode.handlers.program.description import Description
from ainode.handlers.program.findings import Seen, findings_of
from ainode.handlers.program.masks import outlined_findings, segmented_of
from ainode.handlers.program.omissions import Statements, omissions
from ainode.handlers.program.words import notification, sentence_of, shortened
from ainode.node.domain import (
    Algorithm,
    Attachment,
    Capture,
    Code,
    Finding,
    InstanceRef,
    Measurement,
    OutOfScope,
    Result,
    Selection,
    refs,
)

_MOST_CAPTURES: Final = 10
_ANSWER = Code("program-answer", "99AINODE", "Answer of a program")
_COUNTS: Final = (
    Code("number-of-findings", "99AINODE", "Number of findings"),
    Code("number-of-objects", "99AINODE", "Number of objects"),
)
_NO_UNITS = Code("1", "UCUM", "no units")


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a program: what it read, and where it left its answer."""

    selection: Selection
    seen: Seen
    folder: Path
    """of the answer"""


def result_of(answer: Answer, run: Run, description: Description, made_by: Algorithm) -> Result | OutOfScope:
    """Return what a program says as a result.

    Raises: HandlerError if the answer is not what was agreed.
    """
    output, instances = description.output, run.selection.instances
    # A module of mercure has keys of its own, which may have the same names.
    is_agreed = description.start.layout == "ainode"
    words = agreed_words(answer) if is_agreed else {"summary": notification(answer.words)}
    if "out_of_scope" in words:
        reason = sentence_of(words["out_of_scope"], instances[0]) or "the program does not read this study"
        remark = sentence_of(words.get("summary"), instances[0])
        return OutOfScope("; ".join(filter(None, (reason, remark))), "program-declined")
    numbers = numbers_in(answer.words, output.keys)
    findings = findings_of(words, numbers, output, run.seen)
    outlined = segmented_of(words.get("masks", []), run.seen.slices, run.folder, output.segments, made_by.name)
    if outlined and run.seen.slices:
        findings += outlined_findings(outlined, run.seen.slices, output.site)
    left_out = omissions(answer, Statements(words, numbers, outlined), description, run.seen)
    evidence, summary = refs(instances), sentence_of(words.get("summary"), instances[0])
    return Result(
        study_instance_uid=run.selection.study_instance_uid,
        algorithm=replace(made_by, parameters=(*made_by.parameters, *left_out, *_remark(summary, findings))),
        title=description.title,
        procedure=description.procedure,
        findings=tuple(findings) or (_counted(answer, output.site, evidence),),
        captures=_captures(description.title, findings),
        evidence=evidence,
        key_images=_named_images(findings, evidence),
        scores={key: numbers[key] for key in output.keys if key in numbers},
        summary=_summary(summary, description.title, findings, len(answer.objects)),
        segmented=outlined,
        attachments=tuple(Attachment(content, description.start.objects) for content in answer.objects),
    )


def parameters_of(answer: Answer, description: Description, identifier: str) -> Mapping[str, str]:
    """Return what decided the answer, for the report: thresholds, and the program by its image or sha256."""
    start = description.start
    thresholds = {
        key: text
        for item in description.output.classes.values()
        if item.threshold
        for key, text in threshold_texts(item.threshold, None, item.name).items()
    }
    form = "executable" if start.form == "executable" else "container image"
    settings = json.dumps(start.settings, sort_keys=True)
    return {
        **thresholds,
        "program": f"{form} sha256 {identifier}",
        "layout": start.layout,
        "input": start.input_form,
        **({"settings": shortened(settings)} if start.settings else {}),
        **({"objects": str(len(answer.objects))} if answer.objects else {}),
    }


def _counted(answer: Answer, site: Code | None, images: tuple[InstanceRef, ...]) -> Finding:
    """Return the finding of an answer without one: how much the program gave."""
    counts = zip(_COUNTS, (0, len(answer.objects)), strict=True)
    measured = tuple(Measurement(code, float(count), _NO_UNITS, images) for code, count in counts)
    return Finding("answer of the program", _ANSWER, site or BODY, measured, images)


def _named_images(findings: Iterable[Finding], images: tuple[InstanceRef, ...]) -> tuple[InstanceRef, ...]:
    """Return the images that the program names; what is of the whole study names none, but the only one."""
    named = (item.evidence[0] for item in findings if len(item.evidence) == 1)
    return tuple(dict.fromkeys(named)) or (images if len(images) == 1 else ())


def _remark(text: str, findings: Iterable[Finding]) -> tuple[tuple[str, str], ...]:
    """Return the program's summary beside verdicts, which take its place as the answer in words."""
    return (("summary of the program", text),) if text and any(item.presence for item in findings) else ()


def _summary(text: str, title: str, findings: Sequence[Finding], object_count: int) -> str:
    if text or any(item.presence for item in findings):
        return text
    if findings:
        return f"{title}: {len(findings)} found or measured"
    return f"{title}: no finding, {object_count} objects of the program"


def _captures(title: str, findings: Sequence[Finding]) -> tuple[Capture, ...]:
    """Return a picture of each image, or frame, with a finding at a place, of the first of them."""
    by_frame: dict[tuple[InstanceRef, int | None], list[Finding]] = {}
    for item in findings:
        if item.region:
            by_frame.setdefault((item.region.image, item.region.frame), []).append(item)
    return tuple(
        Capture(
            image,
            title,
            tuple(item.label for item in items[1:6]),
            findings=tuple(items),
            subject=items[0],
            frame=frame,
        )
        for (image, frame), items in [*by_frame.items()][:_MOST_CAPTURES]
    )
