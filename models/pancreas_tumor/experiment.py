"""Training and evaluation of the model from the command line.

`data` is the folder that holds `pancreas_msd`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from ainode.models.pancreas_tumor.card import read_card
from ainode.models.pancreas_tumor.dataset import left_out, slices_of_part
from ainode.models.pancreas_tumor.evaluation import evaluation_of
from ainode.models.pancreas_tumor.model import PancreasModel
from ainode.models.pancreas_tumor.training import Material, trained
from ainode.models.running.checkpoints import save_half
from ainode.models.running.runtime import Execution
from ainode.models.training.experiment import Evaluation, Part, TrainingOptions

_FOLD = 0
"""the group of patients that is left out to choose by"""


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train on four fifths of the patients of the part `train`; return the weight file by its name in the manifest."""
    card = read_card()
    path, slices = out / card.file, slices_of_part(data, "train")
    is_left_out = left_out(slices, _FOLD)
    learned, judged = (Material.of(slices.only(chosen)) for chosen in (~is_left_out, is_left_out))
    save_half(trained(learned, judged, out, options), path)
    return {card.weights: path}


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the weights' results on one part of the data; the rules beside learn from the part `train`."""
    card = read_card()
    training, tested = slices_of_part(data, "train"), slices_of_part(data, part)
    with tempfile.TemporaryDirectory() as cache:
        model = PancreasModel.load(weights[card.weights], execution=Execution(Path(cache)), card=card)
        return evaluation_of(model, training, tested)
