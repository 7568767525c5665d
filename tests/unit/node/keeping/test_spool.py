"""The spool keeps what was answered, finds it again after a crash, and never keeps the rest."""

import os
import struct
from pathlib import Path

import pydicom
import pytest

from ainode.node.domain import UID, InstanceRef
from ainode.node.encoding.part10 import Origin
from ainode.node.errors import CannotUnderstand, DataSetMismatch, OutOfResources
from ainode.node.keeping.spool import Incoming, Limits, Spool, content_sha256, spooled

IMPLICIT_LITTLE = UID("1.2.840.10008.1.2")
REF = InstanceRef(UID("1.4.1"), UID("1.5.1"), UID("1.2.840.10008.5.1.4.1.1.2"), UID("1.3.1"))
ORIGIN = Origin(REF.sop_class_uid, REF.sop_instance_uid, IMPLICIT_LITTLE, "CT_SCANNER")


def data_set(ref: InstanceRef = REF, padding: int = 100) -> bytes:
    """Return a small implicit little-endian data set."""
    elements = (
        (0x0008, 0x0016, ref.sop_class_uid.encode()),
        (0x0008, 0x0018, ref.sop_instance_uid.encode()),
        (0x0020, 0x000D, ref.study_instance_uid.encode()),
        (0x0020, 0x000E, ref.series_instance_uid.encode()),
        (0x7FE0, 0x0010, bytes(padding)),
    )
    padded = ((group, element, value + b"\0" * (len(value) % 2)) for group, element, value in elements)
    return b"".join(struct.pack("<HHI", group, element, len(value)) + value for group, element, value in padded)


def a_spool(folder: Path, *, min_free_bytes: int = 0, max_object_bytes: int = 1 << 20) -> Spool:
    return Spool(folder, Limits(min_free_bytes, max_object_bytes))


def store(spool: Spool, content: bytes | None = None, origin: Origin = ORIGIN) -> Path:
    with spool.incoming(origin) as incoming:
        incoming.write(memoryview(data_set() if content is None else content))
        incoming.ref()
        return incoming.commit()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_committed_instance_is_found_again_with_all_that_the_association_said(tmp_path: Path) -> None:
    path = store(a_spool(tmp_path))
    (unindexed,) = a_spool(tmp_path).unindexed()
    found = spooled(unindexed)
    assert (found.path, found.ref, found.transfer_syntax_uid) == (path, REF, IMPLICIT_LITTLE)
    assert (found.calling_ae_title, found.size_bytes) == ("CT_SCANNER", path.stat().st_size)


def test_the_file_is_one_that_pydicom_reads_and_the_data_set_in_it_is_untouched(tmp_path: Path) -> None:
    path = store(a_spool(tmp_path))
    dataset = pydicom.dcmread(path)
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == str(REF.sop_instance_uid)
    assert dataset.file_meta.SourceApplicationEntityTitle == "CT_SCANNER"
    assert path.read_bytes().endswith(data_set())


def test_the_oldest_instance_is_indexed_first(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    paths = [store(spool) for _ in range(5)]
    assert spool.unindexed() == paths


def test_bytes_and_name_are_on_disk_before_commit_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = a_spool(tmp_path / "spool")
    calls: list[str] = []
    for name in ("fdatasync", "fsync"):
        real = getattr(os, name)

        def synced(descriptor: int, name: str = name, real: object = real) -> None:
            calls.append(f"{name} {Path(f'/proc/self/fd/{descriptor}').readlink().parent.name}")
            real(descriptor)  # type: ignore[operator]

        monkeypatch.setattr(os, name, synced)
    store(spool)
    assert sorted(calls) == ["fdatasync new", "fsync spool"]


def test_an_instance_that_was_not_committed_leaves_nothing(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    with spool.incoming(ORIGIN) as incoming:
        incoming.write(memoryview(data_set()))
    assert files(tmp_path) == []


def test_what_a_killed_receiver_left_half_written_is_swept(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    path = store(spool)
    (tmp_path / "tmp" / "half.dcm").write_bytes(b"half")
    spool.sweep()
    assert files(tmp_path) == [path]


@pytest.mark.parametrize("content", [b"", data_set()[:-1], data_set()[:30], b"noise" * 100])
def test_an_unreadable_data_set_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CannotUnderstand):
        store(a_spool(tmp_path), content)
    assert files(tmp_path) == []


@pytest.mark.parametrize("field", ["sop_class_uid", "sop_instance_uid"])
def test_a_data_set_other_than_announced_is_a_mismatch(tmp_path: Path, field: str) -> None:
    announced = {"sop_class_uid": REF.sop_class_uid, "sop_instance_uid": REF.sop_instance_uid, field: UID("1.9")}
    with pytest.raises(DataSetMismatch):
        store(a_spool(tmp_path), origin=Origin(**announced, transfer_syntax_uid=IMPLICIT_LITTLE, calling_ae_title="X"))


def test_below_the_watermark_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutOfResources):
        a_spool(tmp_path, min_free_bytes=1 << 62).incoming(ORIGIN)
    assert files(tmp_path) == []


def test_a_disk_that_fills_while_a_long_object_comes_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, statvfs = a_spool(tmp_path, min_free_bytes=1, max_object_bytes=1 << 30), os.statvfs
    with spool.incoming(ORIGIN) as incoming:
        incoming.write(memoryview(data_set()))
        monkeypatch.setattr(os, "statvfs", lambda path: _without_room(statvfs(path)))
        for _ in range(4):
            incoming.write(memoryview(bytes(1 << 20)[100:]))
        with pytest.raises(OutOfResources, match="min_free_bytes"):
            incoming.write(memoryview(bytes(1 << 20)))
    assert files(tmp_path) == []


def _without_room(disk: os.statvfs_result) -> os.statvfs_result:
    return os.statvfs_result((*disk[:3], 0, 0, *disk[5:]))


def test_an_object_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutOfResources):
        store(a_spool(tmp_path, max_object_bytes=len(data_set()) - 1))


