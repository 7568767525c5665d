"""The detector's own file: class names beside the weights, and the conversion of an original `best.pt`."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path

from safetensors import safe_open

from ainode.models.errors import CheckpointRefused


def class_names(path: Path) -> tuple[str, ...] | None:
    """Return the class names in a converted detector's file, or None when the file has none."""
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, framework="np") as file:
        names_json = (file.metadata() or {}).get("class_names")
    return tuple(str(name) for name in json.loads(names_json)) if names_json else None


def convert_detector(source: Path, target: Path) -> tuple[str, ...]:
    """Convert an ultralytics `best.pt` to safetensors, and return its class names.

    ultralytics' restricted loader (`weights_only` and a list of known layer classes) refuses a file that names
    anything else. The loader changes torch's process-wide list of allowed classes, so only the documented command
    runs this function, in a process of its own, never the node.
    """
    from ainode.models.running.checkpoints import save_half  # noqa: PLC0415  # torch, which a reading does without
    from ainode.models.spine_radiograph.detector_network import isolate_ultralytics  # noqa: PLC0415  # torch, too

    isolate_ultralytics()
    from ultralytics.nn.tasks import torch_safe_load  # noqa: PLC0415  # AGPL, of the extra "detect"

    try:
        checkpoint, _ = torch_safe_load(str(source), safe_only=True)  # type: ignore[no-untyped-call]
    except (pickle.UnpicklingError, RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointRefused(f"{source}: holds more than known layers, not converted: {error}") from error
    network = checkpoint.get("ema") or checkpoint["model"]
    names = tuple(str(network.names[index]) for index in sorted(network.names))
    save_half(network, target, {"class_names": json.dumps(names)})
    return names


def main() -> None:
    """Convert a detector: the command that the refusal names."""
    parser = argparse.ArgumentParser(description="Convert an ultralytics best.pt to safetensors.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    print("classes:", *convert_detector(arguments.source, arguments.target))  # noqa: T201  # a command's answer


if __name__ == "__main__":
    main()
