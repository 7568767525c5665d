"""How people name a study, as its headers say."""

from pathlib import Path

import pytest

from ainode.node import testing
from ainode.node.deciding.labels import labels_of
from ainode.node.encoding import headers
from ainode.node.keeping.patient_index import Labels


def labels(folder: Path, **header: str) -> Labels:
    paths = testing.write([testing.noise(8, 8, **header)], folder, study="a study")
    return labels_of(headers.study([headers.instance(path, sha256="ff") for path in paths]))


@pytest.mark.parametrize(
    ("header", "description"),
    [
        ({"SeriesDescription": "Lung kernel"}, "Lung kernel"),
        ({"SeriesDescription": "Lung kernel", "StudyDescription": "Thorax"}, "Thorax"),
        ({}, ""),
    ],
)
def test_a_study_without_a_description_has_that_of_its_series(
    tmp_path: Path, header: dict[str, str], description: str
) -> None:
    assert labels(tmp_path, **header).description == description


@pytest.mark.parametrize(("header", "is_synthetic"), [({}, True), ({"PatientID": "4711"}, False)])
def test_a_study_that_the_node_made_up_is_marked(tmp_path: Path, header: dict[str, str], *, is_synthetic: bool) -> None:
    assert labels(tmp_path, **header).is_synthetic is is_synthetic
