"""The system: what runs, what waits, what passes between the node and others; `letters.py` has what was given up."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from ainode.node.audit.search import newest
from ainode.node.console.days import zone_of
from ainode.node.console.entry.access import Administrator, Operator, Role, Viewer
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.console.system import state
from ainode.node.console.system.verdict import Condition, statements
from ainode.node.keeping.backlog import Backlog
from ainode.node.keeping.dead_letters import DeadLetters
from ainode.node.keeping.executors import Executors
from ainode.node.keeping.notices import Notices
from ainode.node.keeping.readership import Readership, lost_workers
from ainode.node.metrics.families import resident_bytes
from ainode.node.proving import golden
from ainode.node.settings.in_force import configuration

_PERIOD: Final = timedelta(days=1)
_RECORDS: Final = 200


def router(parts: Parts) -> APIRouter:
    """Return the routes of the pages."""
    routes, pages = APIRouter(), _SystemPages(parts)
    routes.add_api_route("/system", pages.overview)
    routes.add_api_route("/system/records", pages.records)
    routes.add_api_route("/system/configuration", pages.configuration)
    return routes


class _SystemPages:
    """The pages about the node itself."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._backlog, self._letters = parts, Backlog(parts.engine), DeadLetters(parts.engine)
        self._notices, self._executors = Notices(parts.engine), Executors(parts.engine)
        self._readership = Readership(parts.engine)

    def overview(self, request: Request, _: Viewer) -> Response:
        """Return the page, or the part of it that is asked for again every few seconds."""
        if "hx-request" in request.headers:
            return render(request, "_system.html", **self._values())
        since, parts = datetime.now(UTC) - _PERIOD, self._parts
        traffic = {entry.destination: entry for entry in self._backlog.traffic(since)}
        peers = [(peer, traffic.get(peer.name)) for peer in parts.settings.peers]
        return render(request, "system.html", **self._values(), peers=peers, sources=self._backlog.sources(since))

    def _values(self) -> dict[str, Any]:
        """Return what changes from moment to moment, and is cheap to ask for."""
        parts, now, processes = self._parts, datetime.now(UTC), self._executors.all()
        condition = Condition(
            faults=parts.web.readiness.faults(),
            failures=self._backlog.failures(now - _PERIOD),
            troubles=self._backlog.troubles(),
            dead_letters=self._letters.count(),
            queues=self._backlog.queues(),
            untold=self._notices.failed_count(),
            self_tests=golden.records(parts.settings),
            shortages=self._readership.shortages(parts.settings.handlers),
            missing_receivers=parts.web.liveness.missing_receivers(),
        )
        return {
            "now": now,
            "statements": statements(condition, now=now, zone=zone_of(parts.settings)),
            "is_anything_sent": any(route.live_destinations for route in parts.settings.routes),
            "faults": condition.faults,
            "self_tests": condition.self_tests,
            "queues": condition.queues,
            "told": [(each, self._notices.tally(each.name, now - _PERIOD)) for each in parts.settings.subscriptions],
            "executors": [*(each for each in processes if not each.is_dead), *lost_workers(processes)],
            "reading_counts": self._readership.reading_counts() if processes else {},
            "dead_after_s": parts.settings.workers.dead_after_s,
            "readers": parts.readers.states(),
            "reader_limit_bytes": parts.settings.reader.memory_limit_bytes,
            "dead_letter_count": condition.dead_letters,
            "associations": parts.receptions.open(),
            "refusals": parts.receptions.refusals(),
            "max_associations": parts.settings.node.places,
            "address": f"{parts.settings.node.ae_title}@{parts.settings.node.bind}:{parts.settings.node.port}",
            "disk": state.disk_of(parts.settings),
            "database": state.database_of(parts.engine),
            "resident_bytes": resident_bytes(),
        }

    def records(
        self,
        request: Request,
        visit: Operator,
        about: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        """Return the newest lines of the log, and for an administrator of the audit trail, that name something."""
        settings = self._parts.settings
        is_trail_shown = settings.audit.enabled and visit.role >= Role.ADMINISTRATOR
        return render(
            request,
            "records.html",
            about=about,
            lines=self._parts.recent_lines.newest(about, count=_RECORDS),
            is_trail_shown=is_trail_shown,
            is_audited=settings.audit.enabled,
            events=newest(settings.data / "audit", about, count=_RECORDS) if is_trail_shown else (),
        )

    def configuration(self, request: Request, _: Administrator) -> Response:
        """Return the configuration in force, without secrets, and the versions."""
        return render(
            request,
            "configuration.html",
            rows=list(configuration(self._parts.settings)),
            versions=list(state.versions()),
        )
