"""A MONAI bundle is taken in by a command and reads slices in a confined process: its labels leave as SEG and SR."""

import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from click.testing import Result as Done
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from support.described import DescribedNode
from support.monai_bundles import bundle, classifier, configuration, metadata, oblique_volume, preprocessing, step
from typer.testing import CliRunner

from ainode.models.bundles import pipeline
from ainode.node import testing
from ainode.node.commands.model_app import model_app
from ainode.node.domain import (
    UID,
    DocumentContext,
    DocumentKind,
    File,
    OutOfScope,
    Reading,
    Request,
    Result,
    SyntheticImage,
)
from ainode.node.errors import NodeError
from ainode.node.keeping.spool import content_sha256
from ainode.node.offline.readings import reading_of
from ainode.node.settings import ReaderTable

KINDS = (DocumentKind.SEGMENTATION_LABELMAP,)
CONTEXT = DocumentContext(datetime(2026, 1, 2, tzinfo=UTC), UID("2.25.1"), "test", ("ainode 0",), "00", optional=KINDS)
OFFSET = 1000
NAME = "drawn_organs"


def mr_configuration() -> dict[str, Any]:
    """Return the configuration of a bundle for the values of an MR."""
    before = preprocessing()
    before["transforms"][4] |= {"a_min": OFFSET - 57, "a_max": OFFSET + 164}
    return configuration(preprocessing=before)


def mr_bundle(folder: Path, content: dict[str, Any] | None = None) -> Path:
    bundle(folder, content or mr_configuration())
    described = metadata()
    described["network_data_format"]["inputs"]["image"]["modality"] = "MRI"
    (folder / "configs/metadata.json").write_text(json.dumps(described))
    return folder


COMPLETE = ("--licence", "Apache-2.0", "--body-part", "any")
"""what the bundle of these tests does not say"""


def slices(values: NDArray[np.float32], affine: NDArray[np.float64]) -> list[SyntheticImage]:
    """Return a volume as the slices of an MR, by its affine in LPS."""
    steps = affine[:3, :3]
    across, down, right = (float(np.linalg.norm(steps[:, axis])) for axis in (2, 1, 0))
    common = {
        "Modality": "MR",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "FrameOfReferenceUID": "2.25.7",
        "PositionReferenceIndicator": "",
        # PS3.5 6.2: a decimal string has 16 characters at most.
        "ImageOrientationPatient": tuple(round(float(n), 9) for n in (*steps[:, 0] / right, *steps[:, 1] / down)),
        "PixelSpacing": (round(down, 6), round(right, 6)),
        "SliceThickness": round(across, 6),
    }
    images = []
    for number, plane in enumerate(values):
        at = affine[:3, 3] + number * steps[:, 2]
        place = {"ImagePositionPatient": tuple(round(float(mm), 6) for mm in at), "InstanceNumber": number + 1}
        images.append(SyntheticImage(*plane.shape, plane.astype("<u2").tobytes(), {**common, **place}))
    return images


def run_model(folder: Path, *arguments: str | Path) -> Done:
    """Run `ainode model` with the node's data below a folder."""
    config = folder / "node.toml"
    config.write_text(f'[node]\ndata = "{folder / "data"}"\n')
    (folder / "routes.toml").write_text("")
    return CliRunner().invoke(model_app, [*map(str, arguments), "--config", str(config)])


def answer(folder: Path, paths: tuple[Path, ...]) -> Result | OutOfScope:
    """Return what the model in the node's data below a folder answers to a study, in this process."""
    return DescribedNode(folder / "data", paths).answer(NAME)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    values, affine = oblique_volume()
    stored = np.rint(np.clip(values + OFFSET, 0, 4095)).astype(np.float32)
    return testing.write(slices(stored, affine), tmp_path_factory.mktemp("study"), study="study")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a node's data into which the command took a bundle, and somebody put a file since."""
    home = tmp_path_factory.mktemp("home")
    done = run_model(home, "import", mr_bundle(home / "bundle"), "--name", NAME, *COMPLETE)
    assert done.exit_code == 0, done.output
    (home / "data/models" / NAME / "models/other.safetensors").write_bytes(b"no weights that the description names")
    return home


