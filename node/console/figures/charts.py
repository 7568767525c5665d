"""Charts as SVG made on the server; colors are classes of the style sheet, so that light and dark work."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from ainode.node.console.figures.frame import (
    CHARACTER,
    WIDTH,
    Axis,
    Frame,
    color,
    date_axis,
    draw,
    framed,
    hint,
    markup,
    number_text,
    picture,
    short,
    unit_axis,
    write,
)
from ainode.node.domain import counted

__all__ = [
    "Axis",
    "Bar",
    "Curve",
    "Estimate",
    "bar_chart",
    "confusion_matrix",
    "date_axis",
    "estimate_chart",
    "histogram",
    "interval_chart",
    "line_chart",
    "unit_axis",
]

MAX_POINTS: Final = 300
"""of a curve: more are thinned out; the first and the last stay"""
MAX_CURVES: Final = 12
MAX_BARS: Final = 60
"""of bars, bins and rows; what is beyond is left out, and the description says so"""
MAX_CLASSES: Final = 12
_SHADES: Final = 5


@dataclass(frozen=True, slots=True)
class Curve:
    """Points that a line joins, in their order; a point whose y is not finite interrupts the line."""

    name: str
    points: tuple[tuple[float, float], ...]
    is_marked: bool = False
    """whether each point has a dot"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; `x` places it in `interval_chart`."""

    name: str
    value: float
    low: float
    high: float
    x: float = 0.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its name."""

    name: str
    value: float


def line_chart(
    title: str, curves: Sequence[Curve], x_axis: Axis, y_axis: Axis, *, reference: Curve | None = None
) -> Markup:
    """Return lines over one pair of axes; `reference` is a thin dotted line, such as that of chance."""
    shown = tuple(Curve(curve.name, _thinned(curve.points), curve.is_marked) for curve in curves[:MAX_CURVES])
    points = [point for curve in shown for point in curve.points]
    x_fitted, y_fitted = x_axis.fitted(x for x, _ in points), y_axis.fitted(y for _, y in points)
    description = "; ".join(_summary(curve) for curve in shown) or "no points"
    names = [curve.name for curve in shown]
    frame = framed(title, f"{y_axis.label} by {x_axis.label}. {description}", x_fitted, y_fitted, names)
    if reference:
        _add_line(frame, reference, "chart-reference")
    for index, curve in enumerate(shown):
        _add_line(frame, curve, f"chart-line {color(index)}")
    return markup(frame.svg)


def _summary(curve: Curve) -> str:
    values = [(x, y) for x, y in curve.points if math.isfinite(y)]
    if not values:
        return f"{curve.name}: no points"
    ys = [y for _, y in values]
    return (
        f"{curve.name}: {counted(len(values), 'point')}, "
        f"from {number_text(values[0][1])} to {number_text(values[-1][1])}, "
        f"lowest {number_text(min(ys))}, highest {number_text(max(ys))}"
    )


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    if len(points) <= MAX_POINTS:
        return tuple(points)
    return tuple(points[round(i * (len(points) - 1) / (MAX_POINTS - 1))] for i in range(MAX_POINTS))


def _add_line(frame: Frame, curve: Curve, css_class: str) -> None:
    """Draw a curve as one path; its point without a number lifts the pen."""
    steps, is_down = [], False
    for x, y in curve.points:
        if math.isfinite(x) and math.isfinite(y):
            steps.append(f"{'L' if is_down else 'M'}{frame.x(x):.1f} {frame.y(y):.1f}")
        is_down = math.isfinite(x) and math.isfinite(y)
    if steps:
        draw(frame.svg, "path", css_class, d="".join(steps))
    if curve.is_marked:
        for x, y in curve.points:
            if math.isfinite(x) and math.isfinite(y):
                dot = draw(frame.svg, "circle", css_class.replace("line", "point"), cx=frame.x(x), cy=frame.y(y), r=3.5)
                hint(dot, f"{curve.name}: {number_text(y)}")


def interval_chart(
    title: str, estimates: Sequence[Estimate], x_axis: Axis, y_axis: Axis, *, reference: Curve | None = None
) -> Markup:
    """Return points at their `x`, each with its interval."""
    shown = estimates[:MAX_BARS]
    x_fitted = x_axis.fitted(estimate.x for estimate in shown)
    y_fitted = y_axis.fitted(y for estimate in shown for y in (estimate.low, estimate.value, estimate.high))
    frame = framed(title, _listed(shown, len(estimates)), x_fitted, y_fitted)
    if reference:
        _add_line(frame, reference, "chart-reference")
    for estimate in shown:
        x = frame.x(estimate.x)
        draw(
            frame.svg,
            "line",
            f"chart-interval {color(0)}",
            x1=x,
            x2=x,
            y1=frame.y(estimate.low),
            y2=frame.y(estimate.high),
        )
        for y in (frame.y(estimate.low), frame.y(estimate.high)):
            draw(frame.svg, "line", f"chart-interval {color(0)}", x1=x - 4, x2=x + 4, y1=y, y2=y)
        dot = draw(frame.svg, "circle", f"chart-point {color(0)}", cx=x, cy=frame.y(estimate.value), r=4)
        hint(dot, _in_words(estimate))
    return markup(frame.svg)


def estimate_chart(title: str, estimates: Sequence[Estimate], axis: Axis) -> Markup:
    """Return a row for each figure: its name, its interval as a bar, its point; the first row stands out."""
    shown = estimates[:MAX_BARS]
    fitted = axis.fitted(value for estimate in shown for value in (estimate.low, estimate.value, estimate.high))
    row, left, right = 34.0, 8.0, WIDTH - 8.0
    bottom = row * len(shown) + 12
    svg = picture(title, _listed(shown, len(estimates)), bottom + 40)
    low, high = fitted.low or 0.0, 1.0 if fitted.high is None else fitted.high

    def place(value: float) -> float:
        return left + min(1.0, max(0.0, (value - low) / (high - low))) * (right - left)

    for value, text in fitted.ticks:
        draw(svg, "line", "chart-grid", x1=place(value), x2=place(value), y1=4, y2=bottom)
        write(svg, "chart-tick chart-middle", min(max(place(value), 10), WIDTH - 12), bottom + 14, text)
    write(svg, "chart-label chart-middle", WIDTH / 2, bottom + 32, axis.label)
    for index, estimate in enumerate(shown):
        y, shade = row * index + 26, color(min(index, 1))
        write(svg, "chart-tick", left, y - 9, _in_words(estimate))
        draw(svg, "line", f"chart-interval {shade}", x1=place(estimate.low), x2=place(estimate.high), y1=y, y2=y)
        draw(svg, "circle", f"chart-point {shade}", cx=place(estimate.value), cy=y, r=4)
    return markup(svg)


def _in_words(estimate: Estimate) -> str:
    numbers = estimate.value, estimate.low, estimate.high
    is_share = all(0 <= number <= 1 for number in numbers)
    value, low, high = (f"{number:.3f}" if is_share else number_text(number) for number in numbers)
    return f"{short(estimate.name, 44)}: {value} ({low} to {high})"


def _listed(estimates: Sequence[Estimate], count: int) -> str:
    more = f"; {count - len(estimates)} more are not shown" if count > len(estimates) else ""
    return ("; ".join(map(_in_words, estimates)) or "no figures") + more


def bar_chart(title: str, bars: Sequence[Bar], x_label: str, y_axis: Axis) -> Markup:
    """Return upright bars from 0, such as counts by day; not every bar has its name below."""
    shown = bars[-MAX_BARS:]
    more = f"; {len(bars) - len(shown)} earlier ones are not shown" if len(bars) > len(shown) else ""
    words = "; ".join(f"{bar.name}: {number_text(bar.value)}" for bar in shown) or "no bars"
    # As many names as stand beside each other.
    most = int(WIDTH * 0.8 / (max((len(short(bar.name)) for bar in shown), default=1) * CHARACTER + 14))
    every = max(1, -(-len(shown) // max(1, most)))
    ticks = tuple((index + 0.5, bar.name) for index, bar in enumerate(shown) if index % every == 0)
    x_axis = Axis(x_label, 0.0, float(max(1, len(shown))), ticks or ((0.5, ""),))
    y_fitted = Axis(y_axis.label, y_axis.low or 0.0, y_axis.high, y_axis.ticks).fitted([*(b.value for b in shown), 1.0])
    frame = framed(title, words + more, x_axis, y_fitted)
    for index, bar in enumerate(shown):
        _add_bar(
            frame,
            (index + 0.1, index + 0.9),
            bar.value,
            f"chart-bar {color(0)}",
            f"{bar.name}: {number_text(bar.value)}",
        )
    return markup(frame.svg)


def _add_bar(frame: Frame, sides: tuple[float, float], value: float, css_class: str, text: str) -> None:
    left, right, top = frame.x(sides[0]), frame.x(sides[1]), frame.y(value)
    width, height = max(1.0, right - left), max(0.0, frame.bottom - top)
    hint(draw(frame.svg, "rect", css_class, x=left, y=top, width=width, height=height), text)


def histogram(
    title: str, edges: Sequence[float], shares: Sequence[float], x_axis: Axis, *, reference: Sequence[float] = ()
) -> Markup:
    """Return the shares of the values between edges as bars; a line shows the shares of a reference.

    Raises: ValueError if the edges do not bound the shares.
    """
    if len(edges) != len(shares) + 1 or (reference and len(reference) != len(shares)):
        message = f"{len(edges)} edges do not bound {len(shares)} shares"
        raise ValueError(message)
    x_fitted, y_fitted = x_axis.fitted(edges), Axis("share", 0.0).fitted([*shares, *reference, 0.1])
    bins = list(zip(edges, edges[1:], shares, strict=False))
    words = "; ".join(f"{number_text(low)} to {number_text(high)}: {share:.1%}" for low, high, share in bins)
    names = ["this period", "reference"] if reference else []
    frame = framed(title, words, x_fitted, y_fitted, names)
    for low, high, share in bins:
        _add_bar(
            frame,
            (low, high),
            share,
            f"chart-bar {color(0)}",
            f"{number_text(low)} to {number_text(high)}: {share:.1%}",
        )
    if reference:
        corners = [
            (edge, share)
            for low, high, share in zip(edges, edges[1:], reference, strict=False)
            for edge, share in ((low, share), (high, share))
        ]
        _add_line(frame, Curve("reference", tuple(corners)), f"chart-line {color(1)}")
    return markup(frame.svg)


def confusion_matrix(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """Return the counts of true classes (rows) read as classes (columns); the shade is the share of the row.

    Raises: ValueError unless there is a row and a column for each of at most twelve names.
    """
    if not 0 < len(names) <= MAX_CLASSES or len(counts) != len(names) or {len(row) for row in counts} != {len(names)}:
        message = f"{len(names)} names do not fit the table of counts, or are more than {MAX_CLASSES}"
        raise ValueError(message)
    words = "; ".join(
        f"{name}: {', '.join(f'{count} read as {other}' for other, count in zip(names, row, strict=True))}"
        for name, row in zip(names, counts, strict=True)
    )
    left, top, row_height = 120.0, 44.0, 44.0
    cell = (WIDTH - left - 8) / len(names)
    svg = picture(title, words, top + row_height * len(names) + 8)
    write(svg, "chart-label chart-middle", (left + WIDTH) / 2, 14, "read as")
    write(svg, "chart-label chart-end", left - 8, 32, "is")
    longest = max(3, int(cell / 7))
    for column, name in enumerate(names):
        write(svg, "chart-tick chart-middle", left + cell * (column + 0.5), 34, short(name, longest))
    for index, (name, row) in enumerate(zip(names, counts, strict=True)):
        y = top + row_height * index
        write(svg, "chart-tick chart-end", left - 8, y + row_height / 2 + 4, short(name, 16))
        for column, count in enumerate(row):
            shade = math.ceil(_SHADES * count / max(1, sum(row)))
            place = {"x": left + cell * column + 1, "y": y + 1, "width": cell - 2, "height": row_height - 2}
            hint(draw(svg, "rect", f"chart-shade-{shade}", **place), f"{name} read as {names[column]}: {count}")
            css_class = f"chart-count chart-middle chart-on-{shade}"
            write(svg, css_class, left + cell * (column + 0.5), y + row_height / 2 + 5, str(count))
    return markup(svg)
