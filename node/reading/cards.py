"""Model cards and the figures of their tests, read as data: no code of a model runs.

A card is `card.toml` of a folder, with `metrics/*.json` as `ainode evaluate` writes them beside it. The folder of a
model that ships is the model's own; a site's is `<data>/weights/cards/MODEL/`, and wins. What a site measured on its
own patients, `<data>/weights/external/MODEL/*.json`, stands beside either. Of a model that the site describes, the card
is its `model.toml`, unless the site gives it one.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ainode.node.errors import ConfigError
from ainode.node.reading import described

_FOLDER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MODELS: Final = "models"
"""the folder of the models that the site describes, beside its weights"""
_MOST_FILES: Final = 20
_MOST_BYTES: Final = 2_000_000
_MOST_MEASURES: Final = 40
Row = tuple[str, str]
"""a name and a text"""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Estimate(_Part):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int = 0


class Baseline(_Part):
    """What a simple rule reaches on the same cases."""

    kind: str
    auc: Estimate
    gain: Estimate | None = None
    method: str = ""


class Tenth(Estimate):
    """The share of ill cases among those of a tenth of the probabilities."""

    predicted: float


class Confusion(_Part):
    """How often each true class (rows) was read as each class (columns)."""

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def is_whole(self) -> bool:
        """Return whether there is a row and a column for each name."""
        return {len(self.counts), *map(len, self.counts)} == {len(self.names)}


class Curves(_Part):
    """The points of curves."""

    roc: tuple[tuple[float, float], ...] = ()
    precision_recall: tuple[tuple[float, float], ...] = ()
    calibration: tuple[Tenth, ...] = ()
    confusion: Confusion | None = None
    losses: Mapping[str, Mapping[str, tuple[float, ...]]] = {}


class Evaluation(_Part):
    """A metrics.json: how weights did on a part of a data set."""

    model: str
    weights: Mapping[str, str] = {}
    """the manifest's name of each file to its sha256"""
    part: str = ""
    cases: int = 0
    groups: int = 0
    cases_of_class: Mapping[str, int] = {}
    positive: tuple[str, ...] = ()
    threshold: float | None = None
    auc: Estimate | None = None
    accuracy: Estimate | None = None
    sensitivity: Estimate | None = None
    specificity: Estimate | None = None
    brier: float | None = None
    expected_calibration_error: float | None = None
    baselines: Mapping[str, Baseline] = {}
    curves: Curves | None = None
    measures: Mapping[str, Estimate] = {}
    """every other figure with an interval, by its key, such as `dice`; of an outline as `outline dice`"""

    @model_validator(mode="before")
    @classmethod
    def _take_measures(cls, values: object) -> object:
        """Gather what only models of some kind have: a segmenter's Dice, the error of an angle."""
        if not isinstance(values, dict):
            return values
        figures = dict(_figures(values))
        own = {key: figure for key, figure in figures.items() if key not in cls.model_fields}
        return {**values, "measures": dict(list(own.items())[:_MOST_MEASURES])}


