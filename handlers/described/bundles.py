"""A site's MONAI bundle as a handler: the bundle makes its own input and places its own answer."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ainode.handlers.classify import Classify, ImageAnswer
from ainode.handlers.described.base import DescribedReading
from ainode.handlers.described.segments import Labels
from ainode.handlers.segment import Segment
from ainode.models.errors import BundleFailed, ModelError
from ainode.node.errors import WeightsError
from ainode.node.imaging.geometry import Volume
from ainode.node.reading.described import DescribedModel
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.handlers.described.volumes import Scan
    from ainode.models.bundles.pipeline import Reader


class _BundleReading(DescribedReading):
    """A model whose file is that of a bundle."""

    reads_bundles = True

    @property
    def input_text(self) -> str:
        """Return how a volume becomes the network's input, in words."""
        orientation = self.description.input.orientation
        return "by the bundle's own preprocessing" + (f", in the orientation {orientation}" if orientation else "")

    def prepare(self) -> tuple[object, ...]:
        """Return the loaded bundle."""
        return (self._reader,)

    @cached_property
    def _reader(self) -> "Reader":
        return bundle_reader(self.environment, self.model)

    def _image(self, scan: "Scan") -> tuple[NDArray[np.float32], NDArray[np.float64], str]:
        """Return the values of a scan as they are, their affine, and the orientation that the bundle was made for.

        Raises: UnusablePicture if each slice has one value, or high values are dark.
        """
        scan.refuse_empty()
        network_input = self.description.input
        values = network_input.scaling.unit(scan.volume.values, is_inverted=scan.is_inverted)
        return values, affine_lps(scan.volume), network_input.orientation

    @contextmanager
    def _faults_of_the_bundle(self) -> Iterator[None]:
        """Raise WeightsError under the name of the model where the bundle fails."""
        try:
            yield
        except BundleFailed as error:
            raise WeightsError(f"{self.name}: {error}") from error


class BundleSegment(_BundleReading, Segment):
    """The handler of a bundle that gives each voxel of a volume a label."""

    def __init__(self, environment: ModelEnvironment, model: DescribedModel) -> None:
        super().__init__(environment, model)
        if self._marking.masks != "labels":
            raise self.description.output.wrong("masks", 'the answer of a bundle is a map: "labels"')

    def _volume_labels(self, scan: "Scan") -> tuple[Labels, float]:
        with self._faults_of_the_bundle():
            map_of_labels, share = self._reader.labels(*self._image(scan))
        answer = np.asarray(map_of_labels[np.newaxis], np.float32)
        return self._marking.labels(answer, map_of_labels.ndim, lambda labels, _: labels), share


class BundleClassify(_BundleReading, Classify):
    """The handler of a bundle that gives a volume a probability for each class."""

    def __init__(self, environment: ModelEnvironment, model: DescribedModel) -> None:
        super().__init__(environment, model)
        output = self.description.output
        if self._activation != "none":
            raise output.wrong("activation", 'a bundle makes its own probabilities: "none"')
        if self._is_shown:
            raise output.wrong("saliency", "of a bundle none is made: false")

    def _of_volume(self, scan: "Scan") -> ImageAnswer:
        from ainode.handlers.described.pictures import seen_text  # noqa: PLC0415 - brings cv2 along

        with self._faults_of_the_bundle():
            probabilities, share = self._reader.probabilities(*self._image(scan))
        return ImageAnswer(scan.middle, self._of_classes(probabilities), seen=seen_text(share, "volume"))


def bundle_reader(environment: ModelEnvironment, model: DescribedModel) -> "Reader":
    """Return the reader of a bundle of the very files that its description names.

    Raises: WeightsError.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that MONAI brings, on what a confined process may not do
        from ainode.models.bundles.pipeline import reader  # noqa: PLC0415 - MONAI takes seconds to import

    path = environment.weights.verified(model.name)
    files = (path, *(path for path, _ in model.entry.companions))
    names = tuple(PurePosixPath(file.relative_to(model.folder).as_posix()) for file in files)
    try:
        return reader(model.folder, names=names)
    except ModelError as error:
        raise WeightsError(f"{model.name}: {error}") from error


def affine_lps(volume: Volume) -> NDArray[np.float64]:
    """Return the matrix from indices (x, y, z) of a volume to millimeters of the patient."""
    affine = np.eye(4)
    affine[:3, :3] = (np.asarray(volume.axes) * np.asarray(volume.spacing_mm)[:, np.newaxis])[::-1].T
    affine[:3, 3] = volume.origin_mm
    return affine
