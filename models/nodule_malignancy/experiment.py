"""Training of the malignancy head on outlines, and its evaluation on nodules implanted in a chest of the part."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ainode import weights as shipped
from ainode.models.nodule_malignancy import training
from ainode.models.nodule_malignancy.card import read_card
from ainode.models.nodule_malignancy.model import KINDS, MalignancyModel, Reading, row_of, share_of, traits_of
from ainode.models.nodule_malignancy.traits import traits
from ainode.models.nodule_outline.card import read_card as read_outline_card
from ainode.models.nodule_outline.cells import CELL_MM, WIDE_CELL_MM
from ainode.models.nodule_outline.evaluation import (
    MASK_BLEND,
    WHOLE_BLEND,
    Outcome,
    outcome,
    scenes,
    silent_scenes,
)
from ainode.models.nodule_outline.implant import Implant, implanted
from ainode.models.nodule_outline.model import OutlinedNodule
from ainode.models.nodule_outline.nodules import Chest, Nodule, read_chests, read_nodules
from ainode.models.nodule_outline.training import FARTHEST_MM, Source
from ainode.models.running.runtime import Execution
from ainode.models.training.experiment import Baseline, Evaluation, Part, TrainingOptions
from ainode.models.training.metrics import auc, bootstrap_estimate, gain, grouped_proportion, proportion
from ainode.models.training.progress import counted_off
from ainode.models.training.shortcuts import Facts, facts, pixel_baseline, shortcut_baselines

BAND_MM = (6.0, 15.0)
"""nodules of these diameters: their size says less"""
_RADIOMICS = ("volume", "mean", "spread", "percentile 95", "sphericity", "edge")
_LARGE_MM = 20.0
_HALF = 0.5


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Fit the head on the outlines of the shipped outline network; return its file."""
    card = read_card()
    return {f"{card.name}/{card.network}": training.train(data, outline_path(), out, options)}


def outline_path() -> Path:
    """Return the file of the outline network that ships."""
    return Path(next(iter(shipped.__path__))) / read_outline_card().file


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the head's results on implanted nodules, beside the size and the radiomics of the readers' masks."""
    card, nodules, chests = read_card(), read_nodules(data, part), read_chests(data, part)
    name = f"{card.name}/{card.network}"
    patients = np.asarray([nodule.patient for nodule in nodules])
    labels = np.array([int(nodule.malignant) for nodule in nodules], np.int64)
    placed = scenes(Source(nodules, chests), MASK_BLEND)
    with tempfile.TemporaryDirectory() as cache:
        paths = {"outline": outline_path(), "head": weights[name]}
        model = MalignancyModel.load(paths, execution=Execution(Path(cache), "cpu"))
        outcomes = [outcome(model.outlines, seen) for seen in counted_off(placed, "nodules")]
        beside = [outcome(model.outlines, seen, FARTHEST_MM) for seen in placed]
        whole = [outcome(model.outlines, seen) for seen in scenes(Source(nodules, chests), WHOLE_BLEND)]
        silent = [model.read(*point) for point in silent_scenes(chests, len(nodules) // 2)]
    scores, scores_beside, scores_whole = (
        np.array([_score(model, item) for item in items]) for items in (outcomes, beside, whole)
    )
    baselines = _baselines(data, nodules, outcomes)
    areas = _Areas(labels, scores, patients)
    return Evaluation(
        class_names=("benign", "malignant"),
        labels=labels,
        probabilities=np.stack([1 - scores, scores], axis=1),
        groups=patients,
        positive=("malignant",),
        threshold=card.threshold,
        baselines=baselines,
        weights=(name,),
        further={
            "nodules_of_6_to_15_mm": areas.in_band(nodules, baselines),
            "point_5_mm_beside": areas.of_other_scores(scores_beside),
            "whole_cut_outs": areas.of_other_scores(scores_whole),
            "kind": _kind_figures(model, nodules, outcomes),
            "without_probability": _refusals(model, outcomes),
            "without_probability_5_mm_beside": _refusals(model, beside),
            "silent_points_with_a_probability": asdict(
                proportion(sum(isinstance(answer, Reading) for answer in silent), len(silent))
            ),
        },
    )


@dataclass(frozen=True, slots=True)
class _Areas:
    """Labels, scores and patients (n,), of which areas under the curve are taken."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    patients: NDArray[np.str_]

    def in_band(self, nodules: Sequence[Nodule], baselines: Mapping[str, Baseline]) -> Mapping[str, object]:
        """Return the areas of the nodules of 6 to 15 mm, beside sizes and radiomics."""
        sizes = np.array([nodule.diameter_mm for nodule in nodules])
        band = (sizes >= BAND_MM[0]) & (sizes <= BAND_MM[1])
        labels, scores, patients = self.labels[band], self.scores[band], self.patients[band]
        beside = {
            title: {
                "auc": auc(labels, rule.scores[band]),
                "gain": asdict(gain(labels, scores, rule.scores[band], patients)),
            }
            for title, rule in baselines.items()
            if rule.kind == "anatomy"
        }
        return {"auc": asdict(bootstrap_estimate(auc, labels, scores, patients)), "baselines": beside}

    def of_other_scores(self, scores: NDArray[np.float64]) -> Mapping[str, object]:
        """Return the area of other scores of the same nodules, and how far the area moved."""
        return {
            "auc": asdict(bootstrap_estimate(auc, self.labels, scores, self.patients)),
            "gain": asdict(gain(self.labels, scores, self.scores, self.patients)),
        }


