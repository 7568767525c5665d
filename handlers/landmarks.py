"""Where does a site's own network place its landmarks? Points on each image of the study.

The network, its input and its landmarks are those of a `model.toml` (`handlers/README.md`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from ainode.handlers import unread
from ainode.handlers.described.base import ImageReading, joined
from ainode.handlers.described.description import stride_of
from ainode.models.described.points import Landmark, PointForm
from ainode.models.described.scaling import Values
from ainode.models.errors import UnusablePicture
from ainode.node.domain import (
    Capture,
    Code,
    Finding,
    GraphicType,
    Instance,
    OutOfScope,
    Region,
    Result,
    Selection,
    counted,
    refs,
)
from ainode.node.reading.described import DescribedModel
from ainode.node.reading.tables import Table
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.described.placement import Placement

Marks = dict[str, Landmark]
"""the landmarks of an image by name, without those below the threshold or beside the image"""


@dataclass(frozen=True, slots=True)
class _Point:
    """A landmark of the description."""

    name: str
    code: Code
    site: Code


class Landmarks(ImageReading[Marks]):
    """The handler of a model that places landmarks."""

    def __init__(self, environment: ModelEnvironment, model: DescribedModel) -> None:
        super().__init__(environment, model)
        output = self.description.output
        self._points = _points(output, self.site)
        self._form = PointForm(
            cast("Literal['places', 'heatmaps']", output.text("form", choices=("places", "heatmaps"))),
            cast("Literal['xy', 'yx']", output.text("order", "xy", choices=("xy", "yx"))),
            output.flag("normalized", default=False),
            stride_of(output, self.description.input),
            self.description.input.is_channels_last,
        )
        self._least = output.number_if_given("threshold", least=-1e6, most=1e6)
        if self._least is not None and self._form.form == "places":
            raise output.wrong("threshold", "places have no score; heat maps have")
        if self._form.stride > 1 and self._form.form == "places":
            raise output.wrong("stride", "places have no cells; heat maps have")
        output.refuse_unknown()

    def _placed(self, outputs: tuple[Values, ...], placement: "Placement") -> Marks:
        places = self._form.landmarks(outputs[0], placement, len(self._points))
        marks = {
            item.name: mark
            for item, mark in zip(self._points, places, strict=True)
            if mark is not None and (self._least is None or (mark.score or 0.0) >= self._least)
        }
        if not marks:
            least = "" if self._least is None else f" and reaches the threshold {self._least:g}"
            raise UnusablePicture(f"no landmark lies on the image{least}")
        return marks

    def _result(
        self,
        selection: Selection,
        answers: Sequence[tuple[Instance, tuple[Marks, str]]],
        refusals: Collection[OutOfScope],
    ) -> Result:
        findings: list[Finding] = []
        captures: list[Capture] = []
        scores: dict[str, float] = {}
        for number, (instance, (marks, seen)) in enumerate(answers, start=1):
            place = f"image {number}"
            group = [_finding(place, instance, item, marks[item.name]) for item in self._points if item.name in marks]
            findings += group
            missing = ", ".join(item.name for item in self._points if item.name not in marks)
            captions = tuple(filter(None, (missing and f"not placed: {missing}", seen)))
            title = f"{self.description.title}, {place}"
            captures.append(Capture(instance.ref, title, captions, findings=tuple(group)))
            for name, mark in marks.items():
                scores |= {f"{place} {name} column": mark.column, f"{place} {name} row": mark.row}
                scores |= {} if mark.score is None else {f"{place} {name} highest value": mark.score}
        evidence = refs(instance for instance, _ in answers)
        threshold = "none" if self._least is None else f"{self._least:g} for the highest value of a heat map"
        parameters = {"threshold": threshold, "form": self._form.form, **unread(refusals)}
        seen_texts = [seen for _, (_, seen) in answers]
        summary = f"{counted(len(findings), 'landmark')} placed on {counted(len(answers), 'image')}"
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self.algorithm(parameters, seen_texts),
            title=self.description.title,
            procedure=self.description.procedure,
            findings=tuple(findings),
            captures=tuple(captures),
            evidence=evidence,
            key_images=evidence,
            scores=scores,
            summary=joined((summary, *seen_texts)),
        )


def _points(output: Table, site: Code | None) -> tuple[_Point, ...]:
    """Return the landmarks of the description, which are named differently.

    Raises: ConfigError.
    """
    points = []
    for table in output.tables("points"):
        points.append(_Point(table.text("name"), table.code("code"), table.code("site", site)))
        table.refuse_unknown()
    if not points or len({point.name for point in points}) < len(points):
        raise output.wrong_together("write each landmark below [[output.points]], each with a name of its own")
    return tuple(points)


def _finding(place: str, instance: Instance, item: _Point, mark: Landmark) -> Finding:
    """Return the point of a landmark, which measures and judges nothing."""
    return Finding(
        f"{place} {item.name}",
        item.code,
        item.site,
        (),
        (instance.ref,),
        region=Region(instance.ref, ((mark.column, mark.row),), GraphicType.POINT),
        label=item.name,
    )


def build(environment: ModelEnvironment, model: DescribedModel) -> Landmarks:
    """Return the handler of a described model."""
    return Landmarks(environment, model)
