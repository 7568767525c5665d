import gzip
import io
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from support.judges import module_errors

from ainode.node.disk import sha256_of
from ainode.node.domain import Series
from ainode.node.encoding import headers
from ainode.node.errors import BrokenSeries, ConfigError
from ainode.node.imaging import geometry, pixels
from ainode.node.imaging.geometry import Stack, Volume
from ainode.node.offline import conversion
from ainode.node.offline.conversion import ConvertedStudy, PictureKind

nib: Any = pytest.importorskip("nibabel")
nrrd: Any = pytest.importorskip("nrrd")
sitk: Any = pytest.importorskip("SimpleITK")

SIZE = (7, 6, 5)
SPACING = (0.7, 0.9, 2.5)
# A right-handed turn about an oblique axis, and a head-first feet-up scan stored against all three axes.
OBLIQUE = (0.98480775, -0.17101007, 0.03015369, 0.17364818, 0.96984631, -0.17101007, 0.0, 0.17364818, 0.98480775)
DIRECTIONS = {
    "upright": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "from head to feet": (1, 0, 0, 0, 1, 0, 0, 0, -1),
    "from left and front": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "sagittal": (0, 0, 1, 1, 0, 0, 0, 1, 0),
    "coronal": (1, 0, 0, 0, 0, 1, 0, -1, 0),
    "oblique": OBLIQUE,
}


def an_image(direction: tuple[float, ...], values: NDArray[Any] | None = None) -> Any:  # noqa: ANN401 - a sitk.Image
    if values is None:
        values = np.random.default_rng(0).integers(-1024, 3071, SIZE[::-1]).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING)
    image.SetOrigin((-100.25, 37.5, -612.125))
    image.SetDirection(np.linalg.qr(np.reshape(direction, (3, 3)))[0].ravel() if direction == OBLIQUE else direction)
    return image


def saved(image: Any, path: Path) -> Path:  # noqa: ANN401 - a sitk.Image
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def read(converted: ConvertedStudy) -> tuple[Stack, Volume]:
    instances = [headers.instance(path, sha256=sha256_of(path)) for path in converted.paths]
    series: Series = headers.study(instances).series[0]
    stack = geometry.stack(series.instances)
    assert isinstance(stack, Stack), stack
    return stack, geometry.volume(stack)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii", ".nii.gz"])
@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_every_voxel_lies_where_simpleitk_says(suffix: str, direction: tuple[float, ...], tmp_path: Path) -> None:
    path = saved(an_image(direction), tmp_path / f"image{suffix}")
    oracle = sitk.ReadImage(str(path))
    converted = conversion.convert_volume(path, tmp_path / "dicom")
    _, volume = read(converted)
    assert converted.grid
    for index in ((0, 0, 0), (6, 5, 4), (3, 0, 4), (1, 5, 2)):
        place = oracle.TransformContinuousIndexToPhysicalPoint([float(one) for one in index])
        assert converted.grid.position(index) == pytest.approx(place, abs=1e-3)
        z, y, x = (round(one) for one in volume.index(place))
        assert volume.position((z, y, x)) == pytest.approx(place, abs=1e-3)
        assert volume.values[z, y, x] == oracle[index]
    between = oracle.TransformContinuousIndexToPhysicalPoint([2.25, 3.5, 1.75])
    assert converted.grid.position((2.25, 3.5, 1.75)) == pytest.approx(between, abs=1e-3)


