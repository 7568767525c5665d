"""The spine model from pictures and tables in the layout of VinDr-SpineXR: read, divided, trained and evaluated."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ainode.models.errors import ModelError
from ainode.models.phantoms.spine import CLASS_NAMES, spine_radiograph
from ainode.models.spine_radiograph import experiment
from ainode.models.spine_radiograph.annotations import annotated_parts
from ainode.models.spine_radiograph.card import read_card
from ainode.models.spine_radiograph.dataset import stored_split
from ainode.models.spine_radiograph.detector_training import DetectorRecipe, picture_and_boxes
from ainode.models.spine_radiograph.network import COMPACT_DENSENET
from ainode.models.spine_radiograph.training import Recipe
from ainode.models.training.choice import write_choice
from ainode.models.training.experiment import TrainingOptions, draw_losses, write_evaluation

_HEADER = "image_id,study_id,series_id,rad_ID,lesion_type,xmin,ymin,xmax,ymax\n"
_ROWS, _COLUMNS = 320, 272


@dataclass
class Layout:
    """A small set in the layout of VinDr-SpineXR that a test fills."""

    folder: Path

    def picture(self, part: str, name: str, pixels: NDArray[np.generic]) -> None:
        place = self.folder / f"{part}_images"
        place.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(place / f"{name}.png"), pixels)

    def table(self, part: str, *rows: str) -> None:
        place = self.folder / "annotations"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{part}.csv").write_text(_HEADER + "".join(f"{row}\n" for row in rows), "utf-8")


def a_phantom_set(folder: Path, *, studies: int) -> Layout:
    """Return a set of two pictures a study, in each part as many studies, every second one ill."""
    layout = Layout(folder)
    for seed, part in enumerate(("train", "test")):
        rows = []
        for number in range(2 * studies):
            study, name = f"{part}-study-{number // 2}", f"{part}{number}"
            drawn = spine_radiograph(
                np.random.default_rng((seed, number)), rows=_ROWS, columns=_COLUMNS, abnormal=bool(number // 2 % 2)
            )
            eight_bits = (drawn.image >> 4).astype(np.uint8)
            layout.picture(part, name, drawn.image if number % 2 else eight_bits)
            rows += [
                f"{name},{study},s,R{number % 3},{CLASS_NAMES[kind]},{x0},{y0},{x1},{y1}"
                for kind, x0, y0, x1, y1 in drawn.boxes
            ] or [f"{name},{study},s,R1,No finding,,,,"]
        layout.table(part, *rows)
    return layout


def a_picture(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (300, 400)).astype(np.uint8)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Return a set whose table of training is of one ill and one healthy picture; a test overwrites it."""
    layout = Layout(tmp_path / "set")
    for part in ("train", "test"):
        for seed, name in enumerate(("ill", "well")):
            layout.picture(part, f"{part}-{name}", a_picture(10 * len(part) + seed))
        layout.table(
            part, f"{part}-ill,{part}-1,s,R1,Osteophytes,100,60,200,120", f"{part}-well,{part}-2,s,R1,No finding,,,,"
        )
    return layout


