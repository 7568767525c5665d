"""What `ainode read` is given as studies: DICOM as it is, NRRD, NIfTI and pictures converted, points as locations."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from pathlib import Path

from pydicom import dcmread
from pydicom.config import disable_value_validation

from ainode.node.archive.search import Patient
from ainode.node.deciding import router
from ainode.node.disk import sha256_of
from ainode.node.domain import REQUEST, UID, Instance, Location, Position, Study
from ainode.node.encoding import headers
from ainode.node.errors import BrokenSeries, CannotUnderstand, ConfigError
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.offline import conversion
from ainode.node.offline.conversion import Converted, PictureKind
from ainode.node.offline.volume_files import Grid
from ainode.node.priors.rules import patient_difference
from ainode.node.settings import Settings


class PointKind(StrEnum):
    """How the numbers of a point are meant."""

    MM = "mm"
    """patient coordinates, LPS"""
    INDEX = "index"
    """voxel of the file, i,j,k from 0; of a DICOM series column, row and slice along the normal of its slices"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person says of the files."""

    points: tuple[Position, ...] = ()
    """one per study, oldest first, or one alone, of the newest of time points; of a lone study any number"""
    point_kind: PointKind = PointKind.MM
    picture_kind: PictureKind = PictureKind.PHOTOGRAPH
    body_part: str = ""
    """of what is no DICOM: Body Part Examined"""
    time_points: int = 1
    """how many studies of a patient the model compares; with 1 each study is read by itself"""


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is no DICOM instance, and why."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True)
class _Given:
    """A study, and the grid of the volume file it came from."""

    study: Study
    grid: Grid | None = None


def wish(points: Iterable[str], *, point_is: str, body_part: str) -> Wish:
    """Return what a person typed.

    Raises: ConfigError if a point is no three numbers, or the body part cannot be a Body Part Examined.
    """
    if point_is not in set(PointKind):
        raise ConfigError(f"--point-is {point_is!r} is neither mm nor index")
    if not re.fullmatch(r"[A-Z0-9 _]{0,16}", body_part.upper()):
        raise ConfigError(f"--body-part {body_part!r} is no term of up to 16 letters, as CHEST, ABDOMEN, HAND")
    return Wish(tuple(map(_point, points)), point_kind=PointKind(point_is), body_part=body_part.upper())


