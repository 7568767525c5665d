"""Cubes of nodules, of plain candidates and of controls, as a training reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ainode.models.following.grid import Grid, Values
from ainode.models.nodule_detection.dataset import Chest, Nodule
from ainode.models.nodule_detection.implanting import Implant, implanted
from ainode.models.nodule_detection.search import LARGER_SIDE, Search, search_of

NODULES_A_CHEST, CONTROLS_A_CHEST = 24, 12
_LEVELS = 255.0
_JITTER_CELLS = 1.5
_NEAREST_MM = 3.0


@dataclass(frozen=True, slots=True)
class Examples:
    """Cubes with their truth.

    Shapes: cubes (n, 2, side, side, side) uint8; truth and is_control (n,); keys (n,) patient or place; diameters (n,).
    Units: diameters in mm, 0 where there is no nodule.
    """

    cubes: NDArray[np.uint8] = field(repr=False)
    truth: NDArray[np.bool_]
    is_control: NDArray[np.bool_]
    keys: NDArray[np.str_]
    diameters: NDArray[np.float64]

    @classmethod
    def stored(cls, path: Path) -> Examples:
        """Return the examples in a file that `save` wrote."""
        with np.load(path) as table:
            return cls(**{name: table[name] for name in table.files})

    def save(self, path: Path) -> None:
        """Write the examples into a file, whole or not at all."""
        partial = path.with_suffix(".part.npz")
        np.savez(
            partial,
            cubes=self.cubes,
            truth=self.truth,
            is_control=self.is_control,
            keys=self.keys,
            diameters=self.diameters,
        )
        partial.replace(path)

    @classmethod
    def joined(cls, parts: Sequence[Examples]) -> Examples:
        """Return the examples of several scans as one."""
        return cls(
            np.concatenate([part.cubes for part in parts]),
            np.concatenate([part.truth for part in parts]),
            np.concatenate([part.is_control for part in parts]),
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.diameters for part in parts]),
        )


def hits(search: Search, scan: Grid, implant: Implant) -> NDArray[np.bool_]:
    """Return which candidates lie in an implant: within the radius of its outline, or within 3 mm."""
    center = search.cells.indices(scan.positions(implant.place))
    reach = max(_NEAREST_MM, implant.outline_diameter_mm / 2)
    return np.asarray(np.linalg.norm(search.blobs.places - center, axis=1) <= reach)


def is_near(search: Search, scan: Grid, implant: Implant) -> NDArray[np.bool_]:
    """Return which candidates lie at an implant or at its edge: they are no examples of other tissue."""
    center = search.cells.indices(scan.positions(implant.place))
    return np.asarray(np.linalg.norm(search.blobs.places - center, axis=1) <= implant.outline_diameter_mm + _NEAREST_MM)


def implanted_scans(
    chests: Sequence[Chest], donors: Sequence[Chest], nodules: Sequence[Nodule], passes: int, seed: int
) -> Iterator[tuple[Chest, Grid, tuple[Implant, ...]]]:
    """Yield chests with implants until every nodule was used `passes` times; the chests take turns.

    Each chest has a donor of plain lung for the controls.
    """
    random = np.random.default_rng(seed)
    number = 0
    for _ in range(passes):
        order = random.permutation(len(nodules))
        for first in range(0, len(order), NODULES_A_CHEST):
            chosen = [nodules[row] for row in order[first : first + NODULES_A_CHEST]]
            shapes = [nodules[row] for row in random.choice(len(nodules), CONTROLS_A_CHEST)]
            chest, donor = chests[number % len(chests)], donors[number % len(chests)]
            yield chest, *implanted(chest, chosen, shapes, donor, random)
            number += 1


def examples_of(chest: Chest, scan: Grid, implants: Sequence[Implant], seed: int, most: int) -> Examples:
    """Return examples of a scan: all implants, and at most `most` other candidates within the chest's columns."""
    search = search_of(scan)
    random = np.random.default_rng(seed)
    places, truth, is_control, keys, diameters = [], [], [], [], []
    is_near_implant = np.zeros(len(search.blobs.places), bool)
    for implant in implants:
        inside = hits(search, scan, implant)
        is_near_implant |= is_near(search, scan, implant)
        center = search.cells.indices(scan.positions(implant.place))
        near = [*search.blobs.places[inside][:2], center + random.uniform(-_JITTER_CELLS, _JITTER_CELLS, 3)]
        places += near
        truth += [implant.is_nodule] * len(near)
        is_control += [not implant.is_nodule] * len(near)
        keys += [implant.patient] * len(near)
        diameters += [implant.diameter_mm * implant.is_nodule] * len(near)
    rest = np.flatnonzero(
        ~is_near_implant & chest.has_columns(scan.indices(search.cells.positions(search.blobs.places)))
    )
    rest = random.permutation(rest)[:most]
    places += list(search.blobs.places[rest])
    count = len(rest)
    return Examples(
        np.rint(search.cubes(np.asarray(places), LARGER_SIDE) * np.float32(_LEVELS)).astype(np.uint8),
        np.asarray([*truth, *[False] * count]),
        np.asarray([*is_control, *[False] * count]),
        np.asarray([*keys, *[f"{chest.name} {number}" for number in rest]]),
        np.asarray([*diameters, *[0.0] * count]),
    )


def learning_examples(
    chests: Sequence[Chest], donors: Sequence[Chest], nodules: Sequence[Nodule], passes: int, seed: int, others: int
) -> Examples:
    """Return all candidates of the chests as they are, and of chests with implants the implants and `others` more."""
    parts = [examples_of(chest, chest.scan, (), seed, 10**6) for chest in chests]
    for number, (chest, scan, implants) in enumerate(implanted_scans(chests, donors, nodules, passes, seed)):
        parts.append(examples_of(chest, scan, implants, seed + number, others))
    return Examples.joined(parts)


def network_cubes(cubes: NDArray[np.uint8]) -> Values:
    """Return stored cubes as the network reads them, 0 to 1."""
    return cubes.astype(np.float32) / np.float32(_LEVELS)
