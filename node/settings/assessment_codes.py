"""`[console.codes]`: the codes of a person's judgement, in its document and in the list of reasons."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints, field_validator

from ainode.node.domain import AssessmentCodes, Code
from ainode.node.settings.frozen import Frozen
from ainode.node.settings.values import PRINTED

# A Code Value and a Coding Scheme Designator have 16 characters, a Code Meaning 64 (PS3.3 8.1, 8.2).
_Short = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=PRINTED)]
_Long = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=PRINTED)]
Triple = tuple[_Short, _Short, _Long]
"""Code Value, Coding Scheme Designator and Code Meaning"""
_OWN: Final = "99AINODE"


class CodesTable(Frozen):
    """`[console.codes]`: no public scheme has codes for the assessment of an AI result; a site may give its own."""

    title: Triple = ("assessment", _OWN, "AI Result Assessment")
    opinion: Triple = ("opinion", _OWN, "Assessment of AI Result")
    accepted: Triple = ("accepted", _OWN, "Accepted")
    changed: Triple = ("modified", _OWN, "Modified")
    rejected: Triple = ("rejected", _OWN, "Rejected")
    status: Triple = ("status", _OWN, "Assessment Status")
    final: Triple = ("final", _OWN, "Final")
    amended: Triple = ("amended", _OWN, "Amended")
    reason: Triple = ("reason", _OWN, "Reason for Assessment")
    replaced_by: Triple = ("replaced-by", _OWN, "Presence according to Assessor")
    reasons: Annotated[tuple[Triple, ...], Field(min_length=1)] = (
        ("false-positive", _OWN, "False positive"),
        ("false-negative", _OWN, "False negative"),
        ("wrong-place", _OWN, "Wrong location or side"),
        ("wrong-value", _OWN, "Wrong measurement"),
        ("wrong-kind", _OWN, "Wrong kind of finding"),
        ("artifact", _OWN, "Artifact or image quality"),
        ("already-known", _OWN, "Already known or treated"),
        ("not-relevant", _OWN, "Not clinically relevant"),
        ("not-for-study", _OWN, "Model not meant for this study"),
        ("other", _OWN, "Other"),
    )

    @field_validator("reasons")
    @classmethod
    def _refuse_repeated_reason(cls, reasons: tuple[Triple, ...]) -> tuple[Triple, ...]:
        values = [value for value, _, _ in reasons]
        if repeated := sorted({value for value in values if values.count(value) > 1}):
            message = f"two reasons have the Code Value {repeated[0]!r}; rename one"
            raise ValueError(message)
        return reasons

    def codes(self) -> AssessmentCodes:
        """Return the codes as nouns of the domain."""
        values = {name: Code(*getattr(self, name)) for name in type(self).model_fields if name != "reasons"}
        return AssessmentCodes(**values, reasons=tuple(Code(*reason) for reason in self.reasons))