def test_a_ras_nrrd_is_turned_into_lps(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    header = {
        "space": "right-anterior-superior",
        "space directions": np.diag((2.0, 3.0, 4.0)),
        "space origin": (10.0, 20.0, 30.0),
        "encoding": "gzip",
    }
    nrrd.write(str(tmp_path / "ras.nrrd"), values, header)
    converted = conversion.convert_volume(tmp_path / "ras.nrrd", tmp_path / "dicom")
    assert converted.grid
    assert converted.grid.position((1, 2, 3)) == (-12.0, -26.0, 42.0)
    oracle = sitk.ReadImage(str(tmp_path / "ras.nrrd"))
    assert oracle.TransformIndexToPhysicalPoint((1, 2, 3)) == (-12.0, -26.0, 42.0)


def test_the_same_bytes_are_the_same_study_and_other_bytes_another(tmp_path: Path) -> None:
    one = saved(an_image(OBLIQUE), tmp_path / "one.nrrd")
    other = saved(an_image(DIRECTIONS["upright"]), tmp_path / "other.nrrd")
    os.utime(one, (1_000_000_000, 1_000_000_000))
    first, again, third = (
        conversion.convert_volume(path, tmp_path / name).paths[0]
        for path, name in ((one, "a"), (one, "b"), (other, "c"))
    )
    assert first.read_bytes() == again.read_bytes()
    assert first.stat().st_mtime == 1_000_000_000
    assert dcmread(first).StudyInstanceUID != dcmread(third).StudyInstanceUID
    assert dcmread(first).FrameOfReferenceUID != dcmread(third).FrameOfReferenceUID


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-1024.3, 3071.7, 210).reshape(SIZE[::-1]).astype(np.float32),
        np.linspace(0, 65000, 210).reshape(SIZE[::-1]).astype(np.uint16),
        np.linspace(-1000, 400, 210).reshape(SIZE[::-1]).round().astype(np.float64),
        np.full(SIZE[::-1], 40.5, np.float32),
    ],
    ids=["fractions", "unsigned", "whole floats", "constant"],
)
def test_values_survive_within_a_twentieth_of_a_hounsfield_unit(values: NDArray[Any], tmp_path: Path) -> None:
    path = saved(an_image(DIRECTIONS["upright"], values), tmp_path / "image.nrrd")
    _, volume = read(conversion.convert_volume(path, tmp_path / "dicom"))
    least = 0 if (values == np.rint(values)).all() else 0.05
    assert np.abs(volume.values - values).max() <= least


def test_the_scale_of_a_nifti_is_honored(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag((1.0, 1.0, 2.0, 1.0)))
    nib.save(image, tmp_path / "scaled.nii")
    content = bytearray((tmp_path / "scaled.nii").read_bytes())
    content[112:120] = struct.pack("<ff", 2.0, -1024.0)  # scl_slope and scl_inter of NIfTI-1
    (tmp_path / "scaled.nii").write_bytes(content)
    _, volume = read(conversion.convert_volume(tmp_path / "scaled.nii", tmp_path / "dicom"))
    assert (volume.values.min(), volume.values.max()) == (-1024 + 0, -1024 + 46)


def test_a_volume_passes_the_judge_and_names_nobody(tmp_path: Path) -> None:
    path = saved(an_image(OBLIQUE), tmp_path / "Mustermann_Erika.nrrd")
    for written in conversion.convert_volume(path, tmp_path / "dicom", body_part="CHEST").paths:
        assert module_errors(written) == []
        assert b"Mustermann" not in written.read_bytes()


def refusal(path: Path, tmp_path: Path) -> str:
    with pytest.raises(BrokenSeries) as raised:
        conversion.convert_volume(path, tmp_path / "dicom")
    return str(raised.value)


def an_nrrd(path: Path, values: NDArray[Any], **header: Any) -> Path:  # noqa: ANN401 - any header value
    full = {"space": "left-posterior-superior", "space directions": np.eye(3), "space origin": (0, 0, 0)} | header
    nrrd.write(str(path), values, {key.replace("_", " "): value for key, value in full.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"space_directions": np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]])}, "not perpendicular"),
        ({"space": "scanner-xyz"}, "the orientation of the patient (space scanner-xyz)"),
        ({"space": None, "space_dimension": 3}, "the orientation of the patient (space absent)"),
        ({"space_directions": np.diag((1.0, 0.0, 1.0))}, "positive spacing"),
        ({"space_units": ["cm", "cm", "cm"]}, "not in mm"),
        ({"kinds": ["vector", "space", "space"]}, "no single volume"),
    ],
)
def test_an_nrrd_that_would_need_a_guess_is_refused(header: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refusal(an_nrrd(tmp_path / "odd.nrrd", np.zeros((3, 3, 3), np.int16), **header), tmp_path)


def test_four_dimensions_missing_numbers_and_damage_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 2), np.int16), np.eye(4)), tmp_path / "time.nii")
    assert "3 x 3 x 3 x 2 values" in refusal(tmp_path / "time.nii", tmp_path)
    holes = np.full((3, 3, 3), np.nan, np.float32)
    nib.save(nib.Nifti1Image(holes, np.eye(4)), tmp_path / "holes.nii")
    assert "no numbers" in refusal(tmp_path / "holes.nii", tmp_path)
    nib.save(nib.Nifti1Image(holes, None), tmp_path / "nowhere.nii")
    assert "codes are both 0" in refusal(tmp_path / "nowhere.nii", tmp_path)
    whole = saved(an_image(OBLIQUE), tmp_path / "whole.nrrd").read_bytes()
    (tmp_path / "cut.nrrd").write_bytes(whole[: len(whole) - 60])
    (tmp_path / "noise.nii.gz").write_bytes(b"noise")
    (tmp_path / "noise.nrrd").write_bytes(b"noise")
    for name in ("cut.nrrd", "noise.nii.gz", "noise.nrrd"):
        assert "damaged" in refusal(tmp_path / name, tmp_path)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_a_packed_volume_with_a_changed_byte_is_refused(suffix: str, tmp_path: Path) -> None:
    path = saved(an_image(OBLIQUE), tmp_path / f"image{suffix}")
    conversion.convert_volume(path, tmp_path / "whole")
    content = bytearray(path.read_bytes())
    if suffix == ".nii.gz":
        # Not packed further, so that every byte decodes to some voxel.
        content = bytearray(gzip.compress(gzip.decompress(content), 0))
    content[-40] ^= 0x40
    path.write_bytes(content)
    assert "damaged" in refusal(path, tmp_path)


