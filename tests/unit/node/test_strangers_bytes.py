"""Whatever a stranger sends, a parser returns a value or raises the parser's own error, in bounded time.

The data set walker, Part 10, headers, A-ASSOCIATE-RQ and command sets have such tests beside their own tests.
"""

import pickle
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from support.datasets import encoded, mutated

from ainode.node.archive.dicom_json import datasets_of, xml_of
from ainode.node.archive.multipart import Body, boundary_of, parts
from ainode.node.domain import UID, Needs
from ainode.node.errors import CannotUnderstand, ConfigError
from ainode.node.reading.channel import NotAnAnswer, answer_in
from ainode.node.receiving.command_set import CommandField, Tag, encode
from ainode.node.receiving.commitment_data_sets import report_of, request_of
from ainode.node.receiving.pdu import ProtocolViolation
from ainode.node.receiving.upper_layer import Association, AssociationLost, Channel, PresentationContext
from ainode.node.settings import load

_FEW: Final = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_JSON_ANSWER: Final = b"""[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, "00081199": {"vr": "SQ", "Value":
[{"00081155": {"vr": "UI", "Value": ["1.2.3.4"]}}]}, "00081030": {"vr": "LO", "Value": ["a", null, 3.5]}}]"""
_XML_ANSWER: Final = xml_of(
    {"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, "00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI"}}]}}
)
_NODE_FILE: Final = b"""[node]
ae_title = "AINODE"
port = 11112
allow = ["PACS@10.0.0.0/8"]
network_timeout_s = 60.0
[delivery]
attempts = 12
[[peer]]
name = "archive"
ae_title = "PACS"
host = "127.0.0.1"
port = 4242
confirm = "query"
"""
_ROUTES_FILE: Final = b"""[[route]]
name = "spine"
handler = "spine_radiograph"
modality = ["CR", "DX"]
body_part = ["SPINE"]
tags = {ViewPosition = "^(AP|PA)$"}
destinations = ["archive"]
mode = "live"
"""


@dataclass(frozen=True)
class Parser:
    """A parser, bytes that the parser understands, and the errors by which the parser may refuse bytes."""

    call: Callable[[bytes], object]
    example: bytes
    errors: tuple[type[Exception], ...]


def _commitment(*, of_report: bool) -> bytes:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = _CT, "1.2.3.4"
    if of_report:
        item.FailureReason = 0x0112
    data_set = Dataset()
    data_set.TransactionUID = "1.2.3"
    data_set.ReferencedSOPSequence = [item, item]
    if of_report:
        data_set.FailedSOPSequence = [item]
    return encoded(data_set, ExplicitVRLittleEndian if of_report else ImplicitVRLittleEndian).content


def _multipart(content: bytes) -> list[bytes]:
    blocks = (content[begin : begin + 7] for begin in range(0, len(content), 7))
    return [b"".join(part) for part in parts(blocks, b"boundary")]


PARSERS: Final = {
    "commitment request": Parser(
        lambda content: request_of(content, ImplicitVRLittleEndian, "PACS"),
        _commitment(of_report=False),
        (CannotUnderstand,),
    ),
    "commitment report": Parser(
        lambda content: report_of(content, ExplicitVRLittleEndian), _commitment(of_report=True), (CannotUnderstand,)
    ),
    "multipart body": Parser(_multipart, b"".join(Body((b"first", b"second"), "boundary")), (ValueError,)),
    "content type": Parser(
        lambda content: boundary_of(content.decode("latin-1")), b'multipart/related; type="a/b"; boundary=x', ()
    ),
    "answer in JSON": Parser(
        lambda content: datasets_of(content, "application/dicom+json"), _JSON_ANSWER, (ValueError,)
    ),
    "answer in XML": Parser(lambda content: datasets_of(content, "application/dicom+xml"), _XML_ANSWER, (ValueError,)),
    "answer of a reader": Parser(answer_in, pickle.dumps(Needs(())), (NotAnAnswer,)),
}


@pytest.mark.parametrize("name", PARSERS)
def test_the_example_is_understood(name: str) -> None:
    assert PARSERS[name].call(PARSERS[name].example) is not None


@pytest.mark.parametrize("name", PARSERS)
@_FEW
@given(data=st.data())
def test_damaged_bytes_are_understood_or_refused(name: str, data: st.DataObject) -> None:
    parser = PARSERS[name]
    with suppress(*parser.errors):
        parser.call(data.draw(mutated(parser.example)))


@pytest.mark.parametrize("name", PARSERS)
@_FEW
@given(noise=st.binary(max_size=300))
def test_noise_is_understood_or_refused(name: str, noise: bytes) -> None:
    with suppress(*PARSERS[name].errors):
        PARSERS[name].call(noise)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"[" * 100_000, "application/dicom+json"),
        (b'{"0020000D":' * 50_000, "application/dicom+json"),
        (b'[{"0020000D": {"vr": "IS", "Value": [' + b"9" * 10_000 + b"]}}]", "application/dicom+json"),
        (b"<a>" * 100_000, "application/dicom+xml"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel>&b;</NativeDicomModel>', "application/dicom+xml"),
        (b"<NativeDicomModel>" + b"<DicomAttribute><Item>" * 50_000, "application/dicom+xml"),
        (
            b"<NativeDicomModel>"
            + b"<DicomAttribute><Item>" * 5_000
            + b"</Item></DicomAttribute>" * 5_000
            + b"</NativeDicomModel>",
            "application/dicom+xml",
        ),
    ],
    ids=["lists", "objects", "digits", "tags", "entities", "unclosed items", "deep items"],
)
def test_an_answer_that_is_too_deep_or_too_long_is_refused(content: bytes, content_type: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        datasets_of(content, content_type)


@_FEW
@given(data=st.data())
def test_damaged_messages_end_in_a_message_or_in_the_end_of_the_association(data: st.DataObject) -> None:
    stream = data.draw(mutated(_messages()))
    with suppress(ProtocolViolation, AssociationLost):
        _receive(stream)


def _messages() -> bytes:
    """Return a C-STORE with a data set in two values, then an A-RELEASE-RQ."""
    command = encode(
        {
            Tag.COMMAND_FIELD: struct.pack("<H", CommandField.C_STORE),
            Tag.MESSAGE_ID: b"\1\0",
            Tag.COMMAND_DATA_SET_TYPE: b"\1\0",
            Tag.AFFECTED_SOP_CLASS_UID: _CT.encode() + b"\0",
            Tag.AFFECTED_SOP_INSTANCE_UID: b"1.2.3.4\0",
        }
    )
    values = ((command, 3), (b"first", 0), (b"second", 2))
    fragments = [struct.pack(">IBB", len(content) + 2, 1, control) + content for content, control in values]
    data = b"".join(struct.pack(">BxI", 4, len(fragment)) + fragment for fragment in fragments)
    return data + struct.pack(">BxII", 5, 4, 0)


def _receive(stream: bytes) -> None:
    """Read every message that an association receives from a peer that sends these bytes, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        connection, _ = server.accept()
        with connection:
            peer.sendall(stream)
            peer.shutdown(socket.SHUT_WR)
            context = PresentationContext(1, UID(_CT), UID(ImplicitVRLittleEndian))
            for message in Association(Channel(connection, timeout_s=5), {1: context}, max_pdu_bytes=4096).messages():
                deque(message.fragments, maxlen=0)


@pytest.mark.parametrize("kind", ["node", "routes"])
@_FEW
@given(data=st.data())
def test_a_damaged_configuration_is_loaded_or_refused_by_name(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    files = {"node": _NODE_FILE, "routes": _ROUTES_FILE}
    for name, content in files.items():
        written = data.draw(mutated(content)) if name == kind else content
        (tmp_path / f"{name}.toml").write_bytes(written)
    refusal = ""
    try:
        load(tmp_path / "node.toml")
    except ConfigError as error:
        refusal = str(error)
    assert not refusal or str(tmp_path) in refusal
