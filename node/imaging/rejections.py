"""Rejection notes: Key Object Selection documents which say that instances are not to be used.

Source: IHE RAD TF-2 4.66 (Imaging Object Change Management), PS3.3 A.35.4, PS3.16 TID 2010 and CID 7011.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.uid import KeyObjectSelectionDocumentStorage

from ainode.node.domain import UID, Code, Header, InstanceRef, Value
from ainode.node.encoding import headers
from ainode.node.encoding.file_content import FileContent
from ainode.node.errors import CannotUnderstand

# PS3.16 CID 7011. Every other title, such as 113000 Of Interest and 113030 Manifest, rejects nothing.
_TITLES: Final[Mapping[str, str]] = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
_SCHEME: Final = "DCM"
# References stand in the evidence (PS3.3 C.17.2.3) and in the content tree; both ought to have all of them. Identical
# Documents Sequence, which names the copies of the note itself, is none of these.
_REFERENCES: Final = (
    "CurrentRequestedProcedureEvidenceSequence",
    "ReferencedSeriesSequence",
    "ReferencedSOPSequence",
    "ContentSequence",
)
_TITLE, _INSTANCE = "ConceptNameCodeSequence", "ReferencedSOPInstanceUID"
_KEYWORDS: Final = frozenset((*_REFERENCES, _TITLE, _INSTANCE, "CodeValue", "CodingSchemeDesignator"))
# A note on 10,000 slices, each named in both places, has 3 MB.
_LARGEST_BYTES: Final = 16 * 1024**2
_MOST_REFERENCES: Final = 200_000


@dataclass(frozen=True, slots=True)
class Rejection:
    """What a rejection note says, and of which instances."""

    note: UID
    """SOP Instance UID of the note"""
    title: Code
    sop_instance_uids: frozenset[UID]

    def __str__(self) -> str:
        """Return the title and the note, in words that follow `rejected by`."""
        return f"{self.title.value} {self.title.scheme} {self.title.meaning}, note {self.note}"


def is_key_object(ref: InstanceRef) -> bool:
    """Whether an instance may be a rejection note."""
    return str(ref.sop_class_uid) == KeyObjectSelectionDocumentStorage


def rejection(path: Path, ref: InstanceRef) -> Rejection | None:
    """Return what the Key Object Selection document of a file rejects, None if it rejects nothing by its title.

    Raises: CannotUnderstand if the note is too large or names no instance; OSError.
    """
    if path.stat().st_size > _LARGEST_BYTES:
        raise CannotUnderstand(
            f"a Key Object Selection of more than {_LARGEST_BYTES} bytes: nobody looked whether it rejects images"
        )
    with path.open("rb", buffering=0) as file:
        _, header = headers.header(FileContent(file.fileno()), _KEYWORDS, most_items=_MOST_REFERENCES)
    title = _title(header)
    if title is None:
        return None
    uids = frozenset(UID(uid) for keyword in _REFERENCES for uid in _references(header.get(keyword, ())))
    if not uids:
        raise CannotUnderstand(f"a rejection note ({title.value} {title.meaning}) that names no instance")
    return Rejection(ref.sop_instance_uid, title, uids)


def rejections(files: Iterable[tuple[Path, InstanceRef]]) -> Iterator[Rejection]:
    """Yield what the rejection notes among the files of a study say; a note that cannot be read says nothing here.

    Raises: OSError.
    """
    for path, ref in files:
        if is_key_object(ref):
            with suppress(CannotUnderstand):
                if note := rejection(path, ref):
                    yield note


def _title(header: Header) -> Code | None:
    """Return the Document Title, None if it is none of a rejection note."""
    items = header.get(_TITLE)
    for item in items if isinstance(items, tuple) else ():
        if isinstance(item, Mapping) and item.get("CodingSchemeDesignator") == _SCHEME:
            value = str(item.get("CodeValue", ""))
            if value in _TITLES:
                return Code(value, _SCHEME, _TITLES[value])
    return None


def _references(sequence: Value) -> Iterator[str]:
    """Yield each Referenced SOP Instance UID within the items of a sequence, at every level."""
    for item in sequence if isinstance(sequence, tuple) else ():
        if isinstance(item, Mapping):
            uid = item.get(_INSTANCE)
            if isinstance(uid, str) and uid:
                yield uid
            for keyword in _REFERENCES:
                yield from _references(item.get(keyword, ()))