def boxes_of_training(layout: Layout, *lesions: str) -> list[tuple[int, float, float, float, float]]:
    rows = (f"train-ill,1,s,{lesion}" for lesion in lesions)
    layout.table("train", *rows, "train-well,2,s,R1,No finding,,,,")
    ill, well = annotated_parts(layout.folder)["train"]
    assert well.boxes == ()
    return list(ill.boxes)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a set of phantoms: two parts, six studies each, of two pictures each."""
    return a_phantom_set(tmp_path_factory.mktemp("set"), studies=6).folder


def test_no_study_is_learned_from_and_judged_on_and_both_commands_divide_alike(phantoms: Path, tmp_path: Path) -> None:
    before = sorted(phantoms.rglob("*"))
    training = experiment.training_splits(phantoms, tmp_path / "training", seed=4)
    evaluation = experiment.evaluation_splits(phantoms, "test", tmp_path / "evaluation")
    learned, choosing, judged = (set(stack.studies) for stack in (training.first, training.second, evaluation.second))
    assert not learned & choosing
    assert not (learned | choosing) & judged
    assert learned | choosing == set(evaluation.first.studies)
    assert judged == {f"test-study-{number}" for number in range(6)}
    assert set(training.first.labels) == set(training.second.labels) == {0, 1}
    assert len(list((training.folder / "images" / "train").iterdir())) == len(training.first.labels)
    again = experiment.training_splits(phantoms, tmp_path / "again", seed=4)
    assert again.second.studies.tolist() == training.second.studies.tolist()
    # The folder of the data is read only.
    assert sorted(phantoms.rglob("*")) == before


@pytest.mark.long
def test_what_was_trained_on_the_sets_training_part_is_judged_on_its_test_part(phantoms: Path, tmp_path: Path) -> None:
    names, out = ("resnet10t", "tf_efficientnetv2_b0", COMPACT_DENSENET), tmp_path / "run"
    recipes = [Recipe(name, side=64, batch=2, steps_per_epoch=1) for name in names]
    detector = DetectorRecipe(side=64, batch=2, steps_per_epoch=1)
    options = TrainingOptions(epochs=1, seed=4)
    weights = experiment.train(phantoms, out, options, recipes=recipes, detector_recipe=detector)
    choice = json.loads((out / "choice.json").read_text("utf-8"))
    assert sum(choice["shares"].values()) == pytest.approx(1)
    evaluation = experiment.evaluate(phantoms, weights, "test")
    assert evaluation.threshold == choice["threshold"] != read_card().threshold
    test = annotated_parts(phantoms)["test"]
    assert evaluation.labels.tolist() == [int(bool(picture.boxes)) for picture in test]
    assert evaluation.groups.tolist() == [picture.study for picture in test]
    assert evaluation.further["auc_by_region_and_view"] == {}
    assert "map_50" in evaluation.further["detector"]  # type: ignore[operator]
    metrics = write_evaluation(evaluation, {"model": "spine_radiograph", "part": "test"}, tmp_path, out)
    assert (metrics["cases"], metrics["groups"]) == (12, 6)
    assert {"precision", "recall", "f1", "n"} == set(metrics["classes"]["abnormal"])  # type: ignore[index]
    losses = json.loads((tmp_path / "metrics.json").read_text("utf-8"))["curves"]["losses"]
    assert {folder for folder in losses if "score" in losses[folder]} == {*names, "detector"}
    assert len(draw_losses(out)) == 4


def test_weights_of_a_training_are_judged_by_its_shares_and_threshold_and_shipped_ones_by_the_cards(
    tmp_path: Path,
) -> None:
    weights = {name: tmp_path / name.rpartition("/")[2] for name in _weights()}
    assert experiment.chosen_card(read_card(), weights) == read_card()
    shares = {"densenet_compact": 0.1, "tf_efficientnetv2_b0": 0.6, "resnet10t": 0.3}
    write_choice(tmp_path, {"shares": shares, "threshold": 0.25})
    card = experiment.chosen_card(read_card(), weights)
    assert {network.name: network.weight for network in card.networks} == shares
    assert card.threshold == 0.25
    # Weights from several folders are of no one training.
    assert experiment.chosen_card(read_card(), weights | {_weights()[0]: tmp_path / "other" / "file"}) == read_card()


def test_a_box_stays_at_its_place_and_ends_where_the_picture_ends(layout: Layout, tmp_path: Path) -> None:
    boxes = boxes_of_training(
        layout, "R1,Osteophytes,100,60,200,120", "R1,Vertebral collapse,-20,240,40.5,330", "R1,Fracture,390,0,400,30"
    )
    stack = stored_split(tmp_path / "out", "train", annotated_parts(layout.folder)["train"])
    expected = [[0, 0, 0.25, 0.2, 0.5, 0.4], [0, 6, 0, 0.8, 40.5 / 400, 1], [0, 5, 390 / 400, 0, 1, 0.1]]
    np.testing.assert_allclose(stack.boxes, expected, atol=1e-6)
    assert len(boxes) == 3
    assert stack.labels.tolist() == [1, 0]
    _, stored = picture_and_boxes(tmp_path / "out" / "detector", "train", 0)
    np.testing.assert_allclose(stored, np.asarray(expected)[:, 1:], atol=1e-5)


def test_a_bright_spot_lies_in_its_box_on_both_stored_pictures(layout: Layout, tmp_path: Path) -> None:
    pixels = np.full((300, 400), 60, np.uint8) + (np.arange(400) % 40).astype(np.uint8)
    pixels[60:120, 100:200] = 250
    layout.picture("train", "train-ill", pixels)
    stack = stored_split(tmp_path / "out", "train", annotated_parts(layout.folder)["train"])
    picture, boxes = picture_and_boxes(tmp_path / "out" / "detector", "train", 0)
    for stored, (x0, y0, x1, y1) in ((picture, boxes[0, 1:]), (stack.pictures[0], stack.boxes[0, 2:])):
        rows, columns = np.nonzero(stored > 250)
        assert columns.min() / stored.shape[1] == pytest.approx(x0, abs=0.01)
        assert (columns.max() + 1) / stored.shape[1] == pytest.approx(x1, abs=0.01)
        assert rows.min() / stored.shape[0] == pytest.approx(y0, abs=0.01)
        assert (rows.max() + 1) / stored.shape[0] == pytest.approx(y1, abs=0.01)


def test_a_picture_of_8_of_12_and_of_16_bits_and_one_in_three_channels_become_the_same(
    layout: Layout, tmp_path: Path
) -> None:
    eight = a_picture(1)
    variants = (eight, eight.astype(np.uint16) * 16, eight.astype(np.uint16) * 257, np.dstack([eight] * 3))
    stored = []
    for number, pixels in enumerate(variants):
        layout.picture("train", "train-ill", pixels)
        stored.append(stored_split(tmp_path / f"{number}", "train", annotated_parts(layout.folder)["train"]).pictures)
    assert all((pictures == stored[0]).all() for pictures in stored)


def test_a_lesion_that_several_readers_outlined_is_one_box_and_two_lesions_stay_two(layout: Layout) -> None:
    boxes = boxes_of_training(
        layout,
        "R1,Osteophytes,100,60,200,120",
        "R1,Osteophytes,100,60,200,120",
        "R2,Osteophytes,104,62,204,122",
        "R1,Osteophytes,110,60,210,120",
        "R2,Disc space narrowing,100,60,200,120",
        "R3,No finding,,,,",
    )
    assert boxes == [(0, 100, 60, 200, 120), (0, 110, 60, 210, 120), (1, 100, 60, 200, 120)]


def test_the_thirteen_lesions_of_the_set_have_a_class_of_the_card(layout: Layout) -> None:
    lesions = {
        "Ankylosis": 5,
        "Disc space narrowing": 1,
        "Enthesophytes": 5,
        "Foraminal stenosis": 4,
        "Fracture": 5,
        "Osteophytes": 0,
        "Sclerotic lesion": 5,
        "Spondylolysthesis": 3,
        "Subchondral sclerosis": 5,
        "Surgical implant": 2,
        "Vertebral collapse": 6,
        "Foreign body": 5,
        "Other lesions": 5,
    }
    rows = (f"R1,{name},{10 * number},5,{10 * number + 8},15" for number, name in enumerate(lesions))
    assert [box[0] for box in boxes_of_training(layout, *rows)] == list(lesions.values())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("train-ill,1,s,R1,Osteophyte,1,2,30,40", r"train\.csv, line 2: lesion_type 'Osteophyte'; known are"),
        ("train-ill,1,s,R1,Osteophytes,,,,", "line 2: Osteophytes without the four edges"),
        ("train-ill,1,s,R1,Osteophytes,1,2,x,40", r"train\.csv, line 2: could not convert"),
        ("train-ill,1,s,R1,Osteophytes,30,2,1,40", "line 2: a box from 30, 2 to 1, 40 has no area"),
        ("train-ill,1,s,R1,Osteophytes,nan,2,1,40", "line 2: a box from nan"),
        ("train-ill,,s,R1,Osteophytes,1,2,30,40", "line 2: no image_id or no study_id"),
        ("absent,1,s,R1,Osteophytes,1,2,30,40", r"train_images: no picture absent\.png, which train\.csv names"),
        ("../test_images/test-ill,1,s,R1,Osteophytes,1,2,30,40", r"no picture \.\./test_images/test-ill\.png"),
        ("train-well,1,s,R1,Osteophytes,1,2,30,40", "picture train-well is of two studies"),
        ("train-ill,test-1,s,R1,Osteophytes,1,2,30,40", "1 studies are in both parts, test-1"),
        ("train-ill,1,s,R1,No finding,,,,", r"train\.csv: both normal and abnormal pictures are needed"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(layout: Layout, row: str, reason: str) -> None:
    layout.table("train", row, "train-well,2,s,R1,No finding,,,,")
    with pytest.raises(ModelError, match=reason):
        annotated_parts(layout.folder)


def test_a_layout_in_part_is_refused_with_what_is_missing(layout: Layout) -> None:
    (layout.folder / "annotations" / "test.csv").unlink()
    with pytest.raises(ModelError, match=r"not there: .*annotations/test\.csv"):
        experiment.evaluate(layout.folder, dict.fromkeys(_weights(), Path()), "test")
    (layout.folder / "annotations" / "train.csv").write_text("image_id,lesion_type\n", "utf-8")
    (layout.folder / "annotations" / "test.csv").write_text(_HEADER, "utf-8")
    with pytest.raises(ModelError, match="no column study_id, xmin, ymin, xmax, ymax"):
        annotated_parts(layout.folder)


def test_a_table_that_is_not_in_utf_8_is_refused_by_name(layout: Layout) -> None:
    path = layout.folder / "annotations" / "train.csv"
    path.write_bytes((_HEADER + "train-ill,st\xfc,s,R1,No finding,,,,\n").encode("latin-1"))
    with pytest.raises(ModelError, match=r"train\.csv: not in UTF-8 .*save the table as CSV in UTF-8"):
        annotated_parts(layout.folder)


def test_a_film_in_both_parts_or_both_normal_and_abnormal_is_refused_by_both_names(layout: Layout) -> None:
    layout.picture("test", "test-well", a_picture(51))
    with pytest.raises(ModelError, match=r"test-well\.png and .*train-well\.png are the same file, in test"):
        annotated_parts(layout.folder)
    layout.picture("test", "test-well", a_picture(50))
    with pytest.raises(ModelError, match=r"test-well\.png and .*train-ill\.png are the same file, of two classes"):
        annotated_parts(layout.folder)


def test_studies_of_one_part_that_share_a_film_are_one_study(layout: Layout) -> None:
    layout.picture("train", "again", a_picture(51))
    layout.table(
        "train",
        "train-ill,a,s,R1,Osteophytes,100,60,200,120",
        "train-well,b,s,R1,No finding,,,,",
        "again,c,s,R1,No finding,,,,",
    )
    assert [picture.study for picture in annotated_parts(layout.folder)["train"]] == ["b", "a", "b"]


def test_dicom_in_place_of_png_is_told_to_be_converted(layout: Layout) -> None:
    (layout.folder / "train_images" / "train-ill.png").rename(layout.folder / "train_images" / "train-ill.dicom")
    with pytest.raises(ModelError, match="must be converted to PNG"):
        annotated_parts(layout.folder)


def test_each_picture_that_cannot_be_read_is_named_with_its_reason(layout: Layout, tmp_path: Path) -> None:
    layout.picture("train", "train-ill", np.zeros((300, 400), np.uint8))
    (layout.folder / "train_images" / "train-well.png").write_bytes(b"no picture")
    with pytest.raises(ModelError) as refusal:
        stored_split(tmp_path / "out", "train", annotated_parts(layout.folder)["train"])
    assert "train-ill.png: an empty or uniform picture" in str(refusal.value)
    assert "train-well.png: no picture of 8 or 16 bits" in str(refusal.value)
    layout.picture("train", "train-well", np.dstack([a_picture(0), a_picture(1), a_picture(2)]))
    layout.picture("train", "train-ill", a_picture()[:, :150])
    with pytest.raises(ModelError) as refusal:
        stored_split(tmp_path / "out", "train", annotated_parts(layout.folder)["train"])
    assert "train-well.png: a colored picture" in str(refusal.value)
    assert "train-ill.png: short side of 150" in str(refusal.value)


def test_a_picture_that_was_made_smaller_than_its_boxes_is_refused(layout: Layout, tmp_path: Path) -> None:
    boxes_of_training(layout, "R1,Osteophytes,500,60,600,120")
    with pytest.raises(ModelError, match=r"train-ill\.png: a box lies outside of the 400 x 300 pixels"):
        stored_split(tmp_path / "out", "train", annotated_parts(layout.folder)["train"])


def test_a_folder_that_holds_something_else_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(ModelError, match=r"looked for annotations/train\.csv.*there are images"):
        experiment.train(tmp_path, tmp_path / "out", TrainingOptions())
    with pytest.raises(ModelError, match=r"looked for annotations/train\.csv"):
        experiment.evaluate(tmp_path, dict.fromkeys(_weights(), Path()), "test")


def _weights() -> list[str]:
    names = ("densenet_compact", "tf_efficientnetv2_b0", "resnet10t", "detector")
    return [f"spine_radiograph/{name}" for name in names]
