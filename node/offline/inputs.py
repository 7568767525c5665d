"""The studies of `ainode read`: DICOM unchanged, NRRD, NIfTI and pictures converted, the points as locations."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ainode.node.deciding import router
from ainode.node.domain import UID, Instance, Study, counted
from ainode.node.encoding import headers
from ainode.node.encoding.same_content import same_data_set
from ainode.node.errors import BrokenSeries, CannotUnderstand, ConfigError
from ainode.node.imaging.rejections import is_key_object
from ainode.node.keeping.spool import content_sha256
from ainode.node.offline import conversion, repair, zip_files
from ainode.node.offline.conversion import ConvertedStudy
from ainode.node.offline.kinds import FileKind, format_of
from ainode.node.offline.options import ReadOptions
from ainode.node.offline.points import InputStudy, located_studies, refuse_shared_frames
from ainode.node.priors.rules import patient_difference
from ainode.node.priors.shelf import study_identity
from ainode.node.settings import Settings

_UNPACKED = "unpacked"
_NAMES = {
    FileKind.NRRD: "NRRD volume",
    FileKind.NIFTI: "NIfTI volume",
    FileKind.PICTURE: "picture",
    FileKind.ZIP: "ZIP archive",
}


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
        return (
            (f"UIDs of {counted(count, 'file')} broke the rules of DICOM and were replaced (--repair-uids).",)
            if count
            else ()
        )


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield each file of `paths`, and every file below each folder of `paths` that is not hidden."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
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
    studies = []
    for instances in instances_by_study.values():
        used_instances, unused = _without_rejected(instances)
        studies.append(headers.study(used_instances))
        unread += unused
    return tuple(studies), tuple(unread)


def _without_rejected(instances: Sequence[Instance]) -> tuple[tuple[Instance, ...], tuple[UnreadFile, ...]]:
    """Return the instances of a study that no rejection note names, and the other files; notes nobody can read, too."""
    if not any(is_key_object(instance.ref) for instance in instances):
        return tuple(instances), ()
    from ainode.node.deciding.stored_study import is_rejected, rejections  # noqa: PLC0415 - it brings SQLAlchemy

    notes, unread_notes = rejections(instances)
    rejected = [
        UnreadFile(instance.path, f"it is rejected by {notes[instance.ref.sop_instance_uid]}")
        for instance in instances
        if is_rejected(instance, notes)
    ]
    reasons = {note.ref: note.reason for note in unread_notes}
    unread = [UnreadFile(instance.path, reasons[instance.ref]) for instance in instances if instance.ref in reasons]
    return tuple(instance for instance in instances if not is_rejected(instance, notes)), (*rejected, *unread)


def _remedy(path: Path) -> str:
    """Return what a file is that is not DICOM, and what to do with the file; '' for DICOM.

    Raises: OSError.
    """
    file_format = format_of(path)
    if file_format.kind is FileKind.DICOM:
        return ""
    if file_format.kind is FileKind.OTHER:
        return f"it is {file_format.remedy}"
    return (
        f"it is a {_NAMES[file_format.kind]}, not DICOM; read the file by itself, with the page Try it of the console "
        "or with `ainode read FILE --model NAME`"
    )


def input_studies(paths: Sequence[Path], folder: Path, *, options: ReadOptions, settings: Settings) -> Inputs:
    """Return the studies to read, each with its priors and locations, and the files that are not read.

    The converted instances are written below `folder`. A file of `paths` that cannot be converted is left out; it ends
    the command where time points are compared: without one of them, the comparison of the others would be wrong.
    Raises: BrokenSeries, ConfigError.
    """
    if missing := [str(path) for path in paths if not path.exists()]:
        raise ConfigError(f"there is no file or folder {', '.join(missing)}")
    inputs, other_paths, unconverted = _converted_inputs(paths, folder, options, settings)
    dicom_paths = list(other_paths.values())
    studies, unread = dicom_studies(dicom_paths, settings)
    repaired_files: tuple[Path, ...] = ()
    if options.repair_uids:
        unread, repaired_files = _repaired(unread, folder / "repaired")
        studies, _ = dicom_studies([*dicom_paths, *repaired_files], settings)
    inputs += [InputStudy(study, _path_number(study, other_paths)) for study in studies]
    if options.time_points > 1 and len(inputs) > 1:
        inputs = _oldest_first(inputs)
    located = located_studies(inputs, options)
    if options.time_points > 1 and located:
        located = [_current_with_priors(located[-options.time_points :])]
    return Inputs(tuple(located), (*unconverted, *unread), frozenset(repaired_files))


def _converted_inputs(
    paths: Sequence[Path], folder: Path, options: ReadOptions, settings: Settings
) -> tuple[list[InputStudy], dict[int, Path], list[UnreadFile]]:
    """Return the studies of the files that are not DICOM, the other paths by their numbers, and what is not converted.

    Raises: BrokenSeries where time points are compared.
    """
    inputs, other_paths, unconverted = [], dict[int, Path](), []
    bounds = options.zip_bounds
    for number, argument in enumerate(paths):
        try:
            path = _unpacked(argument, folder / str(number), bounds)
            if path != argument:
                bounds = zip_files.remaining(bounds, folder / str(number) / _UNPACKED)
            converted = _converted_study(path, folder / str(number), options)
        except BrokenSeries as error:
            if options.time_points > 1:
                raise BrokenSeries(f"{argument}: {error}") from error
            unconverted.append(UnreadFile(argument, str(error)))
            continue
        if converted:
            inputs.append(InputStudy(_study(converted.paths, settings), number, converted.grid))
            container = path if path == argument else folder / str(number) / _UNPACKED
            unconverted += _beside(path, container)
        else:
            other_paths[number] = path
    return inputs, other_paths, unconverted


def _path_number(study: Study, paths: Mapping[int, Path]) -> int:
    """Return the number of the path that holds the first instance of a study; 0 for a repaired copy."""
    path = study.instances[0].path
    return next((number for number, parent in paths.items() if path.is_relative_to(parent)), 0)


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
    refuse_shared_frames(time_points)
    *priors, current = time_points
    locations = tuple(location for study in (current, *priors) for location in study.locations)
    return dataclasses.replace(current, priors=tuple(priors), locations=locations)


def _unpacked(path: Path, folder: Path, bounds: zip_files.Bounds) -> Path:
    """Return a path, or the folder with the files of a ZIP archive; of an archive with one volume the volume.

    Raises: BrokenSeries.
    """
    if not path.is_file() or format_of(path).kind is not FileKind.ZIP:
        return path
    unpacked = zip_files.unpack(path, folder / _UNPACKED, bounds)
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


def _beside(converted: Path, container: Path) -> Iterator[UnreadFile]:
    """Yield the files of a folder or archive that are not read, beside its volume or its pictures."""
    read = {converted, *_pictures(converted)}
    for file in files([container]):
        if file not in read:
            yield UnreadFile(file, _remedy(file) or "it lies beside what is read as one series; read it by itself")


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


def _oldest_first(inputs: list[InputStudy]) -> list[InputStudy]:
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
