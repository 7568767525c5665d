"""The process that decodes files for the console: hostile files, limits, and pydicom as the oracle of every value."""

import gzip
import json
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.made import CONTEXT
from conformance.test_ct_documents import a_slice
from conformance.test_outlines import outlined, report_of
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_modality_lut
from support import hostile_objects, instance_ref
from support.node import ROOT
from support.waiting import until

from ainode.node import testing
from ainode.node.console.rendering.client import Rendering
from ainode.node.console.rendering.questions import Limits
from ainode.node.errors import CannotRender
from ainode.node.imaging.decoding import BROKEN_FILE

REAL = ROOT.parent / "shared" / "data" / "dicom"
# Making it takes fifteen seconds; its answer is that of memory beyond the limit.
SLOW = {"a gigabyte of deflated zeros"}
LIMITS = Limits(memory_bytes=768 << 20)


@pytest.fixture(scope="module")
def rendering() -> Iterator[Rendering]:
    rendering = Rendering(LIMITS)
    yield rendering
    rendering.stop()


def unpacked(content: bytes) -> tuple[dict[str, Any], NDArray[Any]]:
    """Return head and values as the documentation of the format says, by other code than the node's."""
    plain = gzip.decompress(content)
    (length,) = struct.unpack_from("<I", plain)
    head = json.loads(plain[4 : 4 + length])
    size = head["rows"], head["columns"]
    if head["kind"] == "color":
        return head, np.frombuffer(plain, np.uint8, offset=4 + length).reshape(*size, 3)
    stored = np.frombuffer(plain, "<u2", offset=4 + length).reshape(size)
    return head, stored * head["step"] + head["base"]


def written(data_set: Dataset, folder: Path, name: str = "image") -> Path:
    path = folder / f"{name}.dcm"
    data_set.save_as(path, enforce_file_format=True)
    return path


def coded(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return code


def refusal(ask: Callable[[], object]) -> str:
    """Return why a question has no answer, '' where it has one."""
    try:
        ask()
    except CannotRender as reason:
        return str(reason)
    return ""


def peak_bytes(rendering: Rendering) -> int:
    process = rendering._child._process
    if process is None:
        return 0
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


@pytest.mark.parametrize("name", sorted(set(hostile_objects.OBJECTS) - SLOW))
def test_a_hostile_file_costs_one_answer_with_a_reason_and_bounded_memory(
    rendering: Rendering, tmp_path: Path, name: str
) -> None:
    hostile, image = tmp_path / "hostile.dcm", written(testing.dataset(testing.noise(8, 8), study="plain"), tmp_path)
    hostile.write_bytes(hostile_objects.OBJECTS[name]())
    for ask in (
        lambda: rendering.header(hostile, is_anonymous=False),
        lambda: rendering.series([hostile]),
        lambda: rendering.values(hostile),
        lambda: rendering.thumbnail(hostile),
    ):
        reason = refusal(ask)
        assert not reason or len(reason) > 20
        assert "Synthetic" not in reason
        assert peak_bytes(rendering) < LIMITS.memory_bytes + (512 << 20)
    assert unpacked(rendering.values(image))[1].shape == (8, 8)


def test_a_text_file_is_refused_with_a_reason(rendering: Rendering, tmp_path: Path) -> None:
    path = tmp_path / "text.dcm"
    path.write_text("a text that is no picture\n" * 100, encoding="ascii")
    with pytest.raises(CannotRender, match="InvalidDicomError"):
        rendering.header(path, is_anonymous=False)
    with pytest.raises(CannotRender, match="no image to show"):
        rendering.series([path])


def test_a_process_that_takes_too_long_is_killed_and_started_again(tmp_path: Path) -> None:
    large = testing.dataset(testing.noise(2000, 2000), study="slow")
    large.NumberOfFrames = 1
    path = written(large, tmp_path)
    rendering = Rendering(Limits(time_s=0.001))
    with pytest.raises(CannotRender, match=r"more than 0\.001 s"):
        rendering.values(path)
    rendering._limits = Limits()
    assert unpacked(rendering.values(path))[1].shape == (2000, 2000)
    rendering.stop()


def test_a_process_above_its_memory_is_killed_or_refuses(tmp_path: Path) -> None:
    path = written(testing.dataset(testing.noise(4000, 4000), study="large"), tmp_path)
    rendering = Rendering(Limits(memory_bytes=48 << 20))
    with pytest.raises(CannotRender, match=r"MiB|MemoryError|ended the process"):
        rendering.values(path)
    rendering.stop()


def test_an_unused_process_ends_and_the_next_question_starts_another(tmp_path: Path) -> None:
    path = written(testing.dataset(testing.noise(8, 8), study="idle"), tmp_path)
    rendering = Rendering(Limits(idle_s=0.2))
    rendering.values(path)
    until(lambda: not rendering._child.is_started)
    assert rendering.values(path)
    rendering.stop()


def test_a_killed_process_is_started_again(rendering: Rendering, tmp_path: Path) -> None:
    path = written(testing.dataset(testing.noise(8, 8), study="killed"), tmp_path)
    rendering.values(path)
    assert rendering._child._process
    number = rendering._child._process.pid
    os.kill(number, signal.SIGKILL)
    os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)
    assert rendering.values(path)


