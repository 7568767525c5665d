"""The README: its pictures are described, and the limits that it states are those of the cards."""

import re
from pathlib import Path

import pytest
from PIL import Image

from ainode.node.reading.cards import card

ROOT = Path(__file__).parents[2]
PICTURES = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_each_picture_of_the_readme_is_there_small_and_described() -> None:
    assert len(PICTURES) == 3
    for text, name in PICTURES:
        assert len(text.split()) > 30
        assert (ROOT / name).stat().st_size < 300_000
        with Image.open(ROOT / name) as image:
            assert image.width > image.height > 500


def test_the_capture_says_what_it_is_of_and_is_drawn_by_one_command() -> None:
    ((text, name),) = ((text, name) for text, name in PICTURES if "capture" in name)
    assert all(word in text for word in ("synthetic", "present", "threshold", "research use only"))
    assert name in (ROOT / "Makefile").read_text(encoding="utf-8")


MODELS = {
    "Spine": "spine_radiograph",
    "Spine angles": "spine_vertebrae",
    "Lung nodule": "lung_nodule",
    "Lung tumor": "ct_tumor",
    "CT pneumonia": "ct_pneumonia",
    "Pancreas regions": "pancreas_tumor",
    "Skin": "skin_lesion",
}
FIGURE = re.compile(r"-?\d\.\d{3}|\d+ of \d+|\d+ to \d+ %")
LIMITS = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Limits\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("subject", MODELS)
def test_each_figure_of_the_limits_of_the_readme_stands_among_the_limits_of_the_card(
    subject: str, tmp_path: Path
) -> None:
    (statement,) = (" ".join(part.split()) for part in LIMITS.split("\n- ") if part.startswith(f"{subject}:"))
    limits = " ".join(card(MODELS[subject], tmp_path).limits)
    assert set(FIGURE.findall(statement)) <= set(FIGURE.findall(limits))


SHORTCUT = re.compile(r"shortcuts (0\.\d{3})")


def test_the_shortcuts_of_the_table_of_models_are_the_highest_of_a_test_as_the_console_shows_them(
    tmp_path: Path,
) -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## The models\n")[2].partition("\n## ")[0]
    models = [path.parent.name for path in sorted((ROOT / "models").glob("*/card.toml"))]
    evaluations = [file.evaluation for model in models for file in card(model, tmp_path).evaluations if file.evaluation]
    shortcuts = [[rule for rule in item.baselines.values() if rule.kind == "shortcut"] for item in evaluations]
    highest = {f"{max(rule.auc.value for rule in rules):.3f}" for rules in shortcuts if rules}
    assert set(SHORTCUT.findall(table)) <= highest
