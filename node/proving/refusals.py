"""The checks that a study which the model is not for is refused in words, and never gets a probability."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import UID, MRImageStorage, UltrasoundImageStorage

from ainode.node import testing
from ainode.node.domain import OutOfScope
from ainode.node.errors import BrokenSeries, HandlerError
from ainode.node.proving import edits
from ainode.node.proving.checks import Check, failed, not_applicable, passed
from ainode.node.proving.prover import Attempt, Prover
from ainode.node.proving.studies import Case
from ainode.node.reading.boundary import SEE_THE_LOG
from ainode.node.reading.plain import HANDLER_IS_WRONG

_ULTRASOUND: Final = "US"
_FOOT, _HAND = "FOOT", "HAND"
_TOO_FEW_PIXELS: Final = 8
_TOO_LARGE: Final = 5
_TEXTS: Final = ("StudyDescription", "SeriesDescription", "ProtocolName", "RequestedProcedureDescription")
_REGIONS: Final = ("AnatomicRegionSequence", "PrimaryAnatomicStructureSequence", "ProcedureCodeSequence")
_NO_PATIENT_ID: Final = "the study states no Patient ID"
_ROUTE_PARTS: Final = "`body_part` of the route keeps others away"
_RESCALE: Final = ("RescaleSlope", "RescaleIntercept", "RescaleType")
Unfit = Callable[[Path], Sequence[Path]]
"""writes an unfit study into a folder, and returns its files"""


@dataclass(frozen=True, slots=True)
class Refusals:
    """The studies that are made unfit of one that is read."""

    case: Case
    prover: Prover
    folder: Path

    def checks(self) -> Iterator[Check]:
        """Yield each check as soon as it is made."""
        for name, (write, reason) in self._unfit().items():
            full_name = f"refused, {name}"
            yield not_applicable(full_name, reason) if reason else _refused(full_name, self._read(write))
        yield self._of_other_part("refused, another body part")

    def _read(self, write: Unfit) -> Attempt:
        with TemporaryDirectory(dir=self.folder) as folder:
            return self.prover.read(write(Path(folder)))

    def _of_other_part(self, name: str) -> Check:
        """Return the check of a foot; a model that reads a study without any body part does not go by the header."""
        first = self.case.images[0]
        if not (first.get("BodyPartExamined") or any(map(first.get, _REGIONS))):
            return not_applicable(name, "no header names a body part")
        attempt = self._read(self._edited(_other_part))
        if attempt.reading and not attempt.is_refused:
            unnamed = self._read(self._edited(_without_part))
            if unnamed.reading and not unnamed.is_refused:
                return not_applicable(
                    name, "it reads what names no body part, too: it goes by no header. " + _ROUTE_PARTS
                )
        return _refused(name, attempt)

    def _unfit(self) -> dict[str, tuple[Unfit, str]]:
        """Return how each unfit study is written, and why it cannot be; '' where it can."""
        first = self.case.images[0]
        is_stack = self.case.is_stack
        no_units = "" if first.get("Modality") == "CT" and "RescaleSlope" in first else "the images are no CT"
        return {
            "another modality": (self._edited(_other_modality), ""),
            "uniform images": (self._edited(_uniform), ""),
            "one slice of a stack": (self._one_slice, "" if is_stack else "the images are no stack of slices"),
            "two patients": (self._two_patients, "" if first.get("PatientID") else _NO_PATIENT_ID),
            "a CT without Hounsfield units": (self._edited(_without_units), no_units),
            "a wrong size": (self._edited(_enlarged if is_stack else _tiny), ""),
        }

    def _edited(self, edit: edits.Edit) -> Unfit:
        return lambda folder: edits.written(self.case.paths, folder / "copies", edit)

    def _one_slice(self, folder: Path) -> list[Path]:
        del folder
        images = self.case.image_paths
        return [images[len(images) // 2], *self.case.other_paths]

    def _two_patients(self, folder: Path) -> list[Path]:
        other = dcmread(self.case.image_paths[-1])
        other.PatientID = "KITPATIENT2"
        if len(self.case.image_paths) == 1:
            other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = UID(
                testing.uid(other.SOPInstanceUID, "of another patient")
            )
            return [*self.case.paths, edits.save(other, folder / "other.dcm")]
        others = [path for path in self.case.paths if path != self.case.image_paths[-1]]
        return [*others, edits.save(other, folder / "other.dcm")]


def _refused(name: str, attempt: Attempt) -> Check:
    """Return the check of a reading that has to be a refusal in words."""
    if isinstance(attempt.answer, OutOfScope):
        is_stated = bool(attempt.answer.reason.strip() and attempt.answer.code.strip())
        return passed(name, attempt.words) if is_stated else failed(name, "the refusal has no reason or no code")
    if attempt.reading:
        return failed(name, f"it was read: {attempt.words}")
    is_fault = str(attempt.error).endswith((SEE_THE_LOG, HANDLER_IS_WRONG))
    if isinstance(attempt.error, BrokenSeries) or (type(attempt.error) is HandlerError and not is_fault):
        return passed(name, attempt.words)
    return failed(name, f"it ended in an error that is no refusal: {attempt.words}")


def _other_modality(item: Dataset) -> None:
    is_ultrasound = item.get("Modality") == _ULTRASOUND
    item.Modality = "MR" if is_ultrasound else _ULTRASOUND
    item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = (
        MRImageStorage if is_ultrasound else UltrasoundImageStorage
    )


def _without_part(item: Dataset) -> None:
    for keyword in ("BodyPartExamined", *_TEXTS, *_REGIONS):
        if keyword in item:
            del item[keyword]


def _other_part(item: Dataset) -> None:
    part = _HAND if _FOOT in str(item.get("BodyPartExamined")) else _FOOT
    _without_part(item)
    item.BodyPartExamined, item.SeriesDescription = part, part.capitalize()


def _uniform(item: Dataset) -> None:
    pixels = edits.plain_pixels(item)
    pixels = np.full_like(pixels, round(float(pixels.mean())))
    item.PixelData = pixels.tobytes()


def _tiny(item: Dataset) -> None:
    pixels = edits.plain_pixels(item)
    small = np.ascontiguousarray(pixels[:_TOO_FEW_PIXELS, :_TOO_FEW_PIXELS])
    item.Rows, item.Columns = small.shape[:2]
    item.PixelData = small.tobytes()


def _enlarged(item: Dataset) -> None:
    item.PixelSpacing = [_TOO_LARGE * float(spacing) for spacing in item.PixelSpacing]


def _without_units(item: Dataset) -> None:
    for keyword in _RESCALE:
        if keyword in item:
            del item[keyword]
