import math
import re
from collections.abc import Callable
from datetime import date
from xml.etree.ElementTree import Element, fromstring

import pytest
from markupsafe import Markup

from ainode.node.console.figures import charts
from ainode.node.console.figures.charts import Axis, Bar, Curve, Estimate, unit_axis

SVG = "{http://www.w3.org/2000/svg}"
ROC = (Curve("ROC", ((0.0, 0.0), (0.0, 0.5), (0.25, 0.75), (1.0, 1.0))),)
HOSTILE = "<script>alert(1)</script>\x00\x1b\ud800 & \"'"


def roc() -> Markup:
    chance = Curve("chance", ((0, 0), (1, 1)))
    return charts.line_chart("ROC", ROC, unit_axis("1 - specificity"), unit_axis("sensitivity"), reference=chance)


def bars(names: tuple[str, ...] = ("a", "b"), values: tuple[float, ...] = (1, 4)) -> Markup:
    pairs = [Bar(name, value) for name, value in zip(names, values, strict=True)]
    return charts.bar_chart("Volume", pairs, "day", Axis("studies"))


def estimates(name: str = "weights") -> Markup:
    return charts.estimate_chart(
        "AUC", [Estimate(name, 0.8, 0.7, 0.9), Estimate("pixels", 0.6, 0.5, 0.7)], unit_axis("AUC")
    )


def calibration() -> Markup:
    points = [Estimate("tenth", 0.5, 0.25, 1.0, x=0.5)]
    return charts.interval_chart("Calibration", points, unit_axis("predicted"), unit_axis("positive"))


def scores() -> Markup:
    return charts.histogram("Scores", (0.0, 0.5, 1.0), (0.25, 0.75), unit_axis("score"), reference=(0.5, 0.5))


def confusion(name: str = "benign") -> Markup:
    return charts.confusion_matrix("Confusion", (name, "malignant"), ((8, 2), (0, 5)))


ALL = pytest.mark.parametrize("chart", [roc, bars, estimates, calibration, scores, confusion])


def parsed(svg: Markup) -> Element:
    return fromstring(svg)  # noqa: S314 - our own


def shapes(svg: Markup, kind: str, css_class: str = "") -> list[Element]:
    return [e for e in parsed(svg).iter(f"{SVG}{kind}") if css_class in e.get("class", "").split() or not css_class]


def texts(svg: Markup) -> list[str]:
    return [element.text or "" for element in shapes(svg, "text")]


@ALL
def test_a_chart_is_a_picture_with_a_title_and_a_description_for_screen_readers(chart: Callable[[], Markup]) -> None:
    svg = parsed(chart())
    title, description = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert title.text
    assert description.text


@ALL
def test_a_chart_has_no_style_of_its_own_and_stays_within_its_bounds(chart: Callable[[], Markup]) -> None:
    svg = parsed(chart())
    width, height = map(float, svg.get("viewBox", "").split()[2:])
    attributes = {name for element in svg.iter() for name in element.keys()}  # noqa: SIM118 - no mapping
    assert not attributes & {"style", "fill", "stroke", "onclick", "href"}
    assert all(element.get("class") or element.tag in {f"{SVG}title", f"{SVG}desc"} for element in svg.iter())
    for element in svg.iter():
        for name, limit in {"x": width, "x1": width, "x2": width, "cx": width, "y1": height, "y2": height}.items():
            assert 0 <= float(element.get(name, "0")) <= limit, (element.attrib, name)


@pytest.mark.parametrize("chart", [bars, estimates, confusion])
def test_a_hostile_name_is_text_and_nothing_else(chart: Callable[..., Markup]) -> None:
    svg = chart((HOSTILE, "b")) if chart is bars else chart(HOSTILE)
    assert "<script" not in svg
    assert "<script>alert" in "".join(parsed(svg).itertext())


def test_points_stand_where_their_values_are() -> None:
    (path,) = shapes(roc(), "path", "chart-line")
    numbers = [tuple(map(float, pair.split())) for pair in re.split("[ML]", path.get("d", ""))[1:]]
    left, right = numbers[0][0], numbers[-1][0]
    bottom, top = numbers[0][1], numbers[-1][1]
    assert numbers[2][0] == pytest.approx(left + 0.25 * (right - left), abs=0.1)
    assert numbers[2][1] == pytest.approx(bottom + 0.75 * (top - bottom), abs=0.1)


