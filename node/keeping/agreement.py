"""How often persons agreed with a model, and how often a positive answer was right, by month. Pure.

A reading is one case, however many of its findings were judged: findings of one patient are not independent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from ainode.node.domain import Opinion, Presence
from ainode.node.keeping.judgements import JudgedCase


@dataclass(frozen=True, slots=True)
class Agreement:
    """The readings of a route by a version of a model that persons judged in a month."""

    month: str
    """such as 2026-11, the month of the last judgement of a reading"""
    route: str
    handler: str
    model: str
    version: str
    readings: int
    """that were judged"""
    agreed: int
    """readings of which every judgement is an acceptance"""
    positives: int
    """readings that say that something is present, and whose whole result was judged"""
    right_positives: int
    """positives of which a person says so too"""
    synthetic: int
    """of the readings: of studies that were made up"""


def agreements(judged: Iterable[JudgedCase], zone: tzinfo | None = None) -> tuple[Agreement, ...]:
    """Return the figures of each month, route, model and version: the newest month first, then the least agreement.

    Months are those of the zone.
    """
    by_job: dict[str, list[JudgedCase]] = {}
    for entry in judged:
        by_job.setdefault(entry.job, []).append(entry)
    by_group: dict[tuple[str, ...], list[Sequence[JudgedCase]]] = {}
    for reading in by_job.values():
        last = max(reading, key=lambda entry: entry.judged_at)
        month = f"{last.judged_at.astimezone(zone):%Y-%m}"
        group = (month, last.route, last.handler, last.model, last.version)
        by_group.setdefault(group, []).append(reading)
    figures = [_agreement(group, readings) for group, readings in by_group.items()]
    by_share = sorted(figures, key=lambda item: (item.agreed / item.readings, -item.readings, item.route, item.version))
    return tuple(sorted(by_share, key=lambda item: item.month, reverse=True))


def _agreement(group: tuple[str, ...], readings: Sequence[Sequence[JudgedCase]]) -> Agreement:
    positives = [is_right for reading in readings if (is_right := is_right_positive(reading)) is not None]
    agreed = sum(all(entry.opinion == Opinion.ACCEPT for entry in reading) for reading in readings)
    month, route, handler, model, version = group
    synthetic = sum(reading[0].is_synthetic for reading in readings)
    right = positives.count(True)
    return Agreement(month, route, handler, model, version, len(readings), agreed, len(positives), right, synthetic)


def is_right_positive(reading: Sequence[JudgedCase]) -> bool | None:
    """Return whether a person confirms a positive reading; None where nobody judged the whole, or it is negative.

    A finding does not decide: the others, which nobody judged, may be right or wrong.
    """
    positives = [entry for entry in reading if not entry.finding and entry.presence == Presence.PRESENT]
    return any(map(_confirms, positives)) if positives else None


def _confirms(entry: JudgedCase) -> bool:
    """Return whether something is present for the person too; what is rejected or indeterminate is not."""
    if entry.opinion == Opinion.CHANGE:
        return entry.presence_instead in {"", Presence.PRESENT}
    return entry.opinion == Opinion.ACCEPT
