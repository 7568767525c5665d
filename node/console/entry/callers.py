"""Where a request comes from: its address and its transport, behind a reverse proxy too."""

from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

Networks = tuple[IPv4Network | IPv6Network, ...]


def address_of(scope: Scope, proxies: Networks) -> str:
    """Return the address of the caller: what the last listed proxy says, or who is connected."""
    address = direct_address(scope)
    forwarded = [part.strip() for part in ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")]
    for earlier in reversed([part for part in forwarded if part]):
        if not is_in(address, proxies):
            break
        address = earlier[:64]
    return address


def direct_address(scope: Scope) -> str:
    """Return the address that is connected, '' for none."""
    return scope["client"][0] if scope["client"] else ""


def is_encrypted(scope: Scope, proxies: Networks) -> bool:
    """Return whether the browser speaks TLS, to the node or to a listed proxy."""
    if scope["scheme"] == "https":
        return True
    is_by_proxy = is_in(direct_address(scope), proxies)
    return is_by_proxy and Headers(scope=scope).get("x-forwarded-proto", "").strip().lower() == "https"


def is_in(address: str, networks: Networks) -> bool:
    """Return whether an address is in one of the networks."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(parsed in network for network in networks)
