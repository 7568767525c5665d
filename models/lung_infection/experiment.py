"""Training and evaluation of the model from the command line.

`data` is the folder that holds `ct_infection` and, for slices of healthy chests, `chest_backgrounds`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from ainode.models.lung_infection.card import read_card
from ainode.models.lung_infection.dataset import healthy_slices, slices_of_part
from ainode.models.lung_infection.evaluation import evaluation_of
from ainode.models.lung_infection.model import InfectionModel
from ainode.models.lung_infection.training import Material, trained
from ainode.models.running.checkpoints import save_half
from ainode.models.running.runtime import Execution
from ainode.models.training.experiment import Evaluation, Part, TrainingOptions


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train on the part `train`; return the weight file by its name in a site's manifest."""
    card = read_card()
    material = Material(slices_of_part(data, "train"), healthy_slices(data, "train", options.seed))
    path = out / card.file
    save_half(trained(material, out, options), path)
    return {card.weights: path}


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the weights' results on one part of the data; the rules beside learn from the part `train`."""
    card = read_card()
    training, tested = slices_of_part(data, "train"), slices_of_part(data, part)
    with tempfile.TemporaryDirectory() as cache:
        model = InfectionModel.load(weights[card.weights], execution=Execution(Path(cache)), card=card)
        return evaluation_of(model, training, tested, healthy_slices(data, part, seed=0))
