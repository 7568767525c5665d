"""What is said of nodules: the captions of their pictures, and the parameters of the report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ainode.handlers.lung_nodule.places import Place
from ainode.models.following import Growth, Omission
from ainode.node.domain import Location, OutOfScope, probability_text

if TYPE_CHECKING:
    from ainode.handlers.lung_nodule.findings import Nodule

# Half a small nodule: a mark that far from the middle may mean something else.
_FAR_MM = 3.0


def captions(nodule: "Nodule") -> Iterator[str]:
    """Yield the captions of a nodule's picture."""
    if nodule.origin.words:
        yield nodule.origin.words
    if nodule.carried_from:
        yield f"Nobody pointed here; position carried from {nodule.carried_from}"
    elif nodule.place.distance_mm >= _FAR_MM:
        yield f"The nodule's middle lies {nodule.place.distance_mm:.0f} mm from the marked position"
    if weights := [f"{weight:.2f}" for _, weight in reversed(nodule.attention)]:
        yield f"Time points {len(weights)}, attention oldest first {', '.join(weights)}"
    yield from (f"Prior {number} left out: {reason.reason}" for number, reason in nodule.trace.left_out)
    size = nodule.place.size
    side = f", {nodule.place.side} lung" if nodule.place.side else ""
    yield f"Not measured: {size.reason}{side}" if isinstance(size, Omission) else f"{size.text}, {nodule.density}{side}"
    for number, earlier_place, change in nodule.changes:
        if isinstance(change, Growth):
            yield f"Since prior {number}: {_growth_text(change, earlier_place, nodule.place)}"
        else:
            yield f"Since prior {number}: growth not measured: {change.reason}"
    if nodule.prediction.profile == "traits":
        yield "Probability by the traits of the outline; the lines show where the slice network looked"
    alone, width_mm = nodule.current_alone, nodule.current_alone.picture_mm
    picture = f", picture {width_mm:.0f} mm wide" if width_mm else ""
    probability = probability_text(alone.probability)
    yield f"Profile {nodule.prediction.profile}; current scan alone {probability} ({alone.profile}{picture})"


def position_text(location: Location) -> str:
    """Return where somebody pointed: to the left, to the back and to the head."""
    x, y, z = location.position_mm
    return f"x {x:.1f}, y {y:.1f}, z {z:.1f} mm (LPS)"


def by_nodule(texts: Mapping[str, str]) -> str:
    """Return one text: the text of each nodule after its name, or the bare text of a single nodule."""
    return (
        next(iter(texts.values())) if len(texts) == 1 else "; ".join(f"{name}: {text}" for name, text in texts.items())
    )


def parameters(nodules: Sequence["Nodule"], not_read: Mapping[str, OutOfScope]) -> dict[str, str]:
    """Return the report's parameters on following and on omissions; priors are numbered from the newest."""
    names = ("carried", "not read", "middle", "registration", "marks in priors", "size", "growth")
    left_out = ("priors left out", "size left out", "growth left out")
    texts: dict[str, list[str]] = {name: [] for name in names + left_out}
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in not_read.items():
        names_by_reason.setdefault(_reason_text(reason), []).append(name)
    texts["not read"] += [f"{', '.join(group)}: {reason}" for reason, group in names_by_reason.items()]
    for nodule in nodules:
        for name, text in (*_place_texts(nodule), *_change_texts(nodule)):
            texts[name].append(f"{nodule.name}{text}")
    return {name: "; ".join(parts) for name, parts in texts.items() if parts}


def _place_texts(nodule: "Nodule") -> Iterator[tuple[str, str]]:
    """Yield parameter and text on the way by which the place at each date is known, and on missing sizes."""
    if nodule.carried_from:
        yield "carried", f" from {nodule.carried_from}, since nobody pointed at it in this study"
    _, pointed_at = nodule.trace.newest_marked
    for at_date, place in (
        ("", nodule.place),
        *((f" in prior {number}", place) for number, place in nodule.trace.priors),
    ):
        if place.followed:
            followed = place.followed
            fit = f"correlation {followed.transform.correlation:.2f}, refined by {followed.place.shift_mm:.0f} mm"
            yield "registration", f"{at_date}: {fit}"
        elif place is not pointed_at:
            yield "marks in priors", f"{at_date}: {_mark_text(place)}"
        if not place.followed and place.distance_mm >= _FAR_MM:
            yield "middle", f"{at_date}: {place.distance_mm:.0f} mm from the marked position"
        size = place.size
        if isinstance(size, Omission):
            yield "size left out", f"{at_date}: {_reason_text(size)}"
        else:
            yield "size", f"{at_date}: by {size.source}"


def _change_texts(nodule: "Nodule") -> Iterator[tuple[str, str]]:
    """Yield parameter and text on the change since each prior, or on the reason why there is no change."""
    yield from (
        ("priors left out", f" in prior {number}: {_reason_text(reason)}") for number, reason in nodule.trace.left_out
    )
    for number, earlier_place, change in nodule.changes:
        if isinstance(change, Growth):
            yield "growth", f" since prior {number}: {_growth_text(change, earlier_place, nodule.place)}"
        else:
            yield "growth left out", f" since prior {number}: {_reason_text(change)}"


def _growth_text(change: Growth, earlier: Place, current_place: Place) -> str:
    doubling = change.doubling_time_days
    doubling_text = change.reason if doubling is None else f"doubling time {doubling:.0f} d"
    slices = f"slices {earlier.slice_mm:.3g} and {current_place.slice_mm:.3g} mm"
    return f"volume {change.percent:+.0f} % in {change.days:.0f} d, {doubling_text}, {slices}"


def _mark_text(place: Place) -> str:
    distance_mm, source = place.spot.mark_distance_mm, place.location.source
    return (
        f"{source}, given for this nodule"
        if distance_mm is None
        else f"{source}, {distance_mm:.1f} mm from its registered place"
    )


def _reason_text(reason: Omission | OutOfScope) -> str:
    return f"{reason.code}, {reason.reason}"