def test_a_volume_with_a_flood_of_bytes_behind_its_voxels_is_refused(tmp_path: Path) -> None:
    path = saved(an_image(OBLIQUE), tmp_path / "image.nii.gz")
    with gzip.open(path, "ab") as file:
        file.write(bytes(70 * 2**20))
    assert "behind its voxels" in refusal(path, tmp_path)


def test_a_header_that_claims_a_terabyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = an_nrrd(tmp_path / "bomb.nrrd", np.zeros((3, 3, 3), np.int16))
    path.write_bytes(path.read_bytes().replace(b"sizes: 3 3 3", b"sizes: 9999 9999 9999"))
    assert "voxels" in refusal(path, tmp_path)


def test_a_missing_package_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(an_image(OBLIQUE), tmp_path / "image.nrrd")
    monkeypatch.setitem(__import__("sys").modules, "nrrd", None)
    with pytest.raises(ConfigError, match=r"\.\[read\]"):
        conversion.convert_volume(path, tmp_path / "dicom")


# Pictures

RED, WHITE = (200, 30, 40), (255, 255, 255)


def a_picture(image: Image.Image, folder: Path, suffix: str = ".png", **options: Any) -> Path:  # noqa: ANN401
    path = folder / f"picture{suffix}"
    image.save(path, **options)
    return path


def shown(path: Path, folder: Path, kind: PictureKind = PictureKind.PHOTOGRAPH) -> NDArray[np.uint8]:
    return pixels.picture(conversion.convert_pictures([path], folder, kind=kind).paths[0])


def plain(mode: str, size: tuple[int, int] = (7, 5)) -> Image.Image:
    return Image.new("RGB", size, RED).convert(mode)


def transparent(rows: int) -> Image.Image:
    """Return a picture of 100 rows, the first of them transparent."""
    colored = np.full((100, 60, 4), (*RED, 255), np.uint8)
    colored[:rows, :, 3] = 0
    return Image.fromarray(colored)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_a_picture_of_which_more_than_a_twentieth_is_transparent_is_refused_with_the_share(
    suffix: str, tmp_path: Path
) -> None:
    lossless = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    rgb = shown(a_picture(transparent(5), tmp_path, suffix, **lossless), tmp_path / "dicom")
    assert (rgb[:5] == WHITE).all()
    assert (rgb[5:] == RED).all()
    for rows, share in ((6, "6.0%"), (50, "50.0%")):
        path = a_picture(transparent(rows), tmp_path, suffix, **lossless)
        with pytest.raises(BrokenSeries, match=rf"{share} of the picture is transparent"):
            shown(path, tmp_path / f"dicom{rows}")


def test_transparent_entries_of_a_palette_and_a_transparent_color_count_as_transparent(tmp_path: Path) -> None:
    indices = Image.new("P", (20, 20), 1)
    indices.putpalette([*RED, *WHITE])
    for image, name in ((indices, "entry.png"), (Image.new("RGB", (20, 20), RED), "color.png")):
        image.save(tmp_path / name, transparency=1 if image.mode == "P" else RED)
        with pytest.raises(BrokenSeries, match=r"100\.0% of the picture is transparent"):
            shown(tmp_path / name, tmp_path / image.mode)


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (plain("RGB"), ".png", RED),
        (plain("RGBA"), ".png", RED),
        (plain("P"), ".png", None),
        (plain("L"), ".png", (82, 82, 82)),
        (plain("1"), ".tif", None),
        (plain("CMYK"), ".jpg", RED),
        (plain("CMYK"), ".tif", RED),
        (Image.fromarray(np.full((5, 7), 257 * 99, np.uint16)), ".png", (99, 99, 99)),
        (Image.fromarray(np.full((5, 7), 257 * 99, np.uint16)), ".tif", (99, 99, 99)),
    ],
)
def test_every_kind_of_picture_becomes_rgb(
    image: Image.Image, suffix: str, expected: tuple[int, int, int] | None, tmp_path: Path
) -> None:
    rgb = shown(a_picture(image, tmp_path, suffix), tmp_path / "dicom")
    assert rgb.shape == (5, 7, 3)
    if expected:
        assert np.abs(rgb.reshape(-1, 3).astype(int) - expected).max() <= 3


