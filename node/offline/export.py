"""De-identified copies of studies that the node holds, for an evaluation elsewhere.

The folder has a folder for each patient, in it a folder for each study, and `truths.csv`: a row for each study, whose
labels a person fills in for `ainode evaluate --external`. Nothing in it names a patient or leads back to one; the table
of both UIDs is written apart, and only where it was asked for.
"""

import csv
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmread

from ainode.node.domain import UID
from ainode.node.errors import ConfigError
from ainode.node.imaging.decoding import BROKEN_FILE
from ainode.node.keeping.catalog import StoredInstance
from ainode.node.offline.codestream_comments import UnknownBytes
from ainode.node.offline.deidentification import Pseudonyms, deidentified, refusal

_KEY_BYTES: Final = 32
_OWNER_ALONE: Final = 0o600
_FOLDER_OF_OWNER: Final = 0o700


@dataclass(frozen=True, slots=True)
class ExportedStudy:
    """A study of which copies were written."""

    study_instance_uid: UID
    """of the received study"""
    pseudonym_uid: str
    patient: str
    """pseudonym"""
    folder: Path
    """below the folder of the export"""
    images: int


@dataclass(slots=True)
class Export:
    """What was written, and what stays here."""

    studies: list[ExportedStudy] = field(default_factory=list)
    left_out: Counter[tuple[UID, str]] = field(default_factory=Counter)
    """objects of a study for each reason"""


def key_of(path: Path | None) -> bytes:
    """Return the key of a file, which is made if it is absent; a key that nobody keeps without a path.

    Raises: ConfigError if the file holds no key of this command.
    """
    if path is None:
        return secrets.token_bytes(_KEY_BYTES)
    if not path.exists():
        _write_for_owner(path, [[secrets.token_hex(_KEY_BYTES)]])
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ConfigError(f"{path}: is no key of `ainode export`; name a file that does not exist, to have one made")
    return key


def export(
    studies: Sequence[UID],
    instances_of: Callable[[UID], Iterable[StoredInstance]],
    folder: Path,
    pseudonyms: Pseudonyms,
    *,
    pixels_were_seen: bool = False,
) -> Export:
    """Write de-identified copies of the images of studies into a new folder; what may not leave is counted.

    Where nothing may leave, the folder stays empty.
    Raises: ConfigError if the folder is not empty, or if the node does not hold a study.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: is not empty; copies of other patients may lie in it")
    for study in studies:
        if not any(instances_of(study)):
            raise ConfigError(f"study {study}: the node holds no image of it; `ainode jobs` lists its studies")
    folder.mkdir(mode=_FOLDER_OF_OWNER, parents=True, exist_ok=True)
    done = Export()
    for study in dict.fromkeys(studies):
        instances = instances_of(study)
        exported = _export_study(study, instances, folder, pseudonyms, done, pixels_were_seen=pixels_were_seen)
        if exported is not None:
            done.studies.append(exported)
    if not done.studies:
        return done
    rows = [[study.folder, "", study.patient] for study in done.studies]
    _write_for_owner(folder / "truths.csv", [["path", "label", "patient"], *rows])
    return done


def write_crosswalk(path: Path, export: Export) -> None:
    """Write the table of both UIDs of each study, for its owner alone; it leads back to the patients."""
    rows = [[study.study_instance_uid, study.pseudonym_uid, study.patient] for study in export.studies]
    _write_for_owner(path, [["study_instance_uid", "exported_study_instance_uid", "exported_patient_id"], *rows])


def _export_study(
    study: UID,
    instances: Iterable[StoredInstance],
    folder: Path,
    pseudonyms: Pseudonyms,
    done: Export,
    *,
    pixels_were_seen: bool,
) -> ExportedStudy | None:
    """Write copies of a study; None if nothing of it may leave."""
    images, patient, inner = 0, "", Path()
    for stored in instances:
        copy, reason = _copy(stored.path, pseudonyms, pixels_were_seen=pixels_were_seen)
        if copy is None:
            done.left_out[study, reason] += 1
            continue
        if patient not in {"", copy.PatientID}:
            done.left_out[study, "is of another patient than the first image of the study"] += 1
            continue
        patient = str(copy.PatientID)
        inner = Path(patient, str(copy.StudyInstanceUID))
        (folder / inner).mkdir(mode=_FOLDER_OF_OWNER, parents=True, exist_ok=True)
        copy.save_as(folder / inner / f"{copy.SOPInstanceUID}.dcm", enforce_file_format=True)
        images += 1
    return ExportedStudy(study, pseudonyms.uid(study), patient, inner, images) if images else None


def _copy(path: Path, pseudonyms: Pseudonyms, *, pixels_were_seen: bool) -> tuple[Dataset | None, str]:
    """Return a copy that may leave, or None and the reason; a value of the file is in no reason."""
    try:
        dataset = dcmread(path)
        if reason := refusal(dataset, pixels_were_seen=pixels_were_seen):
            return None, reason
        return deidentified(dataset, pseudonyms), ""
    except UnknownBytes as error:
        return None, str(error)
    except BROKEN_FILE as error:
        return None, f"cannot be read whole ({type(error).__name__})"


def _write_for_owner(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a new file that its owner alone may read.

    Raises: ConfigError if the file exists.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ALONE)
    except FileExistsError:
        raise ConfigError(f"{path}: exists; nothing is overwritten") from None
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
