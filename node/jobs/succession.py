"""Which routes a new job may take over from, as they tell nobody any more; and what nobody takes over."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from ainode.node.domain import UID, JobState
from ainode.node.keeping.records import Job
from ainode.node.routes import RouteMode
from ainode.node.settings import Settings


def outlived(
    job: Job, study_jobs: Iterable[Job], settings: Settings, arrivals: Mapping[UID, datetime]
) -> tuple[Job, ...]:
    """Return the reported jobs of routes that are gone and that nobody took over, of images that are not all any more.

    The job that is read now has all their images, and one that came after them; `arrivals` says when each came.
    """
    names = {route.name for route in settings.routes}
    orphans = [each for each in study_jobs if each.state is JobState.REPORTED and each.route not in names]
    return tuple(
        older
        for older in orphans
        if set(older.content) < set(job.content)
        and any(arrivals[uid] > older.queued_at for uid in set(job.content) - set(older.content) if uid in arrivals)
    )


def former_routes(job: Job, study_jobs: Iterable[Job], settings: Settings) -> frozenset[str]:
    """Return the names of the routes in whose place the route of a job is; none of a job that tells nobody.

    A shadow with the same conditions is one, as after `ainode route live`; so is a route that routes.toml has no more,
    if the job reads all images that it read.
    """
    routes = {route.name: route for route in settings.routes}
    if job.is_self_test or not job.destinations or job.route not in routes:
        return frozenset()
    route = routes[job.route]
    shadows = {
        name for name, other in routes.items() if other.mode is RouteMode.SHADOW and other.takes_same_images(route)
    }
    gone = {older.route for older in study_jobs if older.route not in routes and set(older.content) <= set(job.content)}
    return frozenset((shadows | gone) - {job.route})
