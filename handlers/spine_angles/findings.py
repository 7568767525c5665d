"""What is said of one radiograph: its curves, its balance, the height of each vertebra, and the picture of it all."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ainode.handlers.spine_angles.levels import THORACOLUMBAR, Levels, levels_of, span
from ainode.handlers.spine_angles.sides import Sides, sides_of
from ainode.models.spine_vertebrae.geometry import Curve, end_plate, height_ratios, largest, offset, widths
from ainode.node.domain import Capture, Code, Finding, Instance, Measurement, Region
from ainode.node.imaging.pixel_shape import PixelWidth

if TYPE_CHECKING:
    from ainode.models.spine_vertebrae.model import Prediction

SPINE = Code("421060004", "SCT", "Spine")
# PS3.16 CID 7550 has the angle; no code for curve, line, side, ratio or offset is published.
_COBB_ANGLE = Code("285285000", "SCT", "Cobb angle")
_CURVE = Code("spinal-curve", "99AINODE", "Curve of spine")
_END_PLATE = Code("end-plate-line", "99AINODE", "Line of vertebral end plate")
_CONVEXITY = Code("convex-side", "99AINODE", "Convex side")
_REGION = Code("curve-region", "99AINODE", "Region of curve")
_SEVERITY = Code("246112005", "SCT", "Severity")
_VERTEBRA = Code("51282000", "SCT", "Vertebra")
_HEIGHT_RATIO = Code("vertebral-height-ratio", "99AINODE", "Vertebral height ratio")
_BALANCE = Code("coronal-balance", "99AINODE", "Coronal balance")
_OFFSET_SIDE = Code("offset-side", "99AINODE", "Side of offset")
_RIGHT_OF_PICTURE = Code("right-of-picture", "99AINODE", "Right of the picture")
_LEFT_OF_PICTURE = Code("left-of-picture", "99AINODE", "Left of the picture")
_OFFSET = Code("coronal-offset", "99AINODE", "Offset of highest from lowest vertebra")
_DEGREES, _RATIO, _MILLIMETERS = (
    Code("deg", "UCUM", "degree"),
    Code("{ratio}", "UCUM", "ratio"),
    Code("mm", "UCUM", "mm"),
)
# How far the line of an end plate runs beyond the vertebra, in widths of the vertebra: it is told from its outline.
_LINE_BEYOND = 0.5
# 10 degrees make a scoliosis. Source: Scoliosis Research Society.
_LEAST_SCOLIOSIS = 10.0
_SEVERITIES = (
    (40.0, "severe", Code("24484000", "SCT", "Severe")),
    (25.0, "moderate", Code("6736007", "SCT", "Moderate")),
    (_LEAST_SCOLIOSIS, "mild", Code("255604002", "SCT", "Mild")),
    (0.0, "below 10 degrees", Code("below-10-degrees", "99AINODE", "Below 10 degrees")),
)


@dataclass(frozen=True)
class Film:
    """What the model says of one image, in the node's words."""

    number: int
    instance: Instance
    prediction: "Prediction"
    reliability: str
    """how far the weights may be trusted, in words"""
    width: PixelWidth | None
    """of a pixel; None where the header does not say it"""

    @cached_property
    def sides(self) -> Sides:
        """Return which side of the patient the right of the picture is."""
        return sides_of(self.instance)

    @cached_property
    def levels(self) -> Levels:
        """Return the names of the vertebrae."""
        return levels_of(self.prediction.numbers)

    @cached_property
    def largest(self) -> Curve:
        """Return the curve with the largest angle."""
        return largest(self.prediction.curves)

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Return the largest curve, then from the head those that are large enough to be a scoliosis."""
        others = (c for c in self.prediction.curves if c != self.largest and c.angle >= _LEAST_SCOLIOSIS)
        return (self.largest, *others)

    @property
    def summary(self) -> str:
        """Return the largest curve in words."""
        curve = self.largest
        side = self.sides.words(is_right_of_picture=curve.is_convex_right)
        ends = span(self.levels.names, curve.ends)
        severity, _ = _severity(curve)
        return f"largest curve {curve.angle:.0f} degrees ({severity}), {ends}, convex to {side}"

    def findings(self) -> tuple[Finding, ...]:
        """Return curves, balance and vertebrae."""
        return (*self._curves(), self._balance(), *self._vertebrae())

    def capture(self) -> Capture:
        """Return the picture with the vertebrae and the end plates of each curve drawn in."""
        curves = tuple(self._curves())
        captions = [self.reliability, *(finding.label for finding in curves[1:] if finding.concept is _CURVE)]
        if not self.levels.are_known:
            captions.append("levels are not certain: vertebrae are numbered from the highest one")
        if self.sides.right_of_picture is None:
            captions.append("the header does not say which side is the patient's right")
        return Capture(
            image=self.instance.ref,
            title=f"Spine angles, image {self.number}",
            captions=tuple(captions),
            findings=(*curves, *self._vertebrae()),
            subject=curves[0],
        )

    def scores(self) -> dict[str, float]:
        """Return every number of this image by name."""
        prefix = f"image {self.number}"
        angles = {
            f"{prefix} Cobb angle {span(self.levels.names, curve.ends)} in degrees": round(curve.angle, 1)
            for curve in self.curves
        }
        return {
            **angles,
            f"{prefix} spine score": self.prediction.score,
            f"{prefix} seen from the front": round(self.prediction.frontal, 3),
            f"{prefix} vertebrae": len(self.levels.names),
        }

    def _curves(self) -> Iterator[Finding]:
        """Yield each curve with its upper end plate's line, where a viewer shows the angle, then the lower line."""
        for curve in self.curves:
            severity, code = _severity(curve)
            ends = span(self.levels.names, curve.ends)
            angle = self._measured(_COBB_ANGLE, round(curve.angle, 1), _DEGREES)
            yield Finding(
                tracking_identifier=f"image {self.number} curve {ends}",
                concept=_CURVE,
                site=THORACOLUMBAR if self.levels.are_known else SPINE,
                measurements=(angle,),
                evidence=(self.instance.ref,),
                region=self._line(curve.upper, upper=True),
                label=f"{ends}: {curve.angle:.0f} degrees, {severity}",
                qualities=((_SEVERITY, code), *self._qualities(curve)),
            )
            lowest = self.levels.names[curve.lower]
            yield Finding(
                tracking_identifier=f"image {self.number} curve {ends}: lower end plate of {lowest}",
                concept=_END_PLATE,
                site=self.levels.site(curve.lower),
                measurements=(),
                evidence=(self.instance.ref,),
                region=self._line(curve.lower, upper=False),
            )

    def _line(self, number: int, *, upper: bool) -> Region:
        """Return the line along the upper or the lower end plate of a vertebra, longer than the vertebra is wide."""
        left, right = end_plate(self.prediction.corners, number, upper=upper)
        more = _LINE_BEYOND * (right - left)
        return self._region([(float(x), float(y)) for x, y in (left - more, right + more)])

    def _qualities(self, curve: Curve) -> Iterator[tuple[Code, Code]]:
        """Yield the convex side and the region of a curve, as far as both are known."""
        if side := self.sides.side(is_right_of_picture=curve.is_convex_right):
            yield _CONVEXITY, side
        if region := self.levels.region(curve.apex):
            yield _REGION, Code(region.replace(" ", "-"), "99AINODE", region.capitalize())

    def _balance(self) -> Finding:
        corners = self.prediction.squared
        pixels = offset(corners)
        if self.width:
            value = self._measured(_OFFSET, round(abs(pixels) * self.width.millimeters, 1), _MILLIMETERS)
        else:
            value = self._measured(_OFFSET, round(abs(pixels) / float(widths(corners)[-1]), 2), _RATIO)
        names = self.levels.names
        side = self.sides.side(is_right_of_picture=pixels > 0)
        return Finding(
            tracking_identifier=f"image {self.number} balance of {names[0]} over {names[-1]}",
            concept=_BALANCE,
            site=SPINE,
            measurements=(value,),
            evidence=(self.instance.ref,),
            qualities=((_OFFSET_SIDE, side or (_RIGHT_OF_PICTURE if pixels > 0 else _LEFT_OF_PICTURE)),),
        )

    def _vertebrae(self) -> Iterator[Finding]:
        ratios = height_ratios(self.prediction.squared)
        for number, (name, corners) in enumerate(zip(self.levels.names, self.prediction.corners, strict=True)):
            around = [(float(x), float(y)) for x, y in corners[[0, 1, 3, 2, 0]]]
            yield Finding(
                tracking_identifier=f"image {self.number} {name}",
                concept=_VERTEBRA,
                site=self.levels.site(number),
                measurements=(self._measured(_HEIGHT_RATIO, round(float(ratios[number]), 3), _RATIO),),
                evidence=(self.instance.ref,),
                region=self._region(around),
                label=name,
            )

    def _measured(self, concept: Code, value: float, unit: Code) -> Measurement:
        return Measurement(concept, value, unit, (self.instance.ref,))

    def _region(self, points: list[tuple[float, float]]) -> Region:
        """Return points as a region, cut to the image: a corner at the film's edge may be told beside it."""
        columns, rows = (float(self.instance.text(key)) for key in ("Columns", "Rows"))
        cut = tuple((min(max(x, 0.0), columns), min(max(y, 0.0), rows)) for x, y in points)
        return Region(self.instance.ref, cut)


def _severity(curve: Curve) -> tuple[str, Code]:
    """Return the severity of a curve in words and as a code; the angle counts as it is printed, in whole degrees."""
    return next((words, code) for least, words, code in _SEVERITIES if round(curve.angle) >= least)
