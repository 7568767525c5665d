"""The pneumonia model from NIfTI files in folders by class: turned, cut, divided, trained and evaluated."""

from __future__ import annotations

import gzip
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import shared

from ainode.models.ct_pneumonia import experiment
from ainode.models.ct_pneumonia.air import reason_moved_air
from ainode.models.ct_pneumonia.folders import class_volumes, files_of_part, training_volumes
from ainode.models.ct_pneumonia.lungs import lung_slices
from ainode.models.ct_pneumonia.preprocess import windowed_values
from ainode.models.errors import ModelError
from ainode.models.phantoms.abdomen import abdomen
from ainode.models.phantoms.thorax import Field, thorax
from ainode.models.training.experiment import TrainingOptions, draw_losses, write_evaluation
from ainode.node.imaging import aerated_lung

nibabel: Any = pytest.importorskip("nibabel")
nifti = pytest.importorskip("ainode.models.ct_pneumonia.nifti")

SPACING = (8.0, 4.0, 3.5)
SCAN = Field((34, 80, 96), SPACING)
# A volume (Z, Y, X) of the node, as a file of LPS axes: its voxels are x, y, z, and an affine counts in RAS.
LPS = np.diag((-SPACING[2], -SPACING[1], SPACING[0], 1.0))


@cache
def a_scan(number: int) -> NDArray[np.float32]:
    """Return a chest (Z, Y, X) on the node's axes; odd ones are ill."""
    return thorax(number, number, scanned=SCAN, consolidations=4 * (number % 2)).values


