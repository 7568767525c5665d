"""Further figures: through other cameras, turned, of the lesions that are hard to tell, and where the map points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ainode.models.skin_lesion.cameras import CAMERAS, seen_by
from ainode.models.skin_lesion.dataset import LabelledPicture
from ainode.models.skin_lesion.model import Prediction, SkinLesionModel
from ainode.models.skin_lesion.preprocess import Picture
from ainode.models.training.metrics import auc, bootstrap_estimate, grouped_proportion, sensitivity_specificity


@dataclass(frozen=True, slots=True)
class Cases:
    """Labelled pictures with their readings, all in one order."""

    labelled: Sequence[LabelledPicture]
    pictures: Sequence[Picture]
    predictions: Sequence[Prediction]

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Return whether each is malignant."""
        return np.array([item.label == 1 for item in self.labelled])

    @property
    def groups(self) -> NDArray[np.str_]:
        """Return the lesion of each."""
        return np.array([item.group for item in self.labelled])

    @property
    def scores(self) -> NDArray[np.float64]:
        """Return the calibrated probability of each."""
        return np.array([prediction.calibrated for prediction in self.predictions])


def further_figures(model: SkinLesionModel, cases: Cases) -> dict[str, object]:
    """Return the figures by name; a figure that the data set does not tell is left out."""
    subsets = {
        "biopsied_only": np.array([item.confirmed_by == "histo" for item in cases.labelled]),
        "melanoma_or_nevus": np.array([item.diagnosis in {"mel", "nv"} for item in cases.labelled]),
    }
    return {
        **{name: _figures(cases, cases.scores, model, chosen) for name, chosen in subsets.items() if chosen.any()},
        "simulated_cameras": {
            name: _figures(cases, _scores(model, cases, partial(seen_by, camera)), model)
            for name, camera in CAMERAS.items()
        },
        "quarter_turn": _change(cases, _scores(model, cases, lambda p, _: np.rot90(p)), model),
        **_pointing(cases),
    }


def _scores(model: SkinLesionModel, cases: Cases, change: Callable[[Picture, int], Picture]) -> NDArray[np.float64]:
    """Return the probability of each picture after a change; `change` takes the picture and its number."""
    changed = (np.ascontiguousarray(change(picture, i)) for i, picture in enumerate(cases.pictures))
    return np.array([model.predict(picture).calibrated for picture in changed])


def _figures(
    cases: Cases, scores: NDArray[np.float64], model: SkinLesionModel, chosen: NDArray[np.bool_] | None = None
) -> Mapping[str, object]:
    """Return AUC, sensitivity and specificity of the chosen cases, with intervals by lesion."""
    subset = np.ones(len(scores), bool) if chosen is None else chosen
    truth, groups = cases.truth[subset], cases.groups[subset]
    threshold = model.calibration.threshold
    sensitivity, specificity = sensitivity_specificity(truth, scores[subset], threshold, groups)
    area = bootstrap_estimate(auc, truth, scores[subset], groups)
    return {"auc": asdict(area), "sensitivity": asdict(sensitivity), "specificity": asdict(specificity)}


def _change(cases: Cases, scores: NDArray[np.float64], model: SkinLesionModel) -> Mapping[str, float]:
    """Return by how much probabilities changed, and the share of pictures that changed sides of the threshold."""
    threshold = model.calibration.threshold
    is_other_side = (scores > threshold) != (cases.scores > threshold)
    return {
        "mean_change": float(np.abs(scores - cases.scores).mean()),
        "other_side": float(is_other_side.mean()),
    }


def _pointing(cases: Cases) -> dict[str, object]:
    """Return the share of pictures whose map is highest inside the lesion's box, and the mean share of the boxes."""
    boxed = [
        (item, prediction.saliency)
        for item, prediction in zip(cases.labelled, cases.predictions, strict=True)
        if item.box is not None
    ]
    if not boxed:
        return {}
    hits, shares = [], []
    for item, saliency in boxed:
        top, bottom, left, right = item.box or (0, 0, 0, 0)
        row, column = np.unravel_index(int(saliency.argmax()), saliency.shape)
        hits.append(top <= row < bottom and left <= column < right)
        shares.append((bottom - top) * (right - left) / saliency.size)
    groups = [item.group for item, _ in boxed]
    pointing = asdict(grouped_proportion(hits, groups))
    return {"pointing": {**pointing, "mean_share_of_boxes": float(np.mean(shares))}}
