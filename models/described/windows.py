"""A network over an image that is larger than its input, window by window, as MONAI's sliding window inferer has it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ainode.models.errors import ModelError

if TYPE_CHECKING:
    from ainode.models.described.network import Network
    from ainode.models.running.runtime import Array


@dataclass(frozen=True, slots=True)
class Sliding:
    """The windows: their size, the share in which neighbors overlap, and how overlapping answers are weighted."""

    roi: tuple[int, ...]
    overlap: float
    mode: Literal["constant", "gaussian"]


def slid(network: Network, inputs: Array, sliding: Sliding, *, is_channels_last: bool = False) -> Array:
    """Return the first output of a network over the whole input, as large as the input.

    Shapes: inputs (1, channels, …), out (1, output channels, …); with the channels last in both where they are.
    Raises: ModelError if an answer is not as large as its window: it would be stretched to it.
    """
    import torch  # noqa: PLC0415 - takes seconds to import, and most networks read the whole image at once

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a library behind MONAI warns that a confined process starts no others
        from monai.inferers.utils import sliding_window_inference  # noqa: PLC0415

    def answers(windows: torch.Tensor) -> torch.Tensor:
        inputs_of_network = windows.movedim(1, -1).contiguous() if is_channels_last else windows
        answer = torch.from_numpy(network(inputs_of_network.numpy())[0])
        first = answer.movedim(-1, 1) if is_channels_last else answer
        if first.shape[2:] != windows.shape[2:]:
            raise ModelError(f"the network answers a window of {sliding.roi} in the shape {tuple(answer.shape)}")
        return first

    with torch.no_grad():
        whole = sliding_window_inference(
            torch.from_numpy(np.ascontiguousarray(np.moveaxis(inputs, -1, 1)) if is_channels_last else inputs),
            sliding.roi,
            1,
            answers,
            overlap=sliding.overlap,
            mode=sliding.mode,
        )
    answer = np.asarray(whole, np.float32)
    return np.moveaxis(answer, 1, -1) if is_channels_last else answer
