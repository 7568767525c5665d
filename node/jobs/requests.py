"""From a job to the request that a reader process is asked for: without the durable engine, for files and replays."""

import platform
from collections.abc import Iterable
from dataclasses import replace

from ainode.node.domain import File, Request
from ainode.node.errors import ConfigError, ImagesRejected
from ainode.node.identity import document_context
from ainode.node.imaging.rejections import rejections
from ainode.node.jobs.corrections import REJECTED
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.records import Job
from ainode.node.priors.gathering import Priors
from ainode.node.routes import Route, RouteMode
from ainode.node.settings import Settings


def route_of(job: Job, settings: Settings) -> Route:
    """Return the route that opened a job, in the mode that it had then: the mode of now is for later studies.

    Raises: ConfigError if routes.toml no longer has the route, or the route has another handler now.
    """
    mode = RouteMode.LIVE if job.is_live else RouteMode.SHADOW
    return replace(route_for(job.id, job.route, job.handler, settings), mode=mode)


def route_for(job: str, name: str, handler: str, settings: Settings) -> Route:
    """Return the route of that name that opened a job for that handler.

    Raises: ConfigError if routes.toml no longer has the route, or the route has another handler now.
    """
    route = next((route for route in settings.routes if route.name == name), None)
    if route is None:
        raise ConfigError(f"route {name!r} of job {job} is no longer in routes.toml; restore the route")
    if route.handler != handler:
        raise ConfigError(
            f"route {name!r} has the handler {route.handler!r}, but job {job} was opened for {handler!r}: restore the "
            "handler, or send the study again"
        )
    return route


def request_of(job: Job, route: Route, settings: Settings, catalog: Catalog) -> Request:
    """Return the request of a job: exactly its instances, and documents as old as the first reception of the study.

    Raises: ImagesRejected if a rejection note names one of the instances.
    """
    stored_instances = catalog.instances(job.study_instance_uid)
    _refuse_rejected(job, stored_instances)
    # An instance that was replaced since makes another job, and the older job is superseded before it leaves.
    files = tuple(
        File(stored.path, stored.sha256, stored.ref.sop_instance_uid)
        for stored in stored_instances
        if stored.ref.sop_instance_uid in job.content
    )
    context = document_context(
        settings,
        route,
        host=platform.node(),
        created=job.created_at,
        predecessors=job.predecessors,
        locations=job.locations,
    )
    gathered = Priors(settings).usable(job.id, route.priors)
    return Request(
        job.study_instance_uid,
        files,
        context,
        route.report_out_of_scope,
        priors=gathered.files,
        notes=(*gathered.notes, *filter(None, [catalog.problem(job.study_instance_uid)])),
        locations=job.locations,
        refusal=job.refusal,
        wanted_candidates=route.wanted_candidates,
        urgent=route.urgent if route.mode is RouteMode.LIVE else None,
    )


def _refuse_rejected(job: Job, stored_instances: Iterable[StoredInstance]) -> None:
    """Refuse a job on instances that a note rejects: a note may come while the job waits, or before a retry."""
    # Of a note that cannot be read the study has a problem, and its report says so.
    for note in rejections((stored.path, stored.ref) for stored in stored_instances):
        if not note.sop_instance_uids.isdisjoint(job.content):
            raise ImagesRejected(f"{REJECTED}{note}")
