"""Storage commitment of the whole node: what was answered 0x0000 is reported, whatever is killed or away in between."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import psutil
import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from support import free_port
from support.entities import served
from support.node import RunningNode, configured, running

from ainode.node import testing
from ainode.node.archive.commitment import Commitment
from ainode.node.settings import Peer

COMMITMENT = "1.2.840.10008.1.20.1"
FAST = "[delivery]\nattempts = 12\nfirst_wait_s = 0.2\nlongest_wait_s = 0.5"


def a_peer(name: str) -> Peer:
    return Peer(name=name, ae_title=name.upper(), host="127.0.0.1", port=free_port(), confirm="none")


@contextmanager
def requestor(peer: Peer, *, answer: int = 0x0000) -> Iterator["Queue[Commitment]"]:
    """Run the requestor's own receiver, and yield the reports that it is sent."""
    reports: Queue[Commitment] = Queue()

    def take(event: evt.Event) -> tuple[int, None]:
        reports.put(Commitment.of_event(event.event_information))
        return answer, None

    entity = AE(peer.ae_title)
    entity.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    with served(entity, (evt.EVT_N_EVENT_REPORT, take), port=peer.port):
        yield reports


def stored(node: RunningNode, folder: Path, title: str) -> Dataset:
    """Store an instance, and return the instance."""
    (path,) = testing.write([testing.noise(16, 16, seed=1)], folder, study="study")
    dataset = dcmread(path)
    entity = AE(title)
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", node.port, ae_title="AINODE")
    assert association.send_c_store(dataset).Status == 0
    association.release()
    return dataset


def request(node: RunningNode, title: str, transaction: str, instance: Dataset) -> Dataset:
    """Request the commitment of an instance, and return the answer."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
    information = Dataset()
    information.TransactionUID, information.ReferencedSOPSequence = transaction, [item]
    entity = AE(title)
    entity.add_requested_context(COMMITMENT)
    association = entity.associate("127.0.0.1", node.port, ae_title="AINODE")
    answer, _ = association.send_n_action(information, 1, COMMITMENT, f"{COMMITMENT}.1")
    association.release()
    assert isinstance(answer, Dataset)
    return answer


def files(node: RunningNode) -> list[Path]:
    return list((node.folder / "data" / "commitments").iterdir())


def kill_all(node: RunningNode) -> None:
    """End the node and each of its processes at once."""
    assert node.process
    processes = [psutil.Process(node.process.pid), *psutil.Process(node.process.pid).children(recursive=True)]
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    node.process.wait()
    psutil.wait_procs(processes, timeout=60)


def test_a_node_that_was_killed_behind_its_answer_reports_after_the_next_start(tmp_path: Path) -> None:
    peer = a_peer("scanner")
    node = configured(tmp_path / "node", peers=[peer], more=FAST)
    with running(node):
        instance = stored(node, tmp_path, "SCANNER")
        assert request(node, "SCANNER", "1.9.1", instance).Status == 0x0000
        kill_all(node)
        assert len(files(node)) == 1
        with requestor(peer) as reports:
            node.start()
            report = reports.get(timeout=120)
            node.until(lambda: not files(node), within_s=120)
            assert reports.empty()
    assert report.transaction_uid == "1.9.1"
    assert [reference.sop_instance_uid for reference in report.committed] == [instance.SOPInstanceUID]
    assert not report.failed


def test_a_report_is_tried_again_until_the_requestor_takes_it(tmp_path: Path) -> None:
    peer = a_peer("scanner")
    with running(configured(tmp_path / "node", peers=[peer], more=FAST)) as node:
        instance = stored(node, tmp_path, "SCANNER")
        assert request(node, "SCANNER", "1.9.1", instance).Status == 0x0000
        node.until(lambda: node.log.read_text().count("commitment_failed") >= 2, within_s=120)
        with requestor(peer) as reports:
            assert reports.get(timeout=120).transaction_uid == "1.9.1"
            node.until(lambda: not files(node), within_s=120)


@pytest.mark.parametrize("answer", [0x0110, 0x0122])
def test_a_report_that_is_never_taken_is_given_up_with_a_line_of_the_log(tmp_path: Path, answer: int) -> None:
    peer = a_peer("scanner")
    more = FAST.replace("12", "3")
    with (
        running(configured(tmp_path / "node", peers=[peer], more=more)) as node,
        requestor(peer, answer=answer) as reports,
    ):
        instance = stored(node, tmp_path, "SCANNER")
        assert request(node, "SCANNER", "1.9.1", instance).Status == 0x0000
        node.until(lambda: "commitment_given_up" in node.log.read_text(), within_s=120)
        node.until(lambda: not files(node), within_s=120)
        assert reports.qsize() == (3 if answer == 0x0110 else 1)
    (line,) = [line for line in node.log.read_text().splitlines() if "commitment_given_up" in line]
    assert " ERROR " in line
    assert "1.9.1" in line
    assert "scanner" in line


def test_a_peer_that_takes_a_connection_and_is_silent_delays_no_other_peer(tmp_path: Path) -> None:
    silent, other = a_peer("silent"), a_peer("other")
    with (
        socket.create_server(("127.0.0.1", silent.port)),
        running(configured(tmp_path / "node", peers=[silent, other], more=FAST)) as node,
        requestor(other) as reports,
    ):
        instance = stored(node, tmp_path, "OTHER")
        for number in range(6):
            assert request(node, "SILENT", f"1.9.{number}", instance).Status == 0x0000
        assert request(node, "OTHER", "1.9.9", instance).Status == 0x0000
        assert reports.get(timeout=50).transaction_uid == "1.9.9"


def test_who_is_no_peer_is_answered_with_a_failure_and_what_to_configure(tmp_path: Path) -> None:
    with running(configured(tmp_path / "node")) as node:
        answer = request(node, "STRANGER", "1.9.1", stored(node, tmp_path, "STRANGER"))
        assert answer.Status == 0x0110
        assert "[[peer]]" in answer.ErrorComment
        assert not files(node)


def test_a_requestor_that_is_no_peer_any_more_is_named_at_the_start_and_its_file_stays(tmp_path: Path) -> None:
    peer = a_peer("scanner")
    node = configured(tmp_path / "node", peers=[peer], more=FAST)
    with running(node):
        assert request(node, "SCANNER", "1.9.1", stored(node, tmp_path, "SCANNER")).Status == 0x0000
        kill_all(node)
        content = node.config.read_text()
        node.config.write_text(content.replace('"SCANNER"', '"RENAMED"'))
        node.start()
        node.until(lambda: "no [[peer]] has the AE title SCANNER any more" in node.log.read_text(), within_s=120)
        assert len(files(node)) == 1
        kill_all(node)
        node.config.write_text(content)
        with requestor(peer) as reports:
            node.start()
            assert reports.get(timeout=120).transaction_uid == "1.9.1"
