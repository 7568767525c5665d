"""Synthetic abdomens as a labelled data set of slices: what the demonstration weights of the pancreas are made of.

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
from ainode.models.ct_tumor.preprocess import windowed
from ainode.models.phantoms.abdomen import Abdomen, abdomen

# One stream of seeds per part, so that no patient is in two.
_PARTS = {"train": 0, "test": 1, "validation": 2}
_PER_PATIENT = 4
# Coarser than a scan: a slice is what is learned from.
_SLICES, _SIDE, _STEP_MM = 20, 224, 8.0
# The gland is within this of the volume's middle, in parts of its slices.
_NEAR = 0.3


def render(folder: Path, organ: Organ, *, patients: dict[str, int], seed: int = 0) -> Path:
    """Write slices of synthetic patients, every second with a tumor, by part and class; return the manifest."""
    rows = []
    for part, count in patients.items():
        for kind in organ.class_names:
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
        for number in tqdm(range(count), desc=part):
            random = np.random.default_rng([seed, _PARTS[part], number])
            made = abdomen(random, slices=_SLICES, side=_SIDE, step_mm=_STEP_MM, tumor=bool(number % 2))
            # A study's rule is chosen on whole volumes.
            for at in range(_SLICES) if part == "validation" else _slices(made, random):
                label = organ.class_names[int(made.tumor_slices[at])]
                file = f"{number:05d}_{at:03d}.png"
                picture = windowed(made.values[at], organ.level, organ.width)
                cv2.imwrite(str(folder / part / label / file), picture)
                rows.append({"file": file, "label": label, "split": part, "group": f"{part} {number}"})
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file_:
        writer = csv.DictWriter(file_, ["file", "label", "split", "group"])
        writer.writeheader()
        writer.writerows(rows)
    return manifest


def _slices(made: Abdomen, random: np.random.Generator) -> NDArray[np.int64]:
    """Return some slices: three of the mass and one beside it, or all from where the gland is."""
    count = len(made.tumor_slices)
    ill = np.flatnonzero(made.tumor_slices)
    near = np.arange(round(count * (0.5 - _NEAR)), round(count * (0.5 + _NEAR)))
    well = np.setdiff1d(near, ill)
    some = random.choice(ill, min(len(ill), _PER_PATIENT - 1), replace=False)
    return np.concatenate([some, random.choice(well, _PER_PATIENT - len(some), replace=False)])


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
