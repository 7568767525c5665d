"""Who may open an association with the node, and for which SOP classes; decided without a socket."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from ainode.node.domain import is_uid
from ainode.node.errors import ConfigError
from ainode.node.receiving.allowances import CallerLimits
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
    from ainode.node.settings import NodeTable, Peer, Settings

VERIFICATION: Final = "1.2.840.10008.1.1"
STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
# RFC 4291 2.5.5.2: an IPv4 address in IPv6 form is ::ffff:a.b.c.d.
_MAPPED_PREFIX: Final = 96


@dataclass(frozen=True, slots=True)
class AllowedCaller:
    """One entry of the allow list; None means any AE title, or any address."""

    ae_title: str | None
    network: IPv4Network | IPv6Network | None

    def admits(self, ae_title: str, address: str) -> bool:
        """Return whether the entry allows a caller."""
        return self.ae_title in (None, ae_title) and self.is_at(address)

    def is_at(self, address: str) -> bool:
        """Return whether the entry has the address of a caller."""
        return self.network is None or _ip_address(address) in self.network


def _ip_address(address: str) -> object:
    """Return the address as an object; an IPv4 address in IPv6 form becomes an IPv4 address."""
    parsed = ip_address(address.partition("%")[0])
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed


def allowed_callers(node: "NodeTable") -> tuple[AllowedCaller, ...]:
    """Return the entries of the allow list.

    Raises: ConfigError as `allowed_caller`.
    """
    return tuple(allowed_caller(entry, are_certified=bool(node.tls_client_ca)) for entry in node.allow)


def allowed_caller(entry: str, *, are_certified: bool) -> AllowedCaller:
    """Return the allow list entry "AETITLE@ADDRESS"; each part may be *, and ADDRESS may be a network.

    Beyond this machine an entry names AE titles, or one address, unless every caller shows a certificate.
    Raises: ConfigError if the entry has another form, or lets in whoever reaches the node.
    """
    ae_title, separator, address = entry.rpartition("@")
    try:
        network = None if address == "*" else _network(address)
    except ValueError as error:
        raise ConfigError(f"node.allow: {entry!r}: {error}; give AETITLE@ADDRESS; each part may be *") from error
    if not separator or not ae_title:
        raise ConfigError(f"node.allow: {entry!r} has no AE title; give AETITLE@ADDRESS; each part may be *")
    if ae_title == "*" and not are_certified and not _is_narrow(network):
        raise ConfigError(
            f"node.allow: {entry!r} lets in whoever reaches the node; name AE titles or single addresses, or give "
            "tls_client_ca, so that every caller shows a certificate"
        )
    return AllowedCaller(None if ae_title == "*" else ae_title, network)


def _network(address: str) -> IPv4Network | IPv6Network:
    """Return an address or a network; IPv4 addresses in IPv6 form become IPv4 addresses."""
    network = ip_network(address, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_PREFIX:
        mapped = network.network_address.ipv4_mapped
        return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX)) if mapped else network
    return network


def _is_narrow(network: IPv4Network | IPv6Network | None) -> bool:
    """Return whether a network is of this machine alone, or has one address."""
    return network is not None and (network.is_loopback or network.num_addresses == 1)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the receiver accepts; small and picklable, because the parent process sends the policy to the receiver."""

    ae_title: str
    callers: tuple[AllowedCaller, ...]
    max_associations: int
    max_pdu_bytes: int
    network_timeout_s: float
    transfer_syntaxes: frozenset[str]
    not_storage: frozenset[str]
    """UIDs of PS3.6 that are no storage SOP class; the receiver takes an unknown UID for a storage SOP class"""
    peers: frozenset[str]
    """AE titles that the node can call, and report a storage commitment to"""
    limits: CallerLimits
    """of each caller that is no peer, told from others by the address"""
    certificates: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """the identities of the certificates that are bound to an AE title, by AE title"""
    peer_limits: Mapping[str, CallerLimits] = field(default_factory=dict)
    """of the peers, by AE title"""

    def caller(self, ae_title: str, address: str) -> tuple[str, CallerLimits]:
        """Return whose associations and instances are counted together, and the limits."""
        limits = self.peer_limits.get(ae_title)
        return (address, self.limits) if limits is None else (f"{ae_title}@{address}", limits)


def policy(settings: "Settings") -> Policy:
    """Return the policy of the settings and of pydicom's dictionary of UIDs.

    Raises: ConfigError if an entry of the allow list has the wrong form, or if no caller of a peer with
    `calling_certificates` would show a certificate.
    """
    from pydicom._uid_dict import UID_dictionary  # noqa: PLC0415 - the receiver process loads no pydicom
    from pydicom.uid import AllTransferSyntaxes  # noqa: PLC0415

    names = {uid: entry[0] for uid, entry in UID_dictionary.items()}
    node = settings.node
    return Policy(
        ae_title=node.ae_title,
        callers=allowed_callers(node),
        max_associations=node.max_associations,
        max_pdu_bytes=node.max_pdu_bytes,
        network_timeout_s=node.network_timeout_s,
        transfer_syntaxes=frozenset(map(str, AllTransferSyntaxes)),
        not_storage=frozenset(uid for uid, name in names.items() if not _is_storage(name)),
        peers=frozenset(peer.ae_title for peer in settings.peers if peer.speaks_dimse),
        certificates=bound_certificates(settings),
        limits=CallerLimits(node.max_associations_per_caller, node.max_instances_per_minute, node.max_bytes_per_minute),
        peer_limits={peer.ae_title: _limits(peer, node) for peer in settings.peers if peer.ae_title},
    )


