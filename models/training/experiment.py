"""Training and evaluation as the shared command line asks for them, the same for every model."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import ModelError
from ainode.models.training.metrics import (
    auc,
    bootstrapped,
    brier,
    calibration_error,
    gain,
    sensitivity_specificity,
)

Part = Literal["train", "test"]
Kind = Literal["shortcut", "pixels", "anatomy", "part"]
"""what a baseline knows: nothing of anatomy, a few pixels, a size that people measured; or it is a part of the model"""


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What a person may decide of a training; None leaves it to the model's recipe.

    Units: `minutes` ends the training after the epoch in which it passes.
    """

    epochs: int | None = None
    minutes: float = float("inf")
    seed: int = 0
    device: str = "cpu"
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a rule that knows less than the model said of the same cases.

    Shapes: scores (n,), of the classes that count as ill.
    """

    scores: NDArray[np.float64]
    kind: Kind
    method: str = ""
    """which classifier on which features, and what was left out"""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a model said of one part of a data set, and what trivial rules said of the same.

    Shapes: labels (n,) class numbers; probabilities (n, classes); groups (n,) patient or lesion.
    """

    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    groups: NDArray[np.str_]
    positive: tuple[str, ...]
    """the classes that count as ill; their probabilities add up to the score"""
    threshold: float = 0.5
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    """names in the manifest of the weights that answered; empty: all that were given"""
    further: Mapping[str, object] = field(default_factory=dict)
    """figures that this model alone has"""

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Return which cases are ill."""
        return np.isin(self.labels, self._positive())

    @property
    def scores(self) -> NDArray[np.float64]:
        """Return the probability that a case is ill."""
        return np.asarray(self.probabilities[:, self._positive()].sum(axis=1), np.float64)

    @property
    def read(self) -> NDArray[np.int64]:
        """Return the class that each case is read as: by the threshold where there are two, the likeliest of more."""
        if len(self.class_names) > 2:  # noqa: PLR2004  # more than ill or not
            return np.asarray(self.probabilities.argmax(axis=1), np.int64)
        (ill,) = self._positive()
        return np.where(self.scores > self.threshold, ill, 1 - ill)

    def _positive(self) -> list[int]:
        return [self.class_names.index(name) for name in self.positive]


class Experiment(Protocol):
    """A module `ainode.models.<model>.experiment`: how the model is trained and put to the test."""

    def train(self, data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
        """Train on the part `train` of `data`, write into `out`; return the weight files by their manifest name."""
        ...

    def evaluate(self, data: Path, weights: Mapping[str, Path], part: Part) -> Evaluated:
        """Return what the weights say of one part of `data`."""
        ...


def experiment(model: str) -> Experiment:
    """Return the experiment of a model.

    Raises: ModelError if there is no such model, or a package of its training is missing.
    """
    try:
        return cast("Experiment", importlib.import_module(f"ainode.models.{model}.experiment"))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ainode"):
            raise ModelError(f"no model named {model!r} can be trained here") from error
        raise ModelError(f"{model}: {error.name} is missing; pip install 'ainode[models,train]'") from error


def train(model: str, data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train a model into a folder; return its weight files by name, which `weights.json` there keeps.

    Raises: ModelError if the folder holds another training and `resume` is not set.
    """
    if out.exists() and any(out.iterdir()) and not options.resume:
        raise ModelError(f"{out} is not empty; name another folder, or --resume what lies there")
    out.mkdir(parents=True, exist_ok=True)
    made = experiment(model).train(data, out, options)
    names = {name: str(path.resolve()) for name, path in made.items()}
    (out / "weights.json").write_text(json.dumps(names, indent=2) + "\n", "utf-8")
    draw_losses(out)
    return made


def draw_losses(out: Path) -> tuple[Path, ...]:
    """Draw the loss curves of every log.csv below a folder, beside it."""
    from ainode.models.training.plots import loss_plot  # noqa: PLC0415  # of the extra "train"

    return tuple(loss_plot(log, log.with_name("loss.png")) for log in sorted(out.rglob("log.csv")))


def trained(out: Path) -> Mapping[str, Path]:
    """Return the weight files that a training left in a folder.

    Raises: ModelError if none was finished there.
    """
    path = out / "weights.json"
    if not path.is_file():
        raise ModelError(f"{out}: no weights.json; a training that ended leaves one")
    return {name: Path(file) for name, file in json.loads(path.read_text("utf-8")).items()}


def evaluate(  # which model, on what, with what, into where
    model: str, data: Path, weights: Mapping[str, Path], out: Path, part: Part = "test"
) -> Mapping[str, object]:
    """Put weights to the test; write metrics.json and the plots into `out`, return the metrics."""
    # Of the extra "train"; and torch, which a training on TensorFlow does without.
    from ainode.models.running.runtime import sha256_of  # noqa: PLC0415
    from ainode.models.training.plots import evaluation_plots  # noqa: PLC0415

    found = experiment(model).evaluate(data, weights, part)
    digests = {name: sha256_of(weights[name]) for name in found.weights or weights}
    metrics = {"model": model, "weights": digests, "part": part, **measured(found)}
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
    evaluation_plots(found.truth, found.scores, out, confusion=(found.labels, found.read, found.class_names))
    return metrics


def measured(found: Evaluated) -> Mapping[str, object]:
    """Return every figure, intervals by bootstrap over groups, baselines on the same cases beside it."""
    truth, scores = found.truth, found.scores
    sensitivity, specificity = sensitivity_specificity(truth, scores, found.threshold, found.groups)
    accuracy = bootstrapped(lambda right, _: float(np.mean(right)), found.read == found.labels, scores, found.groups)
    return {
        "cases": len(found.labels),
        "groups": len(np.unique(found.groups)),
        "cases_of_class": {name: int((found.labels == i).sum()) for i, name in enumerate(found.class_names)},
        "positive": found.positive,
        "threshold": found.threshold,
        "auc": asdict(bootstrapped(auc, truth, scores, found.groups)),
        "accuracy": asdict(accuracy),
        "sensitivity": {**asdict(sensitivity), "groups": len(np.unique(found.groups[truth]))},
        "specificity": {**asdict(specificity), "groups": len(np.unique(found.groups[~truth]))},
        "brier": brier(truth, scores),
        "expected_calibration_error": calibration_error(truth, scores),
        "baselines": {
            name: {
                "kind": baseline.kind,
                "method": baseline.method,
                "auc": asdict(bootstrapped(auc, truth, baseline.scores, found.groups)),
                "gain": asdict(gain(truth, scores, baseline.scores, found.groups)),
            }
            for name, baseline in found.baselines.items()
        },
        **found.further,
    }
