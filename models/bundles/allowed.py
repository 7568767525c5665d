"""The components that a bundle may be built of, by name; each was read for what its arguments can reach.

None of them runs code out of its arguments, reads or writes a file, or asks a network. What does (Lambda, TorchVision,
CuCIM, transforms of the bundle's own `scripts`) is not here. LoadImage and SaveImage are known and replaced: the node
brings the image and writes the answer.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import metadata
from typing import Any, Final


class Role(Enum):
    """What a component is for."""

    TRANSFORM = "monai.transforms"
    INFERER = "monai.inferers"
    NETWORK = "monai.networks.nets"


_PLACES: Final = (
    *("BorderPad", "CenterSpatialCrop", "CropForeground", "DivisiblePad", "Flip", "Orientation"),
    *("ResizeWithPadOrCrop", "Resize", "Rotate90", "Spacing", "SpatialCrop", "SpatialPad"),
)
_TRANSFORMS: Final = (
    # shape and type
    *("EnsureChannelFirst", "EnsureType", "CastToType", "ToTensor", "ToDevice", "RepeatChannel", "SqueezeDim"),
    *("Transpose", "Identity"),
    # intensity
    *("AdjustContrast", "ClipIntensityPercentiles", "GaussianSharpen", "GaussianSmooth", "HistogramNormalize"),
    *("MedianSmooth", "NormalizeIntensity", "ScaleIntensity", "ScaleIntensityRange"),
    *("ScaleIntensityRangePercentiles", "ShiftIntensity", "StdShiftIntensity", "ThresholdIntensity"),
    *_PLACES,
    # answers
    *("Activations", "AsDiscrete", "FillHoles", "KeepLargestConnectedComponent", "LabelFilter", "MapLabelValue"),
    "RemoveSmallObjects",
)
"""of arrays; the dictionary form of each has a `d`, `D` or `Dict` at its end"""
_DICTIONARY_ONLY: Final = ("CopyItems", "DeleteItems", "Invert", "SelectItems")
_INFERERS: Final = ("SimpleInferer", "SliceInferer", "SlidingWindowInferer")
_NETWORKS: Final = (
    *("AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DenseNet", "DenseNet121", "DenseNet169", "DenseNet201"),
    *("DenseNet264", "DynUNet", "EfficientNetBN", "FlexibleUNet", "HighResNet", "SEResNet50", "SEResNet101"),
    *("SEResNet152", "SEResNext50", "SEResNext101", "SENet154", "SegResNet", "SegResNetDS", "SegResNetVAE"),
    *("SwinUNETR", "UNETR", "UNet", "VNet", "resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "resnet200",
)
RUNNER: Final = frozenset(
    {
        *("CacheDataset", "CheckpointLoader", "ClassificationSaver", "DataLoader", "Dataset", "StatsHandler"),
        *("SupervisedEvaluator", "ThreadDataLoader", "torch.device"),
    }
)
"""what feeds and starts MONAI's own runner: known, and never built"""
# Arguments that take a function, a logger's name or an address; plain data of a file can be none that MONAI needs.
_REFUSED_ARGUMENTS: Final = frozenset(
    {"func", "inv_func", "log_stats", "name", "other", "overrides", "post_func", "select_fn", "use_re"}
)
_FORCED: Final = {"pretrained": False, "progress": False}
"""a download of other weights would be overwritten by the bundle's own; a bar would be printed"""
_WITHOUT_EFFECT: Final = {"SwinUNETR": frozenset({"img_size"})}
"""arguments of public bundles that MONAI checked sizes by, and has taken out since"""
_PATH: Final = re.compile(r"monai\.(?:transforms|inferers|networks\.nets)(?:\.[a-z_0-9]+)*\.(?P<name>\w+)", re.ASCII)
# A side of the largest grids of CT (2,048 pixels of a fine matrix); 2**28 voxels are 1 GB.
_MAX_SIDE: Final = 2048
_MAX_VOXELS: Final = 2**28
_SIZES: Final = frozenset({"spatial_size", "roi_size", "roi_start", "roi_end", "spatial_border", "k", "img_size"})
_LEAST_SPACING_MM: Final = 0.1
_MOST: Final = {"overlap": 0.95, "sw_batch_size": 64, "repeats": 64, "to_onehot": 1024, "radius": 3, "sigma": 64}
_MOST_OF_NETWORK: Final = 4096
_MOST_OF_OTHERS: Final = 1_000_000
_MOST_ENTRIES: Final = 4096