def test_a_value_that_is_no_number_interrupts_the_line() -> None:
    curve = Curve("loss", ((0, 1.0), (1, math.nan), (2, 0.5), (3, 0.25)))
    (path,) = shapes(charts.line_chart("Loss", [curve], Axis("epoch"), Axis("loss")), "path", "chart-line")
    assert re.sub("[0-9. ]", "", path.get("d", "")) == "MML"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, ["0", "2", "4", "6", "8", "10"]),
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 12, ["0.0", "2.5", "5.0", "7.5", "10.0", "12.5"]),
        (3, 1234, ["0", "250", "500", "750", "1000", "1250"]),
        (5, 5, ["4.4", "4.6", "4.8", "5.0", "5.2", "5.4", "5.6"]),
    ],
)
def test_ticks_are_plain_numbers_around_the_values(low: float, high: float, ticks: list[str]) -> None:
    fitted = Axis("x").fitted([low, high, math.inf])
    assert [text for _, text in fitted.ticks] == ticks
    assert fitted.low is not None
    assert fitted.high is not None
    assert fitted.low <= low <= high <= fitted.high


def test_the_days_of_an_axis_are_dates() -> None:
    axis = charts.date_axis("date", [date(2026, 1, day) for day in (1, 2, 31)])
    assert [text for _, text in axis.ticks] == ["2026-01-01", "2026-01-02", "2026-01-31"]
    assert axis.high is not None
    assert axis.low is not None
    assert axis.high - axis.low == 30


def test_a_curve_of_many_points_keeps_its_ends_and_a_bounded_size() -> None:
    curve = Curve("ROC", tuple((i / 99_999, i / 99_999) for i in range(100_000)))
    svg = charts.line_chart("ROC", [curve] * 50, unit_axis("x"), unit_axis("y"))
    paths = shapes(svg, "path", "chart-line")
    assert len(paths) == charts.MAX_CURVES
    assert {path.get("d", "").count("L") for path in paths} == {charts.MAX_POINTS - 1}
    assert len(svg) < 100_000


def test_of_too_many_bars_the_last_are_shown_and_the_rest_is_counted() -> None:
    names = tuple(f"day {number}" for number in range(100))
    svg = bars(names, tuple(map(float, range(100))))
    assert len(shapes(svg, "rect", "chart-bar")) == charts.MAX_BARS
    description = parsed(svg).findtext(f"{SVG}desc") or ""
    assert "day 40: 40" in description
    assert "day 39" not in description


def test_bars_begin_at_zero_and_have_the_height_of_their_value() -> None:
    first, second = shapes(bars(), "rect", "chart-bar")
    assert float(second.get("height", "")) == pytest.approx(4 * float(first.get("height", "")), rel=0.01)


def test_a_histogram_has_a_bar_a_bin_and_a_line_for_the_reference() -> None:
    first, second = shapes(scores(), "rect", "chart-bar")
    assert float(second.get("height", "")) == pytest.approx(3 * float(first.get("height", "")), rel=0.01)
    assert len(shapes(scores(), "path", "chart-line")) == 1
    assert {"this period", "reference"} <= set(texts(scores()))
    with pytest.raises(ValueError, match="do not bound"):
        charts.histogram("Scores", (0.0, 1.0), (0.5, 0.5), unit_axis("score"))


def test_a_figure_is_written_out_beside_its_interval() -> None:
    assert "weights: 0.800 (0.700 to 0.900)" in texts(estimates())
    first, _ = shapes(estimates(), "line", "chart-interval")
    width = float(first.get("x2", "")) - float(first.get("x1", ""))
    whole = [float(line.get("x1", "")) for line in shapes(estimates(), "line", "chart-grid")]
    assert width == pytest.approx(0.2 * (max(whole) - min(whole)), rel=0.01)


def test_a_confusion_matrix_tells_each_count_and_shades_by_the_share_of_the_row() -> None:
    description = parsed(confusion()).findtext(f"{SVG}desc") or ""
    assert (
        description == "benign: 8 read as benign, 2 read as malignant; malignant: 0 read as benign, 5 read as malignant"
    )
    assert [rect.get("class") for rect in shapes(confusion(), "rect")] == [f"chart-shade-{n}" for n in (4, 1, 0, 5)]
    with pytest.raises(ValueError, match="do not fit"):
        charts.confusion_matrix("Confusion", ("a", "b"), ((1, 2),))


@pytest.mark.parametrize("curves", [[], [Curve("ROC", ())], [Curve("ROC", ((math.nan, math.nan),))]])
def test_a_chart_without_points_says_so(curves: list[Curve]) -> None:
    assert "no points" in (parsed(charts.line_chart("ROC", curves, Axis("x"), Axis("y"))).findtext(f"{SVG}desc") or "")
