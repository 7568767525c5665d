"""What a training chose on its validation part, such as a threshold: `choice.json` beside the weights of the training.

The card has the choice for the weights that ship; it says nothing of weights of another training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ainode.models.training.text_files import json_object

_FILE = "choice.json"


def write_choice(out: Path, choice: Mapping[str, object]) -> None:
    """Write the choice of a training into its folder."""
    (out / _FILE).write_text(json.dumps(choice, indent=2) + "\n", "utf-8")


def choice_beside(weights: Iterable[Path]) -> Mapping[str, Any]:
    """Return the choice of the training whose weights these are; empty for weights that no training left there."""
    folders = {path.parent for path in weights}
    paths = [folder / _FILE for folder in folders if (folder / _FILE).is_file()]
    if len(folders) != 1 or not paths:
        return {}
    return json_object(paths[0])
