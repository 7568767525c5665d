"""How fast a nodule grows, where two measurements can say."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from ainode.models.following.grid import LeftOut
from ainode.models.following.nodule import Measured

# Less may be two measurements of one size. van Klaveren et al., N Engl J Med 2009 (NELSON): growth is 25 % or more.
_SIGNIFICANT = 0.25
_SHORTEST_DAYS = 1.0
# MacMahon et al., Radiology 2017 (Fleischner Society): sections of 1.5 mm or less to measure small nodules; of 2.5 and
# 5 mm doubling times say nothing (Nietert et al., Chest 2009). Against 1 mm, phantoms of 5 to 10 mm measure -3 to +13 %
# in 1.5 mm, -26 to +20 % in 2.5 mm, -6 to +96 % in 5 mm. Two that are thin enough may differ.
_THICKEST_MM, _ROUNDING_MM = 1.5, 0.01


@dataclass(frozen=True, slots=True)
class Growth:
    """The change of a nodule's volume from an earlier to a later date.

    Units: percent of the earlier volume, negative where it shrank; days. `doubling_time` is None where there is no
    significant growth; `reason` then says so.
    """

    percent: float
    days: float
    doubling_time_days: float | None
    reason: str = ""


def comparable(earlier_mm: float, later_mm: float) -> LeftOut | None:
    """Return why volumes in slices of two thicknesses tell no growth, None if they do."""
    if max(earlier_mm, later_mm) <= _THICKEST_MM + _ROUNDING_MM:
        return None
    what = f"the slices are {earlier_mm:.3g} and {later_mm:.3g} mm thick; growth needs {_THICKEST_MM:g} or less"
    return LeftOut("slices", what)


def growth(earlier: Measured, later: Measured, days: float) -> Growth | LeftOut:
    """Return the change between two dates that are `days` apart.

    Source: Schwartz, A biomathematical approach to clinical tumor growth, Cancer 1961 (volume doubling time).
    """
    if days < _SHORTEST_DAYS:
        return LeftOut("too-soon", f"the scans are {days:.1f} days apart; growth needs {_SHORTEST_DAYS:.0f} or more")
    ratio = later.volume_mm3 / earlier.volume_mm3
    percent = 100 * (ratio - 1)
    if ratio - 1 >= _SIGNIFICANT:
        return Growth(percent, days, days * log(2) / log(ratio))
    shrunk = 1 - ratio >= _SIGNIFICANT
    what = (
        "the nodule is smaller"
        if shrunk
        else f"no significant growth: the volume changed by less than {_SIGNIFICANT:.0%}"
    )
    return Growth(percent, days, None, what)
