"""A bundle ready to read, and its reading of a volume: what MONAI's evaluator does with a batch of one image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import decollate_batch, list_data_collate
from monai.transforms.compose import Compose
from monai.transforms.post.dictionary import AsDiscreted
from monai.transforms.transform import Transform
from numpy.typing import NDArray
from torch import Tensor, nn

from ainode.models.bundles.contents import Contents
from ainode.models.bundles.loading import PresentImage, loaded_image
from ainode.models.bundles.resolver import Resolver
from ainode.models.bundles.seen import seen_share
from ainode.models.bundles.turning import Turn
from ainode.models.errors import BundleFailed, CheckpointRefused, UnusablePicture
from ainode.models.running import checkpoints
from ainode.models.running.script import Script

PREDICTION: Final = "pred"
# Two grids are one where no corner of theirs lies further apart, in mm.
_SAME_MM: Final = 1e-3
_MAX_VOXELS: Final = 2**29
_MAX_LABEL: Final = 255
# What MONAI's transforms raise on an image that they cannot take.
_READ_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The built parts of a bundle beside its network."""

    preprocessing: Compose
    inferer: Any
    postprocessing: Compose
    image_key: str
    """empty where the transforms take the image by itself"""

    @property
    def before(self) -> tuple[Any, ...]:
        """Return the transforms of the image, in their order."""
        return _row(self.preprocessing)

    @property
    def unjudged(self) -> Compose:
        """Return the postprocessing up to the probabilities: without the step that makes classes of them."""
        return Compose([transform for transform in self.after if not isinstance(transform, AsDiscreted)])

    @property
    def after(self) -> tuple[Any, ...]:
        """Return the transforms of the network's answer, in their order."""
        return _row(self.postprocessing)


