"""`ainode export`: copies of studies that lead back to nobody."""

import csv
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, RLELossless
from support import installed
from support.databases import migrated
from typer.testing import CliRunner

from ainode.node import testing
from ainode.node.commands.cli import app
from ainode.node.domain import UID, InstanceRef
from ainode.node.errors import ConfigError
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.offline.truths import cases
from ainode.node.settings import load

installed("dicomanonymizer")

CANARY = "KENNEDY"
PATIENT = {"PatientID": CANARY, "PatientName": f"{CANARY}^ADA", "SeriesDescription": CANARY}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the configuration of a node that holds two studies of a patient; one image of them may have letters."""
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndata = "{tmp_path / "data"}"\n[audit]\nenabled = true\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("", encoding="utf-8")
    (tmp_path / "data").mkdir()
    engine = migrated(load(path).database_url)
    images = [testing.noise(8, 8, seed=seed, **PATIENT) for seed in range(3)]
    letters = testing.noise(8, 8, seed=9, **PATIENT, BurnedInAnnotation="YES")
    for study, pictures in {"first": images, "second": [images[0], letters]}.items():
        paths = testing.write(pictures, tmp_path / "data" / study, study=study)
        Catalog(engine).index([stored(file) for file in paths])
    engine.dispose()
    return path


def stored(path: Path) -> StoredInstance:
    image = dcmread(path)
    uids = (image.SOPClassUID, image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
    sop_class, study, series, instance = map(UID, uids)
    ref = InstanceRef(
        sop_class_uid=sop_class, study_instance_uid=study, series_instance_uid=series, sop_instance_uid=instance
    )
    syntax = UID(image.file_meta.TransferSyntaxUID)
    return StoredInstance(ref, syntax, "ff", path.stat().st_size, path, "PACS", datetime.now(UTC))


def exported(config: Path, out: Path, *words: str | Path) -> tuple[int, str]:
    """Return the exit code of `ainode export` of both studies, and what it printed."""
    studies = [testing.uid(study) for study in ("first", "second")]
    done = CliRunner().invoke(app, ["export", str(out), *studies, *map(str, words), "--config", str(config)])
    if isinstance(done.exception, ConfigError):
        raise done.exception
    return done.exit_code, done.output


def test_copies_lead_back_to_nobody_and_the_table_of_truths_waits_for_labels(config: Path, tmp_path: Path) -> None:
    code, printed = exported(config, out := tmp_path / "out")
    assert code == 3
    assert "1 stayed here: may have letters in its pixels (Burned In Annotation is not NO)" in printed
    assert "--pixels-seen" in printed
    files = [path for path in out.rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in files) == [".csv", *[".dcm"] * 4]
    originals = {testing.uid(study) for study in ("first", "second")}
    for path in files:
        assert not [word for word in (CANARY, *originals) if word.encode() in path.read_bytes() or word in str(path)]
    table = out / "truths.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["label"] for row in rows] == ["", ""]
    assert len({row["patient"] for row in rows}) == 1
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], lines[1].replace(",,", ",1,"), lines[2].replace(",,", ",0,")]))
    assert [len(list(case.paths[0].glob("*.dcm"))) for case in cases(table, out)] == [3, 1]


@pytest.mark.parametrize(
    ("syntax", "reason"), [(RLELossless, "cannot be read whole (RuntimeError)"), (JPEGBaseline8Bit, "is no JPEG")]
)
def test_an_image_whose_frames_are_damaged_is_counted_and_the_others_leave(
    syntax: str, reason: str, config: Path, tmp_path: Path
) -> None:
    path = min((tmp_path / "data" / "first").rglob("*.dcm"))
    image = dcmread(path)
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([CANARY.encode() * 20])
    image.save_as(path)
    code, printed = exported(config, tmp_path / "out")
    assert (code, len(list((tmp_path / "out").rglob("*.dcm")))) == (3, 3)
    assert f"1 stayed here: {reason}" in printed


def test_where_nothing_may_leave_the_command_says_why_and_what_lets_it_leave(config: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "data").rglob("*.dcm"):
        image = dcmread(path)
        image.pop("BurnedInAnnotation", None)
        image.save_as(path)
    code, printed = exported(config, out := tmp_path / "out")
    assert (code, list(out.iterdir())) == (3, [])
    assert "3 stayed here: may have letters in its pixels (Burned In Annotation is absent, and its SOP class" in printed
    assert "--pixels-seen lets them leave" in printed
    assert "is empty" in printed


def test_an_image_whose_pixels_a_person_has_seen_leaves(config: Path, tmp_path: Path) -> None:
    code, printed = exported(config, out := tmp_path / "out", "--pixels-seen")
    assert (code, len(list(out.rglob("*.dcm")))) == (0, 5), printed


def test_a_key_that_is_kept_gives_the_same_words_again_and_a_crosswalk_is_for_its_owner(
    config: Path, tmp_path: Path
) -> None:
    key, crosswalk = tmp_path / "key", tmp_path / "crosswalk.csv"
    exported(config, tmp_path / "first", "--key", key, "--crosswalk", crosswalk)
    exported(config, tmp_path / "again", "--key", key)
    exported(config, tmp_path / "other")
    first, again, other = (
        sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("first", "again", "other")
    )
    assert first == again != other
    for path in (key, crosswalk):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    rows = list(csv.DictReader(crosswalk.read_text().splitlines()))
    assert {row["study_instance_uid"] for row in rows} == {testing.uid("first"), testing.uid("second")}
    assert CANARY not in crosswalk.read_text()


def test_what_would_mix_or_miss_patients_is_refused_with_what_to_do(config: Path, tmp_path: Path) -> None:
    (full := tmp_path / "full").mkdir()
    (full / "image.dcm").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        exported(config, full)
    with pytest.raises(ConfigError, match=r"study 1\.2\.3: the node holds no image of it"):
        exported(config, tmp_path / "out", "1.2.3")
    assert not (tmp_path / "out").exists()
    (key := tmp_path / "key").write_text("KENNEDY")
    with pytest.raises(ConfigError, match="is no key"):
        exported(config, tmp_path / "out", "--key", key)


def test_each_study_that_leaves_is_in_the_audit_trail(config: Path, tmp_path: Path) -> None:
    exported(config, tmp_path / "out")
    trail = "".join(path.read_text() for path in (tmp_path / "data" / "audit").iterdir() if path.is_file())
    assert trail.count("110106") == 2
    assert testing.uid("first") in trail
    assert CANARY not in trail
