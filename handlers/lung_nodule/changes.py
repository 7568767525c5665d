"""How a nodule changed between two dates, by its outlines."""

from ainode.handlers.lung_nodule.places import Place
from ainode.models.following import Growth, Omission, growth, thickness_omission
from ainode.models.nodule_outline.model import OutlinedNodule
from ainode.models.nodule_reading.density import filled_volume_mm3
from ainode.models.nodule_reading.reading import is_cut


def change_between(earlier: Place, later: Place) -> Growth | Omission:
    """Return the growth between two dates, or why there is none.

    The filled parts of both outlines are compared. A ball of ground glass in a phantom grew from 13 to 16 mm, by 86 %,
    and its outlines by 7 %: of what is not solid no growth is said.
    """
    outlines = [place.outlined for place in (earlier, later) if isinstance(place.outlined, OutlinedNodule)]
    if len(outlines) < 2:  # noqa: PLR2004 - of two dates
        return Omission("no-outline", "the nodule has no outline at one of the dates")
    if any(is_cut(nodule, place.grid) for nodule, place in zip(outlines, (earlier, later), strict=True)):
        return Omission("cut", "the nodule reaches the edge of the scan at one of the dates")
    days = later.days_after(earlier)
    if days is None:
        return Omission("no-date", "a study has no Study Date")
    if omission := thickness_omission(earlier.slice_mm, later.slice_mm):
        return omission
    first, second = (filled_volume_mm3(nodule) for nodule in outlines)
    if first is None or second is None:
        return Omission("not-solid", "growth needs soft tissue; the nodule is less dense at one of the dates")
    return growth(first, second, days)
