"""The data sets of storage commitment (PS3.4 tables J.3-1 and J.3-2), decoded without pydicom."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from ainode.node.domain import UID
from ainode.node.encoding.dataset_scan import valid_uid
from ainode.node.encoding.elements import (
    DEFLATED,
    Buffer,
    Element,
    Inflated,
    Plain,
    encoding_of,
    inside,
    outermost,
    walk,
)
from ainode.node.errors import CannotUnderstand
from ainode.node.receiving.commitment_files import CommitmentReport, CommitmentRequest

# The largest study that is known has 50,000 instances. References of the usual length have 16 MB.
MAX_REFERENCES: Final = 100_000
MAX_BYTES: Final = 16 << 20
Reference = TypeVar("Reference")
_SOP_CLASS, _SOP_INSTANCE, _TRANSACTION = 0x00081150, 0x00081155, 0x00081195
_REASON, _FAILED, _REFERENCED = 0x00081197, 0x00081198, 0x00081199
_ATTRIBUTES: Final[Mapping[int, tuple[str, bytes]]] = {
    _SOP_CLASS: ("ReferencedSOPClassUID", b"UI"),
    _SOP_INSTANCE: ("ReferencedSOPInstanceUID", b"UI"),
    _TRANSACTION: ("TransactionUID", b"UI"),
    _REASON: ("FailureReason", b"US"),
    _FAILED: ("FailedSOPSequence", b"SQ"),
    _REFERENCED: ("ReferencedSOPSequence", b"SQ"),
}
# PS3.5 6.2.2: UN stands for any VR; Implicit VR has none.
_ANY_VR: Final = frozenset({b"", b"UN"})
_US_BYTES: Final = 2
# PS3.7 annex C, Processing failure: the reason of a failed item that states none.
_PROCESSING_FAILURE: Final = 0x0110


def request_of(encoded: Buffer, transfer_syntax_uid: str, calling_ae_title: str) -> CommitmentRequest:
    """Return the request in the data set of an N-ACTION.

    Raises: CannotUnderstand if the data set is broken, or lacks what the standard requires.
    """
    data_set = _data_set(encoded, transfer_syntax_uid)
    references = _bounded((item.uid(_SOP_CLASS), item.uid(_SOP_INSTANCE)) for item in data_set.items(_REFERENCED))
    if not references:
        raise CannotUnderstand("ReferencedSOPSequence is missing; name the instances to commit")
    return CommitmentRequest(calling_ae_title, data_set.uid(_TRANSACTION), references)


def report_of(encoded: Buffer, transfer_syntax_uid: str) -> CommitmentReport:
    """Return the report in the data set of an N-EVENT-REPORT.

    Raises: CannotUnderstand if the data set is broken, or lacks what the standard requires.
    """
    data_set = _data_set(encoded, transfer_syntax_uid)
    committed = _bounded(item.uid(_SOP_INSTANCE) for item in data_set.items(_REFERENCED))
    failed = _bounded((item.uid(_SOP_INSTANCE), item.failure_reason()) for item in data_set.items(_FAILED))
    return CommitmentReport(data_set.uid(_TRANSACTION), committed, failed)


def _bounded(references: Iterator[Reference]) -> tuple[Reference, ...]:
    """Return the references.

    Raises: CannotUnderstand at the first that is broken, and beyond the limit.
    """
    bounded = tuple(islice(references, MAX_REFERENCES + 1))
    if len(bounded) > MAX_REFERENCES:
        raise CannotUnderstand(f"over {MAX_REFERENCES} references; request fewer instances at once")
    return bounded


@dataclass(frozen=True, slots=True)
class _DataSet:
    """Those elements of a data set, or of an item, that storage commitment has."""

    content: Buffer
    elements: Mapping[int, Element]

    @classmethod
    def of(cls, content: Buffer, elements: Iterable[Element]) -> "_DataSet":
        """Return the outermost elements.

        Raises: CannotUnderstand if they are cut off, or one has another VR.
        """
        by_tag = {element.tag: element for element in outermost(elements) if element.tag in _ATTRIBUTES}
        for element in by_tag.values():
            keyword, vr = _ATTRIBUTES[element.tag]
            if element.vr not in {*_ANY_VR, vr}:
                raise CannotUnderstand(f"{keyword} has VR {element.vr.decode()}, not {vr.decode()}")
        return cls(content, by_tag)

    def items(self, tag: int) -> Iterator["_DataSet"]:
        """Yield the items of a sequence one by one, none if the sequence is absent."""
        sequence = self.elements.get(tag)
        if sequence is not None:
            for item in outermost(inside(self.content, sequence)):
                yield _DataSet.of(self.content, inside(self.content, item))

    def uid(self, tag: int) -> UID:
        """Return a UID.

        Raises: CannotUnderstand if the UID is missing, or none.
        """
        return valid_uid(self._value(tag), _ATTRIBUTES[tag][0])

    def failure_reason(self) -> int:
        """Return why an instance was not committed; an empty value states no reason.

        Raises: CannotUnderstand if the value is no US.
        """
        value = self._value(_REASON)
        if not value:
            return _PROCESSING_FAILURE
        if len(value) != _US_BYTES:
            raise CannotUnderstand("FailureReason is no US of two bytes")
        return int.from_bytes(value, "big" if self.elements[_REASON].encoding.order == ">" else "little")

    def _value(self, tag: int) -> bytes:
        element = self.elements.get(tag)
        return self.content[element.begin : element.begin + element.length] if element else b""


def _data_set(encoded: Buffer, transfer_syntax_uid: str) -> _DataSet:
    if transfer_syntax_uid in DEFLATED:
        encoded = _inflated(encoded)
    source = Plain(encoded)
    return _DataSet.of(encoded, walk(source, encoding_of(source, transfer_syntax_uid)))


def _inflated(encoded: Buffer) -> bytes:
    source = Inflated(encoded, 0)
    content = source.read(0, MAX_BYTES + 1)
    if source.end != len(content):
        raise CannotUnderstand("deflated data set is cut off or too long; request fewer instances")
    return content
