import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from support import shared

from ainode.node import testing
from ainode.node.domain import DocumentContext, File, Request, Selection, Study, SyntheticImage
from ainode.node.errors import BrokenSeries, ConfigError, PointRefused
from ainode.node.offline import inputs
from ainode.node.offline import options as option_texts
from ainode.node.offline.conversion import PictureKind
from ainode.node.offline.options import PointKind, ReadOptions
from ainode.node.reading import pipeline
from ainode.node.settings import Settings

nrrd: Any = pytest.importorskip("nrrd")
SETTINGS = Settings()
SPACING = np.diag((0.5, 0.75, 2.0))
ORIGIN = (-10.0, -20.0, 30.0)


def a_volume(path: Path, seed: int = 0) -> Path:
    values = np.random.default_rng(seed).integers(-1000, 1000, (8, 9, 5)).astype(np.int16)
    header = {"space": "left-posterior-superior", "space directions": SPACING, "space origin": ORIGIN}
    nrrd.write(str(path), values, header)
    return path


def a_scan(folder: Path, patient: str, date: str, **header: Any) -> Path:  # noqa: ANN401 - any element
    """Write a CT study of three slices."""
    common = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT", "PatientID": patient, "StudyDate": date}
    place = {"ImageOrientationPatient": (1, 0, 0, 0, 1, 0), "FrameOfReferenceUID": testing.uid(patient, date)}
    images = []
    for number in range(3):
        values: dict[str, Any] = {**common, **place, "ImagePositionPatient": (0, 0, 2 * number), **header}
        images.append(SyntheticImage(8, 8, bytes(128), values))
    for path, image in zip(range(3), images, strict=True):
        made = testing.dataset(image, study=f"{patient} {date}", number=path + 1)
        made.SeriesInstanceUID = testing.uid(patient, date, "series")
        folder.mkdir(parents=True, exist_ok=True)
        made.save_as(folder / f"{path}.dcm", enforce_file_format=True)
    return folder


def gathered(*paths: Path, folder: Path, **options: Any) -> tuple[Study, ...]:  # noqa: ANN401 - of a ReadOptions
    return inputs.input_studies(paths, folder / "converted", options=ReadOptions(**options), settings=SETTINGS).studies


