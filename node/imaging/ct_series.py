"""The CT series that a model reads: upright axial slices without gaps, best of the kernel that the model prefers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Literal

from ainode.node.domain import UID, Instance, OutOfScope, Series, counted, refs
from ainode.node.imaging.acquisitions import difference, distinction, grids, passes
from ainode.node.imaging.contrast import PORTAL_VENOUS, absent_agent, other_phase, phase
from ainode.node.imaging.energies import ONE_SPECTRUM, energy_reason
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.imaging.hounsfield import header_reason
from ainode.node.imaging.picture_kind import NO_PICTURE, capture_reason
from ainode.node.imaging.pixel_size import WRONG_SIZE, field_reason
from ainode.node.imaging.slabs import slab_reason
from ainode.node.imaging.slice_places import WRONG_STEP, continuation, other_grid, step_reason, tilt_reason

Kernel = Literal["lung", "soft", "any"]
PART_OF_A_SCAN: Final = "part-of-a-scan"
"""the code of a refusal of slices that are not all of a scan"""

# cos(30 degrees): beyond that the slices are not axial but coronal, sagittal or oblique.
_AXIAL = 0.866
# Siemens B45f, I70f, Br38: the number is the sharpness. Canon and Toshiba FC50 to FC59, FC80 to FC89 are lung and bone.
_SIEMENS = re.compile(r"^[A-Z][A-Z]?(\d\d)[A-Z]?")
_SIEMENS_SHARP = 50
_CANON = re.compile(r"^FC(\d\d)")
_CANON_SHARP = (*range(50, 60), *range(80, 90))
# Two scans are alike whose distances of slices, or coverages, differ by a tenth.
_ALIKE = 1.1
_HEADER_NEEDED = "give DICOM that names the agent; a volume without a header, such as NIfTI, cannot name its phase"
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
    """portal venous phase: an agent was given into a vein, and no header names another phase"""
    agent_may_be_absent: bool = False
    """whether a header without Contrast/Bolus Agent tells nothing of the phase: then the handler looks at the pixels"""
    captures: bool = False
    """whether what may be captures of a screen is read, too"""


def ct_stack(series: Sequence[Series], requirements: CtRequirements) -> Stack | OutOfScope:
    """Return the best stack among the CT series, or why no series can be read: the reason of the most promising series.

    A stack is of one pass and one reconstruction. Of the reconstructions of one acquisition the best is read; of two
    acquisitions that fit equally well, none is.
    Source: PS3.3 C.8.2.1 (CT Image).
    """
    answers = [
        answer for ct_series in series if ct_series.modality == "CT" for answer in _stacks(ct_series, requirements)
    ]
    refusals = [refusal for answer in answers if (refusal := _refusal(answer, requirements))]
    stacks = [answer for answer in answers if isinstance(answer, Stack) and not _refusal(answer, requirements)]
    if stacks:
        best = _best(stacks, requirements)
        others = [answer for answer in answers if isinstance(answer, Stack) and answer is not best]
        return (isinstance(best, Stack) and _other_part(best, others)) or best
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


def _stacks(series: Series, requirements: CtRequirements) -> list[Stack | OutOfScope]:
    """Return the stack of each pass and reconstruction of a series, or why its slices form none."""
    uid = series.series_instance_uid
    slabs = [slab_reason(instance) for instance in series.instances]
    slices = [instance for instance, reason in zip(series.instances, slabs, strict=True) if not reason]
    if not slices:
        reason = f"{slabs[0]}; it holds localizers, slabs or maps only; axial slices are read"
        return [OutOfScope(f"series {uid}: {reason}", "no-slices")]
    pictures = [instance for instance in slices if requirements.captures or not capture_reason(instance)]
    if not pictures:
        return [OutOfScope(f"series {uid}: {capture_reason(slices[0])}", NO_PICTURE)]
    groups = passes(pictures)
    several = f"{len(groups)} acquisitions in it, of which {distinction(groups)}: " if len(groups) > 1 else ""
    answers = [answer for group in groups for answer in _stacks_of_pass(group)]
    return [
        OutOfScope(f"series {uid}: {several}{answer.reason}", answer.code, answer.evidence)
        if isinstance(answer, OutOfScope)
        else answer
        for answer in answers
    ]


def _stacks_of_pass(slices: Sequence[Instance]) -> list[Stack | OutOfScope]:
    """Return the slices of a pass as a stack; if the slices lie on several grids, the stack of each grid."""
    all_slices = stack(slices)
    if isinstance(all_slices, OutOfScope) and all_slices.code == "several-stacks":
        groups = grids(slices)
        return [_stack_of_grid(group, groups) for group in groups] if len(groups) > 1 else [all_slices]
    return [all_slices]


def _stack_of_grid(group: Sequence[Instance], groups: Sequence[Sequence[Instance]]) -> Stack | OutOfScope:
    """Return the slices of a grid as a stack, unless slices of another grid are a part of the same scan."""
    for other in groups:
        if other is not group and (text := other_grid(group, other)):
            return OutOfScope(f"{text}; send the scan on one grid", PART_OF_A_SCAN, refs((group[0], other[0])))
    return stack(group)


def _refusal(answer: Stack | OutOfScope, requirements: CtRequirements) -> OutOfScope | None:
    """Return why a stack does not meet the requirements; None if it meets all."""
    if isinstance(answer, OutOfScope):
        return answer
    reason, code = _misfit(answer, requirements)
    return OutOfScope(f"series {_series_uid(answer)}: {reason}", code) if code else None


def _misfit(scan: Stack, requirements: CtRequirements) -> tuple[str, str]:
    """Return the first requirement that the scan does not meet, in words and as a code; two '' if it meets all."""
    step = scan.spacing_mm[0]
    if abs(scan.normal[2]) < _AXIAL:
        return "its slices are not axial", "not-axial"
    if (misfit := size_misfit(scan, requirements))[1]:
        return misfit
    if step > requirements.max_spacing_mm:
        return f"its slices are {step:.1f} mm apart; at most {requirements.max_spacing_mm:g} mm are read", "too-coarse"
    if (contradiction := _contradiction(scan))[1]:
        return contradiction
    return _phase_misfit(scan, requirements) if requirements.contrast else ("", "")


def _contradiction(scan: Stack) -> tuple[str, str]:
    """Return what in the headers makes units or places wrong, in words and as a code; two '' if nothing does."""
    unit_reason = header_reason(scan.instances)
    energy = next((reason for instance in scan.instances if (reason := energy_reason(instance))), "")
    reasons = {
        "not-hounsfield": unit_reason and f"{unit_reason}; Hounsfield units are read",
        "not-one-spectrum": energy and f"{energy}; {ONE_SPECTRUM}",
        WRONG_SIZE: field_reason(scan.instances),
        WRONG_STEP: step_reason(scan),
        "gantry-tilt": tilt_reason(scan),
    }
    return next(((reason, code) for code, reason in reasons.items() if reason), ("", ""))


def size_misfit(scan: Stack, requirements: CtRequirements) -> tuple[str, str]:
    """Return whether a scan is too small, in words and as a code; two '' if it is large enough."""
    count = len(scan.instances)
    if count < requirements.min_slices:
        return f"{counted(count, 'slice')}; {requirements.min_slices} are needed", "too-few-slices"
    if scan.coverage_mm < requirements.min_coverage_mm:
        return f"it covers {scan.coverage_mm:.0f} mm; {requirements.min_coverage_mm:.0f} mm are needed", "too-short"
    return "", ""


def _phase_misfit(scan: Stack, requirements: CtRequirements) -> tuple[str, str]:
    """Return why the scan is not of the portal venous phase, in words and as a code; two '' if nothing says so."""
    absence = "" if requirements.agent_may_be_absent else absent_agent(scan.instances)
    if absence:
        return f"{absence}; the portal venous phase is read: {_HEADER_NEEDED}", "wrong-contrast-phase"
    reason = other_phase(scan.instances)
    return (f"{reason}; the portal venous phase is read", "wrong-contrast-phase") if reason else ("", "")


def _best(stacks: Sequence[Stack], requirements: CtRequirements) -> Stack | OutOfScope:
    """Return the best stack, or the refusal of two acquisitions that fit equally well.

    Originals come before derived images, then counts the kernel, the phase, the distance of slices and the coverage.
    """
    best = list(stacks)
    for is_better in (
        _is_original,
        lambda scan: _fits_kernel(scan, requirements.kernel),
        lambda scan: not requirements.contrast or phase(scan.instances[0]) == PORTAL_VENOUS,
    ):
        best = [scan for scan in best if is_better(scan)] or best
    finest_mm = min(scan.spacing_mm[0] for scan in best)
    best = [scan for scan in best if scan.spacing_mm[0] <= finest_mm * _ALIKE]
    longest_mm = max(scan.coverage_mm for scan in best)
    best = [scan for scan in best if scan.coverage_mm * _ALIKE >= longest_mm]
    best.sort(key=_series_order)
    for other in best[1:]:
        if text := difference(best[0].instances, other.instances):
            return _equal_acquisitions(best[0], other, text)
    return best[0]


def _other_part(best: Stack, others: Sequence[Stack]) -> OutOfScope | None:
    """Return the refusal of a part of a scan whose other part is another series; None of a whole scan."""
    for other in others:
        if _series_uid(other) != _series_uid(best) and (text := continuation(best, other)):
            reason = f"series {_series_uid(best)} and {_series_uid(other)}: {text}; send the scan as one series"
            return OutOfScope(reason, PART_OF_A_SCAN, refs((best.instances[0], other.instances[0])))
    return None


def _equal_acquisitions(first: Stack, second: Stack, difference_text: str) -> OutOfScope:
    """Return the refusal of two acquisitions that fit equally well."""
    uids = tuple(dict.fromkeys((_series_uid(first), _series_uid(second))))
    place = f"series {' and '.join(uids)}"
    sizes = f"{len(first.instances)} and {len(second.instances)} slices of {first.spacing_mm[0]:.2f} mm"
    reason = f"two acquisitions fit equally well, {sizes}: {difference_text}; send the acquisition to read alone"
    evidence = refs((first.instances[0], second.instances[0]))
    return OutOfScope(f"{place}: {reason}", "several-acquisitions", evidence)


def _series_uid(scan: Stack) -> UID:
    return scan.instances[0].ref.series_instance_uid


def _is_original(scan: Stack) -> bool:
    return scan.instances[0].text("ImageType").upper().startswith("ORIGINAL")


def _fits_kernel(scan: Stack, kernel: Kernel) -> bool:
    return kernel == "any" or is_sharp(scan.instances[0].text("ConvolutionKernel")) == (kernel == "lung")


def _series_order(scan: Stack) -> tuple[float, str, str]:
    """Return the sort key of reconstructions of one acquisition: the lowest Series Number first."""
    first = scan.instances[0]
    number = first.header.get("SeriesNumber")
    rank = float(number) if isinstance(number, int | float) else inf
    return rank, first.ref.series_instance_uid, first.ref.sop_instance_uid
