"""Trials by their real process: what becomes of files that a person, or a stranger, drops; no network of a model."""

import gzip
import io
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.waiting import until

nrrd = pytest.importorskip("nrrd")
nibabel = pytest.importorskip("nibabel")

from ainode.node import testing  # noqa: E402
from ainode.node.domain import UID  # noqa: E402
from ainode.node.offline.trial_question import Stage, TrialOptions, trial_options  # noqa: E402
from ainode.node.offline.trials import KEPT_S, Trial, TrialRefused, Trials  # noqa: E402
from ainode.node.settings import NodeTable, ReaderTable, Settings, WebTable, load  # noqa: E402

LOOK = TrialOptions(is_look=True)
OWNER = "a person"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def trials(data: Path) -> Iterator[Trials]:
    settings = Settings(
        node=NodeTable(data=data, min_free_bytes=0),
        web=WebTable(max_upload_bytes=1 << 20, max_upload_files=50),
        reader=ReaderTable(time_limit_s=60),
        routes=load().routes,
    )
    made = Trials(settings, data / "trials")
    made.start()
    yield made
    made.stop()
    assert not (data / "trials").exists()


def uploaded(trials: Trials, *contents: bytes, name: str = "scan.dcm", slot: str = "files") -> Trial:
    trial = trials.open(OWNER)
    (trial.folder / slot).mkdir()
    for number, content in enumerate(contents, start=1):
        (trial.folder / slot / f"{number:06d}").write_bytes(content)
        trial.names[f"{slot}/{number:06d}"] = name
    return trial


def ended(trial: Trial) -> Trial:
    until(lambda: trial.state.stage.is_final)
    return trial


def outcome(trials: Trials, trial: Trial, options: TrialOptions = LOOK) -> Trial:
    trials.read(trial, options)
    return ended(trial)


def a_volume(seed: int = 0, shape: tuple[int, ...] = (8, 9, 5), **header: object) -> bytes:
    values = np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)
    file = io.BytesIO()
    space = {
        "space": "left-posterior-superior",
        "space directions": np.diag((1.0, 1.0, 2.0)),
        "space origin": (0, 0, 0),
    }
    nrrd.write(file, values, {**space, **header})
    return file.getvalue()


def a_zip(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def a_picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 100, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def radiograph(folder: Path, *, study: str) -> bytes:
    (path,) = testing.write([testing.noise(64, 64)], folder, study=study)
    return path.read_bytes()


def test_each_kind_of_file_becomes_a_study(trials: Trials, tmp_path: Path) -> None:
    nifti = gzip.compress(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag((1, 1, 2, 1))).to_bytes())
    zipped = a_zip({"a/b.dcm": radiograph(tmp_path / "zipped", study="zipped")})
    contents = radiograph(tmp_path, study="plain"), a_volume(), nifti, a_picture(), zipped
    trial = outcome(trials, uploaded(trials, *contents))
    studies = trial.content()["studies"]
    assert sorted(study["series"][0]["modality"] for study in studies) == ["CT", "CT", "DX", "DX", "XC"]
    for study in studies:
        assert all((trial.folder / file).is_file() for file in study["series"][0]["files"].values())
    trials.discard(trial)
    assert not trial.folder.exists()


def test_nobody_else_learns_of_a_trial(trials: Trials) -> None:
    trial = uploaded(trials, b"content")
    with pytest.raises(LookupError, match="no such trial"):
        trials.of("somebody else", trial.identifier)
    assert trials.of(OWNER, trial.identifier) is trial
    trials.discard(trial)
    with pytest.raises(LookupError):
        trials.of(OWNER, trial.identifier)


LIST = {"space directions": np.array([[np.nan] * 3, *np.eye(3)]), "kinds": ["list", *["domain"] * 3]}
BOMB = a_zip({"zeros": bytes(80 << 20)})
HOSTILE = {
    "a ZIP bomb": (BOMB, "has 1 file of 83886080 bytes"),
    "a ZIP archive in a ZIP archive": (a_zip({"inner.zip": BOMB}), "ZIP archive, not DICOM"),
    "an archive of many files": (a_zip({str(number): b"" for number in range(51)}), "has 51 files"),
    "an archive with paths": (a_zip({"../../../escaped": b"text that is no image"}), "a text"),
    "a text named .dcm": (
        b"Patient: nobody. This is no image at all.",
        "it is a text; give the images",
    ),
    "a page of HTML": (b"<html><script>alert(1)</script></html>", "it is a text"),
    "a program": (b"\x7fELF" + bytes(100), "it is a program"),
    "an NRRD of three patients": (
        a_volume(shape=(3, 8, 9, 5), **LIST),
        "the file holds 3 x 8 x 9 x 5 values, no single volume of numbers; export one time point",
    ),
    "a NIfTI without an orientation": (
        nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), None).to_bytes(),
        "does not define the orientation of the patient",
    ),
    "an empty file": (b"", "it is empty; copy it again"),
    "half a DICOM file": (bytes(128) + b"DICM" + bytes(50), "half a DICOM file.dcm: "),
}