def test_hidden_files_of_a_folder_are_no_input(tmp_path: Path) -> None:
    for name in ("b.dcm", ".saliency.zip", "a/.DS_Store", "a/a.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in inputs.files([tmp_path])] == ["a.dcm", "b.dcm"]


def test_several_volumes_are_time_points_in_the_order_of_their_names_on_the_command(tmp_path: Path) -> None:
    paths = [a_volume(tmp_path / name, seed) for seed, name in enumerate(("c.nrrd", "a.nrrd", "b.nrrd"))]
    points = ((-9.0, -18.0, 32.0), (-8.0, -17.0, 34.0), (-7.5, -16.0, 36.0))
    (study,) = gathered(*paths, folder=tmp_path, points=points, time_points=3)
    alone = [gathered(path, folder=tmp_path / path.stem)[0].study_instance_uid for path in paths]
    assert [one.study_instance_uid for one in (*study.priors, study)] == alone
    assert [one.position_mm for one in study.locations] == [points[2], points[0], points[1]]
    frames = [one.instances[0].text("FrameOfReferenceUID") for one in (study, *study.priors)]
    assert [one.frame_of_reference_uid for one in study.locations] == frames
    series = [one.series[0].series_instance_uid for one in (study, *study.priors)]
    assert [one.series_instance_uid for one in study.locations] == series


def test_a_voxel_index_of_a_volume_is_the_place_of_that_voxel(tmp_path: Path) -> None:
    path = a_volume(tmp_path / "a.nrrd")
    (study,) = gathered(path, folder=tmp_path, points=((2.0, 3.0, 4.0),), point_kind=PointKind.INDEX)
    assert study.locations[0].position_mm == (-9.0, -17.75, 38.0)
    assert study.locations[0].source == "request"


def test_a_voxel_index_of_a_dicom_series_is_column_row_and_slice(tmp_path: Path) -> None:
    folder = a_scan(tmp_path / "scan", "P", "20200101")
    (study,) = gathered(folder, folder=tmp_path, points=((2.0, 3.0, 1.0),), point_kind=PointKind.INDEX)
    assert study.locations[0].position_mm == pytest.approx((0.6, 0.9, 2.0))
    assert study.locations[0].frame_of_reference_uid == testing.uid("P", "20200101")


@pytest.mark.parametrize(
    ("points", "kind", "said"),
    [
        (((50.0, 0.0, 0.0),), PointKind.MM, "outside"),
        (((8.0, 0.0, 0.0),), PointKind.INDEX, "outside"),
        (((0.0, 0.0, 0.0),) * 3, PointKind.INDEX, "3 points for 2 studies"),
    ],
)
def test_a_point_that_is_not_surely_meant_so_is_refused(
    points: tuple[tuple[float, float, float], ...], kind: PointKind, said: str, tmp_path: Path
) -> None:
    paths = [a_volume(tmp_path / f"{seed}.nrrd", seed) for seed in range(2)][: 2 if len(points) > 1 else 1]
    with pytest.raises(ConfigError, match=said):
        gathered(*paths, folder=tmp_path, points=points, point_kind=kind, time_points=3)


def test_studies_of_one_patient_are_ordered_by_date_and_the_oldest_beyond_the_model_are_left_out(
    tmp_path: Path,
) -> None:
    dates = ("20210101", "20190101", "20220101", "20200101")
    folders = [a_scan(tmp_path / date, "P", date) for date in dates]
    points = tuple((0.0, 0.0, float(number)) for number in range(4))
    (study,) = gathered(*folders, folder=tmp_path, time_points=3, points=points)
    read = [one.instances[0].text("StudyDate") for one in (*study.priors, study)]
    assert read == ["20200101", "20210101", "20220101"]
    assert [one.position_mm[2] for one in study.locations] == [3, 1, 2]
    assert len(gathered(*folders, folder=tmp_path)) == 4


@pytest.mark.parametrize(
    ("patients", "dates", "said"),
    [
        (("P", "Q"), ("20200101", "20210101"), "another Patient ID"),
        (("", ""), ("20200101", "20210101"), "another Patient ID"),
        (("P", "P"), ("20200101", ""), "no date"),
    ],
)
def test_studies_that_are_not_surely_of_one_patient_in_a_known_order_are_refused(
    patients: tuple[str, str], dates: tuple[str, str], said: str, tmp_path: Path
) -> None:
    folders = [
        a_scan(tmp_path / str(number), patient, date, StudyInstanceUID=testing.uid(number))
        for number, (patient, date) in enumerate(zip(patients, dates, strict=True))
    ]
    with pytest.raises(ConfigError, match=said) as raised:
        gathered(*folders, folder=tmp_path, time_points=3)
    assert "'Q'" not in str(raised.value)


@pytest.mark.parametrize("frame", [None, testing.uid("one frame of both")])
def test_a_point_of_an_earlier_study_without_a_frame_of_its_own_is_refused(frame: str | None, tmp_path: Path) -> None:
    dates = ("20200101", "20210101")
    folders = [a_scan(tmp_path / date, "P", date, FrameOfReferenceUID=frame) for date in dates]
    points = ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    with pytest.raises(ConfigError, match="no Frame of Reference UID of its own"):
        gathered(*folders, folder=tmp_path, time_points=3, points=points)


def test_a_point_of_an_earlier_study_that_lies_in_two_frames_is_refused(tmp_path: Path) -> None:
    dates = ("20200101", "20210101")
    folders = [a_scan(tmp_path / date, "P", date) for date in dates]
    for path in sorted(folders[0].iterdir()):
        moved = dcmread(path)
        moved.SOPInstanceUID += ".1"
        moved.SeriesInstanceUID, moved.FrameOfReferenceUID = testing.uid("other series"), testing.uid("other frame")
        moved.save_as(folders[0] / f"other-{path.name}")
    with pytest.raises(ConfigError, match="no Frame of Reference UID of its own"):
        gathered(*folders, folder=tmp_path, time_points=3, points=((0.0, 0.0, 0.0),) * 2)


def test_one_point_alone_is_of_the_newest_of_several_studies(tmp_path: Path) -> None:
    dates = ("20210101", "20200101")
    folders = [a_scan(tmp_path / date, "P", date, FrameOfReferenceUID=None) for date in dates]
    (study,) = gathered(*folders, folder=tmp_path, time_points=3, points=((0.0, 0.0, 1.0),))
    assert study.instances[0].text("StudyDate") == "20210101"
    assert [one.series_instance_uid for one in study.locations] == [study.series[0].series_instance_uid]
    with pytest.raises(ConfigError, match="1 point for 2 studies"):
        gathered(*folders, folder=tmp_path, points=((0.0, 0.0, 1.0),))


def test_volumes_beside_dicom_and_a_volume_given_twice_are_refused(tmp_path: Path) -> None:
    volume, scan = a_volume(tmp_path / "a.nrrd"), a_scan(tmp_path / "scan", "P", "20200101")
    with pytest.raises(ConfigError, match="one kind"):
        gathered(volume, scan, folder=tmp_path, time_points=3)
    with pytest.raises(ConfigError, match="twice"):
        gathered(volume, volume, folder=tmp_path, time_points=3)


def test_a_volume_that_cannot_be_read_or_is_not_there_ends_it_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file or folder .*absent\.nrrd"):
        gathered(a_volume(tmp_path / "a.nrrd"), tmp_path / "absent.nrrd", folder=tmp_path, time_points=3)
    (tmp_path / "broken.nrrd").write_bytes(b"NRRD0004\n")
    with pytest.raises(BrokenSeries, match=r"broken\.nrrd: "):
        gathered(a_volume(tmp_path / "a.nrrd"), tmp_path / "broken.nrrd", folder=tmp_path, time_points=3)


def test_pictures_named_one_by_one_are_studies_and_those_of_a_folder_one_series(tmp_path: Path) -> None:
    (tmp_path / "slices").mkdir()
    paths = [tmp_path / "slices" / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("L", (9, 8), number).save(path)
    slices = {"picture_kind": PictureKind.SLICE, "body_part": "CHEST"}
    (study,) = gathered(tmp_path / "slices", folder=tmp_path, **slices)
    assert [one.text("Modality") for one in study.instances] == ["OT"] * 3
    assert [one.text("BodyPartExamined") for one in study.instances] == ["CHEST"] * 3
    assert len(gathered(*paths, folder=tmp_path)) == 3


@pytest.mark.parametrize("kind", ["pictures", "volume"])
def test_a_file_beside_pictures_or_beside_the_volume_of_an_archive_is_named_as_not_read(
    tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "note.dcm").write_text("a text that is no image")
    if kind == "pictures":
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "mole.png")
        path = folder
    else:
        a_volume(folder / "ct.nrrd")
        path = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", folder))
    gathered_inputs = inputs.input_studies([path], tmp_path / "made", options=ReadOptions(), settings=SETTINGS)
    assert len(gathered_inputs.studies) == 1
    (unread,) = gathered_inputs.unread
    # Of an archive no name is kept, and its order is that of the folder that was packed.
    assert unread.path.name in {"note.dcm", "000000", "000001"}
    assert "it is a text" in unread.reason


def test_pictures_beside_dicom_in_a_folder_are_its_thumbnails(tmp_path: Path) -> None:
    folder = a_scan(tmp_path / "scan", "P", "20200101")
    Image.new("L", (9, 8)).save(folder / "thumbnail.png")
    given = inputs.input_studies([folder], tmp_path / "converted", options=ReadOptions(), settings=SETTINGS)
    assert [len(one.instances) for one in given.studies] == [3]
    assert [one.path.name for one in given.unread] == ["thumbnail.png"]


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"points": ["1,2"]}, "X,Y,Z"),
        ({"points": ["1,2,nan"]}, "not finite"),
        ({"point_is": "voxel"}, "neither"),
        ({"body_part": "the left upper arm"}, "16 letters"),
    ],
)
def test_what_was_mistyped_is_said(said: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        option_texts.read_options(**({"points": (), "point_is": "mm", "body_part": ""} | said))


@pytest.mark.parametrize("point_is", ["mm", "index"])
def test_a_point_too_far_away_to_be_a_position_is_refused(tmp_path: Path, point_is: str) -> None:
    options = option_texts.read_options(["0,0,1e7"], point_is=point_is, body_part="")
    picture = tmp_path / "a.png"
    Image.new("L", (9, 8)).save(picture)
    paths = [a_volume(tmp_path / "a.nrrd", 1)] if point_is == "index" else [picture]
    with pytest.raises(ConfigError, match="point 0,0,1e\\+07 is no position"):
        inputs.input_studies(paths, tmp_path / "converted", options=options, settings=SETTINGS)


def test_the_handler_is_given_priors_oldest_first_and_every_location(tmp_path: Path) -> None:
    paths = [a_volume(tmp_path / f"{seed}.nrrd", seed) for seed in range(3)]
    (study,) = gathered(*paths, folder=tmp_path, time_points=3, points=(ORIGIN,) * 3)
    seen: list[Study] = []

    class Looking:
        def select(self, study: Study) -> Any:  # noqa: ANN401 - never reached further
            seen.append(study)
            raise LookupError

        def read(self, selection: Selection) -> Any: ...  # noqa: ANN401

        def weights(self) -> Any: ...  # noqa: ANN401

        def demonstration(self, seed: int) -> Any: ...  # noqa: ANN401

    kept = tuple(File(one.path, one.sha256) for prior in study.priors for one in prior.instances)
    files = tuple(File(one.path, one.sha256) for one in study.instances)
    context: Any = DocumentContext.__new__(DocumentContext)
    request = Request(study.study_instance_uid, files, context, priors=kept, locations=study.locations)
    with pytest.raises(LookupError):
        pipeline.read(request, Looking())
    assert seen[0].study_instance_uid == study.study_instance_uid
    assert [one.study_instance_uid for one in seen[0].priors] == [one.study_instance_uid for one in study.priors]
    assert seen[0].locations == study.locations


def test_the_nodule_of_a_real_scan_is_where_its_voxel_is(tmp_path: Path) -> None:
    folder = shared("data/dicom/ct_chest_thin_R01-001/dicom")
    point = (-95.6938, -144.9846, -66.121)
    found = inputs.input_studies([folder], tmp_path, options=ReadOptions(points=(point,)), settings=SETTINGS).studies
    assert found[0].locations[0].frame_of_reference_uid
    assert found[0].locations[0].series_instance_uid


def test_a_point_outside_of_the_images_is_told_where_the_images_are_and_no_option_of_a_command(tmp_path: Path) -> None:
    a_volume(tmp_path / "a.nrrd")
    reach = "the images reach, in LPS mm, x from -10.2 to -6.2, y from -20.4 to -13.6, z from 29.0 to 39.0"
    for kind, meaning in ((PointKind.MM, "LPS mm: x to the left"), (PointKind.INDEX, "a voxel index i,j,k from 0")):
        options = ReadOptions(points=((10.0, -15.0, 31.0),), point_kind=kind)
        with pytest.raises(PointRefused) as refused:
            inputs.input_studies([tmp_path / "a.nrrd"], tmp_path / "made", options=options, settings=SETTINGS)
        assert meaning in str(refused.value)
        assert reach in str(refused.value)
        assert "--" not in str(refused.value)
