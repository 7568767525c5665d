"""One module per clinical question: select a study, read it, speak in findings.

What several of them do and say alike stands here, since every module beside this one is a handler.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ainode.models.card import Limits
from ainode.models.errors import ModelError, UnusablePicture
from ainode.node.domain import (
    Algorithm,
    Band,
    Code,
    Instance,
    InstanceRef,
    LabelMap,
    Measurement,
    Outline,
    OutOfScope,
    Position,
    Region,
    Saliency,
    Selection,
    Series,
    Study,
    Verdict,
    WeightsStatus,
)
from ainode.node.errors import BrokenSeries, WeightsError
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.geometry import Stack, Volume
from ainode.node.imaging.pixel_shape import shape_fault
from ainode.node.imaging.radiograph_view import polarity_fault
from ainode.node.reading.weights import ModelEnvironment, WeightStore

IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
BODY = Code("38266002", "SCT", "Entire body")
"""the site of what no description places"""
LUNG = Code("39607008", "SCT", "Lung")
# PS3.16 CID 7150 (Segmentation Property Category).
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
LONG_AXIS, SHORT_AXIS = Code("103339001", "SCT", "Long axis"), Code("103340004", "SCT", "Short axis")
VOLUME = Code("118565006", "SCT", "Volume")
MM, PERCENT = Code("mm", "UCUM", "mm"), Code("%", "UCUM", "%")
PROBABILITY = Code("122157", "DCM", "Probability")
PROBABILITY_OF_CANCER = Code("111047", "DCM", "Probability of cancer")
MALIGNANT = Code("21594007", "SCT", "Malignant")
NOT_RULED_OUT = "what is not marked was not ruled out"
MARKED_BY_SEARCH = (
    Code("marked-by", "99AINODE", "Marked by"),
    Code("node-search", "99AINODE", "The node's own search, as a candidate"),
)
"""the quality of a candidate"""
LARGEST_PIECE = (
    Code("outlined-region", "99AINODE", "Outlined region"),
    Code("largest-piece", "99AINODE", "The largest of several pieces on the image"),
)
"""the quality of a finding whose region has a part of what was measured: a region has one border"""
SIDES = {"right": Code("24028007", "SCT", "Right"), "left": Code("7771000", "SCT", "Left")}
# A slice narrower than this shows one lung, and not where the middle of the body is.
_BODY_MM, _MIDDLE_MM, _TISSUE_HU = 220.0, 20.0, -300.0
# PS3.5 6.2, CS.
_NO_CODE_STRING, _LONGEST_CODE_STRING = re.compile(r"[^A-Z0-9_ ]"), 16
_LEAST_CONTOURS, _MOST_CONTOURS, _LEAST_POINTS = 2, 5000, 3

Mask = NDArray[np.bool_]
Model = TypeVar("Model")
Prediction = TypeVar("Prediction")


def loaded(load: Callable[..., Model], *arguments: object, name: str, environment: ModelEnvironment) -> Model:
    """Return the model that `load` makes of the arguments, run as the installation runs its networks.

    Raises: WeightsError if the files are not the model's, or the model refuses the precision.
    """
    from ainode.models.running.runtime import Execution  # noqa: PLC0415

    try:
        return load(*arguments, execution=Execution(environment.cache, environment.device, environment.precision))
    except ModelError as error:
        raise WeightsError(f"{name}: {error}") from error


def selection_of(study: Study, chosen: Collection[Instance]) -> Selection:
    """Return the chosen instances in their series."""
    chosen_series = (
        dataclasses.replace(series, instances=tuple(instance for instance in series.instances if instance in chosen))
        for series in study.series
    )
    return Selection(study.study_instance_uid, tuple(series for series in chosen_series if series.instances))


def readable(study: Study, refusal: Callable[[Instance], OutOfScope | None]) -> Selection | OutOfScope:
    """Return the images whose headers `refusal` does not refuse; if every image is refused, the reasons."""
    refusals = {instance: reason for instance in study.instances if (reason := refusal(instance))}
    chosen = set(study.instances) - set(refusals)
    if not chosen:
        return grouped(list(refusals.values())) if refusals else OutOfScope("the study holds no image", "no-image")
    # A report beside the images is no image that somebody expects to be read.
    declined = {
        str(instance.ref.sop_instance_uid): reason for instance, reason in refusals.items() if instance.text("Rows")
    }
    return dataclasses.replace(selection_of(study, chosen), declined=declined)


def misfit(instance: Instance, smallest_side: int) -> tuple[str, str] | None:
    """Return reason and code of a refusal by size, frames, shape of pixels and polarity; None if the image fits."""
    rows, columns = (int(instance.text(key) or 0) for key in ("Rows", "Columns"))
    if min(rows, columns) < smallest_side:
        return f"the image has {rows} x {columns} pixels; {smallest_side} a side are needed", "too-small"
    if (frames := instance.text("NumberOfFrames")) not in {"", "1"}:
        return f"the image has {frames} frames; one is read", "multi-frame"
    if fault := shape_fault(instance.header):
        return f"{fault}; correct the header at its source", "unknown-pixel-shape"
    fault = polarity_fault(instance.header)
    return (f"{fault}; correct the header at its source", "unknown-polarity") if fault else None


def each_read(
    instances: Iterable[Instance], read: Callable[[Instance], Prediction]
) -> tuple[list[tuple[Instance, Prediction]], list[OutOfScope]]:
    """Return the prediction of each usable image, and a refusal of each unusable image.

    Raises: BrokenSeries if images cannot be decoded, and no other image is usable.
    """
    predictions: list[tuple[Instance, Prediction]] = []
    unusable: list[OutOfScope] = []
    broken: list[BrokenSeries] = []
    for instance in instances:
        try:
            predictions.append((instance, read(instance)))
        except UnusablePicture as error:
            unusable.append(image_refusal(instance, str(error), "unusable-pixels"))
        except BrokenSeries as error:
            unusable.append(image_refusal(instance, str(error), "undecodable"))
            broken.append(error)
    if broken and not predictions:
        raise broken[0]
    return predictions, unusable


def image_refusal(instance: Instance, reason: str, code: str) -> OutOfScope:
    """Return the answer that one image is not read, for a reason; `grouped` names the image."""
    return OutOfScope(reason, code, (instance.ref,))


def grouped(refusals: Collection[OutOfScope]) -> OutOfScope:
    """Return the refusals of images as one: each reason once, the most frequent reason first, whose code counts."""
    by_reason: dict[tuple[str, str], list[OutOfScope]] = {}
    for refusal in refusals:
        by_reason.setdefault((refusal.reason, refusal.code), []).append(refusal)
    groups = sorted(by_reason.values(), key=len, reverse=True)
    texts = (f"{_images(group)}: {group[0].reason}" for group in groups)
    evidence = tuple(ref for refusal in refusals for ref in refusal.evidence)
    return OutOfScope("; ".join(texts), groups[0][0].code, evidence)


def _images(refusals: Sequence[OutOfScope]) -> str:
    """Return the UID of a single image, or how many images there are."""
    references = [ref for refusal in refusals for ref in refusal.evidence]
    return f"image {references[0].sop_instance_uid}" if len(references) == 1 else f"{len(references)} images"


def body_parts(series: Iterable[Series]) -> str:
    """Return the body parts of several series as text; `none` without series."""
    return ", ".join(sorted({str(body_part(item.instances[0].header)) for item in series})) or "none"


class Described(Protocol):
    """What the card of a model says of the model itself."""

    @property
    def name(self) -> str:
        """Return the name of the model."""

    @property
    def version(self) -> str:
        """Return the version of the model."""

    @property
    def limits(self) -> Limits:
        """Return the limits of the model."""


def algorithm(
    card: Described,
    store: WeightStore,
    *,
    weights: tuple[str, ...],
    parameters: Mapping[str, str],
    decisive: Collection[str] = (),
) -> Algorithm:
    """Return the algorithm of a result; its status is the lowest of the decisive weights, by default of all weights.

    What was seen to go wrong was seen of the weights that ship, and is not said of a site's own.
    """
    names = sorted(decisive or weights)
    status = store.status(names)
    lowest = [name for name in names if store.status([name]) is status]
    # Beside weights of a better status the answer says which weights made it what it is.
    reason = {f"{status} weights": ", ".join(lowest)} if len(lowest) < len(names) else {}
    return Algorithm(
        card.name,
        card.version,
        store.digest(weights),
        status,
        tuple({**parameters, **reason}.items()),
        not_for=card.limits.not_for,
        known_limits=() if status is WeightsStatus.SITE else card.limits.known_limits,
    )


def unread(refusals: Collection[OutOfScope]) -> Mapping[str, str]:
    """Return the parameter with the images that were not read, by reason; no parameter without refusals."""
    return {"images not read": grouped(refusals).reason} if refusals else {}


def verdict_on(
    probability: float, threshold: float, band: tuple[float, float] | None, *, about: Code | None = None
) -> Verdict:
    """Return the verdict on a probability by the threshold and the band of a card."""
    return Verdict.of(probability, threshold, band=Band(*band) if band else None, about=about)


def threshold_texts(threshold: float, band: tuple[float, float] | None, subject: str = "") -> Mapping[str, str]:
    """Return threshold and band as parameters; `subject` names what they are of where a result has several.

    The UIDs of the documents hang on the parameters, and nothing else of a result knows the band.
    """
    prefix = f"{subject} " if subject else ""
    band_texts = {f"{prefix}band": f"{band[0]:g} to {band[1]:g}"} if band else {}
    return {f"{prefix}threshold": f"{threshold:g}", **band_texts}


def percent(concept: Code, share: float, images: tuple[InstanceRef, ...]) -> Measurement:
    """Return a share, 0 to 1, as a measurement inferred from images."""
    return Measurement(concept, round(100 * share, 2), PERCENT, images)


def saliency(shown: NDArray[np.float32]) -> Saliency:
    """Return a map (rows, columns), 0 to 1, on the grid of its image."""
    rows, columns = shown.shape
    return Saliency(rows, columns, np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8).tobytes())


def voxels_under(slices: Stack, number: int, scan: Volume) -> NDArray[np.float64]:
    """Return the continuous voxel index (z, y, x) of each pixel of a slice, in the volume of the stack.

    Shapes: (3, rows, columns).
    """
    ends = (scan.index(slices.position(number, row, column)) for row, column in ((0, 0), (1, 0), (0, 1)))
    corner, down, right = np.asarray(tuple(ends))[:, :, None, None]
    rows, columns = np.mgrid[: slices.rows, : slices.columns]
    return np.asarray(corner + (down - corner) * rows + (right - corner) * columns)


def label_map(image: InstanceRef, labels: NDArray[np.integer]) -> LabelMap:
    """Return labels (rows, columns), 0 for none, on the pixels of an image."""
    rows, columns = labels.shape
    return LabelMap(image, rows, columns, np.ascontiguousarray(labels, np.uint8).tobytes())


def content_label(model: str) -> str:
    """Return the Content Label of the segmentation of a model by its name."""
    return _NO_CODE_STRING.sub("_", model.upper())[:_LONGEST_CODE_STRING]


@dataclasses.dataclass(frozen=True, slots=True)
class OutlinedPiece:
    """The largest piece of a mask on an image: what a report draws, for a region has one border."""

    region: Region | None
    """its border; None of a line or a point, which has none: then the piece is the whole mask"""
    mask: Mask
    count: int
    """of the pieces that the whole mask has"""

    def qualities(self, *, is_candidate: bool) -> tuple[tuple[Code, Code], ...]:
        """Return what is said in codes of a finding with this region."""
        largest = (LARGEST_PIECE,) if self.count > 1 else ()
        return (*largest, MARKED_BY_SEARCH) if is_candidate else largest


def outlined_piece(image: InstanceRef, mask: Mask) -> OutlinedPiece:
    """Return the largest piece of a mask, its border through the middles of its outer pixels.

    Pixels that touch at a corner are of one piece.
    """
    import cv2  # noqa: PLC0415 - a handler that only selects needs none

    border = max(_borders(mask), key=cv2.contourArea)
    if len(border) < _LEAST_POINTS:
        return OutlinedPiece(None, mask, 1)
    points = [(float(x) + 0.5, float(y) + 0.5) for x, y in border]
    count, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    column, row = border[0]
    piece = np.asarray(pieces == pieces[row, column], np.bool_)
    return OutlinedPiece(Region(image, (*points, points[0])), piece, count - 1)


def outline_of(slices: Stack, masks: Mapping[int, Mask]) -> Outline | None:
    """Return the borders of all pieces of masks, by the number of the slice, in the patient.

    None of a mask on one slice, without a known patient space, or in more pieces than a report can hold.
    """
    borders = ((number, border) for number, mask in sorted(masks.items()) for border in _borders(mask))
    contours = tuple(
        tuple(slices.position(number, float(y), float(x)) for x, y in (*border, border[0]))
        for number, border in borders
        if len(border) >= _LEAST_POINTS
    )
    if not slices.frame_of_reference_uid or not _LEAST_CONTOURS <= len(contours) <= _MOST_CONTOURS:
        return None
    return Outline(slices.frame_of_reference_uid, slices.instances[0].ref.series_instance_uid, contours)


def _borders(mask: Mask) -> list[NDArray[np.int32]]:
    """Return column and row of the pixels where the border of each piece turns, (n, 2)."""
    import cv2  # noqa: PLC0415 - a handler that only selects needs none

    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [np.asarray(contour, np.int32).reshape(-1, 2) for contour in contours]


def side_of_body(scan: Volume, position_mm: Position) -> str:
    """Return `left` or `right` of the patient; '' near the middle, and where the slice shows a part of the body."""
    depth, _, column = scan.index(position_mm)
    layer = scan.values[round(min(max(depth, 0), len(scan.values) - 1))]
    columns = np.flatnonzero((layer > _TISSUE_HU).any(axis=0))
    _, _, column_mm = scan.spacing_mm
    if not len(columns) or (columns[-1] - columns[0]) * column_mm < _BODY_MM:
        return ""
    # The columns of a volume run to the left.
    from_middle_mm = (column - (columns[0] + columns[-1]) / 2) * column_mm
    if abs(from_middle_mm) < _MIDDLE_MM:
        return ""
    return "left" if from_middle_mm > 0 else "right"
