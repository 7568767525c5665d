"""A reading as report.pdf, for the person who ran the reading: patient and study, one A4 page where there is room."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image as PillowImage
from pydicom import Dataset, dcmread
from reportlab import rl_config
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, Flowable, Image, Paragraph, SimpleDocTemplate, Spacer, Table

from ainode.node.domain import RESEARCH_USE_ONLY, Document, DocumentKind, OutOfScope, Result
from ainode.node.reports.dates import iso_date
from ainode.node.reports.text import FROM, SCORES, Rows, sections, title
from ainode.node.reports.words import VERDICT_COLORS

_MARGIN, _WIDTH = 40, A4[0] - 80
_PICTURE_HEIGHTS = (420, 360, 300, 240, 180)
"""of the key picture, in points: the greatest with which all fits on a page"""
_VERDICT_SIZES = ((2, 20), (5, 14), (12, 11))
"""number of verdicts at most, and the size of their letters"""
_SCORE_COLUMNS = 3
_WARNING = colors.HexColor("#a04000")
_LETTERS_NOTE = (
    "Letters that the font of this page lacks are written as the Latin letter below them or as ?, and a name that the "
    "source also writes in Latin letters is written so. The DICOM report beside this file has every letter."
)


@dataclass(frozen=True, slots=True)
class _Identity:
    """Patient and study in words, as the source has them."""

    patient: tuple[str, ...]
    study: tuple[str, ...]
    is_whole: bool
    """whether the page shows every letter"""


def report_pdf(answer: Result | OutOfScope, documents: Sequence[Document] = ()) -> bytes:
    """Return the answer as a PDF, with patient and study of its documents; the same answer gives the same bytes."""
    picture = next(map(_picture, _captures(documents)), None)
    if picture is None:
        return _pages(answer, documents)[0]
    # A picture is compressed once: the pages are tried with one pixel in its place.
    pixel = PillowImage.new("L", (1, 1))
    sizes = [_size(picture, height) for height in _PICTURE_HEIGHTS]
    fitting = (size for size in sizes if _pages(answer, documents, _placed(pixel, size))[1] == 1)
    return _pages(answer, documents, _placed(picture, next(fitting, sizes[0])))[0]


def _pages(
    answer: Result | OutOfScope, documents: Sequence[Document], picture: Image | None = None
) -> tuple[bytes, int]:
    """Return the PDF with a key picture, and the number of its pages."""
    # Streams as bytes: their text form, ASCII85, takes reportlab a second of Python for a capture.
    rl_config.useA85 = 0
    content = BytesIO()
    template = SimpleDocTemplate(
        content,
        pagesize=A4,
        title=_printable(title(answer)),
        author="ainode",
        invariant=1,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
    )
    template.build(list(_story(answer, documents, picture)), onFirstPage=_footer, onLaterPages=_footer)
    return content.getvalue(), int(template.page)


def _footer(canvas: Canvas, template: BaseDocTemplate) -> None:
    canvas.setFont("Helvetica", 7)
    canvas.setFillColor(_WARNING)
    canvas.drawString(_MARGIN, _MARGIN / 2, RESEARCH_USE_ONLY)
    canvas.drawRightString(A4[0] - _MARGIN, _MARGIN / 2, f"page {template.page}")


def _story(answer: Result | OutOfScope, documents: Sequence[Document], picture: Image | None) -> Iterator[Flowable]:
    """Yield the page from top to bottom: who and what, the verdicts, the key picture, then what is for experts."""
    yield Paragraph(escape(_printable(title(answer))), _style(13, bold=True))
    if objects := [document for document in documents if not document.kind.is_message]:
        yield from _identity_flowables(_identity(objects[-1]))
    yield Spacer(1, 6)
    yield from _verdicts(answer)
    yield Paragraph(RESEARCH_USE_ONLY, _style(9, color=_WARNING))
    if picture:
        yield picture
    for heading, rows in sections(answer):
        size = 6.0 if heading == FROM else 8.0
        yield Paragraph(heading, _style(size + 1, bold=True, space=5))
        yield from [_score_table(rows)] if heading == SCORES else _row_paragraphs(rows, size)


def _style(size: float, *, bold: bool = False, color: object = colors.black, space: float = 1) -> ParagraphStyle:
    font = "Helvetica-Bold" if bold else "Helvetica"
    return ParagraphStyle(
        f"{font} {size} {color}", fontName=font, fontSize=size, leading=1.2 * size, spaceBefore=space, textColor=color
    )


def _identity_flowables(identity: _Identity) -> Iterator[Flowable]:
    cells = [
        [Paragraph(escape(line), _style(9, bold=number == 0)) for number, line in enumerate(lines)]
        for lines in (identity.patient, identity.study)
    ]
    style = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("BOX", (0, 0), (-1, -1), 0.5, colors.grey)]
    yield Spacer(1, 6)
    yield Table([cells], colWidths=(_WIDTH / 2, _WIDTH / 2), style=style)
    if not identity.is_whole:
        yield Paragraph(_LETTERS_NOTE, _style(6))


def _identity(document: Document) -> _Identity:
    """Return patient and study of a document; documents repeat those of their source, in UTF-8."""
    header = dcmread(BytesIO(document.content), stop_before_pixels=True)
    name, latin = header.get("PatientName"), ""
    if name:
        latin = name.family_comma_given().strip(", ") if name.alphabetic else str(name)
    patient = (
        f"Patient: {latin or 'no name'}",
        f"Patient ID: {_value(header, 'PatientID')}",
        f"born: {iso_date(header.get('PatientBirthDate')) or 'not stated'}",
    )
    study = (
        f"Study of {iso_date(header.get('StudyDate')) or 'no date'}",
        f"Study Description: {_value(header, 'StudyDescription')}",
        f"Accession Number: {_value(header, 'AccessionNumber')}",
    )
    is_whole = not (name and (name.ideographic or name.phonetic)) and all(
        line == _printable(line) for line in (*patient, *study)
    )
    return _Identity(tuple(map(_printable, patient)), tuple(map(_printable, study)), is_whole)


def _value(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "not stated")


def _printable(text: str) -> str:
    """Return the text in the letters of the font: the letter below an accent, or a question mark, for what it lacks."""
    return "".join(letter if _is_printable(letter) else _replaced(letter) for letter in text)


def _is_printable(letter: str) -> bool:
    # WinAnsiEncoding of the standard fonts (ISO 32000-1 annex D) is code page 1252.
    return letter.isprintable() and bool(letter.encode("cp1252", "ignore"))


def _replaced(letter: str) -> str:
    base = "".join(part for part in unicodedata.normalize("NFKD", letter) if _is_printable(part))
    return base or (" " if letter.isspace() else "?")


def _verdicts(answer: Result | OutOfScope) -> Iterator[Flowable]:
    """Yield each verdict large, with its numbers."""
    findings = [] if isinstance(answer, OutOfScope) else [finding for finding in answer.findings if finding.presence]
    size = next((size for most, size in _VERDICT_SIZES if len(findings) <= most), 9)
    for finding in findings:
        if finding.presence:
            red, green, blue = (round(0.55 * part) for part in VERDICT_COLORS[finding.presence])
            words = f"<b>{escape(_printable(finding.conclusion))}</b>"
            text = finding.verdict.numbers if finding.verdict else "a candidate without a verdict"
            numbers = f'<font size="{0.6 * size:g}" color="black">, {text}</font>'
            yield Paragraph(words + numbers, _style(size, color=colors.HexColor(f"#{red:02x}{green:02x}{blue:02x}")))


def _captures(documents: Sequence[Document]) -> list[Document]:
    return [document for document in documents if document.kind is DocumentKind.SECONDARY_CAPTURE]


def _picture(capture: Document) -> PillowImage.Image:
    """Return the pixels of a capture."""
    return PillowImage.fromarray(np.asarray(dcmread(BytesIO(capture.content)).pixel_array))


def _size(picture: PillowImage.Image, height: float) -> tuple[float, float]:
    """Return width and height of a picture, in points, that is as large as the page's width and a height allow."""
    scale = min(_WIDTH / picture.width, height / picture.height)
    return picture.width * scale, picture.height * scale


def _placed(picture: PillowImage.Image, size: tuple[float, float]) -> Image:
    """Return a picture on the page, of a size in points."""
    file = BytesIO()
    picture.save(file, "PPM")
    placed = Image(file, *size)
    placed.spaceBefore = 6
    return placed


def _row_paragraphs(rows: Rows, size: float) -> Iterator[Flowable]:
    for name, value in rows:
        yield Paragraph(f"<b>{escape(_printable(name))}:</b> {escape(_printable(value))}", _style(size, space=0))


def _score_table(rows: Rows) -> Table:
    """Return names and values, three of each in a row."""
    cells = [Paragraph(escape(_printable(text)), _style(8, space=0)) for row in rows for text in row]
    cells += [Paragraph("", _style(8))] * (-len(cells) % (2 * _SCORE_COLUMNS))
    columns = 2 * _SCORE_COLUMNS
    lines = [cells[index : index + columns] for index in range(0, len(cells), columns)]
    widths = (0.22 * _WIDTH, 0.11 * _WIDTH) * _SCORE_COLUMNS
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
    ]
    return Table(lines, colWidths=widths, style=style, hAlign="LEFT")
