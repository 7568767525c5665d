"""The text exposition format of Prometheus, version 0.0.4: families of samples as text.

The client library of Prometheus keeps counters in a registry of the process, and adds those of Python. Nearly all
values here are asked for at a scrape, so that this page is what would remain of it; `promtool` and a Prometheus judge
its text in the tests.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_ESCAPES_OF_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Kind(StrEnum):
    """What a family is."""

    COUNTER = "counter"
    """only grows while the node runs"""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a family."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""
    """of the name: `_bucket`, `_sum` or `_count` of a histogram"""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name, what it says, and a sample for each set of labels."""

    name: str
    kind: Kind
    words: str
    samples: tuple[Sample, ...]


def gauge(name: str, words: str, samples: Iterable[Sample | float]) -> Family:
    """Return a gauge; a number is a sample without labels."""
    return _family(name, Kind.GAUGE, words, samples)


def counter(name: str, words: str, samples: Iterable[Sample | float]) -> Family:
    """Return a counter; a number is a sample without labels."""
    return _family(name, Kind.COUNTER, words, samples)


def _family(name: str, kind: Kind, words: str, samples: Iterable[Sample | float]) -> Family:
    complete = (sample if isinstance(sample, Sample) else Sample(sample) for sample in samples)
    return Family(name, kind, words, tuple(complete))


def text_of(families: Iterable[Family]) -> str:
    """Return families as text; a family without a sample is left out."""
    return "".join(line for family in families if family.samples for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.words.translate(_ESCAPES_OF_HELP)}\n"
    yield f"# TYPE {family.name} {family.kind}\n"
    for sample in family.samples:
        labels = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in sample.labels.items())
        braces = f"{{{labels}}}" if labels else ""
        yield f"{family.name}{sample.suffix}{braces} {number(sample.value)}\n"


def number(value: float) -> str:
    """Return a number as the format has it."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) else repr(float(value))