@pytest.fixture(scope="module")
def refusal(trials: Trials, data: Path) -> str:
    """Return why the hostile files are not read; nothing of them is left."""
    around = {path.name for path in data.parent.iterdir()}
    trial = uploaded(trials, *(content for content, _ in HOSTILE.values()))
    for file, name in zip(list(trial.names), HOSTILE, strict=True):
        trial.names[file] = f"{name}.dcm"
    outcome(trials, trial)
    assert trial.state.stage is Stage.FAILED
    assert str(trial.folder) not in trial.state.error
    assert not trial.folder.exists()
    assert {path.name for path in data.parent.iterdir()} == around
    trials.discard(trial)
    return trial.state.error


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_has_a_clear_message_and_leaves_nothing(refusal: str, name: str) -> None:
    assert re.search(HOSTILE[name][1], refusal), refusal


def test_a_point_outside_of_the_images_may_be_given_again(trials: Trials) -> None:
    trial = outcome(trials, uploaded(trials, a_volume()), trial_options("ct_tumor", ["500, 0, 0"]))
    assert (trial.state.stage, "point 500,0,0 is outside" in trial.state.error) == (Stage.FAILED, True)
    assert [len(study["series"][0]["files"]) for study in trial.content()["studies"]] == [5], "the images are shown"
    trial = outcome(trials, trial, TrialOptions(is_look=True, points=((1.0, 2.0, 4.0),)))
    assert trial.state.stage is Stage.DONE
    trials.discard(trial)


