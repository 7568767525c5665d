"""Trains in two phases: the DCG first, then, with the DCG frozen, priors, U-Net and classifier.

This command reproduces the shipped weights:
    python -m ainode.models.ct_pneumonia.training --data DIR --out DIR --seed 0
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from ainode.models.ct_pneumonia.checkpoints import save_half
from ainode.models.ct_pneumonia.dataset import Volumes, synthetic_volumes
from ainode.models.ct_pneumonia.dcg import SIZES, Dcg, initialize
from ainode.models.ct_pneumonia.diffusion import Pneumonia
from ainode.models.ct_pneumonia.phases import CellPhase, DcgPhase, DiffusionPhase, HeadPhase, Phase
from ainode.models.ct_pneumonia.recipe import (
    CELLS,
    HEADS,
    ORIGINAL_DCG,
    ORIGINAL_DIFFUSION,
    SHORT_DCG,
    SHORT_DIFFUSION,
    Recipe,
)
from ainode.models.training.epochs import load_best, refuse_another_plan, save_epoch, seed_everything
from ainode.models.training.experiment import TrainingOptions

log = logging.getLogger(__name__)


def train(
    data: tuple[Volumes, Volumes], out: Path, options: TrainingOptions, *, size: str = "small", original: bool = False
) -> Pneumonia:
    """Train both phases on (train, validation) and return the network.

    `options.epochs` is the number of each phase's epochs; `original` takes the original's two phases and schedules.
    Without `original`, where the volumes' cells are marked, the DCG's map learns first, from pieces of volumes; then
    its heads learn from the regions at the map's maxima.
    """
    seed_everything(options.seed)
    dcg = Dcg(SIZES[size])
    initialize(dcg)
    marked = size == "small" and bool(np.isfinite(data[0].lesions).all())
    if marked and not original:
        run_phase(CellPhase(dcg.global_encoder, *data, options.seed, options.device), CELLS, out / "cells", options)
        seed_everything(options.seed)
        run_phase(HeadPhase.after_pass(dcg, data, options.seed, options.device), HEADS, out / "dcg", options)
    else:
        phase_one = DcgPhase(dcg, *data, options.seed, options.device)
        run_phase(phase_one, ORIGINAL_DCG[size] if original else SHORT_DCG, out / "dcg", options)
    seed_everything(options.seed + 1)
    network = Pneumonia(SIZES[size])
    network.dcg_model = dcg.eval()
    phase = DiffusionPhase.after_pass(network, data, options.seed, options.device)
    run_phase(phase, ORIGINAL_DIFFUSION if original else SHORT_DIFFUSION, out / "whole", options)
    return network.eval()


def run_phase(phase: Phase, recipe: Recipe, out: Path, options: TrainingOptions) -> None:
    """Train one phase; the best weights go to `out/best.safetensors` and to `phase.network`.

    `models.training.fit` has neither accumulated gradients nor a level part in its schedule; its files are the same.
    """
    out.mkdir(parents=True, exist_ok=True)
    # A quarter faster on the CPU, with the same numbers.
    network = phase.network.to(options.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    start_s = time.monotonic()
    if options.epochs is not None:
        recipe = replace(recipe, epochs=options.epochs)
    plan = {"epochs": recipe.epochs, "learning_rate": recipe.learning_rate, "batch": recipe.batch, "seed": options.seed}
    history = _resumed_history(out, network, optimizer, plan) if options.resume else []
    for epoch in range(len(history), recipe.epochs):
        epoch_start_s = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * recipe.rate(epoch, recipe.epochs)
        loss = _epoch_loss(phase, optimizer, recipe, epoch, options.device)
        network.eval()
        score = phase.score()
        if score > max((row[2] for row in history), default=-np.inf):
            table = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
            save_file(table, out / "best.safetensors")
        history.append([float(epoch), loss, score, time.monotonic() - epoch_start_s])
        save_epoch(out, network, optimizer, history, plan=plan)
        best = int(np.argmax([row[2] for row in history]))
        if epoch - best >= recipe.patience or time.monotonic() - start_s > options.minutes * 60:
            break
    load_best(network, out)


def _epoch_loss(phase: Phase, optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: int, device: str) -> float:
    """Train one epoch and return its mean loss."""
    phase.network.train()
    losses: list[float] = []
    optimizer.zero_grad()
    progress = tqdm(phase.batches(epoch, recipe.batch), desc=f"epoch {epoch}", leave=False, mininterval=2.0)
    for number, batch in enumerate(progress, start=1):
        value = phase.loss(tuple(tensor.to(device) for tensor in batch), recipe)
        (value / recipe.accumulate).backward()  # type: ignore[no-untyped-call]
        if number % recipe.accumulate == 0:
            nn.utils.clip_grad_norm_(phase.network.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(value.detach()))
        progress.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}")
    return float(np.mean(losses))


def _resumed_history(
    out: Path, network: nn.Module, optimizer: torch.optim.Optimizer, plan: Mapping[str, float]
) -> list[list[float]]:
    """Load network and optimizer from the last epoch's file; return the history in it, empty without a file.

    Raises: CheckpointRefused for a training that began by another plan.
    """
    path = out / "last.pt"
    if not path.is_file():
        return []
    state = torch.load(path, map_location="cpu", weights_only=True)
    refuse_another_plan(path, state.get("plan", {}), plan)
    network.load_state_dict(state["model_state_dict"])
    optimizer.load_state_dict(state["optimizer_state_dict"])
    return [[float(value) for value in row] for row in state["history"]]


def main() -> None:
    """Run the documented command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="where the phantoms are kept")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--original", action="store_true", help="the original's schedules: 50 and 100 epochs")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    data = (synthetic_volumes(arguments.data, count=240, seed=0), synthetic_volumes(arguments.data, count=60, seed=1))
    options = TrainingOptions(
        epochs=arguments.epochs, seed=arguments.seed, device=arguments.device, resume=arguments.resume
    )
    network = train(data, arguments.out, options, size=arguments.size, original=arguments.original)
    save_half(network, arguments.out / f"ct_pneumonia_{arguments.size}.safetensors")


if __name__ == "__main__":
    main()
