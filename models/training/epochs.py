"""The training loop of the torch models: seeded, resumable, logged.

A model brings its network, its batches, its loss and its score.
"""

from __future__ import annotations

import csv
import random as python_random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from ainode.models.errors import CheckpointRefused
from ainode.models.training.experiment import TrainingOptions
from ainode.models.training.progress import tell

Batch = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a training.

    Units: `minutes` ends the training after the epoch in which it passes.
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.05
    patience: int = 10
    seed: int = 0
    device: str = "cpu"
    half: bool = False
    minutes: float = float("inf")

    @classmethod
    def of(
        cls, options: TrainingOptions, epochs: int, steps_per_epoch: int, *, learning_rate: float, half: bool = False
    ) -> Plan:
        """Return the plan of a recipe, in which a person's options replace the recipe's values."""
        return cls(
            options.epochs or epochs,
            min(options.steps or steps_per_epoch, steps_per_epoch),
            learning_rate=learning_rate,
            half=half,
            seed=options.seed,
            device=options.device,
            minutes=options.minutes,
        )

    @property
    def course(self) -> Mapping[str, float]:
        """Return what the options decide about the weights; a training is resumed by the same."""
        return {name: value for name, value in asdict(self).items() if name not in ("device", "half", "minutes")}


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row of the log."""

    epoch: int
    loss: float
    score: float
    """not a number in a training without a score"""
    seconds: float
    figures: Mapping[str, float] = field(default_factory=dict)
    """further figures by name, the same names in every epoch"""


def refuse_another_plan(path: Path, begun: Mapping[str, float], resumed: Mapping[str, float]) -> None:
    """Raise CheckpointRefused unless a training is resumed by the plan that it began with."""
    changes = [f"{name} {begun.get(name)}, now {value}" for name, value in resumed.items() if begun.get(name) != value]
    if changes:
        raise CheckpointRefused(
            f"{path}: begun with {'; '.join(changes)}: resume it with the options of its first call, or train into an "
            "empty folder"
        )


def seed_everything(seed: int) -> None:
    """Seed every random generator that a training uses."""
    python_random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # libraries draw from the legacy generator
    torch.manual_seed(seed)


def fit(  # six decisions of the caller
    network: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    loss: Callable[[nn.Module, Batch], Tensor],
    score: Callable[[nn.Module], float | Mapping[str, float]] | None,
    plan: Plan,
    out: Path,
) -> tuple[Epoch, ...]:
    """Train, write the best weights to `out/best.safetensors`, and return the log.

    Without a score the last epoch's weights are the best, no epoch ends the training early, and the log has no score.

    After every epoch `log.csv` and `last.pt` are written; a later call of the same plan continues from `last.pt`.
    Higher scores are better; the best weights are loaded into `network` at the end. Of a mapping, "score" is the score,
    and the other figures are columns of `log.csv`.
    """
    out.mkdir(parents=True, exist_ok=True)
    seed_everything(plan.seed)
    network.to(plan.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_share(step, plan))
    history = _resumed_history(out, network, optimizer, schedule, plan)
    tell(
        f"{out}: epochs {len(history) + 1} to {plan.epochs} of {plan.steps_per_epoch} batches; a checkpoint after each"
    )
    best = max((row.score for row in history), default=-float("inf"))
    start_s = time.monotonic()
    for epoch in range(len(history), plan.epochs):
        epoch_start_s = time.monotonic()
        mean_loss = _train_epoch(network, batches(epoch), loss, optimizer, schedule, plan)
        network.eval()
        scored = score(network) if score else float("nan")
        figures = dict(scored) if isinstance(scored, Mapping) else {"score": scored}
        row = Epoch(epoch, mean_loss, figures.pop("score"), time.monotonic() - epoch_start_s, figures)
        history.append(row)
        if score is None or row.score > best:
            best = row.score
            table = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
            save_file(table, out / "best.safetensors")
        rows = [[row.epoch, row.loss, row.score, row.seconds, *row.figures.values()] for row in history]
        save_epoch(out, network, optimizer, rows, further=tuple(figures), step=schedule.last_epoch, plan=plan.course)
        scored_words = "" if np.isnan(row.score) else f", score {row.score:.4f}"
        tell(f"epoch {epoch + 1} of {plan.epochs}: loss {mean_loss:.4f}{scored_words}, {row.seconds:.0f} s")
        is_stale = score is not None and _is_stale(history, plan.patience)
        if is_stale or time.monotonic() - start_s > plan.minutes * 60:
            break
    load_best(network, out)
    return tuple(history)


def load_best(network: nn.Module, out: Path) -> None:
    """Load `out/best.safetensors` into the network and put it in evaluation mode."""
    network.load_state_dict(load_file(out / "best.safetensors"))
    network.eval()


def _rate_share(step: int, plan: Plan) -> float:
    """Return the share of the learning rate at a step: a linear rise, then half a cosine."""
    total = plan.epochs * plan.steps_per_epoch
    ramp = max(1.0, plan.warmup * total)
    if step < ramp:
        return (step + 1) / ramp
    return 0.5 * (1 + float(np.cos(np.pi * min(1.0, (step - ramp) / max(1.0, total - ramp)))))


def _train_epoch(  # the pieces of one step
    network: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    plan: Plan,
) -> float:
    """Train one epoch and return its mean loss."""
    network.train()
    losses: list[float] = []
    progress = tqdm(islice(batches, plan.steps_per_epoch), total=plan.steps_per_epoch, leave=False, mininterval=2.0)
    for batch in progress:
        batch_on_device = tuple(tensor.to(plan.device) for tensor in batch)
        with torch.autocast(plan.device.split(":")[0], torch.bfloat16, enabled=plan.half):
            value = loss(network, batch_on_device)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        losses.append(float(value.detach()))
        progress.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}")
    return float(np.mean(losses)) if losses else float("nan")


def _is_stale(history: list[Epoch], patience: int) -> bool:
    """Return whether the best score is `patience` epochs old."""
    scores = [row.score for row in history]
    return len(scores) - 1 - int(np.argmax(scores)) >= patience


def save_epoch(  # the state of a training
    out: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[list[float]],
    *,
    further: tuple[str, ...] = (),
    **more: int | Mapping[str, float],
) -> None:
    """Write `last.pt`, whole or not at all, and `log.csv`: a row per epoch of number, loss, score, seconds, further."""
    state = {
        "model_state_dict": network.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        **more,
        "further": list(further),
        "history": history,
    }
    partial = out / "last.pt.part"
    torch.save(state, partial)
    partial.replace(out / "last.pt")
    with (out / "log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", "score", "seconds", *further])
        writer.writerows(["" if np.isnan(value) else value for value in row] for row in history)


def _resumed_history(
    out: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    plan: Plan,
) -> list[Epoch]:
    """Load the state of an interrupted training; return its log, empty without an interrupted training.

    Raises: CheckpointRefused for another plan's: what came out, no single call could make again.
    """
    path = out / "last.pt"
    if not path.is_file():
        return []
    state = torch.load(path, map_location="cpu", weights_only=True)
    if "history" not in state:
        raise CheckpointRefused(f"{path}: not a checkpoint of this loop; train into an empty folder")
    refuse_another_plan(path, state.get("plan", {}), plan.course)
    network.load_state_dict(state["model_state_dict"])
    optimizer.load_state_dict(state["optimizer_state_dict"])
    schedule.last_epoch = int(state["step"])
    names = state.get("further", [])
    return [
        Epoch(int(epoch), loss, score, seconds, dict(zip(names, figures, strict=True)))
        for epoch, loss, score, seconds, *figures in state["history"]
    ]