def test_a_trial_that_is_read_again_shows_nothing_of_its_last_reading_until_it_is_read(
    trials: Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = outcome(trials, uploaded(trials, radiograph(tmp_path, study="again")))
    assert trial.content()["studies"]
    is_busy = threading.Event()
    is_busy.set()
    monkeypatch.setattr(trials, "_is_busy", is_busy.is_set)  # live studies go first
    trials.read(trial, LOOK)
    assert trial.content()["studies"] == []
    is_busy.clear()
    assert ended(trial).content()["studies"]
    trials.discard(trial)


def test_three_dates_have_a_point_each_and_any_may_be_missing(trials: Trials) -> None:
    trial = trials.open(OWNER)
    for seed, slot in enumerate(("files", "files_2", "files_3")):
        (trial.folder / slot).mkdir()
        (trial.folder / slot / "000001").write_bytes(a_volume(seed))
    options = trial_options("lung_nodule", ["1,2,4", "", "3 2 4"], point_is="index")
    (reading,) = outcome(trials, trial, options).content()["readings"]
    assert reading["points"] == [[3.0, 2.0, 8.0], [1.0, 2.0, 8.0]]
    assert len(reading["prior_uids"]) == 2
    trials.discard(trial)


def test_several_dates_without_a_model_are_refused(trials: Trials) -> None:
    trial = uploaded(trials, a_volume(), slot="files")
    (trial.folder / "files_2").mkdir()
    (trial.folder / "files_2" / "000002").write_bytes(a_volume(2))
    assert "choose the model" in outcome(trials, trial, TrialOptions()).state.error


def test_a_trial_that_is_discarded_while_it_waits_is_never_read(data: Path) -> None:
    busy = threading.Event()
    settings = Settings(node=NodeTable(data=data, min_free_bytes=0))

    def is_busy() -> bool:
        busy.set()
        return True

    waiting = Trials(settings, data / "waiting", is_busy=is_busy)
    waiting.start()
    trial = uploaded(waiting, a_volume())
    waiting.read(trial, LOOK)
    assert busy.wait(120)
    assert trial.state.stage is Stage.WAITING
    waiting.stop()
    assert not (data / "waiting").exists()


def test_the_process_that_reads_a_discarded_trial_ends_before_the_files_are_removed(
    trials: Trials, capfd: pytest.CaptureFixture[str]
) -> None:
    trial = uploaded(trials, a_volume(shape=(64, 64, 400)), name="a.nrrd")
    trials.read(trial, LOOK)
    until(lambda: any(trial.folder.glob("converted/*/*")))
    assert not trial.state.stage.is_final
    trials.discard(trial)
    until(lambda: not trial.folder.exists())
    # A process that still writes does not find its folder any more, or puts a file beside who removes the folder.
    assert "FileNotFoundError" not in capfd.readouterr().err


def test_too_many_trials_of_an_owner_are_refused(trials: Trials) -> None:
    several = [trials.open("a script") for _ in range(8)]
    with pytest.raises(TrialRefused, match="too many trials"):
        trials.open("a script")
    trials.open("another script")
    trials.fail(several[3], "the upload broke off")
    assert trials.open("a script")
    for trial in (*trials.all_of("a script"), *trials.all_of("another script")):
        trials.discard(trial)


@pytest.mark.parametrize("name", ["../../tokens", "result/1/../../trial.json", "files/000001", "result/1/x.html", ""])
def test_no_name_of_a_document_leads_out_of_the_results(trials: Trials, name: str) -> None:
    trial = uploaded(trials, b"content")
    with pytest.raises(LookupError):
        trial.document(name)
    trials.discard(trial)


def test_a_point_with_all_the_digits_of_a_float_is_that_point() -> None:
    point = (-1.3498990679218291, 15.960635677112345, 126.26487686431988)
    assert trial_options("", [", ".join(map(str, point))]).points == (point,)


@pytest.mark.parametrize("text", ["1,2", "a,b,c", "1e400,0,0", "nan,0,0", "1,2,3,4", "__import__('os'),1,2"])
def test_what_is_no_point_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a point is no three numbers"):
        trial_options("", [text])


def test_a_trial_is_removed_an_hour_after_its_last_change(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = uploaded(trials, b"content")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + KEPT_S - 60)
    trials.remove_expired()
    assert trials.of(OWNER, trial.identifier).folder.exists()
    monkeypatch.setattr(time, "monotonic", lambda: now + KEPT_S + 60)
    trials.remove_expired()
    assert not trial.folder.exists()


def test_the_log_says_why_a_trial_failed_and_neither_its_identifier_nor_the_name_of_a_file(
    trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("JANE/JANE.dcm", b"JANE is no DICOM")
        members.writestr("../JANE.dcm", b"no DICOM")
        members.writestr("JANE.nii", b"no NIfTI")
    trial = uploaded(trials, b"no DICOM", archive.getvalue())
    for file in list(trial.names):
        trial.names[file] = "DOE^JANE.dcm"
    outcome(trials, trial)
    (record,) = [record for record in caplog.records if getattr(record, "action", "") == "trial_failed"]
    assert f"trial {trial.identifier[:8]}…: " in record.getMessage()
    assert "it is a text" in record.getMessage()
    assert trial.identifier not in caplog.text
    assert "JANE" not in caplog.text


def test_each_date_has_the_positions_of_its_own_images_alone(trials: Trials) -> None:
    trial = trials.open(OWNER)
    for seed, slot in enumerate(("files", "files_2")):
        (trial.folder / slot).mkdir()
        (trial.folder / slot / "000001").write_bytes(a_volume(seed, (8, 9, 20)))
    options = trial_options("lung_nodule", ["1,2,4", "3,2,4"], body_part="CHEST")
    studies = outcome(trials, trial, options).content()["studies"]
    assert [[item["position_mm"] for item in study["locations"]] for study in studies] == [[[1, 2, 4]], [[3, 2, 4]]]
    assert [study["routes"] for study in studies] == [["lung-nodule", "ct-pneumonia", "ct-tumor"]] * 2
    trials.discard(trial)


def test_a_study_that_no_route_takes_is_told_why_and_what_would_help(trials: Trials) -> None:
    trial = outcome(trials, uploaded(trials, a_volume(shape=(8, 9, 20))))
    (study,) = trial.content()["studies"]
    assert ("routes" in study, study["wants_body_part"]) == (False, True)
    assert "BodyPartExamined" in study["why_no_route"]
    assert any('body_part_from = "pixels"' in text for text in study["remedies"]), study["remedies"]
    trials.discard(trial)


def test_pictures_without_a_body_part_that_a_model_refuses_for_it_ask_for_the_body_part(trials: Trials) -> None:
    trial = outcome(trials, uploaded(trials, a_picture()), trial_options("ct_tumor", []))
    (reading,) = trial.content()["readings"]
    assert (reading["is_refusal"], reading["wants_body_part"]) == (True, True)
    (reading,) = outcome(trials, trial, trial_options("ct_tumor", [], body_part="HAND")).content()["readings"]
    assert (reading["is_refusal"], reading["wants_body_part"]) == (True, False)
    trials.discard(trial)


def test_a_declined_reading_has_the_same_files_by_a_route_and_by_a_chosen_model(trials: Trials) -> None:
    names = []
    for handler in ("", "skin_lesion"):
        options = trial_options(handler, [], body_part="KIDNEY")
        trial = outcome(trials, uploaded(trials, a_picture()), options)
        (reading,) = trial.content()["readings"]
        assert reading["is_refusal"], reading
        names.append(reading["files"])
        trials.discard(trial)
    assert names == [["sr-1.dcm", "result.json", "report.txt", "report.pdf"]] * 2


def test_a_trial_that_was_kept_says_so_and_is_read_no_more(trials: Trials) -> None:
    trial = outcome(trials, uploaded(trials, a_volume()))
    trials.note_kept(trial, (UID("1.2"),))
    assert trials.of(OWNER, trial.identifier).kept_studies == ("1.2",)
    assert not trial.folder.exists()
    with pytest.raises(TrialRefused, match="the node has kept the study"):
        trials.read(trial, LOOK)
    trials.discard(trial)


def test_a_trial_is_kept_once_and_is_not_read_meanwhile(trials: Trials) -> None:
    trial = outcome(trials, uploaded(trials, a_volume(), name="a.nrrd"))
    with trials.keeping(trial):
        with pytest.raises(TrialRefused, match="is being read or kept"), trials.keeping(trial):
            pass
        with pytest.raises(TrialRefused, match="is being kept"):
            trials.read(trial, LOOK)
    with trials.keeping(trial):
        trials.note_kept(trial, (UID("1.2"),))
    with pytest.raises(TrialRefused, match="the node has kept the study"):
        trials.read(trial, LOOK)