def saved(path: Path, values: NDArray[Any], affine: NDArray[np.float64] | None = LPS, axes: str = "LPS") -> Path:
    """Save a volume of the node's axes in a file whose voxels run along other axes."""
    image = nibabel.Nifti1Image(np.rint(values).astype(np.int16).transpose(2, 1, 0), affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt(("L", "P", "S")), nibabel.orientations.axcodes2ornt(tuple(axes))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image.as_reoriented(turn), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with four healthy and four ill chests, saved with several axes."""
    folder = tmp_path_factory.mktemp("chests")
    for number in range(8):
        place = ("CT-0", "CT-23")[number % 2] if number < 6 else ("CT-0", "CT-1")[number % 2]
        axes = ("LPS", "RAS", "LAS", "RPI")[number // 2]
        saved(folder / place / f"study_{number:04d}.nii.gz", a_scan(number), axes=axes)
    return folder


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPI", "SLA", "PIR"])
def test_a_volume_is_the_same_whichever_way_its_file_keeps_the_voxels(tmp_path: Path, axes: str) -> None:
    values = a_scan(1)
    scan = nifti.read_scan(saved(tmp_path / f"{axes}.nii.gz", values, axes=axes))
    assert (scan.values == np.rint(values)).all()
    assert scan.spacing_mm == pytest.approx(SPACING)


def test_the_flipped_affine_of_a_file_is_its_patients_other_side(tmp_path: Path) -> None:
    values = a_scan(1)
    mirrored = nifti.read_scan(saved(tmp_path / "mirrored.nii", values, LPS @ np.diag((-1.0, 1.0, 1.0, 1.0))))
    assert (mirrored.values == np.rint(values)[..., ::-1]).all()


def test_the_scale_of_a_file_is_honored(tmp_path: Path) -> None:
    stored = np.arange(3 * 4 * 5, dtype=np.int16).reshape(5, 4, 3)
    image = nibabel.Nifti1Image(stored, LPS)
    image.header.set_slope_inter(2.0, -1024.0)
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    assert (nifti.read_scan(tmp_path / "scaled.nii.gz").values == stored.transpose(2, 1, 0) * 2.0 - 1024).all()


def test_a_scan_is_cut_to_the_slices_that_the_node_reads() -> None:
    chests = [a_scan(number) for number in range(4)]
    belly = abdomen(np.random.default_rng(0), slices=12, side=96, step_mm=SPACING[0]).values
    whole = np.concatenate([belly, np.pad(chests[1], ((0, 0), (8, 8), (0, 0)), constant_values=-1000)])
    framed = np.pad(chests[2], ((0, 0), (9, 3), (2, 14)), constant_values=-2000)
    fine = thorax(5, 5, scanned=Field((12, 300, 280), (8.0, 1.2, 1.2))).values
    for scan in (*chests, whole, belly, framed, fine):
        expected = aerated_lung.lung_slices(aerated_lung.lung_shares(scan), SPACING[0])
        assert lung_slices(scan, SPACING[0]) == expected
    assert len(lung_slices(whole, SPACING[0])) < len(whole)
    assert not lung_slices(belly, SPACING[0])


def test_the_volumes_are_those_of_the_files_cut_to_the_lungs_with_their_label_and_their_scan(data: Path) -> None:
    files, volumes = files_of_part(data, "train"), class_volumes(data, "train")
    for index, file in enumerate(files):
        number = int(file.path.name[6:10])
        assert volumes.labels[index] == file.label == number % 2
        whole = np.rint(a_scan(number))
        lungs = lung_slices(whole, SPACING[0])
        assert volumes.scans[index].tolist() == pytest.approx([len(lungs), SPACING[0], SPACING[2]])
        assert volumes.values[index].shape == (64, 128, 128)
        corners = windowed_values(whole[lungs.start : lungs.stop : len(lungs) - 1, ::79, ::95])
        kept = windowed_values(volumes.values[index][::63, ::127, ::127].astype(np.float32))
        np.testing.assert_allclose(kept, corners, atol=1 / 1400)
    assert volumes.values.dtype == np.int16
    assert np.isnan(volumes.lesions).all()


def test_training_and_evaluation_divide_the_files_alike_and_no_file_is_in_two_parts(data: Path) -> None:
    train, test = ([file.group for file in files_of_part(data, part)] for part in ("train", "test"))
    training, validation = training_volumes(data, seed=5)
    assert set(training.groups) | set(validation.groups) == set(train)
    assert not set(training.groups) & set(validation.groups)
    assert not set(train) & set(test)
    assert len(train) + len(test) == 8
    assert set(class_volumes(data, "test").groups) == set(test)
    assert set(training.labels) == set(validation.labels) == set(class_volumes(data, "test").labels) == {0, 1}


def test_a_file_keeps_its_part_when_its_folder_is_moved(data: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    for file in (*files_of_part(data, "train"), *files_of_part(data, "test")):
        place = moved / file.path.parent.name / file.path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file.path)
    assert [file.group for file in files_of_part(moved, "test")] == [file.group for file in files_of_part(data, "test")]


def test_copies_of_a_scan_are_in_one_part_and_a_scan_of_two_classes_is_refused_by_both_names(
    data: Path, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    for file in sorted((tmp_path / "CT-0").glob("*")):
        for copy in range(4):
            shutil.copy(file, file.with_name(f"copy{copy}_{file.name}"))
    parts = [{file.path.read_bytes() for file in files_of_part(tmp_path, part)} for part in ("train", "test")]
    assert not parts[0] & parts[1]
    assert len(files_of_part(tmp_path, "train")) + len(files_of_part(tmp_path, "test")) == 24
    training, validation = training_volumes(tmp_path, seed=1)
    assert not set(training.groups) & set(validation.groups)
    shutil.copy(tmp_path / "CT-0" / "study_0000.nii.gz", tmp_path / "CT-23" / "other.nii.gz")
    with pytest.raises(ModelError, match=r"CT-23/other\.nii\.gz and .*study_0000\.nii\.gz are the same file, of two"):
        files_of_part(tmp_path, "train")


def test_a_class_of_copies_of_one_scan_is_refused_and_told_that_copies_count_once(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "CT-23", tmp_path / "CT-23")
    for number in range(4):
        shutil.copy(data / "CT-0" / "study_0000.nii.gz", _made(tmp_path / "CT-0") / f"{number}.nii.gz")
    with pytest.raises(ModelError, match=r"^1 healthy of \d+ .* copies of a file counted once"):
        files_of_part(tmp_path, "train")


@pytest.mark.parametrize(
    ("moved", "reason"), [(200, "hardly any gas lies near -1000"), (-200, r"gas measures -1\d+ HU")]
)
def test_a_scan_whose_air_is_not_at_minus_1000_is_refused_by_name(
    data: Path, tmp_path: Path, moved: int, reason: str
) -> None:
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    saved(tmp_path / "CT-0" / "study_0000.nii.gz", a_scan(0) + moved)
    with pytest.raises(ModelError, match=rf"CT-0/study_0000\.nii\.gz: {reason}"):
        [class_volumes(tmp_path, part) for part in ("train", "test")]


def test_real_chests_have_their_air_where_it_belongs_and_moved_ones_have_not() -> None:
    paths = sorted(shared("data/labelled/ct3d_covidctmd").glob("*.npz"))
    scans = [np.load(path)["hu"].astype(np.float32) for path in paths]
    assert [reason_moved_air(scan + moved) for scan in scans for moved in (-30, 0, 30)] == [""] * 3 * len(scans)
    assert all(reason_moved_air(scan + moved) for scan in scans for moved in (-200, -100, 100, 200))


@pytest.mark.long
def test_one_short_training_of_the_folders_is_evaluated_on_the_files_it_never_saw(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    weights = experiment.train(data, out, TrainingOptions(epochs=1))
    evaluation = experiment.evaluate(data, weights, "test")
    assert evaluation.threshold == json.loads((out / "choice.json").read_text("utf-8"))["threshold"]
    assert evaluation.groups.tolist() == [file.group for file in files_of_part(data, "test")]
    metrics = write_evaluation(evaluation, {"model": "ct_pneumonia", "part": "test"}, tmp_path / "report", out)
    assert metrics["cases_of_class"] == {"Normal": 1, "Abnormal": 1}
    assert metrics["classes"]["Abnormal"]["n"] == 1  # type: ignore[index]
    assert [path.parent.name for path in draw_losses(out)] == ["dcg", "whole"]


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as refusal:
        nifti.read_scan(path)
    assert str(path) in str(refusal.value)
    return str(refusal.value)


def test_a_file_that_does_not_say_which_way_the_patient_lies_is_refused_by_name(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), LPS)
    image.set_sform(LPS, 0)
    image.set_qform(LPS, 0)
    nibabel.save(image, tmp_path / "a.nii")
    assert "codes are both 0" in refused(tmp_path / "a.nii")
    image.set_sform(LPS, 4)
    nibabel.save(image, tmp_path / "b.nii")
    assert "space of a template" in refused(tmp_path / "b.nii")
    image.set_sform(LPS @ np.diag((-1.0, 1.0, 1.0, 1.0)), 1)
    image.set_qform(LPS, 1)
    nibabel.save(image, tmp_path / "c.nii")
    assert "two orientations" in refused(tmp_path / "c.nii")
    lean = np.eye(4)
    lean[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), lean), tmp_path / "d.nii")
    assert "lean" in refused(tmp_path / "d.nii")


def test_a_file_that_is_not_one_volume_of_finite_numbers_in_mm_is_refused_by_name(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), np.int16), LPS), tmp_path / "a.nii.gz")
    assert "4 x 5 x 6 x 2 values, no single volume" in refused(tmp_path / "a.nii.gz")
    values = np.zeros((4, 5, 6), np.float32)
    values[1, 2, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, LPS), tmp_path / "b.nii.gz")
    assert "no finite numbers" in refused(tmp_path / "b.nii.gz")
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), LPS)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "c.nii.gz")
    assert "mm is read" in refused(tmp_path / "c.nii.gz")
    (tmp_path / "d.nii.gz").write_bytes(gzip.compress(image.to_bytes())[:-40])
    assert "damaged" in refused(tmp_path / "d.nii.gz")
    (tmp_path / "e.nii").write_bytes(b"no NIfTI at all")
    assert "damaged" in refused(tmp_path / "e.nii")


def test_every_refused_file_of_a_training_is_named_at_once(tmp_path: Path) -> None:
    for number in range(3):
        saved(tmp_path / "CT-0" / f"{number}.nii.gz", np.full((20, 30, 30), 40.0 + number))
        nibabel.save(
            nibabel.Nifti1Image(np.full((4, 5, 6, 2), number, np.int16), LPS),
            _made(tmp_path / "CT-2") / f"{number}.nii",
        )
    with pytest.raises(ModelError) as refusal:
        training_volumes(tmp_path, seed=0)
    assert str(refusal.value).count("no aerated lung") == 2
    assert str(refusal.value).count("no single volume") == 2


def test_a_folder_that_holds_something_else_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    with pytest.raises(ModelError, match=r"looked for manifest\.csv, or CT-0/\*\.nii\.gz.*there are scans"):
        experiment.train(tmp_path, tmp_path / "out", TrainingOptions())
    for name in ("CT-0", "CT-7"):
        _made(tmp_path / name)
    with pytest.raises(ModelError, match="no class named CT-7"):
        files_of_part(tmp_path, "test")
    (tmp_path / "CT-7").rename(tmp_path / "CT-23")
    with pytest.raises(ModelError, match="healthy and ill volumes are needed"):
        experiment.train(tmp_path, tmp_path / "out", TrainingOptions())


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder
