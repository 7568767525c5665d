"""The frame of a chart: the picture with its title for screen readers, scales, axes with plain ticks, the legend."""

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

WIDTH: Final = 420.0
COLORS: Final = 4
"""so many colors and dashes has the style sheet; a fifth curve has the first color again"""
_HEIGHT: Final = 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 12.0, 44.0
_LEGEND_ROW: Final = 18.0
_TICKS, _DATES = 5, 4
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_LONGEST_TEXT: Final = 72
CHARACTER: Final = 6.6
"""width of a character of the style sheet's font size, in units of the picture"""
_SMALLEST_PLAIN, _LARGEST_PLAIN = 0.001, 1e6
# XML 1.0, 2.2: these characters stand in no document, not even escaped.
_NO_CHARACTERS: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Tick = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Axis:
    """The label of an axis, its ends and ticks; what is left out follows from the values."""

    label: str
    low: float | None = None
    high: float | None = None
    ticks: tuple[Tick, ...] = ()

    def fitted(self, values: Iterable[float]) -> "Axis":
        """Return the axis with ends and ticks."""
        finite = [value for value in values if math.isfinite(value)]
        low = min(finite, default=0.0) if self.low is None else self.low
        high = max(finite, default=1.0) if self.high is None else self.high
        if not low < high:
            low, high = low - 0.5, low + 0.5
        if self.ticks:
            return Axis(self.label, low, high, self.ticks)
        step = _step(high - low)
        low = low if self.low is not None else math.floor(low / step + 1e-9) * step
        high = high if self.high is not None else math.ceil(high / step - 1e-9) * step
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        values_of_ticks = [number * step for number in range(first, last + 1)]
        return Axis(self.label, low, high, tuple((value, _tick_text(value, step)) for value in values_of_ticks))


UNIT: Final = tuple((tenths / 10, f"{tenths / 10:.1f}") for tenths in range(0, 11, 2))


def unit_axis(label: str) -> Axis:
    """Return an axis of probabilities and shares, from 0 to 1."""
    return Axis(label, 0.0, 1.0, UNIT)


def date_axis(label: str, days: Sequence[date]) -> Axis:
    """Return an axis of days, whose values are `day.toordinal()`; at most four days have a tick."""
    numbers = sorted({day.toordinal() for day in days})
    chosen = numbers[:: max(1, -(-len(numbers) // _DATES))]
    ticks = tuple((float(number), date.fromordinal(number).isoformat()) for number in chosen)
    return Axis(label, float(numbers[0]), float(numbers[-1]), ticks) if numbers else Axis(label, 0.0, 1.0)


def _step(span: float) -> float:
    """Return the plain distance of ticks that gives about five of them."""
    raw = span / _TICKS
    magnitude = 10.0 ** math.floor(math.log10(raw))
    return next(step for step in _STEPS if step * magnitude >= raw * (1 - 1e-9)) * magnitude


def number_text(value: float) -> str:
    """Return a number with at most three decimals, with an exponent where it is of no plain size."""
    if abs(value) >= _LARGEST_PLAIN or 0 < abs(value) < _SMALLEST_PLAIN:
        return f"{value:.3g}"
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _tick_text(value: float, step: float) -> str:
    """Return a number with the decimals that its step needs."""
    decimals = next((digits for digits in range(6) if math.isclose(round(step, digits), step)), None)
    return f"{value:.3g}" if decimals is None or abs(value) >= _LARGEST_PLAIN else f"{value:.{decimals}f}"


def short(text: str, length: int = _LONGEST_TEXT) -> str:
    """Return a text that an XML document may hold, cut to a length."""
    text = " ".join(_NO_CHARACTERS.sub("", text).split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture with axes: `x` and `y` place values in the picture."""

    svg: Element
    x_axis: Axis
    y_axis: Axis
    bottom: float

    def x(self, value: float) -> float:
        """Return the place of a value from the left; a value beyond an end stands at the end."""
        return _LEFT + _share(value, self.x_axis) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Return the place of a value from the top."""
        return self.bottom - _share(value, self.y_axis) * (self.bottom - _TOP)


def _share(value: float, axis: Axis) -> float:
    low, high = axis.low or 0.0, 1.0 if axis.high is None else axis.high
    return min(1.0, max(0.0, (value - low) / (high - low)))


def framed(title: str, description: str, x_axis: Axis, y_axis: Axis, names: Sequence[str] = ()) -> Frame:
    """Return a picture with fitted axes, and a legend where there is more than one name."""
    svg = picture(title, description, _HEIGHT + _LEGEND_ROW * (len(names) if len(names) > 1 else 0))
    frame = Frame(svg, x_axis, y_axis, _HEIGHT - _BOTTOM)
    for value, text in y_axis.ticks:
        draw(svg, "line", "chart-grid", x1=_LEFT, x2=WIDTH - _RIGHT, y1=frame.y(value), y2=frame.y(value))
        write(svg, "chart-tick chart-end", _LEFT - 6, frame.y(value) + 4, text)
    for value, text in x_axis.ticks:
        draw(svg, "line", "chart-axis", x1=frame.x(value), x2=frame.x(value), y1=frame.bottom, y2=frame.bottom + 4)
        write(svg, "chart-tick chart-middle", _inside(frame.x(value), text), frame.bottom + 18, text)
    draw(svg, "line", "chart-axis", x1=_LEFT, x2=WIDTH - _RIGHT, y1=frame.bottom, y2=frame.bottom)
    write(svg, "chart-label chart-middle", (_LEFT + WIDTH - _RIGHT) / 2, _HEIGHT - 8, x_axis.label)
    middle = (_TOP + frame.bottom) / 2
    label = write(svg, "chart-label chart-middle", 12, middle, y_axis.label)
    label.set("transform", f"rotate(-90 12 {_rounded(middle)})")
    if len(names) > 1:
        _add_legend(svg, names)
    return frame


def _inside(x: float, text: str) -> float:
    """Return the middle of a text that stays inside the picture."""
    half = len(text) * CHARACTER / 2
    return min(max(x, half), WIDTH - half)


def _add_legend(svg: Element, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        y = _HEIGHT + _LEGEND_ROW * index + 8
        draw(svg, "line", f"chart-line {color(index)}", x1=_LEFT, x2=_LEFT + 28, y1=y, y2=y)
        write(svg, "chart-tick", _LEFT + 36, y + 4, name)


def color(index: int) -> str:
    """Return the class of a color and its dash."""
    return f"chart-color-{index % COLORS + 1}"


def picture(title: str, description: str, height: float, width: float = WIDTH) -> Element:
    """Return an empty picture with a title and a description for screen readers."""
    title, description = short(title, 200), short(description, 600)
    name = hashlib.sha256(f"{title}\n{description}".encode()).hexdigest()[:12]
    svg = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "class": "chart",
            "viewBox": f"0 0 {_rounded(width)} {_rounded(height)}",
            "role": "img",
            "aria-labelledby": f"chart-title-{name} chart-text-{name}",
        },
    )
    SubElement(svg, "title", {"id": f"chart-title-{name}"}).text = title
    SubElement(svg, "desc", {"id": f"chart-text-{name}"}).text = description
    return svg


def draw(parent: Element, shape: str, css_class: str, **places: float | str) -> Element:
    """Add a shape with a class; numbers are rounded to a hundredth."""
    texts = {name: text if isinstance(text, str) else _rounded(text) for name, text in places.items()}
    return SubElement(parent, shape, {"class": css_class, **texts})


def write(parent: Element, css_class: str, x: float, y: float, text: str) -> Element:
    """Add a text."""
    element = draw(parent, "text", css_class, x=x, y=y)
    element.text = short(text)
    return element


def hint(element: Element, text: str) -> None:
    """Add the text that a browser shows over a shape."""
    SubElement(element, "title").text = short(text, 200)


def markup(svg: Element) -> Markup:
    """Return the picture for a page; every text in it is escaped here."""
    return Markup(tostring(svg, "unicode"))  # noqa: S704 - ElementTree escapes


def _rounded(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
