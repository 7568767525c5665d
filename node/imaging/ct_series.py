"""The CT series that a model reads: upright axial slices without gaps, best of the kernel that the model prefers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ainode.node.domain import Instance, OutOfScope, Series
from ainode.node.imaging.geometry import Stack, stack

Kernel = Literal["lung", "soft", "any"]

# cos(30 degrees): beyond that the slices are not axial but coronal, sagittal or oblique.
_AXIAL = 0.866
# Image Type, from the third value on (PS3.3 C.8.2.1.1.1): words of manufacturers for images that are no slices.
_NOT_SLICES = frozenset({"LOCALIZER", "MIP", "MINIP", "MPR", "PROJECTION IMAGE", "SCREEN SAVE", "CSA 3D EDITOR", "VRT"})
# Siemens B45f, I70f, Br38: the number is the sharpness. Canon and Toshiba FC50 to FC59, FC80 to FC89 are lung and bone.
_SIEMENS = re.compile(r"^[A-Z][A-Z]?(\d\d)[A-Z]?")
_SIEMENS_SHARP = 50
_CANON = re.compile(r"^FC(\d\d)")
_CANON_SHARP = (*range(50, 60), *range(80, 90))
# Words of technologists for the phases other than portal venous.
_OTHER_PHASE = re.compile(
    r"(?<![a-z])(arter\w*|nati[vf]\w*|unenhanced|non[- ]?(contrast|enh)\w*|without|delay\w*|excret\w*|late)(?![a-z])",
    re.IGNORECASE,
)
# GE by name, Philips by letter.
_SHARP_NAMES = frozenset({"LUNG", "BONE", "BONEPLUS", "EDGE", "ULTRA", "L", "D", "E", "YB", "YC", "YD", "YE"})


@dataclass(frozen=True, slots=True)
class CtRequirements:
    """What a model needs of a CT."""

    min_slices: int
    min_coverage_mm: float
    max_spacing_mm: float
    kernel: Kernel = "any"
    """the preferred kernel; a series of another kernel is read if the study has no series of this kernel"""
    contrast: bool = False
    """portal venous phase: Contrast/Bolus Agent is present, and Series Description names no other phase"""


def ct_stack(series: Sequence[Series], requirements: CtRequirements) -> Stack | OutOfScope:
    """Return the best stack among the CT series, or why no series can be read: the reason of the most promising series.

    Source: PS3.3 C.8.2.1 (CT Image).
    """
    candidates = [_fitting_stack(ct_series, requirements) for ct_series in series if ct_series.modality == "CT"]
    stacks = [candidate for candidate in candidates if isinstance(candidate, Stack)]
    if stacks:
        return max(stacks, key=lambda scan: _preference(scan, requirements.kernel))
    refusals = [candidate for candidate in candidates if isinstance(candidate, OutOfScope)]
    if refusals:
        return max(refusals, key=lambda refusal: refusal.code not in {"no-slices", "too-few-slices"})
    return OutOfScope("the study holds no CT series", "no-ct")


def is_sharp(kernel: str) -> bool:
    """Return whether a convolution kernel is for lung or bone, by the naming scheme of its manufacturer."""
    word = kernel.upper().split("\\")[0].strip()
    if match := _CANON.match(word):
        return int(match[1]) in _CANON_SHARP
    if match := _SIEMENS.match(word):
        return int(match[1]) >= _SIEMENS_SHARP
    return word in _SHARP_NAMES


def _fitting_stack(series: Series, requirements: CtRequirements) -> Stack | OutOfScope:
    """Return the series' stack, or why the series does not meet the requirements."""
    slices = [instance for instance in series.instances if not _is_localizer_or_view(instance)]
    if not slices:
        reason = "it holds localizers or reconstructed views only; axial slices are read"
        return OutOfScope(f"series {series.series_instance_uid}: {reason}", "no-slices")
    scan = _largest_stack(slices)
    if isinstance(scan, OutOfScope):
        return OutOfScope(f"series {series.series_instance_uid}: {scan.reason}", scan.code, scan.evidence)
    reason, code = _misfit(scan, requirements)
    return OutOfScope(f"series {series.series_instance_uid}: {reason}", code) if code else scan


def _is_localizer_or_view(instance: Instance) -> bool:
    """Return whether Image Type says that the image is no acquired slice."""
    values = instance.text("ImageType").upper().split("\\")
    return bool(_NOT_SLICES & set(values[2:]))


def _largest_stack(slices: Sequence[Instance]) -> Stack | OutOfScope:
    """Return all slices as a stack; if the slices come from several scans, the stack of the largest scan."""
    all_slices = stack(slices)
    if isinstance(all_slices, Stack) or all_slices.code not in {"several-stacks", "duplicate-slices"}:
        return all_slices
    groups: dict[tuple[str, ...], list[Instance]] = {}
    for instance in slices:
        keys = ("AcquisitionNumber", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
        groups.setdefault(tuple(instance.text(key) for key in keys), []).append(instance)
    largest = max(groups.values(), key=len)
    return all_slices if len(groups) == 1 else stack(largest)


def _misfit(scan: Stack, requirements: CtRequirements) -> tuple[str, str]:
    """Return the first requirement that the scan does not meet, in words and as a code; two '' if it meets all."""
    count, step = len(scan.instances), scan.spacing_mm[0]
    if abs(scan.normal[2]) < _AXIAL:
        return "its slices are not axial", "not-axial"
    if count < requirements.min_slices:
        return f"{count} slices; {requirements.min_slices} are needed", "too-few-slices"
    if scan.coverage_mm < requirements.min_coverage_mm:
        return f"it covers {scan.coverage_mm:.0f} mm; {requirements.min_coverage_mm:.0f} mm are needed", "too-short"
    if step > requirements.max_spacing_mm:
        return f"its slices are {step:.1f} mm apart; at most {requirements.max_spacing_mm:g} mm are read", "too-coarse"
    return _phase_misfit(scan) if requirements.contrast else ("", "")


def _phase_misfit(scan: Stack) -> tuple[str, str]:
    """Return why the scan is not of the portal venous phase, in words and as a code; two '' if nothing says so."""
    if not any(instance.text("ContrastBolusAgent") for instance in scan.instances):
        return "Contrast/Bolus Agent is absent; a contrast-enhanced scan is read", "wrong-contrast-phase"
    other = _OTHER_PHASE.search(scan.instances[0].text("SeriesDescription"))
    if other:
        return f"Series Description says {other[0]!r}; the portal venous phase is read", "wrong-contrast-phase"
    return "", ""


def _preference(scan: Stack, kernel: Kernel) -> tuple[bool, bool, float, float, str]:
    """Return the sort key of a scan, best scan last: original, kernel, thin slices, coverage; the UID breaks a tie."""
    first = scan.instances[0]
    sharp = is_sharp(first.text("ConvolutionKernel"))
    original = first.text("ImageType").upper().startswith("ORIGINAL")
    fits = kernel == "any" or sharp == (kernel == "lung")
    return original, fits, -scan.spacing_mm[0], scan.coverage_mm, first.ref.series_instance_uid
