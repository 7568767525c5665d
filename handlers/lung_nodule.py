"""How likely is this lung nodule malignant? One to three CTs; someone else says where the nodule is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ainode.models.lung_nodule.card import Card, read_card
from ainode.node.anatomy import body_part
from ainode.node.ct_series import Wanted, ct_stack
from ainode.node.domain import (
    UID,
    Algorithm,
    Capture,
    Code,
    Finding,
    InstanceRef,
    Location,
    Measurement,
    OutOfScope,
    Region,
    Result,
    Saliency,
    Selection,
    Series,
    Study,
    SyntheticImage,
    SyntheticStudy,
    Value,
    WeightsStatus,
    refs,
)
from ainode.node.errors import BrokenSeries, WeightsError
from ainode.node.geometry import Stack, Volume, stack, volume
from ainode.node.positions import positions
from ainode.node.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.lung_nodule.model import LungNoduleModel, Prediction
    from ainode.models.lung_nodule.patches import Scan

PACKAGES = ("openvino", "safetensors", "scipy", "timm", "torch")
"""what reading needs beside the node's own packages"""

_CANCER = Code("111047", "DCM", "Probability of cancer")
_PERCENT = Code("%", "UCUM", "%")
_ATTENTION = Code("attention-weight", "99AINODE", "Attention weight")
_NO_UNITS = Code("1", "UCUM", "no units")
_NODULE = Code("27925004", "SCT", "Nodule")
_LUNG = Code("39607008", "SCT", "Lung")
_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
# The slices that the cube and the middle three need; 5 mm is the thickest that LIDC-IDRI holds.
_WANTED = Wanted(min_slices=5, min_coverage_mm=20.0, max_spacing_mm=5.5)
_REACH_MM = 27.0
_MOST_NODULES = 10
_MOST_TIME_POINTS = 3
# Drawn where no outline was found: LIDC-IDRI's nodules are smaller, with few exceptions.
_BOX_MM = 20.0
_SITE = "fmcib"
_SYNTHETIC: dict[str, Value] = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "Modality": "CT",
    "BodyPartExamined": "CHEST",
    "SeriesDescription": "Synthetic chest, one nodule",
    "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
    "ConvolutionKernel": "LUNG",
    "KVP": 120.0,
    "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "RescaleIntercept": -1024.0,
    "RescaleSlope": 1.0,
    "RescaleType": "HU",
}


