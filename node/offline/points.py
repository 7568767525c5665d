"""The points of a reading of files, as locations in the studies."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ainode.node.domain import FARTHEST_MM, REQUEST, UID, Location, Position, Study, counted, is_position
from ainode.node.errors import ConfigError, PointRefused
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.offline.options import PointKind, ReadOptions
from ainode.node.offline.volume_files import Grid

_EDGE: Final = 0.5
"""of a voxel, from its center"""
_MEANINGS: Final = {
    PointKind.MM: "LPS mm: x to the left, y to the back, z to the head",
    PointKind.INDEX: "a voxel index i,j,k from 0",
}


@dataclass(frozen=True, slots=True)
class InputStudy:
    """A study, and where it is from."""

    study: Study
    path_number: int
    """the path of the command that the study is from, counted from 0"""
    grid: Grid | None = None
    """of the volume file that the study was converted from, None for other files"""


def located_studies(inputs: list[InputStudy], options: ReadOptions) -> list[Study]:
    """Return the studies with the points as their locations.

    Raises: ConfigError if the study of a point is unclear, or a point lies outside of the images.
    """
    return [
        dataclasses.replace(
            entry.study, locations=tuple(_location(entry, point, options.point_kind) for point in points)
        )
        for entry, points in zip(inputs, _points_by_study(inputs, options), strict=True)
    ]


def _points_by_study(inputs: list[InputStudy], options: ReadOptions) -> list[tuple[Position, ...]]:
    """Return the points of each study, in the order of `inputs`.

    Raises: ConfigError if the study of a point is unclear.
    """
    points = options.points
    if options.points_of_paths is not None:
        own = [options.points_of_paths[entry.path_number] for entry in inputs]
        return [() if point is None else (point,) for point in own]
    if len(inputs) == 1:
        return [points]
    if len(points) == 1 and options.time_points > 1:
        return [*[()] * (len(inputs) - 1), points]
    if points and len(points) != len(inputs):
        counts = f"{counted(len(points), 'point')} for {counted(len(inputs), 'study', 'studies')}"
        raise ConfigError(f"{counts}; give one --point per study, oldest first")
    if points and options.time_points == 1 and not all(entry.grid for entry in inputs):
        raise ConfigError("the model reads one study at a time; give each study with its points in a separate command")
    return [points[number : number + 1] for number in range(len(inputs))]


def refuse_shared_frames(studies: Sequence[Study]) -> None:
    """Refuse a location of an earlier study whose frame of reference does not tell its study.

    Raises: PointRefused.
    """
    study_counts = Counter(
        frame for study in studies for frame in {instance.text("FrameOfReferenceUID") for instance in study.instances}
    )
    for study in studies[:-1]:
        frames = [location.frame_of_reference_uid for location in study.locations]
        if any(frame == "" or study_counts[frame] > 1 for frame in frames):
            raise PointRefused(
                f"the point of study {study.study_instance_uid} has no Frame of Reference UID of its own: the images "
                "at the point have no or several frames of reference, or share the frame with another study; "
                "point at the newest study alone"
            )


def _location(entry: InputStudy, point: Position, kind: PointKind) -> Location:
    """Return the location of a point, with the series and the frame of reference of the images around the point.

    Raises: PointRefused if the point is no position, or lies outside of the images.
    """
    candidates = (stack(series.instances) for series in entry.study.series)
    stacks = [candidate for candidate in candidates if isinstance(candidate, Stack)]
    position = _position_of_index(entry.grid, stacks, point) if kind is PointKind.INDEX else point
    if not is_position(position):
        raise PointRefused(f"point {_text(point)} is no position: a number is more than {FARTHEST_MM:g} mm")
    around = [candidate for candidate in stacks if candidate.holds(position)]
    if stacks and not around:
        raise PointRefused(
            f"point {_text(point)} is outside of the images of study {entry.study.study_instance_uid}; "
            f"its numbers are read as {_MEANINGS[kind]}; the images reach, in LPS mm, {_reach(stacks)}"
        )
    series = around[0].instances[0].ref.series_instance_uid if len(around) == 1 else UID("")
    frames = {candidate.frame_of_reference_uid for candidate in around}
    return Location(position, REQUEST, frames.pop() if len(frames) == 1 else UID(""), series_instance_uid=series)


def _reach(stacks: Sequence[Stack]) -> str:
    """Return from where to where images reach, so that a person sees which sign or axis of a point is wrong."""
    corners = [
        candidate.position(*corner)
        for candidate in stacks
        for corner in itertools.product(
            *((-_EDGE, count - _EDGE) for count in (len(candidate.instances), candidate.rows, candidate.columns))
        )
    ]
    spans = zip("xyz", zip(*corners, strict=True), strict=True)
    return ", ".join(f"{axis} from {min(values):.1f} to {max(values):.1f}" for axis, values in spans)


def _text(point: Position) -> str:
    return ",".join(f"{number:g}" for number in point)


def _position_of_index(grid: Grid | None, stacks: Sequence[Stack], index: Position) -> Position:
    """Return the position in mm of a voxel index of a volume file, or of the only series of slices.

    Raises: PointRefused if there are several series.
    """
    if grid:
        return grid.position(index)
    if len(stacks) != 1:
        raise PointRefused(f"a voxel index needs one series of slices, not {len(stacks)}; give the point in mm")
    column, row, slice_ = index
    return stacks[0].position(slice_, row, column)
