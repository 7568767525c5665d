"""What the skin handler takes and declines, by headers alone, and what it says of a picture it reads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import installed, shared

from ainode.handlers.skin_lesion import SkinLesion, _site, build
from ainode.node import testing
from ainode.node.disk import sha256_of
from ainode.node.domain import Handler, OutOfScope, Result, Selection, Study, SyntheticImage
from ainode.node.encoding import headers
from ainode.node.reading.weights import ModelEnvironment, WeightStore
from ainode.node.reports.limits import footnotes

PHOTOGRAPH = "1.2.840.10008.5.1.4.1.1.77.1.4"
DERMOSCOPY = "1.2.840.10008.5.1.4.1.1.77.1.7"
ENDOSCOPY = "1.2.840.10008.5.1.4.1.1.77.1.1"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture
def handler(tmp_path: Path) -> SkinLesion:
    return build(ModelEnvironment(WeightStore(tmp_path), tmp_path))


def a_study(folder: Path, *, rows: int = 120, samples: int = 3, **header: str | int) -> Study:
    photograph = {"SOPClassUID": PHOTOGRAPH, "Modality": "XC", **header}
    pixels = np.random.default_rng(0).integers(0, 256, rows * 120 * (3 if samples == 3 else 2), np.uint8)
    image = SyntheticImage(rows, 120, pixels.tobytes(), photograph, samples=samples)
    paths = testing.write([image], folder / "study", study="study")
    return headers.study(headers.instance(path, sha256=sha256_of(path)) for path in paths)


def test_it_is_a_handler(handler: SkinLesion) -> None:
    assert isinstance(handler, Handler)
    assert handler.weights() == ("skin_lesion/lesion_cells",)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"BodyPartExamined": "UPPER EXTREMITY"},
        {"SOPClassUID": DERMOSCOPY, "Modality": "DMS", "BodyPartExamined": "SKIN"},
        {"SOPClassUID": CAPTURE, "Modality": "OT", "BodyPartExamined": "SKIN"},
        {"Modality": "GM", "BodyPartExamined": "BACK"},
    ],
)
def test_a_photograph_of_skin_is_selected(handler: SkinLesion, tmp_path: Path, header: dict[str, str]) -> None:
    assert isinstance(handler.select(a_study(tmp_path, **header)), Selection)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "code", "said"),
    [
        ({"Modality": "ES", "SOPClassUID": ENDOSCOPY}, "wrong-modality", "ES"),
        ({"SOPClassUID": ENDOSCOPY}, "wrong-sop-class", "Dermoscopic"),
        ({"SOPClassUID": CAPTURE, "Modality": "OT"}, "wrong-body-part", "SKIN"),
        ({"BodyPartExamined": "PANCREAS"}, "wrong-body-part", "PANCREAS"),
        ({"samples": 1}, "not-color", "gray"),
        ({"ImageType": ("DERIVED", "SECONDARY", "SCREEN SAVE")}, "no-picture", "Image Type says SCREEN SAVE"),
        ({"rows": 64}, "too-small", "64 x 120"),
        ({"NumberOfFrames": 3}, "multi-frame", "3 frames"),
    ],
)
def test_what_it_was_not_made_for_is_declined_with_the_reason(
    handler: SkinLesion, tmp_path: Path, header: dict[str, str], code: str, said: str
) -> None:
    declined = handler.select(a_study(tmp_path, **header))  # type: ignore[arg-type]
    assert isinstance(declined, OutOfScope)
    assert declined.code == code
    assert said in declined.reason
    assert declined.evidence


def test_the_real_endoscopies_are_declined(handler: SkinLesion) -> None:
    folder = shared("data/dicom/vl_dermoscopy/nema_vl_endoscopy")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.startswith("VL"))
    assert files
    for path in files:
        declined = handler.select(headers.study([headers.instance(path, sha256="")]))
        assert isinstance(declined, OutOfScope)
        assert declined.code == "wrong-body-part"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"BodyPartExamined": "UPPER EXTREMITY"}, "371311000"),
        ({"BodyPartExamined": "upper extremity"}, "371311000"),
        ({"BodyPartExamined": "LOWER EXTREMITY"}, "371304004"),
        ({"BodyPartExamined": "HAND"}, "33712006"),
        ({"BodyPartExamined": "KNEE"}, "371304004"),
        ({"BodyPartExamined": "BACK"}, "66643007"),
        ({"BodyPartExamined": "SKIN"}, "39937001"),
        ({}, "39937001"),
        (
            {
                "BodyPartExamined": "SKIN",
                "AnatomicRegionSequence": (
                    {"CodeValue": "70887009", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Skin of palm of hand"},
                ),
            },
            "70887009",
        ),
    ],
)
def test_the_body_site_is_kept(header: dict[str, str], code: str) -> None:
    assert _site(header).value == code


def test_every_site_is_a_code_of_the_standard_with_its_meaning() -> None:
    from pydicom.sr.codedict import codes

    from ainode.handlers import skin_lesion

    for site in {*skin_lesion._SITES.values(), *skin_lesion._SITES_IN_WORDS.values()}:
        keyword = "".join(word.capitalize() for word in site.meaning.split())
        group = codes.cid4029 if site.meaning.startswith("Skin") else codes.SCT
        assert getattr(group, keyword).value == site.value
        assert getattr(group, keyword).meaning == site.meaning


def test_a_photograph_is_read_with_its_site_and_a_map_on_its_own_grid(tmp_path: Path) -> None:
    installed("keras", "openvino", "torch")
    handler = build(ModelEnvironment(shipped(), tmp_path / "cache", device="cpu"))
    (image,) = handler.demonstration(0).images
    paths = testing.write([image], tmp_path / "study", study="study")
    selection = handler.select(headers.study(headers.instance(path, sha256=sha256_of(path)) for path in paths))
    assert isinstance(selection, Selection)
    result = handler.read(selection)
    assert isinstance(result, Result)
    (finding,), (capture,) = result.findings, result.captures
    assert finding.concept.value == "95324001"
    assert finding.site.value == "371311000"
    assert finding.measurements[0].concept.value == "111047"
    assert finding.measurements[0].value == pytest.approx(100 * result.scores["probability"], abs=0.01)
    assert capture.saliency is not None
    assert (capture.saliency.rows, capture.saliency.columns) == (image.rows, image.columns)
    assert "Skin of upper extremity, left" in capture.captions[0]
    assert "no header names a dermoscope" in result.algorithm.known_limits[0]
    assert not [line for line in footnotes(result.algorithm) if "Known limits" in line and "more in the report" in line]
    under_a_dermoscope = replace(image, header={**image.header, "SOPClassUID": DERMOSCOPY, "Modality": "DMS"})
    paths = testing.write([under_a_dermoscope], tmp_path / "dermoscopic", study="dermoscopic")
    selection = handler.select(headers.study(headers.instance(path, sha256=sha256_of(path)) for path in paths))
    assert isinstance(selection, Selection)
    result = handler.read(selection)
    assert isinstance(result, Result)
    assert not [limit for limit in result.algorithm.known_limits if "dermoscope" in limit]


def shipped() -> WeightStore:
    store = WeightStore(Path("/nonexistent"))
    if "skin_lesion/lesion_cells" not in {entry.name for entry in store.entries()}:
        pytest.skip("weights skin_lesion/lesion_cells are not in the manifest")
    return store
