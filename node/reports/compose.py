"""All documents of an answer in the order of sending: the report follows its captures, which have arrived by then.

Messages come last; they go to listeners, and no archive gets one.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from ainode.node.domain import UID, Document, DocumentContext, DocumentKind, InstanceRef, OutOfScope, Result
from ainode.node.errors import ReportError
from ainode.node.imaging.decoding import BROKEN_FILE
from ainode.node.reports.bundles import bundles
from ainode.node.reports.messages import messages
from ainode.node.reports.secondary_capture import secondary_captures
from ainode.node.reports.structured_report import out_of_scope_report, report_ref, structured_report

log = logging.getLogger(__name__)


def documents(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> tuple[Document, ...]:
    """Return captures, optional documents, the report and the messages of a result.

    `sources` maps SOP Instance UID to file.

    Raises: ReportError if the result cannot be encoded; BrokenSeries if an image to draw on cannot be decoded.
    """
    captures = secondary_captures(result, sources, context)
    kinds = (kind for kind in context.optional if kind is not DocumentKind.PDF)
    optional = [*chain.from_iterable(_optional_documents(kind, result, sources, context) for kind in kinds)]
    report = structured_report(result, sources, context)
    page = _page(result, (*captures, report), sources, context)
    return (*captures, *optional, *page, report, *_for_listeners(result, report.ref, sources, context))


def _page(
    answer: Result | OutOfScope, documents: Sequence[Document], sources: Mapping[UID, Path], context: DocumentContext
) -> tuple[Document, ...]:
    """Return the page of report.pdf where some destination asks for it; a failure gives none."""
    if DocumentKind.PDF not in context.optional:
        return ()
    try:
        from ainode.node.reports.encapsulated_pdf import encapsulated_pdf  # noqa: PLC0415

        return (encapsulated_pdf(answer, documents, sources, context),)
    except (ReportError, *BROKEN_FILE) as error:
        return _left_out(DocumentKind.PDF, documents[-1].ref.study_instance_uid, error)


def early_documents(result: Result, sources: Mapping[UID, Path], context: DocumentContext) -> tuple[Document, ...]:
    """Return the messages of a result before its report is made: byte for byte those that `documents` returns.

    Raises: ReportError if a header cannot be read.
    """
    return _for_listeners(result, report_ref(result, context), sources, context)


def _for_listeners(
    answer: Result | OutOfScope, report: InstanceRef, sources: Mapping[UID, Path], context: DocumentContext
) -> tuple[Document, ...]:
    return (*messages(answer, report, sources, context), *bundles(answer, report, sources, context))


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
        return _left_out(kind, result.study_instance_uid, error)


def _left_out(kind: DocumentKind, uid: UID, error: Exception) -> tuple[Document, ...]:
    """Log that a document is left out; only the class of the error: a message of pydicom may quote the header."""
    message = f"study {uid}: no {kind} can be made of its headers ({type(error).__name__})"
    log.warning(message, extra={"action": "optional_left_out", "study_instance_uid": uid})
    return ()


def documents_out_of_scope(
    reason: OutOfScope, sources: Mapping[UID, Path], context: DocumentContext
) -> tuple[Document, ...]:
    """Return the report of the reason why nothing was read, its page and its messages.

    Raises: ReportError if the reason has no evidence, or a file of the evidence cannot be read.
    """
    report = out_of_scope_report(reason, sources, context)
    page = _page(reason, (report,), sources, context)
    return (*page, report, *_for_listeners(reason, report.ref, sources, context))
