"""The copy of the trail at a collector has every record, whatever happens to the collector or to the node."""

import logging
from pathlib import Path

import pytest
from support.certificates import Certificate, authority, issued
from support.collector import Collector
from support.servers import free_port
from support.syslog import event_of

from ainode.node.audit import forwarder as forwarder_module
from ainode.node.audit.forwarder import Forwarder
from ainode.node.audit.messages import SOFTWARE_CONFIGURATION, alert
from ainode.node.audit.recorder import Recorder
from ainode.node.audit.trail import Trail, files
from ainode.node.settings import AuditTable, NodeTable, Settings


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificate]:
    folder = tmp_path_factory.mktemp("certificates")
    ca = authority(folder, "ca")
    return {"ca": ca, "collector": issued(ca, "collector"), "node": issued(ca, "node")}


_SETTINGS = {"_PROOF_S": 0.2, "_POLL_S": 0.1, "_FIRST_PAUSE_S": 0.1, "_LONGEST_PAUSE_S": 0.2, "_STOP_S": 60.0}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _SETTINGS.items():
        monkeypatch.setattr(forwarder_module, name, value)


def settings_for(folder: Path, port: int, certificates: dict[str, Certificate], **more: object) -> Settings:
    node = certificates["node"]
    table = {
        "syslog_host": "127.0.0.1",
        "syslog_port": port,
        "ca_file": str(certificates["ca"].path),
        "tls_certificate": str(node.path),
        "tls_key": str(node.key),
    }
    return Settings(node=NodeTable(data=folder), audit=AuditTable.model_validate(table | more))


def record_some(recorder: Recorder, count: int) -> None:
    for number in range(count):
        recorder.record(alert(SOFTWARE_CONFIGURATION, f"urn:x:{number}", "é" * 100))


def sent_lines(folder: Path) -> list[bytes]:
    return [line for path in files(folder / "audit") for line in path.read_bytes().split(b"\n")[:-1]]


def test_a_collector_gets_every_record_as_it_is_in_the_trail_from_start_to_stop(
    tmp_path: Path, certificates: dict[str, Certificate]
) -> None:
    with Collector(certificates["ca"], certificates["collector"]) as collector:
        recorder = Recorder.of(settings_for(tmp_path, collector.port, certificates), str)
        recorder.start()
        record_some(recorder, 50)
        collector.until(lambda: len(collector.messages) == 51)
        recorder.stop()
        collector.until(lambda: len(collector.messages) == 52)
        assert collector.messages == sent_lines(tmp_path)
        assert [event_of(message).number for message in collector.messages] == list(range(1, 53))


def test_no_record_is_lost_while_a_collector_is_away_is_killed_or_the_node_is_killed(
    tmp_path: Path, certificates: dict[str, Certificate], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    settings = settings_for(tmp_path, port, certificates)
    recorder = Recorder.of(settings, str)
    recorder.start()
    record_some(recorder, 20)
    arrived: list[int] = []
    for count in (20, 40, 60):  # up, and away again with what was just sent
        with Collector(certificates["ca"], certificates["collector"], port) as collector:
            collector.until(lambda: len(collector.messages) > 0)
            record_some(recorder, 20)
            collector.until(lambda count=count: event_of(collector.messages[-1]).number > count)
        arrived += [event_of(message).number for message in collector.messages]
        record_some(recorder, 5)
    # The node is killed here: its threads end with it. Another process goes on.
    recorder.stop()
    other = Forwarder(settings)
    other.start()
    expected = set(range(1, len(sent_lines(tmp_path)) + 1))
    with Collector(certificates["ca"], certificates["collector"], port) as collector:
        collector.until(
            lambda: event_of(collector.messages[-1]).number == max(expected) if collector.messages else False
        )
        other.stop()
    arrived += [event_of(message).number for message in collector.messages]
    assert set(arrived) == expected
    firsts = list(dict.fromkeys(arrived))
    assert firsts == sorted(firsts)
    assert "gets no copy" in caplog.text


def test_what_was_proved_to_be_delivered_is_not_sent_again(
    tmp_path: Path, certificates: dict[str, Certificate]
) -> None:
    with Collector(certificates["ca"], certificates["collector"]) as collector:
        settings = settings_for(tmp_path, collector.port, certificates)
        recorder = Recorder.of(settings, str)
        recorder.start()
        record_some(recorder, 9)
        collector.until(lambda: len(collector.messages) == 10)
        size = str(sum(path.stat().st_size for path in files(tmp_path / "audit")))
        position = tmp_path / "audit" / "forwarded"
        collector.until(lambda: position.exists() and position.read_text().endswith(size))
        recorder.stop()
        Trail.of(settings).append([])
        other = Forwarder(settings)
        other.start()
        other.stop()
        collector.until(lambda: len(collector.messages) >= 11)
        assert [event_of(message).number for message in collector.messages][:11] == list(range(1, 12))
        assert len(collector.messages) <= 12  # the stop of the node alone may come twice


def test_a_collector_whose_certificate_is_not_trusted_gets_nothing(
    tmp_path: Path, certificates: dict[str, Certificate], caplog: pytest.LogCaptureFixture
) -> None:
    stranger = authority(tmp_path, "stranger")
    with Collector(certificates["ca"], certificates["collector"]) as collector:
        recorder = Recorder.of(
            settings_for(tmp_path / "data", collector.port, certificates, ca_file=str(stranger.path)), str
        )
        recorder.start()
        collector.until(lambda: "the certificate is not trusted" in caplog.text)
        recorder.stop()
        assert collector.messages == []
    assert len(sent_lines(tmp_path / "data")) == 2


def test_a_collector_without_our_certificate_is_told_of_in_the_log(
    tmp_path: Path, certificates: dict[str, Certificate], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Collector(certificates["ca"], certificates["collector"]) as collector:
        settings = settings_for(tmp_path, collector.port, certificates, tls_certificate="", tls_key="")
        recorder = Recorder.of(settings, str)
        recorder.start()
        collector.until(lambda: "gets no copy" in caplog.text)
        recorder.stop()
        assert collector.messages == []
    assert "gets its copy again" not in caplog.text
