"""NIfTI-1 as a program gets it and gives it: one volume of numbers, and where it lies in the patient.

Read here and not by a library: the file is a stranger's, and its header says how much memory a reader would take.
"""

import struct
import zlib
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ainode.node.imaging.geometry import Volume

# https://nifti.nimh.nih.gov/nifti-1: offsets in the header, and the numbers of data types.
_HEADER_BYTES: Final = 348
_DATA_AT: Final = 352
_DIM, _TYPE, _PIXDIM, _OFFSET, _SCALE = 40, 70, 76, 108, 112
_QFORM, _SFORM, _QUATERNION, _ROWS, _MAGIC = 252, 254, 256, 280, 344
_MM: Final = 2
_FLOAT32: Final = 16
_TYPES: Final = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_AXES: Final = 3
_GZIP: Final = b"\x1f\x8b"
_FLIP: Final = np.diag((-1.0, -1.0, 1.0, 1.0))
"""turns RAS of NIfTI into LPS of DICOM, and back"""
_MOST_LABEL: Final = 255
# nifti1_io.c, nifti_quatern_to_mat44: below this the first number is 0, for rounded numbers would turn the volume.
_HALF_TURN: Final = 1e-7


class UnfitMask(Exception):
    """A file is no label map that can be laid over the images; the words hold nothing of the file."""


@dataclass(frozen=True, slots=True)
class Labels:
    """A label map: values (i, j, k), and the matrix from its indices to LPS mm."""

    values: NDArray[np.uint8]
    to_lps: NDArray[np.float64]


def nifti_bytes(scan: Volume) -> bytes:
    """Return a volume as an uncompressed NIfTI-1 file of 32-bit floats, its indices to the left, the back, the head."""
    matrix = np.eye(4)
    for axis in range(_AXES):
        matrix[:3, _AXES - 1 - axis] = np.asarray(scan.axes[axis]) * scan.spacing_mm[axis]
    matrix[:3, 3] = scan.origin_mm
    depth, rows, columns = scan.values.shape
    header = bytearray(_DATA_AT)
    struct.pack_into("<i", header, 0, _HEADER_BYTES)
    struct.pack_into("<8h", header, _DIM, _AXES, columns, rows, depth, 1, 1, 1, 1)
    struct.pack_into("<2h", header, _TYPE, _FLOAT32, 32)
    struct.pack_into("<4f", header, _PIXDIM, 1.0, *scan.spacing_mm[::-1])
    struct.pack_into("<3f", header, _OFFSET, float(_DATA_AT), 1.0, 0.0)
    header[123] = _MM
    struct.pack_into("<2h", header, _QFORM, 0, 1)
    struct.pack_into("<12f", header, _ROWS, *(_FLIP @ matrix)[:3].ravel())
    header[_MAGIC : _MAGIC + 4] = b"n+1\0"
    return bytes(header) + scan.values.astype("<f4", copy=False).tobytes()


def labels(content: bytes, voxel_count: int) -> Labels:
    """Return the label map in the bytes of a file, gzipped or not; as many voxels as the images have are expected.

    Raises: UnfitMask.
    """
    if content[:2] == _GZIP:
        content = _unpacked(content, _DATA_AT + (1 << 20) + 8 * voxel_count)
    order = next((order for order in "<>" if content[:4] == struct.pack(f"{order}i", _HEADER_BYTES)), "")
    if not order or len(content) < _DATA_AT or content[_MAGIC : _MAGIC + 3] != b"n+1":
        raise UnfitMask("it is no NIfTI-1 file of one part")
    dimensions = struct.unpack_from(f"{order}8h", content, _DIM)
    shape = dimensions[1:4]
    if not _AXES <= dimensions[0] <= 7 or any(size != 1 for size in dimensions[4 : dimensions[0] + 1]):  # noqa: PLR2004
        raise UnfitMask("it is no single volume")
    if min(shape) < 1 or int(np.prod(shape, dtype=np.int64)) != voxel_count:
        raise UnfitMask(f"it has {shape[0]} x {shape[1]} x {shape[2]} voxels, which is not the size of the images")
    return Labels(_values(content, order, shape), _FLIP @ _to_ras(content, order, shape))


