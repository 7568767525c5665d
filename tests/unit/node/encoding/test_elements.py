"""The walk over encoded elements, held against pydicom's."""

import contextlib
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from support.datasets import SYNTAXES, Encoded, Nested, encoded, instances, mutated, noise, read_by_pydicom

from ainode.node.encoding.elements import (
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_END,
    MAX_DEPTH,
    MAX_INFLATED_BYTES,
    SEQUENCE_END,
    UNDEFINED,
    Element,
    Inflated,
    OutOfOrder,
    Plain,
    Source,
    encoding_of,
    inside,
    outermost,
    walk,
)
from ainode.node.errors import CannotUnderstand

quick = settings(max_examples=60, deadline=None, derandomize=True)
_SEQUENCE_TAGS = (0x00081110, 0x00081115, 0x00081140, 0x00400260, 0x00480105, 0x52009229)


def source_of(subject: Encoded) -> Source:
    return (Inflated if subject.syntax in DEFLATED else Plain)(subject.content, 0)


def elements_of(subject: Encoded) -> Iterator[Element]:
    source = source_of(subject)
    return walk(source, encoding_of(source, subject.syntax))


def plain(subject: Encoded) -> bytes:
    return zlib.decompress(subject.content, -15) if subject.syntax in DEFLATED else subject.content


def value_of(subject: Encoded, element: Element) -> bytes:
    return plain(subject)[element.begin : element.begin + element.length]


def nested(content: bytes, elements: Iterable[Element]) -> tuple[Nested, ...]:
    """Return what the walk sees, as pydicom tells it."""
    return tuple(_element(content, element) for element in outermost(elements))


def _element(content: bytes, element: Element) -> Nested:
    if element.vr == b"SQ" or (not element.vr and element.tag in _SEQUENCE_TAGS):
        items = outermost(inside(content, element))
        return element.tag, "SQ", tuple(nested(content, inside(content, item)) for item in items)
    return element.tag, element.vr.decode(), content[element.begin : element.begin + element.length]


def header(tag: int, vr: bytes, value: bytes = b"") -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


# A sequence without length, with an item without length; and the end of both.
OPENED = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, UNDEFINED) + struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
CLOSED = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)


def tags(content: bytes) -> list[int]:
    return [element.tag for element in walk(Plain(content), EXPLICIT)]


@quick
@given(instances(), st.sampled_from(SYNTAXES))
def test_tags_vrs_values_and_nesting_are_those_that_pydicom_reads(dataset: Dataset, syntax: str) -> None:
    subject = encoded(dataset, syntax)
    assert nested(plain(subject), elements_of(subject)) == read_by_pydicom(subject)
    last = list(elements_of(subject))[-1]
    assert last.begin + (last.length if last.length != UNDEFINED else 0) == len(plain(subject))


@quick
@given(st.data(), st.sampled_from(SYNTAXES))
def test_what_is_not_refused_of_damaged_bytes_is_what_pydicom_reads(data: st.DataObject, syntax: str) -> None:
    whole = encoded(data.draw(instances()), syntax)
    subject = Encoded(syntax, data.draw(mutated(whole.content)))
    try:
        elements = list(outermost(elements_of(subject)))
    except CannotUnderstand:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = read_by_pydicom(subject)
        except Exception:  # noqa: BLE001 - pydicom raises many things
            return
    assert [element.tag for element in elements] == [tag for tag, _, _ in expected]
    for element, (_, vr, value) in zip(elements, expected, strict=True):
        if vr != "SQ":
            assert (element.vr.decode(), value_of(subject, element)) == (vr, value)


@quick
@given(noise(), st.sampled_from(SYNTAXES))
def test_noise_is_walked_to_its_end_or_refused(content: bytes, syntax: str) -> None:
    with contextlib.suppress(CannotUnderstand):
        assert all(element.tag <= 0xFFFFFFFF for element in elements_of(Encoded(syntax, content)))


DISORDERED = {
    "twice": header(0x0020000D, b"UI") * 2,
    "descending": header(0x0020000D, b"UI") + header(0x00100020, b"LO"),
    "behind the pixels": header(0x0020000D, b"UI") + header(0x7FE00010, b"US", b"\0\0") + header(0x0020000D, b"UI"),
    "behind a sequence": OPENED + CLOSED + header(0x00080060, b"CS"),
    "twice in an item": OPENED + header(0x0020000D, b"UI") * 2 + CLOSED,
    "of a command": header(0x00000002, b"UI"),
    "of the meta group": header(0x00020010, b"UI"),
    "of the meta group in an item": OPENED + header(0x00020010, b"UI") + CLOSED,
}


@pytest.mark.parametrize("content", DISORDERED.values(), ids=DISORDERED)
def test_a_tag_that_does_not_ascend_is_refused(content: bytes) -> None:
    with pytest.raises(OutOfOrder, match=r"^\(0...,00..\) (stands twice|comes after \(|belongs to no data set)"):
        tags(content)


