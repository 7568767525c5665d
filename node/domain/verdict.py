"""What is concluded of a finding: present, absent or indeterminate, and the numbers that decide."""

from dataclasses import dataclass
from enum import StrEnum

from ainode.node.domain.dicom import Code
from ainode.node.domain.probabilities import probability_text

_DIGITS = (2, 4, 6)


class Presence(StrEnum):
    """Whether something is there."""

    PRESENT = "present"
    ABSENT = "absent"
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True, slots=True)
class Band:
    """The probabilities from the lowest to the highest, both included, that decide nothing."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse ends that are no probabilities, or the wrong way round."""
        if not 0 <= self.low < self.high <= 1:
            message = f"band {self.low} to {self.high} is no range of probabilities"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The presence of a finding, held against a threshold.

    A verdict adds nothing that evidence and algorithm do not decide, so no digest of `identity` has a verdict in it. A
    band is no part of the weights: a handler whose card gives a band states the band in the algorithm's parameters.
    """

    presence: Presence
    probability: float
    threshold: float
    band: Band | None = None
    about: Code | None = None
    """what the probability is of, where this is not the finding itself: a nodule is there, and is malignant or not"""

    def __post_init__(self) -> None:
        """Refuse numbers that are no probabilities, and a presence that does not follow from the numbers."""
        if not (0 <= self.probability <= 1 and 0 < self.threshold < 1):
            message = f"probability {self.probability} or threshold {self.threshold} is no probability"
            raise ValueError(message)
        if self.band and not self.band.low <= self.threshold <= self.band.high:
            message = f"the band {self.band.low} to {self.band.high} does not hold the threshold {self.threshold}"
            raise ValueError(message)
        if self.presence is not _presence(self.probability, self.threshold, self.band):
            message = f"{self.probability} against a threshold of {self.threshold} cannot be {self.presence}"
            raise ValueError(message)

    @classmethod
    def of(
        cls, probability: float, threshold: float, *, band: Band | None = None, about: Code | None = None
    ) -> "Verdict":
        """Return the verdict that follows from the numbers."""
        return cls(_presence(probability, threshold, band), probability, threshold, band, about)

    @property
    def numbers(self) -> str:
        """Return the numbers in words, with as many digits as tell the probability from the threshold."""
        digits = next((digits for digits in _DIGITS if self._is_told_apart(digits)), _DIGITS[0])
        words = f"{probability_text(self.probability, digits)}, threshold {self.threshold:.{digits}f}"
        if self.band is None:
            return words
        return f"{words}, indeterminate from {self.band.low:.{digits}f} to {self.band.high:.{digits}f}"

    def _is_told_apart(self, digits: int) -> bool:
        limits = (self.threshold,) if self.band is None else (self.band.low, self.band.high)
        return all(round(self.probability, digits) != round(limit, digits) for limit in limits)


def _presence(probability: float, threshold: float, band: Band | None) -> Presence:
    if band and band.low <= probability <= band.high:
        return Presence.INDETERMINATE
    return Presence.PRESENT if probability > threshold else Presence.ABSENT
