"""Files that people hand over are known by their bytes, and refused by their true name."""

import gzip
import shutil
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from pydicom import dcmread
from support import a_file

from ainode.node.errors import BrokenSeries
from ainode.node.offline import inputs, zip_files
from ainode.node.offline.inputs import Inputs
from ainode.node.offline.kinds import FileKind, format_of, kind_suffix
from ainode.node.offline.options import ReadOptions
from ainode.node.offline.picture_files import picture
from ainode.node.offline.readings import unread_lines
from ainode.node.offline.volume_files import grid
from ainode.node.settings import Settings

nibabel: Any = pytest.importorskip("nibabel")
nrrd: Any = pytest.importorskip("nrrd")
VALUES = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
AFFINE = np.diag((-2.0, -2.0, 3.0, 1.0))


def an_image(sform: Any = AFFINE, qform: Any = AFFINE, *, codes: tuple[int, int] = (1, 1)) -> Any:  # noqa: ANN401
    image = nibabel.Nifti1Image(VALUES, None)
    image.header.set_xyzt_units("mm")
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    return image


def gathered(*paths: Path, folder: Path, **options: Any) -> Inputs:  # noqa: ANN401 - of a ReadOptions
    return inputs.input_studies(paths, folder / "converted", options=ReadOptions(**options), settings=Settings())


@pytest.mark.parametrize("name", ["a.nii.gz", "NO_SUFFIX", "capital.NII.GZ", "wrong.dcm"])
@pytest.mark.parametrize("is_packed", [True, False])
def test_a_nifti_file_is_read_whatever_its_name_and_whether_it_is_packed(
    tmp_path: Path, name: str, *, is_packed: bool
) -> None:
    content = an_image().to_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if is_packed else content)
    assert format_of(tmp_path / name).kind is FileKind.NIFTI
    assert np.array_equal(grid(tmp_path / name).values, VALUES.transpose())


def test_a_detached_nrrd_header_is_read_with_the_data_beside_it_and_both_name_the_study(tmp_path: Path) -> None:
    header = {"space": "left-posterior-superior", "space directions": np.eye(3), "space origin": np.zeros(3)}
    nrrd.write(str(tmp_path / "a.nhdr"), VALUES, header, detached_header=True)
    assert np.array_equal(grid(tmp_path / "a.nhdr").values, VALUES.transpose())
    first = gathered(tmp_path / "a.nhdr", folder=tmp_path / "1").studies[0].study_instance_uid
    nrrd.write(str(tmp_path / "a.nhdr"), VALUES + 1, header, detached_header=True)
    assert gathered(tmp_path / "a.nhdr", folder=tmp_path / "2").studies[0].study_instance_uid != first


@pytest.mark.parametrize("name", ["../secret.raw", "/etc/hostname", "absent.raw"])
def test_a_detached_nrrd_header_names_no_file_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(120))
    folder = tmp_path / "scan"
    folder.mkdir()
    lines = ["NRRD0004", "type: short", "dimension: 3", "sizes: 3 4 5", "encoding: raw", "endian: little"]
    (folder / "a.nhdr").write_text("\n".join([*lines, f"data file: {name}", ""]))
    with pytest.raises(BrokenSeries, match="names other files for its data"):
        grid(folder / "a.nhdr")


FLIPPED = np.diag((2.0, -2.0, 3.0, 1.0))
NUDGED = AFFINE + np.array([[0, 0, 0, 0.9], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (an_image(FLIPPED), "two orientations that disagree by 8.0 mm: sform \\(code 1\\), qform \\(code 1\\)"),
        (an_image(FLIPPED, codes=(4, 1)), "two orientations that disagree"),
        (an_image(codes=(4, 0)), "space of a template \\(MNI 152\\)"),
        (an_image(codes=(0, 3)), "space of a template \\(Talairach\\)"),
        (an_image(codes=(5, 5)), "space of a template"),
        (an_image(codes=(2, 4)), "space of a template \\(MNI 152\\)"),
        (an_image(codes=(4, 2)), "space of a template \\(MNI 152\\)"),
        (nibabel.Nifti1Image(VALUES[0], AFFINE), "4 x 5 values, no single volume"),
        (an_image(codes=(0, 0)), "codes are both 0"),
    ],
)
def test_a_nifti_file_without_one_orientation_of_the_patient_is_refused(
    tmp_path: Path,
    image: Any,  # noqa: ANN401
    reason: str,
) -> None:
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(BrokenSeries, match=reason):
        grid(tmp_path / "a.nii")


@pytest.mark.parametrize(
    "image", [an_image(NUDGED), an_image(codes=(1, 0)), an_image(codes=(0, 1)), an_image(codes=(2, 1))]
)
def test_a_nifti_file_whose_orientations_agree_within_half_a_voxel_is_read(tmp_path: Path, image: Any) -> None:  # noqa: ANN401
    nibabel.save(image, tmp_path / "a.nii")
    assert np.array_equal(grid(tmp_path / "a.nii").values, VALUES.transpose())


