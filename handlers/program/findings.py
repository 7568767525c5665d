"""The words of a program as findings: each is held against its description, and none is guessed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from ainode.handlers import BODY, PROBABILITY, percent
from ainode.handlers.program.answer import MOST
from ainode.handlers.program.description import Class, Output, Quantity
from ainode.node.domain import (
    Finding,
    Instance,
    InstanceRef,
    Measurement,
    Region,
    Verdict,
    is_position,
    probability_text,
    refs,
)
from ainode.node.errors import HandlerError
from ainode.node.imaging.geometry import Stack

_MOST_FINDINGS: Final = 500
_KEYS: Final = frozenset({"class", "probability", "image", "frame", "box", "box_mm", "measurements"})
_BOX, _BOX_MM = 4, 6
# From the center of a pixel to the corner that points are counted from (PS3.3 C.18.6.1.1).
_HALF_PIXEL: Final = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """What the program was shown."""

    images: Mapping[str, Instance]
    """by the names that the program knows"""
    slices: Stack | None


def findings_of(words: Mapping[str, object], numbers: Mapping[str, float], output: Output, seen: Seen) -> list[Finding]:
    """Return the findings on the study, then those at a place.

    Raises: HandlerError that names the finding by its number, and what is wrong.
    """
    entries = words.get("findings", [])
    if not isinstance(entries, list) or len(entries) > _MOST_FINDINGS:
        raise HandlerError(f"result.json: findings is a list of {_MOST_FINDINGS} at most")
    counts: dict[str, int] = {}
    findings = [*_on_study(numbers, output, seen)]
    for number, entry in enumerate(entries, start=1):
        name = entry.get("class") if isinstance(entry, dict) and set(entry) <= _KEYS else None
        if not isinstance(name, str) or name not in output.classes:
            keys = ", ".join(sorted(_KEYS))
            raise HandlerError(
                f"result.json: finding {number}: it is an object with the keys {keys}, and class is a name below "
                "[[output.classes]]"
            )
        kind = output.classes[name]
        counts[kind.name] = counts.get(kind.name, 0) + 1
        try:
            findings.append(_finding(f"{kind.name} {counts[kind.name]}", entry, kind, output, seen))
        except ValueError as error:
            raise HandlerError(f"result.json: finding {number}: {error}") from error
    return findings


def _on_study(numbers: Mapping[str, float], output: Output, seen: Seen) -> Iterator[Finding]:
    """Yield a finding for each class whose probability is of the study, and one of what was measured.

    They rest on all images that the program was given, for it names none.

    Raises: HandlerError.
    """
    images = refs(seen.images.values())
    for kind in output.classes.values():
        if kind.key:
            if kind.key not in numbers:
                raise HandlerError(f"result.json has no number at {kind.key}, the probability of {kind.name}")
            try:
                probability = _probability(numbers[kind.key])
            except ValueError as error:
                raise HandlerError(f"result.json: {kind.key}: {error}") from error
            measurement = percent(PROBABILITY, probability, images)
            verdict = Verdict.of(probability, kind.threshold or 1.0)
            yield Finding(kind.name, kind.code, kind.site, (measurement,), images, verdict=verdict)
    for item in output.quantities.values():
        if item.key in numbers:
            try:
                measurement = _measurement(item, numbers[item.key], images)
            except ValueError as error:
                raise HandlerError(f"result.json: {error}") from error
            # By its own name: the volumes of two lungs have one code.
            yield Finding(item.name, item.code, output.site or BODY, (measurement,), images)


def _finding(name: str, entry: Mapping[str, object], kind: Class, output: Output, seen: Seen) -> Finding:
    """Return a finding at a place.

    Raises: ValueError that says what is wrong.
    """
    region = _region(entry, seen)
    instance = region.image if region else _image(entry, seen).ref
    measurements, verdict, label = [], None, kind.name
    if "probability" in entry:
        probability = _probability(entry["probability"])
        measurements.append(percent(PROBABILITY, probability, (instance,)))
        verdict = Verdict.of(probability, kind.threshold) if kind.threshold else None
        label = f"{kind.name} {probability_text(probability)}"
    elif kind.threshold:
        raise ValueError(f"the class {kind.name} has a threshold, and the finding no probability")
    measured = entry.get("measurements", {})
    if not isinstance(measured, dict) or not set(measured) <= set(output.quantities):
        raise ValueError("measurements is an object of numbers, by names below [[output.measurements]]")
    for key, value in measured.items():
        measurements.append(_measurement(output.quantities[key], _number(value), (instance,)))
    ascii_label = label.encode("ascii", "replace").decode()
    return Finding(
        name, kind.code, kind.site, tuple(measurements), (instance,), region, label=ascii_label, verdict=verdict
    )


def _measurement(quantity: Quantity, value: float, images: tuple[InstanceRef, ...]) -> Measurement:
    """Return a number of the program with its unit.

    Raises: ValueError if the number is none that the quantity can have.
    """
    if not quantity.least <= value <= quantity.most:
        bounds = [
            f"{bound:g} at {word}"
            for bound, word in ((quantity.least, "least"), (quantity.most, "most"))
            if math.isfinite(bound)
        ]
        raise ValueError(
            f"the number of {quantity.name} cannot be: it is {' and '.join(bounds)}, in {quantity.unit.value}"
        )
    return Measurement(quantity.code, value, quantity.unit, images)


def _image(entry: Mapping[str, object], seen: Seen) -> Instance:
    """Return the image that a finding names; the only one, if there is one.

    Raises: ValueError.
    """
    name = entry.get("image")
    if name is None and len(seen.images) == 1:
        return next(iter(seen.images.values()))
    if not isinstance(name, str) or name not in seen.images:
        raise ValueError("image is none of the files in task.json")
    return seen.images[name]


def _region(entry: Mapping[str, object], seen: Seen) -> Region | None:
    """Return the box of a finding, which lies in its image.

    Raises: ValueError.
    """
    if "box" in entry and "box_mm" in entry:
        raise ValueError("box and box_mm are given; one says the place")
    if "frame" in entry and "box" not in entry:
        raise ValueError("frame is that of a box, and there is none")
    if "box_mm" in entry:
        box = _numbers(entry["box_mm"], _BOX_MM, "box_mm")
        region = _region_in_patient(box, seen.slices)
        if entry.get("image") is not None and seen.slices and not _reaches(box, _image(entry, seen), seen.slices):
            raise ValueError("image and box_mm name different places")
        return region
    if "box" not in entry:
        return None
    instance = _image(entry, seen)
    left, top, right, bottom = _numbers(entry["box"], _BOX, "box")
    rows, columns = (float(instance.text(key) or 0) for key in ("Rows", "Columns"))
    if not (0 <= left < right <= columns and 0 <= top < bottom <= rows):
        raise ValueError("box is no left, top, right, bottom in pixels of its image")
    frame = _frame(entry, instance)
    return Region.box(instance.ref, left=left, top=top, right=right, bottom=bottom, frame=frame)


def _frame(entry: Mapping[str, object], instance: Instance) -> int | None:
    """Return the number of the frame that a box is on; None on an image of one frame.

    A region that names no frame would be of all frames (PS3.3 C.18.6).

    Raises: ValueError.
    """
    count = int(instance.text("NumberOfFrames") or 1)
    number = entry.get("frame", 1 if count == 1 else None)
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= count:
        raise ValueError(f"box is on an image of {count} frames; frame is the number of one, from 1 to {count}")
    return number if count > 1 else None


def _region_in_patient(box: Sequence[float], slices: Stack | None) -> Region:
    """Return a box of LPS mm (x, y, z of two opposite corners) on the slice through its middle.

    Raises: ValueError.
    """
    if slices is None:
        raise ValueError("box_mm needs a series of slices, and the images are none")
    low, high = box[:3], box[3:]
    middle = tuple((start + end) / 2 for start, end in zip(low, high, strict=True))
    if not is_position(box) or not slices.holds((middle[0], middle[1], middle[2])):
        raise ValueError("box_mm lies outside of the images")
    number = round(slices.pixel((middle[0], middle[1], middle[2]))[0])
    corners = _corners(box, slices)
    rows, columns = ([corner[axis] + _HALF_PIXEL for corner in corners] for axis in (1, 2))
    top, bottom = max(0.0, min(rows)), min(float(slices.rows), max(rows))
    left, right = max(0.0, min(columns)), min(float(slices.columns), max(columns))
    if not (left < right and top < bottom):
        raise ValueError("box_mm has no size in the plane of the images")
    return Region.box(slices.instances[number].ref, left=left, top=top, right=right, bottom=bottom)


def _corners(box: Sequence[float], slices: Stack) -> list[tuple[float, float, float]]:
    """Return the eight corners of a box of LPS mm as slice, row and column."""
    sides = zip(box[:3], box[3:], strict=True)
    return [slices.pixel((x, y, z)) for x, y, z in product(*sides)]


def _reaches(box: Sequence[float], instance: Instance, slices: Stack) -> bool:
    """Return whether a box of LPS mm has a part on the slice of an image, or beside it."""
    number = [item.ref for item in slices.instances].index(instance.ref)
    positions = [corner[0] for corner in _corners(box, slices)]
    return min(positions) - 1 <= number <= max(positions) + 1


def is_cut(box: Sequence[float], slices: Stack | None) -> bool:
    """Return whether a box of LPS mm goes on for more than a pixel beyond the images."""
    if slices is None:
        return False
    last = (len(slices.instances) - 1, slices.rows - 1, slices.columns - 1)
    beyond = _HALF_PIXEL + 1
    return any(
        not -beyond <= position <= end + beyond
        for corner in _corners(box, slices)
        for position, end in zip(corner, last, strict=True)
    )


def _numbers(value: object, count: int, name: str) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{name} is a list of {count} numbers")
    return [_number(item) for item in value]


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < MOST:
        raise ValueError("a value is no finite number")
    return float(value)


def _probability(value: object) -> float:
    number = _number(value)
    if not 0 <= number <= 1:
        raise ValueError("the probability is none of 0 to 1")
    return number