class LungNodule:
    """The handler: loads its networks at the first study it reads."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment
        self._card = read_card()

    def _profiles(self) -> tuple[str, ...]:
        """Return the files' names: the original's where the site has named them, else those that ship."""
        known = {entry.name for entry in self._environment.weights.entries()}
        if f"{self._card.name}/{_SITE}" in known:
            return (_SITE, f"{_SITE}_recurrent", f"{_SITE}_linear")
        return tuple(self._card.files)

    def weights(self) -> tuple[str, ...]:
        """Return the names of every network's weights."""
        return tuple(f"{self._card.name}/{profile}" for profile in self._profiles())

    def paths(self) -> dict[str, Path]:
        """Return the verified file of each network by its name in the card."""
        names = zip(self._profiles(), self.weights(), strict=True)
        return {profile: self._environment.weights.verified(name) for profile, name in names}

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the CTs that hold a position, of this study and of its priors, by their headers."""
        pointed = study.locations or positions(study.instances)
        found = [_stack(study.series, one) for one in pointed[:_MOST_NODULES]]
        stacks = [one for one in found if isinstance(one, Stack)]
        if not stacks:
            what = "no nodule was pointed at: no position came with the request, and no SR, SEG or RTSTRUCT has one"
            answers = (ct_stack(study.series, _WANTED), *found, OutOfScope(what, "no-position"))
            return next(one for one in answers if isinstance(one, OutOfScope))
        first = stacks[0].instances[0]
        part = body_part(first.header)
        if part.parts and not {"CHEST", "LUNG"} & part.names:
            return OutOfScope(f"the body part is {part}; read is CHEST", "wrong-body-part", (first.ref,))
        kept = [one for one, seen in zip(pointed, found, strict=False) if isinstance(seen, Stack)]
        series = _series_of(stacks)
        for prior in reversed(study.priors[-(_MOST_TIME_POINTS - 1) :]):
            theirs = _in_frames(positions(prior.instances), prior) or _in_frames(study.locations, prior)
            earlier = [_stack(prior.series, one) for one in theirs]
            # Without a position it is not read, and the report says so.
            series += _series_of(earlier or [ct_stack(prior.series, _WANTED)])
            kept += [one for one, seen in zip(theirs, earlier, strict=True) if isinstance(seen, Stack)]
        return Selection(study.study_instance_uid, tuple(series), tuple(dict.fromkeys(kept)))

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return a finding with its probability, attention and saliency for every position."""
        from ainode.models.errors import UnusablePicture  # noqa: PLC0415 - brings the networks' libraries along

        read: list[_Nodule] = []
        unusable: list[OutOfScope] = []
        for number, places in enumerate(_nodules(selection), start=1):
            try:
                made, alone = (self._model.predict([one.scan for one in part]) for part in (places, places[-1:]))
                read.append(_Nodule(f"nodule {number}", places, made, alone))
            except UnusablePicture as error:
                unusable.append(OutOfScope(f"nodule {number}: {error}", "unusable-pixels", (places[-1].key,)))
        return self._result(selection, read) if read else unusable[0]

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic chest CT around one nodule, and where the nodule is."""
        from ainode.models.lung_nodule.demonstration import SPACING_MM, chest  # noqa: PLC0415

        values, (z, y, x) = chest(seed)
        between, row_mm, column_mm = SPACING_MM
        images = []
        for number, pixels in enumerate(values):
            header: dict[str, Value] = _SYNTHETIC | {
                "FrameOfReferenceUID": f"2.25.{seed + 1}",
                "ImagePositionPatient": (0.0, 0.0, between * number),
                "PixelSpacing": (row_mm, column_mm),
                "SliceThickness": between,
            }
            stored = np.clip(np.rint(pixels) + 1024, 0, 4095).astype("<u2")
            images.append(SyntheticImage(pixels.shape[0], pixels.shape[1], stored.tobytes(), header))
        return SyntheticStudy(tuple(images), ((x * column_mm, y * row_mm, z * between),))

    @cached_property
    def _model(self) -> "LungNoduleModel":
        from ainode.models.errors import ModelError  # noqa: PLC0415
        from ainode.models.lung_nodule.model import LungNoduleModel  # noqa: PLC0415

        try:
            return LungNoduleModel.load(
                self.paths(),
                cache=self._environment.cache,
                card=self._card,
                device=self._environment.device,
                precision=self._environment.precision,
            )
        except ModelError as error:
            raise WeightsError(f"{self._card.name}: {error}") from error

    def _algorithm(self, selection: Selection, nodules: Sequence["_Nodule"]) -> Algorithm:
        card, store = self._card, self._environment.weights
        used = {f"{card.name}/{nodule.made.profile}" for nodule in nodules}
        parameters = {
            "threshold": f"{card.threshold:g}, for the word only",
            "profile": ", ".join(sorted(nodule.made.profile for nodule in nodules)),
            "time points": ", ".join(str(len(nodule.places)) for nodule in nodules),
            "position from": ", ".join(sorted({place.location.source for n in nodules for place in n.places})),
            "precision": f"{self._model.precision} on {self._model.device}",
        }
        earlier = {one.ref.study_instance_uid for one in selection.instances} - {selection.study_instance_uid}
        followed = {place.key.study_instance_uid for nodule in nodules for place in nodule.places[:-1]}
        if earlier - followed:
            parameters["priors not read"] = f"{len(earlier - followed)}, no position that belongs to the nodule"
        status = min((store.entry(name).status for name in used), key=list(WeightsStatus).index)
        return Algorithm(card.name, card.version, store.digest(self.weights()), status, tuple(parameters.items()))

    def _result(self, selection: Selection, nodules: Sequence["_Nodule"]) -> Result:
        current = [ref for nodule in nodules for ref in nodule.places[-1].refs]
        earlier = [ref for nodule in nodules for place in reversed(nodule.places[:-1]) for ref in place.refs]
        keys = [place.key for nodule in nodules for place in reversed(nodule.places)]
        keys.sort(key=lambda ref: ref.study_instance_uid != selection.study_instance_uid)
        scores = {"probability": max(nodule.made.probability for nodule in nodules)}
        for nodule in nodules:
            scores |= nodule.scores()
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self._algorithm(selection, nodules),
            title="Lung nodule",
            procedure=_PROCEDURE,
            findings=tuple(nodule.finding() for nodule in nodules),
            captures=tuple(nodule.capture(self._card) for nodule in nodules),
            evidence=tuple(dict.fromkeys(current + earlier)),
            key_images=tuple(dict.fromkeys(keys)),
            scores=scores,
        )


@dataclass(frozen=True, slots=True)
class _Place:
    """A nodule in one CT: the slices around it, decoded."""

    location: Location
    slices: Stack
    decoded: Volume
    scan: "Scan"

    @property
    def refs(self) -> tuple[InstanceRef, ...]:
        """Return the slices that were read."""
        return refs(self.slices.instances)

    @property
    def at(self) -> tuple[int, float, float]:
        """Return slice, row and column of the position."""
        number, row, column = self.slices.pixel(self.location.position_mm)
        return round(min(max(number, 0), len(self.slices.instances) - 1)), row, column

    @property
    def key(self) -> InstanceRef:
        """Return the slice that holds the position."""
        return self.slices.instances[self.at[0]].ref


@dataclass(frozen=True, slots=True)
class _Nodule:
    """What the model says of one nodule, in the node's words."""

    name: str
    places: Sequence[_Place]
    """oldest first"""
    made: "Prediction"
    alone: "Prediction"
    """of the current scan alone"""

    def finding(self) -> Finding:
        """Return the nodule's probability, its place, and how much each time point counted."""
        probability = Measurement(_CANCER, round(100 * self.made.probability, 2), _PERCENT, (self.places[-1].key,))
        weighed = zip(reversed(self.places), reversed(self.made.attention), strict=True)
        attention = (Measurement(_ATTENTION, round(one, 4), _NO_UNITS, (place.key,)) for place, one in weighed)
        return Finding(
            tracking_identifier=self.name,
            concept=_NODULE,
            site=_LUNG,
            measurements=(probability, *attention),
            evidence=self.places[-1].refs,
            region=self._region(),
            label=f"{self.name} {self.made.probability:.0%}",
        )

    def _region(self) -> Region:
        """Return a box centered at the position, of the outline's size, inside of the image."""
        place = self.places[-1]
        _, row, column = place.at
        down, across = self.alone.size_mm or (_BOX_MM, _BOX_MM)
        # Columns of an upright slice run to the back or, when it was turned by 90 degrees, to a side.
        turned = abs(place.slices.column_axis[0]) > abs(place.slices.column_axis[1])
        down, across = (across, down) if turned else (down, across)
        _, row_mm, column_mm = place.slices.spacing_mm
        y, x = row + 0.5, column + 0.5
        half_rows = min(down / row_mm / 2, y, place.slices.rows - y)
        half_columns = min(across / column_mm / 2, x, place.slices.columns - x)
        return Region.box(
            place.key, left=x - half_columns, top=y - half_rows, right=x + half_columns, bottom=y + half_rows
        )

    def capture(self, card: Card) -> Capture:
        """Return the key slice with the saliency of the current scan and the box."""
        attention = ", ".join(f"{one:.2f}" for one in self.made.attention)
        box = "outline found" if self.alone.size_mm else f"{_BOX_MM:.0f} mm square, no outline"
        shown = self.alone.picture_mm
        verdict = "above" if self.made.probability > card.threshold else "not above"
        return Capture(
            image=self.places[-1].key,
            title=f"Lung {self.name}",
            captions=(
                f"Probability of cancer {self.made.probability:.1%}, {verdict} {card.threshold:.0%}",
                f"Time points {len(self.places)}, attention oldest first {attention}",
                f"Profile {self.made.profile}; current scan alone {self.alone.probability:.1%} ({self.alone.profile})",
                f"Box: {box}" + (f"; picture {shown:.0f} mm wide" if shown else ""),
            ),
            saliency=self._saliency(),
            findings=(self.finding(),),
        )

    def _saliency(self) -> Saliency | None:
        place, shown = self.places[-1], self.made.maps[-1]
        if shown is None:
            return None
        rows, columns, number = place.slices.rows, place.slices.columns, place.at[0]
        corners = (place.slices.position(number, row, column) for row, column in ((0, 0), (1, 0), (0, 1)))
        first, down, across = np.array([place.decoded.index(one) for one in corners])[:, :, None, None]
        where = first + (down - first) * np.arange(rows)[:, None] + (across - first) * np.arange(columns)
        values = np.rint(255 * np.clip(shown.sampled(where), 0, 1)).astype(np.uint8)
        return Saliency(rows, columns, values.tobytes())

    def scores(self) -> Mapping[str, float]:
        """Return every number of this nodule by name; time point 1 is the current one."""
        weighed = enumerate(reversed(self.made.attention), start=1)
        attention = {f"{self.name} attention of time point {number}": value for number, value in weighed}
        single = {f"{self.name} probability of the current scan alone": self.alone.probability}
        return {f"{self.name} probability": self.made.probability, **single, **attention}


