"""The checks that one study gets one answer, however its files come: permuted, split, compressed, turned."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from ainode.node import testing
from ainode.node.domain import OutOfScope, Result
from ainode.node.proving import edits
from ainode.node.proving.checks import Check, failed, judged, not_applicable, passed
from ainode.node.proving.prover import Attempt, Prover
from ainode.node.proving.sameness import EXACT, Move, Tolerance, differences, unmoved
from ainode.node.proving.studies import Case

TURNED: Final = Tolerance(absolute=1e-4, relative=1e-2, place_mm=1.0, pixels=1.0, dice=0.98)
"""a turned volume is resampled along other axes: its last digits differ, a hundredth of a size, a pixel of a place"""
_OF_PATIENT: Final = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "IssuerOfPatientID")
_OF_STUDY: Final = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber")
_SCREEN: Final = (256, 256)


@dataclass(frozen=True, slots=True)
class SameStudy:
    """The checks of one study, whose answer as it came is known."""

    case: Case
    prover: Prover
    answer: Result | OutOfScope
    folder: Path
    """where changed copies are written"""

    def checks(self) -> Iterator[Check]:
        """Yield each check as soon as it is made."""
        yield from self._permuted()
        yield from self._split()
        yield from self._compressed()
        yield from self.turned()

    def _held(self, name: str, attempt: Attempt, tolerance: Tolerance = EXACT, move: Move = unmoved) -> Check:
        """Return the check of one more reading of the same study."""
        if attempt.answer is None:
            return failed(name, attempt.words)
        return judged(name, differences(self.answer, attempt.answer, tolerance, move))

    def _copied(
        self,
        name: str,
        write: Callable[[Path], Sequence[Path]],
        *,
        tolerance: Tolerance = EXACT,
        move: Move = unmoved,
    ) -> Check:
        """Return the check of a reading of copies that `write` leaves in a folder."""
        with TemporaryDirectory(dir=self.folder) as folder:
            return self._held(name, self.prover.read(write(Path(folder))), tolerance, move)

    def _permuted(self) -> Iterator[Check]:
        yield self._copied("permuted, files shuffled and renamed", self._renamed)
        with TemporaryDirectory(dir=self.folder) as folder:
            attempt = self.prover.read(self._renamed(Path(folder)), is_shuffled=True)
            yield self._held("permuted, instances handed over in another order", attempt)
        name = "permuted, Instance Numbers that say nothing"
        if not self.case.is_stack:
            yield not_applicable(name, "the order of images without a place in the patient is their Instance Number")
            return
        yield self._copied(name, self._renumbered)

    def _renamed(self, folder: Path) -> list[Path]:
        count = len(self.case.paths)
        return [
            edits.copy(path, folder / f"IM{(number * 7919 + 3) % (10 * count + 9973):06d}_{number}")
            for number, path in enumerate(self.case.paths[::-1])
        ]

    def _renumbered(self, folder: Path) -> Sequence[Path]:
        numbers = iter(np.random.default_rng(len(self.case.paths)).permutation(len(self.case.paths)))

        def edit(item: Dataset) -> None:
            item.InstanceNumber = int(next(numbers)) + 1

        return edits.written(self.case.paths, folder / "copies", edit)

    def _split(self) -> Iterator[Check]:
        yield self._copied("split, over several folders", self._in_folders)
        name = "split, a series sent in two parts"
        images = self.case.image_paths
        if len(images) > 1:
            self.prover.read((*self.case.other_paths, *images[: len(images) // 2]))
            yield self._held(name, self.prover.read(self.case.paths))
        else:
            yield not_applicable(name, "the study has one image")
        yield self._foreign("split, beside a foreign series")

    def _in_folders(self, folder: Path) -> list[Path]:
        return [
            edits.copy(path, folder / f"part{number % 3}" / "same name" / f"{number // 3}.dcm")
            for number, path in enumerate(self.case.paths)
        ]

    def _foreign(self, name: str) -> Check:
        """Return the check beside a foreign series; a refusal may give another reason."""
        if not isinstance(self.answer, OutOfScope):
            return self._copied(name, self._beside_foreign)
        with TemporaryDirectory(dir=self.folder) as folder:
            attempt = self.prover.read(self._beside_foreign(Path(folder)))
        return passed(name, attempt.words) if isinstance(attempt.answer, OutOfScope) else failed(name, attempt.words)

    def _beside_foreign(self, folder: Path) -> list[Path]:
        screen = _screen(self.case.images[0])
        return [*self.case.paths, edits.save(screen, folder / "screen.dcm")]

    def _compressed(self) -> Iterator[Check]:
        for syntax, edit in edits.SYNTAXES.items():
            name = f"compressed, {syntax}" if syntax in edits.COMPRESSIONS else f"stored otherwise, {syntax}"
            if self.case.is_compressed:
                yield not_applicable(name, "the study is compressed already")
            elif reason := edits.missing_encoder(syntax):
                yield not_applicable(name, reason)
            else:
                yield self._copied(name, _edited(self.case.paths, edit))

    def turned(self) -> Iterator[Check]:
        """Yield the checks of the same images turned, and of their grays the other way round."""
        if self.case.is_stack:
            rows, columns = int(self.case.images[0].Rows), int(self.case.images[0].Columns)
            for name, turn in edits.TURNS.items():
                move = turn.back(rows, columns)
                write = _edited(self.case.paths, turn.edit)
                yield self._copied(f"turned, {name}", write, tolerance=TURNED, move=move)
        else:
            yield not_applicable("turned", "the images are no stack of slices with a place in the patient")
        name = "turned, grays the other way round (MONOCHROME1)"
        if self.case.images and all(map(edits.is_invertible, self.case.images)):
            yield self._copied(name, _edited(self.case.paths, edits.inverted), tolerance=TURNED)
        else:
            yield not_applicable(name, "the images are no projections in gray")


def _edited(paths: Sequence[Path], edit: edits.Edit) -> Callable[[Path], Sequence[Path]]:
    return lambda folder: edits.written(paths, folder / "copies", edit)


def _screen(header: Dataset) -> Dataset:
    """Return a picture of a screen in the study of an image: of no interest to a model, as workstations send it."""
    item = Dataset()
    for keyword in (*_OF_PATIENT, *_OF_STUDY):
        if keyword in header:
            item[keyword] = header[keyword]
    if "SpecificCharacterSet" in header:
        item.SpecificCharacterSet = header.SpecificCharacterSet
    uid = header.StudyInstanceUID
    item.SOPClassUID, item.SOPInstanceUID = SecondaryCaptureImageStorage, testing.uid(uid, "screen")
    item.SeriesInstanceUID, item.SeriesNumber, item.InstanceNumber = testing.uid(uid, "screens"), 977, 1
    item.Modality, item.ConversionType, item.SeriesDescription = "OT", "WSD", "Screen"
    item.Rows, item.Columns = _SCREEN
    item.SamplesPerPixel, item.PhotometricInterpretation, item.PixelRepresentation = 1, "MONOCHROME2", 0
    item.BitsAllocated, item.BitsStored, item.HighBit = 8, 8, 7
    item.add_new("PixelData", "OB", np.random.default_rng(0).integers(0, 256, _SCREEN, np.uint8).tobytes())
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return item
