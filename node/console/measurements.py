"""What a model measured, as the page of a study shows it beside the verdict: pure, from result.json."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ainode.node.domain import unit_text


@dataclass(frozen=True, slots=True)
class ShownMeasurement:
    """A number of a finding, in words."""

    name: str
    """finding and concept: `lung, Volume`; the finding alone where both have one name"""
    value: str
    """with its unit, and where it was measured if not on the whole finding"""


def measurements_of(findings: Sequence[Mapping[str, Any]]) -> tuple[ShownMeasurement, ...]:
    """Return the numbers of the findings of a result.json, without the probabilities that verdicts state."""
    return tuple(shown for finding in findings for shown in _of_finding(finding))


def _of_finding(finding: Mapping[str, Any]) -> Iterator[ShownMeasurement]:
    measurements = finding.get("measurements", ())
    # The first number of a finding with a verdict is the probability, which the verdict says with its threshold.
    for measurement in measurements[1:] if finding.get("verdict") else measurements:
        finding_name, concept = str(finding.get("name", "")), str(measurement["name"])
        is_one_name = finding_name.casefold() in {"", concept.casefold()}
        unit = unit_text(measurement["unit"])
        name = concept if is_one_name else f"{finding_name}, {concept}"
        place = f" on {measurement['place']}" if measurement.get("place") else ""  # older nodes named none
        yield ShownMeasurement(name, f"{_number(measurement['value'])} {unit}".rstrip() + place)


def _number(value: float) -> str:
    """Return a number in six figures, without an exponent unless it is far from what people count."""
    # From there on six figures would be 1e+06.
    return f"{value:.0f}" if 999_999.5 <= abs(value) < 1e12 else f"{value:.6g}"  # noqa: PLR2004 - of six figures
