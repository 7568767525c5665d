"""Who this installation is, and the digests that make work happen once. Pure.

The archive recognizes a repeated document by its UID. A UID therefore depends on whatever decides the content of the
document and on nothing else: study, evidence, model, weights, configuration, software.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from ainode.node import __version__
from ainode.node.domain import (
    UID,
    Algorithm,
    DocumentContext,
    DocumentKind,
    Instance,
    InstanceRef,
    Location,
    MessageAddress,
    ServerAddress,
)

if TYPE_CHECKING:  # a reader process starts 0.1 s earlier without the settings
    from ainode.node.routes import PriorRule, Route
    from ainode.node.settings import Peer, Settings

Canonical: TypeAlias = "str | int | float | bool | Sequence[Canonical] | Mapping[str, Canonical] | None"

MANUFACTURER = "ainode project"
MODEL_NAME = "ainode"
"""Manufacturer's Model Name (0008,1090) of every document: the router knows documents of ainode by it"""
MADE_UID_PREFIX = "2.25."
_SEGMENTATIONS = {
    "none": None,
    "fractional": DocumentKind.SEGMENTATION_FRACTIONAL,
    "labelmap": DocumentKind.SEGMENTATION_LABELMAP,
}


def digest(value: Canonical) -> str:
    """Return the sha256 of a value's canonical JSON, in hexadecimal digits.

    Canonical: keys sorted, no white space, ASCII, floats in their shortest form, no NaN and no infinity. What enters is
    named by literal keys and never by the names of classes or fields, so that no rename in the code changes a digest.

    Raises: ValueError for a number that is not finite.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_ours(instance: Instance) -> bool:
    """Whether this node, or another ainode, made the instance."""
    return instance.text("ManufacturerModelName").strip().lower() == MODEL_NAME


def content_hash(content: Mapping[UID, str]) -> str:
    """Return a digest over SOP Instance UID -> sha256, in no particular order."""
    return hashlib.sha256(json.dumps([sorted(content.items())]).encode()).hexdigest()


def comprehensive_3d(settings: Settings, route: Route) -> bool:
    """Whether every destination takes Comprehensive 3D SR; one that does not decides for the route."""
    return all(settings.peer(name).sr == "3d" for name in route.destinations)


def wishes(settings: Settings, destinations: Iterable[str]) -> Mapping[str, tuple[DocumentKind, ...]]:
    """Return the optional documents that each destination asks for; a destination without a [[peer]] asks for none.

    A listener asks for messages, and gets nothing else.
    """
    return {peer.name: _wishes(peer) for peer in settings.peers if peer.name in set(destinations)}


def _wishes(peer: Peer) -> tuple[DocumentKind, ...]:
    if peer.is_listener:
        return (message_kind(peer),)
    kinds = {
        _SEGMENTATIONS[peer.segmentation],
        DocumentKind.PRESENTATION_STATE if peer.presentation_state else None,
        DocumentKind.PDF if peer.pdf else None,
    }
    return tuple(kind for kind in DocumentKind if kind in kinds)


def message_kind(peer: Peer) -> DocumentKind:
    """Return the only kind of document that a listener takes."""
    return DocumentKind.BUNDLE if peer.deliver == "fhir" else DocumentKind.MESSAGE


def message_addresses(settings: Settings, route: Route) -> tuple[MessageAddress, ...]:
    """Return the HL7 listeners among the destinations of a route, in the order of node.toml."""
    return tuple(map(message_address, _peers_by(settings, route, "hl7")))


def server_addresses(settings: Settings, route: Route) -> tuple[ServerAddress, ...]:
    """Return the FHIR servers among the destinations of a route, in the order of node.toml."""
    return tuple(map(server_address, _peers_by(settings, route, "fhir")))


def _peers_by(settings: Settings, route: Route, deliver: str) -> Iterator[Peer]:
    return (peer for peer in settings.peers if peer.deliver == deliver and peer.name in route.destinations)


def server_address(peer: Peer) -> ServerAddress:
    """Return how resources for a FHIR server are written."""
    table = peer.server
    return ServerAddress(
        destination=peer.name,
        patient=table.patient,
        patient_systems=tuple(sorted(table.patient_systems.items())),
        accession_system=table.accession_system,
        report_status=table.report_status,
        members=table.members,
    )


def message_address(peer: Peer) -> MessageAddress:
    """Return how messages for an HL7 listener are written."""
    table = peer.listener
    return MessageAddress(
        destination=peer.name,
        sending_application=table.sending_application,
        sending_facility=table.sending_facility,
        receiving_application=table.receiving_application,
        receiving_facility=table.receiving_facility,
        character_set=table.character_set,
        processing_id=table.processing_id,
        result_status=table.result_status,
    )


def configuration_hash(settings: Settings, route: Route, locations: tuple[Location, ...] = ()) -> str:
    """Return a digest over whatever is configured or requested and can change a document (16 hexadecimal digits).

    Documents beside report and captures do not enter: a new wish of a destination makes no study a new study.
    """
    return digest(
        {
            "route": route.name,
            "handler": route.handler,
            "report_out_of_scope": route.report_out_of_scope,
            "precision": settings.reader.precision,
            "comprehensive_3d": comprehensive_3d(settings, route),
            "software": __version__,
            "locations": [_location_values(location) for location in locations],
            "priors": _prior_rule_values(route.priors) if route.priors else None,
            **({"time_zone": settings.node.time_zone} if settings.node.time_zone else {}),
            # Absent without a search, so that documents of other routes keep their UIDs.
            **({"candidates": route.wanted_candidates} if route.detect else {}),
        }
    )[:16]


def _location_values(location: Location) -> Canonical:
    return {
        "position_mm": [axis + 0.0 for axis in location.position_mm],  # -0.0 is 0.0
        "source": location.source,
        "frame_of_reference_uid": location.frame_of_reference_uid,
        "tracking_uid": location.tracking_uid,
        "series_instance_uid": location.series_instance_uid,
    }


def _prior_rule_values(rule: PriorRule) -> Canonical:
    return {
        "from": rule.source,
        "modality": list(rule.modality),
        "body_part": list(rule.body_part),
        "tags": dict(rule.tags),
        "count": rule.count,
        "max_age_days": rule.max_age_days,
        "max_series": rule.max_series,
        "timeout_s": rule.timeout_s,
        "allow_missing_birth_date": rule.allow_missing_birth_date,
    }


def job_id(study: UID, *, content: Mapping[UID, str], weights_sha256: str, configuration: str) -> str:
    """Return the name of the only job for these inputs (32 hexadecimal digits)."""
    return digest(
        {
            "study": study,
            "content": {str(uid): sha256 for uid, sha256 in content.items()},
            "weights": weights_sha256,
            "configuration": configuration,
        }
    )[:32]


def returned_job_id(job: str, live_job: str) -> str:
    """Return the name of the job for a study that went back to the inputs of `job` after `live_job` had replaced it."""
    return digest({"job": job, "after": live_job})[:32]


def run_digest(
    evidence: tuple[InstanceRef, ...], context: DocumentContext, *, algorithm: Algorithm | None = None
) -> str:
    """Return the digest that names one reading of one study: every UID of its documents hangs on the digest.

    The time of reception does not enter: a study that is sent again a year later is the same study. Neither do the
    optional kinds of document, which change no other document.
    """
    return digest(
        {
            "studies": sorted({ref.study_instance_uid for ref in evidence}),
            "instances": sorted({ref.sop_instance_uid for ref in evidence}),
            "algorithm": _algorithm_values(algorithm) if algorithm else None,
            "context": _context_values(context),
        }
    )


def _algorithm_values(algorithm: Algorithm) -> Canonical:
    return {
        "name": algorithm.name,
        "version": algorithm.version,
        "weights_sha256": algorithm.weights_sha256,
        "weights_status": algorithm.weights_status.value,
        "parameters": [list(parameter) for parameter in algorithm.parameters],
        # Absent without limits, so that documents of such algorithms keep their UIDs.
        **({"not_for": list(algorithm.not_for)} if algorithm.not_for else {}),
        **({"known_limits": list(algorithm.known_limits)} if algorithm.known_limits else {}),
    }


def _context_values(context: DocumentContext) -> Canonical:
    return {
        "device_uid": context.device_uid,
        "device_name": context.device_name,
        "software_versions": list(context.software_versions),
        "configuration_hash": context.configuration_hash,
        "series_number_base": 9001,  # a number of older versions; without the entry every UID would change
        "predecessors": [ref.sop_instance_uid for ref in context.predecessors],
        "comprehensive_3d": context.comprehensive_3d,
    }


def made_uid(*parts: str) -> UID:
    """Return the UID of whatever the parts describe: the same parts have the same UID.

    Source: PS3.5 B.2 (2.25 followed by a 128-bit number); here the first half of a sha256.
    """
    return UID(f"{MADE_UID_PREFIX}{int(digest(list(parts))[:32], 16)}")


def made_control_id(parts: Sequence[str]) -> str:
    """Return MSH-10 of whatever the parts describe, of 20 characters (HL7 2.5.1, 2.15.9.10)."""
    return digest(list(parts))[:20].upper()


def correction_uid(message: str) -> UID:
    """Return the UID of the message that takes the place of another message about a study to the same listener."""
    return made_uid("takes the place of", message)


def made_uuid(*parts: str) -> UUID:
    """Return the UUID of whatever the parts describe: the same parts have the same UUID (version 8 of RFC 9562)."""
    octets = bytearray.fromhex(digest(list(parts))[:32])
    octets[6], octets[8] = octets[6] & 0x0F | 0x80, octets[8] & 0x3F | 0x80
    return UUID(bytes=bytes(octets))


def algorithm_uid(algorithm: Algorithm) -> UID:
    """Return the Device UID of an algorithm: the same for the same name, version and weights, wherever they run."""
    return made_uid("algorithm", algorithm.name, algorithm.version, algorithm.weights_sha256)


def device_uid(settings: Settings, host: str) -> UID:
    """Return the Device Observer UID of this installation: the same as long as its names stay."""
    return made_uid("device", settings.node.name, settings.node.ae_title, host)


def on_clock(settings: Settings, time: datetime) -> datetime:
    """Return the time on the clock of documents: of the configured zone, else of this process.

    Documents have local time, as the images that a modality writes beside them (PS3.3 C.12.1.1.8).
    """
    return time.astimezone(ZoneInfo(settings.node.time_zone) if settings.node.time_zone else None)


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
    wanted = [kind for kinds in wishes(settings, route.destinations).values() for kind in kinds]
    return DocumentContext(
        created=on_clock(settings, created),
        states_offset=bool(settings.node.time_zone),
        device_uid=device_uid(settings, host),
        device_name=settings.node.name,
        software_versions=(f"ainode {__version__}",),
        configuration_hash=configuration_hash(settings, route, locations),
        predecessors=predecessors,
        comprehensive_3d=comprehensive_3d(settings, route),
        optional=tuple(sorted({kind for kind in wanted if kind.is_optional})),
        messages=message_addresses(settings, route),
        servers=server_addresses(settings, route),
    )
