"""The studies of `ainode read`: DICOM unchanged, NRRD, NIfTI and pictures converted, the points as locations."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from pathlib import Path

from ainode.node.deciding import router
from ainode.node.domain import FARTHEST_MM, REQUEST, UID, Instance, Location, Position, Study, is_position
from ainode.node.encoding import headers
from ainode.node.encoding.same_content import same_data_set
from ainode.node.errors import BrokenSeries, CannotUnderstand, ConfigError
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.keeping.spool import content_sha256
from ainode.node.offline import conversion, repair, zip_files
from ainode.node.offline.conversion import ConvertedStudy, PictureKind
from ainode.node.offline.kinds import FileKind, format_of
from ainode.node.offline.volume_files import Grid
from ainode.node.priors.rules import patient_difference
from ainode.node.priors.shelf import study_identity
from ainode.node.settings import Settings

_NAMES = {
    FileKind.NRRD: "NRRD volume",
    FileKind.NIFTI: "NIfTI volume",
    FileKind.PICTURE: "picture",
    FileKind.ZIP: "ZIP archive",
}


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
    point_kind: PointKind = PointKind.MM
    picture_kind: PictureKind = PictureKind.PHOTOGRAPH
    body_part: str = ""
    """Body Part Examined of the files that are not DICOM"""
    time_points: int = 1
    """number of studies of a patient that the handler compares; 1: the handler reads each study by itself"""
    repair_uids: bool = False
    """read copies with valid UIDs of files whose UIDs break the rules of DICOM"""


@dataclass(frozen=True, slots=True)
class UnreadFile:
    """A file that is not a DICOM instance, and the reason."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a command gives to read."""

    studies: tuple[Study, ...]
    unread: tuple[UnreadFile, ...]
    repaired_files: frozenset[Path] = frozenset()
    """copies with valid UIDs that were read instead of files with wrong UIDs"""

    def notes(self, study: Study) -> tuple[str, ...]:
        """Return what the report of a study must say about its files."""
        count = sum(instance.path in self.repaired_files for instance in study.instances)
        return (f"UIDs of {count} files broke the rules of DICOM and were replaced (--repair-uids).",) if count else ()


@dataclass(frozen=True, slots=True)
class _InputStudy:
    """A study, and the grid of the volume file that it was converted from; None for other files."""

    study: Study
    grid: Grid | None = None


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


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield each file of `paths`, and every file below each folder of `paths`."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def dicom_studies(paths: Iterable[Path], settings: Settings) -> tuple[tuple[Study, ...], tuple[UnreadFile, ...]]:
    """Return the DICOM studies in files and folders, and the files that are not DICOM.

    Copies of an instance count once.
    """
    instances_by_study: dict[UID, list[Instance]] = {}
    copies: dict[tuple[UID, UID], Instance] = {}
    unread = []
    for path in files(paths):
        try:
            if remedy := _remedy(path):
                unread.append(UnreadFile(path, remedy))
                continue
            instance = headers.instance(path, sha256=content_sha256(path), keywords=router.keywords(settings.routes))
        except (CannotUnderstand, OSError) as error:
            unread.append(UnreadFile(path, str(error)))
        else:
            first_copy = copies.setdefault((instance.ref.study_instance_uid, instance.ref.sop_instance_uid), instance)
            if first_copy is instance:
                instances_by_study.setdefault(instance.ref.study_instance_uid, []).append(instance)
            elif first_copy.sha256 != instance.sha256 and not same_data_set(first_copy.path, path):
                uid = instance.ref.sop_instance_uid
                unread.append(UnreadFile(path, f"it has other content than {first_copy.path} under the same UID {uid}"))
    return tuple(headers.study(tuple(instances)) for instances in instances_by_study.values()), tuple(unread)


def _remedy(path: Path) -> str:
    """Return what a file is that is not DICOM, and what to do with the file; '' for DICOM.

    Raises: OSError.
    """
    file_format = format_of(path)
    if file_format.kind is FileKind.DICOM:
        return ""
    if file_format.kind is FileKind.OTHER:
        return f"it is {file_format.remedy}"
    return f"it is a {_NAMES[file_format.kind]}, not DICOM; `ainode read FILE --model NAME` reads the file itself"


def input_studies(paths: Sequence[Path], folder: Path, *, options: ReadOptions, settings: Settings) -> Inputs:
    """Return the studies to read, each with its priors and locations, and the files that are not read.

    The converted instances are written below `folder`. A file of `paths` that cannot be converted is left out; it ends
    the command where time points are compared: without one of them, the comparison of the others would be wrong.
    Raises: BrokenSeries, ConfigError.
    """
    if missing := [str(path) for path in paths if not path.exists()]:
        raise ConfigError(f"there is no file or folder {', '.join(missing)}")
    inputs, dicom_paths, unconverted = _converted_inputs(paths, folder, options, settings)
    studies, unread = dicom_studies(dicom_paths, settings)
    repaired_files: tuple[Path, ...] = ()
    if options.repair_uids:
        unread, repaired_files = _repaired(unread, folder / "repaired")
        studies, _ = dicom_studies([*dicom_paths, *repaired_files], settings)
    inputs += [_InputStudy(study) for study in studies]
    if options.time_points > 1 and len(inputs) > 1:
        inputs = _oldest_first(inputs)
    located = _located_studies(inputs, options)
    if options.time_points > 1 and located:
        located = [_current_with_priors(located[-options.time_points :])]
    return Inputs(tuple(located), (*unconverted, *unread), frozenset(repaired_files))


