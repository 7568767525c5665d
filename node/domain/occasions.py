"""What a notification may be about."""

from enum import StrEnum


class Occasion(StrEnum):
    """What a notification is about; an answer is named by its strongest verdict."""

    PRESENT = "present"
    INDETERMINATE = "indeterminate"
    ABSENT = "absent"
    FAILURE = "failure"
    """the reading of a study was given up"""
    DEAD_LETTER = "dead_letter"
    """documents were given up on their way to a destination"""
    QUEUE = "queue"
    """what waits has waited for too long, or no longer does"""
    ALERT = "alert"
    """what the node has to say of itself"""
    TEST = "test"
    """nothing happened: a person tries whether a notification arrives; nobody subscribes to it"""

    @property
    def is_answer(self) -> bool:
        """Return whether the notification tells what a model says of a study."""
        return self in {Occasion.PRESENT, Occasion.INDETERMINATE, Occasion.ABSENT}
