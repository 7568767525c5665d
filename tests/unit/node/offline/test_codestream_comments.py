"""No comment, no application's data and no byte behind the end is in a compressed frame; its picture stays."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ainode.node.imaging.codestreams import codestream
from ainode.node.offline.codestream_comments import (
    UnknownBytes,
    jpeg_2000_without_comments,
    jpeg_without_comments,
)

NAME = b"KENNEDY^ADA 1917"
COLORS = np.random.default_rng(5).integers(0, 255, (48, 40, 3), np.uint8)


def jpeg(**options: object) -> bytes:
    file = BytesIO()
    Image.fromarray(COLORS).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def jpeg_2000(**options: object) -> bytes:
    file = BytesIO()
    Image.fromarray(COLORS).save(file, "JPEG2000", no_jp2=True, comment=NAME.decode(), **options)
    return file.getvalue()


def decoded(frame: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(frame)))


def segment(kind: int, content: bytes) -> bytes:
    return bytes((0xFF, kind)) + (len(content) + 2).to_bytes(2, "big") + content


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"keep_rgb": True}])
def test_a_jpeg_loses_words_in_comments_applications_and_behind_its_end_and_no_pixel(options: dict[str, bool]) -> None:
    plain = jpeg(comment=NAME, exif=b"Exif\0\0" + NAME, icc_profile=NAME, **options)
    at = plain.index(b"\xff\xdb")  # before the first table
    frame = plain[:at] + segment(0xEF, NAME) + segment(0xEE, b"Adobf" + NAME) + plain[at:] + NAME
    assert frame.count(NAME) == 6
    alone = jpeg_without_comments(frame)
    assert NAME[:7] not in alone
    assert len(alone) == len(frame)
    assert np.array_equal(decoded(alone), decoded(frame))
    assert codestream(alone) == codestream(frame)


def test_comments_between_scans_and_thumbnails_go_and_the_transform_of_colors_stays() -> None:
    plain = jpeg(progressive=True)
    second = plain.index(b"\xff\xda", plain.index(b"\xff\xda") + 2)
    head = segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\x02\x02" + b"KENNEDY^ADA.") + segment(
        0xEE, b"Adobe\0d\0\0\0\0\1" + NAME
    )
    frame = plain[:2] + head + plain[20:second] + segment(0xFE, NAME) + plain[second:]
    alone = jpeg_without_comments(frame)
    assert b"KENNEDY" in frame
    assert b"KENNEDY" not in alone
    assert b"JFIF\0" in alone
    assert b"Adobe\0d\0\0\0\0\1" in alone
    assert np.array_equal(decoded(alone), decoded(frame))


def test_a_color_head_that_is_shorter_than_it_should_be_stays_as_it_is() -> None:
    frame = jpeg()[:2] + segment(0xEE, b"Adobe") + jpeg()[2:]
    assert jpeg_without_comments(frame) == frame


@pytest.mark.parametrize("options", [{}, {"tile_size": (16, 16)}, {"num_resolutions": 2, "progression": "RPCL"}])
def test_a_jpeg_2000_loses_words_in_its_comments_and_behind_its_end_and_no_pixel(options: dict[str, object]) -> None:
    frame = jpeg_2000(**options) + NAME
    assert frame.count(NAME) == 2
    alone = jpeg_2000_without_comments(frame)
    assert NAME not in alone
    assert np.array_equal(decoded(alone), decoded(frame))


def test_a_comment_in_the_header_of_a_tile_goes() -> None:
    plain = jpeg_2000()
    start, data = plain.index(b"\xff\x90"), plain.index(b"\xff\x93")
    comment = segment(0x64, b"\0\1" + NAME)
    length = int.from_bytes(plain[start + 6 : start + 10], "big")
    head = plain[start : start + 6] + (length + len(comment)).to_bytes(4, "big") + plain[start + 10 : data]
    frame = plain[:start] + head + comment + plain[data:]
    assert frame.count(NAME) == 2
    alone = jpeg_2000_without_comments(frame)
    assert NAME not in alone
    assert np.array_equal(decoded(alone), COLORS)


def test_a_tile_that_reaches_to_the_end_and_one_without_an_end_marker_are_read() -> None:
    plain = jpeg_2000()
    at = plain.index(b"\xff\x90") + 6
    for frame in (plain[:at] + bytes(4) + plain[at + 4 :], plain[:-2]):
        assert NAME not in jpeg_2000_without_comments(frame)


@pytest.mark.parametrize(
    "frame",
    [
        *(b"", b"KENNEDY", jpeg()[:300], jpeg()[:2] + NAME + jpeg()[2:], jpeg()[:2] + segment(0xF3, NAME) + jpeg()[2:]),
        *(jpeg()[:2] + b"\xff\xfe\xff\xff" + NAME, jpeg()[:2] + b"\xff\xfe\0\0" + NAME),
    ],
)
def test_a_jpeg_that_cannot_be_followed_to_its_end_is_refused(frame: bytes) -> None:
    with pytest.raises(UnknownBytes, match="JPEG"):
        jpeg_without_comments(frame)


def jp2() -> bytes:
    file = BytesIO()
    Image.fromarray(COLORS).save(file, "JPEG2000")
    return file.getvalue()


UNKNOWN = jpeg_2000().replace(b"\xff\x52", segment(0x6F, NAME) + b"\xff\x52", 1)


@pytest.mark.parametrize(
    "frame", [b"", jp2(), jpeg_2000()[:60], jpeg_2000()[:200], jpeg_2000()[:2] + NAME * 9, UNKNOWN]
)
def test_a_jpeg_2000_that_cannot_be_followed_to_its_end_is_refused(frame: bytes) -> None:
    with pytest.raises(UnknownBytes, match="JPEG 2000"):
        jpeg_2000_without_comments(frame)
