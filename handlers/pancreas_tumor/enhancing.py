"""Whether the pixels of an abdomen are of the portal venous phase, as far as aorta and liver tell."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ainode.node.domain import OutOfScope, refs
from ainode.node.imaging.ct_look import CtLook
from ainode.node.imaging.geometry import Stack, volume

if TYPE_CHECKING:
    from ainode.models.pancreas_tumor.enhancement import Enhancement

WRONG_PHASE = "wrong-contrast-phase"
_SLICES = 12
# In HU. Source: usual ranges of radiology textbooks. In the portal venous phase the liver has 85 to 130, a fatty liver
# less, and the aorta 110 to 240. Where the liver is enhanced, the aorta may be as bright as a low voltage makes it.
_ENHANCED_LIVER, _LEAST_AORTA, _MOST_AORTA, _MOST_BEYOND_LIVER = 85.0, 100.0, 200.0, 180.0


def phase_refusal(seen: CtLook) -> OutOfScope | None:
    """Return the refusal of another phase than the portal venous one, with what was measured; None if none is seen.

    A late phase is like the portal venous one by these measures: its header alone tells it.
    Raises: BrokenSeries if a slice cannot be decoded.
    """
    measured = _measured(_abdomen(seen))
    reason = phase_reason(measured)
    if not reason:
        return None
    uid = seen.scan.instances[0].ref.series_instance_uid
    text = f"series {uid}: {reason}: {measured}; the portal venous phase is read"
    return OutOfScope(text, WRONG_PHASE, refs(seen.scan.instances))


def phase_reason(measured: "Enhancement") -> str:
    """Return which other phase aorta and liver are of, in words; '' where they may be of the portal venous phase."""
    aorta, liver = measured.aorta_hu, measured.liver_hu
    has_liver = liver is not None and liver >= _ENHANCED_LIVER
    if aorta is None:
        return "" if has_liver else "the pixels tell no phase"
    if has_liver and liver is not None:
        return "the pixels are of the arterial phase" if aorta > liver + _MOST_BEYOND_LIVER else ""
    if aorta > _MOST_AORTA:
        return "the pixels are of the arterial phase"
    return "the pixels are of a scan without contrast agent, or long after it" if aorta < _LEAST_AORTA else ""


def _abdomen(seen: CtLook) -> Stack:
    """Return the slices below the lungs that were seen, all slices where none was."""
    scan = seen.scan
    if seen.lungs is None:
        return scan
    first, last = (0, seen.lungs[0] - 1) if scan.normal[2] > 0 else (seen.lungs[1], len(scan.instances))
    return replace(scan, instances=scan.instances[first:last], origin_mm=scan.position(first, 0, 0))


def _measured(scan: Stack) -> "Enhancement":
    """Return how bright aorta and liver are on a few slices, upright as a volume has them."""
    from ainode.models.pancreas_tumor.enhancement import enhancement  # noqa: PLC0415 - brings cv2 and scipy along
    from ainode.models.pancreas_tumor.preprocess import SIDE, body_box, slice_picture, squared  # noqa: PLC0415

    step = max(1, len(scan.instances) // _SLICES)
    spacing = (scan.spacing_mm[0] * step, *scan.spacing_mm[1:])
    few = volume(replace(scan, instances=scan.instances[step // 2 :: step], spacing_mm=spacing))
    pixel_mm = few.spacing_mm[1:]
    planes = [squared(plane, pixel_mm) for plane in few.values]
    boxes = [body_box(slice_picture(plane)) for plane in planes]
    side_mm = max(np.multiply(few.values.shape[1:], pixel_mm))
    return enhancement(planes, boxes, float(side_mm) / SIDE)
