"""Which routes a new job may take over from, as they tell nobody any more; and what nobody takes over."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from ainode.node.domain import UID, JobState, Study
from ainode.node.keeping.records import Job
from ainode.node.routes import RouteMode
from ainode.node.settings import Settings


def outlived(
    study: Study, study_jobs: Iterable[Job], settings: Settings, arrivals: Mapping[UID, datetime]
) -> tuple[Job, ...]:
    """Return the reported jobs of routes that are gone and that nobody took over, of images that are not all any more.

    A later image came of a modality that the job read, or in the place of one; `arrivals` says when each came.
    """
    names = {route.name for route in settings.routes}
    orphans = [
        each
        for each in study_jobs
        if each.state is JobState.REPORTED and not each.withdrawn_at and each.route not in names
    ]
    return tuple(job for job in orphans if _has_later_images(study, job, arrivals))


def _has_later_images(study: Study, job: Job, arrivals: Mapping[UID, datetime]) -> bool:
    """Return whether an image of a modality that the job read came after the job was opened, or with other pixels."""
    read = {
        series.modality
        for series in study.series
        if any(instance.ref.sop_instance_uid in job.content for instance in series.instances)
    }
    images = [instance for series in study.series if series.modality in read for instance in series.instances]
    unread = (
        image.ref.sop_instance_uid for image in images if job.content.get(image.ref.sop_instance_uid) != image.sha256
    )
    return any(uid in arrivals and arrivals[uid] > job.queued_at for uid in unread)


def former_routes(job: Job, study_jobs: Iterable[Job], settings: Settings) -> frozenset[str]:
    """Return the names of the routes in whose place the route of a job is; none of a job that tells nobody.

    A shadow with the same conditions is one, as after `ainode route live`; so is a route that routes.toml has no more,
    if the job reads all images that it read, by the same handler or by a route that was its shadow. Another model
    answers another question.
    """
    routes = {route.name: route for route in settings.routes}
    if job.is_self_test or not job.destinations or job.route not in routes:
        return frozenset()
    route = routes[job.route]
    shadows = {
        name for name, other in routes.items() if other.mode is RouteMode.SHADOW and other.takes_same_images(route)
    }
    study_jobs = tuple(study_jobs)
    was_shadow = any(older.route == job.route and not (older.destinations or older.withheld) for older in study_jobs)
    gone = {
        older.route
        for older in study_jobs
        if older.route not in routes
        and set(older.content) <= set(job.content)
        and (was_shadow or older.handler == job.handler)
    }
    return frozenset((shadows | gone) - {job.route})
