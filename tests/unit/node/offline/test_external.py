"""What `ainode evaluate --external` makes of a table of truths and a site's own patients."""

import csv
import json
from pathlib import Path

import pytest
from pydicom import dcmread

from ainode.node import settings, testing
from ainode.node.errors import ConfigError
from ainode.node.offline import external
from ainode.node.offline.truths import cases
from ainode.node.reading import cards
from ainode.node.reading.weights import environment

NAME = "Person^Of^The^Site"
HANDLER = "support.graded"


def study(folder: Path, name: str, description: str, patient: str) -> str:
    """Write a study with a patient, and return its path below the folder."""
    (path,) = testing.write([testing.noise(64, 64, SeriesDescription=description)], folder / name, study=name)
    dataset = dcmread(path)
    dataset.PatientName, dataset.PatientID = NAME, patient
    dataset.save_as(path)
    return name


def table(path: Path, *rows: tuple[str, ...], header: str = "path,label") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n", "utf-8")
    return path


def trial() -> external.Trial:
    loaded = settings.load()
    return external.Trial(loaded, environment(loaded), HANDLER)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the folder of seven studies of five patients, and the folder of what the evaluation wrote."""
    data, out = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("out")
    rows = [
        (study(data, "a", "0.9", "1"), "1"),
        (study(data, "b", "0.8", "1"), "1"),
        (study(data, "c", "0.3", "2"), "1"),
        (study(data, "d", "0.2", "3"), "0"),
        (study(data, "e", "0.7", "4"), "0"),
        (study(data, "f", "decline", "5"), "1"),
        (study(data, "g", "silent", "5"), "0"),
    ]
    lines: list[str] = []
    external.evaluate(trial(), table(out / "truths.csv", *rows), data, out / "figures", lines.append)
    (out / "lines.txt").write_text("\n".join(lines), "utf-8")
    return data, out


def test_the_figures_are_those_of_the_answers_with_the_rows_of_a_patient_as_one_group(site: tuple[Path, Path]) -> None:
    metrics = json.loads((site[1] / "figures" / "metrics.json").read_text("utf-8"))
    # Of the six pairs of an ill and a healthy row, one is in the wrong order: 0.3 below 0.7.
    assert metrics["auc"]["value"] == pytest.approx(5 / 6)
    assert (metrics["cases"], metrics["groups"], metrics["part"], metrics["threshold"]) == (5, 4, "external", 0.5)
    assert metrics["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert metrics["specificity"]["value"] == pytest.approx(1 / 2)
    assert {"roc.png", "calibration.png", "confusion.png"} <= {path.name for path in (site[1] / "figures").iterdir()}


def test_a_refused_row_counts_among_the_ill_rows_that_were_not_found(site: tuple[Path, Path]) -> None:
    metrics = json.loads((site[1] / "figures" / "metrics.json").read_text("utf-8"))
    assert metrics["not_answered"] == {"declined": 1, "no-probability": 1}
    assert (metrics["rows"], metrics["answered"]) == (7, 5)
    assert (metrics["ill_rows"], metrics["ill_rows_called_present"]) == (4, 2)


def test_each_row_has_its_answer_and_no_file_or_line_has_a_patient_attribute(site: tuple[Path, Path]) -> None:
    with (site[1] / "figures" / "answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], row["label"], row["probability"], row["code"]) for row in rows] == [
        ("2", "1", "0.9", ""),
        ("3", "1", "0.8", ""),
        ("4", "1", "0.3", ""),
        ("5", "0", "0.2", ""),
        ("6", "0", "0.7", ""),
        ("7", "1", "", "declined"),
        ("8", "0", "", "no-probability"),
    ]
    texts = [path.read_text("utf-8") for path in site[1].rglob("*") if path.suffix in {".csv", ".json", ".txt"}]
    assert len(texts) == 4
    assert not [text for text in texts if NAME in text or "patient" in text.lower().replace("patient)", "")]


def test_recorded_figures_stand_on_the_card_that_the_console_shows(site: tuple[Path, Path], tmp_path: Path) -> None:
    external.record(site[1] / "figures" / "metrics.json", tmp_path, "spine_radiograph")
    (own,) = (file for file in cards.card("spine_radiograph", tmp_path).evaluations if file.name.startswith("external"))
    assert own.evaluation
    assert own.evaluation.auc
    assert (own.evaluation.part, own.evaluation.auc.n) == ("external", 5)


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("path", ("a",), "no column label"),
        ("path,label,name", ("a", "1", "x"), "column 'name' is none of path, label, patient, point"),
        ("path,label", ("a", "malignant"), "line 2: label 'malignant' is neither 0 nor 1"),
        ("path,label", ("nothing", "1"), "line 2: there is no 'nothing' below"),
        ("path,label,point", ("a", "1", "left"), "line 2: --point 'left' is no X,Y,Z"),
        ("path,label", ("a", "1"), "no row with label 1, or none with label 0"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_its_line_before_anything_is_read(
    site: tuple[Path, Path], tmp_path: Path, header: str, row: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        cases(table(tmp_path / "truths.csv", row, header=header), site[0])


def test_answers_of_one_kind_alone_give_no_figure_and_the_codes_say_why(
    site: tuple[Path, Path], tmp_path: Path
) -> None:
    truths = table(tmp_path / "truths.csv", ("f", "1"), ("d", "0"))
    with pytest.raises(ConfigError, match="1 of 2 rows were answered"):
        external.evaluate(trial(), truths, site[0], tmp_path / "figures", str)
    assert "declined" in (tmp_path / "figures" / "answers.csv").read_text("utf-8")


def test_a_row_with_two_studies_is_not_read_and_says_so(site: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    for name in ("a", "b"):
        for path in (site[0] / name).rglob("*"):
            if path.is_file():
                (tmp_path / "both" / f"{name}-{path.name}").write_bytes(path.read_bytes())
    (both, _) = cases(table(tmp_path / "truths.csv", ("both", "1"), ("both", "0")), tmp_path)
    answer = trial().answer(both)
    assert (answer.code, "2 studies" in answer.reason) == (external.NOT_READ, True)
