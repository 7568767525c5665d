"""What a changed routes.toml would change: its problems, its routes, and which of the newest studies it would read."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ainode.node.deciding import router
from ainode.node.deciding.stored_study import ReadableStudy, stored_study
from ainode.node.domain import UID, Study
from ainode.node.errors import ConfigError
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog
from ainode.node.reading import registry
from ainode.node.routes import Route
from ainode.node.settings import Settings, with_routes


def changed_settings(settings: Settings, path: Path) -> Settings:
    """Return the settings with the routes of another file.

    Raises: ConfigError with a line for each problem, as `ainode check` names it.
    """
    changed = with_routes(settings, path)
    lines = [line for route in changed.routes for line in _problems(route, settings.models)]
    if lines:
        raise ConfigError("\n".join(f"{path}: {line}" for line in lines))
    return changed


def _problems(route: Route, models: Path) -> Iterator[str]:
    try:
        router.refuse_broken(route)
    except ConfigError as error:
        yield str(error)
    try:
        registry.refuse_unknown(route.handler, models)
    except ConfigError as error:
        yield f"route {route.name!r}: handler: {error}"


def compared(settings: Settings, path: Path, *, study_count: int, limit_s: float) -> dict[str, Any]:
    """Return what the file changes for the newest studies, as many as can be compared within the time.

    Raises: ConfigError with a line for each problem.
    """
    changed = changed_settings(settings, path)
    end = time.monotonic() + limit_s
    catalog = Catalog(database.existing(settings.database_url))
    keywords = router.keywords((*settings.routes, *changed.routes))
    studies, compared_count, unreadable_count = [], 0, 0
    uids = catalog.newest(study_count)
    for uid in uids:
        if time.monotonic() > end:
            break
        compared_count += 1
        study = _study(catalog, uid, keywords)
        if study is None:
            unreadable_count += 1
        elif change := _change(study, settings.routes, changed.routes):
            studies.append(change)
    return {
        "routes": list(_route_changes(settings.routes, changed.routes)),
        "studies": studies,
        "compared": compared_count,
        "unreadable": unreadable_count,
        "total": len(uids),
    }


def _study(catalog: Catalog, uid: UID, keywords: frozenset[str]) -> Study | None:
    """Return a study as the headers of its files say it, None if its files cannot be read."""
    stored = catalog.instances(uid)
    readable = stored_study(stored, {}, keywords) if stored else None
    return readable.study if isinstance(readable, ReadableStudy) else None


def _change(study: Study, before: Sequence[Route], after: Sequence[Route]) -> Mapping[str, Any] | None:
    """Return which routes take a study before and after a change, None if they are the same."""
    matching = [_matching(study, routes) for routes in (before, after)]
    if matching[0] == matching[1]:
        return None
    lost = matching[0] - matching[1]
    routes = [route for route in after if route.name in lost]
    return {
        "uid": study.study_instance_uid,
        "before": sorted(matching[0]),
        "after": sorted(matching[1]),
        "reasons": [router.explained(decision) for decision in router.decide(study, routes)],
    }


def _matching(study: Study, routes: Iterable[Route]) -> frozenset[str]:
    return frozenset(route.name for route in routes if router.chosen(study, route).series)


def _route_changes(before: Sequence[Route], after: Sequence[Route]) -> Iterator[str]:
    """Yield a sentence for each route that is new, gone or different."""
    old, new = ({route.name: route for route in routes} for routes in (before, after))
    yield from (f"{name} is new" for name in new if name not in old)
    yield from (f"{name} is removed" for name in old if name not in new)
    for name in new.keys() & old.keys():
        keys = [key.name for key in fields(Route) if getattr(old[name], key.name) != getattr(new[name], key.name)]
        if keys:
            yield f"{name} has another {', '.join(keys)}"
