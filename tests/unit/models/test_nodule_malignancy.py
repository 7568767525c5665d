"""An outlined nodule has a probability, a kind and traits that a person can check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import installed
from unit.models.nodule_sets import ball, write_sets

installed("torch", "openvino", "safetensors", "scipy", "sklearn", "tqdm")

import torch  # noqa: E402  # after the packages were seen to be here
from safetensors.torch import save_file  # noqa: E402

from ainode import weights as shipped  # noqa: E402
from ainode.models.errors import CheckpointRefused  # noqa: E402
from ainode.models.following import Omission  # noqa: E402
from ainode.models.nodule_malignancy import experiment  # noqa: E402
from ainode.models.nodule_malignancy.card import read_card  # noqa: E402
from ainode.models.nodule_malignancy.model import Head, MalignancyModel, Reading, head_of  # noqa: E402
from ainode.models.nodule_malignancy.traits import solid_share, traits  # noqa: E402
from ainode.models.nodule_outline.evaluation import MASK_BLEND, grid_of, middle_of, scenes  # noqa: E402
from ainode.models.nodule_outline.nodules import read_chests, read_nodules  # noqa: E402
from ainode.models.nodule_outline.training import Source  # noqa: E402
from ainode.models.running.runtime import Execution  # noqa: E402
from ainode.models.training.experiment import TrainingOptions  # noqa: E402

CELL_MM = 0.7
WEIGHTS = Path(next(iter(shipped.__path__)))


def lesion(radius_mm: float, density_hu: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the values and the mask of a ball in lung."""
    mask = np.pad(ball(radius_mm, (CELL_MM,) * 3), ((8, 8), (4, 4), (4, 4)))
    return np.where(mask, density_hu, -850).astype(np.float32), mask


def test_the_traits_of_a_ball_are_those_of_geometry() -> None:
    own_traits = traits(*lesion(7.0, 30.0), CELL_MM)
    assert np.exp(own_traits["volume"]) == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.03)
    assert np.exp(own_traits["long axis"]) == pytest.approx(14, rel=0.05)
    assert own_traits["elongation"] == pytest.approx(1, abs=0.03)
    assert own_traits["sphericity"] == pytest.approx(1, abs=0.1)
    assert own_traits["mean"] == pytest.approx(30)
    assert own_traits["far"] == pytest.approx(-850)


@pytest.mark.parametrize(("density_hu", "share"), [(30.0, 1.0), (-600.0, 0.0)])
def test_the_solid_share_is_all_of_soft_tissue_and_nothing_of_ground_glass(density_hu: float, share: float) -> None:
    assert solid_share(*lesion(7.0, density_hu), CELL_MM) == share


def test_the_card_names_the_traits_in_the_order_of_the_weights() -> None:
    head = head_of(WEIGHTS / read_card().file)
    names = (*traits(*lesion(7.0, 30.0), CELL_MM), "presence", "solid share")
    assert read_card().traits == names
    assert head.weights.shape == (len(names),)


def test_a_kind_is_solid_only_above_both_bounds() -> None:
    head = Head(np.zeros(1), np.ones(1), np.ones(1), 0.0, (0.2, 0.8), np.ones(1), 0.0)
    assert [head.kind(share) for share in (0.1, 0.5, 0.9)] == ["ground glass", "part-solid", "solid"]


def test_a_file_that_is_no_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"first": torch.zeros(3)}, path)
    with pytest.raises(CheckpointRefused, match="not a head"):
        head_of(path)


def test_the_head_is_fitted_served_and_evaluated(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    data = write_sets(tmp_path, training=12, tested=4)
    files = experiment.train(data, tmp_path / "run", TrainingOptions())
    evaluation = experiment.evaluate(data, files, "test")
    assert evaluation.probabilities.shape == (4, 2)
    assert {rule.kind for rule in evaluation.baselines.values()} >= {"shortcut", "pixels", "anatomy"}
    assert {"nodules_of_6_to_15_mm", "point_5_mm_beside", "whole_cut_outs", "kind"} < set(evaluation.further)
    assert {"no_outline", "taken_for_no_nodule", "mass", "fat"} == set(evaluation.further["without_probability"])


def test_the_shipped_head_calls_a_larger_nodule_likelier_malignant(tmp_path: Path) -> None:
    data = write_sets(tmp_path, training=2, tested=2)
    paths = {"outline": experiment.outline_path(), "head": WEIGHTS / read_card().file}
    model = MalignancyModel.load(paths, execution=Execution(tmp_path, "torch-cpu"))
    small, large = scenes(Source(read_nodules(data, "test"), read_chests(data, "train")), MASK_BLEND)
    readings = [model.read(grid_of(seen), middle_of(seen)) for seen in (small, large)]
    assert all(isinstance(reading, Reading) for reading in readings)
    likely = [reading.probability for reading in readings if isinstance(reading, Reading) and reading.probability]
    assert likely[0] < likely[1]
    assert isinstance(model.read(grid_of(small), (-500.0, 0.0, 0.0)), Omission)
