"""The growth of a nodule between two measurements of its volume."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from ainode.models.following.grid import Omission

# A smaller change may be two measurements of one size. Source: van Klaveren et al., N Engl J Med 2009 (NELSON).
_SIGNIFICANT = 0.25
_SHORTEST_DAYS = 1.0
# Small nodules are measured in slices of 1.5 mm or less (MacMahon et al., Radiology 2017, Fleischner Society). Slices
# of 2.5 and 5 mm give no usable doubling time (Nietert et al., Chest 2009). Phantom nodules of 5 to 10 mm, against
# slices of 1 mm: -3 to +13 % in 1.5 mm, -26 to +20 % in 2.5 mm, -6 to +96 % in 5 mm. The two thicknesses may differ.
_THICKEST_MM, _ROUNDING_MM = 1.5, 0.01


@dataclass(frozen=True, slots=True)
class Growth:
    """The change of a nodule's volume from an earlier to a later date.

    Units: `percent` of the earlier volume, negative where the nodule shrank. `doubling_time_days` is None where there
    is no significant growth; `reason` then says why.
    """

    percent: float
    days: float
    doubling_time_days: float | None
    reason: str = ""


def thickness_omission(earlier_mm: float, later_mm: float) -> Omission | None:
    """Return the omission that slices too thick for growth cause, None if both thicknesses are small enough."""
    if max(earlier_mm, later_mm) <= _THICKEST_MM + _ROUNDING_MM:
        return None
    reason = f"the slices are {earlier_mm:.3g} and {later_mm:.3g} mm thick; growth needs {_THICKEST_MM:g} or less"
    return Omission("slices", reason)


def growth(earlier_mm3: float, later_mm3: float, days: float) -> Growth | Omission:
    """Return the growth between two volumes measured `days` apart, or why there is none.

    Source: Schwartz, A biomathematical approach to clinical tumor growth, Cancer 1961 (volume doubling time).
    """
    if days < _SHORTEST_DAYS:
        return Omission("too-soon", f"the scans are {days:.1f} days apart; growth needs {_SHORTEST_DAYS:.0f} or more")
    ratio = later_mm3 / earlier_mm3
    percent = 100 * (ratio - 1)
    if ratio - 1 >= _SIGNIFICANT:
        return Growth(percent, days, days * log(2) / log(ratio))
    shrunk = 1 - ratio >= _SIGNIFICANT
    reason = (
        "the nodule is smaller"
        if shrunk
        else f"no significant growth: the volume changed by less than {_SIGNIFICANT:.0%}"
    )
    return Growth(percent, days, None, reason)