@dataclass(frozen=True, slots=True)
class Reader:
    """A bundle with its network and weights on a device."""

    parts: Parts
    network: nn.Module | Script
    device: str

    def answer(self, values: NDArray[np.float32], affine_lps: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return what postprocessing makes of the network's answer to a volume, on the grid of the volume.

        Shapes: values (Z, Y, X); affine (4, 4), from (x, y, z) to LPS mm; the answer is (channel, Z, Y, X).
        Raises: BundleFailed if a transform cannot take the volume, or the answer lies on another grid; UnusablePicture
        if resampling would make too many voxels, or the answer holds what is no number.
        """
        return self.answer_and_share(values, affine_lps)[0]

    def answer_and_share(
        self, values: NDArray[np.float32], affine_lps: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], float]:
        """Return `answer`, and the share of the volume that the network saw (`seen.seen_share`)."""
        image = loaded_image(values.transpose(2, 1, 0), affine_lps)
        answer, share = self._read(image, self.parts.postprocessing)
        if isinstance(answer, MetaTensor) and answer.shape[1:] == image.shape:
            distance = float((answer.affine.cpu() - image.affine).abs().max())
            if distance <= _SAME_MM:
                return np.ascontiguousarray(_array(answer).transpose(0, 3, 2, 1)), share
        raise BundleFailed(
            f"the bundle's answer of {tuple(answer.shape)} does not lie on the grid of the image {tuple(image.shape)}"
        )

    def labels(
        self, values: NDArray[np.float32], affine_lps: NDArray[np.float64], orientation: str = ""
    ) -> tuple[NDArray[np.uint8], float]:
        """Return the label of each voxel of a volume, 0 for none, and the share of the volume that the network saw.

        The share is not a number where the bundle cuts the volume and nothing says where.

        `orientation` are the sides to which x, y and z of the volumes run that the bundle was made for, such as RAS,
        where the bundle does not turn its image itself.
        Shapes: as `answer`; the labels are (Z, Y, X).
        Raises: as `answer`, and BundleFailed if the answer is no label for each voxel.
        """
        turn = Turn.to(orientation[::-1], affine_lps)
        answer, share = self.answer_and_share(turn.turned(values), turn.affine(affine_lps, values.shape))
        if answer.shape[0] > 1:
            if not np.isin(answer, (0, 1)).all() or answer.sum(axis=0).max() > 1:
                raise BundleFailed(
                    "the bundle's answer has voxels of several classes, or of shares; a label for each is read"
                )
            answer = answer.argmax(axis=0)[np.newaxis].astype(np.float32)
        channel = answer[0]
        if channel.min() < 0 or channel.max() > _MAX_LABEL or not np.array_equal(channel, np.rint(channel)):
            raise BundleFailed("the bundle's answer is no label for each voxel")
        return np.ascontiguousarray(turn.back(channel.astype(np.uint8))), share

    def probabilities(
        self, values: NDArray[np.float32], affine_lps: NDArray[np.float64], orientation: str = ""
    ) -> tuple[NDArray[np.float32], float]:
        """Return the probability of each class, and the share of the volume that the network saw, as `labels`.

        A probability is what postprocessing makes of the answer before it is judged.
        Shapes: as `answer`; the probabilities are (class,). `orientation` as `labels` has it.
        Raises: as `answer`, and BundleFailed if the answer is not one number for a class.
        """
        turn = Turn.to(orientation[::-1], affine_lps)
        image = loaded_image(turn.turned(values).transpose(2, 1, 0), turn.affine(affine_lps, values.shape))
        answer, share = self._read(image, self.parts.unjudged)
        if answer.ndim == 0 or answer.numel() != answer.shape[0]:
            raise BundleFailed(f"the bundle's answer of {tuple(answer.shape)} is not one number for a class")
        return _array(answer).reshape(-1), share

    def _read(self, image: MetaTensor, postprocessing: Compose) -> tuple[Tensor, float]:
        """Return the network's answer to an image after postprocessing, and the share of the image that it saw."""
        data = self._preprocessed(image)
        share = seen_share(data[self.parts.image_key or "image"], image, self.parts.before)
        return self._postprocessed(data, postprocessing), share

    def _preprocessed(self, image: MetaTensor) -> dict[str, Any]:
        """Return the image as the network takes it, with what MONAI noted of the way there."""
        key = self.parts.image_key
        if bool((image == image.ravel()[0]).all()):
            raise UnusablePicture("all its voxels have one value; an image is read")
        refuse_excess(self.parts.preprocessing, image)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = self.parts.preprocessing({key: image} if key else image)
        except _READ_ERRORS as error:
            raise BundleFailed(f"the bundle's preprocessing cannot take the image: {_summary(error)}") from error
        return data if key else {"image": data}

    def _postprocessed(self, data: dict[str, Any], postprocessing: Compose) -> Tensor:
        """Return the network's answer to a preprocessed image after postprocessing."""
        key = self.parts.image_key or "image"
        if isinstance(self.network, Script):
            self.network.renew()
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                batch = list_data_collate([data])
                batch[key] = batch[key].to(self.device)
                batch[PREDICTION] = self.parts.inferer(batch[key], self.network)
                _refuse_infinite(batch[PREDICTION])  # an activation makes a 1 or a 0 of what is infinite
                (item,) = decollate_batch(batch, detach=True)
                answer = postprocessing(item)[PREDICTION]
        except UnusablePicture:
            raise
        except CheckpointRefused as error:
            raise BundleFailed(str(error)) from error
        except _READ_ERRORS as error:
            raise BundleFailed(f"the bundle cannot read the image: {_summary(error)}") from error
        if not isinstance(answer, Tensor):
            raise BundleFailed("the bundle's postprocessing leaves no answer of its network")
        _refuse_infinite(answer)
        return answer


def parts(resolver: Resolver) -> Parts:
    """Return the built parts beside the network.

    Raises: BundleRefused, as the resolver does, and if a part is of another kind or loads no image.
    """
    preprocessing, postprocessing = resolver.part("preprocessing"), resolver.part("postprocessing")
    inferer = resolver.part("inferer")
    for name, part in (("preprocessing", preprocessing), ("postprocessing", postprocessing)):
        if not isinstance(part, Compose):
            raise resolver.tree.refusal(name, resolver.tree.at(name), "a Compose of transforms is taken")
    if isinstance(inferer, Transform | nn.Module) or not callable(inferer):
        raise resolver.tree.refusal("inferer", resolver.tree.at("inferer"), "an inferer of MONAI is taken")
    row = _row(preprocessing)
    rows = [transform for transform in row if isinstance(transform, PresentImage)]
    if len(rows) != 1 or row[0] is not rows[0]:
        raise resolver.tree.refusal("preprocessing", resolver.tree.at("preprocessing"), "LoadImaged, once, comes first")
    return Parts(preprocessing, inferer, postprocessing, rows[0].key)


def network(resolver: Resolver) -> nn.Module:
    """Return the network that `network_def` describes, with the weights of its making.

    Raises: BundleRefused.
    """
    built = resolver.part("network_def")
    if not isinstance(built, nn.Module):
        raise resolver.tree.refusal("network_def", resolver.tree.at("network_def"), "a network of MONAI is taken")
    return built


def reader(folder: Path, device: str = "cpu", names: Sequence[PurePosixPath] | None = None) -> Reader:
    """Return a bundle's reader, with its weights loaded; `names` are the only files of the folder that count.

    Raises: BundleRefused; CheckpointRefused if the weights are not those of the network.
    """
    contents = Contents.of(folder, names)
    resolver = Resolver(contents.tree, device)
    built = parts(resolver)
    if contents.weights.suffix == ".ts":
        return Reader(built, Script(contents.weights, device), device)
    module = checkpoints.load(network(resolver), contents.weights).to(device)
    return Reader(built, module.eval(), device)


def refuse_excess(preprocessing: Compose, image: MetaTensor) -> None:
    """Return unless resampling would make more voxels of an image than memory should hold.

    Raises: UnusablePicture.
    """
    for transform in _row(preprocessing):
        spacing = getattr(transform, "spacing_transform", transform)
        pixdim = getattr(spacing, "pixdim", None)
        if pixdim is None:
            continue
        steps = np.linalg.norm(image.affine[:3, :3].numpy(), axis=0)
        sides = np.broadcast_to(np.asarray(pixdim, np.float64).ravel(), 3) if np.size(pixdim) == 1 else pixdim
        target_mm = [float(side) if side and side > 0 else step for side, step in zip(sides, steps, strict=False)]
        voxels = np.prod([n * step / side for n, step, side in zip(image.shape, steps, target_mm, strict=False)])
        if voxels > _MAX_VOXELS:
            raise UnusablePicture(
                f"at a spacing of {tuple(target_mm)} mm the volume has {voxels:.2g} voxels; {_MAX_VOXELS} are read"
            )


def _refuse_infinite(answer: object) -> None:
    """Return if the numbers of an answer are finite; an answer in several tensors, if those of each are.

    Raises: UnusablePicture.
    """
    for tensor in answer if isinstance(answer, list | tuple) else (answer,):
        if isinstance(tensor, Tensor) and not bool(torch.isfinite(tensor).all()):
            raise UnusablePicture("the bundle's answer is not finite; nothing is said of the image")


def _row(transforms: Compose) -> tuple[Any, ...]:
    """Return the transforms of a row and of the rows in it."""
    return tuple(transforms.flatten().transforms)  # type: ignore[no-untyped-call]


def _array(answer: Tensor) -> NDArray[np.float32]:
    """Return a tensor as an array in memory of the processor."""
    plain = answer.as_tensor() if isinstance(answer, MetaTensor) else answer
    return plain.detach().cpu().float().numpy()


def _summary(error: Exception) -> str:
    """Return type and first line of an error of MONAI's, which speaks of shapes and keys."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {str(cause).splitlines()[0][:200] if str(cause) else ''}"
