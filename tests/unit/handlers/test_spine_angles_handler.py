"""What the angle handler takes, declines and says: curves in words and codes, sides by the header, levels by count."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import installed, shared

installed("cv2", "openvino", "scipy", "torch")

from ainode.handlers.spine_angles import SpineAngles, _no_spine, build  # noqa: E402
from ainode.handlers.spine_angles.findings import Film  # noqa: E402
from ainode.handlers.spine_angles.levels import levels_of  # noqa: E402
from ainode.models.spine_vertebrae.card import read_card  # noqa: E402
from ainode.models.spine_vertebrae.model import Prediction  # noqa: E402
from ainode.node import testing  # noqa: E402
from ainode.node.disk import sha256_of  # noqa: E402
from ainode.node.domain import Handler, OutOfScope, Selection, Study  # noqa: E402
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.imaging.pixel_shape import PixelWidth  # noqa: E402
from ainode.node.reading.weights import ModelEnvironment, WeightStore  # noqa: E402

ROWS, COLUMNS = 1024, 512
_BENT = [0.0, 2, 6, 12, 16, 12, 4, -6, -14, -20, -14, -6, 0, 4, 6, 4, 2]
"""tilts of T1 to L5 in degrees: 36 between T5 and T10, 26 from T10 to L3"""

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture
def handler(tmp_path: Path) -> SpineAngles:
    return build(ModelEnvironment(WeightStore(tmp_path), tmp_path))


def a_study(folder: Path, *, rows: int = ROWS, **header: object) -> Study:
    spine = {"BodyPartExamined": "TSPINE", "ViewPosition": "AP", **header}
    paths = testing.write([testing.noise(rows, COLUMNS, **spine)], folder / "study", study="study")  # type: ignore[arg-type]
    return headers.study(headers.instance(path, sha256=sha256_of(path)) for path in paths)


def a_column(degrees: list[float], *, height: float = 40.0) -> NDArray[np.float64]:
    corners, place = [], np.array([256.0, 60.0])
    for tilt in np.radians(degrees):
        across, down = np.array([np.cos(tilt), np.sin(tilt)]), np.array([-np.sin(tilt), np.cos(tilt)])
        corners.append([place + x * 35 * across + y * height / 2 * down for y in (-1, 1) for x in (-1, 1)])
        place = place + (height + 14) * down
    return np.asarray(corners)


def a_film(
    folder: Path, degrees: list[float] = _BENT, *, first: int = 0, spacing: float | None = None, **header: object
) -> Film:
    (instance,) = a_study(folder, **header).instances
    count = len(degrees)
    prediction = Prediction(a_column(degrees), np.full(count, 0.8), first + np.arange(count, dtype=float), 1.0, COLUMNS)
    width = PixelWidth(spacing, "PixelSpacing") if spacing else None
    return Film(1, instance, prediction, "off by 4 degrees", width)


def test_it_is_a_handler_whose_weights_are_the_synthetic_ones_until_a_site_has_trained(handler: SpineAngles) -> None:
    assert isinstance(handler, Handler)
    assert handler.weights() == ("spine_vertebrae/synthetic",)


def test_the_weights_that_ship_claim_no_error_of_real_films_and_those_of_a_site_do(tmp_path: Path) -> None:
    shipped = build(ModelEnvironment(WeightStore(tmp_path), tmp_path))
    assert shipped._reliability == "these weights have seen drawn spines alone"
    entry = "\n".join(
        f'{key} = "{value}"'
        for key, value in {
            "name": "spine_vertebrae/lite0",
            "model": "spine_vertebrae",
            "network": "lite0",
            "file": "site.safetensors",
            "sha256": "0" * 64,
            "licence": "site",
            "training_data": "films",
            "metrics": "none",
            "status": "site",
            "version": "1",
        }.items()
    )
    (tmp_path / "manifest.toml").write_text(f"[[weights]]\n{entry}\nbytes = 1\n")
    site = build(ModelEnvironment(WeightStore(tmp_path), tmp_path))
    assert site.weights() == ("spine_vertebrae/lite0",)
    assert "off by 4.2 degrees in the mean of test films" in site._reliability
    assert "off by 4 degrees" in a_film(tmp_path).capture().captions


@pytest.mark.parametrize("header", [{}, {"ViewPosition": "PA"}, {"ViewPosition": ""}, {"BodyPartExamined": "LSPINE"}])
def test_a_frontal_spine_is_selected(handler: SpineAngles, tmp_path: Path, header: dict[str, str]) -> None:
    assert isinstance(handler.select(a_study(tmp_path, **header)), Selection)


@pytest.mark.parametrize(
    ("header", "code", "said"),
    [
        ({"ViewPosition": "LL"}, "wrong-view", "View Position is LL; angles are measured on AP and PA"),
        ({"ViewPosition": "LATERAL"}, "wrong-view", "LATERAL"),
        ({"PatientOrientation": ("P", "F")}, "wrong-view", "Patient Orientation is P\\F"),
        ({"PatientOrientation": ("R", "H")}, "not-upright", "R\\H: the image does not have the head above"),
        ({"PixelSpacing": ("300", "300")}, "impossible-pixel-size", "PixelSpacing makes the image 1.54e+05 mm wide"),
        ({"PixelSpacing": ("0.3", "0.6"), "ImagerPixelSpacing": ("0.1", "0.1")}, "unknown-pixel-shape", "0.5 times"),
        ({"BodyPartExamined": "HAND"}, "wrong-body-part", "HAND"),
        ({"BodyPartExamined": "CHEST"}, "wrong-body-part", "CHEST"),
        ({"BodyPartExamined": "CSPINE"}, "wrong-body-part", "CSPINE"),
        ({"Modality": "RF"}, "wrong-modality", "RF"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "no-picture", "raw values of a detector"),
        ({"SOPClassUID": CAPTURE}, "no-picture", "Secondary Capture (without Conversion Type)"),
        ({"rows": 100}, "too-small", "100 x 512"),
        ({"NumberOfFrames": 3}, "multi-frame", "3 frames"),
    ],
)
def test_what_is_no_frontal_spine_by_its_header_is_declined_with_the_reason(
    handler: SpineAngles, tmp_path: Path, header: dict[str, object], code: str, said: str
) -> None:
    declined = handler.select(a_study(tmp_path, **header))  # type: ignore[arg-type]
    assert isinstance(declined, OutOfScope)
    assert declined.code == code
    assert said in declined.reason


def test_the_side_views_of_a_real_ct_are_left_to_other_routes(handler: SpineAngles) -> None:
    folder = shared("data/dicom/spine/drr_from_R01-001")
    study = headers.study(headers.instance(path, sha256="") for path in sorted(folder.glob("*.dcm")))
    selection = handler.select(study)
    assert isinstance(selection, Selection)
    assert [instance.text("ViewPosition") for instance in selection.instances] == ["AP"]
    assert len(selection.declined) == 2


@pytest.mark.parametrize(
    ("score", "frontal", "step", "reason"),
    [
        (0.9, 0.9, 1, ""),
        (0.3, 0.9, 1, "17 vertebrae in a row with a score of 0.30"),
        (0.3, 0.1, 1, "it looks like another view or another part of the body"),
        (0.9, 0.1, 1, "it looks like another view or another part of the body, 0.10 on a scale from 0 to 1"),
        (0.9, 0.9, -1, "the count rises by -1.00 instead of 1, as on a picture that is upside down"),
    ],
)
def test_what_is_no_spine_from_the_front_is_told_why(score: float, frontal: float, step: int, reason: str) -> None:
    numbers = np.arange(17.0)[::step]
    shown = Prediction(a_column([0.0] * 17), np.full(17, score), numbers, 1.0, COLUMNS, frontal)
    said = _no_spine(shown, read_card())
    assert reason in said
    assert bool(said) is bool(reason)


def test_curves_are_said_with_their_ends_severity_and_convex_side(tmp_path: Path) -> None:
    film = a_film(tmp_path, PatientOrientation=("L", "F"))
    assert film.summary == "largest curve 36 degrees (moderate), T5 to T10, convex to the patient's right"
    curves = [finding for finding in film.findings() if finding.concept.value == "spinal-curve"]
    assert [finding.label for finding in curves] == [
        "T5 to T10: 36 degrees, moderate",
        "T1 to T5: 16 degrees, mild",
        "T10 to L3: 26 degrees, moderate",
    ]
    (angle,) = curves[0].measurements
    assert (angle.concept.value, angle.concept.scheme, angle.unit.value) == ("285285000", "SCT", "deg")
    assert angle.value == pytest.approx(36)
    qualities = {concept.meaning: value.meaning for concept, value in curves[0].qualities}
    assert qualities == {"Severity": "Moderate", "Convex side": "Right", "Region of curve": "Main thoracic"}


@pytest.mark.parametrize(
    ("orientation", "side"),
    [
        (("L", "F"), "the patient's right"),
        (("R", "F"), "the patient's left"),
        (("LF", "FR"), "the patient's right"),
        ((), "the left of the picture"),
        (("A", "F"), "the left of the picture"),
    ],
)
def test_the_patients_side_is_that_of_patient_orientation_and_never_guessed(
    orientation: tuple[str, ...], side: str, tmp_path: Path
) -> None:
    film = a_film(tmp_path, PatientOrientation=orientation)
    assert film.summary.endswith(f"convex to {side}")
    curve = film.findings()[0]
    sides = [value.meaning for concept, value in curve.qualities if concept.meaning == "Convex side"]
    assert sides == ([side.rsplit(maxsplit=1)[-1].capitalize()] if "patient" in side else [])
    unsure = "the header does not say which side is the patient's right"
    assert (unsure in film.capture().captions) == ("picture" in side)


def test_no_name_of_a_finding_has_what_another_reading_may_find_otherwise(tmp_path: Path) -> None:
    films = (
        a_film(tmp_path / "moderate", PatientOrientation=("L", "F")),
        a_film(tmp_path / "mild", [0.65 * degrees for degrees in _BENT], PatientOrientation=()),
    )
    assert ["(moderate)" in films[0].summary, "(mild)" in films[1].summary] == [True, True]
    names = [{finding.tracking_identifier for finding in film.findings()} for film in films]
    assert names[0] == names[1]
    assert "image 1 balance of T1 over L5" in names[0]
    sides = [
        value.meaning
        for film in films
        for finding in film.findings()
        for concept, value in finding.qualities
        if concept.meaning == "Side of offset"
    ]
    assert "of the picture" in sides[1]
    assert sides[0] in {"Left", "Right"}


@pytest.mark.parametrize(
    ("angle", "severity"),
    [
        (9.4, "below 10 degrees"),
        (9.6, "mild"),
        (24.4, "mild"),
        (24.6, "moderate"),
        (39.4, "moderate"),
        (40.2, "severe"),
    ],
)
def test_the_severity_is_that_of_the_degrees_that_are_printed(angle: float, severity: str, tmp_path: Path) -> None:
    straight = [0.0] * 5
    film = a_film(tmp_path, [*straight, angle / 2, 0, -angle / 2, *straight])
    assert f"curve {round(angle)} degrees ({severity})" in film.summary


def test_the_lines_of_a_curve_run_along_the_end_plates_and_beyond_its_end_vertebrae(tmp_path: Path) -> None:
    film = a_film(tmp_path)
    curve, lower = film.findings()[:2]
    assert (curve.label, lower.label) == ("T5 to T10: 36 degrees, moderate", "")
    assert lower.tracking_identifier.endswith("lower end plate of T10")
    corners = film.prediction.corners
    for line, plate in ((curve, corners[4, :2]), (lower, corners[9, 2:])):
        assert line.region is not None
        points, middle = np.array(line.region.points), plate.mean(axis=0)
        assert points == pytest.approx(middle + 2 * (plate - middle))


def test_each_vertebra_has_its_outline_and_the_ratio_of_its_heights(tmp_path: Path) -> None:
    vertebrae = [finding for finding in a_film(tmp_path).findings() if finding.concept.meaning == "Vertebra"]
    assert [finding.label for finding in vertebrae] == [
        *(f"T{n}" for n in range(1, 13)),
        *(f"L{n}" for n in range(1, 6)),
    ]
    assert all(finding.region and finding.region.points[0] == finding.region.points[-1] for finding in vertebrae)
    assert all(finding.measurements[0].value == pytest.approx(1) for finding in vertebrae)
    assert [vertebrae[n].site.meaning for n in (0, 16)] == ["Thoracic spine", "Lumbar spine"]


def test_an_outline_beside_the_film_is_cut_to_the_film(tmp_path: Path) -> None:
    film = a_film(tmp_path, [30.0] * 17)
    points = [point for finding in film.findings() if finding.region for point in finding.region.points]
    assert min(x for x, _ in points) >= 0
    assert max(y for _, y in points) <= ROWS


def test_the_offset_is_in_millimeters_where_the_header_has_them_else_in_widths_of_the_lowest_vertebra(
    tmp_path: Path,
) -> None:
    def balance(spacing: float | None) -> tuple[float, str]:
        film = a_film(tmp_path / str(spacing), [3.0] * 17, spacing=spacing)
        (finding,) = (item for item in film.findings() if item.concept.value == "coronal-balance")
        return finding.measurements[0].value, finding.measurements[0].unit.value

    pixels = 16 * 54 * np.sin(np.radians(3))
    assert balance(0.5) == (pytest.approx(0.5 * pixels, abs=0.1), "mm")
    assert balance(None) == (pytest.approx(pixels / 70, abs=0.02), "{ratio}")


@pytest.mark.parametrize(
    ("numbers", "names"),
    [
        (np.arange(17) - 1.4, ("T1", "L5")),
        (np.arange(12) + 0.2, ("T1", "T12")),
        (np.arange(8) + 9.1, ("T10", "L5")),
        (np.arange(8) + 11.0, ("V1", "V8")),
        (np.arange(6) - 2.0, ("V1", "V6")),
        (np.array([0, 3, 3, 6, 6, 9.0]), ("V1", "V6")),
    ],
)
def test_levels_are_named_where_the_count_is_certain_and_numbered_else(
    numbers: NDArray[np.float64], names: tuple[str, str]
) -> None:
    levels = levels_of(numbers)
    assert (levels.names[0], levels.names[-1]) == names
    assert levels.are_known == (names[0] != "V1")


def test_uncertain_levels_are_said_below_the_picture_and_name_no_region(tmp_path: Path) -> None:
    film = a_film(tmp_path, _BENT[2:12], first=12)
    assert film.summary == "largest curve 36 degrees (moderate), V3 to V8, convex to the patient's right"
    assert "levels are not certain: vertebrae are numbered from the highest one" in film.capture().captions
    assert not any(concept.meaning == "Region of curve" for concept, _ in film.findings()[0].qualities)