def _point(text: str) -> Position:
    try:
        x, y, z = (float(number) for number in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--point {text!r} is no X,Y,Z, as -95.7,-145,-66.1") from error
    if not all(map(isfinite, (x, y, z))):
        raise ConfigError(f"--point {text!r} has a number that is not finite")
    return x, y, z


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files, and every file below the folders."""
    for path in paths:
        if path.is_dir():
            yield from sorted(one for one in path.rglob("*") if one.is_file())
        else:
            yield path


def studies(paths: Iterable[Path], settings: Settings) -> tuple[tuple[Study, ...], tuple[Refused, ...]]:
    """Return the studies that lie in files and folders, and the files that are none of DICOM."""
    found: dict[UID, list[Instance]] = {}
    refused = []
    for path in files(paths):
        try:
            instance = headers.instance(path, sha256=sha256_of(path), keywords=router.keywords(settings.routes))
        except (CannotUnderstand, OSError) as error:
            refused.append(Refused(path, str(error)))
        else:
            found.setdefault(instance.ref.study_instance_uid, []).append(instance)
    return tuple(headers.study(tuple(instances)) for instances in found.values()), tuple(refused)


def gathered(
    paths: Sequence[Path], folder: Path, *, wish: Wish, settings: Settings
) -> tuple[tuple[Study, ...], tuple[Refused, ...]]:
    """Return what there is to read, each study with its priors and locations, and the files that are not read.

    Converted instances are written below `folder`. A file given by name that cannot be converted ends it all: with a
    time point less, the others would be read as what they are not.
    Raises: BrokenSeries, ConfigError.
    """
    if missing := [str(path) for path in paths if not path.exists()]:
        raise ConfigError(f"there is no file or folder {', '.join(missing)}")
    given, dicom = [], []
    for number, path in enumerate(paths):
        converted = _converted(path, folder / str(number), wish)
        if converted:
            given.append(_Given(_study(converted.paths, settings), converted.grid))
        else:
            dicom.append(path)
    found, refused = studies(dicom, settings)
    given += [_Given(study) for study in found]
    if wish.time_points > 1 and len(given) > 1:
        given = _ordered(given)
    located = _located(given, wish)
    if wish.time_points > 1 and located:
        *earlier, current = compared = located[-wish.time_points :]
        _refuse_shared_frames(compared)
        locations = tuple(one for study in (current, *earlier) for one in study.locations)
        located = [dataclasses.replace(current, priors=tuple(earlier), locations=locations)]
    return tuple(located), refused


def _converted(path: Path, folder: Path, wish: Wish) -> Converted | None:
    """Return what a path that is no DICOM became, None for DICOM; a folder of slices as pictures is one series."""
    try:
        if path.is_file() and conversion.is_volume(path):
            return conversion.volume(path, folder, body_part=wish.body_part)
        shown = _pictures(path)
        if shown:
            return conversion.pictures(shown, folder, kind=wish.picture_kind, body_part=wish.body_part)
    except BrokenSeries as error:
        raise BrokenSeries(f"{path}: {error}") from error
    return None


def _pictures(path: Path) -> tuple[Path, ...]:
    """Return the pictures of a path: of a folder all, unless DICOM is in it too, whose thumbnails they may be."""
    inside = tuple(files([path]))
    shown = tuple(one for one in inside if conversion.is_picture(one))
    return () if shown and path.is_dir() and any(_is_dicom(one) for one in inside) else shown


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _study(paths: Iterable[Path], settings: Settings) -> Study:
    keywords = router.keywords(settings.routes)
    return headers.study(headers.instance(path, sha256=sha256_of(path), keywords=keywords) for path in paths)


def _ordered(given: list[_Given]) -> list[_Given]:
    """Return the time points of one patient, oldest first: volumes as they were named, DICOM by date.

    Raises: ConfigError if they are not surely of one patient, or their order is not known.
    """
    if len({one.study.study_instance_uid for one in given}) < len(given):
        raise ConfigError("the same volume was given twice; give each time point once")
    if all(one.grid for one in given):
        return given
    if any(one.grid for one in given):
        raise ConfigError("volumes and DICOM cannot be compared: a volume names no patient and no date; give one kind")
    known = [(*_patient_and_time(one.study), one) for one in given]
    _, _, first = known[0]
    for patient, time, one in known:
        uid = one.study.study_instance_uid
        if why := patient_difference(patient, known[0][0], allow_missing_birth_date=True):
            beside = first.study.study_instance_uid
            raise ConfigError(f"study {uid} cannot be read beside {beside}: {why}; give studies of one patient")
        if not time[0] or sum(time == other for _, other, _ in known) > 1:
            raise ConfigError(f"study {uid} has no date of its own; which is the newest cannot be told")
    return [one for _, _, one in sorted(known, key=lambda entry: entry[1])]


def _patient_and_time(study: Study) -> tuple[Patient, tuple[str, str]]:
    with disable_value_validation():
        header = dcmread(study.instances[0].path, stop_before_pixels=True)
    keywords = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDate", "StudyTime")
    patient_id, issuer, birth_date, date, time = (str(header.get(one) or "").strip() for one in keywords)
    return Patient(patient_id, issuer, birth_date), (date, time)


def _located(given: list[_Given], wish: Wish) -> list[Study]:
    """Return the studies with the points as their locations.

    Raises: ConfigError if it is not clear which point is whose, or one lies outside of the images.
    """
    return [
        dataclasses.replace(one.study, locations=tuple(_location(one, point, wish.point_kind) for point in share))
        for one, share in zip(given, _shares(given, wish), strict=True)
    ]


def _shares(given: list[_Given], wish: Wish) -> list[tuple[Position, ...]]:
    """Return the points of each study.

    Raises: ConfigError if it is not clear which point is whose.
    """
    points = wish.points
    if len(given) == 1:
        return [points]
    if len(points) == 1 and wish.time_points > 1:
        return [*[()] * (len(given) - 1), points]
    if points and len(points) != len(given):
        raise ConfigError(f"{len(points)} points for {len(given)} studies; give one --point per study, oldest first")
    if points and wish.time_points == 1 and not all(one.grid for one in given):
        raise ConfigError("this model reads one study at a time; give each with its points in a command of its own")
    return [points[at : at + 1] for at in range(len(given))]


def _refuse_shared_frames(studies: Sequence[Study]) -> None:
    """Refuse a point of an earlier study that could as well be of another: only its frame of reference tells whose.

    Raises: ConfigError.
    """
    frames = Counter(uid for study in studies for uid in {one.text("FrameOfReferenceUID") for one in study.instances})
    for study in studies[:-1]:
        if any(one.frame_of_reference_uid == "" or frames[one.frame_of_reference_uid] > 1 for one in study.locations):
            uid = study.study_instance_uid
            what = "its images have none or several at that point, or share it with another study"
            raise ConfigError(
                f"the point of study {uid} has no Frame of Reference UID of its own: {what}; "
                "give one --point alone, which is of the newest study"
            )


def _location(given: _Given, point: Position, kind: PointKind) -> Location:
    found = (stack(series.instances) for series in given.study.series)
    stacks = [one for one in found if isinstance(one, Stack)]
    said = ",".join(f"{number:g}" for number in point)
    position = _position(given.grid, stacks, point) if kind is PointKind.INDEX else point
    around = [one for one in stacks if one.holds(position)]
    if stacks and not around:
        hint = "it is meant as i,j,k from 0" if kind is PointKind.INDEX else "it is meant in LPS mm (see --point-is)"
        raise ConfigError(f"point {said} is outside of the images of study {given.study.study_instance_uid}; {hint}")
    series = around[0].instances[0].ref.series_instance_uid if len(around) == 1 else UID("")
    frames = {one.frame_of_reference_uid for one in around}
    return Location(position, REQUEST, frames.pop() if len(frames) == 1 else UID(""), series_instance_uid=series)


def _position(grid: Grid | None, stacks: Sequence[Stack], index: Position) -> Position:
    if grid:
        return grid.position(index)
    if len(stacks) != 1:
        raise ConfigError(f"a voxel index needs one series of slices, here are {len(stacks)}; give the point in mm")
    column, row, slice_ = index
    return stacks[0].position(slice_, row, column)
