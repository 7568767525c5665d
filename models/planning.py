"""Makes the plans of the shipped weights: `python -m ainode.models.planning`, after each change of weights or networks.

A network that is left without a plan is converted at its first reading, which takes seconds and changes no answer.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from ainode.models.lung_nodule.encoder import COMPACT
from ainode.models.lung_nodule.model import encoder_recipe, slice_recipe
from ainode.models.nodule_detection.model import recipe_of as detection_recipe
from ainode.models.nodule_outline.model import outline_recipe
from ainode.models.running.plans import PLANS, write_plan
from ainode.models.running.runtime import Recipe, kept_conversion, sha256_of
from ainode.models.spine_radiograph.card import DETECTOR, read_card
from ainode.models.spine_radiograph.checkpoints import class_names
from ainode.models.spine_radiograph.model import detector_recipe, ensemble_recipe


def planned_recipes() -> Iterator[Recipe]:
    """Yield the recipe of each graph of shipped weights that has a plan."""
    card = read_card()
    paths = {name: _shipped(f"spine_radiograph/{name}") for name in card.files}
    digests = {name: sha256_of(path) for name, path in paths.items()}
    yield ensemble_recipe(card, paths, digests)
    names = class_names(paths[DETECTOR]) or card.detector.class_names
    yield detector_recipe(card, paths[DETECTOR], digests[DETECTOR], len(names))
    yield slice_recipe(_shipped("lung_nodule/lidc"))
    yield encoder_recipe(_shipped("lung_nodule/temporal"), COMPACT, "encoder.")
    yield detection_recipe(_shipped("nodule_detection/towers"))
    yield outline_recipe(_shipped("nodule_outline/implanted"))


def _shipped(name: str) -> Path:
    """Return the path of shipped weights."""
    folder = Path(str(resources.files("ainode.weights")))
    entries = tomllib.loads((folder / "manifest.toml").read_text("utf-8"))["weights"]
    return folder / str(next(entry["file"] for entry in entries if entry["name"] == name))


def main() -> None:
    """Convert each network, and write its plan."""
    for recipe in planned_recipes():
        with tempfile.TemporaryDirectory() as cache:
            path = write_plan(recipe, kept_conversion(recipe, Path(cache)))
        print(f"{path.relative_to(PLANS.parent)}: {path.stat().st_size} bytes")  # noqa: T201  # a command's answer


if __name__ == "__main__":
    main()