def _figures(values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what looks like a figure with an interval; so of the table of outlines, and of a search by marks a scan."""
    nested = {f"outline {key}": value for key, value in _table(values, "outline").items()}
    for subject in _table(values, "froc"):
        nested |= {
            f"{subject}, marked at {marks} false marks a scan": value
            for marks, value in _table(_table(values, "froc"), subject).items()
        }
    for key, value in {**values, **nested}.items():
        if isinstance(value, dict) and all(
            isinstance(value.get(name), int | float) for name in ("value", "low", "high")
        ):
            yield key, value


@dataclass(frozen=True, slots=True)
class EvaluationFile:
    """An evaluation with the name of its file; without an evaluation, why the file cannot be read."""

    name: str
    evaluation: Evaluation | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """What people read of a card; an entry that the card does not have is empty."""

    name: str
    version: str = ""
    status: str = ""
    task: str = ""
    scope: tuple[Row, ...] = ()
    """modality, body part, views, and what the pixels must be like"""
    limits: tuple[str, ...] = ()
    """the worst that is known of the model, the worst first"""
    not_for: tuple[str, ...] = ()
    known_limits: tuple[str, ...] = ()
    independent: tuple[str, ...] = ()
    """what others found, a sentence each, with the name of the weights before it"""
    licence: tuple[Row, ...] = ()
    training: tuple[Row, ...] = ()
    corrections: tuple[Row, ...] = ()
    """what differs from the original, and why"""
    evaluations: tuple[EvaluationFile, ...] = ()
    problem: str = ""
    """why the card cannot be read"""


def card(model: str, site: Path) -> Card:
    """Return the card of a model; `site` is the site's folder of weights. A model without a card has an empty card."""
    folder = _folder(model, site)
    if folder is None and described.is_described(model, site.parent / _MODELS):
        return _described_card(model, site)
    if folder is None:
        problem = f"no card: put card.toml into {site / 'cards' / model}"
        return Card(model, problem=problem if _FOLDER.fullmatch(model) else "no model can have that name")
    evaluations = (*_evaluations(folder / "metrics"), *_evaluations(site / "external" / model))
    try:
        entries = tomllib.loads((folder / "card.toml").read_text("utf-8"))
    except (OSError, ValueError) as error:
        return Card(model, evaluations=evaluations, problem=f"{folder / 'card.toml'} cannot be read: {error}")
    return Card(
        name=_text(entries.get("name", model)),
        version=_text(entries.get("version", "")),
        status=_text(entries.get("status", "")),
        task=_text(entries.get("task", "")),
        scope=(*_rows(entries, "modality", "body_part", "views"), *_rows(_table(entries, "input"))),
        limits=_texts(entries.get("limits", ())),
        not_for=_texts(entries.get("not_for", ())),
        known_limits=(*_texts(entries.get("known_limits", ())), *_cautions(entries)),
        independent=tuple(_findings_of_others(_table(entries, "independent_evaluation"))),
        licence=tuple(_rows(_table(entries, "licence"))),
        training=tuple(_rows(_table(entries, "training"))),
        corrections=tuple((_text(row.get("what")), _text(row.get("why"))) for row in _tables(entries, "correction")),
        evaluations=evaluations,
    )


def _described_card(model: str, site: Path) -> Card:
    """Return what the description of a site's model says of it."""
    evaluations = tuple(_evaluations(site / "external" / model))
    try:
        described_model = described.described(model, site.parent / _MODELS)
        takes = described_model.table.table("takes")
        scope = (
            ("modality", ", ".join(takes.texts("modality", ()))),
            ("body part", ", ".join(takes.texts("body_part", ()))),
        )
        not_for = described_model.table.texts("not_for", ())
    except ConfigError as error:
        return Card(model, evaluations=evaluations, problem=str(error))
    entry = described_model.entry
    return Card(
        name=model,
        version=entry.version,
        status=entry.status.value,
        task=described_model.title,
        scope=tuple(row for row in scope if row[1]),
        not_for=not_for,
        licence=(("weights", entry.licence),),
        training=(("data", entry.training_data),),
        evaluations=evaluations,
    )


def evaluation_command(model: str) -> str:
    """Return what a person types to measure a model: one that does not ship with its training is measured as it reads.

    DIR and OUT stand for folders of that person, TRUTHS.csv for a table.
    """
    if _FOLDER.fullmatch(model) and (_shipped(model) / "experiment.py").is_file():
        return f"ainode evaluate {model} --data DIR --out OUT"
    return f"ainode evaluate {model} --external TRUTHS.csv --data DIR --out OUT"


def _folder(model: str, site: Path) -> Path | None:
    if not _FOLDER.fullmatch(model):
        return None
    folders = (site / "cards" / model, _shipped(model))
    return next((folder for folder in folders if (folder / "card.toml").is_file()), None)


def _shipped(model: str) -> Path:
    return Path(str(resources.files("ainode.models"))) / model


def _evaluations(folder: Path) -> Iterator[EvaluationFile]:
    for path in sorted(folder.glob("*.json"))[:_MOST_FILES]:
        try:
            if path.stat().st_size > _MOST_BYTES:
                yield EvaluationFile(path.stem, None, f"{path.name} is larger than {_MOST_BYTES:,} bytes")
                continue
            yield EvaluationFile(path.stem, Evaluation.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            yield EvaluationFile(
                path.stem, None, f"{path.name} is no metrics.json of `ainode evaluate`: {place} {first['msg']}"
            )
        except OSError as error:
            yield EvaluationFile(path.stem, None, f"{path.name} cannot be read: {error.strerror}")


def _table(entries: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = entries.get(key)
    return table if isinstance(table, dict) else {}


def _tables(entries: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    tables = entries.get(key)
    return [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []


def _cautions(entries: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a card says of one organ of several."""
    for organ in _tables(entries, "organ"):
        if caution := organ.get("caution"):
            yield f"{_text(organ.get('name'))}: {_text(caution)}"


def _findings_of_others(table: Mapping[str, Any]) -> Iterator[str]:
    for weights, sentences in table.items():
        yield from (f"{weights.replace('_', ' ')}: {sentence}" for sentence in _texts(sentences))


def _rows(table: Mapping[str, Any], *keys: str) -> Iterator[Row]:
    """Yield the entries of a table as names and texts; a table within the table gives its entries."""
    for key in keys or table:
        value, name = table.get(key), key.replace("_", " ")
        if isinstance(value, dict):
            yield from ((f"{name}: {inner}", text) for inner, text in _rows(value))
        elif value is not None and (text := _text(value)):
            yield name, text


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(_text, value)) if isinstance(value, list | tuple) else (_text(value),)


def _text(value: object) -> str:
    """Return a value of a card in words."""
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value if value is not None else "")