def _real_files() -> list[Path]:
    folders = ("transfer_syntaxes", "enhanced_multiframe", "mr_head_t1", "cr_dx")
    return [path for folder in folders for path in sorted((REAL / folder).rglob("*.dcm"))[:40]]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, on damaged files
@pytest.mark.parametrize("path", _real_files() or [Path("none")], ids=lambda path: path.stem[-40:])
def test_values_are_those_that_pydicom_decodes(rendering: Rendering, path: Path) -> None:
    if not path.exists():
        pytest.skip("../shared/data/dicom is not here")
    reason = refusal(lambda: rendering.values(path))
    try:
        header = dcmread(path)
        pixels = header.pixel_array
    except BROKEN_FILE as error:
        pytest.skip(f"pydicom does not read the file: {type(error).__name__}")
    if reason:
        pytest.skip(f"refused: {reason}")
    frames = int(header.get("NumberOfFrames") or 1)
    head, values = unpacked(rendering.values(path, frames - 1, longest_side=100_000))
    if head["kind"] == "color":
        return
    stored = pixels[frames - 1] if frames > 1 else pixels
    groups = header.get("SharedFunctionalGroupsSequence", []), header.get("PerFrameFunctionalGroupsSequence", [])
    rescaled = next(
        (
            group.PixelValueTransformationSequence[0]
            for group in (*groups[0][:1], *groups[1][frames - 1 : frames])
            if "PixelValueTransformationSequence" in group
        ),
        header,
    )
    expected = apply_modality_lut(stored, rescaled)
    assert np.abs(values - expected).max() <= max(head["step"] / 2, 1e-3)


