"""Connecting to a host that has several addresses, within one time for all of them.

It must not resolve a name: which addresses are fit is the guard's to say.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHORTEST_TRY_S: Final = 1.0  # for one of several addresses: below it, a lost packet would count as no answer


def connected(addresses: Sequence[str], port: int, limit_s: float) -> socket.socket:
    """A socket to the first of the addresses that answers. Raises OSError, that of the last one tried."""
    failure: OSError = TimeoutError("timed out")
    for address, share_s in _in_turn(addresses, limit_s):
        try:
            made = socket.create_connection((address, port), share_s)
        except OSError as error:
            failure = error
        else:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.settimeout(limit_s)
            return made
    raise failure


def _in_turn(addresses: Sequence[str], limit_s: float) -> Iterator[tuple[str, float]]:
    """The addresses, each with its share of the time that is left."""
    until = time.monotonic() + limit_s
    for place, address in enumerate(addresses):
        left_s = until - time.monotonic()
        if left_s > 0:
            yield address, min(left_s, max(SHORTEST_TRY_S, left_s / (len(addresses) - place)))
