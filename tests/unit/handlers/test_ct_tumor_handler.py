"""What the tumor handler takes and declines, by headers alone, and what it says of a scan it reads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import bodies, installed, shared
from support.bodies import Values, abdomen, chest

from ainode.handlers.ct_tumor import CtTumor, _OrganReading, build
from ainode.handlers.ct_tumor.slices import OrganSlices, organ_slices
from ainode.models.ct_tumor.calibration import Calibration
from ainode.models.ct_tumor.card import read_card
from ainode.node import testing
from ainode.node.console.rendering.slices import series_view
from ainode.node.disk import sha256_of
from ainode.node.domain import (
    UID,
    Finding,
    Handler,
    Instance,
    InstanceRef,
    OutOfScope,
    Result,
    Selection,
    Study,
    SyntheticImage,
)
from ainode.node.encoding import headers
from ainode.node.reading.weights import ModelEnvironment, WeightStore

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
IMAGE = InstanceRef(UID("1.2"), UID("1.2.3"), UID("1.2.840.10008.5.1.4.1.1.2"), UID("1.2.3.4"))


@pytest.fixture
def handler(tmp_path: Path) -> CtTumor:
    return build(ModelEnvironment(WeightStore(tmp_path), tmp_path))


def read_back(images: tuple[SyntheticImage, ...], folder: Path) -> Study:
    paths = testing.write(images, folder, study="study")
    return headers.study(headers.instance(path, sha256=sha256_of(path)) for path in paths)


def a_study(folder: Path, *, count: int = 14, step_mm: float = 5.0, **header: Any) -> Study:  # noqa: ANN401  # any value of a header
    common = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "Modality": "CT",
        "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "BodyPartExamined": "CHEST",
        "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "PixelSpacing": (0.8, 0.8),
        "ConvolutionKernel": "B31f",
        **header,
    }
    places: list[dict[str, Any]] = [
        {"ImagePositionPatient": (0.0, 0.0, step_mm * n), "InstanceNumber": n + 1} for n in range(count)
    ]
    images = tuple(replace(testing.noise(32, 32, seed=n), header={**common, **place}) for n, place in enumerate(places))
    return read_back(images, folder / "study")


def searched(study: Study) -> Study:
    """The study as a route with `detect = true` hands it on."""
    return replace(study, wanted_candidates=5)


def a_folder(name: str) -> Study:
    files = sorted(shared(f"data/dicom/{name}").rglob("*.dcm"))
    return headers.study(headers.instance(path, sha256="") for path in files)


def test_it_is_a_handler(handler: CtTumor) -> None:
    assert isinstance(handler, Handler)
    assert handler.weights()[:2] == ("ct_tumor/lung", "ct_tumor/pancreas")
    assert {name.split("/")[0] for name in handler.weights()[2:]} == {
        "lung_nodule",
        "nodule_detection",
        "nodule_malignancy",
        "nodule_outline",
    }


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"BodyPartExamined": "LUNG"},
        {"BodyPartExamined": "ABDOMEN", "ContrastBolusAgent": "APPLIED"},
        {"BodyPartExamined": "PANCREAS", "ContrastBolusAgent": "APPLIED"},
        {"BodyPartExamined": "CHESTABDPELVIS"},
        {"SOPClassUID": CAPTURE, "Modality": "OT", "ImageType": ("DERIVED", "SECONDARY"), "count": 1},
    ],
)
def test_a_chest_and_an_abdomen_with_contrast_are_selected(
    handler: CtTumor, tmp_path: Path, header: dict[str, Any]
) -> None:
    study = searched(a_study(tmp_path, **header))
    selection = handler.select(study)
    assert isinstance(selection, Selection)
    assert len(selection.instances) == len(study.instances)
    assert selection.wanted_candidates == 5


@pytest.mark.parametrize("modality", ["CT", "OT"])
def test_what_a_screen_showed_is_no_picture_of_a_slice(handler: CtTumor, tmp_path: Path, modality: str) -> None:
    screen = {"SOPClassUID": CAPTURE, "Modality": modality, "ImageType": ("DERIVED", "SECONDARY", "SCREEN SAVE")}
    assert isinstance(handler.select(searched(a_study(tmp_path, count=1, **screen))), OutOfScope)


def test_the_lung_of_a_whole_ct_is_not_judged_by_its_slices(handler: CtTumor, tmp_path: Path) -> None:
    selection = handler.select(bodies.study(chest(1), tmp_path / "chest", BodyPartExamined="CHEST"))
    assert isinstance(selection, Selection)
    for declined in (handler.look(selection), handler.read(selection)):
        assert isinstance(declined, OutOfScope)
        assert declined.code == "not-searched"
        assert "12 of 12 real chest CT malignant" in declined.reason
        assert declined.reason.endswith("`detect = true` in the route (routes.toml), then `ainode reload`")
    header = {"BodyPartExamined": "CHESTABDPELVIS", "ContrastBolusAgent": "APPLIED"}
    both = handler.select(bodies.study(np.concatenate([abdomen(0), chest(1)]), tmp_path / "both", **header))
    assert isinstance(both, Selection)
    seen = handler.look(both)
    assert isinstance(seen, Selection)
    assert {name: refusal.code for name, refusal in seen.declined.items()} == {"lung": "not-searched"}


@pytest.mark.parametrize("part", ["CHEST", "LUNG", ""])
def test_a_route_without_a_search_says_that_no_lung_is_there_before_it_says_that_it_searches_none(
    handler: CtTumor, tmp_path: Path, part: str
) -> None:
    selection = handler.select(bodies.study(bodies.head(), tmp_path, BodyPartExamined=part))
    assert isinstance(selection, Selection)
    refusal = handler.look(selection)
    assert isinstance(refusal, OutOfScope)
    assert (refusal.code, "no aerated lung in any of 16 slices" in refusal.reason) == ("no-lung", True)
    assert "`detect = true`" not in refusal.reason
    assert ("; pancreas: " in refusal.reason) is (part == ""), "a CT that names no part may be of both"


@pytest.mark.parametrize(
    ("header", "code", "said"),
    [
        ({"BodyPartExamined": "HEAD"}, "wrong-body-part", "HEAD"),
        ({"BodyPartExamined": "PANCREAS"}, "wrong-contrast-phase", "Contrast"),
        ({"count": 4}, "too-few-slices", "4 slices"),
        ({"step_mm": 20.0}, "too-coarse", "20.0 mm"),
        ({"Modality": "MR"}, "no-ct", "no CT"),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "no-slices", "localizers"),
    ],
)
def test_what_it_was_not_made_for_is_declined_with_the_reason(
    handler: CtTumor, tmp_path: Path, header: dict[str, Any], code: str, said: str
) -> None:
    declined = handler.select(a_study(tmp_path, **header))
    assert isinstance(declined, OutOfScope)
    assert declined.code == code
    assert said in declined.reason


def test_an_organ_that_the_selection_declines_is_not_read_from_the_slices_of_the_other(
    handler: CtTumor, tmp_path: Path
) -> None:
    phases = ("native", "portal venous")
    scans = [
        a_study(
            tmp_path / phase,
            BodyPartExamined="CHESTABDPELVIS",
            SeriesDescription=phase,
            ContrastBolusAgent="APPLIED",
            FrameOfReferenceUID="1.2",
        )
        for phase in phases
    ]
    series = [
        replace(scan.series[0], instances=tuple(named(one, phase) for one in scan.instances))
        for scan, phase in zip(scans, phases, strict=True)
    ]
    selection = handler.select(replace(scans[0], series=tuple(series)))
    assert isinstance(selection, Selection)
    assert {one.text("SeriesDescription") for one in selection.instances} == {"portal venous"}
    assert selection.declined["lung"].code == "several-acquisitions"


def named(instance: Instance, name: str) -> Instance:
    return replace(instance, ref=replace(instance.ref, sop_instance_uid=UID(f"{instance.ref.sop_instance_uid}{name}")))


@pytest.mark.parametrize(
    ("folder", "count"),
    [("ct_chest_thin_R01-001", 84), ("ct_chest_5mm_Lung_Dx-A0001", 64)],
)
def test_the_real_scans_are_selected(handler: CtTumor, folder: str, count: int) -> None:
    selection = handler.select(searched(a_folder(folder)))
    assert isinstance(selection, Selection)
    assert len(selection.instances) == count


@pytest.mark.parametrize(
    ("folder", "code"),
    [("ct_abdomen/PANCREAS_0001_j2k", "too-few-slices"), ("ct_abdomen/scout_TCGA-D1-A0ZP", "wrong-body-part")],
)
def test_a_single_slice_and_a_scout_are_declined(handler: CtTumor, folder: str, code: str) -> None:
    declined = handler.select(a_folder(folder))
    assert isinstance(declined, OutOfScope)
    assert declined.code == code


def with_random_weights(folder: Path) -> CtTumor:
    """A handler whose store holds seeded random weights of both organs."""
    installed("keras", "openvino", "torch")
    from unit.models.test_ct_tumor import random_weights

    from ainode.models.ct_tumor.card import read_card

    rows = []
    for organ in read_card().organs:
        path = random_weights(organ, folder / organ.file)
        rows.append(
            f'[[weights]]\nname = "ct_tumor/{organ.name}"\nfile = "{organ.file}"\nsha256 = "{sha256_of(path)}"\n'
            f'bytes = {path.stat().st_size}\nlicence = "none"\nmodel = "ct_tumor"\nversion = "0"\n'
            'status = "demonstration"\ntraining_data = "none"\n'
        )
    (folder / "manifest.toml").write_text("\n".join(rows))
    return build(ModelEnvironment(WeightStore(folder), folder / "networks", device="cpu"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> CtTumor:
    return with_random_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def demonstration(reader: CtTumor) -> tuple[SyntheticImage, ...]:
    return reader.demonstration(0).images


def a_result(reader: CtTumor, study: Study) -> Result:
    selection = reader.select(study)
    assert isinstance(selection, Selection)
    result = reader.read(selection)
    assert isinstance(result, Result)
    return result


def test_the_demonstration_is_read_with_its_classes_key_slices_and_maps(
    reader: CtTumor, demonstration: tuple[SyntheticImage, ...], tmp_path: Path
) -> None:
    result = a_result(reader, read_back(demonstration, tmp_path))
    (finding,) = result.findings
    shares = [measurement.value for measurement in finding.measurements]
    assert sum(shares) == pytest.approx(100, abs=0.02)
    assert len(result.evidence) == len(demonstration) == 40
    assert len(result.key_images) == len(result.captures) == 3
    assert set(result.key_images) <= set(result.evidence)
    for capture in result.captures:
        assert capture.saliency is not None
        assert (capture.saliency.rows, capture.saliency.columns) == (256, 256)
        assert capture.subject == finding
    assert result.scores["pancreas tumor"] == pytest.approx(shares[0] / 100, abs=1e-4)
    assert sum("slice" in name for name in result.scores) == 40


def test_a_picture_names_its_slice_as_the_viewer_does(
    reader: CtTumor, demonstration: tuple[SyntheticImage, ...], tmp_path: Path
) -> None:
    """Most scanners count from the head."""
    from_the_head = tuple(
        replace(image, header={**image.header, "InstanceNumber": 40 - n}) for n, image in enumerate(demonstration)
    )
    study = read_back(from_the_head, tmp_path)
    rows = series_view([instance.path for instance in study.instances])["slices"]
    numbers = {row["uid"]: number for number, row in enumerate(rows, start=1)}
    for capture in a_result(reader, study).captures:
        assert capture.title == f"CT tumor, pancreas, slice {numbers[capture.image.sop_instance_uid]} of 40"


def test_slices_of_another_order_and_orientation_give_the_same_answer(
    reader: CtTumor, demonstration: tuple[SyntheticImage, ...], tmp_path: Path
) -> None:
    straight = a_result(reader, read_back(demonstration, tmp_path / "straight"))
    turned = a_result(reader, read_back(tuple(map(_head_over_heels, reversed(demonstration))), tmp_path / "turned"))
    for name, value in straight.scores.items():
        assert turned.scores[name] == pytest.approx(value, abs=1e-4)
    one, other = straight.captures[0].saliency, turned.captures[0].saliency
    assert one is not None
    assert other is not None
    as_it_was = np.frombuffer(other.values, np.uint8).reshape(256, 256)[::-1, ::-1]
    assert np.abs(as_it_was.astype(int) - np.frombuffer(one.values, np.uint8).reshape(256, 256)).max() <= 1


def _head_over_heels(image: SyntheticImage) -> SyntheticImage:
    """The same patient, pixels and tags turned by half a turn in the slice."""
    pixels = np.frombuffer(image.pixels, "<u2").reshape(image.rows, image.columns)[::-1, ::-1]
    header: dict[str, Any] = dict(image.header)
    x, y, z = header["ImagePositionPatient"]
    down, right = header["PixelSpacing"]
    corner = (x + (image.columns - 1) * right, y + (image.rows - 1) * down, z)
    turned = {"ImagePositionPatient": corner, "ImageOrientationPatient": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)}
    return replace(image, pixels=pixels.tobytes(), header=header | turned)


def test_a_chest_to_pelvis_with_contrast_is_read_for_the_pancreas_as_if_scanned_alone(
    reader: CtTumor, tmp_path: Path
) -> None:
    header = {"ContrastBolusAgent": "APPLIED", "SeriesDescription": "portal venous"}
    alone = a_result(reader, bodies.study(abdomen(0), tmp_path / "alone", **{**header, "BodyPartExamined": "ABDOMEN"}))
    values = np.concatenate([abdomen(0), chest(0)])
    result = a_result(
        reader, bodies.study(values, tmp_path / "both", **{**header, "BodyPartExamined": "CHESTABDPELVIS"})
    )
    assert {finding.site.meaning for finding in result.findings} == {"Pancreas"}
    parameters = dict(result.algorithm.parameters)
    assert "`detect = true`" in parameters["lung not read"]
    for number in range(1, 41):
        name = f"pancreas tumor slice {number}"
        assert result.scores[name] == alone.scores[name]
    assert parameters["pancreas read"].endswith(" of 80: the abdomen")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_gray_pictures_of_8_bits_are_neither_stretched_nor_inverted(photometric: str, tmp_path: Path) -> None:
    gray = np.random.default_rng(0).integers(60, 180, (256, 256), np.uint8)
    stored = 255 - gray if photometric == "MONOCHROME1" else gray
    header: dict[str, Any] = {
        "SOPClassUID": CAPTURE,
        "Modality": "OT",
        "ImageType": ("DERIVED", "SECONDARY"),
        "PhotometricInterpretation": photometric,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
    }
    study = read_back((SyntheticImage(256, 256, stored.tobytes(), header),), tmp_path)
    slices = organ_slices(read_card().organ("pancreas"), study.instances)
    assert not isinstance(slices, OutOfScope)
    assert np.array_equal(slices.values[0], gray)


def test_slices_that_are_pictures_are_read_as_they_came(
    reader: CtTumor, demonstration: tuple[SyntheticImage, ...], tmp_path: Path
) -> None:
    pictures = []
    for image in demonstration[18:21]:
        hounsfield = np.frombuffer(image.pixels, "<u2").astype(np.float32) - 1024
        gray = np.clip((hounsfield + 160) / 400 * 255, 0, 255).astype(np.uint8)
        rgb = np.repeat(gray[:, None], 3, axis=1)
        header: dict[str, Any] = {
            "SOPClassUID": CAPTURE,
            "Modality": "OT",
            "ImageType": ("DERIVED", "SECONDARY"),
            "BodyPartExamined": "ABDOMEN",
        }
        pictures.append(SyntheticImage(image.rows, image.columns, rgb.tobytes(), header, samples=3))
    result = a_result(reader, read_back(tuple(pictures), tmp_path))
    assert len(result.evidence) == 3
    assert ("pancreas input", "224 x 224, body alone, window as it came") in result.algorithm.parameters
    cautions = {organ.name: organ.caution for organ in read_card().organs}
    assert result.algorithm.known_limits == (f"pancreas: {cautions['pancreas']}",)
    assert "12 of 12 real chest CT malignant" in cautions["lung"]
    assert max(map(len, cautions.values())) <= 64, "a value of LO has 64 characters"


def test_a_scan_of_air_is_out_of_scope(reader: CtTumor, tmp_path: Path) -> None:
    study = a_study(tmp_path, RescaleIntercept=-9000.0, BodyPartExamined="ABDOMEN", ContrastBolusAgent="APPLIED")
    selection = reader.select(study)
    assert isinstance(selection, Selection)
    answer = reader.read(selection)
    assert isinstance(answer, OutOfScope)
    assert answer.code == "unusable-pixels"


def judged(organ_name: str, shares: tuple[float, ...], threshold: float) -> Finding:
    """Return the finding of an organ whose study has these class probabilities, in the order of the card."""
    installed("keras", "openvino", "torch")
    from ainode.models.ct_tumor.model import Reading, SliceReading, TumorModel
    from ainode.models.ct_tumor.preprocess import Placement
    from ainode.models.running.keras_serving import Network

    organ = read_card().organ(organ_name)
    place = Placement(0, 0, organ.side, organ.side, organ.side)
    study = np.array(shares)
    reading = Reading((SliceReading(0, study, np.zeros((1, 1), np.float32), place),), study, shares[-1])
    image = Instance(IMAGE, UID("1.2"), Path("slice.dcm"), "", 0, {})
    slices = OrganSlices((image,), (), lambda _, values: values, hounsfield=True, numbers=(1,), whole_count=1)
    network = Network(lambda _: (), 1.0)
    return _OrganReading(
        organ, slices, reading, TumorModel(organ, Calibration(threshold=threshold), "", network)
    ).finding()


@pytest.mark.parametrize(
    ("organ", "shares", "threshold", "statement"),
    [
        ("lung", (0.05, 0.07, 0.88), 0.734, "lung malignant: present, 0.88, threshold 0.73"),
        ("lung", (0.81, 0.07, 0.12), 0.734, "lung malignant: absent, 0.12, threshold 0.73"),
        ("lung", (0.12, 0.6, 0.28), 0.734, "lung malignant: absent, 0.28, threshold 0.73"),
        ("lung", (0.2, 0.2, 0.6), 0.734, "lung malignant: absent, 0.60, threshold 0.73"),
        ("lung", (0.6, 0.0, 0.4), 0.3, "lung malignant: present, 0.40, threshold 0.30"),
        ("pancreas", (0.79, 0.21), 0.589, "pancreas tumor, neoplasm: absent, 0.21, threshold 0.59"),
        ("pancreas", (0.13, 0.87), 0.589, "pancreas tumor: present, 0.87, threshold 0.59"),
    ],
)
def test_one_class_is_the_finding_and_the_others_are_probabilities(
    organ: str, shares: tuple[float, ...], threshold: float, statement: str
) -> None:
    finding = judged(organ, shares, threshold)
    assert finding.statement == statement
    assert finding.tracking_identifier in {"lung malignant", "pancreas tumor"}, "a later reading is matched by it"
    percents = [measurement.value for measurement in finding.measurements]
    assert percents[0] == pytest.approx(100 * shares[-1]), "the probability that was held against the threshold"
    assert sorted(percents) == pytest.approx(sorted(100 * share for share in shares))
    names = [measurement.concept.value for measurement in finding.measurements]
    assert len(set(names)) == len(shares)
    assert names.count("122157") == 1


@pytest.mark.parametrize(
    ("values", "part", "code"), [(abdomen(0), "CHEST", "no-lung"), (chest(1), "ABDOMEN", "no-abdomen")]
)
def test_a_look_refuses_what_the_header_calls_by_the_name_of_another_part(
    handler: CtTumor, tmp_path: Path, values: Values, part: str, code: str
) -> None:
    header = {"BodyPartExamined": part, "ContrastBolusAgent": "APPLIED"}
    selection = handler.select(searched(bodies.study(values, tmp_path, **header)))
    assert isinstance(selection, Selection)
    refusal = handler.look(selection)
    assert isinstance(refusal, OutOfScope)
    assert refusal.code == code
    assert f"the header says {part}" in refusal.reason


def test_an_abdomen_that_is_labelled_as_both_is_read_for_the_pancreas_alone(handler: CtTumor, tmp_path: Path) -> None:
    header = {"BodyPartExamined": "CHESTABDPELVIS", "ContrastBolusAgent": "APPLIED"}
    selection = handler.select(searched(bodies.study(abdomen(0), tmp_path, **header)))
    assert isinstance(selection, Selection)
    seen = handler.look(selection)
    assert isinstance(seen, Selection)
    assert {name: refusal.code for name, refusal in seen.declined.items()} == {"lung": "no-lung"}


@pytest.mark.parametrize(
    ("values", "declined"),
    [
        (chest(1), {"pancreas": "no-abdomen"}),
        (np.concatenate([abdomen(0), chest(1)]), {}),
        (abdomen(0), {"lung": "no-lung", "pancreas": "no-abdomen"}),
    ],
)
def test_the_pixels_decide_on_the_organs_of_a_ct_that_names_no_part(
    handler: CtTumor, tmp_path: Path, values: Values, declined: dict[str, str]
) -> None:
    study = bodies.study(values, tmp_path, BodyPartExamined="", ContrastBolusAgent="APPLIED")
    selection = handler.select(searched(study))
    assert isinstance(selection, Selection)
    seen = handler.look(selection)
    if len(declined) == 2:
        assert isinstance(seen, OutOfScope)
        assert "the header names no body part, but the pixels show no aerated lung" in seen.reason
    else:
        assert isinstance(seen, Selection)
        assert {name: refusal.code for name, refusal in seen.declined.items()} == declined


def test_an_organ_that_is_not_read_beside_the_other_is_said_with_the_reason(reader: CtTumor, tmp_path: Path) -> None:
    header = {"BodyPartExamined": "CHESTABDPELVIS", "ContrastBolusAgent": "APPLIED"}
    selection = reader.select(searched(bodies.study(abdomen(0), tmp_path, **header)))
    assert isinstance(selection, Selection)
    seen = reader.look(selection)
    assert isinstance(seen, Selection)
    result = reader.read(seen)
    assert isinstance(result, Result)
    assert "no aerated lung in any of 16 slices" in dict(result.algorithm.parameters)["lung not read"]
    assert [finding.site.meaning for finding in result.findings] == ["Pancreas"]
