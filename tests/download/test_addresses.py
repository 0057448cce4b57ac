"""A table of URLs cannot make the run visit its own network."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.download.addresses import AddressError, refusal, resolve

PRIVATE = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
]
PRIVATE_6 = [
    "::1/128",
    "::/128",
    "fe80::/10",
    "fc00::/7",
    "fec0::/10",
    "ff00::/8",
    "2001:db8::/32",
    "2001::/32",
    "64:ff9b:1::/48",
]
PUBLIC = ["8.0.0.0/8", "93.184.0.0/16", "151.101.0.0/16", "172.217.0.0/16", "192.30.0.0/16"]


def inside(network):
    first = int(ipaddress.ip_network(network).network_address)
    return st.integers(0, ipaddress.ip_network(network).num_addresses - 1).map(lambda offset: first + offset)


def number_in(networks):
    return st.sampled_from(networks).flatmap(inside)


private = number_in(PRIVATE)
private_6 = number_in(PRIVATE_6).map(lambda number: str(ipaddress.IPv6Address(number)))
public = number_in(PUBLIC)


def carriers(number):
    """IPv6 addresses that lead to an IPv4 address."""
    return [
        f"::ffff:{ipaddress.IPv4Address(number)}",
        f"::{ipaddress.IPv4Address(number)}",
        f"64:ff9b::{ipaddress.IPv4Address(number)}",
        str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80))),
    ]


def spellings(number):
    """What the system's resolver takes for the address `number`."""
    a, b, c, d = number.to_bytes(4, "big")
    return [
        f"{a}.{b}.{c}.{d}",
        str(number),
        hex(number),
        f"0{number:o}",
        f"{a}.{(b << 16) + (c << 8) + d}",
        f"{a:#o}.{b:#x}.{c}.{d}".replace("0o", "0"),
    ]


@given(private)
def test_private_addresses_are_refused_whatever_carries_them(number):
    for address in (str(ipaddress.IPv4Address(number)), *carriers(number)):
        assert refusal(address) is not None, address


@given(private_6)
def test_private_addresses_of_ipv6_are_refused(address):
    assert refusal(address) is not None


@given(public)
def test_public_addresses_are_not_refused(number):
    address = ipaddress.IPv4Address(number)
    assert refusal(str(address)) is None
    assert refusal(f"::ffff:{address}") is None
    assert refusal(f"64:ff9b::{address}") is None


@given(st.integers(0, 2**32 - 1))
def test_a_visited_address_is_global(number):
    address = ipaddress.IPv4Address(number)
    assert refusal(str(address)) is not None or (address.is_global and not address.is_multicast)


@given(private)
def test_no_spelling_of_a_private_address_is_resolved(number):
    for host in spellings(number):
        with pytest.raises(AddressError, match=r"address \S+ is|not known"):
            resolve(host, 80, allow_private=False)


@given(st.one_of(public, private))
def test_every_spelling_leads_to_the_address_that_was_checked(number):
    for host in spellings(number):
        (endpoint,) = resolve(host, 80, allow_private=True)
        assert endpoint.address[0] == str(ipaddress.IPv4Address(number))


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "a\0b", "ä" * 64])
def test_what_is_no_host_name_is_told(host):
    with pytest.raises(AddressError, match="not"):
        resolve(host, 80, allow_private=True)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("10.0.0.1", "private"),
        ("169.254.169.254", "link-local"),
        ("100.64.0.1", "reserved"),
        ("::1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("fe80::1%1", "link-local"),
        ("224.0.0.1", "multicast"),
    ],
)
def test_the_kind_of_address_is_told(address, kind):
    assert refusal(address) == f"address {address} is {kind}"


def test_one_private_address_of_a_host_is_enough(monkeypatch):
    def answers(host, port, type):
        return [(socket.AF_INET, type, 6, "", (each, port)) for each in ("93.184.216.34", "192.168.0.7")]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    with pytest.raises(AddressError, match=r"192\.168\.0\.7 is private"):
        resolve("innocent.example", 80, allow_private=False)


def test_a_name_server_that_does_not_answer_may_answer_later(monkeypatch):
    def answers(host, port, type):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    with pytest.raises(AddressError) as caught:
        resolve("somewhere.example", 80, allow_private=False)
    assert caught.value.again
