"""One small training loop, shared by every model: seeded, resumable, logged.

What a model brings: its network, its batches, its loss and its score.
"""

from __future__ import annotations

import csv
import random as python_random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from ainode.models.errors import CheckpointRefused
from ainode.models.training.experiment import TrainingOptions

Batch = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard to train.

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
        """Return a recipe's plan with what a person decided in its place."""
        return cls(
            options.epochs or epochs,
            steps_per_epoch,
            learning_rate=learning_rate,
            half=half,
            seed=options.seed,
            device=options.device,
            minutes=options.minutes,
        )


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of the log."""

    epoch: int
    loss: float
    score: float
    seconds: float


def seed_everything(seed: int) -> None:
    """Seed every generator that a training touches."""
    python_random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # libraries draw from the legacy generator
    torch.manual_seed(seed)


def fit(  # network, data, loss, score, plan and place: each is one decision of the caller
    network: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    loss: Callable[[nn.Module, Batch], Tensor],
    score: Callable[[nn.Module], float],
    plan: Plan,
    out: Path,
) -> tuple[Epoch, ...]:
    """Train, keep the best network in `out/best.safetensors`, and return the log.

    Writes `log.csv` and, after every epoch, `last.pt`, from which a later call goes on.
    Higher scores are better; the best weights are loaded into `network` at the end.
    """
    out.mkdir(parents=True, exist_ok=True)
    seed_everything(plan.seed)
    network.to(plan.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, plan))
    history = _resumed(out, network, optimizer, schedule)
    best = max((row.score for row in history), default=-float("inf"))
    began = time.monotonic()
    for epoch in range(len(history), plan.epochs):
        started = time.monotonic()
        mean_loss = _train_epoch(network, batches(epoch), loss, optimizer, schedule, plan)
        network.eval()
        row = Epoch(epoch, mean_loss, score(network), time.monotonic() - started)
        history.append(row)
        if row.score > best:
            best = row.score
            table = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
            save_file(table, out / "best.safetensors")
        rows = [[row.epoch, row.loss, row.score, row.seconds] for row in history]
        keep(out, network, optimizer, rows, step=schedule.last_epoch)
        if _stale(history, plan.patience) or time.monotonic() - began > plan.minutes * 60:
            break
    load_best(network, out)
    return tuple(history)


def load_best(network: nn.Module, out: Path) -> None:
    """Load `out/best.safetensors` into the network and put it in evaluation mode."""
    network.load_state_dict(load_file(out / "best.safetensors"))
    network.eval()


def _cosine(step: int, plan: Plan) -> float:
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
    network.train()
    losses: list[float] = []
    progress = tqdm(batches, total=plan.steps_per_epoch, leave=False, mininterval=2.0)
    for batch in progress:
        placed = tuple(tensor.to(plan.device) for tensor in batch)
        with torch.autocast(plan.device.split(":")[0], torch.bfloat16, enabled=plan.half):
            value = loss(network, placed)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        losses.append(float(value.detach()))
        progress.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}")
    return float(np.mean(losses)) if losses else float("nan")


def _stale(history: list[Epoch], patience: int) -> bool:
    scores = [row.score for row in history]
    return len(scores) - 1 - int(np.argmax(scores)) >= patience


def keep(
    out: Path, network: nn.Module, optimizer: torch.optim.Optimizer, history: list[list[float]], **more: int
) -> None:
    """Write `last.pt`, whole or not at all, and `log.csv`, a row per epoch: number, loss, score, seconds."""
    state = {
        "model_state_dict": network.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        **more,
        "history": history,
    }
    partial = out / "last.pt.part"
    torch.save(state, partial)
    partial.replace(out / "last.pt")
    with (out / "log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", "score", "seconds"])
        writer.writerows(history)


def _resumed(
    out: Path, network: nn.Module, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LambdaLR
) -> list[Epoch]:
    """Take up an interrupted training; return its log so far, empty when there is none."""
    path = out / "last.pt"
    if not path.is_file():
        return []
    state = torch.load(path, map_location="cpu", weights_only=True)
    if "history" not in state:
        raise CheckpointRefused(f"{path}: not a checkpoint of this loop; train into an empty folder")
    network.load_state_dict(state["model_state_dict"])
    optimizer.load_state_dict(state["optimizer_state_dict"])
    schedule.last_epoch = int(state["step"])
    return [Epoch(int(e), float(loss), float(score), float(s)) for e, loss, score, s in state["history"]]
