"""NRRD and NIfTI files as voxels with their positions in the patient; a file with an unclear orientation is refused.

The packages that decode the files are imported on first use: a node that only receives DICOM has no such package.
"""

import gzip
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from io import BufferedIOBase
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ainode.node.domain import Position
from ainode.node.errors import BrokenSeries, ConfigError, installation
from ainode.node.imaging.geometry import triple
from ainode.node.offline.kinds import FileKind, format_of, is_gzip

# A whole-body CT has 512 x 512 x 1500 voxels; a larger header is an attack on the memory.
MAX_VOXELS = 2**29
# Cosine between axes: headers round to 6 digits, and 1e-4 moves a voxel 0.05 mm over 500 mm.
_MAX_COSINE = 1e-4
_AXIS_COUNT = 3
# Signs that turn a named space into LPS (NRRD definition, section 5, `space`).
_LPS_SIGNS_OF_SPACE: Mapping[str, tuple[int, int, int]] = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_LPS_OF_RAS = np.diag((-1.0, -1.0, 1.0))
# NIfTI-1 sform_code and qform_code of the scanner; 2 is the space of another image, which may be a template.
_SCANNER = 1
# The codes of spaces that are not the patient's.
_TEMPLATES: Mapping[int, str] = {3: "Talairach", 4: "MNI 152", 5: "another template"}
# Of a voxel: half a voxel may be the rounding of a quaternion; more is another place.
_MAX_DISAGREEMENT = 0.5
_NIFTI_2_BYTES = 540
# Padding and notes behind the voxels; what goes on longer is another image, or an attack.
_MOST_BEHIND_BYTES, _STEP_BYTES = 2**26, 2**20
# NIfTI-1 xyzt_units; a header without a unit is in mm by custom.
_MM_PER_UNIT: Mapping[str, float] = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_DECODE_ERRORS = (ArithmeticError, EOFError, LookupError, MemoryError, OSError, TypeError, ValueError, zlib.error)


@dataclass(frozen=True, slots=True)
class Grid:
    """Voxels on a rectangular grid.

    Shapes: values (k, j, i), the fastest axis of the file last; steps_mm: vectors to the next voxel along k, j, i.
    Units: scaled values; LPS mm; the origin is the center of the first voxel.
    """

    values: NDArray[Any] = field(repr=False)
    origin_mm: Position
    steps_mm: tuple[Position, Position, Position]

    def position(self, index: Position) -> Position:
        """Return the position of an index (i, j, k); fractions are allowed."""
        position = np.asarray(self.origin_mm) + np.asarray(index[::-1]) @ np.asarray(self.steps_mm)
        return triple(position)


def grid(path: Path) -> Grid:
    """Return the voxels of an NRRD or NIfTI file.

    Raises: BrokenSeries if the file is damaged, is not one volume, or does not define the orientation of the patient;
    ConfigError if the package that decodes the file is missing.
    """
    return _nrrd_grid(path) if format_of(path).kind is FileKind.NRRD else _nifti_grid(path)


def parts(path: Path) -> tuple[Path, ...]:
    """Return the files of a volume: the file itself, and the data file that a detached NRRD header names.

    Raises: BrokenSeries if the data file is not a file beside the header.
    """
    if format_of(path).kind is not FileKind.NRRD:
        return (path,)
    header = _nrrd_header(path)
    name = header.get("data file", header.get("datafile"))
    if name is None:
        return (path,)
    data = path.parent / str(name)
    if Path(str(name)).name != name or not data.is_file():
        raise BrokenSeries("the NRRD header names other files for its data than one beside it; save both as one .nrrd")
    return path, data