def _score(model: MalignancyModel, item: Outcome) -> float:
    """Return the head's probability, also of a mass and of fat; 0 for a nodule without an outline."""
    if not isinstance(item.nodule, OutlinedNodule):
        return 0.0
    return model.head.probability(row_of(traits_of(item.nodule)))


def _kind_figures(
    model: MalignancyModel, nodules: Sequence[Nodule], outcomes: Sequence[Outcome]
) -> Mapping[str, object]:
    """Return how often the kind is that of the readers, by kind, and how well the solid share tells solid nodules."""
    pairs = [
        (n, item.nodule) for n, item in zip(nodules, outcomes, strict=True) if isinstance(item.nodule, OutlinedNodule)
    ]
    truth = training.kinds_of(np.array([nodule.texture for nodule, _ in pairs]))
    shares = np.array([share_of(outlined) for _, outlined in pairs])
    patients = np.asarray([nodule.patient for nodule, _ in pairs])
    drawn = np.array([KINDS.index(model.head.kind(share)) for share in shares])
    recalls = {
        kind: asdict(grouped_proportion(drawn[truth == number] == number, patients[truth == number]))
        for number, kind in enumerate(KINDS)
        if (truth == number).any()
    }
    solid = truth == len(KINDS) - 1
    return {"recall": recalls, "auc_of_solid": asdict(bootstrap_estimate(auc, solid, shares, patients))}


def _refusals(model: MalignancyModel, outcomes: Sequence[Outcome]) -> Mapping[str, object]:
    """Return how many nodules get no probability: no outline, traits of something else, a mass, or fat."""
    outlined = [item.nodule for item in outcomes if isinstance(item.nodule, OutlinedNodule)]
    codes = [refusal.code for nodule in outlined if (refusal := nodule.refusal)]
    others = sum(nodule.refusal is None and not model.is_nodule(model.reading(nodule)) for nodule in outlined)
    counts = {
        "no_outline": len(outcomes) - len(outlined),
        "taken_for_no_nodule": others,
        "mass": codes.count("mass"),
        "fat": codes.count("fat"),
    }
    return {name: asdict(proportion(count, len(outcomes))) for name, count in counts.items()}


def _baselines(data: Path, nodules: Sequence[Nodule], outcomes: Sequence[Outcome]) -> Mapping[str, Baseline]:
    """Return shortcuts, pixels, and sizes and radiomics of the readers' masks; fitted on the training part."""
    fitting, chest = read_nodules(data, "train"), read_chests(data, "train")[0]
    labels = np.array([int(nodule.malignant) for nodule in fitting])
    rows, cases = (_radiomics(items, chest) for items in (fitting, nodules))
    rule = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000)).fit(rows, labels)
    layers, tested = (
        [np.asarray(n.values[len(n.values) // 2], np.float32) for n in items] for items in (fitting, nodules)
    )
    groups = [nodule.patient for nodule in fitting]
    return {
        **shortcut_baselines(_facts(fitting), labels, groups, _facts(nodules)),
        **pixel_baseline(layers, labels, tested),
        "diameter, of the data's own table": Baseline(np.array([n.diameter_mm for n in nodules]), "anatomy"),
        "volume of the readers' masks": Baseline(np.array([n.volume_mm3 for n in nodules]), "anatomy"),
        "volume of the node's outlines": Baseline(np.array([item.volume_mm3 for item in outcomes]), "anatomy"),
        "radiomics of the readers' masks": Baseline(
            rule.decision_function(cases), "anatomy", f"logistic regression on {', '.join(_RADIOMICS)}"
        ),
    }


def _radiomics(nodules: Sequence[Nodule], chest: Chest) -> NDArray[np.float64]:
    """Return the radiomics of the readers' masks, (n, 6)."""
    middle = (float(chest.values.shape[0] // 2), float(chest.values.shape[1] // 2), float(chest.values.shape[2] // 2))
    rows = []
    for nodule in nodules:
        cell_mm = WIDE_CELL_MM if nodule.equivalent_mm > _LARGE_MM else CELL_MM
        example = implanted(Implant.of(nodule), chest, middle, MASK_BLEND, cell_mm=cell_mm)
        mask = example.target > min(_HALF, float(example.target.max()) / 2)
        own_traits = traits(example.values, mask, cell_mm)
        rows.append([own_traits[name] for name in _RADIOMICS])
    return np.array(rows)


def _facts(nodules: Sequence[Nodule]) -> list[Facts]:
    """Return the shortcuts of each cut-out: its middle slice, its shape, its spacing."""
    return [
        facts(
            np.asarray(nodule.values[len(nodule.values) // 2], np.float32),
            {
                "slices": nodule.values.shape[0],
                "slice distance": nodule.spacing_mm[0],
                "pixel spacing": nodule.spacing_mm[1],
            },
        )
        for nodule in nodules
    ]
