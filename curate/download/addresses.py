"""Which network addresses may be visited: a table of URLs comes from strangers, and must not reach into the network
that the run stands in.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TypeAlias

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 6052 and RFC 8215: translators to IPv4, whose address is in the last 32 bits.
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
# RFC 4291, section 2.5.5.1: IPv4-compatible addresses, deprecated.
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")


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

    IPv6 addresses that carry an IPv4 address (mapped, compatible, 6to4, Teredo, NAT64) must be public in both.

    Raises:
        ValueError: it is no IP address.
    """
    outer = ipaddress.ip_address(address)
    for inner in (outer, *_carried(outer)):
        kind = _kind(inner)
        if kind is not None:
            return f"address {address} is {kind}"
    return None


def _carried(address: IpAddress) -> list[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in (*_NAT64, _IPV4_COMPATIBLE)):
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [inner for inner in carried if inner is not None]


def _kind(address: IpAddress) -> str | None:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return None  # what counts is the address that it carries
    kinds = {
        "loopback": address.is_loopback,
        "unspecified": address.is_unspecified,
        "link-local": address.is_link_local,
        "multicast": address.is_multicast,
        "private": address.is_private or getattr(address, "is_site_local", False),
        "reserved": address.is_reserved or not address.is_global,
    }
    return next((kind for kind, holds in kinds.items() if holds), None)
