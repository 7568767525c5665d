"""Answers of demonstration weights: withheld where the route does not allow them, released once the route does."""

import logging

from ainode.node.domain import JobState, Reading, Result, WeightsStatus
from ainode.node.identity import wishes
from ainode.node.jobs.requests import route_of
from ainode.node.keeping.ledger import Job, Ledger
from ainode.node.reading import registry
from ainode.node.reading.weights import HandlerWeights, environment
from ainode.node.routes import Route, RouteMode
from ainode.node.settings import Settings

log = logging.getLogger(__name__)


def held_against_weights(job: Job, reading: Reading, route: Route, weights: HandlerWeights, ledger: Ledger) -> Job:
    """Return the job; withhold its documents if its weights became demonstration weights while it waited."""
    demonstration = weights.demonstration or (weights.names if _is_demonstration(reading) else ())
    reason = route.withholding_reason(demonstration)
    if not reason or job.withheld:
        return job
    log.warning("documents withheld: %s", reason, extra={"action": "withheld", "job": job.id, "route": job.route})
    return ledger.withhold(job.id, reason)


def _is_demonstration(reading: Reading) -> bool:
    answer = reading.answer
    return isinstance(answer, Result) and answer.algorithm.weights_status is WeightsStatus.DEMONSTRATION


def released(settings: Settings, ledger: Ledger, job: Job) -> tuple[str, ...]:
    """Return the destinations that get the documents of a withheld job now; none if the job is not withheld.

    Raises: LookupError if the route still withholds them, or has no destinations.
    """
    if not job.withheld or job.state is JobState.FAILED:
        return ()
    route, models = route_of(job, settings), environment(settings)
    weights = models.weights.of_handler(registry.handler(route.handler, models).weights())
    if reason := route.withholding_reason(weights.demonstration):
        raise LookupError(f"job {job.id}: {reason}")
    destinations = route.destinations if route.mode is RouteMode.LIVE else ()
    if not destinations:
        raise LookupError(f"job {job.id}: route {route.name!r} has no destinations or is a shadow; nothing is sent")
    return ledger.release(job, destinations, wishes(settings, destinations))