def _converted_inputs(
    paths: Sequence[Path], folder: Path, options: ReadOptions, settings: Settings
) -> tuple[list[_InputStudy], list[Path], list[UnreadFile]]:
    """Return the studies of the files that are not DICOM, the other paths, and the files that cannot be converted.

    Raises: BrokenSeries where time points are compared.
    """
    inputs, other_paths, unconverted = [], [], []
    for number, argument in enumerate(paths):
        try:
            path = _unpacked(argument, folder / str(number))
            converted = _converted_study(path, folder / str(number), options)
        except BrokenSeries as error:
            if options.time_points > 1:
                raise BrokenSeries(f"{argument}: {error}") from error
            unconverted.append(UnreadFile(argument, str(error)))
            continue
        if converted:
            inputs.append(_InputStudy(_study(converted.paths, settings), converted.grid))
        else:
            other_paths.append(path)
    return inputs, other_paths, unconverted


def _repaired(unread: Iterable[UnreadFile], folder: Path) -> tuple[tuple[UnreadFile, ...], tuple[Path, ...]]:
    """Return the files that stay unread, and copies with valid UIDs of the others."""
    still_unread, copies = [], []
    for file in unread:
        copy = repair.repaired(file.path, folder) if format_of(file.path).kind is FileKind.DICOM else None
        if copy:
            copies.append(copy)
        else:
            still_unread.append(file)
    return tuple(still_unread), tuple(copies)


def _current_with_priors(time_points: Sequence[Study]) -> Study:
    """Return the newest of several studies, with the others as its priors and the locations of all.

    Raises: ConfigError if the frame of reference of a location does not tell its study.
    """
    _refuse_shared_frames(time_points)
    *priors, current = time_points
    locations = tuple(location for study in (current, *priors) for location in study.locations)
    return dataclasses.replace(current, priors=tuple(priors), locations=locations)


def _unpacked(path: Path, folder: Path) -> Path:
    """Return a path, or the folder with the files of a ZIP archive; of an archive with one volume the volume.

    Raises: BrokenSeries.
    """
    if not path.is_file() or format_of(path).kind is not FileKind.ZIP:
        return path
    unpacked = zip_files.unpack(path, folder / "unpacked")
    kinds = {file: format_of(file).kind for file in files([unpacked])}
    volumes = [file for file, kind in kinds.items() if kind in {FileKind.NRRD, FileKind.NIFTI}]
    has_images = any(kind is FileKind.PICTURE for kind in kinds.values()) or _has_dicom(kinds)
    return volumes[0] if len(volumes) == 1 and not has_images else unpacked


def _converted_study(path: Path, folder: Path, options: ReadOptions) -> ConvertedStudy | None:
    """Return the study of a volume, a picture or a folder of pictures, None for DICOM.

    Raises: BrokenSeries.
    """
    if path.is_file() and format_of(path).kind in {FileKind.NRRD, FileKind.NIFTI}:
        return conversion.convert_volume(path, folder, body_part=options.body_part)
    if pictures := _pictures(path):
        return conversion.convert_pictures(pictures, folder, kind=options.picture_kind, body_part=options.body_part)
    return None


def _pictures(path: Path) -> tuple[Path, ...]:
    """Return the pictures of a file or folder; () for a folder with DICOM, whose pictures may be thumbnails."""
    all_files = tuple(files([path]))
    pictures = tuple(file for file in all_files if format_of(file).kind is FileKind.PICTURE)
    return () if pictures and path.is_dir() and _has_dicom(all_files) else pictures


def _has_dicom(all_files: Iterable[Path]) -> bool:
    """Return whether a file has the preamble of DICOM (PS3.10 7.1)."""
    for path in all_files:
        with path.open("rb") as file:
            if file.read(132)[128:] == b"DICM":
                return True
    return False


def _study(paths: Iterable[Path], settings: Settings) -> Study:
    keywords = router.keywords(settings.routes)
    return headers.study(headers.instance(path, sha256=content_sha256(path), keywords=keywords) for path in paths)


