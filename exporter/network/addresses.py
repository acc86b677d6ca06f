"""What an IP address is: one of the public internet, or of something inside that customers must not reach.

Stricter than the library, whose lists differ between versions of Python. It must not resolve names.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address


class Place(StrEnum):
    """Where an address leads to, in words."""

    PUBLIC = "a public address"
    HERE = "this machine itself"
    LINK = "in the link-local network, where a cloud hands out this machine's credentials"
    PLATFORM = "inside a cloud's own platform"
    PRIVATE = "in a private network"
    NOWHERE = "no address that a host of the internet can have"


_PLATFORM: Final = {
    ip_address("168.63.129.16"),  # Azure's host agent: it looks public, and never leaves the host
    ip_address("192.0.0.192"),  # Oracle's metadata service
    ip_address("100.100.100.200"),  # Alibaba's
    ip_address("fd00:ec2::254"),  # Amazon's, over IPv6
    ip_address("fd20:ce::254"),  # Google's
}
_PRIVATE: Final = [
    ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")
]
_GIVEN_OUT: Final = [ip_network("0.0.0.0/0"), ip_network("2000::/3")]  # the rest of IPv6 is local or reserved
_SPECIAL: Final = [
    ip_network(network)
    for network in (
        "192.0.0.0/24",  # of protocols, not of hosts
        "192.88.99.0/24",  # relays of 6to4
        "2001::/23",  # of protocols, Teredo among them: tunnels to the IPv4 address inside
        "2001:db8::/32",  # examples
        "3fff::/20",
    )
]
_NAT64: Final = ip_network("64:ff9b::/96")


def place_of(address: Address) -> Place:
    """Where the address leads to; one that carries an IPv4 address leads where that does."""
    carried = _carried(address)
    if carried is not None:
        return place_of(carried)
    if address in _PLATFORM:
        return Place.PLATFORM
    if address.is_loopback or address.is_unspecified:
        return Place.HERE
    if address.is_link_local:
        return Place.LINK
    if any(address in network for network in _PRIVATE):
        return Place.PRIVATE
    return Place.PUBLIC if _is_public(address) else Place.NOWHERE


def _carried(address: Address) -> IPv4Address | None:
    """The IPv4 address that packets to this IPv6 address end at."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_public(address: Address) -> bool:
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    given_out = any(address in network for network in _GIVEN_OUT)
    return given_out and not any(address in network for network in _SPECIAL)
