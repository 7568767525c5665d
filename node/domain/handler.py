"""The interface of a handler, and the nouns that only handlers use. The node knows nothing else of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from ainode.node.domain.dicom import UID, Header, Instance, Location, Position, Series, Study
from ainode.node.domain.findings import OutOfScope, Result


@dataclass(frozen=True, slots=True)
class Selection:
    """The series that a handler reads: of the current study first, then of its priors, the newest first."""

    study_instance_uid: UID
    series: tuple[Series, ...]
    locations: tuple[Location, ...] = ()
    declined: Mapping[str, "OutOfScope"] = field(default_factory=dict, hash=False)
    """locations, organs and images that are not read, by name such as `nodule 11` or by UID, with the reason"""
    wanted_candidates: int = 0
    """as many candidates `read` searches beside the locations; 0: no search"""

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Return every selected instance."""
        return tuple(instance for series in self.series for instance in series.instances)


@dataclass(frozen=True, slots=True)
class SyntheticImage:
    """A made-up image: pixels row by row, little-endian 16 bit gray or 8 bit RGB, and header values."""

    rows: int
    columns: int
    pixels: bytes = field(repr=False)
    header: Header = field(hash=False)
    samples: int = 1
    """1 for gray, 3 for interleaved RGB"""


SYNTHETIC_PATIENT_ID: Final = "SYNTHETIC"
"""the Patient ID of each study that the node makes up"""
SELF_TEST_PATIENT_ID: Final = "SYNTHETIC-SELF-TEST"
"""the Patient ID of the studies by which the node tests its routes: their documents leave the node for nobody"""
SELF_TEST_PEER: Final = "self-test"
"""the destination of these documents, which the node itself opens on loopback; no [[peer]] has the name"""
SELF_TEST_MODALITY: Final = "OT"
"""the modality of the picture that the node makes up to test its way up to the routes; no handler's study has it"""


@dataclass(frozen=True, slots=True)
class SyntheticStudy:
    """A made-up study for demonstrations; a report (TID 1500) names its `positions_mm`."""

    images: tuple[SyntheticImage, ...]
    positions_mm: tuple[Position, ...] = ()
    priors: "tuple[SyntheticStudy, ...]" = ()
    """two earlier dates of the patient at most, the oldest first; an example in the console has them, `demo` has not"""


@runtime_checkable
class Looking(Protocol):
    """A handler that looks at a few pixels before it reads, so that an explanation has the answer without a network."""

    def look(self, selection: Selection) -> Selection | OutOfScope:
        """Return the selection, or a part of it, after a look at few of its pixels; load no network."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """A handler that can load its networks before the first study comes: then they lie converted on the disk."""

    def prepare(self) -> tuple[object, ...]:
        """Return what the first reading would load, loaded."""
        ...


@runtime_checkable
class Handler(Protocol):
    """Turns a study into a result."""

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the series to read. Look at headers alone, load no network."""
        ...

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return the answer of the model on the selection."""
        ...

    def weights(self) -> tuple[str, ...]:
        """Return the names in the weights manifest that this handler needs."""
        ...

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic study that this handler reads."""
        ...
