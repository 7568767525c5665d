"""The options of a reading of files: points, body part, and what depends on the handler."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from ainode.node.domain import Position
from ainode.node.errors import ConfigError
from ainode.node.offline.conversion import PictureKind
from ainode.node.offline.zip_files import TRUSTED, Bounds


class PointKind(StrEnum):
    """The meaning of the three numbers of a point."""

    MM = "mm"
    """patient coordinates, LPS"""
    INDEX = "index"
    """voxel i,j,k of the file from 0; in a DICOM series column, row and slice along the normal of the slices"""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The options of `ainode read`, and the properties of the handler that they depend on."""

    points: tuple[Position, ...] = ()
    """one point per study, oldest study first; or one point, of the newest study; any number for a lone study"""
    points_of_paths: tuple[Position | None, ...] | None = None
    """a point, or none, for each path; then `points` is empty, and the studies of a path have the point of the path"""
    point_kind: PointKind = PointKind.MM
    picture_kind: PictureKind = PictureKind.PHOTOGRAPH
    body_part: str = ""
    """Body Part Examined of the files that are not DICOM"""
    time_points: int = 1
    """number of studies of a patient that the handler compares; 1: the handler reads each study by itself"""
    zip_bounds: Bounds = TRUSTED
    repair_uids: bool = False
    """read copies with valid UIDs of files whose UIDs break the rules of DICOM"""


def read_options(
    points: Iterable[str], *, point_is: str = PointKind.MM, body_part: str = "", repair_uids: bool = False
) -> ReadOptions:
    """Return the options of the command line.

    Raises: ConfigError if a point is not three numbers, or the body part cannot be a Body Part Examined.
    """
    if point_is not in set(PointKind):
        raise ConfigError(f"--point-is {point_is!r} is neither mm nor index")
    if not re.fullmatch(r"[A-Z0-9 _]{0,16}", body_part.upper()):
        raise ConfigError(f"--body-part {body_part!r} is no term of up to 16 letters, as CHEST, ABDOMEN, HAND")
    return ReadOptions(
        tuple(map(_point, points)),
        point_kind=PointKind(point_is),
        body_part=body_part.upper(),
        repair_uids=repair_uids,
    )


def _point(text: str) -> Position:
    """Return the three numbers of `X,Y,Z`.

    Raises: ConfigError.
    """
    try:
        x, y, z = (float(number) for number in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--point {text!r} is no X,Y,Z, as -95.7,-145,-66.1") from error
    if not all(map(isfinite, (x, y, z))):
        raise ConfigError(f"--point {text!r} has a number that is not finite")
    return x, y, z
