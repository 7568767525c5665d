"""How large a nodule is, and who says so: the person or system that drew or measured it, else the node's outline."""

from dataclasses import dataclass

from ainode.models.following import Grid, Omission
from ainode.models.nodule_outline.model import MASS_MM, OutlinedNodule
from ainode.models.nodule_reading.reading import is_cut
from ainode.node.domain import Location

OUTLINE = "the node's outline"


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a nodule at one date, and whose size it is.

    Units: mm, mm3; None where who gave the size does not say.
    """

    source: str
    long_axis_mm: float
    short_axis_mm: float | None
    volume_mm3: float | None

    @property
    def diameter_mm(self) -> float:
        """Return the mean of both axes (MacMahon et al., Radiology 2017), the long axis where there is one alone."""
        return self.long_axis_mm if self.short_axis_mm is None else (self.long_axis_mm + self.short_axis_mm) / 2

    @property
    def is_outlined(self) -> bool:
        """Return whether the size was measured on the node's outline."""
        return self.source == OUTLINE

    @property
    def text(self) -> str:
        """Return the size in whole mm, as caption."""
        axes = f" ({self.long_axis_mm:.0f} x {self.short_axis_mm:.0f} mm)" if self.short_axis_mm else ""
        volume = f", volume {self.volume_mm3:.0f} mm3" if self.volume_mm3 else ""
        whose = "" if self.is_outlined else f", as the {self.source} of a person or another system says"
        return f"Diameter {self.diameter_mm:.0f} mm{axes}{volume}{whose}"


def size_of(location: Location, outlined: OutlinedNodule | Omission, scan: Grid) -> Size | Omission:
    """Return the size of the nodule at a location: as drawn or measured there, else of the node's outline."""
    if extent := location.extent:
        return Size(location.source, extent.long_axis_mm, extent.short_axis_mm, extent.volume_mm3)
    if isinstance(outlined, Omission):
        return outlined
    if is_cut(outlined, scan):
        return Omission("cut", "the nodule reaches the edge of the scan")
    measured = outlined.size
    return Size(OUTLINE, measured.long_axis_mm, measured.short_axis_mm, measured.volume_mm3)


def refusal_of(location: Location, outlined: OutlinedNodule | Omission) -> Omission | None:
    """Return why the nodule at a location is not read: there is none, it is a mass, or fat; None of other nodules."""
    if isinstance(outlined, Omission):
        return outlined
    if location.extent is None:
        return outlined.refusal
    if location.extent.long_axis_mm <= MASS_MM:
        return outlined.fat_refusal
    width = f"{location.extent.long_axis_mm:.0f} mm, as the {location.source} says, more than {MASS_MM:.0f} mm"
    return Omission("mass", f"{width}: a mass, not a nodule")