def _limits(peer: "Peer", node: "NodeTable") -> CallerLimits:
    """Return the limits of a peer: those of each caller where the peer has none of its own."""
    return CallerLimits(
        peer.max_associations or node.max_associations_per_caller,
        peer.max_instances_per_minute or node.max_instances_per_minute,
        peer.max_bytes_per_minute or node.max_bytes_per_minute,
    )


def bound_certificates(settings: "Settings") -> dict[str, frozenset[str]]:
    """Return the identities that the peers name, by AE title.

    Raises: ConfigError if `[node]` asks no caller for a certificate.
    """
    bound: dict[str, frozenset[str]] = {}
    for peer in settings.peers:
        if peer.calling_certificates:
            if not settings.node.tls_client_ca:
                raise ConfigError(
                    f"peer {peer.name}: calling_certificates: no caller shows a certificate; give tls_client_ca, "
                    "tls_certificate and tls_key in [node], or remove calling_certificates"
                )
            bound[peer.ae_title] = bound.get(peer.ae_title, frozenset()) | set(peer.calling_certificates)
    return bound


def _is_storage(name: str) -> bool:
    """Return whether a name of PS3.6 A-1 is a storage SOP class; two retired storage classes have empty names."""
    return not name or ("Storage" in name and "Storage Commitment" not in name and "Directory" not in name)


def refusal(proposal: Proposal, address: str, policy: Policy) -> Rejection | None:
    """Return the reason to reject the association, None if the node accepts the association."""
    if not proposal.protocol_version & 1:
        return Rejection.PROTOCOL_VERSION_NOT_SUPPORTED
    if proposal.application_context != APPLICATION_CONTEXT:
        return Rejection.APPLICATION_CONTEXT_NOT_SUPPORTED
    if proposal.called_ae_title != policy.ae_title:
        return Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED
    title = proposal.calling_ae_title
    is_printable = title.isascii() and title.isprintable()
    if not is_printable or not any(caller.admits(title, address) for caller in policy.callers):
        return Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
    return None


def certificate_fault(ae_title: str, identities: frozenset[str], certificates: Mapping[str, frozenset[str]]) -> str:
    """Return why a caller with a certificate of these identities may not call as the AE title, '' if the caller may.

    `certificates` are the identities that are bound to an AE title, by AE title. A certificate that is bound to an AE
    title calls as no other, also not as an AE title to which nothing is bound.
    The sentence names the fingerprint of the certificate, and no name in the certificate: it may be a person's.
    """
    owners = {title for title, bound in certificates.items() if bound & identities}
    if ae_title in owners or not (owners or ae_title in certificates):
        return ""
    fingerprints = [entry for entry in identities if entry.startswith("sha256:")]
    shown = f"the certificate {fingerprints[0]}" if fingerprints else "a connection without a certificate"
    belongs = f"belongs to {', '.join(map(repr, sorted(owners)))}" if owners else f"is not bound to {ae_title!r}"
    return (
        f"{shown} {belongs}; let the caller use its own AE title and certificate, or add this fingerprint to "
        f"calling_certificates of the [[peer]] with ae_title = {ae_title!r} in node.toml"
    )


def answers(proposed: Iterable[ProposedContext], policy: Policy) -> tuple[AnsweredContext, ...]:
    """Return the answer to each context: it accepts the sender's first transfer syntax that the node supports."""
    return tuple(_answer(context, policy) for context in proposed)


def _answer(proposed: ProposedContext, policy: Policy) -> AnsweredContext:
    first = proposed.transfer_syntaxes[0]
    supported = [syntax for syntax in proposed.transfer_syntaxes if syntax in policy.transfer_syntaxes]
    result = ContextResult.ACCEPTED
    if not is_served(proposed.abstract_syntax, policy):
        result = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
    elif not supported:
        result = ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED
    return AnsweredContext(proposed.identifier, proposed.abstract_syntax, result, supported[0] if supported else first)


def is_served(abstract_syntax: str, policy: Policy) -> bool:
    """Return whether the SOP class is verification, storage commitment or storage, which an unknown UID may be."""
    if abstract_syntax in (VERIFICATION, STORAGE_COMMITMENT):
        return True
    return abstract_syntax not in policy.not_storage and is_uid(abstract_syntax)


def commitment_roles(proposed: Iterable[Role]) -> tuple[Role, ...]:
    """Return the roles that the node grants: those of storage commitment, in which an archive reports or requests."""
    return tuple(role for role in proposed if role.sop_class_uid == STORAGE_COMMITMENT)
