"""Small studies for the handler of the tests, and how they are sent to a node."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.association import Association

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from support.node import RunningNode

SIDE = 320
"""rows and columns of an image: as many as the boxes of the handler need"""


@dataclass(frozen=True, slots=True)
class WrittenStudy:
    """A study as files."""

    uid: str
    paths: tuple[Path, ...]


def written(folder: Path, name: str, *, instances: int = 1, order: str = "read", side: int = SIDE) -> WrittenStudy:
    """Write a study of noise that gives the handler this order."""
    images = [
        testing.noise(side, side, seed=number, SeriesDescription=order, BodyPartExamined="TSPINE")
        for number in range(instances)
    ]
    return WrittenStudy(testing.uid(name), testing.write(images, folder / name, study=name))


def stored(node: RunningNode, *studies: WrittenStudy) -> list[int | None]:
    """Send the studies on one association; return the status of each C-STORE, None where none was answered."""
    return statuses(node, [path for study in studies for path in study.paths])


def statuses(node: RunningNode, paths: Sequence[Path]) -> list[int | None]:
    """Send the files on one association; return the status of each C-STORE, None where none was answered."""
    answers = send(Link(node.peer, "MODALITY"), [Outgoing.of(path) for path in paths])
    return [answer.status for answer in answers]


def associate(node: RunningNode, path: Path) -> Association:
    """Open an association for the objects of a file's class and transfer syntax, and leave it open."""
    caller = AE("MODALITY")
    dataset = dcmread(path)
    caller.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = caller.associate("127.0.0.1", node.port, ae_title="AINODE")
    assert association.is_established
    return association