@pytest.fixture(scope="module")
def reading(home: Path, study: tuple[Path, ...]) -> Reading:
    """Return the reading of the study in a process of its own."""
    request = Request(UID(testing.uid("study")), tuple(File(path, content_sha256(path)) for path in study), CONTEXT)
    environment = DescribedNode(home / "data", study).environment
    return reading_of(request, NAME, environment, ReaderTable(time_limit_s=300))


def expected_labels(home: Path, paths: tuple[Path, ...]) -> NDArray[np.uint8]:
    """Return the labels of the bundle on the slices as plain headers place them: (slices, rows, columns)."""
    images = [dcmread(path) for path in paths]
    values = np.stack([image.pixel_array for image in images]).astype(np.float32)
    first, last = (np.asarray(image.ImagePositionPatient, float) for image in (images[0], images[-1]))
    row, column = np.asarray(images[0].ImageOrientationPatient, float).reshape(2, 3)
    down, right = map(float, images[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.column_stack([row * right, column * down, (last - first) / (len(images) - 1), first])
    return pipeline.reader(home / "bundle").labels(values, affine)[0]


def test_the_seg_holds_the_labels_of_the_bundle_on_every_pixel(
    home: Path, study: tuple[Path, ...], reading: Reading
) -> None:
    assert isinstance(reading.answer, Result)
    labels = expected_labels(home, study)
    contents = [dcmread(BytesIO(item.content)) for item in reading.documents if item.kind in KINDS]
    marked = np.zeros_like(labels)
    for content in contents:
        segmentation = hd.seg.Segmentation.from_dataset(content)
        uids = [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in study]
        pixels = segmentation.get_pixels_by_source_instance(
            uids, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
        )
        names = [
            str(segmentation.get_segment_description(number).segment_label) for number in segmentation.segment_numbers
        ]
        numbers = {number: 1 + ["spleen", "liver"].index(name.lower()) for number, name in enumerate(names, start=1)}
        for number, label in numbers.items():
            marked[pixels == number] = label
    assert {1, 2} <= set(np.unique(labels).tolist())
    np.testing.assert_array_equal(marked, labels)


def test_the_report_has_the_volume_of_each_organ_with_its_code(
    home: Path, study: tuple[Path, ...], reading: Reading
) -> None:
    assert isinstance(reading.answer, Result)
    labels = expected_labels(home, study)
    voxel_ml = abs(np.linalg.det(oblique_volume()[1][:3, :3])) / 1000
    findings = {finding.concept.value: finding for finding in reading.answer.findings}
    assert set(findings) == {"78961009", "10200004"}
    for label, code in ((1, "78961009"), (2, "10200004")):
        volume = findings[code].measurements[0]
        assert volume.unit.value == "ml"
        volume_ml = float((labels == label).sum()) * voxel_ml
        assert volume.value == pytest.approx(volume_ml, rel=5e-3)
        assert reading.answer.scores[f"{findings[code].tracking_identifier} ml"] == pytest.approx(volume_ml, rel=1e-5)
    (report,) = (
        dcmread(BytesIO(item.content)) for item in reading.documents if item.kind is DocumentKind.STRUCTURED_REPORT
    )
    assert {"78961009", "10200004"} <= set(_codes(report))
    algorithm = reading.answer.algorithm
    assert (algorithm.version, algorithm.not_for) == ("0.5.1", ("other uses than the bundle's: tests",))
    parameters = dict(algorithm.parameters)
    assert parameters["file"].startswith("bundle, sha256 ")
    assert parameters["input"] == "by the bundle's own preprocessing"


def _codes(item: Dataset) -> list[str]:
    return [str(element.value) for element in item.iterall() if element.keyword == "CodeValue"]


def test_the_command_asks_for_what_the_bundle_does_not_say_and_the_node_reads_nothing_until_then(
    tmp_path: Path, study: tuple[Path, ...]
) -> None:
    folder = mr_bundle(tmp_path / "bundle")
    described = json.loads((folder / "configs/metadata.json").read_text())
    described["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "background", "1": "lump", "2": "liver"}
    (folder / "configs/metadata.json").write_text(json.dumps(described))
    done = run_model(tmp_path, "import", folder, "--name", NAME)
    assert done.exit_code == 0, done.output
    assert 'to be written: code = ["TODO: the code", "SCT", "lump"]' in done.output
    assert 'to be written: licence = "TODO' in done.output
    assert 'to be written: body_part = ["TODO: such as ABDOMEN; remove the line for any part"]' in done.output
    assert "answer these lines, then: ainode model test " in done.output
    with pytest.raises(NodeError, match="TODO"):
        answer(tmp_path, study)


def test_a_bundle_of_which_nothing_is_asked_names_the_next_command_and_the_parts_that_it_reads(tmp_path: Path) -> None:
    options = ("--name", NAME, "--licence", "Apache-2.0", "--body-part", "chest, Abdomen")
    done = run_model(tmp_path, "import", mr_bundle(tmp_path / "bundle"), *options)
    assert done.exit_code == 0, done.output
    assert "answer these lines" not in done.output
    assert "nothing is asked; check its lines, then: ainode model test " in done.output
    assert 'body_part = ["CHEST", "ABDOMEN"]' in (tmp_path / "data/models" / NAME / "model.toml").read_text()


def test_a_refused_bundle_leaves_nothing_behind_and_is_told_by_its_key(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", configuration(run=["$__import__('os').system('touch trace')"]))
    done = run_model(tmp_path, "import", folder, "--name", NAME)
    assert done.exit_code != 0
    assert "inference.json, run#0 = " in str(done.exception) + done.output
    assert not list((tmp_path / "data" / "models").glob("*"))
    assert not Path("trace").exists()


@pytest.mark.parametrize("name", ["segment", "ct_tumor", "../up", "Big", ""])
def test_a_name_that_no_model_may_have_is_refused(tmp_path: Path, name: str) -> None:
    done = run_model(tmp_path, "import", bundle(tmp_path / "bundle"), "--name", name)
    assert done.exit_code != 0
    assert not (tmp_path / "data" / "models" / name / "model.toml").exists()


def test_a_bundle_that_does_not_turn_its_image_is_asked_how_its_images_lie(tmp_path: Path) -> None:
    before = preprocessing()
    del before["transforms"][2]
    folder = bundle(tmp_path / "bundle", configuration(preprocessing=before))
    done = run_model(tmp_path, "import", folder, "--name", NAME)
    assert "say by --orientation" in str(done.exception) + done.output
    for options in ((), ("--replace",)):
        done = run_model(tmp_path, "import", folder, "--name", NAME, "--orientation", "ras", *options)
        assert done.exit_code == 0, done.output
    assert 'orientation = "RAS"' in (tmp_path / "data/models" / NAME / "model.toml").read_text()


def test_a_configuration_that_was_changed_after_the_import_answers_nothing(
    home: Path, study: tuple[Path, ...], tmp_path: Path
) -> None:
    shutil.copytree(home / "data", tmp_path / "data")
    changed = tmp_path / "data/models" / NAME / "configs/inference.json"
    content = json.loads(changed.read_text())
    changed.write_text(json.dumps(content | {"highres": False}))
    with pytest.raises(NodeError, match="sha256"):
        answer(tmp_path, study)


def test_a_bundle_that_cuts_the_volume_says_what_share_of_it_was_seen(
    reading: Reading, study: tuple[Path, ...], tmp_path: Path
) -> None:
    content = mr_configuration()
    content["preprocessing"]["transforms"].insert(4, step("CenterSpatialCropd", keys="image", roi_size=[24, 24, 16]))
    folder = mr_bundle(tmp_path / "bundle", content)
    assert run_model(tmp_path, "import", folder, "--name", NAME, *COMPLETE).exit_code == 0
    result = answer(tmp_path, study)
    assert isinstance(result, Result)
    words = r"\d+ % of the volume lie in the input; the rest was not seen"
    assert re.fullmatch(words, dict(result.algorithm.parameters)["seen"])
    assert re.search(words, result.summary)
    assert isinstance(reading.answer, Result)
    assert "seen" not in dict(reading.answer.algorithm.parameters)


def test_slices_of_another_modality_are_out_of_scope(home: Path, tmp_path: Path) -> None:
    images = [
        replace(image, header={**image.header, "Modality": "PT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128"})
        for image in slices(*oblique_volume())
    ]
    refusal = answer(home, testing.write(images, tmp_path, study="study"))
    assert isinstance(refusal, OutOfScope)
    assert "MR" in refusal.reason


def test_slices_of_one_value_each_are_out_of_scope(home: Path, tmp_path: Path) -> None:
    values, affine = oblique_volume()
    values[:] = np.arange(len(values))[:, None, None]
    refusal = answer(home, testing.write(slices(values, affine), tmp_path, study="study"))
    assert isinstance(refusal, OutOfScope)
    assert refusal.reason == "all pixels of each slice have one value; images that show something are read"


def test_a_classification_of_a_volume_is_reported_by_its_threshold(study: tuple[Path, ...], tmp_path: Path) -> None:
    folder = classifier(tmp_path / "bundle")
    described = json.loads((folder / "configs/metadata.json").read_text())
    described["network_data_format"]["inputs"]["image"]["modality"] = "MR"
    (folder / "configs/metadata.json").write_text(json.dumps(described))
    done = run_model(
        tmp_path, "import", folder, "--name", NAME, *COMPLETE, "--orientation", "LPS", "--scheme", "99LUMPS"
    )
    assert done.exit_code == 0, done.output
    description = tmp_path / "data/models" / NAME / "model.toml"
    text = description.read_text()
    assert 'handler = "classify"' in text
    lines = [line for line in text.splitlines() if not line.startswith("threshold")]
    complete = "\n".join(lines).replace('name = "nodule"', 'name = "nodule"\nthreshold = 0.25')
    description.write_text(
        complete.replace('["TODO: the code of the body part", "SCT", ""]', '["39607008", "SCT", "Lung"]')
    )
    result = answer(tmp_path, study)
    assert isinstance(result, Result)
    assert [finding.concept.scheme for finding in result.findings] == ["SCT"]
    values, affine = oblique_volume()
    stored = np.rint(np.clip(values + OFFSET, 0, 4095)).astype(np.float32)
    expected, _ = pipeline.reader(folder).probabilities(stored, affine, "LPS")
    assert sorted(result.scores.values()) == pytest.approx(sorted(expected.tolist()), abs=1e-4)


def test_a_class_without_a_term_gets_a_code_of_the_site_if_a_scheme_is_given(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", channel_def={"0": "background", "1": "spleen", "2": "liver tumor"})
    assert run_model(tmp_path, "import", folder, "--name", NAME, "--scheme", "99LUMPS").exit_code == 0
    text = (tmp_path / "data/models" / NAME / "model.toml").read_text()
    assert 'code = ["2", "99LUMPS", "liver tumor"]' in text
    assert 'code = ["78961009", "SCT", "Spleen"]' in text
    assert re.findall('^category = "(.*?)"', text, re.MULTILINE) == ["anatomy", "abnormal"]
    assert run_model(tmp_path, "import", folder, "--name", "other", "--scheme", "LUMPS").exit_code != 0