def _stack(series: Sequence[Series], location: Location) -> Stack | OutOfScope:
    """Return the best stack that holds a position, or why there is none."""
    theirs = [one for one in series if location.frame_of_reference_uid in ("", *_frames(one))]
    if not theirs:
        uid = location.frame_of_reference_uid
        return OutOfScope(f"the position is of frame of reference {uid}, no CT of the study is", "position-outside")
    holding = []
    for one in theirs:
        found = ct_stack((one,), _WANTED)
        if isinstance(found, Stack) and found.holds(location.position_mm):
            holding.append(one)
    best = ct_stack(holding or theirs, _WANTED)
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


def _nodules(selection: Selection) -> list[list[_Place]]:
    """Return, for every nodule of the current study, its places from the oldest time point to the current one."""
    studies: dict[UID, list[Series]] = {}
    for one in selection.series:
        studies.setdefault(one.instances[0].ref.study_instance_uid, []).append(one)
    current = studies.pop(selection.study_instance_uid)
    here = [(one, found) for one in selection.locations if isinstance(found := _stack(current, one), Stack)]
    nodules = []
    for location, found in here:
        places = [_place(found, location)]
        for series in studies.values():
            named = [one for one in selection.locations if one.frame_of_reference_uid]
            earlier = [(one, old) for one in named if isinstance(old := _stack(series, one), Stack)]
            same = [pair for pair in earlier if pair[0].tracking_uid == location.tracking_uid != ""]
            same = same or (earlier if len(earlier) == len(here) == 1 else [])
            places += [_place(old, one) for one, old in same[:1]]
        nodules.append(places[::-1])
    return nodules