def _oldest_first(inputs: list[_InputStudy]) -> list[_InputStudy]:
    """Return the time points of one patient: volumes in the order of the command, DICOM studies by their dates.

    Raises: ConfigError if the studies are not surely of one patient, or their order is unknown.
    """
    if len({entry.study.study_instance_uid for entry in inputs}) < len(inputs):
        raise ConfigError("the command names the same volume twice; name each time point once")
    if all(entry.grid for entry in inputs):
        return inputs
    if any(entry.grid for entry in inputs):
        raise ConfigError("volumes and DICOM cannot be compared: a volume has no patient and no date; give one kind")
    identities = [study_identity(entry.study.instances[0].path) for entry in inputs]
    times = [(identity.study_date, identity.study_time) for identity in identities]
    first = identities[0]
    for identity, time in zip(identities, times, strict=True):
        uid = identity.study_instance_uid
        if difference := patient_difference(identity.patient, first.patient, allow_missing_birth_date=True):
            pair = f"study {uid} cannot be compared with study {first.study_instance_uid}"
            raise ConfigError(f"{pair}: {difference}; give studies of one patient")
        if not identity.study_date or times.count(time) > 1:
            raise ConfigError(f"study {uid} has no date of its own, so that the newest study is unknown")
    ordered = sorted(zip(times, inputs, strict=True), key=lambda timed_entry: timed_entry[0])
    return [entry for _, entry in ordered]


def _located_studies(inputs: list[_InputStudy], options: ReadOptions) -> list[Study]:
    """Return the studies with the points as their locations.

    Raises: ConfigError if the study of a point is unclear, or a point lies outside of the images.
    """
    return [
        dataclasses.replace(
            entry.study, locations=tuple(_location(entry, point, options.point_kind) for point in points)
        )
        for entry, points in zip(inputs, _points_by_study(inputs, options), strict=True)
    ]


def _points_by_study(inputs: list[_InputStudy], options: ReadOptions) -> list[tuple[Position, ...]]:
    """Return the points of each study, in the order of `inputs`.

    Raises: ConfigError if the study of a point is unclear.
    """
    points = options.points
    if len(inputs) == 1:
        return [points]
    if len(points) == 1 and options.time_points > 1:
        return [*[()] * (len(inputs) - 1), points]
    if points and len(points) != len(inputs):
        raise ConfigError(f"{len(points)} points for {len(inputs)} studies; give one --point per study, oldest first")
    if points and options.time_points == 1 and not all(entry.grid for entry in inputs):
        raise ConfigError("the model reads one study at a time; give each study with its points in a separate command")
    return [points[number : number + 1] for number in range(len(inputs))]


def _refuse_shared_frames(studies: Sequence[Study]) -> None:
    """Refuse a location of an earlier study whose frame of reference does not tell its study.

    Raises: ConfigError.
    """
    study_counts = Counter(
        frame for study in studies for frame in {instance.text("FrameOfReferenceUID") for instance in study.instances}
    )
    for study in studies[:-1]:
        frames = [location.frame_of_reference_uid for location in study.locations]
        if any(frame == "" or study_counts[frame] > 1 for frame in frames):
            raise ConfigError(
                f"the point of study {study.study_instance_uid} has no Frame of Reference UID of its own: the images "
                "at the point have no or several frames of reference, or share the frame with another study; "
                "give one --point alone, which is of the newest study"
            )


def _location(entry: _InputStudy, point: Position, kind: PointKind) -> Location:
    """Return the location of a point, with the series and the frame of reference of the images around the point.

    Raises: ConfigError if the point is no position, or lies outside of the images.
    """
    candidates = (stack(series.instances) for series in entry.study.series)
    stacks = [candidate for candidate in candidates if isinstance(candidate, Stack)]
    position = _position_of_index(entry.grid, stacks, point) if kind is PointKind.INDEX else point
    if not is_position(position):
        raise ConfigError(f"point {_text(point)} is no position: a number is more than {FARTHEST_MM:g} mm")
    around = [candidate for candidate in stacks if candidate.holds(position)]
    if stacks and not around:
        meaning = "i,j,k from 0" if kind is PointKind.INDEX else "LPS mm (see --point-is)"
        raise ConfigError(
            f"point {_text(point)} is outside of the images of study {entry.study.study_instance_uid}; "
            f"its numbers are read as {meaning}"
        )
    series = around[0].instances[0].ref.series_instance_uid if len(around) == 1 else UID("")
    frames = {candidate.frame_of_reference_uid for candidate in around}
    return Location(position, REQUEST, frames.pop() if len(frames) == 1 else UID(""), series_instance_uid=series)


def _text(point: Position) -> str:
    return ",".join(f"{number:g}" for number in point)


def _position_of_index(grid: Grid | None, stacks: Sequence[Stack], index: Position) -> Position:
    """Return the position in mm of a voxel index of a volume file, or of the only series of slices.

    Raises: ConfigError if there are several series.
    """
    if grid:
        return grid.position(index)
    if len(stacks) != 1:
        raise ConfigError(f"a voxel index needs one series of slices, not {len(stacks)}; give the point in mm")
    column, row, slice_ = index
    return stacks[0].position(slice_, row, column)
