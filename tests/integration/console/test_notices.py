"""Notifications that nobody took, on the page of dead letters and at the head of the system page."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from integration.console.conftest import Browser, visit_of
from support.web_bench import Bench

from ainode.node.console.entry.access import Role
from ainode.node.domain import UID, Occasion
from ainode.node.keeping.notices import Notice, Notices
from ainode.node.settings import Subscription

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def words(row: str) -> str:
    """Return the words of the cells of a row."""
    return " ".join(re.sub("<[^>]+>", " ", row.partition("</tr>")[0]).split())


def test_a_notification_that_nobody_took_is_shown_with_its_reason_and_sent_again_by_an_operator(
    tmp_path: Path,
) -> None:
    oncall = Subscription(name="oncall", to="folder", folder="/drop", on=(Occasion.PRESENT, Occasion.QUEUE))
    bench = Bench(tmp_path / "node", subscriptions=(oncall,))
    bench.pages.state.visit_of = visit_of
    viewer, operator = (Browser(bench, role) for role in (Role.VIEWER, Role.OPERATOR))
    administrator = Browser(bench, Role.ADMINISTRATOR)
    notices = Notices(bench.engine)
    notices.keep(
        [
            Notice("c" * 32, "oncall", Occasion.PRESENT, "job", "{}", NOW + timedelta(days=1)),
            Notice("a" * 32, "oncall", Occasion.PRESENT, "job", "{}", NOW, UID("1.2.3")),
            Notice("b" * 32, "oncall", Occasion.QUEUE, "readings", "{}", NOW),
        ]
    )
    for notice in notices.due("oncall", NOW, count=9):
        notices.give_up(notice, NOW, "oncall: answered with <status> 500")
    try:
        page = viewer.get("/console/system/failures").text
        assert page.count("oncall: answered with &lt;status&gt; 500") == 2
        assert "/console/studies/1.2.3" in page
        assert "queue, readings" in page
        assert "Send again" not in page
        assert "No dead letter" not in page
        assert "2 notifications that the node tries no more" in viewer.get("/console/system").text
        rows = [words(row) for row in viewer.get("/console/system").text.split("<tr>") if "oncall" in row]
        assert rows == ["oncall last error: oncall: answered with &lt;status&gt; 500 folder 1 0 2"]
        assert "[[notification]] oncall folder" in administrator.get("/console/system/configuration").text
        assert viewer.post("/console/system/failures/notices", {"notice": "a" * 32}).status_code == 403
        assert "Send again" in operator.get("/console/system/failures").text
        assert operator.post("/console/system/failures/notices", {"notice": "a" * 32}).status_code == 303
        assert [notice.id for notice in notices.failed(count=9)] == ["b" * 32]
        operator.post("/console/system/failures/notices")
        assert notices.failed_count() == 0
        assert "No dead letter" in viewer.get("/console/system/failures").text
    finally:
        bench.web.stop()
        bench.engine.dispose()
