"""Who may open an association with us, and for what: decided without a socket."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from ainode.node.domain import is_uid
from ainode.node.errors import ConfigError
from ainode.node.receiving.pdu import (
    APPLICATION_CONTEXT,
    AnsweredContext,
    ContextResult,
    Proposal,
    ProposedContext,
    Rejection,
    Role,
)

if TYPE_CHECKING:
    from ainode.node.settings import Settings

VERIFICATION: Final = "1.2.840.10008.1.1"
STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"


@dataclass(frozen=True, slots=True)
class Caller:
    """One entry of the allow list; None is anybody, anywhere."""

    ae_title: str | None
    network: IPv4Network | IPv6Network | None

    def admits(self, ae_title: str, address: str) -> bool:
        """Whether this entry is about that caller."""
        if self.ae_title not in (None, ae_title):
            return False
        return self.network is None or _bare(address) in self.network


def _bare(address: str) -> object:
    """Return the address; of an IPv4 address in IPv6 form the IPv4 address."""
    parsed = ip_address(address.partition("%")[0])
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed


def caller(entry: str) -> Caller:
    """Return the allow list entry "AETITLE@ADDRESS"; either may be *, ADDRESS may be a network.

    Raises: ConfigError if it is neither.
    """
    ae_title, at, address = entry.rpartition("@")
    try:
        network = None if address == "*" else ip_network(address, strict=False)
    except ValueError as error:
        raise ConfigError(f"node.allow: {entry!r}: {error}; give AETITLE@ADDRESS, either may be *") from error
    if not at or not ae_title:
        raise ConfigError(f"node.allow: {entry!r} has no AE title; give AETITLE@ADDRESS, either may be *")
    return Caller(None if ae_title == "*" else ae_title, network)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the receiver was told; small, picklable, and made where pydicom is loaded anyway."""

    ae_title: str
    callers: tuple[Caller, ...]
    max_associations: int
    max_pdu_bytes: int
    network_timeout_s: float
    transfer_syntaxes: frozenset[str]
    not_storage: frozenset[str]
    """abstract syntaxes known to be something else; what nobody knows is taken for a storage class"""


def policy(settings: "Settings") -> Policy:
    """Return what the settings and pydicom's dictionary say.

    Raises: ConfigError if an entry of the allow list is none.
    """
    from pydicom._uid_dict import UID_dictionary  # noqa: PLC0415 - the receiver process does without pydicom
    from pydicom.uid import AllTransferSyntaxes  # noqa: PLC0415

    names = {uid: entry[0] for uid, entry in UID_dictionary.items()}
    node = settings.node
    return Policy(
        ae_title=node.ae_title,
        callers=tuple(caller(entry) for entry in node.allow),
        max_associations=node.max_associations,
        max_pdu_bytes=node.max_pdu_bytes,
        network_timeout_s=node.network_timeout_s,
        transfer_syntaxes=frozenset(map(str, AllTransferSyntaxes)),
        not_storage=frozenset(uid for uid, name in names.items() if not _is_storage(name)),
    )


def _is_storage(name: str) -> bool:
    """Whether PS3.6 A-1 names a class of instances one can send; the names of two withdrawn ones are empty."""
    return not name or ("Storage" in name and "Storage Commitment" not in name and "Directory" not in name)


def refusal(proposal: Proposal, address: str, policy: Policy) -> Rejection | None:
    """Return why the association is rejected, None if it is not."""
    if not proposal.protocol_version & 1:
        return Rejection.PROTOCOL_VERSION_NOT_SUPPORTED
    if proposal.application_context != APPLICATION_CONTEXT:
        return Rejection.APPLICATION_CONTEXT_NOT_SUPPORTED
    if proposal.called_ae_title != policy.ae_title:
        return Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED
    title = proposal.calling_ae_title
    printable = title.isascii() and title.isprintable()
    if not printable or not any(one.admits(title, address) for one in policy.callers):
        return Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
    return None


def answers(proposed: Iterable[ProposedContext], policy: Policy) -> tuple[AnsweredContext, ...]:
    """Return the answer to each context: the sender's first transfer syntax that we can keep."""
    return tuple(_answer(context, policy) for context in proposed)


def _answer(proposed: ProposedContext, policy: Policy) -> AnsweredContext:
    first = proposed.transfer_syntaxes[0]
    known = [syntax for syntax in proposed.transfer_syntaxes if syntax in policy.transfer_syntaxes]
    result = ContextResult.ACCEPTED
    if not is_served(proposed.abstract_syntax, policy):
        result = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    elif not known:
        result = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    return AnsweredContext(proposed.identifier, proposed.abstract_syntax, result, known[0] if known else first)


def is_served(abstract_syntax: str, policy: Policy) -> bool:
    """Whether it is verification, storage commitment or (known or not) storage."""
    if abstract_syntax in (VERIFICATION, STORAGE_COMMITMENT):
        return True
    return abstract_syntax not in policy.not_storage and is_uid(abstract_syntax)


def commitment_roles(proposed: Iterable[Role]) -> tuple[Role, ...]:
    """Return the roles we grant: those an archive needs to report commitments to us, and to ask for ours."""
    return tuple(role for role in proposed if role.sop_class_uid == STORAGE_COMMITMENT)
