"""One module per DICOM object that leaves the node; strict on encoding."""

from ainode.node.reports.compose import documents, documents_out_of_scope, early_documents
from ainode.node.reports.printed import report_pdf
from ainode.node.reports.text import report_text, result_json

__all__ = ["documents", "documents_out_of_scope", "early_documents", "report_pdf", "report_text", "result_json"]
