"""What a person says of a report, for the listeners that were told of the report: as HL7 and as FHIR.

A judgement changes what a listener holds, so it goes out in the language and by the names of what was sent before.
"""

from ainode.node.domain import NO_UID, AssessmentRequest, Document, DocumentKind, InstanceRef, SentMessage
from ainode.node.identity import made_uid
from ainode.node.reports.assessment import assessment_uid
from ainode.node.reports.judged_bundle import judged_bundle
from ainode.node.reports.judged_hl7 import judged_hl7


def judged_messages(request: AssessmentRequest) -> tuple[Document, ...]:
    """Return a message about a judgement for each listener that was told of the report.

    Raises: ReportError if the report cannot be read.
    """
    return tuple(_message(request, sent) for sent in request.messages)


def _message(request: AssessmentRequest, sent: SentMessage) -> Document:
    uid = made_uid("judged message", sent.uid, assessment_uid(request))
    content = sent.path.read_bytes()
    write = judged_bundle if sent.kind is DocumentKind.BUNDLE else judged_hl7
    ref = InstanceRef(request.report.study_instance_uid, NO_UID, NO_UID, uid)
    return Document(sent.kind, ref, write(request, content), sent.destination)