def _package(name: str, distribution: str) -> ModuleType:
    """Return an optional package.

    Raises: ConfigError if the package is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the package {distribution}, which decodes the file, is missing; {installation('read')}"
        ) from error


def _nrrd_grid(path: Path) -> Grid:
    """Return the grid of an NRRD file.

    Source: https://teem.sourceforge.net/nrrd/format.html (space, space directions, space origin).
    """
    nrrd = _package("nrrd", "pynrrd")
    header = _nrrd_header(path)
    parts(path)
    try:
        signs = _lps_signs(header)
        with path.open("rb") as file:
            nrrd.read_header(file)
            values = nrrd.read_data(header, file, str(path), index_order="C")
    except (*_DECODE_ERRORS, nrrd.NRRDError) as error:
        raise BrokenSeries(f"the NRRD file is damaged ({type(error).__name__}); export it again") from error
    affine = np.eye(4)
    affine[:3, :3] = (np.asarray(header["space directions"], np.float64) * signs).T
    affine[:3, 3] = np.asarray(header["space origin"], np.float64) * signs
    return _rectangular_grid(values, affine)


def _nrrd_header(path: Path) -> Mapping[str, Any]:
    """Return the header of an NRRD file.

    Raises: BrokenSeries if the header is damaged.
    """
    nrrd = _package("nrrd", "pynrrd")
    try:
        with path.open("rb") as file:
            header: Mapping[str, Any] = nrrd.read_header(file)
    except (*_DECODE_ERRORS, nrrd.NRRDError) as error:
        raise BrokenSeries(f"the NRRD file is damaged ({type(error).__name__}); export it again") from error
    return header


def _lps_signs(header: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the signs that turn the space of an NRRD header into LPS.

    Raises: BrokenSeries if the file is not one volume, or does not define the orientation of the patient.
    """
    kinds = [kind for kind in header.get("kinds", ()) if kind not in {"domain", "space"}]
    _refuse_unless_volume(tuple(int(size) for size in header["sizes"]), of_scalars=not kinds)
    space = str(header.get("space", "")).lower()
    if space not in _LPS_SIGNS_OF_SPACE or "space directions" not in header or "space origin" not in header:
        raise BrokenSeries(
            f"the NRRD file does not define the orientation of the patient (space {space or 'absent'}); "
            "save it with space LPS or RAS"
        )
    units = {str(unit).lower() for unit in header.get("space units", ())}
    if units - {"mm", "millimeter", "millimeters"}:
        raise BrokenSeries("the NRRD file is not in mm; save it with space units mm")
    return np.asarray(_LPS_SIGNS_OF_SPACE[space], np.float64)


def _nifti_grid(path: Path) -> Grid:
    """Return the grid of a NIfTI file.

    Source: https://nifti.nimh.nih.gov/nifti-1 (sform before qform, both to RAS; scl_slope, scl_inter).
    """
    nibabel = _package("nibabel", "nibabel")
    try:
        with path.open("rb") as file:
            packed = is_gzip(file.read(2))
            file.seek(0)
            # By the bytes: nibabel itself believes the suffix.
            with gzip.open(file) if packed else nullcontext(file) as stream:
                volume = _nifti_grid_of(_nifti_image(nibabel, stream))
                if packed:
                    _read_to_the_end(stream)
                return volume
    except (
        *_DECODE_ERRORS,
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        nibabel.wrapstruct.WrapStructError,
    ) as error:
        raise BrokenSeries(f"the NIfTI file is damaged ({type(error).__name__}); export it again") from error