def _pair(folder: Path, suffix: str) -> Path:
    nibabel.save(nibabel.Nifti1Pair(VALUES, AFFINE), folder / "pair.img")
    return folder / f"pair{suffix}"


def _file(name: str, content: bytes) -> Callable[[Path], Path]:
    def written(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return written


@pytest.mark.parametrize(
    ("made", "remedy"),
    [
        (lambda folder: _pair(folder, ".img"), "save the image as a single .nii"),
        (lambda folder: _pair(folder, ".hdr"), "save the image as a single .nii"),
        (_file("a.mha", b"ObjectType = Image\nNDims = 3\n"), "save it as NRRD or NIfTI"),
        (_file("a.mhd", b"NDims = 3\nDimSize = 1 1 1\n"), "save it as NRRD or NIfTI"),
        (_file("a.heic", b"\0\0\0\x18ftypheic" + bytes(200)), "save it as JPEG or PNG"),
        (_file("a.gif", b"GIF89a" + bytes(200)), "save it as PNG"),
        (_file("a.pdf", b"%PDF-1.7"), "give the images themselves"),
        (_file("a.gz", gzip.compress(b"something else")), "unpack it"),
        (_file("a.heics", b"\0\0\0\x18ftyphevx" + bytes(200)), "save it as JPEG or PNG"),
        (_file("a.mp4", b"\0\0\0\x18ftypmp42" + bytes(200)), "a film"),
        (_file("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200)), "save it as PNG"),
        (_file("a.jxl", b"\xff\x0a" + bytes(200)), "save it as PNG"),
        (_file("a.tar", bytes(257) + b"ustar" + bytes(300)), "unpack it"),
        (_file("a.xz", b"\xfd7zXZ\0" + bytes(200)), "unpack it"),
        (_file("a.npy", b"\x93NUMPY\x01\0" + bytes(200)), "save it as NIfTI or NRRD"),
        (_file("a.mhd", b"\xef\xbb\xbfObjectType = Image\r\n"), "save it as NRRD or NIfTI"),
        (_file("a.html", b"<html><body>Please sign in</body></html>" * 40), "a text"),
        (_file("a.dcm", b""), "empty"),
        (_file("a.nii", b"text"), "it is no NIfTI file, though its name says so; copy or save it again"),
        (_file("A.PNG", bytes(range(256))), "it is no PNG file"),
        (_file("a.nii.gz", b"text"), "it is no NIfTI file, though its name says so"),
        (
            _file("a.nrrd", b"<html>Please sign in</html>"),
            "it is a text, no NRRD file, though its name says so; give the",
        ),
    ],
)
def test_a_file_that_is_not_read_is_told_what_it_is_and_what_to_make_of_it(
    tmp_path: Path, made: Callable[[Path], Path], remedy: str
) -> None:
    (unread,) = gathered(made(tmp_path), folder=tmp_path).unread
    assert remedy in unread.reason
    assert "Part 10" not in unread.reason


@pytest.mark.parametrize(("name", "form"), [("a.webp", "WEBP"), ("a.jfif", "JPEG"), ("a.png", "JPEG"), ("a", "PNG")])
def test_a_picture_is_read_whatever_its_name(tmp_path: Path, name: str, form: str) -> None:
    Image.new("RGB", (9, 8), (200, 100, 50)).save(tmp_path / name, form)
    (study,) = gathered(tmp_path / name, folder=tmp_path).studies
    dataset = dcmread(study.instances[0].path)
    assert dataset.LossyImageCompression == ("00" if form == "PNG" else "01")


def test_a_zip_archive_is_read_as_a_folder_and_its_names_become_no_paths(tmp_path: Path) -> None:
    content = a_file()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../../outside.dcm", content)
        archive.writestr("notes.txt", "no image")
    (study,) = gathered(tmp_path / "a.zip", folder=tmp_path / "deep" / "folder").studies
    assert study.instances[0].ref.sop_instance_uid == str(dcmread(BytesIO(content)).SOPInstanceUID)
    assert not list(tmp_path.rglob("outside.dcm"))


def test_a_zip_archive_that_unpacks_to_a_multiple_of_its_size_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(100 * 1024**2))
    with pytest.raises(BrokenSeries, match="200 times its size"):
        zip_files.unpack(tmp_path / "bomb.zip", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_archives_that_come_together_share_what_they_may_unpack_to(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("image", bytes(6_000))
    options = ReadOptions(zip_bounds=zip_files.Bounds(10_000, 10))
    paths = [tmp_path / "a.zip", tmp_path / "b.zip"]
    unread = inputs.input_studies(paths, tmp_path / "folder", options=options, settings=Settings()).unread
    assert unread[0].path.name == "b.zip"
    assert "(9 files of 4000 bytes are read)" in unread[0].reason


def test_nothing_is_left_of_an_archive_that_is_damaged_at_its_end(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("first", bytes(50_000))
        archive.writestr("last", bytes(50_000))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[90_000] = 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(BrokenSeries, match="damaged"):
        zip_files.unpack(tmp_path / "a.zip", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_a_damaged_zip_archive_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    (unread,) = gathered(tmp_path / "a.zip", folder=tmp_path).unread
    assert "ZIP archive is damaged" in unread.reason


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_bytes_of_any_method_of_compression_are_a_damaged_archive(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.dcm", np.random.default_rng(0).integers(0, 99, 20_000, dtype=np.uint8).tobytes())
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[60:120] = b"\xa5" * 60
    (tmp_path / "a.zip").write_bytes(content)
    (unread,) = gathered(tmp_path / "a.zip", folder=tmp_path).unread
    assert "ZIP archive is damaged" in unread.reason


def test_an_archive_without_a_file_is_told(tmp_path: Path) -> None:
    zipfile.ZipFile(tmp_path / "a.zip", "w").close()
    (unread,) = gathered(tmp_path / "a.zip", folder=tmp_path).unread
    assert "holds no file" in unread.reason


def test_the_one_volume_of_an_archive_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("scan/a.nii.gz", gzip.compress(an_image().to_bytes()))
        archive.writestr("scan/readme.txt", "from the scanner")
    (study,) = gathered(tmp_path / "a.zip", folder=tmp_path / "out").studies
    assert len(study.instances) == VALUES.shape[-1]


@pytest.mark.parametrize("tag", [{254: 1}, {50706: b"\1\4\0\0"}], ids=["reduced", "DNG"])
def test_the_preview_in_the_raw_file_of_a_camera_is_not_its_picture(tmp_path: Path, tag: dict[int, Any]) -> None:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for number, value in tag.items():
        directory[number] = value
    Image.new("RGB", (9, 8), (200, 100, 50)).save(tmp_path / "a.dng", "TIFF", tiffinfo=directory)
    (unread,) = gathered(tmp_path / "a.dng", folder=tmp_path).unread
    assert "a preview" in unread.reason


def test_white_is_0_in_a_16_bit_tiff_that_says_so(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "a.tif")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[content.index(struct.pack("<HH", 262, 3)) + 8] = 0
    (tmp_path / "a.tif").write_bytes(content)
    assert picture(tmp_path / "a.tif").rgb[..., 0].tolist() == [[255, 0]]


def test_copies_of_an_image_count_once_and_other_content_under_one_uid_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(a_file())
    shutil.copy(folder / "1.dcm", folder / "2.dcm")
    dataset = dcmread(folder / "1.dcm")
    dataset.PixelData = b"\1" * len(dataset.PixelData)
    dataset.save_as(folder / "3.dcm")
    given = gathered(folder, folder=tmp_path)
    assert len(given.studies[0].instances) == 1
    assert [(file.path.name, "other content" in file.reason) for file in given.unread] == [("3.dcm", True)]


def test_other_content_under_one_uid_is_told_where_wrong_uids_are_replaced_too(tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    content = a_file()
    (folder / "a.dcm").write_bytes(content)
    dataset = dcmread(BytesIO(content))
    dataset.InstanceNumber = 77
    dataset.save_as(folder / "b.dcm")
    (unread,) = gathered(folder, folder=tmp_path, repair_uids=True).unread
    assert "other content" in unread.reason


def test_one_reason_for_many_files_is_one_line_with_their_number(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    (line,) = unread_lines(gathered(tmp_path, folder=tmp_path).unread)
    assert "0.heic and 2 more: it is a HEIC" in line


@pytest.mark.filterwarnings("ignore")
def test_files_with_wrong_uids_are_read_as_copies_where_somebody_asks_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    for number in range(2):
        path = folder / f"{number}.dcm"
        path.write_bytes(a_file())
        dataset = dcmread(path)
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "1.2-3.4", "1.2-3"
        del dataset.SOPInstanceUID
        dataset.InstanceNumber = number
        dataset.save_as(path)
    given = gathered(folder, folder=tmp_path)
    assert (given.studies, len(given.unread)) == ((), 2)
    given = gathered(folder, folder=tmp_path, repair_uids=True)
    (study,) = given.studies
    assert given.unread == ()
    assert (len(study.series), len(study.instances)) == (1, 2)
    (note,) = given.notes(study)
    assert "UIDs of 2 files" in note


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("Doe.NRRD", ".nrrd"),
        ("a.nii.gz", ".nii.gz"),
        ("../../etc/passwd", ""),
        ("a.nrrd/..", ""),
        ("a.nrrd\0.dcm", ""),
        ("..", ""),
        ("a.dcm", ""),
        ("a.png; rm", ""),
    ],
)
def test_nothing_of_a_name_but_the_end_that_promises_a_kind_is_kept(name: str, suffix: str) -> None:
    assert kind_suffix(name) == suffix


def test_a_file_of_an_archive_whose_name_promises_nrrd_is_told_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../scan/Doe.nrrd", b"text")
        archive.writestr("other", b"text that is no image")
    reasons = [file.reason for file in gathered(tmp_path / "a.zip", folder=tmp_path / "out").unread]
    assert reasons == [
        "it is no NRRD file, though its name says so; copy or save it again",
        "it is a text; give the images themselves",
    ]
    assert not [path for path in tmp_path.rglob("*") if "Doe" in path.name]
