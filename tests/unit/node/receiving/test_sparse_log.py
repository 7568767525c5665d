"""What strangers do is logged once, and counted."""

import logging

import pytest

from ainode.node.receiving import sparse_log
from ainode.node.receiving.sparse_log import SparseLog


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> SparseLog:
    caplog.set_level(logging.INFO)
    return SparseLog(logging.getLogger("strangers"))


def reject(log: SparseLog, address: str, *, reason: str = "CALLED_AE_TITLE_NOT_RECOGNIZED", title: str = "A") -> None:
    log.write(logging.WARNING, f"{title} rejected", action="rejected", address=address, reason=reason)


def test_a_flood_of_rejections_of_one_address_is_a_line_and_a_count(
    log: SparseLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1000):
        reject(log, "10.0.0.1", title=f"TITLE{number}")
    log.flush()
    assert caplog.messages == ["TITLE0 rejected"]
    monkeypatch.setattr(sparse_log, "_WINDOW_S", 0)
    log.flush()
    assert caplog.messages[1:] == ["999 more in 0 s: CALLED_AE_TITLE_NOT_RECOGNIZED"]
    assert (caplog.records[1].action, caplog.records[1].address) == ("rejected", "10.0.0.1")  # type: ignore[attr-defined]
    log.flush()
    log.flush()
    assert len(caplog.messages) == 2


def test_another_address_and_another_reason_have_lines_of_their_own(
    log: SparseLog, caplog: pytest.LogCaptureFixture
) -> None:
    reject(log, "10.0.0.1")
    reject(log, "10.0.0.2")
    reject(log, "10.0.0.1", reason="LOCAL_LIMIT_EXCEEDED")
    assert len(caplog.messages) == 3


def test_a_million_addresses_take_no_more_memory_and_lines_than_a_thousand(
    log: SparseLog, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3000):
        reject(log, f"10.0.{number // 256}.{number % 256}")
    assert len(caplog.messages) == len(log._windows) == 1001
