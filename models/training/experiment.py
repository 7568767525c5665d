"""Training and evaluation of every model, as the shared command line calls them."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ainode.models.errors import ModelError, installation
from ainode.models.training.curves import curves, losses, minutes
from ainode.models.training.metrics import (
    auc,
    bootstrap_estimate,
    brier,
    calibration_error,
    gain,
    sensitivity_specificity,
)
from ainode.models.training.text_files import json_object

Part = Literal["train", "test"]
Kind = Literal["shortcut", "pixels", "anatomy", "part"]
"""the basis of a baseline: shortcuts without anatomy, a few pixels, a size that people measured, a part of the model"""


CHECKPOINTS = ("last.pt", "features_*.npy", "view_*.npy", "learning.npz")
"""the files that a training which is resumed goes on from: of the epochs, or of features that took long to make"""


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """A person's options of a training; None takes the value of the model's recipe.

    Units: `minutes` ends the training after the epoch in which it passes; `steps` are the most batches of an epoch
    of the shared loop (`epochs.fit`).
    """

    epochs: int | None = None
    steps: int | None = None
    minutes: float = float("inf")
    seed: int = 0
    device: str = "cpu"
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Baseline:
    """The scores of a simple rule on the same cases, which a model must beat.

    Shapes: scores (n,), of the classes that count as ill.
    """

    scores: NDArray[np.float64]
    kind: Kind
    method: str = ""
    """the classifier, its features, and the features that were left out"""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of a model on one part of a data set, with those of baselines on the same cases.

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
    """the manifest's names of the weights that gave the results; empty if all weights of the call did"""
    further: Mapping[str, object] = field(default_factory=dict)
    """further figures of this model"""
    drawings: Mapping[str, Callable[[Path], object]] = field(default_factory=dict)
    """further plots: the name of each file, and what draws it"""

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Return whether each case is ill."""
        return np.isin(self.labels, self._positive_numbers())

    @property
    def scores(self) -> NDArray[np.float64]:
        """Return the probability that each case is ill."""
        return np.asarray(self.probabilities[:, self._positive_numbers()].sum(axis=1), np.float64)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Return the predicted class of each case: by the threshold of two classes, the likeliest of more classes."""
        if len(self.class_names) > 2:  # noqa: PLR2004  # more than ill or not
            return np.asarray(self.probabilities.argmax(axis=1), np.int64)
        (ill,) = self._positive_numbers()
        return np.where(self.scores > self.threshold, ill, 1 - ill)

    def _positive_numbers(self) -> list[int]:
        """Return the numbers of the classes that count as ill."""
        return [self.class_names.index(name) for name in self.positive]


