"""Synthetic abdomens as a labelled data set of slices, from which the demonstration weights of the pancreas come.

python -m ainode.models.ct_tumor.phantoms --out DIR
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ainode.models.ct_tumor.card import Organ, read_card
from ainode.models.ct_tumor.preprocess import windowed_slice
from ainode.models.phantoms.abdomen import Abdomen, abdomen

# Each part has its own stream of seeds, so that no patient is in two parts.
_PARTS = {"train": 0, "test": 1, "validation": 2}
_PER_PATIENT = 4
# Coarser than a scan, because the network learns from single slices.
_SLICES, _SIDE, _STEP_MM = 20, 224, 8.0
# The gland lies within this distance of the volume's middle, in parts of its slices.
_NEAR = 0.3


def render(folder: Path, organ: Organ, *, patients: dict[str, int], seed: int = 0) -> Path:
    """Write slices of synthetic patients, every second with a tumor, by part and class; return the manifest."""
    rows = []
    for part, count in patients.items():
        for kind in organ.class_names:
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
        for number in tqdm(range(count), desc=part):
            random = np.random.default_rng([seed, _PARTS[part], number])
            phantom = abdomen(random, slices=_SLICES, side=_SIDE, step_mm=_STEP_MM, tumor=bool(number % 2))
            # The rule of a study is chosen on whole volumes.
            for slice_number in range(_SLICES) if part == "validation" else _chosen_slices(phantom, random):
                label = organ.class_names[int(phantom.tumor_slices[slice_number])]
                name = f"{number:05d}_{slice_number:03d}.png"
                picture = windowed_slice(phantom.values[slice_number], organ.level, organ.width)
                cv2.imwrite(str(folder / part / label / name), picture)
                rows.append({"file": name, "label": label, "split": part, "group": f"{part} {number}"})
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", "label", "split", "group"])
        writer.writeheader()
        writer.writerows(rows)
    return manifest


def _chosen_slices(phantom: Abdomen, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the numbers of four slices: up to three of the mass, the others of the gland's range without a mass."""
    count = len(phantom.tumor_slices)
    tumor_slices = np.flatnonzero(phantom.tumor_slices)
    gland_slices = np.arange(round(count * (0.5 - _NEAR)), round(count * (0.5 + _NEAR)))
    healthy_slices = np.setdiff1d(gland_slices, tumor_slices)
    chosen = random.choice(tumor_slices, min(len(tumor_slices), _PER_PATIENT - 1), replace=False)
    return np.concatenate([chosen, random.choice(healthy_slices, _PER_PATIENT - len(chosen), replace=False)])


def main() -> None:
    """Run the documented command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--validation", type=int, default=16)
    parser.add_argument("--test", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts = {"train": arguments.train, "validation": arguments.validation, "test": arguments.test}
    render(arguments.out, read_card().organ("pancreas"), patients=counts, seed=arguments.seed)


if __name__ == "__main__":
    main()
