"""The self-tests that people begin on the page: one at a time, as each night, in a process of its own."""

import threading
from datetime import UTC, datetime
from typing import Final

from ainode.node.console.assistant.client import Assistant
from ainode.node.console.system.hops import Hop
from ainode.node.errors import Busy
from ainode.node.proving import golden
from ainode.node.settings import Settings

_NAME: Final = "held against the golden answer"
# For the start of the process, and the study that it makes.
_BESIDE_S: Final = 120.0


class RouteTests:
    """Tests routes of [self_test] when somebody asks; documents leave for the destination of the tests alone."""

    def __init__(self, settings: Settings) -> None:
        """Test nothing yet."""
        self._settings, self._assistant = settings, Assistant(settings)
        self._lock = threading.Lock()
        self._route = ""
        self._problems: dict[str, str] = {}
        """why the last test of a route left no record"""

    def begin(self, route: str) -> tuple[datetime, str]:
        """Begin a test; return since when it runs, and why it was not begun, '' if it was."""
        with self._lock:
            now = datetime.now(UTC)
            if self._route:
                return now, f"the self-test of route {self._route} runs just now; wait for its end"
            self._route = route
            self._problems.pop(route, None)
        threading.Thread(target=self._run, args=(route,), name="self-test", daemon=True).start()
        return now, ""

    def _run(self, route: str) -> None:
        limit_s = self._settings.self_test.limit_s + _BESIDE_S
        problem = "the test was ended by a fault of the node, which its log names; begin it again"
        try:
            _, problem = self._assistant.reply("self_test", limit_s=limit_s, route=route)
        except Busy as error:
            problem = str(error)
        finally:
            with self._lock:
                self._route = ""
                self._problems[route] = problem

    def outcome(self, route: str, since: datetime) -> Hop:
        """Return what came of the test of a route that was begun then."""
        with self._lock:
            is_running, problem = self._route == route, self._problems.get(route, "")
        if is_running:
            return Hop(_NAME, "waiting", "the study is on its way through the node")
        if problem:
            return Hop(_NAME, "failed", problem)
        record = golden.record_of(self._settings, route)
        if record.at is None or record.at < since:
            return Hop(_NAME, "not run", "the test was ended before it had an answer; begin it again")
        if record.problem:
            return Hop(_NAME, "failed", record.problem)
        return Hop(_NAME, "done", "the same, and every object arrived")
