"""The Patient ID of a study for an audit trail that shall hold it (`[audit] patient_id`)."""

import threading
from dataclasses import dataclass
from typing import Final

from ainode.node.domain import UID
from ainode.node.errors import NodeError
from ainode.node.keeping.catalog import Catalog
from ainode.node.priors.shelf import study_identity

# The record of a transfer is there before the intake has put its instances into the catalog.
_LOOKS: Final = 15
_PAUSE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class PatientIds:
    """Looks up the patient of a received study; an earlier study that was fetched has none here."""

    catalog: Catalog
    stopping: threading.Event
    """set while the node stops: then nobody waits for the catalog"""

    def of_study(self, study: str) -> str:
        """Return the Patient ID that an instance of the study has, '' if none can be read within three seconds."""
        for _ in range(_LOOKS):
            try:
                if stored := self.catalog.instances(UID(study)):
                    return study_identity(stored[0].path).patient.patient_id
            except (NodeError, OSError):  # a database that is away, or a file that has just been moved
                pass
            if self.stopping.wait(_PAUSE_S):
                break
        return ""
