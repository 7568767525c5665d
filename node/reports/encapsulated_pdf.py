"""An answer as an Encapsulated PDF in the study of the images: the page of report.pdf, for viewers that show no SR."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from highdicom.base import SOPClass
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM

from ainode.node.domain import UID, Document, DocumentContext, DocumentKind, InstanceRef, OutOfScope, Result
from ainode.node.identity import MANUFACTURER, MODEL_NAME, made_uid
from ainode.node.reports.printed import report_pdf
from ainode.node.reports.requests import copy_requests
from ainode.node.reports.series import series_description, series_number
from ainode.node.reports.source_header import (
    complete_document,
    creation_time,
    encoded_document,
    header_of,
    software_versions,
)
from ainode.node.reports.text import title

_REFUSED: Final = "AI study not analyzed (RUO)"


def encapsulated_pdf(
    answer: Result | OutOfScope,
    documents: Sequence[Document],
    sources: Mapping[UID, Path],
    context: DocumentContext,
) -> Document:
    """Return the page as a document; `documents` are the captures and, as the last, the report of the same answer.

    Raises: ReportError if the header of the first evidence cannot be read.
    Source: PS3.3 A.45.1, C.24.
    """
    report = documents[-1].ref
    algorithm = answer.algorithm if isinstance(answer, Result) else None
    header = header_of(answer.evidence[0], sources)
    created = creation_time(header, context)
    digest = f"pdf of {report.sop_instance_uid}"
    document = SOPClass(
        study_instance_uid=report.study_instance_uid,
        series_instance_uid=made_uid("pdf series", report.sop_instance_uid),
        series_number=series_number(DocumentKind.PDF, digest, context),
        sop_instance_uid=made_uid("pdf", report.sop_instance_uid),
        sop_class_uid=EncapsulatedPDFStorage,
        instance_number=1,
        modality="DOC",
        manufacturer=MANUFACTURER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_qualification="RESEARCH",
        series_description=series_description(answer.title, answer.algorithm)
        if isinstance(answer, Result)
        else _REFUSED,
        manufacturer_model_name=MODEL_NAME,
        device_serial_number=context.device_uid,
        content_date=DA(created.date()),
        content_time=TM(created.time()),
        series_date=DA(created.date()),
        series_time=TM(created.time()),
        specific_character_set="ISO_IR 192",
    )
    # highdicom's type for it is one version.
    setattr(document, "SoftwareVersions", software_versions(context, algorithm))  # noqa: B010
    _add_page(document, answer, report, report_pdf(answer, documents))
    complete_document(document, header, context, algorithm)
    copy_requests(document, header)
    return encoded_document(DocumentKind.PDF, document)


def _add_page(document: SOPClass, answer: Result | OutOfScope, report: InstanceRef, page: bytes) -> None:
    """Add the modules SC Equipment and Encapsulated Document (PS3.3 C.8.6.1, C.24.2)."""
    document.ConversionType = "WSD"
    document.AcquisitionDateTime = ""
    document.BurnedInAnnotation = "YES"  # the page names the patient
    document.SourceInstanceSequence = [_reference(report)]
    document.DocumentTitle = title(answer)
    is_result = isinstance(answer, Result)
    document.ConceptNameCodeSequence = [
        _code(codes.DCM.ImagingMeasurementReport if is_result else codes.LN.DiagnosticImagingReport)
    ]
    document.VerificationFlag = "UNVERIFIED"
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocument = page + b"\0" * (len(page) % 2)
    document.EncapsulatedDocumentLength = len(page)


def _reference(ref: InstanceRef) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = ref.sop_class_uid, ref.sop_instance_uid
    return reference


def _code(code: DicomCode) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
