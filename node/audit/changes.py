"""Configuration and weights at each start of a node, beside those of the start before."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from ainode.node.audit.messages import SOFTWARE_CONFIGURATION, Message, alert
from ainode.node.disk import write_durably
from ainode.node.identity import digest
from ainode.node.settings import Settings

_CREDENTIALS: Final = re.compile(r"//[^/@]*@")


def start_alert(settings: Settings, weights: Mapping[str, str]) -> Message:
    """Return an alert with the sha256 of configuration and weights at this start, and with what has changed.

    The digests of the last start are in a file of the trail's folder; each start is a record with its own.
    Raises: OSError if the file cannot be written.
    """
    tables = settings.model_dump(mode="json")
    # A digest over a short password would let somebody guess the password.
    tables["database"] = _CREDENTIALS.sub("//", settings.database.url)
    digests = {"configuration": digest(tables), **{f"weights {name}": value for name, value in weights.items()}}
    path, earlier = settings.data / "audit" / "digests", {}
    with suppress(FileNotFoundError, ValueError):
        earlier = dict(json.loads(path.read_text(encoding="utf-8")))
    changed = [name for name in sorted(digests.keys() | earlier.keys()) if digests.get(name) != earlier.get(name)]
    sentence = f"changed since the last start: {', '.join(changed)}" if changed else "as at the last start"
    if changed:
        write_durably(path, json.dumps(digests).encode(), mode=0o600)
    first = "the first start with a trail"
    return alert(SOFTWARE_CONFIGURATION, "urn:ainode:configuration", sentence if earlier else first, digests)
