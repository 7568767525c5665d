"""An event in the course of a study."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """A step in the course of a study."""

    at: datetime | None
    """None for what still has to happen"""
    title: str
    detail: str = ""
    seconds: float | None = None
    """how long the step took, or what came before it was waited for"""
    kind: str = "plain"
    """the color of its mark: good, busy, sent, warn, bad or plain"""
    route: str = ""
    """which reads the study in this step"""