def _read_to_the_end(stream: BufferedIOBase) -> None:
    """Read what lies behind the voxels, so that the checksum at the end of a gzip file is compared (RFC 1952).

    Raises: OSError, EOFError or zlib.error if the file is damaged; BrokenSeries if too much lies there.
    """
    for _ in range(_MOST_BEHIND_BYTES // _STEP_BYTES):
        if not stream.read(_STEP_BYTES):
            return
    raise BrokenSeries(
        f"the NIfTI file has more than {_MOST_BEHIND_BYTES >> 20} MiB behind its voxels; export it again"
    )


def _nifti_image(nibabel: ModuleType, stream: BufferedIOBase) -> Any:  # noqa: ANN401 - nibabel has no types
    """Return the image of a stream, of NIfTI-1 or NIfTI-2; its voxels are read from the stream."""
    length = stream.read(4)
    stream.seek(0)
    lengths = {int.from_bytes(length, "little"), int.from_bytes(length, "big")}
    return (nibabel.Nifti2Image if _NIFTI_2_BYTES in lengths else nibabel.Nifti1Image).from_stream(stream)


def _nifti_grid_of(image: Any) -> Grid:  # noqa: ANN401 - nibabel has no types
    """Return the grid of a NIfTI image.

    Raises: BrokenSeries.
    """
    shape = image.shape
    while len(shape) > _AXIS_COUNT and shape[-1] == 1:
        shape = shape[:-1]
    _refuse_unless_volume(shape, of_scalars=image.get_data_dtype().kind in "iuf")
    _refuse_unclear_orientation(image)
    scaled = image.dataobj.slope != 1 or image.dataobj.inter != 0
    values = np.asarray(image.dataobj, np.float32 if scaled else None)
    scale = _MM_PER_UNIT[image.header.get_xyzt_units()[0]]
    affine = np.asarray(image.affine, np.float64)
    affine[:3] = _LPS_OF_RAS @ affine[:3] * scale
    return _rectangular_grid(values.reshape(shape, order="F").transpose(), affine)


def _refuse_unclear_orientation(image: Any) -> None:  # noqa: ANN401 - nibabel has no types
    """Refuse an image whose two orientations disagree, or whose orientation is that of a template.

    Raises: BrokenSeries.
    """
    (sform, sform_code), (qform, qform_code) = image.get_sform(coded=True), image.get_qform(coded=True)
    if not (sform_code or qform_code):
        raise BrokenSeries(
            "the NIfTI file does not define the orientation of the patient: sform and qform codes are both 0"
        )
    codes = {int(sform_code), int(qform_code)}
    if (templates := sorted(codes & set(_TEMPLATES))) and _SCANNER not in codes:
        raise BrokenSeries(
            f"the NIfTI file is in the space of a template ({_TEMPLATES[templates[0]]}), not of the patient; give "
            "the image as it came from the scanner"
        )
    if sform_code and qform_code:
        corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * (*np.array(image.shape[:3]) - 1, 1)
        distance = np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max()
        if distance > _MAX_DISAGREEMENT * np.linalg.norm(qform[:3, :3], axis=0).min():
            raise BrokenSeries(
                f"the NIfTI file has two orientations that disagree by {distance:.1f} mm: sform (code {sform_code}), "
                f"qform (code {qform_code}); keep the orientation that is true of the patient in both"
            )


def _refuse_unless_volume(shape: tuple[int, ...], *, of_scalars: bool) -> None:
    """Refuse a file that is not one volume of numbers, or has too many voxels.

    Raises: BrokenSeries.
    """
    if len(shape) != _AXIS_COUNT or not of_scalars:
        size = " x ".join(map(str, shape))
        raise BrokenSeries(f"the file holds {size} values, no single volume of numbers; export one time point")
    voxels = int(np.prod(shape, dtype=object))
    if not 0 < voxels <= MAX_VOXELS:
        raise BrokenSeries(f"the file claims {voxels} voxels (1 to {MAX_VOXELS} are read)")


def _rectangular_grid(values: NDArray[Any], affine: NDArray[np.float64]) -> Grid:
    """Return the grid of an affine (i, j, k to LPS mm).

    Raises: BrokenSeries if the axes are not perpendicular, or a voxel is not a number.
    """
    steps = affine[:3, :3].T[::-1]
    lengths = np.linalg.norm(steps, axis=1)
    if not np.isfinite(affine).all() or not (lengths > 0).all():
        raise BrokenSeries("the file's orientation has no finite, positive spacing; export it again")
    cosines = steps @ steps.T / np.outer(lengths, lengths)
    if np.abs(cosines - np.eye(_AXIS_COUNT)).max() > _MAX_COSINE:
        raise BrokenSeries("the file's axes are not perpendicular (sheared); resample it to a rectangular grid")
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise BrokenSeries("the file has voxels that are no numbers; fill them, as with -1024 HU, and export it again")
    rows = (triple(steps[0]), triple(steps[1]), triple(steps[2]))
    return Grid(values, triple(affine[:3, 3]), rows)
