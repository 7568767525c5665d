"""The precisions that networks were given by `[reader] precision = "auto"`, read as data: no code of a model runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

TITLES: Final = ("network", "runs in", "processor", "OpenVINO", "tried: ms for the reference inputs, farthest move")
# As `models/running/precision.py` names it.
_FOLDER: Final = "precisions"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Candidate(_Part):
    """A precision that was measured."""

    precision: str
    median_ms: float
    largest_gap: float

    def __str__(self) -> str:
        """Return the precision with its time and how far it moved a probability."""
        return f"{self.precision} {self.median_ms:.1f} ms, {self.largest_gap:.4f}"


class Choice(_Part):
    """The precision that was chosen for a network, and of what."""

    name: str
    processor: str
    openvino: str
    precision: str
    candidates: tuple[Candidate, ...]

    @property
    def row(self) -> tuple[str, ...]:
        """Return the row of a table under `TITLES`."""
        return self.name, self.precision, self.processor, self.openvino, "; ".join(map(str, self.candidates))


def choices(networks: Path) -> Iterator[Choice]:
    """Yield every choice in the folder of converted networks, by name; a file that is none is left out."""
    choices = []
    for path in (networks / _FOLDER).glob("*.json"):
        try:
            choices.append(Choice.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError):
            continue
    yield from sorted(choices, key=lambda choice: (choice.name, choice.processor, choice.openvino))
