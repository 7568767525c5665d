"""What the lung nodule handler takes, declines and says, on synthetic studies and on real CTs."""

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import bodies, installed, shared

installed("torch", "timm", "openvino", "safetensors")

from unit.models.lung_nodule_weights import random_store  # noqa: E402  # after the packages were seen to be here

from ainode.handlers import side_of_body  # noqa: E402
from ainode.handlers.lung_nodule import LungNodule, build  # noqa: E402
from ainode.handlers.lung_nodule.selecting import stack_at  # noqa: E402
from ainode.models.lung_nodule.model import Prediction  # noqa: E402
from ainode.models.lung_nodule.patches import Scan  # noqa: E402
from ainode.models.nodule_reading.weights import DETECTION, OUTLINE, TRAITS  # noqa: E402
from ainode.node import testing  # noqa: E402
from ainode.node.domain import (  # noqa: E402
    UID,
    Extent,
    Handler,
    Location,
    OutOfScope,
    Position,
    Result,
    Selection,
    Study,
    SyntheticImage,
    WeightsStatus,
    probability_text,
)
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.imaging.geometry import Stack, Volume  # noqa: E402
from ainode.node.reading.weights import ModelEnvironment, WeightsEntry, WeightStore  # noqa: E402

REAL = "data/dicom/ct_chest_thin_R01-001"


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> LungNodule:
    """A handler whose weights have the right shape and no worth."""
    folder = tmp_path_factory.mktemp("weights")
    store = random_store(folder, temporal=WeightsStatus.DEMONSTRATION)
    return build(ModelEnvironment(store, folder / "cache", device="cpu"))


def a_study(folder: Path, *, name: str = "study", point: bool = True, **header: str | float) -> tuple[Study, Position]:
    """The handler's own demonstration, as a study on disk; header values in place of its own."""
    made = LungNodule(ModelEnvironment(WeightStore(folder), folder)).demonstration(3)
    images = [SyntheticImage(i.rows, i.columns, i.pixels, {**i.header, **header}) for i in made.images]
    paths = testing.write(images, folder / name, study=name, positions_mm=made.positions_mm if point else ())
    return headers.study(headers.instance(path, sha256="") for path in paths), made.positions_mm[0]


def test_it_is_a_handler(handler: LungNodule) -> None:
    assert isinstance(handler, Handler)
    assert handler.weights() == ("lung_nodule/lidc", "lung_nodule/temporal", "nodule_outline/implanted", DETECTION)


def test_a_site_that_names_fmcib_gets_the_originals_files_only(tmp_path: Path) -> None:
    (tmp_path / "encoder.torch").write_bytes(b"x")
    store = WeightStore(tmp_path / "site")
    words = {"licence": "", "model": "lung_nodule", "version": "0", "training_data": ""}
    entry = WeightsEntry("lung_nodule/fmcib", tmp_path / "encoder.torch", "", 1, status=WeightsStatus.SITE, **words)
    store.add(entry.path, entry)
    names = build(ModelEnvironment(store, tmp_path)).weights()
    originals = ("lung_nodule/fmcib", "lung_nodule/fmcib_recurrent", "lung_nodule/fmcib_linear")
    assert names == (*originals, OUTLINE, DETECTION, TRAITS)


def test_the_position_comes_from_the_report_in_the_study(handler: LungNodule, tmp_path: Path) -> None:
    study, position = a_study(tmp_path)
    selection = handler.select(study)
    assert isinstance(selection, Selection)
    assert [one.source for one in selection.locations] == ["SR"]
    assert selection.locations[0].position_mm == pytest.approx(position, abs=1e-3)
    assert [one.modality for one in selection.series] == ["CT", "SR"]


def test_a_study_where_nobody_pointed_is_declined(handler: LungNodule, tmp_path: Path) -> None:
    declined = handler.select(a_study(tmp_path, point=False)[0])
    assert isinstance(declined, OutOfScope)
    assert declined.code == "no-position"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"BodyPartExamined": "ABDOMEN"}, "wrong-body-part"),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "no-slices"),
        ({"Modality": "MR"}, "no-ct"),
        ({"slices": slice(0, 40, 4)}, "too-coarse"),
        ({"slices": slice(0, 3)}, "too-few-slices"),
        ({"slices": [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13]}, "gap"),
    ],
)
def test_what_it_was_not_made_for_is_declined_with_its_code(
    handler: LungNodule, tmp_path: Path, header: dict[str, str], code: str
) -> None:
    chosen = header.pop("slices", slice(None))
    made = handler.demonstration(3)
    images = [made.images[i] for i in chosen] if isinstance(chosen, list) else made.images[chosen]  # type: ignore[index]
    changed = [SyntheticImage(i.rows, i.columns, i.pixels, {**i.header, **header}) for i in images]
    paths = testing.write(changed, tmp_path / "study", study="study", positions_mm=made.positions_mm)
    declined = handler.select(headers.study(headers.instance(path, sha256="") for path in paths))
    assert isinstance(declined, OutOfScope)
    assert declined.code == code


