"""What does a site's own network mark, and how large is it? On each image by itself, or on a stack of slices.

The network, its input and its segments are those of a `model.toml` (`handlers/README.md`).
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from ainode.handlers import ABNORMAL_STRUCTURE, ANATOMICAL_STRUCTURE, BODY, NOT_RULED_OUT, each_read, grouped, unread
from ainode.handlers.described.base import DescribedReading, joined
from ainode.handlers.described.description import ACTIVATIONS, PICTURE, VOLUME, stride_of
from ainode.handlers.described.segments import Labels, MarkedImages, SegmentClass
from ainode.models.described.labels import Marking, largest_piece
from ainode.models.described.scaling import Activation, Values
from ainode.models.described.windows import slid
from ainode.models.errors import UnusablePicture
from ainode.node.domain import Code, Instance, OutOfScope, Result, Selection, refs
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.reading.described import DescribedModel
from ainode.node.reading.tables import Table
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.handlers.described.volumes import Scan

# PS3.16 CID 7150 (Segmentation Property Category).
_CATEGORIES = {
    "anatomy": ANATOMICAL_STRUCTURE,
    "abnormal": ABNORMAL_STRUCTURE,
    "tissue": Code("85756007", "SCT", "Tissue"),
}
_MM3_PER_ML = 1000.0
_MOST_VALUE, _MOST_SEGMENTS = 1000, 255
# PS3.3 C.8.20.4: Segment Label is LO.
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment of the description: what it is, and which of its pieces count."""

    item: SegmentClass
    number: int
    is_largest_only: bool
    least_ml: float


