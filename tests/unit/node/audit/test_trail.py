"""The audit trail finds whatever was changed in it."""

import hashlib
import logging
import os
import re
from pathlib import Path

import pytest
from support.processes import exit_codes
from support.syslog import events
from support.trails import NOW, a_trail, append_twenty

from ainode.node.audit import trail as trail_module
from ainode.node.audit.messages import SOFTWARE_CONFIGURATION as CONFIGURATION
from ainode.node.audit.messages import (
    Message,
    Participant,
    alert,
    exported,
    refused,
    started,
    study_subject,
)
from ainode.node.audit.recorder import Recorder
from ainode.node.audit.trail import Trail, files, record_of
from ainode.node.audit.verification import copy_faults, trail_faults


def filled(folder: Path, *numbers: int) -> Trail:
    """Return a trail with a message for each number."""
    trail = a_trail(folder)
    for number in numbers:
        trail.append([(NOW, alert(CONFIGURATION, f"urn:x:{number}", "configuration"))])
    return trail


def lines_of(trail: Trail) -> tuple[Path, list[bytes]]:
    (path,) = files(trail.folder)
    return path, path.read_bytes().splitlines(keepends=True)


def test_each_record_is_a_valid_message_of_rfc_5424_and_of_ps3_15_and_names_the_digest_of_the_record_before(
    tmp_path: Path,
) -> None:
    trail = filled(tmp_path, 1, 2, 3)
    assert [event.number for event in events(trail.folder)] == [1, 2, 3]
    assert {(event.priority, event.kind) for event in events(trail.folder)} == {(85, "DICOM+RFC3881")}
    digest = "0" * 64
    for line in lines_of(trail)[1]:
        assert f'previous="{digest}"'.encode() in line
        (digest,) = re.findall(r' sha256="([0-9a-f]{64})"', line.decode())
        assert hashlib.sha256(line.replace(f' sha256="{digest}"'.encode(), b"")).hexdigest() == digest
    assert list(trail_faults(trail.folder)) == []


def test_an_export_names_the_person_the_study_and_the_address_that_it_went_to(tmp_path: Path) -> None:
    trail = a_trail(tmp_path)
    study = study_subject("1.2.3", {"1.2.840.10008.5.1.4.1.1.88.34": 1}, {"files": "report.pdf"})
    trail.append([(NOW, exported("erika", "192.0.2.7", study))])
    (event,) = events(trail.folder)
    persons = [part.attrib["UserID"] for part in event.root.iter("ActiveParticipant")]
    assert (persons[0], persons[2]) == ("erika", "192.0.2.7")
    (medium,) = event.root.iter("MediaType")
    assert medium.attrib["csd-code"] == "110037"
    (entity,) = event.root.iter("ParticipantObjectIdentification")
    assert entity.attrib["ParticipantObjectID"] == "1.2.3"


def test_every_single_byte_that_is_changed_is_found_and_the_record_is_named(tmp_path: Path) -> None:
    trail = filled(tmp_path, 1, 2, 3)
    path, lines = lines_of(trail)
    content, begin = path.read_bytes(), len(lines[0])
    for position in range(len(lines[1])):
        changed = bytearray(lines[1])
        changed[position] ^= 1
        assert record_of(bytes(changed)) is None, position
    for position in (*range(begin, begin + len(lines[1]), 61), begin + len(lines[1]) - 1):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        sentences = list(trail_faults(trail.folder))
        assert sentences[0].startswith(f"{path.name}: line 2, record 2: "), sentences


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda lines: [lines[0], *lines[2:]], "line 2: record 3 stands where record 2 belongs"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2: record 3 stands where record 2 belongs"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], "line 3: record 2 stands where record 3 belongs"),
        (lambda lines: [lines[0], b"x\n", *lines[1:]], "line 2, record 2: was changed"),
        (lambda lines: [*lines, b"x"], "line 5, record 5: is not whole"),
        (lambda lines: lines[1:], "line 1: record 2 stands where record 1 belongs"),
        (lambda lines: lines[:3], "head: records 4 to 4 are missing at the end"),
        (lambda lines: [*lines[:3], lines[3][:-1]], "line 4, record 4: is not whole"),
        (lambda lines: [*lines[:3], lines[3][:-9] + b"\n"], "line 4, record 4: was changed"),
    ],
)  # fmt: skip
def test_a_record_that_is_removed_moved_repeated_inserted_or_cut_off_is_found(
    tmp_path: Path, change: object, sentence: str
) -> None:
    trail = filled(tmp_path, 1, 2, 3, 4)
    path, lines = lines_of(trail)
    path.write_bytes(b"".join(change(lines)))  # type: ignore[operator]
    assert any(sentence in fault for fault in trail_faults(trail.folder)), list(trail_faults(trail.folder))


