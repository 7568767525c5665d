"""The studies that the kit reads: the handler's own synthetic study, or studies of a folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmread

from ainode.node import testing
from ainode.node.domain import UID
from ainode.node.errors import ConfigError
from ainode.node.offline import inputs
from ainode.node.proving import edits
from ainode.node.reading import registry
from ainode.node.reading.boundary import boundary
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.settings import Settings

# Words that no model has a reason to say, so that a text with one of them has it from the header.
_PATIENT: Final = {
    "PatientName": "Quokkamark^Zebulina",
    "PatientID": "KITPATIENT7351",
    "PatientBirthDate": "19370213",
    "AccessionNumber": "KITACC7351",
    "ReferringPhysicianName": "Numbatdoctor^Yolanda",
    "InstitutionName": "Bilbyhospital",
}
# Shorter words occur by chance.
_LEAST_LENGTH: Final = 4


@dataclass(frozen=True)
class Case:
    """One study on the disk."""

    study_instance_uid: UID
    paths: tuple[Path, ...]

    @cached_property
    def headers(self) -> tuple[Dataset, ...]:
        """Return the header of each file, in the order of the paths; of an object without pixels the whole of it."""
        return tuple(dcmread(path, stop_before_pixels=True) for path in self.paths)

    @cached_property
    def image_paths(self) -> tuple[Path, ...]:
        """Return the files with pixels."""
        return tuple(path for path, header in zip(self.paths, self.headers, strict=True) if edits.is_image(header))

    @cached_property
    def images(self) -> tuple[Dataset, ...]:
        """Return the headers of the files with pixels."""
        return tuple(header for header in self.headers if edits.is_image(header))

    @property
    def other_paths(self) -> tuple[Path, ...]:
        """Return the files without pixels, such as a report that points at a nodule."""
        return tuple(path for path in self.paths if path not in set(self.image_paths))

    @property
    def is_stack(self) -> bool:
        """Return whether every image is a slice with a place in the patient."""
        return len(self.images) > 1 and all(map(edits.is_turnable, self.images))

    @property
    def is_compressed(self) -> bool:
        """Return whether some image is compressed."""
        return any(map(edits.is_encapsulated, self.images))


def synthetic_case(handler: str, models: ModelEnvironment, seed: int, folder: Path) -> Case:
    """Write the handler's own synthetic study, of a patient with names that no model would say by itself.

    Raises: ConfigError if the handler makes none.
    """
    name = f"kit of {handler}, seed {seed}"
    with boundary(handler, "in demonstration()", ConfigError):
        synthetic = registry.handler(handler, models).demonstration(seed)
        paths = testing.write(synthetic.images, folder / "made", study=name, positions_mm=synthetic.positions_mm)
    if not paths:
        raise ConfigError(f"handler {handler!r}: demonstration() has no image; give --data")
    copies = edits.written(paths, folder / "study", _name_patient, of_images=False)
    return Case(UID(testing.uid(name)), copies)


def _name_patient(item: Dataset) -> None:
    for keyword, value in _PATIENT.items():
        setattr(item, keyword, value)


def cases_in(data: Path, settings: Settings) -> Iterator[Case]:
    """Yield each DICOM study of a folder.

    Raises: ConfigError if there is none.
    """
    if not data.exists():
        raise ConfigError(f"--data {data}: there is no such folder")
    studies, unread = inputs.dicom_studies([data], settings)
    if not studies:
        reason = f"; the first file: {unread[0].reason}" if unread else ""
        raise ConfigError(f"--data {data}: no DICOM study is in it{reason}")
    for study in studies:
        yield Case(study.study_instance_uid, tuple(instance.path for instance in study.instances))


def patient_words(headers: Sequence[Dataset]) -> dict[str, str]:
    """Return what must not stand in a text of the answer: each word of a patient's attributes, and the attribute."""
    words = {}
    for header in headers:
        for keyword in (*_PATIENT, "OtherPatientIDs", "PatientAddress", "OperatorsName", "PerformingPhysicianName"):
            for word in str(header.get(keyword) or "").replace("^", " ").replace("\\", " ").split():
                if len(word) >= _LEAST_LENGTH:
                    words[word.casefold()] = keyword
    return words