def test_a_cmyk_jpeg_written_by_adobe_is_not_shown_inverted(tmp_path: Path) -> None:
    path = a_picture(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path, ".jpg")
    assert b"Adobe" in path.read_bytes()
    assert shown(path, tmp_path / "dicom").mean(axis=(0, 1)) == pytest.approx((255, 0, 0), abs=3)


def test_a_picture_taken_with_the_camera_turned_stands_upright(tmp_path: Path) -> None:
    image = plain("RGB", (8, 4))
    image.paste(WHITE, (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    rgb = shown(a_picture(image, tmp_path, ".png", exif=exif), tmp_path / "dicom")
    assert rgb.shape == (8, 4, 3)
    assert tuple(rgb[0, 0]) == WHITE
    assert tuple(rgb[-1, 0]) == RED


@pytest.mark.parametrize("kind", PictureKind)
@pytest.mark.parametrize(("suffix", "lossy"), [(".jpg", "01"), (".png", "00")])
def test_a_picture_passes_the_judge_and_says_what_it_lost(
    kind: PictureKind, suffix: str, lossy: str, tmp_path: Path
) -> None:
    path = a_picture(plain("L" if kind is PictureKind.RADIOGRAPH else "RGB"), tmp_path, suffix)
    written = conversion.convert_pictures([path, path], tmp_path / "dicom", kind=kind, body_part="CHEST").paths
    found = dcmread(written[1])
    assert module_errors(written[1]) == []
    assert (found.LossyImageCompression, found.BodyPartExamined, found.InstanceNumber) == (lossy, "CHEST", 2)
    assert found.Modality == {"photograph": "XC", "slice": "OT", "radiograph": "CR"}[kind]
    assert len({dcmread(one).SOPInstanceUID for one in written}) == 2
    assert b"picture.jpg" not in written[0].read_bytes()


def test_a_radiograph_keeps_its_grays_and_a_picture_with_colors_is_none(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    path = a_picture(Image.fromarray(ramp), tmp_path)
    (written,) = conversion.convert_pictures([path], tmp_path / "dicom", kind=PictureKind.RADIOGRAPH).paths
    found = dcmread(written)
    assert found.PhotometricInterpretation == "MONOCHROME2"
    assert (found.pixel_array == ramp).all()
    with pytest.raises(BrokenSeries, match="a radiograph is gray"):
        shown(a_picture(plain("RGB"), tmp_path), tmp_path / "other", PictureKind.RADIOGRAPH)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", PictureKind)
def test_grays_of_fewer_bits_in_16_are_refused_since_white_is_unknown(
    kind: PictureKind, suffix: str, tmp_path: Path
) -> None:
    grays = np.tile(np.arange(4096, dtype=np.uint16), (16, 1))
    path = a_picture(Image.fromarray(grays * 16), tmp_path, suffix)
    assert np.unique(shown(path, tmp_path / "dicom", kind)).size > 250
    path = a_picture(Image.fromarray(grays), tmp_path, suffix)
    with pytest.raises(BrokenSeries, match="end at 4095, so that white is unknown"):
        shown(path, tmp_path / "dicom", kind)


def test_a_decompression_bomb_several_pages_and_damage_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bomb = a_picture(Image.new("1", (30_000, 30_000)), tmp_path)
    pages = a_picture(plain("RGB"), tmp_path, ".tif", save_all=True, append_images=[plain("RGB")])
    buffer = io.BytesIO()
    plain("RGB", (300, 300)).save(buffer, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[:700])
    (tmp_path / "noise.png").write_bytes(b"noise")
    for path, said in ((bomb, "pixels"), (pages, "pages"), (tmp_path / "cut.jpg", "decoded")):
        with pytest.raises(BrokenSeries, match=said):
            shown(path, tmp_path / "dicom")
    with pytest.raises(BrokenSeries, match="decoded"):
        shown(tmp_path / "noise.png", tmp_path / "dicom")
