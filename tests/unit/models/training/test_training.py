"""The shared loop learns, resumes where it was stopped, and keeps the best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ainode.models.errors import CheckpointRefused
from ainode.models.phantoms.spine import CLASS_NAMES
from ainode.models.spine_radiograph.augment import augmented_example, occupied_cells
from ainode.models.spine_radiograph.dataset import phantom, rendered_split
from ainode.models.spine_radiograph.training import Recipe, probabilities, train_classifier
from ainode.models.training.curves import log_columns
from ainode.models.training.epochs import Batch, Plan, fit
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.plots import loss_plot


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 1)


def _batches(epoch: int) -> Iterator[Batch]:
    random = torch.Generator().manual_seed(epoch)
    for _ in range(8):
        inputs = torch.randn(16, 4, generator=random)
        yield inputs, inputs.sum(dim=1, keepdim=True)


def _loss(network: nn.Module, batch: Batch) -> Tensor:
    return ((network(batch[0]) - batch[1]) ** 2).mean()


def _score(network: nn.Module) -> float:
    with torch.inference_mode():
        return -float(sum(_loss(network, batch) for batch in _batches(99)))


def test_it_learns_and_writes_a_log(tmp_path: Path) -> None:
    history = fit(_network(), _batches, _loss, _score, Plan(6, 8, learning_rate=0.05), tmp_path)
    assert history[-1].loss < history[0].loss / 4
    assert (tmp_path / "log.csv").read_text().count("\n") == 7


def test_a_training_says_its_epochs_first_and_each_epoch_at_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(_network(), _batches, _loss, _score, Plan(2, 8, learning_rate=0.05), tmp_path)
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "epoch" in line]
    assert lines[0] == f"{tmp_path}: epochs 1 to 2 of 8 batches; a checkpoint after each"
    assert [line.split(":")[0] for line in lines[1:]] == ["epoch 1 of 2", "epoch 2 of 2"]


@pytest.mark.parametrize(("allowed", "count"), [(None, 8), (3, 3), (9, 8)])
def test_an_epoch_has_at_most_the_batches_that_the_options_allow(
    allowed: int | None, count: int, tmp_path: Path
) -> None:
    plan = Plan.of(TrainingOptions(epochs=2, steps=allowed), 5, 8, learning_rate=0.05)
    rows: list[int] = []

    def counted_loss(network: nn.Module, batch: Batch) -> Tensor:
        rows.append(len(batch[0]))
        return _loss(network, batch)

    fit(_network(), _batches, counted_loss, None, plan, tmp_path)
    assert plan.steps_per_epoch == count
    assert len(rows) == 2 * count


def test_a_training_stopped_and_resumed_ends_where_an_unbroken_one_ends(tmp_path: Path) -> None:
    whole, broken = _network(), _network()
    plan = Plan(6, 8, learning_rate=0.05)
    fit(whole, _batches, _loss, _score, plan, tmp_path / "whole")

    def stops(epoch: int) -> Iterator[Batch]:
        if epoch == 3:
            raise KeyboardInterrupt
        yield from _batches(epoch)

    with pytest.raises(KeyboardInterrupt):
        fit(broken, stops, _loss, _score, plan, tmp_path / "broken")
    resumed = fit(_network(), _batches, _loss, _score, plan, tmp_path / "broken")
    assert [row.epoch for row in resumed] == list(range(6))
    ends = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "broken")]
    for key, value in ends[0]["model_state_dict"].items():
        assert torch.allclose(value, ends[1]["model_state_dict"][key], atol=1e-6)


@pytest.mark.parametrize("change", [{"epochs": 8}, {"learning_rate": 0.1}, {"seed": 1}])
def test_a_training_is_not_resumed_by_another_plan_than_it_began_with(change: dict[str, float], tmp_path: Path) -> None:
    plan = Plan(6, 8, learning_rate=0.05)
    fit(_network(), _batches, _loss, _score, replace(plan, minutes=0), tmp_path)
    (name,) = change
    with pytest.raises(CheckpointRefused, match=f"begun with {name} .*the options of its first call"):
        fit(_network(), _batches, _loss, _score, replace(plan, **change), tmp_path)  # type: ignore[arg-type]
    assert len(fit(_network(), _batches, _loss, _score, plan, tmp_path)) == 6


def test_it_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    history = fit(_network(), _batches, _loss, lambda _: 0.5, Plan(50, 8, patience=3), tmp_path)
    assert len(history) == 4


def test_without_a_score_every_epoch_runs_and_the_last_one_is_kept_and_no_score_is_drawn(tmp_path: Path) -> None:
    network = _network()
    history = fit(network, _batches, _loss, None, Plan(14, 8, patience=3), tmp_path)
    assert len(history) == 14
    last = torch.load(tmp_path / "last.pt", weights_only=True)["model_state_dict"]
    for key, value in network.state_dict().items():
        assert torch.equal(value, last[key])
    assert set(log_columns(tmp_path / "log.csv")) == {"epoch", "loss"}
    assert loss_plot(tmp_path / "log.csv", tmp_path / "loss.png").stat().st_size > 1000


def test_the_best_weights_are_the_ones_left_in_the_network(tmp_path: Path) -> None:
    network, scores = _network(), iter([0.1, 0.9, 0.2])
    best: list[Tensor] = []

    def score(trained: nn.Module) -> float:
        value = next(scores)
        if value == 0.9:
            best.append(next(trained.parameters()).detach().clone())
        return value

    fit(network, _batches, _loss, score, Plan(3, 8), tmp_path)
    assert torch.equal(next(network.parameters()), best[0])


def test_a_strangers_checkpoint_is_not_resumed(tmp_path: Path) -> None:
    torch.save({"model_state_dict": {}}, tmp_path / "last.pt")
    with pytest.raises(CheckpointRefused):
        fit(_network(), _batches, _loss, _score, Plan(1, 8), tmp_path)


def test_the_splits_share_no_picture() -> None:
    pictures = [phantom(0, split, 4).image for split in ("train", "validation", "test")]
    assert not np.array_equal(pictures[0][:, :100], pictures[1][:, :100])
    assert not np.array_equal(pictures[1][:, :100], pictures[2][:, :100])


def test_a_short_training_of_a_classifier_runs_from_pictures_to_weights(tmp_path: Path) -> None:
    data = tmp_path / "data"
    train, validation = (rendered_split(data, split, seed=1, count=8, workers=1) for split in ("train", "validation"))
    recipe = Recipe("resnet10t", side=64, batch=4, epochs=1, steps_per_epoch=2)
    history = train_classifier(recipe, train, validation, tmp_path / "out", options=TrainingOptions())
    assert len(history) == 1
    assert (tmp_path / "out" / "best.safetensors").is_file()
    assert len(list((data / "detector" / "labels" / "train").iterdir())) == 8


def test_an_augmented_picture_keeps_its_findings_in_its_boxes() -> None:
    picture = np.zeros((288, 288), np.uint8)
    picture[100:130, 60:110] = 255
    boxes = np.asarray([[2, 60 / 288, 100 / 288, 110 / 288, 130 / 288]], np.float32)
    for seed in range(20):
        moved, kept = augmented_example(picture, boxes, 224, np.random.default_rng(seed))
        assert moved.shape == (224, 224)
        for _, x0, y0, x1, y1 in kept * np.asarray([1, 224, 224, 224, 224]):
            rows, columns = np.nonzero(moved > moved.mean() + 2 * moved.std())
            inside = (columns >= x0 - 2) & (columns <= x1 + 2) & (rows >= y0 - 2) & (rows <= y1 + 2)
            assert inside.mean() > 0.9


def test_a_finding_smaller_than_a_cell_still_marks_the_cell_it_is_in() -> None:
    covered = occupied_cells(np.asarray([[0, 0.50, 0.50, 0.52, 0.52]], np.float32), len(CLASS_NAMES), 7)
    assert covered.sum() == 1
    assert covered[0, 3, 3] == 1


class _Recording(nn.Module):
    """A network whose weights lie on a device without memory; records the device of the pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(1, device="meta"))
        self.device_types: list[str] = []

    def forward(self, pictures: Tensor) -> tuple[Tensor]:
        """Return a logit of 0 for each picture."""
        self.device_types.append(pictures.device.type)
        return (torch.zeros(len(pictures)),)


def test_a_classifier_is_scored_on_the_device_that_holds_its_weights(tmp_path: Path) -> None:
    network = _Recording()
    stack = rendered_split(tmp_path, "validation", seed=1, count=2)
    assert probabilities(network, stack, 64).tolist() == [0.5, 0.5]
    assert network.device_types == ["meta"]
