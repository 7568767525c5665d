"""The outcome of each file of the shared data: its values, its picture, and for each handler a number or a refusal.

`python -m support.outcomes` writes the table anew. A row is a file by itself, or all files of a study in one folder.
An error of the node begins with `error`, any other exception is a `crash`.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ainode.node.domain import REQUEST, Handler, Instance, Location, OutOfScope, Study
from ainode.node.encoding import headers
from ainode.node.errors import CannotUnderstand, NodeError
from ainode.node.imaging import pixels
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.reading import pipeline, registry
from ainode.node.reading.weights import ModelEnvironment, WeightStore
from support.files import shared

TABLE = Path(__file__).parents[1] / "conformance" / "outcomes.tsv"
HANDLERS = ("ct_pneumonia", "ct_tumor", "lung_nodule", "skin_lesion", "spine_radiograph")
COLUMNS = ("values", "picture", *HANDLERS)
FOLDER = "data/dicom"
_UID = re.compile(r"\b[0-9]+(?:\.[0-9]+){4,}\b")
_REASON_LENGTH = 100
# A reason of these codes says no more than the code.
_PLAIN_CODES = frozenset({"wrong-modality", "no-ct", "wrong-body-part", "too-few-slices"})


@dataclass(frozen=True, slots=True)
class Row:
    """One file, or all files of a study in a folder, and the outcome of each column."""

    name: str
    outcomes: Mapping[str, str]


def rows(root: Path, place: Path) -> Iterator[Row]:
    """Yield the row of each file, and of each study of several files in one folder."""
    environment = ModelEnvironment(WeightStore(place / "site"), place / "networks")
    handlers = {name: registry.handler(name, environment) for name in HANDLERS}
    instances: dict[Path, Instance] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = str(path.relative_to(root))
        try:
            instances[path] = headers.instance(path, sha256="0" * 64)
        except CannotUnderstand as error:
            yield Row(name, {**_pixel_outcomes(path), HANDLERS[0]: f"unread: {_short(str(error))}"})
            continue
        yield Row(name, {**_pixel_outcomes(path), **outcomes([instances[path]], handlers)})
    studies: dict[tuple[Path, str], list[Instance]] = {}
    for path, instance in instances.items():
        studies.setdefault((path.parent, instance.ref.study_instance_uid), []).append(instance)
    for number, ((folder, _), members) in enumerate(studies.items(), start=1):
        if len(members) > 1:
            name = f"{folder.relative_to(root)}/ study {number}, {len(members)} files"
            yield Row(name, outcomes(members, handlers))


def _pixel_outcomes(path: Path) -> Mapping[str, str]:
    """Return size and mean of the values and of the picture of a file."""
    return {
        "values": _attempt(lambda: _measured(pixels.modality_values(path))),
        "picture": _attempt(lambda: _measured(pixels.picture(path))),
    }


def _measured(array: NDArray[Any]) -> str:
    return f"{' x '.join(map(str, array.shape))}, mean {array.mean(dtype=float):.3f}"


def outcomes(members: Iterable[Instance], handlers: Mapping[str, Handler]) -> Mapping[str, str]:
    """Return the outcome of each handler on one study."""
    study = headers.study(tuple(members))
    located = replace(study, locations=_middle(study))
    return {
        name: _attempt(partial(_answered, located if name == "lung_nodule" else study, handler))
        for name, handler in handlers.items()
    }


def _middle(study: Study) -> tuple[Location, ...]:
    """Return the middle of the largest stack of the study; nothing without a stack."""
    stacks = [item for series in study.series if isinstance(item := stack(series.instances), Stack)]
    if not stacks:
        return ()
    largest = max(stacks, key=lambda item: len(item.instances))
    middle = largest.position(len(largest.instances) // 2, largest.rows // 2, largest.columns // 2)
    return (Location(middle, REQUEST, largest.frame_of_reference_uid),)


def _answered(study: Study, handler: Handler) -> str:
    answer = pipeline.answer_of(study, handler)
    if not isinstance(answer, OutOfScope):
        return f"{answer.scores['probability']:.4f}"
    return f"refused {answer.code}" + ("" if answer.code in _PLAIN_CODES else f": {_short(answer.reason)}")


def _attempt(attempt: Callable[[], str]) -> str:
    """Return what an attempt returns, or its error."""
    try:
        return attempt()
    except NodeError as error:
        return f"error {type(error).__name__}: {_short(str(error))}"
    except Exception as error:  # noqa: BLE001 - the table names what a file provokes
        return f"crash {type(error).__name__}"


def _short(reason: str) -> str:
    """Return a reason without UIDs, on one line."""
    return " ".join(_UID.sub("UID", reason).split())[:_REASON_LENGTH]


def table() -> tuple[Row, ...]:
    """Return the rows of the table in the repository."""
    head, *lines = TABLE.read_text().splitlines()
    names = head.split("\t")[1:]
    cells = [line.split("\t") for line in lines]
    return tuple(Row(row[0], dict(zip(names, row[1:], strict=True))) for row in cells)


def main() -> None:
    """Write the table."""
    lines = ["\t".join(("file", *COLUMNS))]
    with tempfile.TemporaryDirectory() as place:
        for row in rows(shared(FOLDER), Path(place)):
            lines.append("\t".join((row.name, *(row.outcomes.get(column, "") for column in COLUMNS))))
            sys.stderr.write(f"{lines[-1][:150]}\n")
    TABLE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
