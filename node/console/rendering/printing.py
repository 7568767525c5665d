"""A report on paper, from what the node keeps of a reading; it runs in the process that decodes files."""

from pathlib import Path

from ainode.node.domain import NO_UID, Document, DocumentKind, InstanceRef
from ainode.node.reports.answers import answer_of
from ainode.node.reports.printed import report_pdf
from ainode.node.reports.text import report_text

_NO_REF = InstanceRef(NO_UID, NO_UID, NO_UID, NO_UID)


def printed_pdf(summary: str, documents: tuple[tuple[str, Path], ...]) -> bytes:
    """Return the report.pdf of a result.json and its documents, each with its kind, in the order of sending."""
    pictures = tuple(Document(DocumentKind(kind), _NO_REF, path.read_bytes()) for kind, path in documents)
    return report_pdf(answer_of(summary), pictures)


def printed_text(summary: str) -> bytes:
    """Return the report.txt of a result.json."""
    return report_text(answer_of(summary)).encode()
