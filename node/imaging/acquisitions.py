"""Which slices are of one pass of the table and of one reconstruction; by headers alone, nothing is decoded.

Two passes may interleave into what looks like one even stack, and a series may hold several phases of contrast.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import TypeAlias

import numpy as np

from ainode.node.domain import Instance, Value
from ainode.node.imaging.contrast import phase
from ainode.node.imaging.free_text import as_code

Slices: TypeAlias = tuple[Instance, ...]
_Key: TypeAlias = "tuple[object, ...]"

_KERNEL = "ConvolutionKernel"
# Attributes of one reconstruction: its slices share the value.
_RECONSTRUCTION = {
    "FrameOfReferenceUID": "Frame of Reference UID",
    _KERNEL: "Convolution Kernel",
    "KVP": "KVP",
    "ContrastBolusAgent": "Contrast/Bolus Agent",
    "SliceThickness": "Slice Thickness",
}
# Attributes of one scan, whatever is reconstructed of it.
_SCAN = {
    "PatientPosition": "Patient Position",
    "Manufacturer": "Manufacturer",
    "ManufacturerModelName": "Manufacturer's Model Name",
    "StudyDate": "Study Date",
}
_CONTENT = "ContentTime"
_GRID = {
    "ImageOrientationPatient": "Image Orientation",
    "PixelSpacing": "Pixel Spacing",
    "Rows": "Rows",
    "Columns": "Columns",
}
# Attributes of one pass of the table, which a device that scans step by step gives a value of its own at each step.
_PASS = {"IrradiationEventUID": "Irradiation Event UID", "AcquisitionNumber": "Acquisition Number"}
# Attributes of one moment: two values are two moments of a heart, a breath or a bolus, in one series or in two.
_MOMENT = {
    "TemporalPositionIdentifier": "Temporal Position Identifier",
    "NominalPercentageOfCardiacPhase": "Nominal Percentage of Cardiac Phase",
    "NominalCardiacTriggerDelayTime": "Nominal Cardiac Trigger Delay Time",
    "TriggerTime": "Trigger Time",
}
# Attributes that one pass may change between two regions, as a neck and a chest, but not from slice to slice.
_REGION = {
    "ImageType": "Image Type",
    "SeriesDescription": "Series Description",
    "ProtocolName": "Protocol Name",
    "SeriesTime": "Series Time",
    "ContrastBolusStartTime": "Contrast/Bolus Start Time",
    "FilterType": "Filter Type",
    "ReconstructionAlgorithm": "Reconstruction Algorithm",
    "ReconstructionDiameter": "Reconstruction Diameter",
    "GantryDetectorTilt": "Gantry/Detector Tilt",
    "PatientPosition": "Patient Position",
}
_INTERLEAVED = {**_MOMENT, **_REGION}
_NAMES = {**_SCAN, **_RECONSTRUCTION, **_PASS, **_INTERLEAVED, **_GRID}
# A reason never quotes what a person typed.
_TYPED = frozenset({"SeriesDescription", "ProtocolName", "ContrastBolusAgent"})
# Fewer slices with a value of their own are no pass.
_FEWEST = 4
# As many passes one beside the other are the steps of one scan.
_STEPS = 4
# A second pass begins seconds after the first where the table shuttles; a breath or another body part takes longer.
_SHUTTLE_S, _PAUSE_S = 1.0, 30.0
# The distance in time between two passes is so many times the usual distance between two slices.
_LONGER = 5
_DECIMALS = 3
# Anonymizers and converters write 5 and 5.001 for one slice thickness.
_DECIMALS_OF = {"SliceThickness": 1}
_SAME_MM = 0.01
_SHOWN = 60
_DAY_S = 86_400.0
_CLOCK = re.compile(r"(\d\d):?(\d\d)?:?(\d\d(?:\.\d*)?)?")


def passes(slices: Sequence[Instance]) -> tuple[Slices, ...]:
    """Return the slices of each pass and reconstruction, the largest group first."""
    groups: list[Slices] = [tuple(slices)]
    by_keyword = (*map(_by_pass, _PASS), *map(_by_interleaving, _INTERLEAVED))
    for split in (_by_reconstruction, *by_keyword, _by_time, _by_number):
        groups = [part for group in groups for part in split(group)]
    return tuple(sorted(groups, key=len, reverse=True))


def grids(slices: Sequence[Instance]) -> tuple[Slices, ...]:
    """Return the slices of each orientation, pixel spacing and size, the largest group first."""
    groups = _grouped(tuple(slices), lambda instance: tuple(_rounded(instance.header.get(key, "")) for key in _GRID))
    return tuple(sorted(groups, key=len, reverse=True))


def difference(first: Sequence[Instance], second: Sequence[Instance]) -> str:
    """Return the attribute in which two acquisitions differ, with both values; '' for one acquisition.

    Two reconstructions of one acquisition may differ in kernel and geometry.
    """
    for keyword in ("FrameOfReferenceUID", *_PASS, "KVP", "ContrastBolusAgent", *_MOMENT):
        values = _values(first, keyword), _values(second, keyword)
        if all(values) and values[0].isdisjoint(values[1]):
            return _difference_of(keyword, *values)
    if _is_one_series(first, second) and (_are_alike(first, second) or not _overlap((tuple(first), tuple(second)))):
        return distinction((first, second))
    spans = _span(first), _span(second)
    if all(spans):
        return _other_time(first, second)
    agents = _values(first, "ContrastBolusAgent"), _values(second, "ContrastBolusAgent")
    if any(agents) and not all(agents):
        return _difference_of("ContrastBolusAgent", *agents)
    return _other_phase(first, second)


def distinction(groups: Iterable[Sequence[Instance]]) -> str:
    """Return the attribute in which the groups of `passes` differ, with the values of the first two."""
    first, second = (tuple(group) for group in list(groups)[:2])
    for keyword in _NAMES:
        values = _values(first, keyword), _values(second, keyword)
        if values[0] != values[1]:
            return _difference_of(keyword, *values)
    kinds = _kind(first[0]), _kind(second[0])
    if kinds[0] != kinds[1]:
        return f"Image Type is {as_code('/'.join(kinds[0]))} and {as_code('/'.join(kinds[1]))}"
    return _other_time(first, second) or _other_content(first, second)


def grid_difference(first: Sequence[Instance], second: Sequence[Instance]) -> str:
    """Return each attribute in which two groups of `grids` differ, with both values."""
    values = {keyword: (_values(first, keyword), _values(second, keyword)) for keyword in _GRID}
    return ", ".join(_difference_of(keyword, *pair) for keyword, pair in values.items() if pair[0] != pair[1])


def _by_reconstruction(slices: Slices) -> list[Slices]:
    def key(instance: Instance) -> _Key:
        return (_kind(instance), *(_value(instance, keyword) for keyword in (*_RECONSTRUCTION, *_SCAN)))

    return _grouped(slices, key)


def _kind(instance: Instance) -> tuple[str, ...]:
    """Return the values of Image Type that reconstructions differ in."""
    return tuple(instance.text("ImageType").upper().split("\\")[:3])


def _by_pass(keyword: str) -> Callable[[Slices], list[Slices]]:
    def split(slices: Slices) -> list[Slices]:
        groups = _grouped(slices, lambda instance: (_rounded(instance.header.get(keyword, "")),))
        return [slices] if len(groups) == 1 or _are_steps(groups) else groups

    return split


def _by_interleaving(keyword: str) -> Callable[[Slices], list[Slices]]:
    def split(slices: Slices) -> list[Slices]:
        groups = _grouped(slices, lambda instance: (_rounded(instance.header.get(keyword, "")),))
        return groups if _interleave(groups) else [slices]

    return split


def _by_number(slices: Slices) -> list[Slices]:
    """Return the runs of slices that lie one way in the order of Instance Number, where the runs interleave."""
    numbers = [instance.header.get("InstanceNumber") for instance in slices]
    known_numbers = [number for number in numbers if isinstance(number, int | float)]
    if len(known_numbers) < len(slices):
        return [slices]
    ordered = [slices[at] for at in sorted(range(len(slices)), key=known_numbers.__getitem__)]
    runs: list[list[Instance]] = []
    direction = 0.0
    for before, instance in pairwise([ordered[0], *ordered]):
        step = float(np.sign(height_mm(instance) - height_mm(before)))
        if not runs or (step != direction and len(runs[-1]) > 1):
            runs.append([])
        direction = step
        runs[-1].append(instance)
    groups = [tuple(run) for run in runs]
    return groups if _interleave(groups) else [slices]


def _interleave(groups: Sequence[Slices]) -> bool:
    """Return whether groups of several slices each lie between each other."""
    return len(groups) > 1 and min(map(len, groups)) >= _FEWEST and _overlap(groups)


def _by_time(slices: Slices) -> list[Slices]:
    """Return the passes that a pause separates; passes that lie one beside the other need a longer pause.

    The time of the content is the time of a reconstruction: it counts only where it separates slices that overlap.
    """
    for read, overlapping, pause_s in (
        (_acquired_s, True, _SHUTTLE_S),
        (_acquired_s, False, _PAUSE_S),
        (_content_s, True, _PAUSE_S),
    ):
        groups = _parted(slices, [read(instance) for instance in slices], pause_s)
        if len(groups) > 1 and (_overlap(groups) if overlapping else not _are_steps(groups)):
            return groups
    return [slices]


def _parted(slices: Slices, times_s: Sequence[float | None], pause_s: float) -> list[Slices]:
    """Return the slices between pauses, in the order of their times; all slices if a slice has no time."""
    known_s = [time_s for time_s in times_s if time_s is not None]
    if len(known_s) < len(slices) or not slices:
        return [slices]
    order = sorted(range(len(slices)), key=known_s.__getitem__)
    steps_s = [known_s[later] - known_s[earlier] for earlier, later in pairwise(order)]
    pause_s = max(pause_s, _LONGER * median(steps_s)) if steps_s else pause_s
    groups: list[list[Instance]] = [[slices[order[0]]]]
    for step_s, number in zip(steps_s, order[1:], strict=True):
        if step_s > pause_s:
            groups.append([])
        groups[-1].append(slices[number])
    return [tuple(group) for group in groups]


def _grouped(slices: Slices, key: Callable[[Instance], _Key]) -> list[Slices]:
    groups: dict[_Key, list[Instance]] = {}
    for instance in slices:
        groups.setdefault(key(instance), []).append(instance)
    return [tuple(group) for group in groups.values()]


def _are_steps(groups: Sequence[Slices]) -> bool:
    """Return whether the groups are the steps of one scan: many, side by side, in the order of their numbers."""
    if len(groups) < _STEPS or _overlap(groups):
        return False
    ordered = sorted(groups, key=_extent)
    numbers = [_number(group[0]) for group in ordered]
    return numbers in (sorted(numbers), sorted(numbers, reverse=True))


def _number(instance: Instance) -> float:
    number = instance.header.get("AcquisitionNumber")
    return float(number) if isinstance(number, int | float) else 0.0


def _overlap(groups: Sequence[Slices]) -> bool:
    """Return whether a group begins below the end of another."""
    extents = sorted(map(_extent, groups))
    return any(later[0] < earlier[1] - _SAME_MM for earlier, later in pairwise(extents))


def _extent(group: Slices) -> tuple[float, float]:
    """Return the lowest and the highest position of slices along their normal, in mm; 0 without a position."""
    heights = [height_mm(instance) for instance in group]
    return min(heights), max(heights)


def height_mm(instance: Instance) -> float:
    """Return the position of a slice along its normal, in mm; 0 without a position."""
    position, orientation = (
        instance.header.get(keyword) for keyword in ("ImagePositionPatient", "ImageOrientationPatient")
    )
    try:
        axes = np.asarray(orientation, np.float64)
        return float(np.cross(axes[:3], axes[3:]) @ np.asarray(position, np.float64))
    except (TypeError, ValueError, IndexError):
        return 0.0


def _acquired_s(instance: Instance) -> float | None:
    """Return the time of the acquisition in seconds; None if the header states no time."""
    moment = instance.text("AcquisitionDateTime")
    if clock := re.split(r"[+-]", moment[8:])[0]:
        return _seconds(moment[:8], clock)
    return _seconds(instance.text("AcquisitionDate"), instance.text("AcquisitionTime"))


def _content_s(instance: Instance) -> float | None:
    """Return the time of the content in seconds; None if the header states no time."""
    return _seconds(instance.text("ContentDate"), instance.text(_CONTENT))


def _seconds(date: str, clock: str) -> float | None:
    """Return date and time of day (PS3.5 6.2, DA and TM) as seconds; None if the time is none."""
    match = _CLOCK.fullmatch(clock.strip())
    if not match:
        return None
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return _days(date) * _DAY_S + hours * 3600 + minutes * 60 + seconds


def _days(text: str) -> int:
    """Return the number of a day (PS3.5 6.2, DA); 0 if the text is no date."""
    try:
        return datetime.strptime(text, "%Y%m%d").toordinal()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        return 0


def _is_one_series(first: Sequence[Instance], second: Sequence[Instance]) -> bool:
    """Return whether two groups are parts of one series; a group is no part of itself."""
    uids = [{instance.ref.sop_instance_uid for instance in group} for group in (first, second)]
    return first[0].ref.series_instance_uid == second[0].ref.series_instance_uid and uids[0].isdisjoint(uids[1])


def _are_alike(first: Sequence[Instance], second: Sequence[Instance]) -> bool:
    """Return whether two groups agree in all that reconstructions differ in."""
    return all(_values(first, keyword) == _values(second, keyword) for keyword in (*_RECONSTRUCTION, *_GRID))


def _other_content(first: Sequence[Instance], second: Sequence[Instance]) -> str:
    """Return the times of the content of two groups, or their numbers where the times are equal."""
    times = first[0].text(_CONTENT), second[0].text(_CONTENT)
    if times[0] != times[1]:
        return f"Content Time is {times[0] or 'absent'} and {times[1] or 'absent'}"
    return f"Instance Number begins at {first[0].text('InstanceNumber')} and {second[0].text('InstanceNumber')}"


def _span(group: Sequence[Instance]) -> tuple[float, ...]:
    """Return the first and the last time of an acquisition; nothing if no header states a time."""
    times_s = [time_s for instance in group if (time_s := _acquired_s(instance)) is not None]
    return (min(times_s), max(times_s)) if times_s else ()


def _other_time(first: Sequence[Instance], second: Sequence[Instance]) -> str:
    """Return the times of two acquisitions if one ends before the other begins; '' otherwise."""
    spans = _span(first), _span(second)
    if not all(spans):
        return ""
    earlier, later = sorted(spans)
    if later[0] - earlier[-1] <= _SHUTTLE_S:
        return ""
    return f"Acquisition Time is {_clock(first[0])} and {_clock(second[0])}"


def _clock(instance: Instance) -> str:
    return instance.text("AcquisitionDateTime") or instance.text("AcquisitionTime")


def _other_phase(first: Sequence[Instance], second: Sequence[Instance]) -> str:
    names = phase(first[0]), phase(second[0])
    return f"the phase is {names[0]} and {names[1]}" if all(names) and names[0] != names[1] else ""


def _values(group: Sequence[Instance], keyword: str) -> frozenset[object]:
    """Return the values of an attribute in a group, without empty values."""
    values = (_value(instance, keyword) for instance in group)
    return frozenset(value for value in values if value not in {"", ()})


def _value(instance: Instance, keyword: str) -> object:
    return _rounded(instance.header.get(keyword, ""), _DECIMALS_OF.get(keyword, _DECIMALS))


def _rounded(value: "Value | None", decimals: int = _DECIMALS) -> object:
    """Return a value whose numbers are rounded: headers write 1, 1.0 and 1.0000001 for one number."""
    if isinstance(value, tuple):
        return tuple(_rounded(item, decimals) for item in value)
    if isinstance(value, int | float):
        return round(float(value), decimals) + 0.0
    return str(value or "").strip()


def _difference_of(keyword: str, *values: frozenset[object]) -> str:
    """Return the values of an attribute in two groups; of what a person typed, that the values differ."""
    if keyword in _TYPED:
        return f"{_NAMES[keyword]} {'differs' if all(values) else 'is given in one of them alone'}"
    return f"{_NAMES[keyword]} is {' and '.join(_shown(keyword, group_values) for group_values in values)}"


def _shown(keyword: str, values: frozenset[object]) -> str:
    texts = sorted(map(_text, values))
    if not texts:
        return "absent"
    text = texts[0][:_SHOWN]
    # A kernel has lower case letters: B31f.
    return (text if keyword == _KERNEL else as_code(text)) + (", …" if len(texts) > 1 else "")


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
