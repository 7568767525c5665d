"""The classes of an output: what a number of the network is of, and the finding that the number becomes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ainode.handlers import PROBABILITY, percent, threshold_texts
from ainode.node.domain import Code, Finding, InstanceRef, Region, Verdict, probability_text
from ainode.node.reading.tables import Table


@dataclass(frozen=True, slots=True)
class Class:
    """What an output of the network is of; without a threshold nothing is said of it."""

    name: str
    code: Code
    site: Code
    threshold: float | None

    def finding(self, image: InstanceRef, place: str, probability: float, region: Region | None = None) -> Finding:
        """Return the class on an image, by its threshold; `place` begins the name, '' of a stack."""
        return Finding(
            f"{place} {self.name}".strip(),
            self.code,
            self.site,
            (percent(PROBABILITY, probability, (image,)),),
            (image,),
            region=region,
            label=f"{self.name} {probability_text(probability)}",
            verdict=Verdict.of(probability, self.threshold or 1.0),
        )


def classes_of(table: Table, site: Code | None) -> tuple[Class, ...]:
    """Return the classes of an output, which are named differently.

    Raises: ConfigError.
    """
    classes = tuple(_class(item, site) for item in table.tables("classes"))
    if not classes:
        raise table.wrong_together(
            "no class is named; write one below [[output.classes]] for each number of the answer"
        )
    if len({item.name for item in classes}) < len(classes):
        raise table.wrong_together("two classes have one name; rename one")
    return classes


def leading_number(classes: Sequence[Class], probabilities: Iterable[float]) -> int:
    """Return the number of the class that exceeds its threshold most, which a picture is about."""
    margins = [
        float(probability) - item.threshold if item.threshold else -1.0
        for item, probability in zip(classes, probabilities, strict=True)
    ]
    return margins.index(max(margins))


def threshold_parameters(classes: Iterable[Class]) -> Mapping[str, str]:
    """Return the threshold of each class that has one."""
    return {
        name: text
        for item in classes
        if item.threshold
        for name, text in threshold_texts(item.threshold, None, item.name).items()
    }


def threshold_of(table: Table) -> float | None:
    """Return the threshold of a class, which a probability can cross; None of a class without one.

    Raises: ConfigError.
    """
    return table.number_if_given("threshold", least=1e-6, most=1 - 1e-6)


def _class(table: Table, site: Code | None) -> Class:
    name = table.text("name")
    threshold = threshold_of(table)
    body_site = table.code("site", site)
    # What is no finding, such as normal, is said in no code.
    item = Class(name, table.code("code", None if threshold else body_site), body_site, threshold)
    table.refuse_unknown()
    return item
