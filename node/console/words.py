"""The page that says what the words of the pages mean: states, verdicts, documents, figures."""

from typing import Final

from fastapi import APIRouter, Request, Response

from ainode.node.console.entry.access import Viewer
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts

WORDS: Final = {
    (
        "absent",
    ): "of a finding: the probability does not lie above the threshold of the model; no proof that nothing is there",
    ("accepted", "changed", "rejected"): "what a person judged of an answer: it is right; right but for what the "
    "person states instead; wrong",
    ("addendum", "addendum by a person"): "a document of what a person judges of a report; it goes where the report "
    "went, after it, and the report is not changed",
    ("agreed", "agreement"): "of the readings that persons judged, how many they accepted",
    ("alert",): "a notification of what the node has to say of itself, such as a self-test that failed",
    ("announced", "announced, nothing came"): "another system said that a study will come, and no image of it came yet",
    ("attribute", "keyword"): "a field of a DICOM header, such as BodyPartExamined",
    ("AUC",): "how often a model gives an ill case the higher number than a healthy one: 0.5 is chance, 1 is perfect",
    ("being read",): "a model works at the study now",
    ("cancelled",): "an operator took the reading back before it began, and it can be read again; on the page Not read "
    "also a reading that was withdrawn before it had a result",
    ("capture",): "a picture that the node made, with what the model marked drawn in; the archive has it as DICOM "
    "secondary capture",
    ("card",): "what the makers of a model say of it: what it is for and not for, its tests, its limits",
    ("checking",): "the archive is asked whether it still has a document",
    ("confirmed",): "the destination proved that it has the document; “sent” alone is no proof",
    ("dead letter",): "a reading, or documents for a destination, that failed and that the node tries no more by "
    "itself",
    ("declined",): "a route chose the study, and the model, or a check before the model, found that the study is "
    "nothing for the model: an answer, no error",
    ("demonstration weights",): "weights that show that the node works, and are not ready for patients: they learned "
    "from synthetic studies, a number that knows no anatomy does nearly as well, or a second source contradicts them. "
    "Their answers stay in the node unless the route allows them",
    ("destination", "peer"): "another system, such as an archive; a route names the destinations of its documents",
    ("Dice",): "how well an outline covers the true one: 0 is not at all, 1 is exactly",
    ("document", "object of a program"): "a DICOM object that the node makes of an answer: structured report, "
    "capture, segmentation, presentation state, PDF; or what a program of the site wrote",
    ("draw of noise",): "one run of a diffusion model, which begins with random noise. The probability is the mean of "
    "several draws, and the lowest and the highest say how far noise moves it; the diffusion mean is what they say "
    "before the other networks are mixed in",
    ("drift",): "the answers of a model have changed over the weeks: other patients, another scanner, or a fault",
    ("failed", "failure", "delivery failed"): "a reading ended with an error, or a destination did not take a "
    "document; the reason stands beside it",
    ("files unusable",): "the files of a study cannot be read, or are not those that came",
    ("handler",): "the part of the node that answers one question with one or more models; a route names it",
    ("image or object", "instance"): "an image of a study, or something else in it, such as a report or a mark",
    ("indeterminate",): "of a finding: neither present nor absent; the probability lies in a band about the "
    "threshold, or a place was marked without a probability",
    ("interval",): "where the true figure lies with a certainty of 95 %; of few cases the interval is wide",
    ("job",): "one reading of one study by one route; the log names it by its number",
    ("live",): "of a route: its documents are sent to its destinations",
    ("live or shadow",): "of a route: not known yet, since its model has not told whether its weights are for "
    "demonstration",
    ("message", "HL7 message", "FHIR transaction"): "the answer in the language of a RIS (HL7) or an EHR (FHIR)",
    ("model",): "what computes an answer from images; its weights are what it learned",
    ("no route matched",): "no route takes a study like this: it was received and kept, and not read",
    ("not complete yet",): "more images may come; the node waits until none came for a while",
    ("not confirmed yet",): "a document waits, or was sent without a proof yet that it arrived",
    ("not sent",): "an answer of before the node kept whether a route was live or a shadow: nobody got it",
    ("notification",): "a webhook, an e-mail or a file by which the node tells somebody that something happened",
    ("positive",): "of a reading: at least one finding is present",
    ("present",): "of a finding: the probability lies above the threshold of the model; a person has to look",
    ("presentation state",): "marks of the answer that a viewer draws over the images themselves",
    ("prior", "global and local prior"): "what a first network says of the whole chest, and of its regions, before "
    "the diffusion model starts from both. Of a study: an earlier study of the same patient",
    ("probability",): "the number of a model, from 0 to 1, that is compared with its threshold; of an ill patient "
    "at your clinic it says less, since illness is rarer there than in a test",
    ("queue",): "of a notification: something has waited for too long",
    ("read",): "a model computed its answer; a radiologist may still have to read the study",
    ("reader",): "a role of persons: judges results, tries files. In the log also the process that holds a model, "
    "here “reading process”",
    ("receiving",): "images of the study arrive now",
    ("rejected by a note",): "a rejection note (Key Object Selection) says that the images are not to be used",
    ("replaced", "replaced by a later reading"): "a later reading of the same study by the same route took the place "
    "of a reading",
    ("research weights",): "weights that were measured on patients of a public set, for research and not for clinical "
    "use",
    ("route",): "the conditions that a series must meet to be read by a model, and where the documents go",
    ("saliency",): "where in an image the model looked when it made its answer; no outline of a disease",
    ("segmentation",): "which pixels belong to what a model marked, as a DICOM object",
    ("self-test",): "a synthetic study that the node sends itself to see whether a route still works",
    ("sends nothing",): "of a route: it has no destination, so that what it makes stays in the node",
    ("sensitivity",): "of the ill cases of a test, the share that the model calls positive",
    ("sent", "sent, not confirmed"): "the destination took the document; that it kept it is not proved yet",
    ("series",): "images that were made together; a study has one or more, each with a number",
    ("shadow",): "a route whose documents stay in the node: for a comparison with a live route, or because its "
    "weights are for demonstration and the route does not allow them",
    ("shortcuts",): "what frame, noise, grays and size of a picture tell alone, without anatomy: a model that is no "
    "better may have learned the scanner",
    ("site weights",): "weights that the site itself made or brought, under its own responsibility: what the "
    "reports say of the shipped weights is not said of them",
    ("specificity",): "of the healthy cases of a test, the share that the model does not call positive",
    ("stay in the node",): "documents that were made and are not sent: of a shadow route, or of demonstration weights",
    ("structured report",): "the answer as a DICOM object with codes, which the archive keeps beside the images",
    ("synthetic",): "made up by the node; no patient is in it",
    ("test",): "of a notification: somebody tried whether it arrives, and nothing happened. Of a model: cases that "
    "it did not learn from",
    ("threshold",): "the number above which a probability is called present",
    ("UID", "identifier"): "the number by which DICOM knows a study, a series or an image",
    ("urgent",): "read before all others: a header of the images, a worklist or a person says so",
    ("viewer", "operator", "administrator"): "roles of persons: looks; also has studies read and delivered again; "
    "also makes persons and takes up changed files. A reader stands between viewer and operator",
    ("waiting", "waits"): "next in turn: a reading whose model is at another study, or a document on its way",
    ("weights",): "what a model learned, in a file; they are demonstration, research or site weights",
    ("withdrawn",): "a result that does not hold any more, or a reading whose images a note rejects; what an archive "
    "still has of it is to be deleted there",
    ("workitem",): "an entry of the worklist of an archive that says what is to be read; the node takes it and ends it",
}
"""what the pages call a thing, the other names of it, and what that means, in the order of the page"""


def router(_: Parts) -> APIRouter:
    """Return the route of the page."""
    routes = APIRouter()

    @routes.get("/words")
    def words(request: Request, _: Viewer) -> Response:
        """Return the page."""
        return render(request, "words.html", words=WORDS)

    return routes