def test_a_position_elsewhere_is_declined(handler: LungNodule, tmp_path: Path) -> None:
    study, _ = a_study(tmp_path, point=False)
    for location in (
        Location((0.0, 0.0, -500.0), "request"),
        Location((90.0, 90.0, 30.0), "request", frame_of_reference_uid=UID("1.2.3")),
    ):
        declined = handler.select(replace(study, locations=(location,)))
        assert isinstance(declined, OutOfScope)
        assert declined.code == "position-outside"


def read(handler: LungNodule, study: Study) -> Result:
    selection = handler.select(study)
    assert isinstance(selection, Selection), selection
    result = handler.read(selection)
    assert isinstance(result, Result)
    return result


def center(result: Result, number: int = 0) -> tuple[float, float]:
    region = result.findings[number].region
    assert region is not None
    (x0, y0), (x1, y1) = region.points[0], region.points[2]
    return (x0 + x1) / 2 - 0.5, (y0 + y1) / 2 - 0.5


def test_the_demonstration_is_read_and_its_box_lies_at_the_nodule(handler: LungNodule, tmp_path: Path) -> None:
    study, (x, y, z) = a_study(tmp_path)
    result = read(handler, study)
    assert center(result) == pytest.approx((x, y), abs=1.5)
    key = next(one for one in study.instances if one.ref == result.key_images[0])
    assert key.header["ImagePositionPatient"][2] == pytest.approx(z, abs=2)  # type: ignore[index]
    probability, *others = result.findings[0].measurements
    assert probability.value == pytest.approx(100 * result.scores["probability"], abs=0.01)
    assert probability.concept.value == "111047"
    assert "attention-weight" not in {measurement.concept.value for measurement in others}
    assert not any("attention" in name for name in result.scores)
    assert result.algorithm.weights_status is WeightsStatus.RESEARCH
    assert result.findings[0].label == f"nodule 1: {probability_text(result.scores['probability'])}"
    shown = result.captures[0].saliency
    assert shown is not None
    assert (shown.rows, shown.columns) == (192, 192)


def test_the_sizes_come_with_the_outline_that_they_were_measured_on(handler: LungNodule, tmp_path: Path) -> None:
    study, position = a_study(tmp_path)
    (finding,) = read(handler, study).findings
    outline = finding.outline
    assert outline is not None
    assert outline.frame_of_reference_uid == study.instances[0].text("FrameOfReferenceUID")
    points = np.concatenate([np.asarray(contour) for contour in outline.contours])
    assert np.linalg.norm(points - position, axis=1).max() < 20
    outlined = {measurement.concept.meaning for measurement in finding.measurements if measurement.of_outline}
    assert outlined == {"Diameter", "Long axis", "Short axis", "Volume"}


def test_a_size_that_somebody_drew_is_the_size_and_the_document_says_whose(handler: LungNodule, tmp_path: Path) -> None:
    study, position = a_study(tmp_path, point=False)
    drawn = Location(position, "SEG", extent=Extent(12.0, 10.0, 700.0))
    selection = Selection(study.study_instance_uid, study.series, (drawn,))
    result = handler.read(selection)
    assert isinstance(result, Result)
    sizes = {one.concept.meaning: one.value for one in result.findings[0].measurements if one.unit.value[:2] == "mm"}
    assert sizes == {"Diameter": 11, "Long axis": 12, "Short axis": 10, "Volume": 700}
    assert not any(one.of_outline for one in result.findings[0].measurements)
    assert dict(result.algorithm.parameters)["size"] == "nodule 1: by SEG"
    words = "as the SEG of a person or another system says"
    assert any(words in line for line in result.captures[0].captions)
    mass = handler.read(replace(selection, locations=(replace(drawn, extent=Extent(31.0)),)))
    assert isinstance(mass, OutOfScope)
    assert mass.code == "mass"
    assert mass.reason.endswith("31 mm, as the SEG says, more than 30 mm: a mass, not a nodule")


