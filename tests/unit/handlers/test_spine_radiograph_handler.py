"""What the spine handler takes and declines, by headers alone; no network is loaded."""

import sys
from pathlib import Path

import numpy as np
import pytest
from support import installed, shared

from ainode.handlers.spine_radiograph import SpineRadiograph, _contradictions, _Image, build
from ainode.models.spine_radiograph.card import read_card
from ainode.node import testing
from ainode.node.disk import sha256_of
from ainode.node.domain import Handler, OutOfScope, Selection, Study, Value
from ainode.node.encoding import headers
from ainode.node.reading import registry
from ainode.node.reading.weights import ModelEnvironment, WeightStore

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture
def handler(tmp_path: Path) -> SpineRadiograph:
    return build(ModelEnvironment(WeightStore(tmp_path), tmp_path))


def test_ultralytics_is_needed_only_where_the_detector_must_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("cv2", "openvino", "safetensors", "timm", "torch")
    from safetensors.numpy import load_file, save_file

    from ainode.models.running.runtime import Execution
    from ainode.models.spine_radiograph.card import DETECTOR
    from ainode.models.spine_radiograph.model import has_detector_graph

    monkeypatch.setitem(sys.modules, "ultralytics", None)  # as Python finds a package that is not installed
    missing = {
        device: registry.needs("spine_radiograph", build(environment)).missing_packages
        for device in ("cpu", "torch-cpu")
        for environment in [ModelEnvironment(WeightStore(tmp_path), tmp_path, device=device)]
    }
    assert missing == {"cpu": (), "torch-cpu": ("ultralytics",)}
    shipped = WeightStore(tmp_path).verified("spine_radiograph/detector")
    own = tmp_path / "own.safetensors"
    save_file({name: np.asarray(2 * value) for name, value in load_file(shipped).items()}, own)
    assert has_detector_graph({DETECTOR: shipped}, execution=Execution(tmp_path, "cpu"))
    assert not has_detector_graph({DETECTOR: own}, execution=Execution(tmp_path, "cpu"))


def a_study(folder: Path, *, rows: int = 512, **header: Value) -> Study:
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
        ({"PresentationIntentType": "FOR PROCESSING"}, "no-picture", "raw values of a detector"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "no-picture", "the image FOR PRESENTATION is read"),
        ({"SOPClassUID": CAPTURE, "ConversionType": "WSD"}, "no-picture", "Secondary Capture (Conversion Type WSD)"),
        ({"rows": 16}, "too-small", "16 x 512"),
        ({"NumberOfFrames": 3}, "multi-frame", "3 frames"),
        ({"PresentationLUTShape": "INVERSE"}, "unknown-polarity", "MONOCHROME2, but Presentation LUT Shape is INVERSE"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "unknown-polarity", "MONOCHROME1, but Presentation LUT Shape"),
        ({"PatientOrientation": ("L", "H")}, "not-upright", "the image does not have the head above"),
        ({"PatientOrientation": ("F", "R")}, "not-upright", "the image does not have the head above"),
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


@pytest.mark.parametrize(
    ("probability", "statements", "concepts"),
    [
        (0.33, ["image 1 abnormal: absent, 0.33, threshold 0.42"], ["Abnormal"]),
        (
            0.87,
            [
                "image 1 abnormal: present, 0.87, threshold 0.42",
                "image 1 box 1 Surgical implant: present, 0.20, threshold 0.15",
                "image 1 box 2 Osteophytes: present, 0.16, threshold 0.15",
            ],
            ["Abnormal", "Implant", "Lesion"],
        ),
    ],
)
def test_a_spine_is_said_to_be_abnormal_or_not_and_an_implant_is_no_lesion(
    probability: float, statements: list[str], concepts: list[str], tmp_path: Path
) -> None:
    installed("cv2", "openvino", "timm", "torch")
    from ainode.models.spine_radiograph.detector import Box
    from ainode.models.spine_radiograph.model import Prediction

    boxes = (Box("Surgical implant", 0.2, 1, 1, 9, 9), Box("Osteophytes", 0.16, 1, 1, 5, 5))
    prediction = Prediction(probability, probability > 0.416, {}, boxes, np.zeros((2, 2), np.float32))
    (instance,) = a_study(tmp_path).instances
    findings = _Image(1, instance, prediction, read_card()).findings()
    assert [finding.statement for finding in findings] == statements
    assert [finding.concept.meaning for finding in findings] == concepts


def test_a_label_that_every_description_contradicts_is_said_in_the_report_and_below_the_capture(tmp_path: Path) -> None:
    installed("cv2", "openvino", "timm", "torch")
    from ainode.models.spine_radiograph.model import Prediction

    probability = 0.33
    prediction = Prediction(probability, probability > 0.416, {}, (), np.zeros((2, 2), np.float32))
    header = {"SeriesDescription": "Knee AP", "StudyDescription": "Knie links"}
    (instance,) = a_study(tmp_path, **header).instances
    (sentence,) = _contradictions([instance, instance]).values()
    assert sentence.startswith("Body Part Examined says TSPINE, but Series Description says KNEE")
    assert sentence in _Image(1, instance, prediction, read_card()).capture().captions
    (agreeing,) = a_study(tmp_path / "agreeing", SeriesDescription="Thoracic spine AP").instances
    assert not _contradictions([agreeing])
