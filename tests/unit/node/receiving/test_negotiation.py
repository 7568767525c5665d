"""PDUs and command sets of strangers: decoded, or refused with one kind of error; decisions without a socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import build_context

from ainode.node.errors import CannotUnderstand, ConfigError
from ainode.node.receiving.allowances import CallerLimits
from ainode.node.receiving.command_set import Command, CommandField, Tag, decode, encode, response
from ainode.node.receiving.negotiation import (
    STORAGE_COMMITMENT,
    VERIFICATION,
    allowed_caller,
    answers,
    bound_certificates,
    certificate_fault,
    commitment_roles,
    policy,
)
from ainode.node.receiving.pdu import ProtocolViolation, Rejection, Role, acceptance, proposal, rejection
from ainode.node.settings import NodeTable, Peer, Settings

CT = "1.2.840.10008.5.1.4.1.1.2"
J2K, IMPLICIT = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2"


def request() -> bytes:
    """Return an A-ASSOCIATE-RQ as pynetdicom encodes it."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "CALLER", "AINODE"
    contexts = [build_context(CT, [J2K, IMPLICIT]), build_context(VERIFICATION), build_context(STORAGE_COMMITMENT)]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = STORAGE_COMMITMENT, False, True
    length = MaximumLengthNotification()
    length.maximum_length_received = 16384
    primitive.user_information = [length, role]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    encoded: bytes = pdu.encode()
    return encoded


def test_a_request_that_pynetdicom_encoded_is_understood() -> None:
    asked = proposal(request()[6:])
    assert (asked.called_ae_title, asked.calling_ae_title) == ("AINODE", "CALLER")
    assert [one.abstract_syntax for one in asked.contexts] == [CT, VERIFICATION, STORAGE_COMMITMENT]
    assert asked.contexts[0].transfer_syntaxes == (J2K, IMPLICIT)
    assert asked.roles == (Role(STORAGE_COMMITMENT, scu=False, scp=True),)


def test_pynetdicom_understands_our_acceptance() -> None:
    asked = proposal(request()[6:])
    answered = answers(asked.contexts, policy(Settings()))
    encoded = acceptance(asked, answered, commitment_roles(asked.roles), max_pdu_bytes=131_072)
    pdu = A_ASSOCIATE_AC()
    pdu.decode(encoded)
    primitive = pdu.to_primitive()
    accepted = primitive.presentation_context_definition_results_list
    assert [(one.context_id, one.result, str(one.transfer_syntax[0])) for one in accepted] == [
        (1, 0, J2K),
        (3, 0, IMPLICIT),
        (5, 0, IMPLICIT),
    ]
    assert primitive.maximum_length_received == 131_072
    assert [one.scp_role for one in primitive.user_information if hasattr(one, "scp_role")] == [True]


@pytest.mark.parametrize("why", Rejection)
def test_pynetdicom_understands_our_rejections(why: Rejection) -> None:
    pdu = A_ASSOCIATE_RJ()
    pdu.decode(rejection(why))
    assert (pdu.result, pdu.source, pdu.reason_diagnostic) == tuple(why.to_bytes(3, "big"))


@given(st.binary(max_size=300))
def test_noise_is_no_request(noise: bytes) -> None:
    try:
        proposal(bytes(68) + noise)
    except ProtocolViolation:
        return


def test_a_request_with_more_contexts_than_there_are_identifiers_is_refused() -> None:
    context = b"\x20\0\0\x15\1\0\0\0" + b"\x30\0\0\x031.2" + b"\x40\0\0\x061.2.84"
    assert len(proposal(bytes(68) + context * 128).contexts) == 128
    with pytest.raises(ProtocolViolation, match="more than 128 presentation contexts"):
        proposal(bytes(68) + context * 5000)


def test_a_request_of_more_items_than_any_caller_needs_is_refused_before_they_are_read() -> None:
    syntaxes = b"\x40\0\0\x011" * 60
    context = b"\x20\0" + (4 + 5 + len(syntaxes)).to_bytes(2, "big") + bytes(4) + b"\x30\0\0\x011" + syntaxes
    assert len(proposal(bytes(68) + context * 128).contexts[127].transfer_syntaxes) == 60
    roles = b"\x54\0\0\x04" + bytes(4)
    for items in (b"\x99\0\0\0" * 60_000, (b"\x50\0\xfa\0" + roles * 8000) * 3):
        with pytest.raises(ProtocolViolation, match="more than 10000 items"):
            proposal(bytes(68) + items)


@given(st.data())
def test_a_damaged_request_is_understood_or_refused(data: st.DataObject) -> None:
    body = bytearray(request()[6:])
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        answers(proposal(bytes(body[: data.draw(st.integers(0, len(body)))])).contexts, policy(Settings()))
    except ProtocolViolation:
        return


@given(st.binary(max_size=200))
def test_noise_is_no_command(noise: bytes) -> None:
    try:
        decode(noise)
    except CannotUnderstand:
        return


def test_a_response_names_its_request_and_cuts_its_comment() -> None:
    asked = Command(
        {
            Tag.COMMAND_FIELD: CommandField.C_STORE.to_bytes(2, "little"),
            Tag.MESSAGE_ID: b"\7\0",
            Tag.AFFECTED_SOP_INSTANCE_UID: b"1.2.3\0",
        }
    )
    answered = decode(response(asked, 0xC000, "x" * 100))
    assert answered.number(Tag.COMMAND_FIELD) == 0x8001
    assert answered.number(Tag.MESSAGE_ID_BEING_RESPONDED_TO) == 7
    assert answered.uid(Tag.AFFECTED_SOP_INSTANCE_UID) == b"1.2.3"
    assert answered.values[Tag.ERROR_COMMENT] == b"x" * 64
    assert not answered.has_data_set
    assert answered.is_response