def test_an_item_begins_anew_and_what_comes_after_it_goes_on() -> None:
    content = OPENED + header(0x0020000D, b"UI") + CLOSED + header(0x00081150, b"UI") + header(0x0020000D, b"UI")
    assert tags(content)[-2:] == [0x00081150, 0x0020000D]


def test_the_order_in_a_sequence_that_has_a_length_is_not_looked_at() -> None:
    """Reception steps over it, and no other reader may refuse what reception took."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 16) + header(0x0020000D, b"UI") * 2
    content = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, len(item)) + item
    (sequence,) = walk(Plain(content), EXPLICIT)
    (member,) = inside(content, sequence)
    assert [element.tag for element in inside(content, member)] == [0x0020000D] * 2


@pytest.mark.parametrize("misplaced", [ITEM, ITEM_END, SEQUENCE_END])
def test_items_and_delimiters_stand_in_sequences_alone(misplaced: int) -> None:
    delimiter = struct.pack("<HHI", misplaced >> 16, misplaced & 0xFFFF, 0)
    with pytest.raises(CannotUnderstand, match="cannot have it"):
        tags(delimiter)
    with pytest.raises(CannotUnderstand, match="cannot have it"):
        tags(OPENED[:12] + header(0x00080060, b"CS"))


def test_what_is_cut_off_anywhere_is_refused() -> None:
    content = OPENED + header(0x0020000D, b"UI", b"1.") + CLOSED + header(0x0020000E, b"UI", b"1.2.")
    assert len(tags(content)) == 6
    ends = {0, len(content) - 12, len(content)}
    for length in sorted(set(range(len(content))) - ends):
        with pytest.raises(CannotUnderstand):
            tags(content[:length])


@pytest.mark.parametrize("length", [65, 66, 90, 0x4141, 0x5A5A])
def test_an_element_without_vr_in_an_explicit_data_set_is_stepped_over(length: int) -> None:
    """A length of 66 begins with a letter, which is no VR; two letters are one, and that cannot be told apart."""
    element = struct.pack("<HHI", 0x0009, 0x1001, length) + bytes(length)
    content = header(0x00080060, b"CS") + element + header(0x0020000D, b"UI")
    if length < 0x4141:
        assert tags(content) == [0x00080060, 0x00091001, 0x0020000D]
    else:
        with pytest.raises(CannotUnderstand):
            tags(content)


def test_the_items_of_an_unknown_vr_without_length_are_implicit() -> None:
    inner = struct.pack("<HHI", 0x0020, 0x000D, 4) + b"1.2\0"
    content = OPENED.replace(b"SQ", b"UN") + inner + CLOSED
    assert [(element.tag, element.length) for element in walk(Plain(content), EXPLICIT)][2] == (0x0020000D, 4)


def test_the_first_element_tells_how_a_data_set_is_encoded() -> None:
    explicit, implicit = header(0x00080060, b"CS", b"CT"), struct.pack("<HHI", 8, 0x60, 2) + b"CT"
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, "1.2.840.113619.5.2"):
        assert encoding_of(Plain(explicit), syntax) is EXPLICIT
        assert encoding_of(Plain(implicit), syntax) is IMPLICIT
    assert encoding_of(Plain(explicit), ExplicitVRBigEndian).order == ">"


def test_nesting_is_followed_to_its_bound_and_no_further() -> None:
    levels = MAX_DEPTH // 2
    assert len(tags(OPENED * levels + CLOSED * levels)) == 4 * levels
    with pytest.raises(CannotUnderstand, match=f"deeper than {levels}"):
        tags(OPENED * (levels + 1) + CLOSED * (levels + 1))
    with pytest.raises(CannotUnderstand, match=f"deeper than {levels}"):
        inside(b"", Element(ITEM, b"", 0, 0, MAX_DEPTH, EXPLICIT))


def test_a_deflated_data_set_needs_the_memory_of_a_step_and_ends_at_its_bound() -> None:
    deflate = zlib.compressobj(9, wbits=-15)
    content = deflate.compress(struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, MAX_INFLATED_BYTES + 2))
    content += b"".join(deflate.compress(bytes(1 << 20)) for _ in range((MAX_INFLATED_BYTES >> 20) + 1))
    content += deflate.flush()
    tracemalloc.start()
    with pytest.raises(CannotUnderstand, match="larger than"):
        list(walk(Inflated(content, 0), EXPLICIT))
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_the_length_of_what_has_none_is_known_behind_it() -> None:
    content = OPENED + header(0x0020000D, b"UI", b"1.") + CLOSED + header(0x0020000E, b"UI")
    sequence, last = outermost(walk(Plain(content), EXPLICIT))
    assert (sequence.begin, sequence.length, last.tag) == (12, 26, 0x0020000E)
