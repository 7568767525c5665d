from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import shared

from ainode.node import testing
from ainode.node.domain import Instance, OutOfScope, Position, SyntheticImage, Value
from ainode.node.encoding import headers
from ainode.node.errors import BrokenSeries
from ainode.node.imaging.ct_series import CtRequirements, ct_stack, is_sharp
from ainode.node.imaging.geometry import Stack, stack, volume

# Positions of array axes (slice, row, column) that acquisitions really have, as the axes of rows and columns.
AXIAL = ((1, 0, 0), (0, 1, 0))
PRONE = ((-1, 0, 0), (0, -1, 0))
CORONAL = ((1, 0, 0), (0, 0, -1))
SAGITTAL = ((0, 1, 0), (0, 0, -1))


def field(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """A value that names its place: every voxel of the made CT holds it."""
    return np.rint(1000 + 3 * position[..., 0] + 5 * position[..., 1] + 7 * position[..., 2])


def ct(
    folder: Path,
    *,
    axes: tuple[tuple[float, ...], tuple[float, ...]] = AXIAL,
    count: int = 5,
    step: float = 2.0,
    shift: tuple[float, float, float] = (0, 0, 0),
    **header: Value,
) -> list[Instance]:
    """A small CT whose values are their positions; `shift` is added per slice to make it tilted."""
    row, column = np.asarray(axes, float)
    normal = np.cross(row, column)
    rows, columns, spacing = 6, 4, (1.0, 3.0)
    images = []
    for number in range(count):
        origin = np.asarray((-10.0, 20.0, -30.0)) + number * (normal * step + np.asarray(shift))
        at = (
            origin
            + np.arange(rows)[:, None, None] * spacing[0] * column
            + np.arange(columns)[None, :, None] * spacing[1] * row
        )
        described: dict[str, Value] = {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
            "Modality": "CT",
            "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
            "ImagePositionPatient": tuple(origin),
            "ImageOrientationPatient": (*row, *column),
            "PixelSpacing": spacing,
            "FrameOfReferenceUID": "1.2.3",
            "InstanceNumber": count - number,
            "RescaleIntercept": 0,
            **header,
        }
        images.append(SyntheticImage(rows, columns, field(at).astype("<u2").tobytes(), described))
    paths = testing.write(images, folder, study=str(folder.name))
    return [headers.instance(path, sha256="0" * 64) for path in paths]


def stacked(instances: list[Instance]) -> Stack:
    found = stack(instances)
    assert isinstance(found, Stack), found
    return found


@pytest.mark.parametrize("axes", [AXIAL, PRONE, CORONAL, SAGITTAL])
def test_a_volume_holds_each_value_where_the_patient_has_it(
    tmp_path: Path, axes: tuple[tuple[float, ...], ...]
) -> None:
    found = volume(stacked(ct(tmp_path, axes=(axes[0], axes[1]))))
    for index in np.ndindex(found.values.shape):
        assert found.values[index] == field(np.asarray(found.position(index)))
    assert np.allclose(np.diag(np.asarray(found.axes)[:, ::-1]), 1)


@given(order=st.permutations(range(5)))
def test_the_order_of_files_means_nothing(order: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("ct")
    instances = ct(folder)
    assert stacked([instances[i] for i in order]) == stacked(instances)


@given(position=st.tuples(*[st.floats(-500, 500)] * 3))
def test_pixel_and_position_undo_each_other(position: Position, tmp_path_factory: pytest.TempPathFactory) -> None:
    slices = stacked(ct(tmp_path_factory.mktemp("ct"), axes=SAGITTAL))
    assert np.allclose(slices.position(*slices.pixel(position)), position, atol=1e-6)


def test_the_first_pixel_of_a_slice_lies_at_its_image_position(tmp_path: Path) -> None:
    instances = ct(tmp_path, axes=PRONE)
    slices = stacked(instances)
    for instance in instances:
        at = slices.pixel(tuple(float(v) for v in instance.header["ImagePositionPatient"]))  # type: ignore[union-attr,arg-type]
        assert slices.instances[round(at[0])].ref == instance.ref
        assert np.allclose(at[1:], 0, atol=1e-9)


def test_a_missing_slice_is_a_gap_and_is_named_by_its_place(tmp_path: Path) -> None:
    instances = ct(tmp_path, count=6)
    reason = stack(instances[:2] + instances[3:])
    assert isinstance(reason, OutOfScope)
    assert reason.code == "gap"
    assert "4.00 mm" in reason.reason


def test_two_acquisitions_of_one_slice_are_refused(tmp_path: Path) -> None:
    instances = ct(tmp_path)
    reason = stack([*instances, instances[2]])
    assert isinstance(reason, OutOfScope)
    assert reason.code == "duplicate-slices"


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path: Path) -> None:
    reason = stack(ct(tmp_path, shift=(0, 2 * np.tan(np.radians(15)), 0)))
    assert isinstance(reason, OutOfScope)
    assert reason.code == "gantry-tilt"
    assert "15.0 degrees" in reason.reason


def leaning(upright: Instance, degrees: float, *, count: int, step: float) -> list[Instance]:
    """As many slices like an axial one, each `step` mm higher, moved to the back by a tilt of the gantry."""
    aside = step * np.tan(np.radians(degrees))
    places = ((0.0, round(n * aside, 4), n * step) for n in range(count))
    return [replace(upright, header={**upright.header, "ImagePositionPatient": place}) for place in places]


def test_a_slight_tilt_is_refused_where_its_slices_end_elsewhere(tmp_path: Path) -> None:
    (upright,) = ct(tmp_path, count=1)
    assert isinstance(stack(leaning(upright, 0.9, count=30, step=1.0)), Stack)
    reason = stack(leaning(upright, 0.9, count=300, step=1.0))
    assert isinstance(reason, OutOfScope)
    assert reason.code == "gantry-tilt"
    assert "0.9 degrees, which moves slices by 4.7 mm" in reason.reason


@given(degrees=st.floats(-3, 3), count=st.integers(2, 60), step=st.floats(0.5, 5))
def test_each_slice_of_a_stack_lies_within_half_a_pixel_of_its_image_position(
    degrees: float, count: int, step: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (upright,) = ct(tmp_path_factory.mktemp("ct"), count=1)
    found = stack(leaning(upright, degrees, count=count, step=step))
    for number, instance in enumerate(found.instances if isinstance(found, Stack) else ()):
        assert isinstance(found, Stack)
        said = np.asarray(instance.header["ImagePositionPatient"], float)
        assert np.linalg.norm(said - found.position(number, 0, 0)) < 0.51


def test_slices_without_a_position_are_refused(tmp_path: Path) -> None:
    instances = ct(tmp_path)
    bare = {key: value for key, value in instances[0].header.items() if key != "ImagePositionPatient"}
    reason = stack([replace(instances[0], header=bare), *instances[1:]])
    assert isinstance(reason, OutOfScope)
    assert reason.code == "no-geometry"
    assert reason.evidence == (instances[0].ref,)


def test_an_image_of_another_size_than_its_header_says_is_broken(tmp_path: Path) -> None:
    slices = stacked(ct(tmp_path))
    with pytest.raises(BrokenSeries, match=slices.instances[0].ref.sop_instance_uid):
        volume(replace(slices, rows=7))


def test_a_scout_in_a_series_of_slices_is_left_out(tmp_path: Path) -> None:
    slices = ct(tmp_path / "slices")
    scout = ct(tmp_path / "scout", axes=CORONAL, count=1, ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    series = replace(headers.study(tuple(slices)).series[0], instances=(*scout, *slices))
    found = ct_stack([series], CtRequirements(3, 5, 5))
    assert isinstance(found, Stack)
    assert len(found.instances) == len(slices)


def test_the_larger_of_two_acquisitions_in_a_series_is_read(tmp_path: Path) -> None:
    whole = ct(tmp_path / "whole", count=6, AcquisitionNumber=1)
    part = ct(tmp_path / "part", count=3, AcquisitionNumber=2)
    series = replace(headers.study(tuple(whole)).series[0], instances=(*part, *whole))
    found = ct_stack([series], CtRequirements(3, 5, 5))
    assert isinstance(found, Stack)
    assert {one.ref for one in found.instances} == {one.ref for one in whole}


@pytest.mark.parametrize(
    ("wanted", "header", "code"),
    [
        (CtRequirements(20, 5, 5), {}, "too-few-slices"),
        (CtRequirements(3, 50, 5), {}, "too-short"),
        (CtRequirements(3, 5, 1), {}, "too-coarse"),
        (CtRequirements(3, 5, 5, contrast=True), {}, "wrong-contrast-phase"),
        (
            CtRequirements(3, 5, 5, contrast=True),
            {"ContrastBolusAgent": "agent", "SeriesDescription": "Abd late arterial 2.5"},
            "wrong-contrast-phase",
        ),
        (CtRequirements(3, 5, 5), {"axes": CORONAL}, "not-axial"),
        (CtRequirements(3, 5, 5), {"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "no-slices"),
    ],
)
def test_what_a_model_cannot_read_is_refused_with_its_code(
    tmp_path: Path, wanted: CtRequirements, header: dict[str, object], code: str
) -> None:
    study = headers.study(tuple(ct(tmp_path, **header)))  # type: ignore[arg-type]
    reason = ct_stack(study.series, wanted)
    assert isinstance(reason, OutOfScope)
    assert reason.code == code


def test_the_wanted_kernel_wins_among_two_of_one_scan(tmp_path: Path) -> None:
    soft = headers.study(tuple(ct(tmp_path / "soft", ConvolutionKernel="B30f"))).series[0]
    sharp = headers.study(tuple(ct(tmp_path / "sharp", ConvolutionKernel="B70f"))).series[0]
    for wish, series in (("lung", sharp), ("soft", soft)):
        found = ct_stack([soft, sharp], CtRequirements(3, 5, 5, wish))  # type: ignore[arg-type]
        assert isinstance(found, Stack)
        assert found.instances[0].ref.series_instance_uid == series.series_instance_uid


@pytest.mark.parametrize("kernel", ["B70f", "I70f\\3", "Br64d", "LUNG", "BONEPLUS", "FC51", "L", "YB"])
def test_kernels_for_lung_are_known_by_their_makers_names(kernel: str) -> None:
    assert is_sharp(kernel)


@pytest.mark.parametrize("kernel", ["B45f", "I30f", "STANDARD", "SOFT", "FC13", "FC08", "B", "", "unknown"])
def test_other_kernels_count_as_soft(kernel: str) -> None:
    assert not is_sharp(kernel)


def test_the_slices_of_a_real_chest_are_one_stack_around_its_nodule() -> None:
    folder = shared("data/dicom/ct_chest_thin_R01-001")
    found = stacked([headers.instance(path, sha256="0" * 64) for path in sorted(folder.rglob("*.dcm"))])
    # The position and the indices that the collection's own annotation gives (nodule.json).
    _, row, column = found.pixel((-95.6938, -144.9846, -66.121))
    assert (column, row) == pytest.approx((124.7, 244.0), abs=0.1)
    assert found.holds((-95.6938, -144.9846, -66.121))
