"""Which CT series of a study a model reads: upright axial slices without gaps, of the kernel it wants; pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ainode.node.domain import Instance, OutOfScope, Series
from ainode.node.imaging.geometry import Stack, stack

Kernel = Literal["lung", "soft", "any"]

# cos(30 degrees): beyond that the slices are not axial but coronal, sagittal or oblique.
_AXIAL = 0.866
# Third value of ImageType (PS3.3 C.8.2.1.1.1) and what makers put there for pictures that are no slices of the scan.
_NO_SLICES = frozenset({"LOCALIZER", "MIP", "MINIP", "MPR", "PROJECTION IMAGE", "SCREEN SAVE", "CSA 3D EDITOR", "VRT"})
# Siemens B45f, I70f, Br38: the number is the sharpness. Canon and Toshiba FC50 to FC59, FC80 to FC89 are lung and bone.
_SIEMENS = re.compile(r"^[A-Z][A-Z]?(\d\d)[A-Z]?")
_SIEMENS_SHARP = 50
_CANON = re.compile(r"^FC(\d\d)")
_CANON_SHARP = (*range(50, 60), *range(80, 90))
# What technologists call the phases other than portal venous.
_OTHER_PHASE = re.compile(
    r"(?<![a-z])(arter\w*|nati[vf]\w*|unenhanced|non[- ]?(contrast|enh)\w*|without|delay\w*|excret\w*|late)(?![a-z])",
    re.IGNORECASE,
)
# GE by name, Philips by letter.
_SHARP = frozenset({"LUNG", "BONE", "BONEPLUS", "EDGE", "ULTRA", "L", "D", "E", "YB", "YC", "YD", "YE"})


@dataclass(frozen=True, slots=True)
class CtRequirements:
    """What a model needs of a CT."""

    min_slices: int
    min_coverage_mm: float
    max_spacing_mm: float
    kernel: Kernel = "any"
    """preferred, not demanded"""
    contrast: bool = False
    """portal venous: Contrast/Bolus Agent must be there, and no word of another phase in Series Description"""


def ct_stack(series: Sequence[Series], wanted: CtRequirements) -> Stack | OutOfScope:
    """Return the best stack among the series, or why the most promising one cannot be read.

    Source: PS3.3 C.8.2.1 (CT Image).
    """
    answers = [_answer(one, wanted) for one in series if one.modality == "CT"]
    stacks = [answer for answer in answers if isinstance(answer, Stack)]
    if stacks:
        return max(stacks, key=lambda found: _rank(found, wanted.kernel))
    refusals = [answer for answer in answers if isinstance(answer, OutOfScope)]
    if refusals:
        return max(refusals, key=lambda refusal: refusal.code not in {"no-slices", "too-few-slices"})
    return OutOfScope("the study holds no CT series", "no-ct")


def is_sharp(kernel: str) -> bool:
    """Return whether a convolution kernel is one for lung or bone, by its maker's way of naming."""
    word = kernel.upper().split("\\")[0].strip()
    if found := _CANON.match(word):
        return int(found[1]) in _CANON_SHARP
    if found := _SIEMENS.match(word):
        return int(found[1]) >= _SIEMENS_SHARP
    return word in _SHARP


def _answer(series: Series, wanted: CtRequirements) -> Stack | OutOfScope:
    slices = [instance for instance in series.instances if not _no_slice(instance)]
    if not slices:
        what = "it holds localizers or reconstructed views only; axial slices are read"
        return OutOfScope(f"series {series.series_instance_uid}: {what}", "no-slices")
    found = _largest(slices)
    if isinstance(found, OutOfScope):
        return OutOfScope(f"series {series.series_instance_uid}: {found.reason}", found.code, found.evidence)
    what, code = _unfit(found, wanted)
    return OutOfScope(f"series {series.series_instance_uid}: {what}", code) if code else found


def _no_slice(instance: Instance) -> bool:
    kinds = instance.text("ImageType").upper().split("\\")
    return bool(_NO_SLICES & set(kinds[2:]))


def _largest(slices: Sequence[Instance]) -> Stack | OutOfScope:
    """Return the slices as one stack; where they are several scans, the largest of them."""
    whole = stack(slices)
    if isinstance(whole, Stack) or whole.code not in {"several-stacks", "duplicate-slices"}:
        return whole
    groups: dict[tuple[str, ...], list[Instance]] = {}
    for instance in slices:
        keys = ("AcquisitionNumber", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
        groups.setdefault(tuple(instance.text(key) for key in keys), []).append(instance)
    largest = max(groups.values(), key=len)
    return whole if len(groups) == 1 else stack(largest)


def _unfit(found: Stack, wanted: CtRequirements) -> tuple[str, str]:
    """Return why a stack is not for the model, in words and in a code; both '' if it is."""
    count, step = len(found.instances), found.spacing_mm[0]
    if abs(found.normal[2]) < _AXIAL:
        return "its slices are not axial", "not-axial"
    if count < wanted.min_slices:
        return f"{count} slices; {wanted.min_slices} are needed", "too-few-slices"
    if found.coverage_mm < wanted.min_coverage_mm:
        return f"it covers {found.coverage_mm:.0f} mm; {wanted.min_coverage_mm:.0f} mm are needed", "too-short"
    if step > wanted.max_spacing_mm:
        return f"its slices are {step:.1f} mm apart; at most {wanted.max_spacing_mm:g} mm are read", "too-coarse"
    return _phase(found) if wanted.contrast else ("", "")


def _phase(found: Stack) -> tuple[str, str]:
    """Return why a stack is of another contrast phase than portal venous, as far as its header says."""
    if not any(one.text("ContrastBolusAgent") for one in found.instances):
        return "Contrast/Bolus Agent is absent; a contrast-enhanced scan is read", "wrong-contrast-phase"
    other = _OTHER_PHASE.search(found.instances[0].text("SeriesDescription"))
    if other:
        return f"Series Description says {other[0]!r}; the portal venous phase is read", "wrong-contrast-phase"
    return "", ""


def _rank(found: Stack, kernel: Kernel) -> tuple[bool, bool, float, float, str]:
    """Return what makes a stack better, most important first; the UID makes the choice certain."""
    first = found.instances[0]
    sharp = is_sharp(first.text("ConvolutionKernel"))
    original = first.text("ImageType").upper().startswith("ORIGINAL")
    fits = kernel == "any" or sharp == (kernel == "lung")
    return original, fits, -found.spacing_mm[0], found.coverage_mm, first.ref.series_instance_uid
