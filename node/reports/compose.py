"""All documents of one answer, in the order in which they are sent: the report last, when its captures are there."""

from collections.abc import Mapping
from pathlib import Path

from ainode.node.domain import UID, Document, DocumentContext, OutOfScope, Result
from ainode.node.reports.secondary_capture import secondary_captures
from ainode.node.reports.structured_report import out_of_scope_report, structured_report


def documents(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> tuple[Document, ...]:
    """Return the captures and the report; `sources` is the file of each SOP Instance UID.

    Raises: ReportError if the result cannot be encoded; BrokenSeries if an image to draw on cannot be decoded.
    """
    return (*secondary_captures(result, sources, context), structured_report(result, sources, context))


def documents_out_of_scope(
    reason: OutOfScope, sources: Mapping[UID, Path], context: DocumentContext
) -> tuple[Document, ...]:
    """Return the report that says why nothing was read.

    Raises: ReportError if the reason names no evidence, or its file cannot be read.
    """
    return (out_of_scope_report(reason, sources, context),)