def test_a_command_set_survives_encoding() -> None:
    values = {Tag.COMMAND_FIELD: b"\1\0", Tag.COMMAND_DATA_SET_TYPE: b"\1\0", Tag.ERROR_COMMENT: b"odd"}
    assert decode(encode(values)).values[Tag.ERROR_COMMENT] == b"odd "


@pytest.mark.parametrize(
    ("entry", "ae_title", "address", "admitted"),
    [
        ("*@127.0.0.0/8", "A", "127.0.0.1", True),
        ("*@127.0.0.0/8", "A", "10.0.0.1", False),
        ("A@*", "A", "10.0.0.1", True),
        ("A@*", "B", "10.0.0.1", False),
        ("A@B@10.0.0.1", "A@B", "10.0.0.1", True),
        ("*@10.0.0.0/24", "A", "::ffff:10.0.0.7", True),
        ("*@fe80::/10", "A", "fe80::1%eth0", True),
        ("*@10.0.0.0/24", "A", "::1", False),
        ("A@::ffff:10.0.0.0/120", "A", "10.0.0.7", True),
        ("A@::ffff:10.0.0.0/120", "A", "::ffff:10.0.1.7", False),
        ("A@::/0", "A", "fe80::1", True),
        ("*@::1", "A", "::1", True),
        ("*@::ffff:127.0.0.1", "A", "127.0.0.1", True),
    ],
)
def test_the_allow_list_means_what_it_says(entry: str, ae_title: str, address: str, *, admitted: bool) -> None:
    assert allowed_caller(entry, are_certified=True).admits(ae_title, address) is admitted


@pytest.mark.parametrize(
    "entry", ["*@*", "*@0.0.0.0/0", "*@10.0.0.0/8", "*@10.0.0.0/31", "*@::/0", "*@fe80::/10", "*@::ffff:0.0.0.0/96"]
)
def test_any_ae_title_of_any_address_beyond_this_machine_is_let_in_with_a_certificate_alone(entry: str) -> None:
    with pytest.raises(ConfigError, match="lets in whoever reaches the node; name AE titles or single addresses"):
        policy(Settings(node=NodeTable(allow=(entry,))))
    files = {"tls_certificate": "a", "tls_key": "b", "tls_client_ca": "c"}
    assert policy(Settings(node=NodeTable.model_validate({"allow": (entry,)} | files))).callers


@pytest.mark.parametrize("entry", ["*@127.0.0.0/8", "*@::1", "*@10.0.0.5", "*@10.0.0.5/32", "*@fe80::5", "A@*"])
def test_any_ae_title_of_this_machine_or_one_address_is_let_in(entry: str) -> None:
    assert policy(Settings(node=NodeTable(allow=(entry,)))).callers


def test_the_limits_of_a_caller_are_those_of_its_peer_or_of_every_caller() -> None:
    node = NodeTable(max_associations_per_caller=5, max_bytes_per_minute=1 << 30)
    scanner = Peer(name="scanner", ae_title="CT1", max_associations=2, max_instances_per_minute=100)
    rules = policy(Settings(node=node, peers=(scanner,)))
    assert rules.caller("CT1", "10.0.0.1") == ("CT1@10.0.0.1", CallerLimits(2, 100, 1 << 30))
    assert rules.caller("MR1", "10.0.0.1") == ("10.0.0.1", CallerLimits(5, 0, 1 << 30))


def test_every_storage_class_and_syntax_of_the_dictionary_is_served_and_nothing_else_of_it() -> None:
    rules = policy(Settings())
    assert len(rules.transfer_syntaxes) > 30
    assert {"1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.3.10", STORAGE_COMMITMENT} <= rules.not_storage
    assert not {CT, "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.88.34"} & rules.not_storage


# Certificates that are bound to an AE title

OWN, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def bound() -> dict[str, frozenset[str]]:
    """Return the certificates of a node with two peers that are bound to certificates, and with one that is not."""
    node = {"tls_certificate": "a", "tls_key": "b", "tls_client_ca": "c"}
    peers = (
        {"name": "ct", "ae_title": "CT1", "calling_certificates": ["a" * 64, "CT1.example"]},
        {"name": "mr", "ae_title": "MR1", "calling_certificates": ["b" * 64]},
        {"name": "pacs", "ae_title": "PACS"},
    )
    return bound_certificates(Settings.model_validate({"node": node, "peers": peers}))


@pytest.mark.parametrize(
    ("ae_title", "identities", "is_admitted"),
    [
        ("CT1", {OWN}, True),
        ("CT1", {"sha256:renewed", "ct1.example"}, True),
        ("CT1", {OTHER}, False),
        ("CT1", {"sha256:unbound"}, False),
        ("CT1", set(), False),
        ("PACS", {"sha256:unbound"}, True),
        ("PACS", {OWN}, False),
        ("ELSE", {OTHER}, False),
        ("ELSE", {"sha256:unbound"}, True),
    ],
)
def test_a_bound_certificate_calls_as_its_own_ae_title_alone(
    ae_title: str, identities: set[str], *, is_admitted: bool
) -> None:
    assert (certificate_fault(ae_title, frozenset(identities), bound()) == "") == is_admitted


def test_a_binding_without_an_authority_of_callers_is_an_error_of_the_configuration() -> None:
    peer = Peer(name="ct", ae_title="CT1", calling_certificates=("ct1.example",))
    with pytest.raises(ConfigError, match=r"peer ct: calling_certificates: .*give tls_client_ca"):
        policy(Settings(peers=(peer,)))
    with pytest.raises(ValueError, match="calling_certificates are bound to no AE title"):
        Peer(name="web", dicomweb="https://pacs", deliver="dicomweb", retrieve="dicomweb", calling_certificates=("a",))