class Segment(DescribedReading):
    """The handler of a model that marks pixels."""

    reads_windows = True

    def __init__(self, environment: ModelEnvironment, model: DescribedModel) -> None:
        super().__init__(environment, model)
        output = self.description.output
        self._segments = self._read_segments(output)
        masks = cast("Literal['channels', 'labels']", output.text("masks", choices=("channels", "labels")))
        usual_activation = "none" if masks == "labels" else None
        activation = cast("Activation", output.text("activation", usual_activation, choices=ACTIVATIONS))
        self.refuse_second(activation)
        self._marking = Marking(
            masks,
            tuple(segment.number for segment in self._segments),
            activation,
            output.number("threshold", 0.5, least=1e-6, most=1 - 1e-6),
            self.description.input.is_channels_last,
            output.wholes("left_out", (), least=1, most=_MOST_VALUE),
        )
        self._stride = stride_of(output, self.description.input)
        self._refuse_contradictions(output)
        output.refuse_unknown()

    def _refuse_contradictions(self, output: Table) -> None:
        """Return if the marking fits the input.

        Raises: ConfigError.
        """
        marking = self._marking
        if marking.masks == "channels" and marking.left_out:
            raise output.wrong(
                "left_out", 'it names values of a map, masks = "labels"; further channels may stay unnamed'
            )
        if output.has("threshold") and (marking.masks == "labels" or marking.activation == "softmax"):
            raise output.wrong("threshold", "labels have none, and with softmax the most probable channel counts")
        if marking.masks == "labels" and 0 in marking.numbers:
            raise output.wrong_together("a segment has the value 0, which in a map is what nothing marks; name another")
        if marking.masks == "labels" and self.description.input.sliding:
            raise output.wrong("masks", 'windows overlap, and labels have no mean there: "channels"')

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return a finding with its size for each segment that is marked; nothing marked is out of scope."""
        self.begin_study()
        try:
            with self.faults_of_the_description():
                if not self.description.takes.is_stack:
                    return self._of_images(selection)
                slices = stack(selection.instances)
                return slices if isinstance(slices, OutOfScope) else self._of_stack(selection, slices)
        except UnusablePicture as error:
            return OutOfScope(str(error), "unusable-pixels", refs(selection.instances))

    def _answer(self, inputs: Values) -> Values:
        sliding, is_last = self.description.input.sliding, self.description.input.is_channels_last
        if sliding is None:
            return self.network(inputs)[0]
        return slid(self.network, inputs, sliding, is_channels_last=is_last)

    def _of_images(self, selection: Selection) -> Result | OutOfScope:
        """Return the result of images that are read one by one."""
        answers, unusable = each_read(selection.instances, self._image_labels)
        if not answers:
            return grouped(unusable)
        classes = tuple(segment.item for segment in self._segments)
        images, pairs = zip(*answers, strict=True)
        labels, seen = zip(*pairs, strict=True)
        marked = MarkedImages(images, labels, classes, seen=seen)
        return self._result(selection, marked, [*selection.declined.values(), *unusable])

    def _image_labels(self, instance: Instance) -> tuple[Labels, str]:
        """Return the labels of an image, and what share of the image was seen."""
        from ainode.handlers.described.pictures import prepared, seen_text  # noqa: PLC0415 - brings cv2 along

        inputs, placement = prepared(instance, self.description.input)

        def on_source(values: Values, is_nearest: bool) -> Values:  # noqa: FBT001
            return placement.answer_on_source(values, stride=self._stride, nearest=is_nearest)

        labels = self._marking.labels(self._answer(inputs), PICTURE, on_source)
        return self._cleaned(labels, 0.0), seen_text(placement.seen_share, "image")

    def _of_stack(self, selection: Selection, slices: Stack) -> Result | OutOfScope:
        """Return the result of a stack, which is read as a volume or slice by slice."""
        from ainode.handlers.described.pictures import seen_text  # noqa: PLC0415
        from ainode.handlers.described.volumes import Scan  # noqa: PLC0415 - brings scipy along

        scan = Scan(slices)
        is_flat = self.description.input.dimensions == PICTURE
        labels, share = self._plane_labels(scan) if is_flat else self._volume_labels(scan)
        voxel_ml = float(np.prod(slices.spacing_mm)) / _MM3_PER_ML
        on_slices = scan.on_slices(self._cleaned(labels, voxel_ml))
        classes = tuple(segment.item for segment in self._segments)
        window, seen = self.window_of(slices.instances[0]), (seen_text(share, "volume"),)
        marked = MarkedImages(slices.instances, list(on_slices), classes, slices, window, seen)
        return self._result(selection, marked, list(selection.declined.values()))

    def _volume_labels(self, scan: "Scan") -> tuple[Labels, float]:
        """Return the labels of a volume that is read as a whole, and the share of the volume that was seen."""
        from ainode.handlers.described.volumes import prepared_volume  # noqa: PLC0415

        inputs, placement = prepared_volume(scan, self.description.input)

        def on_source(values: Values, is_nearest: bool) -> Values:  # noqa: FBT001
            return placement.on_source(values, nearest=is_nearest)

        return self._marking.labels(self._answer(inputs), VOLUME, on_source), placement.seen_share

    def _plane_labels(self, scan: "Scan") -> tuple[Labels, float]:
        """Return the labels of a volume whose slices are read one by one, and the share that was seen."""
        from ainode.handlers.described.volumes import prepared_planes  # noqa: PLC0415

        planes, turned = prepared_planes(scan, self.description.input)
        labels, share = np.zeros(turned.target, np.uint8), 1.0
        for number, (inputs, placement) in enumerate(planes):

            def on_source(values: Values, is_nearest: bool) -> Values:  # noqa: FBT001
                return placement.answer_on_source(values, stride=self._stride, nearest=is_nearest)  # noqa: B023 - called in this turn

            labels[number] = self._marking.labels(self._answer(inputs), PICTURE, on_source)
            share = placement.seen_share
        return np.asarray(turned.on_source(labels, nearest=True), np.uint8), share

    def _cleaned(self, labels: Labels, voxel_ml: float) -> Labels:
        """Return labels without what the description leaves out: smaller pieces, and segments that are too small."""
        cleaned = labels
        for label, segment in enumerate(self._segments, start=1):
            mask = labels == label
            piece = largest_piece(mask) if segment.is_largest_only else mask
            if piece.sum() * voxel_ml < segment.least_ml:
                piece = np.zeros_like(mask)
            if piece is not mask:
                cleaned = np.where(mask & ~piece, np.uint8(0), cleaned)
        return cleaned

    def _result(
        self, selection: Selection, marked: MarkedImages, refusals: Collection[OutOfScope]
    ) -> Result | OutOfScope:
        evidence = refs(marked.instances)
        if not marked.marks:
            names = ", ".join(segment.item.name for segment in self._segments)
            reason = joined((f"nothing marked ({names})", *marked.seen, NOT_RULED_OUT))
            return OutOfScope(reason, "nothing-marked", evidence)
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self.algorithm({**self._parameters(), **unread(refusals)}, marked.seen),
            title=self.description.title,
            procedure=self.description.procedure,
            findings=marked.findings(),
            captures=marked.captures(self.description.title),
            evidence=evidence,
            key_images=refs(marked.key_images()),
            scores=marked.scores(),
            summary=joined((marked.summary(), *marked.seen)),
            segmented=marked.segmented(self.name),
        )

    def _parameters(self) -> dict[str, str]:
        marking = self._marking
        if marking.masks == "labels":
            return {"threshold": "none: the network answers with labels"}
        if marking.activation == "softmax":
            return {"threshold": "none: the most probable channel of a pixel counts"}
        return {"threshold": f"{marking.threshold:g} for a pixel; of several the most probable"}

    def _read_segments(self, output: Table) -> tuple[_Segment, ...]:
        """Return the segments of the description, each of a name and a number of its own.

        Raises: ConfigError.
        """
        is_stack = self.description.takes.is_stack
        segments = tuple(_segment(table, self.site, is_stack) for table in output.tables("segments"))
        if not 0 < len(segments) <= _MOST_SEGMENTS:
            raise output.wrong_together("write each segment below [[output.segments]], 255 at most")
        for values in ([segment.item.name for segment in segments], [segment.number for segment in segments]):
            if len(set(values)) < len(values):
                raise output.wrong_together("two segments have one name, or one value; change one")
        return segments


def _segment(table: Table, site: Code | None, is_stack: bool) -> _Segment:  # noqa: FBT001 - a fact of the description
    category = _CATEGORIES[table.text("category", "anatomy", choices=tuple(_CATEGORIES))]
    code = table.code("code")
    name = table.text("name")
    if len(name) > _LONGEST_NAME:
        raise table.wrong("name", f"{_LONGEST_NAME} characters are needed at most")
    item = SegmentClass(
        name,
        code,
        category,
        table.code("site", site or (BODY if category is _CATEGORIES["abnormal"] else code)),
        table.flag("candidate", default=category is _CATEGORIES["abnormal"]),
    )
    number = table.whole("value", least=0, most=_MOST_VALUE)
    is_largest = table.flag("largest_only", default=False)
    least_ml = table.number("least_ml", 0.0, least=0, most=100_000)
    if least_ml and not is_stack:
        raise table.wrong("least_ml", "an image by itself has no volume")
    table.refuse_unknown()
    return _Segment(item, number, is_largest, least_ml)


def build(environment: ModelEnvironment, model: DescribedModel) -> Segment:
    """Return the handler of a described model."""
    if model.format == "bundle":
        from ainode.handlers.described.bundles import BundleSegment  # noqa: PLC0415 - it is made of this module

        return BundleSegment(environment, model)
    return Segment(environment, model)
