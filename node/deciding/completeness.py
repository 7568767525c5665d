"""Is this study complete? Pure: the time comes in, a verdict goes out.

A study is complete when every association that carried the study was released and the expected count arrived; else
after a silence learned from the pauses of the sender; else after the configured silence; and at once when somebody
requests the reading. An instance that arrives later makes the study incomplete again; the next report supersedes the
earlier report. A study whose sender broke off waits for the sender as long as for images that are known to be missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from ainode.node.domain import Instance, InstanceRef, Series, Study, counted
from ainode.node.settings import CompletenessTable

_REMEMBERED_PAUSES = 20
_QUANTILE = 0.95  # by nearest rank: of twenty pauses the second longest, so one odd pause changes nothing
_SUFFICIENT_PAUSES = 5  # fewer pauses say nothing about the next one
_MARGIN = 1.5  # how much longer than any usual pause the node waits
# SOP classes that are about images and show none (PS3.4 B.5): presentation states, SR with key objects, documents.
_ABOUT_IMAGES: Final = tuple(f"1.2.840.10008.5.1.4.1.1.{family}." for family in (11, 88, 104))
BROKEN_OFF: Final = "the connection broke off while this study came: images may be missing"
REFUSED: Final = "the node refused objects while this study came: images may be missing"
INTERRUPTIONS: Final = (BROKEN_OFF, REFUSED)


@dataclass(frozen=True, slots=True)
class SenderHistory:
    """The last pauses of one sender between associations of the same study, oldest first, in seconds."""

    pauses_s: tuple[float, ...] = ()

    def learned(self, pause_s: float) -> "SenderHistory":
        """Return the history with one more pause; the pause of a study in a single association is 0."""
        return replace(self, pauses_s=(*self.pauses_s, max(0.0, pause_s))[-_REMEMBERED_PAUSES:])

    def silence_s(self, limits: CompletenessTable) -> float | None:
        """Return the silence that ends a study of this sender, in seconds; None before five pauses were learned."""
        if len(self.pauses_s) < _SUFFICIENT_PAUSES:
            return None
        usual = sorted(self.pauses_s)[ceil(_QUANTILE * len(self.pauses_s)) - 1]
        return min(max(usual * _MARGIN, limits.min_silence_s), limits.max_silence_s)


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a study that is arriving."""

    received: int
    """distinct instances that arrived"""
    last_activity: datetime
    """the last arrival of an instance, or the last release of an association that carried the study"""
    open_since: tuple[datetime, ...] = ()
    """opening times of the open associations that carried the study"""
    expected: int | None = None
    """instances of the whole study, as counted by a sender or an archive"""
    at_least: int = 0
    """instances that the headers announce for the series that have begun to arrive"""
    history: SenderHistory = SenderHistory()
    requested: bool = False
    """whether somebody requested a reading of what arrived"""
    interruption: str = ""
    """one of `INTERRUPTIONS` until the sender has come again without one, else ''"""
    is_noted: bool = False
    """whether a key object came for a study that was routed, and no image since"""

    @property
    def doubt(self) -> str:
        """Return why images may be missing; '' without an interruption, or where every expected instance arrived."""
        has_all = self.expected is not None and self.received >= max(self.expected, self.at_least)
        return "" if has_all else self.interruption


@dataclass(frozen=True, slots=True)
class Complete:
    """The study is complete; read the study now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The study is not complete; ask again at the next event, and at `until` at the latest."""

    until: datetime
    reason: str


def _silence(progress: Progress, limits: CompletenessTable) -> tuple[float, str]:
    """Return the silence in seconds that completes the study, and the reason for its length."""
    count = max(progress.expected or 0, progress.at_least)
    if progress.received < count:
        silence_s, basis = limits.max_silence_s, f"with {progress.received} of {count} expected images or objects"
    elif progress.expected is not None:
        return 0.0, f"all {counted(progress.expected, 'expected image or object', 'expected images or objects')}"
    elif progress.interruption:
        silence_s, basis = limits.max_silence_s, f"as {progress.interruption}"
    elif (learned_s := progress.history.silence_s(limits)) is not None:
        silence_s, basis = learned_s, f"as learned from this sender's last {len(progress.history.pauses_s)} pauses"
    else:
        silence_s, basis = limits.default_silence_s, "as for a sender whose pauses are not known yet"
    return silence_s, f"{silence_s:.1f} s without a further image, {basis}"


def verdict(progress: Progress, limits: CompletenessTable, now: datetime) -> Complete | Wait:
    """Return whether the study is complete at `now`.

    Units: seconds in limits; aware datetimes.
    """
    if progress.requested:
        return Complete("somebody asked for it")
    if progress.is_noted and not progress.open_since:
        return Complete("a key object came without images for a study that was routed before")
    silence_s, reason = _silence(progress, limits)
    due = progress.last_activity + timedelta(seconds=silence_s)
    ends = (since + timedelta(seconds=limits.limit_s) for since in progress.open_since)
    holding = [end for end in ends if now < end]
    if holding:
        return Wait(
            max(due, *holding), f"{counted(len(holding), 'connection')} that brought images of it and may bring more"
        )
    return Complete(reason) if now >= due else Wait(due, f"waiting for {reason}")


def is_image(ref: InstanceRef) -> bool:
    """Whether an instance is an image or the like, and no document or presentation state about images."""
    return not ref.sop_class_uid.startswith(_ABOUT_IMAGES)


def _announced(series: Series) -> int:
    """Return how many instances the headers announce for the series, at least those that arrived.

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
    """Return how many instances the headers announce for the study (0020,1208); None if no header does."""
    return max(_counts(study.instances, ["NumberOfStudyRelatedInstances"]), default=None)


def at_least(study: Study) -> int:
    """Return how many instances the headers announce for the series that have begun to arrive."""
    return sum(_announced(series) for series in study.series)
