"""Is this study complete? Pure: the time comes in, a verdict goes out.

Complete when every association that carried it was released and the expected count is there; else after a silence
learned from the sender's own pauses; else after the configured one; and at once when somebody asks for it. Each
arrival is a new question, so a study that was complete becomes incomplete again and its later report supersedes the
earlier one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil

from ainode.node.domain import Instance, Series, Study
from ainode.node.settings import CompletenessTable

_KEPT = 20
_QUANTILE = 0.95  # by nearest rank: of twenty pauses the second longest, so one odd pause changes nothing
_ENOUGH = 5  # fewer pauses say nothing about the next one
_MARGIN = 1.5  # how much longer than any usual pause the node waits


@dataclass(frozen=True, slots=True)
class SenderHistory:
    """The last pauses of one sender between associations of the same study, oldest first, in seconds."""

    pauses_s: tuple[float, ...] = ()

    def learned(self, pause_s: float) -> "SenderHistory":
        """Return the history with one more pause; 0 for a study that came in a single association."""
        return replace(self, pauses_s=(*self.pauses_s, max(0.0, pause_s))[-_KEPT:])

    def silence_s(self, limits: CompletenessTable) -> float | None:
        """Return after how long a silence of this sender a study is over; None until enough was learned."""
        if len(self.pauses_s) < _ENOUGH:
            return None
        usual = sorted(self.pauses_s)[ceil(_QUANTILE * len(self.pauses_s)) - 1]
        return min(max(usual * _MARGIN, limits.min_silence_s), limits.max_silence_s)


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of a study that is arriving."""

    received: int
    """distinct instances that are there"""
    last_activity: datetime
    """the last arrival, or the last release of an association that carried it, whichever is later"""
    open_since: tuple[datetime, ...] = ()
    """when each association was opened that carried it and is still open"""
    expected: int | None = None
    """instances of the whole study, if somebody has counted them"""
    at_least: int = 0
    """instances that the objects themselves announce, of the series seen so far"""
    history: SenderHistory = SenderHistory()
    asked: bool = False
    """somebody wants it read with what is there"""


@dataclass(frozen=True, slots=True)
class Complete:
    """Read it now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again when something happens, and at the latest at this time."""

    until: datetime
    reason: str


def _silence(progress: Progress, limits: CompletenessTable) -> tuple[float, str]:
    """Return how long it must be silent once no association holds it, and why so long."""
    wanted = max(progress.expected or 0, progress.at_least)
    if progress.received < wanted:
        silence_s, why = limits.max_silence_s, f"with {progress.received} of {wanted} expected instances"
    elif progress.expected is not None:
        return 0.0, f"all {progress.expected} expected instances"
    elif (learned_s := progress.history.silence_s(limits)) is not None:
        silence_s, why = learned_s, f"learned from this sender's last {len(progress.history.pauses_s)} pauses"
    else:
        silence_s, why = limits.default_silence_s, "for a sender without history"
    return silence_s, f"{silence_s:.1f} s of silence, {why}"


def verdict(progress: Progress, limits: CompletenessTable, now: datetime) -> Complete | Wait:
    """Return whether the study is complete at `now`.

    Units: seconds in limits; aware datetimes.
    """
    if progress.asked:
        return Complete("somebody asked for it")
    silence_s, reason = _silence(progress, limits)
    due = progress.last_activity + timedelta(seconds=silence_s)
    ends = (since + timedelta(seconds=limits.limit_s) for since in progress.open_since)
    holding = [end for end in ends if now < end]
    if holding:
        return Wait(max(due, *holding), f"open associations that carried it: {len(holding)}")
    return Complete(reason) if now >= due else Wait(due, f"waiting for {reason}")


def _announced(series: Series) -> int:
    """Return how many instances the series has by its own objects, at least those that are there.

    Images in Acquisition is trusted only where the series is one acquisition: vendors count reconstructions apart.
    Source: PS3.4 C.6.1.1.4 (0020,1209), PS3.3 C.7.6.1 (0020,1002), C.8.
    """
    acquisitions = {instance.header.get("AcquisitionNumber") for instance in series.instances}
    keywords = ["NumberOfSeriesRelatedInstances", *(["ImagesInAcquisition"] if len(acquisitions) == 1 else [])]
    return max([len(series.instances), *_counts(series.instances, keywords)])


def _counts(instances: Iterable[Instance], keywords: Iterable[str]) -> list[int]:
    values = (instance.header.get(keyword) for keyword in keywords for instance in instances)
    return [value for value in values if isinstance(value, int)]


def expected(study: Study) -> int | None:
    """Return how many instances the study has by its own objects; None where they do not say (0020,1208)."""
    return max(_counts(study.instances, ["NumberOfStudyRelatedInstances"]), default=None)


def at_least(study: Study) -> int:
    """Return how many instances the series that are there announce."""
    return sum(_announced(series) for series in study.series)