@pytest.mark.parametrize(
    ("width_mm", "x", "side"),
    [(350, 60, "left"), (350, -60, "right"), (350, 10, ""), (200, 60, "")],
    ids=["left", "right", "near the middle", "a slice of one lung"],
)
def test_the_side_is_that_of_the_patient_and_only_where_the_body_is_whole(width_mm: int, x: float, side: str) -> None:
    values = np.full((3, 10, 400), -1000, np.float32)
    values[:, :, 200 - width_mm // 2 : 200 + width_mm // 2] = 0
    scan = Volume(values, (-200.0, 0.0, 0.0), (1.0, 1.0, 1.0), ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
    assert side_of_body(scan, (x, 5.0, 1.0)) == side


def test_the_order_of_the_slices_changes_nothing(handler: LungNodule, tmp_path: Path) -> None:
    study, position = a_study(tmp_path, point=False)
    series = study.series[0]
    shuffled = tuple(series.instances[i] for i in np.random.default_rng(0).permutation(len(series.instances)))
    turned = replace(study, series=(replace(series, instances=shuffled),))
    asked = (Location(position, "request"),)
    first, second = (read(handler, replace(one, locations=asked)) for one in (study, turned))
    assert first.scores == second.scores
    assert first.findings == second.findings


def test_a_position_without_a_nodule_is_refused_in_words_and_the_other_is_read(
    handler: LungNodule, tmp_path: Path
) -> None:
    study, (x, y, z) = a_study(tmp_path, point=False)
    asked = (Location((x + 20, y, z + 6), "request"), Location((x, y, z), "request"))
    result = read(handler, replace(study, locations=asked))
    assert [one.tracking_identifier for one in result.findings] == ["nodule 2"]
    told = f"nodule 1: no-nodule, at ({x + 20:.1f}, {y:.1f}, {z + 6:.1f}) mm, by request: no nodule at this point"
    assert dict(result.algorithm.parameters)["not read"] == told
    answer = handler.read(Selection(study.study_instance_uid, study.series, asked[:1]))
    assert isinstance(answer, OutOfScope)
    assert answer.code == "no-nodule"


def test_two_dates_have_an_attention_each_and_demonstration_weights(handler: LungNodule, tmp_path: Path) -> None:
    study, _ = a_study(tmp_path)
    prior, _ = a_study(tmp_path, name="prior", FrameOfReferenceUID="2.25.77")
    result = read(handler, replace(study, priors=(prior,)))
    *_, now, then = result.findings[0].measurements
    assert now.value + then.value == pytest.approx(1, abs=1e-3)
    assert now.inferred_from[0].study_instance_uid == study.study_instance_uid
    assert then.inferred_from[0].study_instance_uid == prior.study_instance_uid
    studies = [one.study_instance_uid for one in result.evidence]
    assert studies == sorted(studies, key=lambda uid: uid != study.study_instance_uid)
    assert set(studies) == {study.study_instance_uid, prior.study_instance_uid}
    assert result.captures[0].image.study_instance_uid == study.study_instance_uid
    assert result.algorithm.weights_status is WeightsStatus.DEMONSTRATION
    assert dict(result.algorithm.parameters)["demonstration weights"] == "lung_nodule/temporal"
    assert dict(result.algorithm.parameters)["time points"] == "2"


def test_marks_that_are_not_read_are_said_and_the_others_keep_their_numbers(
    handler: LungNodule, tmp_path: Path
) -> None:
    study, position = a_study(tmp_path, point=False)
    asked = (Location((0.0, 0.0, -500.0), "request"), Location(position, "request"))
    result = read(handler, replace(study, locations=asked))
    assert [one.tracking_identifier for one in result.findings] == ["nodule 2"]
    assert dict(result.algorithm.parameters)["not read"].startswith("nodule 1: position-outside, ")


@pytest.mark.parametrize(("marks", "name"), [(11, "nodule 11"), (13, "nodule 11 to 13")])
def test_more_marks_than_are_read_are_declined_by_their_numbers(
    handler: LungNodule, tmp_path: Path, marks: int, name: str
) -> None:
    study, (x, y, z) = a_study(tmp_path, point=False)
    selection = handler.select(
        replace(study, locations=tuple(Location((x + n, y, z), "request") for n in range(marks)))
    )
    assert isinstance(selection, Selection)
    assert len(selection.locations) == 10
    assert [(one, why.code) for one, why in selection.declined.items()] == [(name, "too-many")]


def test_a_mark_is_read_in_the_series_that_it_was_drawn_on(handler: LungNodule, tmp_path: Path) -> None:
    made = handler.demonstration(3)
    thin = [replace(one, header={**one.header, "SeriesDescription": "inspiration"}) for one in made.images]
    drawn = [replace(one, header={**one.header, "SeriesDescription": "expiration"}) for one in made.images[::2]]
    paths = testing.write([*thin, *drawn], tmp_path / "study", study="study")
    study = headers.study(headers.instance(path, sha256="") for path in paths)
    inspiration, expiration = sorted(study.series, key=lambda one: -len(one.instances))
    for uid, read_in in (
        (expiration.series_instance_uid, expiration),
        (inspiration.series_instance_uid, inspiration),
        (UID(""), inspiration),
    ):
        found = stack_at(study.series, Location(made.positions_mm[0], "SR", series_instance_uid=uid))
        assert isinstance(found, Stack)
        assert set(found.instances) == set(read_in.instances)


def test_a_mark_far_from_the_middle_of_its_nodule_is_said_and_one_in_the_middle_is_not(
    handler: LungNodule, tmp_path: Path
) -> None:
    study, (x, y, z) = a_study(tmp_path, point=False)
    for off_mm in (0.0, 5.0):
        result = read(handler, replace(study, locations=(Location((x + off_mm, y, z), "request"),)))
        texts = dict(result.algorithm.parameters)
        distance = texts.get("middle", "")
        assert bool(distance) == bool(off_mm)
        if off_mm:
            assert 3 <= float(distance.split(": ")[1].split(" mm")[0]) <= 7
            assert any("from the marked position" in caption for caption in result.captures[0].captions)


def test_one_date_is_inferred_once(handler: LungNodule, tmp_path: Path) -> None:
    runs: list[int] = []
    answering = handler._answering
    reader = answering.reader

    def counted(scans: Sequence[Scan | None], /) -> Prediction:
        runs.append(len(scans))
        return reader.judge(scans)

    counting, changed = copy(handler), copy(answering)
    vars(changed)["reader"] = replace(reader, judge=counted)
    vars(counting)["_answering"] = changed
    read(counting, a_study(tmp_path)[0])
    assert runs == [1]


def the_real_nodule() -> Study:
    folder = shared(REAL)
    point = json.loads((folder / "nodule.json").read_text("utf-8"))["nodule_center_LPS_mm"]
    study = headers.study(headers.instance(path, sha256="") for path in sorted(folder.rglob("*.dcm")))
    return replace(study, locations=(Location((point[0], point[1], point[2]), "request"),))


def test_the_real_nodule_lies_in_its_box_within_a_voxel(handler: LungNodule) -> None:
    study = the_real_nodule()
    result = read(handler, study)
    assert center(result) == pytest.approx((124.7, 244.0), abs=0.5)
    key = next(one for one in study.instances if one.ref == result.key_images[0])
    assert key.header["ImagePositionPatient"][2] == pytest.approx(-66.0, abs=0.5)  # type: ignore[index]


def test_the_real_nodule_is_shown_as_the_training_slices_are(handler: LungNodule) -> None:
    """Lung dark, nodule of 17 mm bright in the middle, at half a millimeter a pixel."""
    from ainode.handlers.lung_nodule.places import TracedNodule
    from ainode.handlers.lung_nodule.tracing import trace
    from ainode.models.lung_nodule.patches import middle_slice

    study = the_real_nodule()
    selection = Selection(study.study_instance_uid, study.series, study.locations)
    (nodule,) = trace(selection, handler._answering.reader.nodule_at).nodules
    assert isinstance(nodule, TracedNodule)
    picture, _ = middle_slice(nodule.current.scan)
    table = np.load(shared("data/labelled/nodule3d_lidc/train.npz"))["slices"] / 255
    darkest = np.percentile(table, 20, axis=(1, 2))
    assert np.percentile(darkest, 1) <= np.percentile(picture, 20) <= np.percentile(darkest, 99)
    assert picture[0, 0, 28:36, 28:36].mean() > 2 * np.percentile(picture, 20)


def test_a_tumor_without_lung_around_it_is_refused_in_words(handler: LungNodule) -> None:
    folder = shared("data/dicom/ct_chest_5mm_Lung_Dx-A0001/dicom_lung_kernel")
    study = headers.study(headers.instance(path, sha256="") for path in sorted(folder.rglob("*.dcm")))
    tumor = Location((40.08, 201.57, -209.0), "request")
    answer = handler.read(Selection(study.study_instance_uid, study.series, (tumor,)))
    assert isinstance(answer, OutOfScope)
    assert answer.reason == "at (40.1, 201.6, -209.0) mm, by request: no lung lies around this point"


def test_a_position_in_a_body_without_lungs_is_refused_by_the_pixels(handler: LungNodule, tmp_path: Path) -> None:
    scan = bodies.study(bodies.abdomen(0, slices=60), tmp_path, spacing_mm=(5.0, 3.9, 3.9))
    frame = UID(scan.instances[0].text("FrameOfReferenceUID"))
    selection = handler.select(replace(scan, locations=(Location((0.0, 0.0, 0.0), "request", frame),)))
    assert isinstance(selection, Selection), selection
    refusal = handler.look(selection)
    assert isinstance(refusal, OutOfScope)
    assert refusal.code == "no-lung"
    assert "no aerated lung in any of 16 slices" in refusal.reason
