"""What becomes of a trial that a person keeps: said before the click, and done at the click."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ainode.node.console.parts import Parts
from ainode.node.console.trials.answers import NO_IMAGES, VOLUMES
from ainode.node.domain import UID, Location
from ainode.node.keeping.announcements import Announcement, locations_of
from ainode.node.offline.trials import Trial
from ainode.node.routes import Route

_SENDER: Final = "CONSOLE"
"""the calling AE title of studies that a person keeps"""
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Prospect:
    """What becomes of one study of a trial once it is kept."""

    date: int
    """of the form, from 1"""
    routes: tuple[tuple[str, str], ...]
    """each route that takes the study, and what becomes of its documents"""
    why_no_route: str
    remedies: tuple[str, ...]
    positions: tuple[str, ...]
    """in words: the positions that go with the study"""
    wants_body_part: bool
    """whether a route asks for the body part of files that are no DICOM, and nobody named it"""
    is_volume: bool
    """whether a model could ask for a position in the images"""


def prospects(parts: Parts, content: Mapping[str, Any]) -> list[Prospect]:
    """Return what becomes of each study of a trial, as the routes and the headers of the images say it."""
    routes = {route.name: route for route in parts.settings.routes}
    return [
        Prospect(
            study["date"],
            tuple((name, _fate(parts, routes[name])) for name in study.get("routes", ())),
            study.get("why_no_route", ""),
            tuple(study.get("remedies", ())),
            tuple(map(_position, _locations(study))),
            study.get("wants_body_part", False),
            any(series["modality"] in VOLUMES for series in study["series"]),
        )
        for study in content["studies"]
        if any(series["modality"] not in NO_IMAGES for series in study["series"])
    ]


def _fate(parts: Parts, route: Route) -> str:
    """Return what becomes of the documents of a route, as far as its handler has told its weights."""
    destinations = " and ".join(route.live_destinations)
    if not destinations:
        return "its documents stay in the node"
    weights = parts.readers.known_weights(route.handler)
    if weights and route.withholding_reason(weights.demonstration):
        return "its documents stay in the node, because its weights are for demonstration"
    is_sure = weights is not None or route.allow_demonstration
    unless = "" if is_sure else ", unless its weights are for demonstration"
    return f"the documents of its answer go to {destinations}{unless}; the images stay in the node"


def _position(location: Location) -> str:
    return ", ".join(f"{number:.1f}" for number in location.position_mm)


def _locations(study: Mapping[str, Any]) -> tuple[Location, ...]:
    return locations_of(json.dumps(study.get("locations", ())))


def keep(parts: Parts, trial: Trial, address: str) -> tuple[UID, ...]:
    """Take the studies of a trial into the node as if they were received, each with the positions it was read with.

    The study of the newest date is the last. The announcement of positions comes before the end of the visit, which
    lets the node route the study.
    Raises: ReceiveError if the node takes a file from nobody.
    """
    studies: Sequence[Mapping[str, Any]] = trial.content()["studies"]
    with parts.web.doorway.visit(_SENDER, address) as sender:
        for study in studies:
            for path in _paths(trial, study):
                with sender.file() as arriving, path.open("rb") as file:
                    while block := file.read(_BLOCK):
                        arriving.write(memoryview(block))
                    sender.store(arriving)
        for study in studies:
            _announce(parts, study)
    return tuple(UID(study["study_instance_uid"]) for study in studies)


def _paths(trial: Trial, study: Mapping[str, Any]) -> Iterable[Path]:
    return (trial.folder / file for series in study["series"] for file in series["files"].values())


def _announce(parts: Parts, study: Mapping[str, Any]) -> None:
    """Let the handlers of the routes have the positions of a study; they stay for every later reading of the study."""
    locations = _locations(study)
    if not locations:
        return
    now = datetime.now(UTC)
    announcement = Announcement(
        UID(study["study_instance_uid"]), announced_at=now, due_at=now, read_now=True, locations=locations
    )
    parts.announcements.announce(announcement)
    parts.web.on_announced(announcement)
