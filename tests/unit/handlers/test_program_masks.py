import gzip
import struct
from dataclasses import replace

import numpy as np
import pytest

from ainode.handlers.program.masks import laid_over, outlined_findings, segmented
from ainode.handlers.program.nifti import Labels, UnfitMask, labels, nifti_bytes
from ainode.node import testing
from ainode.node.domain import Code, Segment
from ainode.node.encoding import headers
from ainode.node.imaging.geometry import Stack, stack, volume

SHAPE = (5, 7, 9)
COUNT = 5 * 7 * 9
LUNG = Segment("lung", Code("91723000", "SCT", "Anatomical Structure"), Code("39607008", "SCT", "Lung"))


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    values = np.arange(COUNT, dtype=np.float32).reshape(SHAPE) % 200
    paths = testing.write(
        [*testing.ct(values, (2.5, 0.8, 0.7), frame="f", header={})], tmp_path_factory.mktemp("ct"), study="mask"
    )
    slices = stack(headers.instance(path, sha256="") for path in paths)
    assert isinstance(slices, Stack)
    return slices


@pytest.fixture(scope="module")
def image(slices: Stack) -> bytes:
    return nifti_bytes(volume(slices))


def mask_file(image: bytes, values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """Return a label map on the grid of an image; values (z, y, x)."""
    header = bytearray(image[:352])
    struct.pack_into("<2h", header, 70, 2, 8)
    return bytes(header) + values.tobytes()


def test_the_file_says_where_the_volume_lies_as_nibabel_reads_it(slices: Stack, image: bytes) -> None:
    nibabel = pytest.importorskip("nibabel", reason="nibabel is missing")
    read = nibabel.Nifti1Image.from_bytes(image)
    assert read.shape == SHAPE[::-1]
    for index in ((0, 0, 0), (8, 6, 4), (3, 2, 1)):
        x, y, z = (read.affine @ (*index, 1))[:3]
        assert (-x, -y, z) == pytest.approx(slices.position(index[2], index[1], index[0]), abs=1e-4)
    np.testing.assert_array_equal(read.get_fdata().transpose(2, 1, 0), volume(slices).values)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("axes", ["as given", "turned", "flipped"])
def test_a_mask_in_any_direction_lies_on_the_slices_it_was_made_of(
    slices: Stack, image: bytes, axes: str, *, packed: bool
) -> None:
    expected = np.zeros(SHAPE, np.uint8)
    expected[1, 2, 3] = expected[1, 2, 4] = 3
    content = mask_file(image, expected)
    mask = labels(gzip.compress(content) if packed else content, COUNT)
    if axes == "turned":
        mask = Labels(mask.values.transpose(2, 0, 1), mask.to_lps[:, [2, 0, 1, 3]])
    if axes == "flipped":
        to_lps = mask.to_lps.copy()
        to_lps[:3, 3] += to_lps[:3, 0] * (SHAPE[2] - 1)
        to_lps[:3, 0] *= -1
        mask = Labels(mask.values[::-1], to_lps)
    np.testing.assert_array_equal(laid_over(mask, slices), expected)
    outlined = segmented(mask, slices, {3: LUNG}, "my-lungs")
    assert outlined.name == "MY_LUNGS"
    assert outlined.slice_distance_mm == pytest.approx(2.5)
    assert [plane.image for plane in outlined.maps] == [slices.instances[1].ref]


@pytest.mark.parametrize("category", ["91723000", "123037004"])
def test_an_anatomical_structure_is_its_own_site_by_the_code_of_each_edition(
    slices: Stack, image: bytes, category: str
) -> None:
    mask = labels(mask_file(image, np.ones(SHAPE, np.uint8)), COUNT)
    lung = replace(LUNG, category=Code(category, "SCT", "Anatomical Structure"))
    (finding,) = outlined_findings(segmented(mask, slices, {1: lung}, "lungs"), slices, None)
    assert finding.site == LUNG.kind


def test_a_mask_on_another_grid_is_refused(slices: Stack, image: bytes) -> None:
    mask = labels(mask_file(image, np.zeros(SHAPE, np.uint8)), COUNT)
    for change in (np.diag((1.0, 1.0, 1.1, 1.0)), np.diag((2.0, 1.0, 1.0, 1.0))):
        with pytest.raises(UnfitMask, match="geometry is another"):
            laid_over(Labels(mask.values, mask.to_lps @ change), slices)
    moved = mask.to_lps.copy()
    moved[2, 3] += 2.5
    with pytest.raises(UnfitMask, match="does not cover the images"):
        laid_over(Labels(mask.values, moved), slices)


def test_a_label_that_nothing_describes_is_refused(slices: Stack, image: bytes) -> None:
    mask = labels(mask_file(image, np.full(SHAPE, 9, np.uint8)), COUNT)
    with pytest.raises(UnfitMask, match=r"the label 9, which \[\[output.segments\]\] does not name"):
        segmented(mask, slices, {3: LUNG}, "lungs")


@pytest.mark.parametrize(
    ("offset", "kind", "value", "reason"),
    [
        (0, "<i", 540, "no NIfTI-1 file of one part"),
        (42, "<h", 8, "8 x 7 x 5 voxels, which is not the size"),
        (42, "<h", -9, "is not the size"),
        (40, "<h", 9, "no single volume"),
        (48, "<h", 2, "cut off|single volume"),
        (70, "<h", 32, "no plain numbers"),
        (70, "<h", 16, "cut off"),
        (108, "<f", 1e9, "cut off"),
        (108, "<f", float("nan"), "cut off"),
        (112, "<f", 2.0, "not scaled"),
        (254, "<h", 0, "no sform, no qform"),
        (280, "<f", float("nan"), "does not say where"),
    ],
)
def test_a_broken_header_is_refused_with_a_reason(
    image: bytes, offset: int, kind: str, value: float, reason: str
) -> None:
    content = bytearray(mask_file(image, np.zeros(SHAPE, np.uint8)))
    struct.pack_into(kind, content, offset, value)
    if offset == 48:
        struct.pack_into("<h", content, 40, 4)
    with pytest.raises(UnfitMask, match=reason):
        labels(bytes(content), COUNT)


def test_a_mask_that_unpacks_to_gigabytes_or_has_fractions_is_refused(image: bytes) -> None:
    with pytest.raises(UnfitMask, match="unpacks to more than the images need"):
        labels(gzip.compress(image[:352] + bytes(50 << 20)), COUNT)
    with pytest.raises(UnfitMask, match="cut off"):
        labels(gzip.compress(image)[:-20], COUNT)
    fractions = image[:352] + np.full(COUNT, 0.5, "<f4").tobytes()
    with pytest.raises(UnfitMask, match="no whole number"):
        labels(fractions, COUNT)


@pytest.mark.parametrize(("moved_mm", "is_read"), [(0.0, True), (0.1, True), (5.0, False), (float("nan"), False)])
def test_a_mask_whose_two_statements_of_place_differ_is_refused(
    image: bytes, moved_mm: float, *, is_read: bool
) -> None:
    nibabel = pytest.importorskip("nibabel", reason="nibabel is missing")
    stated = nibabel.Nifti1Image.from_bytes(mask_file(image, np.zeros(SHAPE, np.uint8)))
    stated.set_qform(stated.affine, code=1)
    content = bytearray(stated.to_bytes())
    (offset,) = struct.unpack_from("<f", content, 268)
    struct.pack_into("<f", content, 268, offset + moved_mm)
    if is_read:
        np.testing.assert_array_equal(labels(bytes(content), COUNT).values, 0)
    else:
        with pytest.raises(UnfitMask, match="its sform and its qform name different places"):
            labels(bytes(content), COUNT)


def test_a_half_turn_in_rounded_numbers_is_the_place_that_the_rows_name() -> None:
    nibabel = pytest.importorskip("nibabel", reason="nibabel is missing")
    rng = np.random.default_rng(0)
    for _ in range(50):
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        affine = np.eye(4)
        affine[:3, :3] = 2 * np.outer(axis, axis) - np.eye(3)
        turned = nibabel.Nifti1Image(np.zeros(SHAPE[::-1], np.uint8), affine)
        turned.set_qform(affine, code=1)
        turned.set_sform(affine, code=1)
        np.testing.assert_allclose(labels(turned.to_bytes(), COUNT).to_lps, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-6)
        turned.set_sform(None, code=0)
        np.testing.assert_allclose(labels(turned.to_bytes(), COUNT).to_lps, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-6)
