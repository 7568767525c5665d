"""The answers of the process that decodes files: bytes behind `+`, or behind `-` the reason why there is no answer."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import config

from ainode.node.console.rendering.header_rows import header_rows
from ainode.node.console.rendering.questions import (
    HeaderQuestion,
    PictureQuestion,
    PrintQuestion,
    RegionsQuestion,
    SeriesQuestion,
    TextQuestion,
    ThumbnailQuestion,
    TreeQuestion,
    ValuesQuestion,
)
from ainode.node.console.rendering.report_regions import report_regions
from ainode.node.console.rendering.report_tree import report_tree
from ainode.node.console.rendering.slice_values import slice_values
from ainode.node.console.rendering.slices import series_view
from ainode.node.errors import NodeError
from ainode.node.imaging.decoding import BROKEN_FILE
from ainode.node.imaging.pixel_shape import height_per_width
from ainode.node.imaging.pixels import Frame, frame

# pydicom's validation repeats the value in its warning; a log may hold no patient attribute.
config.settings.reading_validation_mode = config.IGNORE


def answer(question: object) -> bytes:
    """Return the answer to a question of the node."""
    try:
        return b"+" + _content(question)
    except NodeError as error:
        return b"-" + str(error).encode()
    except BROKEN_FILE as error:
        # Only the class of the error is shown: the message of a library may quote the header.
        return b"-" + f"the file cannot be read ({type(error).__name__}): it is damaged; send it again".encode()


def _content(question: object) -> bytes:
    match question:
        case HeaderQuestion(path, is_anonymous):
            return json.dumps(header_rows(path, is_anonymous=is_anonymous)).encode()
        case SeriesQuestion(paths):
            return json.dumps(series_view(paths)).encode()
        case ValuesQuestion(path, number, longest_side):
            return slice_values(path, number, longest_side)
        case ThumbnailQuestion(path, number, longest_side):
            return _thumbnail(frame(path, number), longest_side)
        case RegionsQuestion(path):
            return json.dumps(report_regions(path)).encode()
    return _of_documents(question)


def _of_documents(question: object) -> bytes:
    """Return what a question wants of the documents of a reading."""
    match question:
        case TreeQuestion(path):
            return json.dumps(report_tree(path)).encode()
        case PictureQuestion(path):
            return _picture(path)
    return _printed(question)


def _printed(question: object) -> bytes:
    """Return a report on paper; what makes reports takes two seconds to import, and few ask."""
    from ainode.node.console.rendering import printing  # noqa: PLC0415

    match question:
        case PrintQuestion(summary, documents):
            return printing.printed_pdf(summary, documents)
        case TextQuestion(summary):
            return printing.printed_text(summary)
    raise TypeError(type(question).__name__)


def _picture(path: Path) -> bytes:
    """Return the first frame of a picture as PNG: colors of 8 bits as they were sent, grays by their window."""
    content = BytesIO()
    Image.fromarray(_shades(frame(path))).save(content, "PNG", compress_level=1)
    return content.getvalue()


def _thumbnail(shown: Frame, longest_side: int) -> bytes:
    """Return a frame as a small JPEG with square pixels."""
    picture = Image.fromarray(_shades(shown))
    height, width = picture.height * height_per_width(shown.header), float(picture.width)
    scale = longest_side / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    content = BytesIO()
    picture.resize(size, Image.Resampling.BOX).convert("RGB").save(content, "JPEG", quality=85)
    return content.getvalue()


def _shades(shown: Frame) -> NDArray[np.uint8]:
    """Return a frame in 8 bits, as its window shows the frame."""
    if shown.window is None:
        return np.asarray(shown.values, np.uint8)
    center, width = shown.window
    brightness = ((shown.values - center) / width + 0.5).clip(0, 1)
    if shown.header.PhotometricInterpretation == "MONOCHROME1":
        brightness = 1 - brightness
    return np.asarray(np.rint(brightness * 255), np.uint8)
