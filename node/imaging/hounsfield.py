"""Whether the values of a CT are Hounsfield units: first by its headers, then by a few of its values.

Air has -1000 HU and water 0 (PS3.3 C.11.1.1.2), so a body shows air, fat and soft tissue at their known values: scaled,
shifted, unsigned or masked values do not.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ainode.node.domain import Instance
from ainode.node.imaging.free_text import as_code

# PS3.3 C.11.1.1.2 has HU; devices write the unit in words, or leave it out.
_NAMES = frozenset({"", "HU", "[HU]", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS"})
# In Hounsfield units. Of the real scans and the phantoms of the tests, 28 to 53 % of the values are denser than gas; of
# these 88 to 97 % are as dense as fat and soft tissue, and at most 4 % are denser than bone.
_AIR, _GAS, _SOFT, _BONE, _METAL, _WRAPPED = -700.0, -300.0, (-200.0, 250.0), 500.0, 2500.0, 30_000.0
_LEAST_AIR, _LEAST_TISSUE, _LEAST_SOFT = 0.0005, 0.05, 0.6
_MOST_BONE, _MOST_METAL, _MOST_WRAPPED, _MOST_OF_ONE_VALUE = 0.3, 0.01, 0.0005, 0.2
_LEAST_RANGE, _LEAST_COUNT = 200.0, 100


def header_reason(instances: Iterable[Instance]) -> str:
    """Return what says in the headers that values are no Hounsfield units, in words; '' if nothing says so."""
    slices = tuple(instances)
    return next((reason for instance in slices if (reason := _header_reason(instance))), "") or _shift_reason(slices)


def _shift_reason(slices: Iterable[Instance]) -> str:
    """Return the rescale that shifts some of the slices against the others, in words; '' if none does.

    A tool that lost an intercept lost it in some files. Slices that are scaled one by one have a slope each.
    """
    rescales = {(instance.header.get("RescaleSlope"), instance.header.get("RescaleIntercept")) for instance in slices}
    intercepts = {intercept for _, intercept in rescales if isinstance(intercept, int | float)}
    if len({slope for slope, _ in rescales}) > 1 or not intercepts or max(intercepts) - min(intercepts) < 1:
        return ""
    return f"Rescale Intercept is {min(intercepts):g} and {max(intercepts):g} in one scan"


def _header_reason(instance: Instance) -> str:
    luts = instance.header.get("ModalityLUTSequence")
    if isinstance(luts, tuple) and luts and isinstance(luts[0], Mapping):
        name, unit = "Modality LUT Type", str(luts[0].get("ModalityLUTType", ""))
    else:
        name, unit = "Rescale Type", instance.text("RescaleType")
        for keyword, attribute in (("RescaleSlope", "Rescale Slope"), ("RescaleIntercept", "Rescale Intercept")):
            number = instance.header.get(keyword, "")
            if not isinstance(number, int | float) or (keyword == "RescaleSlope" and number <= 0):
                return f"{attribute} is {as_code(number)}"
    return "" if unit.strip().upper() in _NAMES else f"{name} is {as_code(unit)!r}"


def range_reason(values: NDArray[np.float32]) -> str:
    """Return why a sample of a CT's values is of another range than Hounsfield units, in words; '' if it is not."""
    low, high = np.percentile(values, (0.5, 99.5))
    if high - low < _LEAST_RANGE:
        return f"99 % of the values lie between {low:.4g} and {high:.4g}"
    if _share(values > _METAL) > _MOST_METAL or _share(values > _WRAPPED) > _MOST_WRAPPED:
        return f"{_share(values > _METAL):.1%} of the values lie above {_METAL:.0f}, beyond bone; a lost sign does so"
    if _share(values < _AIR) < _LEAST_AIR:
        return f"none of the values lies below {_AIR:.0f}, where air is; 99 % lie between {low:.0f} and {high:.0f}"
    if (count := len(np.unique(values))) < _LEAST_COUNT:
        return f"the values are only {count} different numbers"
    return ""


def tissue_reason(values: NDArray[np.float32]) -> str:
    """Return why the values that are denser than gas are of no body; '' if the values can be."""
    tissue, count = values[values > _GAS], values.size
    if len(tissue) < _LEAST_TISSUE * count:
        return f"{len(tissue) / count:.1%} of the values lie above {_GAS:.0f}, where a body is"
    soft, bone = _share((tissue > _SOFT[0]) & (tissue < _SOFT[1])), _share(tissue > _BONE)
    if soft < _LEAST_SOFT or bone > _MOST_BONE:
        return f"of what is denser than gas, {soft:.0%} is fat and soft tissue, {bone:.0%} denser than bone"
    numbers, counts = np.unique(tissue, return_counts=True)
    share = counts.max() / count
    if share > _MOST_OF_ONE_VALUE:
        return f"{share:.0%} of the values are exactly {numbers[counts.argmax()]:g}"
    return ""


def _share(mask: NDArray[np.bool_]) -> float:
    return float(mask.mean())
