"""Answers of demonstration weights: withheld where the route does not allow them, released once the route does."""

import logging
from shlex import quote

from ainode.node.domain import JobState, Reading
from ainode.node.identity import wishes
from ainode.node.jobs.requests import route_for
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.routes import Route, RouteMode
from ainode.node.settings import Settings

log = logging.getLogger(__name__)


def addressed(job: Job, reading: Reading, route: Route, ledger: Ledger) -> Job:
    """Return the job with the destinations of its documents; the weights of the answer decide, not those at opening.

    `route` is in the mode that the job has (`route_of`).
    """
    if job.is_self_test:
        return job
    reason = route.withholding_reason(reading.demonstration_weights)
    about = {"job": job.id, "route": job.route}
    if reason == job.withheld:
        return job
    if reason:
        log.warning("documents withheld: %s", reason, extra={"action": "withheld", **about})
        return ledger.address(job.id, (), route.mode, withheld=reason)
    log.info("documents are no longer withheld", extra={"action": "not_withheld", **about})
    return ledger.address(job.id, route.live_destinations, route.mode)


def silence_reason(job: Job, settings: Settings) -> str:
    """Return why nobody gets the documents of a job; '' of a job that is withheld, which says so, or has destinations.

    What the route was when the study was routed counts, not what it is now.
    """
    if job.destinations or job.withheld:
        return ""
    route = _route_named(job.route, settings)
    then = "when the study was routed"
    if job.mode is RouteMode.SHADOW:
        is_shadow = route is not None and route.mode is RouteMode.SHADOW
        return "its route is a shadow" if is_shadow else f"its route was a shadow {then}"
    if job.mode is RouteMode.LIVE:
        is_silent = route is not None and route.mode is RouteMode.LIVE and not route.destinations
        return "its route sends nothing" if is_silent else f"its route had no destinations {then}"
    return f"its route was a shadow or had no destinations {then}"


def sending_commands(job: Job, settings: Settings) -> tuple[str, ...]:
    """Return the commands that send what a job kept to each archive that its route sends to now; none without any."""
    route = _route_named(job.route, settings)
    if route is None or job.destinations or job.withheld or job.state is not JobState.REPORTED:
        return ()
    archives = (name for name in route.live_destinations if name not in settings.listeners)
    folder = settings.data / "documents" / job.id
    return tuple(f"ainode send {quote(str(folder))} {quote(name)}" for name in archives)


def _route_named(name: str, settings: Settings) -> Route | None:
    return next((route for route in settings.routes if route.name == name), None)


def released(settings: Settings, ledger: Ledger, job: Job) -> tuple[str, ...]:
    """Return the destinations that get the documents of a withheld job now; none if the job is not withheld.

    The route as it is now decides, also by its mode, for who asks sends now; weights that were replaced since did not
    make these documents.

    Raises: LookupError if the route still withholds them or has no destinations, or there are no documents.
    """
    if not job.withheld or job.state is JobState.FAILED:
        return ()
    route = route_for(job.id, job.route, job.handler, settings)
    if not route.allow_demonstration:
        raise LookupError(f"job {job.id}: {job.withheld}")
    destinations = route.live_destinations
    if not destinations:
        remedy = 'give the route destinations and mode = "live" in routes.toml'
        raise LookupError(
            f"job {job.id}: route {route.name!r} has no destinations or is a shadow; nothing is sent: {remedy}"
        )
    if not ledger.documents(job.id):
        raise LookupError(f"job {job.id} made no documents: {job.reason or job.state}")
    return ledger.release(job, destinations, wishes(settings, destinations))
