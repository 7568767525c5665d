"""The digests that make work happen once, and what documents say of this installation. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from ainode.node import __version__
from ainode.node.domain import (
    UID,
    DocumentContext,
    DocumentKind,
    InstanceRef,
    Location,
)
from ainode.node.routes import Route
from ainode.node.settings import Peer, Settings

_SEGMENTATIONS = {
    "none": None,
    "fractional": DocumentKind.SEGMENTATION_FRACTIONAL,
    "labelmap": DocumentKind.SEGMENTATION_LABELMAP,
}


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def content_hash(content: Mapping[UID, str]) -> str:
    """Return a digest over SOP Instance UID -> sha256, in no particular order."""
    return _digest(sorted(content.items()))


def comprehensive_3d(settings: Settings, route: Route) -> bool:
    """Whether every destination takes Comprehensive 3D SR; one that does not decides for the route."""
    return all(settings.peer(name).sr == "3d" for name in route.destinations)


def wishes(settings: Settings, destinations: Iterable[str]) -> Mapping[str, tuple[DocumentKind, ...]]:
    """Return the optional documents that each destination asks for; one that is no peer any more asks for none."""
    return {peer.name: _wishes(peer) for peer in settings.peers if peer.name in set(destinations)}


def _wishes(peer: Peer) -> tuple[DocumentKind, ...]:
    asked = {_SEGMENTATIONS[peer.segmentation], DocumentKind.PRESENTATION_STATE if peer.presentation_state else None}
    return tuple(kind for kind in DocumentKind if kind in asked)


def configuration_hash(settings: Settings, route: Route, locations: tuple[Location, ...] = ()) -> str:
    """Return a digest over everything configured or asked for that can change a document (16 hexadecimal digits).

    What is made beside report and captures is not in it: a new wish of a destination makes no study a new one.
    """
    kind = comprehensive_3d(settings, route)
    parts = (route.name, route.handler, route.report_out_of_scope, settings.reader.precision, kind, __version__)
    return _digest(*parts, *locations, route.priors)[:16]


def job_id(study: UID, *, content: Mapping[UID, str], weights_sha256: str, configuration: str) -> str:
    """Return the name of the one job there is for these inputs (32 hexadecimal digits)."""
    return _digest(study, content_hash(content), weights_sha256, configuration)[:32]


def device_uid(settings: Settings, host: str) -> UID:
    """Return the Device Observer UID of this installation: the same as long as its names stay (PS3.5 B.2)."""
    digest = _digest("device", settings.node.name, settings.node.ae_title, host)
    return UID(f"2.25.{int(digest[:32], 16)}")


def document_context(
    settings: Settings,
    route: Route,
    *,
    host: str,
    created: datetime,
    predecessors: tuple[InstanceRef, ...] = (),
    locations: tuple[Location, ...] = (),
) -> DocumentContext:
    """Return what the documents of a route say beside the result."""
    return DocumentContext(
        # documents carry local time, as what a modality writes beside them does (PS3.3 C.12.1.1.8)
        created=created.astimezone(),
        device_uid=device_uid(settings, host),
        device_name=settings.node.name,
        software_versions=(f"ainode {__version__}",),
        configuration_hash=configuration_hash(settings, route, locations),
        predecessors=predecessors,
        comprehensive_3d=comprehensive_3d(settings, route),
        optional=tuple(sorted({kind for kinds in wishes(settings, route.destinations).values() for kind in kinds})),
    )
