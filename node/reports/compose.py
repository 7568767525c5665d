"""All documents of an answer in the order of sending: the report follows its captures, which have arrived by then.

Messages come last; they go to listeners, and no archive gets one.
"""

import logging
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from ainode.node.domain import UID, Document, DocumentContext, DocumentKind, OutOfScope, Result
from ainode.node.errors import ReportError
from ainode.node.imaging.decoding import BROKEN_FILE
from ainode.node.reports.messages import messages
from ainode.node.reports.secondary_capture import secondary_captures
from ainode.node.reports.structured_report import out_of_scope_report, structured_report

log = logging.getLogger(__name__)


def documents(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> tuple[Document, ...]:
    """Return captures, optional documents, the report and the messages of a result.

    `sources` maps SOP Instance UID to file.

    Raises: ReportError if the result cannot be encoded; BrokenSeries if an image to draw on cannot be decoded.
    """
    captures = secondary_captures(result, sources, context)
    optional = [*chain.from_iterable(_optional_documents(kind, result, sources, context) for kind in context.optional)]
    report = structured_report(result, sources, context)
    return (*captures, *optional, report, *messages(result, report.ref, sources, context))


def _optional_documents(
    kind: DocumentKind, result: Result, sources: Mapping[UID, Path], context: DocumentContext
) -> tuple[Document, ...]:
    """Return the documents of an optional kind; a failure is logged and gives none, so that the report still leaves."""
    # Most routes want neither of them, and highdicom's modules for them take time to import.
    try:
        if kind is DocumentKind.PRESENTATION_STATE:
            from ainode.node.reports.presentation_state import presentation_states  # noqa: PLC0415

            return presentation_states(result, sources, context)
        from ainode.node.reports.segmentation import segmentations  # noqa: PLC0415

        return segmentations(result, sources, context, kind=kind)
    except (ReportError, *BROKEN_FILE) as error:
        # Only the class of the error is logged: a message of pydicom may quote the header.
        uid = result.study_instance_uid
        message = f"study {uid}: no {kind} can be made of its headers ({type(error).__name__})"
        log.warning(message, extra={"action": "optional_left_out", "study_instance_uid": uid})
        return ()


def documents_out_of_scope(
    reason: OutOfScope, sources: Mapping[UID, Path], context: DocumentContext
) -> tuple[Document, ...]:
    """Return the report of the reason why nothing was read, and the messages of the reason.

    Raises: ReportError if the reason has no evidence, or a file of the evidence cannot be read.
    """
    report = out_of_scope_report(reason, sources, context)
    return (report, *messages(reason, report.ref, sources, context))