def test_a_record_that_was_cut_off_at_the_end_stays_missing_after_the_next_record(tmp_path: Path) -> None:
    trail = filled(tmp_path, 1, 2, 3)
    path, lines = lines_of(trail)
    path.write_bytes(b"".join(lines[:2]))
    filled(tmp_path, 4)
    assert list(trail_faults(trail.folder)) == [f"{path.name}: line 3: record 4 stands where record 3 belongs"]


def test_a_record_that_was_rewritten_with_a_digest_of_its_own_breaks_the_chain(tmp_path: Path) -> None:
    trail = filled(tmp_path, 1, 2, 3)
    path, lines = lines_of(trail)
    bare = re.sub(rb' sha256="[0-9a-f]{64}"', b"", lines[1].replace(b"urn:x:2", b"urn:x:9"))
    digest = hashlib.sha256(bare).hexdigest()
    lines[1] = bare.replace(b'"] ', f'" sha256="{digest}"] '.encode(), 1)
    path.write_bytes(b"".join(lines))
    assert list(trail_faults(trail.folder)) == [f"{path.name}: line 3: record 3 does not continue the record before"]


def test_the_unfinished_line_of_a_power_cut_is_removed_and_the_chain_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trail = filled(tmp_path, 1, 2)
    path, lines = lines_of(trail)
    path.write_bytes(b"".join(lines) + lines[1][:100])  # the head tells of what was synced alone
    caplog.set_level(logging.WARNING)
    filled(tmp_path, 3)
    assert list(trail_faults(trail.folder)) == []
    assert "100 bytes of an unfinished record were removed" in caplog.text


def test_a_head_that_a_kill_left_behind_is_no_fault_and_no_head_is_one(tmp_path: Path) -> None:
    trail = filled(tmp_path, 1, 2)
    head = trail.folder / "head"
    earlier = head.read_bytes()
    filled(tmp_path, 3)
    head.write_bytes(earlier)
    assert list(trail_faults(trail.folder)) == []
    head.unlink()
    assert list(trail_faults(trail.folder)) == [
        "head: absent or damaged; whether the last records are here cannot be told"
    ]
    filled(tmp_path, 4)
    assert list(trail_faults(trail.folder)) == []


def test_a_new_file_begins_when_a_file_is_large_and_the_chain_goes_over_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "_FILE_BYTES", 2_000)
    trail = filled(tmp_path, *range(1, 8))
    paths = files(trail.folder)
    assert len(paths) > 2
    assert list(trail_faults(trail.folder)) == []
    assert list(copy_faults(paths[1])) == []  # a copy of one file proves itself
    middle = paths[1].read_bytes()
    paths[1].unlink()
    assert len(list(trail_faults(trail.folder))) == 1
    paths[1].write_bytes(middle)
    paths[0].unlink()  # an operator has moved the oldest file to an archive
    number = int(paths[1].stem.removeprefix("audit-"))
    assert list(trail_faults(trail.folder, first=number)) == []
    assert len(list(trail_faults(trail.folder, first=number - 1))) == 1
    assert len(list(trail_faults(trail.folder))) == 1


