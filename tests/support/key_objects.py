"""Key Object Selection documents as an archive writes them."""

from collections.abc import Sequence
from pathlib import Path

import highdicom
from highdicom.sr import CodedConcept
from pydicom import dcmread

from ainode.node import testing

# highdicom copies them from the images, and takes them for granted (PS3.3 C.7.1.1, C.7.2.1, type 2).
_COPIED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)


def key_object(title: str, paths: Sequence[Path], file: Path) -> Path:
    """Write a Key Object Selection document with a title of CID 7010 or 7011 about images of files; return the file."""
    images = [dcmread(path) for path in paths]
    for image in images:
        for keyword in _COPIED:
            image.setdefault(keyword, "")
    content = highdicom.ko.KeyObjectSelection(CodedConcept(title, "DCM", "as the archive says"), images)
    document = highdicom.ko.KeyObjectSelectionDocument(
        evidence=images,
        content=content,
        series_instance_uid=testing.uid("key objects", file.name),
        series_number=99,
        sop_instance_uid=testing.uid("key object", file.name),
        instance_number=1,
        manufacturer="ainode phantoms",
    )
    document.save_as(file, enforce_file_format=True)
    return file
