"""What kind of file a file is, by its bytes: a suffix may be missing, in capitals or wrong."""

import gzip
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

_HEAD_BYTES: Final = 1024
_DICM_OFFSET: Final = 128
# NIfTI-1 and NIfTI-2: length of the header, magic and its offset. Source: https://nifti.nimh.nih.gov.
_NIFTI_1_BYTES, _NIFTI_1_MAGIC = 348, 344
_NIFTI_2_BYTES, _NIFTI_2_MAGIC = 540, 4
_META_IMAGE: Final = re.compile(rb"(\xef\xbb\xbf)?\s*(Comment|ObjectType|ObjectSubType|NDims)\s*=")
# Letters, digits and signs of a text in ASCII or UTF-8; no DICOM data set begins with so many.
_TEXT: Final = re.compile(rb"(\xef\xbb\xbf)?[\t\n\r\x20-\x7e\x80-\xff]{8,}\Z")
_JPEG_2000: Final = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\xff\x0a", b"\0\0\0\x0cJXL ")
_OTHER_VOLUMES: Final = (b"# vtk DataFile", b"\x93NUMPY", b"MATLAB 5.0", b"CDF\x01", b"CDF\x02", b"MATRIX7")
_PACKED: Final = (b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"\xfd7zXZ\0", b"BZh", b"\x28\xb5\x2f\xfd")
_FILMS: Final = frozenset({b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"qt  ", b"M4V ", b"3gp4", b"3gp5"})


class FileKind(StrEnum):
    """The kinds that `ainode read` knows."""

    DICOM = "dicom"
    NRRD = "nrrd"
    NIFTI = "nifti"
    PICTURE = "picture"
    ZIP = "zip"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FileFormat:
    """The kind of a file; `remedy` says what a file that is not read is, and what to make of it."""

    kind: FileKind
    remedy: str = ""


_PAIR: Final = "one half of an image in two files (.hdr and .img); save the image as a single .nii"
_REMEDIES: Final[tuple[tuple[Callable[[bytes], object], str], ...]] = (
    (_META_IMAGE.match, "a MetaImage file (.mha, .mhd); save it as NRRD or NIfTI, as 3D Slicer and ITK-SNAP do"),
    (lambda head: head[4:8] == b"ftyp" and head[8:12] in _FILMS, "a film; save a single picture of it as PNG"),
    (lambda head: head[4:8] == b"ftyp" and head[8:12] == b"crx ", "a raw file of a camera; save it as JPEG or TIFF"),
    (lambda head: head[4:8] == b"ftyp", "a HEIC or AVIF photograph; save it as JPEG or PNG"),
    (lambda head: head.startswith(_JPEG_2000), "a JPEG 2000 or JPEG XL picture; save it as PNG"),
    (lambda head: head[:2] == b"BM" or head[:4] == b"GIF8", "a BMP or GIF picture; save it as PNG"),
    (lambda head: head[:4] == b"8BPS", "a Photoshop document; save it as PNG"),
    (lambda head: re.match(rb"P[1-7]\s+\d", head), "a PNM picture; save it as PNG"),
    (lambda head: head[:4] == b"%PDF", "a PDF document; give the images themselves"),
    (lambda head: head.startswith(_PACKED) or head[257:262] == b"ustar", "an archive; unpack it, or zip it"),
    (lambda head: head[:3] == b"\x89HD", "an HDF5 or MINC 2 file; save the volume as NIfTI or NRRD"),
    (lambda head: head.startswith(_OTHER_VOLUMES), "a volume of another format; save it as NIfTI or NRRD"),
    (lambda head: head[:2] == b"MZ" or head[:4] == b"\x7fELF", "a program; give the images themselves"),
    (lambda head: not head, "empty; copy it again"),
)
_A_TEXT: Final = "a text; give the images themselves"
_PICTURES: Final[Mapping[bytes, int]] = {
    b"\x89PNG\r\n\x1a\n": 0,
    b"\xff\xd8\xff": 0,
    b"II*\0": 0,
    b"MM\0*": 0,
    b"WEBPVP8": 8,
}
"""the first bytes of a picture, and their offset"""
_NAMED: Final[Mapping[str, str]] = {
    ".nrrd": "NRRD",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WebP",
    ".zip": "ZIP",
}
"""what the end of a name promises; a file of one of these kinds begins as its kind does, whatever its name is"""


def format_of(path: Path) -> FileFormat:
    """Return what a file is; DICOM where nothing else fits, so that the reader of DICOM says what is missing.

    Raises: OSError.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[_DICM_OFFSET : _DICM_OFFSET + 4] == b"DICM":
        return FileFormat(FileKind.DICOM)
    if head[:4] == b"NRRD":
        return FileFormat(FileKind.NRRD)
    if head[:4] in {b"PK\x03\x04", b"PK\x05\x06"}:
        return FileFormat(FileKind.ZIP)
    if any(head[offset:].startswith(magic) for magic, offset in _PICTURES.items()):
        return FileFormat(FileKind.PICTURE)
    if is_gzip(head):
        return _nifti_format(_unpacked_head(path)) or FileFormat(FileKind.OTHER, "a gzip file; unpack it")
    return _nifti_format(head) or _other_format(path, head)


def kind_suffix(name: str) -> str:
    """Return the end of a file's name that promises a kind of file, such as `.nrrd`; '' for any other name.

    A stranger's name may be no path, but its end belongs to the file: it is one of a few that stand here.
    """
    return next((suffix for suffix in _NAMED if name.lower().endswith(suffix)), "")


def is_gzip(head: bytes) -> bool:
    """Return whether these are the first bytes of a gzip file (RFC 1952)."""
    return head[:2] == b"\x1f\x8b"


def _unpacked_head(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(_HEAD_BYTES)
    except (EOFError, OSError, zlib.error):
        return b""


def _nifti_format(head: bytes) -> FileFormat | None:
    """Return the format of a NIfTI file or of a half of an Analyze pair, None for another file."""
    lengths = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    if _NIFTI_2_BYTES in lengths and head[_NIFTI_2_MAGIC : _NIFTI_2_MAGIC + 3] == b"n+2":
        return FileFormat(FileKind.NIFTI)
    if _NIFTI_1_BYTES not in lengths:
        return None
    if head[_NIFTI_1_MAGIC : _NIFTI_1_MAGIC + 4] == b"n+1\0":
        return FileFormat(FileKind.NIFTI)
    return FileFormat(FileKind.OTHER, _PAIR)


def _other_format(path: Path, head: bytes) -> FileFormat:
    for is_format, remedy in _REMEDIES:
        if is_format(head):
            return FileFormat(FileKind.OTHER, remedy)
    if path.suffix.lower() == ".img" and any(path.with_suffix(suffix).exists() for suffix in (".hdr", ".HDR")):
        return FileFormat(FileKind.OTHER, _PAIR)
    is_text = _TEXT.match(head)
    if promised := _NAMED.get(kind_suffix(path.name)):
        if is_text:
            return FileFormat(FileKind.OTHER, f"a text, no {promised} file, though its name says so; give the images")
        return FileFormat(FileKind.OTHER, f"no {promised} file, though its name says so; copy or save it again")
    return FileFormat(FileKind.OTHER, _A_TEXT) if is_text else FileFormat(FileKind.DICOM)
