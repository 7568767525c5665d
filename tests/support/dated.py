"""Synthetic CTs of one patient at several dates, around a nodule that grows; what it measures is known."""

from dataclasses import dataclass
from math import pi
from pathlib import Path

import numpy as np

from ainode.models.phantoms.thorax import Field, Nodule, nodule_position, thorax
from ainode.models.phantoms.thorax_anatomy import Build
from ainode.node import testing
from ainode.node.domain import Position, SyntheticImage, Value

NOBODY = {"PatientID": "7", "PatientName": "Synthetic^Nobody", "PatientBirthDate": "19500101"}
PATIENT = 1
_SIZE, _SPACING_MM = (64, 160, 160), (1.2, 1.2, 1.2)
HEADER: dict[str, Value] = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "Modality": "CT",
    "BodyPartExamined": "CHEST",
    "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
    "KVP": 120.0,
    "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "RescaleIntercept": -1024.0,
    "RescaleSlope": 1.0,
    "RescaleType": "HU",
}


@dataclass(frozen=True, slots=True)
class Dated:
    """A CT of one date: its slices, and where the nodule is, LPS mm of that scan."""

    images: tuple[SyntheticImage, ...]
    position_mm: Position

    def write(self, folder: Path, name: str, *, point: bool = False) -> tuple[Path, ...]:
        """Write it as files; with a report that points at the nodule."""
        return testing.write(self.images, folder, study=name, positions_mm=(self.position_mm,) if point else ())


def dated(  # what may differ from date to date
    date: str,
    diameter_mm: float,
    *,
    patient: int = PATIENT,
    shifted_mm: float = 0.0,
    density_hu: float = 30.0,
    **header: Value,
) -> Dated:
    """Return a scan of a date; it lies, and its coordinates begin, where they do on no other date.

    Units: `shifted_mm` is how much further to the head the scan is than the nodule.
    """
    place = nodule_position(np.random.default_rng(patient), patient, 24)
    z, y, x = Nodule(place, 1).center_mm(Build.of_patient(patient))
    field = Field(_SIZE, _SPACING_MM, (z + shifted_mm, y, x))
    nodules = (Nodule(place, diameter_mm, density_hu=density_hu),)
    drawn = thorax(patient, int(date) % 10_000, scanned=field, nodules=nodules)
    origin = np.array((-90.0, -80.0, int(date) % 97))
    images = []
    for number, pixels in enumerate(drawn.values):
        stored = np.clip(np.rint(pixels) + 1024, 0, 4095).astype("<u2")
        own: dict[str, Value] = {
            "StudyDate": date,
            "FrameOfReferenceUID": testing.uid("frame", date),
            "ImagePositionPatient": (float(origin[0]), float(origin[1]), float(origin[2] + number * _SPACING_MM[0])),
            "PixelSpacing": _SPACING_MM[1:],
            "SliceThickness": _SPACING_MM[0],
        }
        images.append(SyntheticImage(*_SIZE[1:], stored.tobytes(), HEADER | NOBODY | own | header))
    there = origin + np.asarray(drawn.nodule_centers[0])[::-1] * np.asarray(_SPACING_MM)[::-1]
    return Dated(tuple(images), (float(there[0]), float(there[1]), float(there[2])))


def growth_percent(before_mm: float, after_mm: float) -> float:
    """Return how much larger in volume the second ball is."""
    return 100 * ((after_mm / before_mm) ** 3 - 1)


def ball_mm3(diameter_mm: float) -> float:
    """Return the volume of a ball."""
    return pi / 6 * diameter_mm**3
