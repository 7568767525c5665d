"""The checks of what an answer says: its codes, thresholds and units, and that no text names the patient."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Final

from ainode.node.domain import Code, Finding, Measurement, OutOfScope, Reading, Result
from ainode.node.proving.checks import Check, judged, not_applicable
from ainode.node.reading.codes import code_problem, unit_problem

_PERCENT: Final = "%"
# A probability in a report is rounded, to a tenth of a percent.
_ROUNDED: Final = 0.006
_PROBABILITY: Final = re.compile(r"probability", re.IGNORECASE)
_UID: Final = re.compile(r"\b[0-9]+(\.[0-9]+){3,}\b")
_WORD: Final = re.compile(r"[\w-]+")


def statement_checks(reading: Reading, patient: Mapping[str, str]) -> Iterator[Check]:
    """Yield the checks of what a reading says; `patient` maps each word that no text may have to its attribute."""
    answer = reading.answer
    names = ("codes, scheme and form", "codes, thresholds and units")
    if isinstance(answer, OutOfScope):
        yield from (not_applicable(name, "the study was refused") for name in names)
    else:
        codes = tuple(dict.fromkeys(_codes(answer)))
        yield judged(names[0], tuple(filter(None, map(code_problem, codes))), f"{len(codes)} codes")
        yield judged(names[1], tuple(_unstated(answer)), f"{len(answer.findings)} findings")
    yield judged("no patient attribute in a text", tuple(_patient_attributes(reading, patient)))


def _codes(value: object) -> Iterator[Code]:
    if isinstance(value, Code):
        yield value
        return
    for item in _parts(value):
        yield from _codes(item)


def _parts(value: object) -> Iterator[object]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, field.name) for field in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        yield from (*value.keys(), *value.values())
    elif isinstance(value, tuple):
        yield from value


def _unstated(result: Result) -> Iterator[str]:
    """Yield what is said without its threshold or its unit."""
    for finding in result.findings:
        for measurement in finding.measurements:
            if problem := unit_problem(measurement.unit):
                yield f"{finding.tracking_identifier}: {problem}"
        yield from (f"{finding.tracking_identifier}: {words}" for words in _unjudged(finding))
    judged_findings = [finding for finding in result.findings if finding.verdict]
    named = [name for name in result.scores if _PROBABILITY.fullmatch(name)]
    if named and not judged_findings:
        yield "the answer has a probability, and no finding has a verdict with a threshold"


def _unjudged(finding: Finding) -> Iterator[str]:
    verdict = finding.verdict
    if verdict is None:
        return
    if not 0 < verdict.threshold < 1:
        yield f"a threshold of {verdict.threshold:g} parts nothing"
    if not finding.measurements:
        yield "a verdict without its probability as the first measurement"
    elif abs(_part_of_one(finding.measurements[0]) - verdict.probability) > _ROUNDED:
        first = finding.measurements[0]
        yield f"the first measurement, {first.value:g} {first.unit.value}, is not the verdict's {verdict.probability:g}"


def _part_of_one(measurement: Measurement) -> float:
    return measurement.value / 100 if measurement.unit.value == _PERCENT else measurement.value


def _patient_attributes(reading: Reading, patient: Mapping[str, str]) -> Iterator[str]:
    """Yield which attribute of the patient a text has, and never its value."""
    texts = " ".join((*_texts(reading.answer), reading.summary))
    words = {word.casefold() for word in _WORD.findall(_UID.sub(" ", texts))}
    for keyword in sorted({patient[word] for word in words & patient.keys()}):
        yield f"a text of the answer has a word of {keyword}"


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in _parts(value):
        yield from _texts(item)