def _unpacked(content: bytes, most_bytes: int) -> bytes:
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = inflate.decompress(content, most_bytes)
    except zlib.error as error:
        raise UnfitMask("it cannot be unpacked") from error
    if inflate.unconsumed_tail or not inflate.eof:
        raise UnfitMask("it is cut off, or unpacks to more than the images need")
    return plain


def _values(content: bytes, order: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    (kind,) = struct.unpack_from(f"{order}h", content, _TYPE)
    offset, slope, intercept = struct.unpack_from(f"{order}3f", content, _OFFSET)
    if kind not in _TYPES or (slope, intercept) not in {(0.0, 0.0), (1.0, 0.0)}:
        raise UnfitMask("its values are no plain numbers: labels of 0 to 255, not scaled, are read")
    count = int(np.prod(shape, dtype=np.int64))
    dtype = np.dtype(f"{order}{_TYPES[kind]}")
    if not _DATA_AT <= offset <= len(content) or int(offset) + count * dtype.itemsize > len(content):
        raise UnfitMask("it is cut off")
    values: NDArray[Any] = np.frombuffer(content, dtype, count, int(offset))
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.uint8)
        is_label = np.isfinite(values).all() and bool((whole == values).all())
    if not is_label:
        raise UnfitMask(f"a value is no whole number of 0 to {_MOST_LABEL}")
    return whole.reshape(shape, order="F")


def _to_ras(content: bytes, order: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the matrix from indices to RAS mm: by the sform, else by the qform.

    Raises: UnfitMask where there is none, or both are there and name different places.
    """
    by_quaternion, by_rows = struct.unpack_from(f"{order}2h", content, _QFORM)
    matrix = np.eye(4)
    if by_rows > 0:
        matrix[:3] = np.asarray(struct.unpack_from(f"{order}12f", content, _ROWS)).reshape(3, 4)
    elif by_quaternion > 0:
        matrix[:3] = _by_quaternion(content, order)
    else:
        raise UnfitMask("it does not say where it lies in the patient (no sform, no qform)")
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:  # noqa: PLR2004
        raise UnfitMask("it does not say where it lies in the patient")
    if by_rows > 0 and by_quaternion > 0 and not _is_same(matrix[:3], _by_quaternion(content, order), shape):
        raise UnfitMask("its sform and its qform name different places: programs read one or the other")
    return matrix


def _is_same(by_rows: NDArray[np.float64], by_quaternion: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    """Return whether two matrices of (3, 4) put each corner of a volume within half of its smallest step."""
    corners = np.asarray([(*corner, 1) for corner in product(*((0, size - 1) for size in shape))], np.float64)
    smallest_step = float(np.linalg.norm(by_rows[:, :3], axis=0).min())
    distances = np.linalg.norm(corners @ (by_rows - by_quaternion).T, axis=1)
    return bool((distances <= smallest_step / 2).all())  # a qform that is no number is another


def _by_quaternion(content: bytes, order: str) -> NDArray[np.float64]:
    b, c, d, x, y, z = struct.unpack_from(f"{order}6f", content, _QUATERNION)
    sign, *steps = struct.unpack_from(f"{order}4f", content, _PIXDIM)
    rest = 1.0 - b * b - c * c - d * d
    a = np.sqrt(max(0.0, rest))
    if rest < _HALF_TURN:
        length = np.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / length, c / length, d / length
    turn = np.asarray(
        (
            (a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)),
            (2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)),
            (2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c),
        )
    )
    steps[2] *= -1.0 if sign < 0 else 1.0
    return np.column_stack((turn * np.asarray(steps), (x, y, z)))
