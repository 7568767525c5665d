"""The CTs of a study and of its priors that are read, by headers alone, with the marked locations in each CT.

A mark in the current study is taken as it is. Only where the current study has no mark, a prior tells where the nodule
was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from ainode.node.domain import CANDIDATE, NO_UID, Instance, Location, OutOfScope, Selection, Series, Study, refs
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.ct_series import CtRequirements, ct_stack
from ainode.node.imaging.geometry import Stack
from ainode.node.imaging.positions import PointedLocation, pointed_locations

TITLE = "Lung nodule"
"""Title of the reports of this handler."""
# The slices that the cube and the middle three need; 5 mm is the thickest that LIDC-IDRI holds.
WANTED = CtRequirements(min_slices=5, min_coverage_mm=20.0, max_spacing_mm=5.5)
_MOST_NODULES = 10
# As `reports` begins Series Description: the other models' reports of a CT have regions too, and no nodules.
_OUR_REPORT = f"AI {TITLE} "


@dataclass(frozen=True, slots=True)
class _Date:
    """What is read of one study: its CTs, the objects with marks, and the marked locations."""

    series: tuple[Series, ...]
    locations: tuple[Location, ...] = ()
    declined: Mapping[str, OutOfScope] = field(default_factory=dict)
    """marks that are not read, by the name of their nodule, each with the reason"""
    refusal: OutOfScope | None = None
    """why no CT, or no marked CT, is read"""


def selected(study: Study, *, time_points: int) -> Selection | OutOfScope:
    """Return the CTs of a study and of its newest priors with every marked location; at least one is marked."""
    current_date = _date(study, _requested(study) or pointed_locations(study.instances))
    if current_date.refusal:
        return current_date.refusal
    first = current_date.series[0].instances[0]
    part = body_part(first.header)
    if part.parts and not {"CHEST", "LUNG"} & part.names:
        return OutOfScope(f"the body part is {part}; the model reads CHEST", "wrong-body-part", (first.ref,))
    priors = study.priors[-(time_points - 1) :]
    dates = [current_date, *(_date(prior, _prior_marks(prior, study)) for prior in reversed(priors))]
    locations = tuple(dict.fromkeys(chain.from_iterable(date.locations for date in dates)))
    # Who pointed into the current study decides what is read there: nothing else is searched.
    candidate_count = 0 if current_date.locations else study.wanted_candidates
    if not locations and not candidate_count:
        reason = "no nodule was pointed at: no position came with the request, and no SR, SEG or RTSTRUCT has one"
        prior_text = (
            f", nor has any of the {len(priors)} earlier studies" if priors else "; no earlier study came with it"
        )
        return OutOfScope(reason + prior_text, "no-position")
    series = tuple(chain.from_iterable(date.series for date in dates))
    # The newest date with a mark decides which nodules are read; marks at other dates only help to place these nodules.
    declined = next((date.declined for date in dates if date.locations), {})
    return Selection(study.study_instance_uid, series, locations, declined, candidate_count)


def _requested(study: Study) -> list[PointedLocation]:
    return [PointedLocation(location) for location in study.locations]


def _prior_marks(prior: Study, study: Study) -> Sequence[PointedLocation]:
    """Return the marks in a prior: of others, else of our own report of the prior, else of the request.

    A mark whose frame of reference the prior does not have lies elsewhere, and is no mark of the prior.
    """
    own = [
        instance
        for instance in prior.instances
        if _has_position(instance) or instance.text("SeriesDescription").startswith(_OUR_REPORT)
    ]
    frames = frozenset[str]().union(*map(_frames, prior.series)) - {NO_UID}
    sources = (pointed_locations(prior.instances), pointed_locations(own, own_reports=True), _requested(study))
    for marks in sources:
        if in_prior := [mark for mark in marks if mark.location.frame_of_reference_uid in frames]:
            return in_prior
    return []


def _has_position(instance: Instance) -> bool:
    """Return whether the image has a position in the patient, so that a region in its pixels has one too."""
    return "ImagePositionPatient" in instance.header


def _date(study: Study, marks: Sequence[PointedLocation]) -> _Date:
    """Return the CTs that hold the marks and the best CT, the marks in them, and why other marks are not read."""
    best = ct_stack(study.series, WANTED)
    locations = list(dict.fromkeys(mark.location for mark in marks))
    stacks_or_refusals = {location: stack_at(study.series, location) for location in locations[:_MOST_NODULES]}
    marked = {location: stack for location, stack in stacks_or_refusals.items() if isinstance(stack, Stack)}
    stacks = [stack for stack in (*marked.values(), best) if isinstance(stack, Stack)]
    declined = {
        nodule_name(number): refusal
        for number, refusal in enumerate(stacks_or_refusals.values(), start=1)
        if isinstance(refusal, OutOfScope)
    }
    refusals = [answer for answer in (best, *declined.values()) if isinstance(answer, OutOfScope)]
    # A CT that cannot be read stays in the selection too, so that the report states the reason.
    series = _series_of(stacks) or [series for series in study.series if series.modality == "CT"]
    return _Date(
        series=(*series, *_pointing([mark for mark in marks if mark.location in marked])),
        locations=tuple(marked),
        declined=declined | _too_many(len(locations)),
        refusal=None if marked or not refusals else refusals[0],
    )


def nodule_name(number: int) -> str:
    """Return the name of the nodule at the mark of that number, from 1."""
    return f"nodule {number}"


def candidate_name(number: int) -> str:
    """Return the name of what a search marked; an own report with such a name says that nobody pointed there."""
    return f"{CANDIDATE} {number}"


def _too_many(marks: int) -> dict[str, OutOfScope]:
    if marks <= _MOST_NODULES:
        return {}
    first = nodule_name(_MOST_NODULES + 1)
    name = first if marks == _MOST_NODULES + 1 else f"{first} to {marks}"
    return {name: OutOfScope(f"{marks} nodules were pointed at; the first {_MOST_NODULES} are read", "too-many")}


def stack_at(series: Sequence[Series], location: Location) -> Stack | OutOfScope:
    """Return the stack on which a location was drawn, else the best stack that holds it, or why no stack does."""
    in_frame = [item for item in series if location.frame_of_reference_uid in (NO_UID, *_frames(item))]
    if not in_frame:
        uid = location.frame_of_reference_uid
        return OutOfScope(f"the position is of frame of reference {uid}, no CT of the study is", "position-outside")
    holding = {item.series_instance_uid: stack for item in in_frame if (stack := _stack_with(item, location))}
    # Inspiration and expiration share a frame of reference: a nodule on one of them is elsewhere on the other.
    if location.series_instance_uid in holding:
        return holding[location.series_instance_uid]
    best = ct_stack([item for item in in_frame if item.series_instance_uid in holding] or in_frame, WANTED)
    if isinstance(best, OutOfScope) or holding:
        return best
    position = ", ".join(f"{value:.1f}" for value in location.position_mm)
    reason = f"the position ({position}) mm lies in no CT of the study"
    return OutOfScope(reason, "position-outside", refs(best.instances))


def _stack_with(series: Series, location: Location) -> Stack | None:
    """Return the series as a stack, None if it cannot be read or does not hold the location."""
    stack = ct_stack((series,), WANTED)
    return stack if isinstance(stack, Stack) and stack.holds(location.position_mm) else None


def _frames(series: Series) -> frozenset[str]:
    return frozenset(instance.text("FrameOfReferenceUID") for instance in series.instances)


def _series_of(stacks: Sequence[Stack]) -> list[Series]:
    """Return a series of exactly the slices of each stack, every series once."""
    unique = {stack.instances[0].ref.series_instance_uid: stack for stack in stacks}
    return [Series(uid, "CT", stack.instances) for uid, stack in unique.items()]


def _pointing(marks: Sequence[PointedLocation]) -> list[Series]:
    """Return the objects that hold the marks, every object once."""
    unique = {mark.pointing_object.ref: mark.pointing_object for mark in marks if mark.pointing_object}
    return [Series(ref.series_instance_uid, item.text("Modality"), (item,)) for ref, item in unique.items()]
