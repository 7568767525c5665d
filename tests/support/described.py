"""Models of a site as tests describe them: a folder of models, files of networks, and their descriptions."""

import hashlib
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from ainode.node.domain import UID, DocumentContext, File, OutOfScope, Reading, Request, Result
from ainode.node.encoding import headers
from ainode.node.keeping.spool import content_sha256
from ainode.node.offline.readings import reading_of
from ainode.node.reading import pipeline, registry
from ainode.node.reading.weights import ModelEnvironment, WeightStore
from ainode.node.settings import ReaderTable

_CONTEXT = DocumentContext(datetime(2026, 1, 2, tzinfo=UTC), UID("2.25.1"), "test", ("ainode 0",), "00")


def _description(handler: str, title: str, keys: str, *, version: int = 1, not_for: str = "") -> str:
    """Return a description of a model; `write_model` fills in its file."""
    return f"""
handler = "{handler}"
title = "{title}"
version = "{version}"
licence = "Apache-2.0"
trained_on = "nothing: made for a test"
not_for = [{not_for}]

[file]
path = "{{path}}"
sha256 = "{{sha256}}"
format = "{{format}}"

{keys}"""


DESCRIPTION = _description(
    "classify",
    "Bright or dark",
    """[takes]
modality = ["DX"]
body_part = ["CHEST"]

[input]
dimensions = 2
size = [64, 48]
fit = "pad"
channels = 3
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[output]
activation = "softmax"
site = ["816094009", "SCT", "Chest"]

[[output.classes]]
name = "normal"
code = ["17621005", "SCT", "Normal"]

[[output.classes]]
name = "fracture"
code = ["125605004", "SCT", "Fracture of bone"]
threshold = 0.5
""",
    version=3,
    not_for='"anybody"',
)

VOLUME = _description(
    "segment",
    "Half of the body",
    """[takes]
modality = ["MR"]
min_instances = 4

[input]
dimensions = 3
orientation = "{orientation}"
spacing_mm = {spacing}
size = {size}
range = [0, 1000]

[output]
masks = "channels"
activation = "sigmoid"
threshold = 0.5
site = ["38266002", "SCT", "Entire body"]

[[output.segments]]
name = "half"
value = 0
code = ["38266002", "SCT", "Entire body"]
""",
)

CT_CLASSES = _description(
    "classify",
    "Opacity",
    """[takes]
modality = ["CT"]
body_part = ["CHEST"]
images = "stack"

[input]
dimensions = 2
size = [48, 40]
window = [-400, 1500]
mean = [0.5]
std = [0.25]

[output]
activation = "sigmoid"
over_slices = "max"
site = ["816094009", "SCT", "Chest"]

[[output.classes]]
name = "opacity"
code = ["128477000", "SCT", "Abscess"]
threshold = 0.5
""",
)

BOXES = _description(
    "detect",
    "Boxes",
    """[takes]
modality = ["DX"]
body_part = ["CHEST"]

[input]
dimensions = 2
size = [64, 48]
fit = "pad"
channels = 3

[output]
boxes = "boxes"
scores = "scores"
labels = "labels"
corners = "xyxy"
site = ["816094009", "SCT", "Chest"]

[[output.classes]]
name = "nodule"
code = ["27925004", "SCT", "Nodule"]
threshold = 0.5

[[output.classes]]
name = "fracture"
code = ["125605004", "SCT", "Fracture of bone"]
threshold = 0.6
""",
)


def write_model(models: Path, name: str, file: Path, text: str = DESCRIPTION, *, kind: str = "onnx") -> Path:
    """Put a file and its description into a folder of models; return the path of the description."""
    folder = models / name
    folder.mkdir(parents=True, exist_ok=True)
    content = file.read_bytes()
    (folder / file.name).write_bytes(content)
    description = folder / "model.toml"
    sha256 = hashlib.sha256(content).hexdigest()
    values = {"path": file.name, "sha256": sha256, "format": kind}
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    description.write_text(text)
    return description


class SmallNetwork(nn.Module):
    """A few convolutions, pooling and one linear layer: as the networks of sites end."""

    def __init__(self, channels: int = 3, outputs: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(16, outputs)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return logits (B, outputs) of pictures (B, channels, rows, columns)."""
        logits: torch.Tensor = self.head(self.body(pictures).mean(dim=(2, 3)))
        return logits


def small_network(seed: int = 0, *, channels: int = 3, outputs: int = 2) -> nn.Module:
    """Return a network with random weights, the same for a seed."""
    torch.manual_seed(seed)
    return SmallNetwork(channels, outputs).eval()


def onnx_file(network: nn.Module, path: Path, shape: tuple[int, ...] = (1, 3, 64, 48)) -> Path:
    """Write a network as ONNX, as torch exports it; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of itself
        torch.onnx.export(network, (torch.zeros(shape),), path, dynamo=True, external_data=False, verbose=False)
    return path


def script_file(network: nn.Module, path: Path, shape: tuple[int, ...] = (1, 3, 64, 48)) -> Path:
    """Write a network as a TorchScript archive; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has deprecated its own script
        torch.jit.trace(network, torch.zeros(shape)).save(str(path))
    return path


@dataclass(frozen=True)
class DescribedNode:
    """A folder with models, and a study that they read."""

    folder: Path
    paths: tuple[Path, ...]
    is_serving: bool = False
    """whether a reader process reads of the folder what it may read of the data folder of a node that serves"""

    @property
    def environment(self) -> ModelEnvironment:
        """Return what handlers are built with."""
        store = WeightStore(self.folder / "weights", self.folder / "shipped", self.folder / "models")
        return ModelEnvironment(
            store, self.folder / "cache", device="cpu", data=self.folder if self.is_serving else None
        )

    def answer(self, name: str) -> Result | OutOfScope:
        """Return what a model answers in this process."""
        handler = registry.handler(name, self.environment)
        return pipeline.answer_of(headers.study(headers.instance(path, sha256="") for path in self.paths), handler)

    def read(self, name: str, limits: ReaderTable | None = None) -> Reading:
        """Return the reading by a model in a reader process of its own."""
        files = tuple(File(path, content_sha256(path)) for path in self.paths)
        study = headers.instance(self.paths[0], sha256="").ref.study_instance_uid
        request = Request(study, files, _CONTEXT)
        return reading_of(request, name, self.environment, limits or ReaderTable(time_limit_s=120))


class SmallVolumeNetwork(nn.Module):
    """A convolution of a volume, pooling and one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(4, 1)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 1) of volumes (B, 1, D, H, W)."""
        logits: torch.Tensor = self.head(self.body(volumes).mean(dim=(2, 3, 4)))
        return logits