def _place(whole: Stack, location: Location) -> _Place:
    """Decode the slices around a position."""
    from ainode.models.lung_nodule.patches import Scan  # noqa: PLC0415

    count, between = len(whole.instances), whole.spacing_mm[0]
    middle, reach = whole.pixel(location.position_mm)[0], int(np.ceil(_REACH_MM / between)) + 1
    low, high = max(0, round(middle) - reach), min(count, round(middle) + reach + 1)
    near = stack(whole.instances[low:high])
    if isinstance(near, OutOfScope):
        raise BrokenSeries(f"the slices around the position are no stack: {near.reason}")
    decoded = volume(near)
    before = low if near.normal[2] > 0 else count - high
    scan = Scan(decoded.values, decoded.spacing_mm, decoded.index(location.position_mm), before)
    return _Place(location, near, decoded, scan)


def build(environment: ModelEnvironment) -> LungNodule:
    """Return the handler."""
    return LungNodule(environment)


def benchmark(
    environment: ModelEnvironment, *, full_size: bool, runs: int
) -> tuple[tuple[str, ...], list[Sequence[object]]]:
    """Return head and rows of how long a whole reading takes, ours beside eager PyTorch."""
    from ainode.models.lung_nodule.benchmark import HEAD, measured  # noqa: PLC0415

    rows = measured(LungNodule(environment).paths(), cache=environment.cache, full_size=full_size, runs=runs)
    return HEAD, rows