def test_a_disk_that_fails_is_out_of_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OutOfResources, match="No space left"):
        store(a_spool(tmp_path))
    assert files(tmp_path) == []


def test_keeping_twice_is_keeping_once(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    path = store(spool)
    sha256 = content_sha256(path)
    kept = spool.keep(path, REF, sha256)
    assert kept == spool.keep(path, REF, sha256) == spool.kept_path(REF, sha256)
    assert spool.unindexed() == []
    assert content_sha256(kept) == sha256


def test_the_same_bytes_from_another_sender_have_the_same_digest_and_place(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    other = Origin(REF.sop_class_uid, REF.sop_instance_uid, IMPLICIT_LITTLE, "OTHER")
    first, second = (store(spool, origin=origin) for origin in (ORIGIN, other))
    assert content_sha256(first) == content_sha256(second)
    assert content_sha256(store(spool, data_set(padding=102))) != content_sha256(first)


def test_a_file_that_is_set_aside_is_found_by_its_name_and_indexed_no_more(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    path = tmp_path / "new" / "0.dcm"
    path.write_bytes(b"damaged")
    assert spool.set_aside(path) == tmp_path / "damaged" / "0.dcm"
    assert (spool.unindexed(), [file.name for file in spool.damaged()]) == ([], ["0.dcm"])


def test_the_kept_files_of_a_study_that_nobody_lists_come_oldest_first(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    versions = [data_set(padding=padding) for padding in (100, 102)]
    kept = [spool.keep(path, REF, content_sha256(path)) for path in (store(spool, version) for version in versions)]
    for age_s, path in enumerate(kept):
        os.utime(path, (1000 - age_s, 1000 - age_s))
    assert spool.unlisted([]) == kept[::-1]
    assert spool.unlisted([REF.study_instance_uid]) == []


def test_keeping_what_was_never_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        a_spool(tmp_path).keep(tmp_path / "new" / "none.dcm", REF, "0" * 64)


def test_a_removed_study_takes_no_other_with_it(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    other = InstanceRef(UID("1.4.2"), REF.series_instance_uid, REF.sop_class_uid, REF.sop_instance_uid)
    kept = [
        spool.keep(path, ref, content_sha256(path)) for ref in (REF, other) for path in [store(spool, data_set(ref))]
    ]
    spool.remove_study(REF.study_instance_uid)
    spool.remove_study(REF.study_instance_uid)
    assert [path.exists() for path in kept] == [False, True]


def test_no_path_contains_a_uid_or_a_title(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    path = store(spool)
    kept = spool.keep(path, REF, content_sha256(path))
    assert not any(text in str(one) for text in ("1.3.1", "1.4.1", "CT_SCANNER") for one in (path, kept))


def test_an_incoming_file_is_never_visible_as_answered(tmp_path: Path) -> None:
    spool = a_spool(tmp_path)
    with spool.incoming(ORIGIN) as incoming:
        assert isinstance(incoming, Incoming)
        incoming.write(memoryview(data_set()))
        assert spool.unindexed() == []
