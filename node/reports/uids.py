"""Who we are in what we make, and UIDs that a rerun makes again.

The archive recognizes a repeated document by its UID, so a UID depends on all that decides the content and on
nothing else: the study, the evidence, the model and its weights, the configuration, this software. The router
recognizes our own documents by `MODEL_NAME` in Manufacturer's Model Name (0008,1090).
"""

import dataclasses
import hashlib
from datetime import UTC, datetime

from ainode.node.domain import UID, Algorithm, DocumentContext, InstanceRef

MANUFACTURER = "ainode project"
MODEL_NAME = "ainode"


def uid(*parts: str) -> UID:
    """Return the UID of what `parts` describe.

    Source: PS3.5 B.2 (2.25 followed by a 128-bit number); here the first half of a sha256.
    """
    return UID(f"2.25.{int(_digest(parts)[:32], 16)}")


def run_digest(
    evidence: tuple[InstanceRef, ...], context: DocumentContext, *, algorithm: Algorithm | None = None
) -> str:
    """Return what names one reading of one study: part of the UID of everything that comes of it.

    The time of reception is left out: a study that is sent again a year later is the same study.
    """
    timeless = dataclasses.replace(context, created=datetime.fromtimestamp(0, UTC))
    studies = sorted({ref.study_instance_uid for ref in evidence})
    instances = sorted({ref.sop_instance_uid for ref in evidence})
    return _digest((*studies, *instances, repr(algorithm), repr(timeless)))


def _digest(parts: tuple[str, ...]) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
