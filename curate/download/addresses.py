"""Which network addresses may be visited: a table of URLs comes from strangers, and must not reach into the network
that the run stands in.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TypeAlias

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 6052: a translator to IPv4, whose address is in the last 32 bits. Where a network has no IPv4 of its own, name
# servers give such addresses for most hosts.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressError(Exception):
    """A host that has no address, or one that may not be visited; says why in words that fit a row's error.

    Attributes:
        again: whether another try may find an address.
    """

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


@dataclass(frozen=True)
class Endpoint:
    """Where to connect: the very address that was checked, so that a second look-up cannot give another one.

    Attributes:
        family: socket.AF_INET or socket.AF_INET6.
        address: what `socket.connect` takes.
    """

    family: int
    address: tuple[str, int] | tuple[str, int, int, int]


def resolve(host: str, port: int, allow_private: bool) -> list[Endpoint]:
    """All addresses of a host, in the order in which they are to be tried.

    Names, dotted, decimal, octal and hexadecimal hosts are all what the system's resolver makes of them: its answer
    is what is checked. It decides how long it takes.

    Args:
        host: name or address as a URL has it, IPv6 without brackets.
        port: TCP port.
        allow_private: whether addresses that `refusal` refuses may be visited too.

    Raises:
        AddressError: there is none, or one of them may not be visited.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise AddressError("the name server does not answer", again=True) from None
        raise AddressError("the host is not known") from None
    except (OSError, ValueError):
        raise AddressError("the host name is not valid") from None
    # The third shape is what builds of Python without IPv6 give for addresses that they cannot read.
    endpoints = list(dict.fromkeys(Endpoint(f, a) for f, _, _, _, a in found if isinstance(a[0], str)))
    if not endpoints:
        raise AddressError("the host is not known")
    for endpoint in endpoints:
        reason = refusal(str(endpoint.address[0]))
        if reason is not None and not allow_private:
            raise AddressError(reason)
    return endpoints


def refusal(address: str) -> str | None:
    """Why an address may not be visited; None if it is a public one.

    Of an IPv6 address that stands for an IPv4 address (mapped, 6to4, NAT64) that one counts too.

    Raises:
        ValueError: it is no IP address.
    """
    given = ipaddress.ip_address(address)
    kind = _kind(given)
    return None if kind is None else f"address {address} is {kind}"


def _kind(address: IpAddress) -> str | None:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _kind(address.ipv4_mapped)
        if address in _NAT64:
            return _kind(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour is not None and (kind := _kind(address.sixtofour)) is not None:
            return kind
    kinds = {
        "loopback": address.is_loopback,
        "unspecified": address.is_unspecified,
        "link-local": address.is_link_local,
        "multicast": address.is_multicast,
        "private": address.is_private or (isinstance(address, ipaddress.IPv6Address) and address.is_site_local),
        "reserved": address.is_reserved or not address.is_global,
    }
    return next((kind for kind, holds in kinds.items() if holds), None)
