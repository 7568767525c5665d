"""A synthetic study that a description takes: it shows that the way works, and nothing of the model."""

from math import ceil

import numpy as np

from ainode.handlers.described.description import Takes
from ainode.models.phantoms.thorax import Field, thorax
from ainode.node.domain import Header, SyntheticImage, SyntheticStudy
from ainode.node.testing import ct, noise

_SOP_CLASSES = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "XC": "1.2.840.10008.5.1.4.1.1.77.1.4",
}
_VOLUMES = frozenset({"CT", "MR", "PT"})
_LEAST_COLUMNS, _WIDTH_MM, _LEAST_SLICES, _SLICE_MM = 128, 384.0, 24, 5.0
_SIDE = 512


def example(takes: Takes, seed: int) -> SyntheticStudy:
    """Return a study that a description takes: a phantom of a chest for CT, MR and PET, noise for other images."""
    modality = takes.modality[0]
    header: Header = {
        "Modality": modality,
        **({"SOPClassUID": _SOP_CLASSES[modality]} if modality in _SOP_CLASSES else {}),
        **({"Units": takes.units} if takes.units and modality == "PT" else {}),
        **({"SUVType": takes.suv} if takes.suv and modality == "PT" else {}),
        **({"BodyPartExamined": takes.body_part[0]} if takes.body_part else {}),
        "SeriesDescription": takes.series or "Synthetic",
    }
    if modality in _VOLUMES:
        slices = _slices(takes, seed, header)
        return SyntheticStudy(slices if takes.is_stack else slices[:: max(1, len(slices) // takes.min_instances)])
    side = max(_SIDE, takes.smallest_side)
    images = range(takes.min_instances)
    if takes.color == "color" or modality == "XC":
        return SyntheticStudy(tuple(_picture(side, seed + number, header) for number in images))
    texts = {keyword: str(value) for keyword, value in header.items()}
    return SyntheticStudy(tuple(noise(side, side, seed=seed + number, **texts) for number in images))


def _slices(takes: Takes, seed: int, header: Header) -> tuple[SyntheticImage, ...]:
    columns = max(_LEAST_COLUMNS, takes.smallest_side)
    step_mm = min(_SLICE_MM, takes.max_spacing_mm)
    count = max(_LEAST_SLICES, takes.min_instances, ceil(takes.min_coverage_mm / step_mm))
    grid = Field((count, columns, columns), (step_mm, _WIDTH_MM / columns, _WIDTH_MM / columns))
    phantom = thorax(seed, seed, scanned=grid, consolidations=1)
    if takes.modality[0] == "CT":
        return ct(phantom.values, phantom.spacing_mm, frame=f"described {seed}", header=header)
    other: Header = {**header, "RescaleIntercept": 0.0, "RescaleType": "US"}
    return ct(phantom.values, phantom.spacing_mm, frame=f"described {seed}", header=other)


def _picture(side: int, seed: int, header: Header) -> SyntheticImage:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return SyntheticImage(side, side, pixels.tobytes(), header, 3)
