"""The states of a job and of a delivery."""

from enum import StrEnum


class JobState(StrEnum):
    """State of a job."""

    WAITING = "waiting"
    READING = "reading"
    REPORTED = "reported"
    OUT_OF_SCOPE = "out_of_scope"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """somebody ended the wait before the reading began"""
    SUPERSEDED = "superseded"


class DeliveryState(StrEnum):
    """State of the delivery of one document to one destination."""

    WAITING = "waiting"
    SENT = "sent"
    CONFIRMED = "confirmed"
    CHECKING = "checking"
    """somebody asked for the results: the archive is asked whether it still has the document"""
    FAILED = "failed"
