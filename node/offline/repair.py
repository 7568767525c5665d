"""Copies with valid UIDs of files whose UIDs break PS3.5 9.1, as in published data sets, where somebody asks for it."""

from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from ainode.node.disk import sha256_of
from ainode.node.domain import is_uid
from ainode.node.identity import made_uid

# What groups images must be there: a repaired value tells which images belong together, an absent value does not.
_GROUPING: Final = ("StudyInstanceUID", "SeriesInstanceUID")


def repaired(path: Path, folder: Path) -> Path | None:
    """Write a copy of a DICOM file with valid UIDs; None if its UIDs are not what is wrong with the file.

    Equal values become equal UIDs, in every file. A missing SOP Instance UID becomes a UID of the bytes.
    """
    try:
        dataset = dcmread(path)
    except (InvalidDicomError, EOFError, OSError, ValueError):
        return None
    if not all(str(dataset.get(keyword, "")) for keyword in _GROUPING):
        return None
    has_uid = bool(dataset.get("SOPInstanceUID"))
    if not has_uid:
        dataset.SOPInstanceUID = made_uid("repaired", sha256_of(path))
    if not _repair(dataset) and has_uid:
        return None
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{sha256_of(path)[:32]}.dcm"
    dataset.save_as(copy, enforce_file_format=True)
    return copy


def _repair(dataset: Dataset) -> bool:
    """Give every element of VR UI a valid value, at every level; return whether a value was none."""
    is_changed = False
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                is_changed |= _repair(item)
        elif element.VR == "UI" and element.value:
            values = [element.value] if isinstance(element.value, str) else list(element.value)
            if not all(is_uid(str(value)) for value in values):
                element.value = [value if is_uid(str(value)) else made_uid("repaired", str(value)) for value in values]
                is_changed = True
    return is_changed