@dataclass(frozen=True, slots=True)
class Component:
    """A name of the list, and what MONAI has under this name."""

    name: str
    role: Role
    build: Callable[..., Any] = field(repr=False)

    def problem(self, arguments: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return the first argument that is not taken and why; None if the component can be built with them."""
        for key, value in arguments.items():
            if key in _REFUSED_ARGUMENTS or key.startswith("_"):
                return key, "takes a function, a name of code or a pattern, which no bundle hands over here"
            if reason := _excess(self.role, key, value):
                return key, reason
        try:
            self._signature().bind(**self._effective(arguments))
        except TypeError as error:
            return _unknown_key(str(error)), f"MONAI {version()}: {error}"
        return None

    def built(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a transform, an inferer or a network
        """Return the component, built with arguments that have no problem."""
        parameters = self._signature().parameters
        forced = {key: value for key, value in _FORCED.items() if key in parameters}
        return self.build(**{**self._effective(arguments), **forced})

    def _effective(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments without those that have no effect any more."""
        left_out = _WITHOUT_EFFECT.get(self.name, frozenset())
        return {key: value for key, value in arguments.items() if key not in left_out}

    def _signature(self) -> inspect.Signature:
        if self.name == "SliceInferer":
            return _with_sliding_window(inspect.signature(self.build))
        return inspect.signature(self.build)


def component(target: str) -> Component | None:
    """Return the listed component of a `_target_`, bare or with MONAI's path; None if the list has none."""
    path = _PATH.fullmatch(target)
    name = path["name"] if path else target
    role = _ROLES.get(name)
    if role is None or (path and not target.startswith(f"{role.value}.")):
        return None
    build = getattr(importlib.import_module(role.value), name, None)
    return Component(name, role, build) if callable(build) else None


def version() -> str:
    """Return MONAI's version."""
    return metadata.version("monai")


def is_compose(target: str) -> bool:
    """Return whether a `_target_` puts transforms in a row."""
    return _short(target) == "Compose"


def loads_image(target: str) -> bool:
    """Return whether a `_target_` reads the image from a file."""
    return _short(target) in _forms("LoadImage")


def saves_image(target: str) -> bool:
    """Return whether a `_target_` writes the answer to a file."""
    return _short(target) in _forms("SaveImage")


def moves(target: str) -> bool:
    """Return whether a `_target_` changes the grid of its image."""
    return _short(target) in _MOVING


def dictionary_form(target: str, name: str) -> bool:
    """Return whether a `_target_` is the transform of that name for dictionaries, in any of MONAI's spellings."""
    return _short(target) in _forms(name)[1:]


def _short(target: str) -> str:
    """Return the name of a transform without MONAI's path; what is no transform stays as it is."""
    path = _PATH.fullmatch(target)
    return path["name"] if path and target.startswith(f"{Role.TRANSFORM.value}.") else target


def _forms(name: str) -> tuple[str, ...]:
    """Return the names of a transform for arrays and, in three spellings, for dictionaries."""
    return name, f"{name}d", f"{name}D", f"{name}Dict"


def _numbers(value: object) -> Iterator[float]:
    """Yield the numbers in a value."""
    match value:
        case bool():
            return
        case int() | float():
            yield value
        case list():
            for entry in value:
                yield from _numbers(entry)
        case dict():
            for entry in value.values():
                yield from _numbers(entry)


def _excess(role: Role, key: str, value: object) -> str:
    """Return why an argument asks for more than is given; empty if it does not."""
    numbers = list(_numbers(value))
    if isinstance(value, list) and len(value) > _MOST_ENTRIES:
        return f"{len(value)} entries; {_MOST_ENTRIES} are taken"
    if key in _SIZES and role is not Role.NETWORK:
        voxels = math.prod(max(abs(number), 1) for number in numbers)
        if any(abs(number) > _MAX_SIDE for number in numbers) or voxels > _MAX_VOXELS:
            return f"a side of more than {_MAX_SIDE}, or more than {_MAX_VOXELS} voxels"
    if key == "pixdim" and any(0 < number < _LEAST_SPACING_MM for number in numbers):
        return f"finer than {_LEAST_SPACING_MM} mm"
    most = _MOST.get(key, _MOST_OF_NETWORK if role is Role.NETWORK else _MOST_OF_OTHERS)
    return f"more than {most}" if any(abs(number) > most for number in numbers) else ""


def _unknown_key(message: str) -> str:
    """Return the argument that a message of a signature names."""
    quoted = re.search(r"'(\w+)'", message)
    return quoted[1] if quoted else ""


def _with_sliding_window(signature: inspect.Signature) -> inspect.Signature:
    """Return the signature of a slice inferer with the arguments that it hands on to a sliding window."""
    inferer = importlib.import_module(Role.INFERER.value).SlidingWindowInferer
    own = [parameter for parameter in signature.parameters.values() if parameter.kind not in _VARIADIC]
    names = {parameter.name for parameter in own}
    handed_on = [p for p in inspect.signature(inferer).parameters.values() if p.name not in names]
    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *handed_on)]
    return inspect.Signature(keyword_only)


def _roles() -> dict[str, Role]:
    names = {form: Role.TRANSFORM for name in _TRANSFORMS for form in _forms(name)}
    names |= {form: Role.TRANSFORM for name in _DICTIONARY_ONLY for form in _forms(name)[1:]}
    names |= dict.fromkeys(_INFERERS, Role.INFERER)
    return names | dict.fromkeys(_NETWORKS, Role.NETWORK)


_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_ROLES: Final = _roles()
NAMES: Final = tuple(sorted(_ROLES))
"""every name on the list"""
_MOVING: Final = frozenset(form for name in (*_PLACES, "Transpose") for form in _forms(name))
