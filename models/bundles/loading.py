"""The image as MONAI's readers of NIfTI and ITK hand it to the first transform, without a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from monai.data.meta_tensor import MetaTensor
from monai.transforms.utility.array import EnsureChannelFirst
from numpy.typing import NDArray

from ainode.models.bundles import allowed

_READERS: Final = frozenset(
    {
        None,
        "itkreader",
        "nibabelreader",
        "pydicomreader",
        *(f"monai.data.{name}" for name in ("ITKReader", "NibabelReader")),
    }
)
_SAME_ANSWER: Final = frozenset(
    {
        *("allow_missing_keys", "expanduser", "image_only", "meta_key_postfix", "meta_keys", "overwriting"),
        *("simple_keys",),
    }
)
"""arguments that change how a file is found and named, and nothing of the image"""
# LPS to RAS: the first two axes of the patient point the other way. Source: nibabel's coordinates are RAS+.
_LPS_TO_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class PresentImage:
    """Stands where a bundle loads its image: the image is there, under `key`, or by itself where `key` is empty."""

    key: str
    adds_channel: bool

    def __call__(self, data: Any) -> Any:  # noqa: ANN401 - an image, or a table with the image
        """Return the data, with an axis of channels where the loading would have made it."""
        if not self.adds_channel:
            return data
        return EnsureChannelFirst()(data) if not self.key else {**data, self.key: EnsureChannelFirst()(data[self.key])}


def present_image(target: str, arguments: Mapping[str, Any]) -> PresentImage:
    """Return what stands for a bundle's LoadImage or LoadImaged.

    Raises: ValueError if an argument would bring another image than the node's: several, of another type of numbers,
    of another reader, or placed otherwise.
    """
    rest = {key: value for key, value in arguments.items() if key not in _SAME_ANSWER}
    reader = rest.pop("reader", None)
    if (reader.lower() if isinstance(reader, str) and "." not in reader else reader) not in _READERS:
        raise ValueError(f"reader {reader!r}: volumes are handed over as the readers of NIfTI and ITK give them")
    if rest.pop("affine_lps_to_ras", True) is not True:
        raise ValueError("affine_lps_to_ras: false places the image where no file of NIfTI would be")
    if str(rest.pop("dtype", "float32")).removeprefix("torch.") not in {"float32", "None"}:
        raise ValueError("dtype: images are handed over in float32")
    adds_channel = rest.pop("ensure_channel_first", False) is True
    keys = rest.pop("keys", "")
    names = [keys] if isinstance(keys, str) else keys
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"keys {names!r}: the name of one image is needed")
    if rest:
        raise ValueError(f"{', '.join(sorted(rest))}: not taken where the node brings the image")
    if len(names) != 1 or bool(names[0]) is not allowed.dictionary_form(target, "LoadImage"):
        raise ValueError(f"keys {names}: one image is brought")
    return PresentImage(names[0], adds_channel)


def loaded_image(values: NDArray[np.float32], affine_lps: NDArray[np.float64]) -> MetaTensor:
    """Return a volume as LoadImage returns it.

    Shapes: values (X, Y, Z); affine (4, 4), from (x, y, z) to millimeters of the patient in LPS.
    """
    # A file of NIfTI holds its affine in single precision; half a voxel more or less hangs on that at an exact half.
    affine = (_LPS_TO_RAS @ affine_lps).astype(np.float32).astype(np.float64)
    meta = {
        "affine": affine,
        "original_affine": affine.copy(),
        "spatial_shape": np.asarray(values.shape),
        "space": "RAS",
        "original_channel_dim": float("nan"),
        "filename_or_obj": "image",
    }
    image: MetaTensor = MetaTensor.ensure_torch_and_prune_meta(np.ascontiguousarray(values, np.float32), meta)
    return image
