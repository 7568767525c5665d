"""Which CTs of a study and of its priors are read, by headers alone, and where somebody pointed into which of them.

Who points into the study is taken at their word; only where nobody does, a prior says where the nodule was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from ainode.node.domain import Instance, Location, OutOfScope, Selection, Series, Study, refs
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.ct_series import CtRequirements, ct_stack
from ainode.node.imaging.geometry import Stack
from ainode.node.imaging.positions import PointedLocation, pointed_locations

TITLE = "Lung nodule"
"""of our reports"""
# The slices that the cube and the middle three need; 5 mm is the thickest that LIDC-IDRI holds.
WANTED = CtRequirements(min_slices=5, min_coverage_mm=20.0, max_spacing_mm=5.5)
_MOST_NODULES = 10
# As `reports` begins Series Description: the other models' reports of a CT have regions too, and no nodules.
_OUR_REPORT = f"AI {TITLE} "


@dataclass(frozen=True, slots=True)
class _Date:
    """What of one study is read: its CTs, what points into them, and where."""

    series: tuple[Series, ...]
    locations: tuple[Location, ...] = ()
    declined: Mapping[str, OutOfScope] = field(default_factory=dict)
    """marks that are not read, by the number that each has among all"""
    refusal: OutOfScope | None = None
    """why no CT is read, or none at the places that were pointed at"""


def selected(study: Study, *, time_points: int) -> Selection | OutOfScope:
    """Return the CTs of a study and of its newest priors, and every position in them; one at least."""
    now = _date(study, _asked(study) or pointed_locations(study.instances))
    if now.refusal:
        return now.refusal
    first = now.series[0].instances[0]
    part = body_part(first.header)
    if part.parts and not {"CHEST", "LUNG"} & part.names:
        return OutOfScope(f"the body part is {part}; read is CHEST", "wrong-body-part", (first.ref,))
    priors = study.priors[-(time_points - 1) :]
    dates = [now, *(_date(prior, _prior_marks(prior, study)) for prior in reversed(priors))]
    locations = tuple(dict.fromkeys(chain.from_iterable(one.locations for one in dates)))
    if not locations:
        what = "no nodule was pointed at: no position came with the request, and no SR, SEG or RTSTRUCT has one"
        where = f", nor has any of the {len(priors)} earlier studies" if priors else "; no earlier study came with it"
        return OutOfScope(what + where, "no-position")
    series = tuple(chain.from_iterable(one.series for one in dates))
    # The newest date with a mark is the one that is pointed into; in the others marks only say where its nodules are.
    declined = next(one.declined for one in dates if one.locations)
    return Selection(study.study_instance_uid, series, locations, declined)


def _asked(study: Study) -> list[PointedLocation]:
    return [PointedLocation(one) for one in study.locations]


def _prior_marks(prior: Study, study: Study) -> Sequence[PointedLocation]:
    """Return where another pointed into a prior, else where our own report of it does, else where the request does.

    In a frame of reference that the prior does not have they are elsewhere.
    """
    own = [one for one in prior.instances if _is_placed(one) or one.text("SeriesDescription").startswith(_OUR_REPORT)]
    frames = frozenset[str]().union(*map(_frames, prior.series)) - {""}
    sources = (pointed_locations(prior.instances), pointed_locations(own, own_reports=True), _asked(study))
    here = ([one for one in marks if one.location.frame_of_reference_uid in frames] for marks in sources)
    return next((marks for marks in here if marks), [])


def _is_placed(instance: Instance) -> bool:
    """Return whether a region in pixels can be drawn on it."""
    return "ImagePositionPatient" in instance.header


def _date(study: Study, marks: Sequence[PointedLocation]) -> _Date:
    """Return the CTs that hold the marks, the best one, the marks that they hold, and what becomes of the others."""
    best = ct_stack(study.series, WANTED)
    marked = list(dict.fromkeys(one.location for one in marks))
    found = {one: stack_at(study.series, one) for one in marked[:_MOST_NODULES]}
    held = {one: stack for one, stack in found.items() if isinstance(stack, Stack)}
    stacks = [stack for stack in (*held.values(), best) if isinstance(stack, Stack)]
    declined = {nodule(n): why for n, why in enumerate(found.values(), start=1) if isinstance(why, OutOfScope)}
    refusals = [answer for answer in (best, *declined.values()) if isinstance(answer, OutOfScope)]
    # What cannot be read stays in the selection too, so that the report says why.
    series = _series_of(stacks) or [one for one in study.series if one.modality == "CT"]
    return _Date(
        series=(*series, *_pointing([one for one in marks if one.location in held])),
        locations=tuple(held),
        declined=declined | _too_many(len(marked)),
        refusal=None if held or not refusals else refusals[0],
    )


def nodule(number: int) -> str:
    """Return what the mark of a number, from 1, is called."""
    return f"nodule {number}"


def _too_many(marks: int) -> dict[str, OutOfScope]:
    if marks <= _MOST_NODULES:
        return {}
    first = nodule(_MOST_NODULES + 1)
    name = first if marks == _MOST_NODULES + 1 else f"{first} to {marks}"
    return {name: OutOfScope(f"{marks} nodules were pointed at; the first {_MOST_NODULES} are read", "too-many")}


def stack_at(series: Sequence[Series], location: Location) -> Stack | OutOfScope:
    """Return the stack that a position was drawn on, else the best one that holds it, or why there is none."""
    theirs = [one for one in series if location.frame_of_reference_uid in ("", *_frames(one))]
    if not theirs:
        uid = location.frame_of_reference_uid
        return OutOfScope(f"the position is of frame of reference {uid}, no CT of the study is", "position-outside")
    holding = {one.series_instance_uid: found for one in theirs if (found := _holding(one, location))}
    # Inspiration and expiration share a frame of reference: what was drawn on one is elsewhere in the other.
    if location.series_instance_uid in holding:
        return holding[location.series_instance_uid]
    best = ct_stack([one for one in theirs if one.series_instance_uid in holding] or theirs, WANTED)
    if isinstance(best, OutOfScope) or holding:
        return best
    where = ", ".join(f"{value:.1f}" for value in location.position_mm)
    return OutOfScope(f"the position ({where}) mm lies in no CT of the study", "position-outside", refs(best.instances))


def _holding(series: Series, location: Location) -> Stack | None:
    """Return the series as a stack if it can be read and holds the position."""
    found = ct_stack((series,), WANTED)
    return found if isinstance(found, Stack) and found.holds(location.position_mm) else None


def _frames(series: Series) -> frozenset[str]:
    return frozenset(one.text("FrameOfReferenceUID") for one in series.instances)


def _series_of(stacks: Sequence[Stack]) -> list[Series]:
    """Return the stacks as series of just their slices, each once."""
    unique = {one.instances[0].ref.series_instance_uid: one for one in stacks}
    return [Series(uid, "CT", one.instances) for uid, one in unique.items()]


def _pointing(marks: Sequence[PointedLocation]) -> list[Series]:
    """Return the objects that the marks are from, each once."""
    unique = {one.pointing_object.ref: one.pointing_object for one in marks if one.pointing_object}
    return [Series(ref.series_instance_uid, one.text("Modality"), (one,)) for ref, one in unique.items()]
