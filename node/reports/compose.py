"""All documents of one answer, in the order in which they are sent: the report last, when its captures are there."""

import logging
from collections.abc import Mapping
from pathlib import Path

from ainode.node.domain import UID, Document, DocumentContext, DocumentKind, OutOfScope, Result
from ainode.node.errors import ReportError
from ainode.node.imaging.pixels import BROKEN_FILE
from ainode.node.reports.presentation_state import presentation_states
from ainode.node.reports.secondary_capture import secondary_captures
from ainode.node.reports.segmentation import segmentations
from ainode.node.reports.structured_report import out_of_scope_report, structured_report

log = logging.getLogger(__name__)


def documents(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> tuple[Document, ...]:
    """Return the captures, what else is wanted, and the report; `sources` is the file of each SOP Instance UID.

    Raises: ReportError if the result cannot be encoded; BrokenSeries if an image to draw on cannot be decoded.
    """
    wanted = (document for kind in context.optional for document in _optional(kind, result, sources, context))
    return (*secondary_captures(result, sources, context), *wanted, structured_report(result, sources, context))


def _optional(
    kind: DocumentKind, result: Result, sources: Mapping[UID, Path], context: DocumentContext
) -> tuple[Document, ...]:
    """Return the documents of one optional kind; none if the sources do not allow it: the report is not lost for it."""
    try:
        if kind is DocumentKind.PRESENTATION_STATE:
            return presentation_states(result, sources, context)
        return segmentations(result, sources, context, kind=kind)
    except (ReportError, *BROKEN_FILE) as error:
        # By its class alone: a message of pydicom may quote the header.
        what = f"study {result.study_instance_uid}: no {kind} can be made of its headers ({type(error).__name__})"
        log.warning(what, extra={"action": "optional_left_out", "study_instance_uid": result.study_instance_uid})
        return ()


def documents_out_of_scope(
    reason: OutOfScope, sources: Mapping[UID, Path], context: DocumentContext
) -> tuple[Document, ...]:
    """Return the report that says why nothing was read.

    Raises: ReportError if the reason names no evidence, or its file cannot be read.
    """
    return (out_of_scope_report(reason, sources, context),)