class Experiment(Protocol):
    """A module `ainode.models.<model>.experiment`: the training and the evaluation of a model."""

    def train(self, data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
        """Train on the part `train` of `data`, write into `out`; return the weight files by their manifest name."""
        ...

    def evaluate(self, data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
        """Return the weights' results on one part of `data`."""
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
        raise _missing(model, error) from error


def _missing(model: str, error: ModuleNotFoundError) -> ModelError:
    return ModelError(f"{model}: {error.name} is missing; {installation('models', 'train')}")


@contextmanager
def _with_packages(model: str) -> Iterator[None]:
    """Turn a package that is missing while an experiment runs into a ModelError: many are imported late."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise _missing(model, error) from error


def train(model: str, data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train a model into a folder; write its weight files by name to `weights.json` there, and return them.

    Raises: ModelError if the folder holds another training and `resume` is not set.
    """
    if out.exists() and any(out.iterdir()) and not options.resume:
        raise ModelError(f"{out} is not empty; name another folder, or --resume what lies there")
    out.mkdir(parents=True, exist_ok=True)
    with _with_packages(model):
        from ainode.models.training.progress import tell  # noqa: PLC0415  # of the extra "train"

        trainer = experiment(model)
        tell(_first_line(model, data, out, options))
        if options.resume and not any(path for name in CHECKPOINTS for path in out.rglob(name)):
            tell(f"nothing to resume in {out}: begins anew")
        files = trainer.train(data, out, options)
    names = {name: str(path.resolve()) for name, path in files.items()}
    (out / "weights.json").write_text(json.dumps(names, indent=2) + "\n", "utf-8")
    draw_losses(out)
    return files


def _first_line(model: str, data: Path, out: Path, options: TrainingOptions) -> str:
    """Return what a training does, until its loop says how many epochs and batches there are."""
    epochs = f"{options.epochs} epochs" if options.epochs else "as many epochs as the recipe of the model has"
    return (
        f"train {model} on {data} into {out}: {epochs}, seed {options.seed}, {options.device}; "
        "stopped after its first epoch, it goes on with --resume"
    )


def draw_losses(out: Path) -> tuple[Path, ...]:
    """Draw the loss curves of every log.csv below a folder into a picture beside the log; return the pictures."""
    from ainode.models.training.plots import loss_plot  # noqa: PLC0415  # of the extra "train"

    return tuple(loss_plot(log, log.with_name("loss.png")) for log in sorted(out.rglob("log.csv")))


def finished_weights(out: Path) -> Mapping[str, Path]:
    """Return the weight files of a finished training's folder.

    Raises: ModelError if no training finished there.
    """
    path = out / "weights.json"
    if not path.is_file():
        raise ModelError(f"{out}: no weights.json; a training that ended leaves one")
    return {name: Path(file) for name, file in json_object(path).items()}


def evaluate(  # the model, its data and weights, the folder of the figures
    model: str, data: Path, weights: Mapping[str, Path], out: Path, part: Part = "test", run: Path | None = None
) -> Mapping[str, object]:
    """Evaluate weights; write metrics.json and the plots into `out`, and return the metrics.

    metrics.json has the points of the curves, too: of the evaluation, and of the losses in the folder of a training;
    and the minutes of that training, for the card.
    """
    from ainode.models.running.runtime import sha256_of  # noqa: PLC0415  # torch, which TensorFlow does without

    with _with_packages(model):
        from ainode.models.training.progress import heard_from, tell  # noqa: PLC0415  # of the extra "train"

        examiner = experiment(model)
        tell(f"evaluate {model} on the part {part} of {data}: {', '.join(weights)}; the figures go to {out}")
        with heard_from(f"evaluate {model}"):
            evaluation = examiner.evaluate(data, weights, part)
        tell(f"{len(evaluation.labels)} cases were read; intervals and plots follow")
    digests = {name: sha256_of(weights[name]) for name in evaluation.weights or weights}
    return write_evaluation(evaluation, {"model": model, "weights": digests, "part": part}, out, run)


def of_two_classes(
    truth: Sequence[bool],
    scores: Sequence[float],
    groups: Sequence[str],
    threshold: float,
    further: Mapping[str, object],
) -> Evaluation:
    """Return the evaluation of answers that something else than an experiment gave; each argument has (n,) entries."""
    ill = np.asarray(scores, np.float64)
    return Evaluation(
        class_names=("negative", "positive"),
        labels=np.asarray(truth, np.int64),
        probabilities=np.stack((1 - ill, ill), axis=1),
        groups=np.asarray(groups, np.str_),
        positive=("positive",),
        threshold=threshold,
        further=further,
    )


def write_evaluation(
    evaluation: Evaluation, title: Mapping[str, object], out: Path, run: Path | None = None
) -> Mapping[str, object]:
    """Write metrics.json and the plots of an evaluation into `out`; return the metrics, which `title` begins.

    Losses and minutes are those of the folder of a training, if there is one.
    """
    from ainode.models.training.plots import evaluation_plots  # noqa: PLC0415  # of the extra "train"

    trained = {"training_minutes": minutes(run)} if run else {}
    metrics = {**title, **trained, **figures(evaluation)}
    out.mkdir(parents=True, exist_ok=True)
    points = {**curves(evaluation), "losses": losses(run) if run else {}}
    (out / "metrics.json").write_text(_metrics_text({**metrics, "curves": points}), "utf-8")
    evaluation_plots(
        evaluation.truth,
        evaluation.scores,
        out,
        confusion=(evaluation.labels, evaluation.predicted, evaluation.class_names),
    )
    for name, draw in evaluation.drawings.items():
        draw(out / name)
    return metrics


def _metrics_text(metrics: Mapping[str, object]) -> str:
    """Return metrics as JSON with a line for each figure and each point."""
    # A string of JSON has no line break: only those between the entries are taken out.
    lists = re.compile(r"\[\n\s+([^][{}]*?)\n\s+\]")
    return lists.sub(lambda match: "[" + re.sub(r",\n\s+", ", ", match[1]) + "]", json.dumps(metrics, indent=2)) + "\n"


def figures(evaluation: Evaluation) -> Mapping[str, object]:
    """Return every figure of an evaluation, with intervals by bootstrap over groups, and the baselines' figures."""
    truth, scores = evaluation.truth, evaluation.scores
    sensitivity, specificity = sensitivity_specificity(truth, scores, evaluation.threshold, evaluation.groups)
    accuracy = bootstrap_estimate(
        lambda is_right, _: float(np.mean(is_right)),
        evaluation.predicted == evaluation.labels,
        scores,
        evaluation.groups,
    )
    return {
        "cases": len(evaluation.labels),
        "groups": len(np.unique(evaluation.groups)),
        "cases_of_class": {name: int((evaluation.labels == i).sum()) for i, name in enumerate(evaluation.class_names)},
        "positive": evaluation.positive,
        "threshold": evaluation.threshold,
        "auc": asdict(bootstrap_estimate(auc, truth, scores, evaluation.groups)),
        "accuracy": asdict(accuracy),
        "sensitivity": {**asdict(sensitivity), "groups": len(np.unique(evaluation.groups[truth]))},
        "specificity": {**asdict(specificity), "groups": len(np.unique(evaluation.groups[~truth]))},
        "classes": class_figures(evaluation),
        "brier": brier(truth, scores),
        "expected_calibration_error": calibration_error(truth, scores),
        "baselines": {
            name: {
                "kind": baseline.kind,
                "method": baseline.method,
                "auc": asdict(bootstrap_estimate(auc, truth, baseline.scores, evaluation.groups)),
                "gain": asdict(gain(truth, scores, baseline.scores, evaluation.groups)),
            }
            for name, baseline in evaluation.baselines.items()
        },
        **evaluation.further,
    }


def class_figures(evaluation: Evaluation) -> Mapping[str, Mapping[str, float | int | None]]:
    """Return precision, recall, F1 and the number of cases of each class, of the class that each case was read as.

    A figure that divides by no case, as the precision of a class that nothing was read as, is None.
    """
    rows = {}
    for number, name in enumerate(evaluation.class_names):
        is_class, is_read = evaluation.labels == number, evaluation.predicted == number
        hits, cases, read = int((is_class & is_read).sum()), int(is_class.sum()), int(is_read.sum())
        rows[name] = {
            "precision": hits / read if read else None,
            "recall": hits / cases if cases else None,
            "f1": 2 * hits / (cases + read) if cases + read else None,
            "n": cases,
        }
    return rows
