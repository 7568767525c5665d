"""What the spine handler takes and declines, by headers alone; no network is loaded."""

from pathlib import Path

import pytest
from support import shared

from ainode.handlers.spine_radiograph import SpineRadiograph, build
from ainode.node import testing
from ainode.node.disk import sha256_of
from ainode.node.domain import Handler, OutOfScope, Selection, Study
from ainode.node.encoding import headers
from ainode.node.reading.weights import ModelEnvironment, WeightStore


@pytest.fixture
def handler(tmp_path: Path) -> SpineRadiograph:
    return build(ModelEnvironment(WeightStore(tmp_path), tmp_path))


def a_study(folder: Path, *, rows: int = 512, **header: str | int) -> Study:
    spine = {"BodyPartExamined": "TSPINE", "ViewPosition": "AP", **header}
    paths = testing.write([testing.noise(rows, 512, **spine)], folder / "study", study="study")
    return headers.study(headers.instance(path, sha256=sha256_of(path)) for path in paths)


def test_it_is_a_handler(handler: SpineRadiograph) -> None:
    assert isinstance(handler, Handler)
    assert "spine_radiograph/detector" in handler.weights()


@pytest.mark.parametrize("header", [{}, {"ViewPosition": "LL"}, {"ViewPosition": ""}, {"BodyPartExamined": "LSPINE"}])
def test_a_spine_of_a_view_it_was_made_for_is_selected(
    handler: SpineRadiograph, tmp_path: Path, header: dict[str, str]
) -> None:
    assert isinstance(handler.select(a_study(tmp_path, **header)), Selection)


@pytest.mark.parametrize(
    ("header", "code", "said"),
    [
        ({"BodyPartExamined": "HAND"}, "wrong-body-part", "HAND"),
        ({"BodyPartExamined": "CHEST"}, "wrong-body-part", "CHEST"),
        ({"BodyPartExamined": "CSPINE"}, "wrong-body-part", "CSPINE"),
        ({"ViewPosition": "LLO"}, "wrong-view", "LLO"),
        ({"Modality": "RF"}, "wrong-modality", "RF"),
        ({"rows": 16}, "too-small", "16 x 512"),
        ({"NumberOfFrames": 3}, "multi-frame", "3 frames"),
    ],
)
def test_what_it_was_not_made_for_is_declined_with_the_reason(
    handler: SpineRadiograph, tmp_path: Path, header: dict[str, str], code: str, said: str
) -> None:
    declined = handler.select(a_study(tmp_path, **header))  # type: ignore[arg-type]
    assert isinstance(declined, OutOfScope)
    assert declined.code == code
    assert said in declined.reason
    assert declined.evidence


def test_the_real_thoracic_spines_are_selected(handler: SpineRadiograph) -> None:
    folder = shared("data/dicom/spine/drr_from_R01-001")
    study = headers.study(headers.instance(path, sha256="") for path in sorted(folder.glob("*.dcm")))
    selection = handler.select(study)
    assert isinstance(selection, Selection)
    assert len(selection.instances) == 3