def test_a_copy_in_which_the_collector_wrote_records_twice_is_no_fault_and_another_record_of_a_number_is(
    tmp_path: Path,
) -> None:
    path, lines = lines_of(filled(tmp_path, 1, 2, 3, 4))
    copy = tmp_path / "copy.log"
    copy.write_bytes(b"".join([*lines[:3], *lines[1:]]))
    assert list(copy_faults(copy)) == []
    path.unlink()
    other = lines_of(filled(tmp_path / "other", 5, 6))[1]
    copy.write_bytes(b"".join([*lines[:3], other[1], lines[3]]))
    assert list(copy_faults(copy)) == [
        "copy.log: line 4: record 2 stands where record 4 belongs",
        "copy.log: line 5: record 4 stands where record 3 belongs",
    ]


def test_processes_that_write_at_the_same_time_make_one_chain(tmp_path: Path) -> None:
    assert exit_codes(append_twenty, tmp_path, count=3) == [0] * 3
    folder = a_trail(tmp_path).folder
    assert list(trail_faults(folder)) == []
    assert [event.number for event in events(folder)] == list(range(1, 121))


def test_strangers_cannot_break_a_record_with_what_they_send(tmp_path: Path) -> None:
    trail = a_trail(tmp_path)
    hostile = '"]<x>&\n\0\r\x85\u2028\ud800[] sha256="' + "0" * 64 + '"' + "y" * 5000
    trail.append([(NOW, alert(CONFIGURATION, hostile, hostile))])
    assert list(trail_faults(trail.folder)) == []
    (event,) = events(trail.folder)
    assert event.details["Alert Description"].startswith('"]<x>&')


def test_a_disk_that_refuses_costs_no_message_and_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ainode.node.audit.recorder._PAUSE_S", 0.05)
    trail = a_trail(tmp_path)
    trail.folder.parent.mkdir(exist_ok=True)
    trail.folder.write_bytes(b"in the way")  # no folder can be made
    recorder = Recorder(trail)
    recorder.start()
    caplog.set_level(logging.INFO)
    for _ in range(200):
        recorder.record(alert(CONFIGURATION, "urn:x", "x"))
        os.sched_yield()
    while "cannot be written" not in caplog.text:
        os.sched_yield()
    trail.folder.unlink()
    while "written again" not in caplog.text:
        os.sched_yield()
    recorder.stop()
    assert caplog.text.count("cannot be written") == 1
    assert len(events(trail.folder)) == 202
    assert list(trail_faults(trail.folder)) == []


def test_messages_beyond_the_bound_are_counted_in_the_trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ainode.node.audit.recorder._WAITING_MESSAGES", 3)
    recorder = Recorder(a_trail(tmp_path))
    for _ in range(5):
        recorder.record(alert(CONFIGURATION, "urn:x", "x"))
    recorder.start()
    recorder.stop()
    lost = [event for event in events(tmp_path / "audit") if event.code == "110113 110133"]
    assert lost[0].details["Alert Description"].startswith(("3 messages", "4 messages"))


def test_a_message_waits_for_no_disk(tmp_path: Path) -> None:
    recorder = Recorder(None)
    recorder.start()
    recorder.record(Message(started().event, "E", ()))
    recorder.stop()
    assert not list(tmp_path.iterdir())


def test_strangers_who_knock_all_day_do_not_fill_the_trail_and_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ainode.node.audit.recorder._STRANGERS_A_MINUTE", 5)
    recorder = Recorder(a_trail(tmp_path))
    recorder.start()
    for number in range(100):
        recorder.record(refused(Participant(f"S{number}", address=f"2001:db8::{number:x}"), "no"))
    recorder.record(alert(CONFIGURATION, "urn:x", "x"))
    recorder.stop()
    codes = [event.code for event in events(tmp_path / "audit")]
    assert codes == ["110100 110120", *["110113 110126"] * 5, "110113 110131", "110113 110126", "110100 110121"]
    (last,) = [event for event in events(tmp_path / "audit") if "further" in event.details.get("Alert Description", "")]
    assert last.details["Alert Description"] == "95 further refusals within a minute are not in the trail"