def test_the_slices_of_a_series_lie_in_the_order_of_their_positions(rendering: Rendering, tmp_path: Path) -> None:
    volume = np.zeros((5, 6, 7), np.float32)
    paths = testing.write(testing.ct(volume, (2.5, 0.5, 0.8), frame="order", header={}), tmp_path, study="order")
    view = rendering.series([paths[number] for number in (3, 0, 4, 2, 1)])
    assert [item["at"] for item in view["slices"]] == [-5, -2.5, 0, 2.5, 5]
    assert [item["uid"] for item in view["slices"]] == [dcmread(path).SOPInstanceUID for path in paths]
    assert [item["index"] for item in view["slices"]] == [0, 1, 2, 3, 4]
    (plane,) = view["planes"]
    assert (plane["rows"], plane["columns"], plane["spacing"], plane["aspect"]) == (6, 7, [0.5, 0.8], 0.5 / 0.8)
    assert plane["letters"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert view["step_mm"] == 2.5


@pytest.mark.parametrize(
    ("orientation", "letters"),
    [
        ((1, 0, 0, 0, 0, -1), "R L H F"),
        ((0, 1, 0, 0, 0, -1), "A P H F"),
        ((-1, 0, 0, 0, 1, 0), "L R A P"),
        ((0.8, 0.6, 0, -0.6, 0.8, 0), "RA LP AL PR"),
    ],
)
def test_the_letters_of_the_edges_follow_the_orientation(
    rendering: Rendering, tmp_path: Path, orientation: tuple[float, ...], letters: str
) -> None:
    data_set = testing.dataset(testing.noise(8, 8), study="letters")
    data_set.ImageOrientationPatient, data_set.ImagePositionPatient = list(orientation), [1, 2, 3]
    (plane,) = rendering.series([written(data_set, tmp_path)])["planes"]
    edges = plane["letters"]
    assert " ".join(edges[edge] for edge in ("left", "right", "top", "bottom")) == letters


def test_a_window_without_an_end_is_no_window_of_a_series(rendering: Rendering, tmp_path: Path) -> None:
    data_set = testing.dataset(testing.noise(8, 8), study="window")
    data_set.WindowCenter, data_set.WindowWidth = [40, 50], ["1e400", 400]
    windows = rendering.series([written(data_set, tmp_path)])["windows"]
    assert (windows[0]["center"], windows[0]["width"]) == (50, 400)
    assert not any(window["width"] == float("inf") for window in windows)


@pytest.mark.parametrize(
    ("header", "window", "label"),
    [
        ({"WindowCenter": 43.7, "WindowWidth": 423.7}, [43.7, 423.7], "Series (44 / 424)"),
        ({"BodyPartExamined": "CHEST"}, [-600, 1500], "Series (-600 / 1500)"),
        ({"BodyPartExamined": "ABDOMEN"}, [40, 400], "Series (40 / 400)"),
        ({"WindowCenter": 30_000.0, "WindowWidth": 10.0}, [40, 400], "Series (40 / 400)"),
    ],
    ids=["stated", "a chest", "an abdomen", "beside the values"],
)
def test_the_slices_of_a_ct_have_one_window(
    rendering: Rendering, tmp_path: Path, header: dict[str, Any], window: list[float], label: str
) -> None:
    volume = np.random.default_rng(0).normal(0, 300, (5, 16, 16)).astype(np.float32)
    paths = testing.write(testing.ct(volume, (2.5, 0.5, 0.8), frame="one", header=header), tmp_path, study="one")
    view = rendering.series(paths)
    assert (view["window"], view["window_label"]) == (window, label)
    assert view["name"] == "Series 1"  # as captures and other viewers call it


def test_slices_of_a_volume_that_states_no_window_share_the_window_of_their_middle(
    rendering: Rendering, tmp_path: Path
) -> None:
    volume = (
        np.random.default_rng(0).normal(0, 1, (5, 16, 16)).astype(np.float32) * 100 * np.arange(1, 6)[:, None, None]
    )
    images = testing.ct(volume, (2.5, 0.5, 0.8), frame="mr", header={"Modality": "MR"})
    paths = testing.write(images, tmp_path, study="mr")
    view = rendering.series(paths)
    head, _ = unpacked(rendering.values(paths[2]))
    assert view["window"] == head["window"]
    assert view["window_label"] == "Series (-5 / 1423)"


def test_views_of_a_body_keep_the_windows_of_their_own(rendering: Rendering, tmp_path: Path) -> None:
    paths = testing.write([testing.noise(8, 8, seed=seed) for seed in (1, 2)], tmp_path, study="views")
    assert rendering.series(paths)["window"] is None


def test_a_series_that_does_not_begin_at_image_1_is_told_by_both_numbers(rendering: Rendering, tmp_path: Path) -> None:
    words = []
    for first in (1, 101):
        images = testing.ct(np.zeros((3, 6, 7), np.float32), (2.5, 0.5, 0.8), frame="n", header={})
        numbered = [
            replace(image, header={**image.header, "InstanceNumber": first + number})
            for number, image in enumerate(images)
        ]
        paths = testing.write(numbered, tmp_path / str(first), study=f"n {first}")
        words.append([item["words"] for item in rendering.series(paths)["slices"]])
    assert words[0] == [", -2.5 mm", ", 0.0 mm", ", 2.5 mm"]
    assert words[1] == [", image 101, -2.5 mm", ", image 102, 0.0 mm", ", image 103, 2.5 mm"]


def test_a_large_frame_is_reduced_to_the_means_of_its_squares(rendering: Rendering, tmp_path: Path) -> None:
    image = testing.dataset(testing.noise(101, 60, seed=3), study="reduced")
    path = written(image, tmp_path)
    head, values = unpacked(rendering.values(path, longest_side=51))
    assert (head["factor"], head["rows"], head["columns"]) == (2, 51, 30)
    squares = image.pixel_array[:100].reshape(50, 2, 30, 2).mean(axis=(1, 3))
    assert np.abs(values[:50] - squares).max() <= head["step"]


def test_the_regions_of_a_report_are_its_boxes_and_outlines_each_once(rendering: Rendering, tmp_path: Path) -> None:
    path = a_slice(tmp_path / "slice")
    report = report_of(path, CONTEXT, tmp_path)
    box, *contours = rendering.regions(report)
    (finding,) = outlined(path).findings
    assert finding.region
    assert finding.outline
    assert (box["image"], box["frame"]) == (instance_ref(path).sop_instance_uid, 0)
    assert [tuple(point) for point in box["points"]] == list(finding.region.points)
    assert box["label"].endswith(" 0.89")
    assert {box["finding"]} == {contour["finding"] for contour in contours}
    assert box["finding"]
    assert [tuple(map(tuple, contour["positions"])) for contour in contours] == list(finding.outline.contours)
    assert {contour["frame_of_reference"] for contour in contours} == {finding.outline.frame_of_reference_uid}


def test_too_many_waiting_questions_are_refused_at_once(tmp_path: Path) -> None:
    path = written(testing.dataset(testing.noise(8, 8), study="busy"), tmp_path)
    rendering = Rendering()
    with rendering._lock, ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(rendering.values, path) for _ in range(16)]
        deadline = time.monotonic() + 60
        while not (reason := refusal(lambda: rendering.values(path))):
            assert time.monotonic() < deadline
        rendering._lock.release()
        assert all(future.result() for future in waiting)
        rendering._lock.acquire()
    assert "busy" in reason
    rendering.stop()


