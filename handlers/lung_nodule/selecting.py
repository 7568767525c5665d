"""Which CTs of a study and of its priors are read, by headers alone: those that someone pointed into."""

from collections.abc import Sequence

from ainode.node.anatomy import body_part
from ainode.node.ct_series import Wanted, ct_stack
from ainode.node.domain import Location, OutOfScope, Selection, Series, Study, refs
from ainode.node.geometry import Stack
from ainode.node.positions import positions

# The slices that the cube and the middle three need; 5 mm is the thickest that LIDC-IDRI holds.
WANTED = Wanted(min_slices=5, min_coverage_mm=20.0, max_spacing_mm=5.5)
_MOST_NODULES = 10


def selected(study: Study, *, time_points: int) -> Selection | OutOfScope:
    """Return the CTs of a study that hold a position, and the CT of each of its newest priors."""
    pointed = study.locations or positions(study.instances)
    found = [stack_at(study.series, one) for one in pointed[:_MOST_NODULES]]
    stacks = [one for one in found if isinstance(one, Stack)]
    if not stacks:
        what = "no nodule was pointed at: no position came with the request, and no SR, SEG or RTSTRUCT has one"
        answers = (ct_stack(study.series, WANTED), *found, OutOfScope(what, "no-position"))
        return next(one for one in answers if isinstance(one, OutOfScope))
    first = stacks[0].instances[0]
    part = body_part(first.header)
    if part.parts and not {"CHEST", "LUNG"} & part.names:
        return OutOfScope(f"the body part is {part}; read is CHEST", "wrong-body-part", (first.ref,))
    kept = [one for one, seen in zip(pointed, found, strict=False) if isinstance(seen, Stack)]
    series = _series_of(stacks)
    for prior in reversed(study.priors[-(time_points - 1) :]):
        theirs, earlier = _prior(prior, study.locations)
        series += theirs
        kept += earlier
    return Selection(study.study_instance_uid, tuple(series), tuple(dict.fromkeys(kept)))


def _prior(prior: Study, asked: Sequence[Location]) -> tuple[list[Series], list[Location]]:
    """Return the CT to read of a prior, and the positions that are in it: another's, else those of our own report."""
    instances = prior.instances
    pointed = positions(instances) or positions(instances, ours=True)
    theirs = _in_frames(pointed, prior) or _in_frames(asked, prior)
    earlier = [stack_at(prior.series, one) for one in theirs]
    kept = [one for one, seen in zip(theirs, earlier, strict=True) if isinstance(seen, Stack)]
    # What cannot be read stays in the selection too, so that the report says why.
    unfit = [one for one in prior.series if one.modality == "CT"]
    return _series_of([*earlier, ct_stack(prior.series, WANTED)]) or unfit, kept


def stack_at(series: Sequence[Series], location: Location) -> Stack | OutOfScope:
    """Return the best stack that holds a position, or why there is none."""
    theirs = [one for one in series if location.frame_of_reference_uid in ("", *_frames(one))]
    if not theirs:
        uid = location.frame_of_reference_uid
        return OutOfScope(f"the position is of frame of reference {uid}, no CT of the study is", "position-outside")
    holding = []
    for one in theirs:
        found = ct_stack((one,), WANTED)
        if isinstance(found, Stack) and found.holds(location.position_mm):
            holding.append(one)
    best = ct_stack(holding or theirs, WANTED)
    if isinstance(best, OutOfScope) or holding:
        return best
    where = ", ".join(f"{value:.1f}" for value in location.position_mm)
    return OutOfScope(f"the position ({where}) mm lies in no CT of the study", "position-outside", refs(best.instances))


def _frames(series: Series) -> frozenset[str]:
    return frozenset(one.text("FrameOfReferenceUID") for one in series.instances)


def _in_frames(locations: Sequence[Location], study: Study) -> list[Location]:
    """Return the locations that name a frame of reference of the study: in another one they are elsewhere."""
    frames = frozenset[str]().union(*(_frames(one) for one in study.series)) - {""}
    return [one for one in locations if one.frame_of_reference_uid in frames]


def _series_of(found: Sequence[Stack | OutOfScope]) -> list[Series]:
    """Return the stacks as series of just their slices, each once."""
    unique = {one.instances[0].ref.series_instance_uid: one for one in found if isinstance(one, Stack)}
    return [Series(uid, "CT", one.instances) for uid, one in unique.items()]
