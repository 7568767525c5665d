"""Training and evaluation of the model from the command line.

`data` is the folder that holds `spine_aasce`, or an empty folder, which stands for synthetic films.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from ainode.models.running.checkpoints import save_half
from ainode.models.running.runtime import Execution
from ainode.models.spine_vertebrae.card import read_card
from ainode.models.spine_vertebrae.companions import chest_side_views, drawn_spines, marked_chests, others
from ainode.models.spine_vertebrae.dataset import films_of_part, is_synthetic
from ainode.models.spine_vertebrae.evaluation import evaluation_of
from ainode.models.spine_vertebrae.model import VertebraModel
from ainode.models.spine_vertebrae.training import Material, trained
from ainode.models.spine_vertebrae.views import learn_view, views
from ainode.models.training.experiment import Evaluation, Part, TrainingOptions


def train(data: Path, out: Path, options: TrainingOptions) -> Mapping[str, Path]:
    """Train on the part `train`; return the weight file by its name in a manifest."""
    card = read_card()
    name = card.shipped if is_synthetic(data) else card.weights
    path = out / f"{name.replace('/', '_')}.safetensors"
    films = [film for film in films_of_part(data, "train") if film.has_right_corners]
    material = Material(films, (*drawn_spines(), *marked_chests(data)), others(data))
    network = trained(material, out, options)
    learn_view(network, views(material, data), out, options.seed)
    save_half(network, path)
    return {name: path}


def evaluate(data: Path, weights: Mapping[str, Path], part: Part) -> Evaluation:
    """Return the weights' results on one part of the data; the rules beside learn from the part `train`."""
    (path,) = weights.values()
    training, tested = films_of_part(data, "train"), films_of_part(data, part)
    with tempfile.TemporaryDirectory() as cache:
        model = VertebraModel.load(path, execution=Execution(Path(cache)), card=read_card())
        return evaluation_of(model, training, tested, chest_side_views(data, part))
