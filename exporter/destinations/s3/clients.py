"""The clients of all buckets of this process: each serves one request at a time, and few are kept.

A client is 0.4 MB, an open connection and 5 ms of work: one for each of a thousand buckets would use up all
three. So it serves every bucket that is reached in the same way with the same keys, and never one with
others. It must not close a client that somebody uses, which is why it does not even know those.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from exporter.network.guard import Guard

KEPT_CLIENTS = 64


class Way(NamedTuple):
    """How a bucket is reached: everything that a client is made of, but for its keys."""

    endpoint_url: str | None
    region: str | None
    path_style: bool
    ca_file: Path | None
    answer_s: float
    guard: Guard


class IdleClient(NamedTuple):
    """A client that nobody uses: where it leads to, and what it signs with."""

    way: object
    keys: object
    client: S3Client


class IdleClients:
    """Those that were used last, at most ``kept`` of them. Safe to use from several threads."""

    def __init__(self, kept: int = KEPT_CLIENTS) -> None:
        self._kept = kept
        self._idle: list[IdleClient] = []  # the least recently used first
        self._lock = Lock()

    def take(self, way: object, keys: object) -> S3Client | None:
        """One that leads there and signs with these keys, if there is one."""
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place][:2] == (way, keys):
                    return self._idle.pop(place).client
        return None

    def put_back(self, way: object, keys: object, client: S3Client) -> None:
        """Keep this client for next time, and close those that were not used for longest."""
        with self._lock:
            self._idle.append(IdleClient(way, keys, client))
            surplus = self._idle[: -self._kept]
            del self._idle[: -self._kept]
        _close(surplus)

    def let_go(self, way: object, keys: object) -> None:
        """Close those with these keys, which somebody has replaced."""
        with self._lock:
            outdated = [idle for idle in self._idle if idle[:2] == (way, keys)]
            self._idle = [idle for idle in self._idle if idle[:2] != (way, keys)]
        _close(outdated)


def _close(clients: Iterable[IdleClient]) -> None:
    for idle in clients:
        idle.client.close()