def test_a_header_hides_who_the_patient_is_where_the_page_must(rendering: Rendering, tmp_path: Path) -> None:
    data_set = testing.dataset(testing.noise(8, 8), study="names")
    data_set.AccessionNumber, data_set.StudyDescription = "Accession-Word", "Spine of Nobody"
    data_set.RequestAttributesSequence = [Dataset()]
    data_set.RequestAttributesSequence[0].RequestingPhysician = "Hidden^Too"
    data_set.AdmissionID, data_set.PatientState, data_set.CurrentPatientLocation = "Hidden-4711", "Hidden", "Hidden"
    data_set.InstitutionName, data_set.StationName, data_set.ProtocolName = "Hidden Hospital", "HIDDEN", "Hidden"
    data_set.StudyDate, data_set.PatientAge = "20190731", "033Y"
    data_set.private_block(0x0011, "HIDDEN CREATOR", create=True).add_new(1, "CS", "HIDDEN")
    data_set.add_new(0x00181030, "CS", "HIDDEN")  # a device that calls a free text a code
    data_set.add_new(0x60004000, "LT", "Hidden")
    data_set.AdmittingDiagnosesCodeSequence = [coded("1", "Hidden")]
    data_set.AnatomicRegionSequence = [coded("421060004", "Vertebral column")]
    path = written(data_set, tmp_path)
    shown = {row["name"]: row["value"] for row in rendering.header(path, is_anonymous=False)}
    assert (shown["Patient's Name"], shown["Rows"]) == ("Synthetic^Nobody", "8")
    hidden = json.dumps(rendering.header(path, is_anonymous=True))
    words = ("nobody", "synthetic", "accession-word", "hidden", "033y")
    assert not any(word in hidden.lower() for word in words)
    rows = {row["name"]: row["value"] for row in rendering.header(path, is_anonymous=True)}
    assert (rows["Rows"], rows["Modality"], rows["Code Meaning"]) == ("8", "DX", "Vertebral column")
    assert rows["Study Date"] == "20190731", "the worklist shows it, too"
    assert rows["SOP Instance UID"] == data_set.SOPInstanceUID


def test_a_thumbnail_is_a_small_jpeg_with_square_pixels(rendering: Rendering, tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    data_set = testing.dataset(testing.noise(100, 100), study="thumbnail")
    data_set.PixelSpacing = [2, 1]
    picture = Image.open(BytesIO(rendering.thumbnail(written(data_set, tmp_path))))
    assert (picture.format, picture.size) == ("JPEG", (80, 160))
