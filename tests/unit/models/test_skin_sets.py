"""A set of skin pictures that would mislead the training is refused by name, before the training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support import shared

from ainode.models.errors import ModelError
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.skin_lesion.dataset import CLASSES, pictures_of_part, read_pictures, split_indices


def a_picture(seed: int) -> NDArray[np.uint8]:
    """Return a picture with its samples in the order of OpenCV."""
    return skin_lesion(np.random.default_rng(seed), rows=100, columns=120, malignant=seed % 2 == 1)[:, :, ::-1]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for number in range(28):
        place = folder / "upper_extremity" / CLASSES[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"p{number:02d}.jpg"), a_picture(number))
    return folder


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    """Return a set of 14 pictures of each class, that has no parts of its own; a test changes it."""
    return shutil.copytree(original, tmp_path / "data")


def into_a_subfolder(folder: Path) -> Path:
    (folder / "more").mkdir()
    shutil.move(folder / "p00.jpg", folder / "more" / "p00.jpg")
    return folder / "more"


def as_tiff(folder: Path) -> Path:
    return (folder / "p00.jpg").rename(folder / "p00.tif")


def as_folder(folder: Path) -> Path:
    (folder / "x.jpg").mkdir()
    return folder / "x.jpg"


@pytest.mark.parametrize(
    ("change", "reason"), [(into_a_subfolder, "a folder"), (as_tiff, "are read; save"), (as_folder, "a folder")]
)
def test_what_is_no_picture_in_the_folder_of_a_class_is_refused_by_name(
    data: Path, change: Callable[[Path], Path], reason: str
) -> None:
    path = change(data / "upper_extremity" / "benign")
    with pytest.raises(ModelError) as refusal:
        pictures_of_part(data, "train")
    assert f"{path}: " in str(refusal.value)
    assert reason in str(refusal.value)


def test_hidden_files_beside_the_pictures_are_left_out(data: Path) -> None:
    (data / "upper_extremity" / "benign" / ".DS_Store").write_bytes(b"")
    assert len(pictures_of_part(data, "train")) + len(pictures_of_part(data, "test")) == 28


def test_every_picture_that_is_damaged_gray_small_or_transparent_is_named_at_once(data: Path) -> None:
    folder = data / "upper_extremity" / "benign"
    whole = (folder / "p00.jpg").read_bytes()
    (folder / "p00.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "p02.jpg").write_bytes(b"")
    cv2.imwrite(str(folder / "p04.jpg"), a_picture(4)[:, :, 0])
    cv2.imwrite(str(folder / "p06.jpg"), a_picture(6)[:90])
    half = np.dstack([a_picture(8), np.full((100, 120), 255, np.uint8)])
    half[:50, :, 3] = 0
    (folder / "p08.jpg").unlink()
    cv2.imwrite(str(folder / "p08.png"), half)
    with pytest.raises(ModelError) as refusal:
        read_pictures([*pictures_of_part(data, "train"), *pictures_of_part(data, "test")])
    lines = sorted(str(refusal.value).splitlines())
    assert [Path(line.split(": ")[0]).name for line in lines] == ["p00.jpg", "p02.jpg", "p04.jpg", "p06.jpg", "p08.png"]
    assert "decoded to its end" in lines[0]
    assert "decoded" in lines[1]
    assert "without color" in lines[2]
    assert "90 x 120 pixels" in lines[3]
    assert "50.0% of the picture is transparent" in lines[4]


def test_copies_of_a_picture_are_one_lesion_in_one_part(data: Path) -> None:
    for path in list(data.glob("upper_extremity/*/*.jpg")):
        for number in range(2):
            shutil.copy(path, path.with_name(f"{path.stem}_copy{number}.jpg"))
    train, test = pictures_of_part(data, "train"), pictures_of_part(data, "test")
    assert len(train) + len(test) == 84
    learned, judged = ({picture.path.read_bytes() for picture in pictures} for pictures in (train, test))
    assert not learned & judged
    assert len({picture.group for picture in train}) == len(learned)


def test_a_picture_in_both_classes_is_refused_by_both_names(data: Path) -> None:
    folder = data / "upper_extremity"
    shutil.copy(folder / "benign" / "p00.jpg", folder / "malignant" / "other.jpg")
    with pytest.raises(ModelError, match=r"other\.jpg and .*benign/p00\.jpg are the same file, of two classes"):
        pictures_of_part(data, "train")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_picture_in_both_parts_of_a_set_is_refused_by_both_names(data: Path, part: str) -> None:
    (data / "upper_extremity").rename(data / "train")
    for label, number in (("benign", 50), ("malignant", 51)):
        (data / "test" / label).mkdir(parents=True)
        cv2.imwrite(str(data / "test" / label / "own.jpg"), a_picture(number))
    assert len(pictures_of_part(data, "train")) == 28
    shutil.copy(data / "train" / "benign" / "p00.jpg", data / "test" / "benign" / "other.jpg")
    with pytest.raises(ModelError, match=r"test/benign/other\.jpg and .*train/benign/p00\.jpg are the same file"):
        pictures_of_part(data, part)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("isic_id,lesion_id,\xe4rztin\np00,L1,M\xfcller\n", r"meta\.csv: not in UTF-8"),
        ("isic_id;lesion_id\np00;L1\n", "line 2: the table has no column file or image_id"),
        ("isic_id,age\np00,40\n", "the table has no column lesion_id or group; there are isic_id, age"),
        ("isic_id,lesion_id\nabsent,L1\n", r"meta\.csv: no lesion of any picture"),
    ],
)
def test_a_table_that_names_no_lesion_of_the_pictures_is_refused(data: Path, table: str, reason: str) -> None:
    (data / "meta.csv").write_bytes(table.encode("latin-1"))
    with pytest.raises(ModelError, match=reason):
        pictures_of_part(data, "train")


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ("a,b\n1,2\n", r"manifest\.csv: no column file, split, label, group; there are a, b"),
        (
            "file,label,split,group\na.jpg,Benign,train,g\n",
            r"manifest\.csv, line 2: label 'Benign'; benign",
        ),
        (
            "file,label,split,group,box_top,box_bottom,box_left,box_right\na.jpg,benign,train,g,1,x,2,3\n",
            "whole pixels",
        ),
    ],
)
def test_a_manifest_that_is_not_understood_is_refused_in_one_line(data: Path, manifest: str, reason: str) -> None:
    (data / "manifest.csv").write_text(manifest, "utf-8")
    with pytest.raises(ModelError, match=reason) as refusal:
        pictures_of_part(data, "train")
    assert "\n" not in str(refusal.value)


def test_a_class_with_too_few_lesions_is_refused_before_the_training_with_their_number(data: Path) -> None:
    pictures = pictures_of_part(data, "train")
    split_indices(pictures, seed=0)
    benign = [picture for picture in pictures if not picture.label]
    few = [*benign, *[picture for picture in pictures if picture.label][:9]]
    with pytest.raises(ModelError, match=r"9 malignant lesions.* at least 10 are needed"):
        split_indices(few, seed=0)


def test_every_picture_of_ham10000_is_read() -> None:
    data = shared("data/labelled/skin_ham10000")
    assert len(read_pictures(pictures_of_part(data, "test"))) == 652
