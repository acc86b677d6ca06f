"""The clients of all buckets of this process: each serves one request at a time, and few are kept.

A client is 0.4 MB and an open connection: one for each of a thousand buckets would use up both. It
must not close a client that somebody uses, which is why it does not even know those.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEPT_CLIENTS = 64


class IdleClient(NamedTuple):
    """A client that nobody uses: whose it is, and what it signs with."""

    owner: object
    keys: object
    client: S3Client


class IdleClients:
    """Those that were used last, at most ``kept`` of them. Safe to use from several threads."""

    def __init__(self, kept: int = KEPT_CLIENTS) -> None:
        self._kept = kept
        self._idle: list[IdleClient] = []  # the least recently used first
        self._lock = Lock()

    def take(self, owner: object, keys: object) -> S3Client | None:
        """One of the owner's, if there is one with these keys; with others it serves nobody any more."""
        with self._lock:
            own = [idle for idle in self._idle if idle.owner == owner]
            outdated = [idle for idle in own if idle.keys != keys]
            taken = next((idle for idle in reversed(own) if idle.keys == keys), None)
            self._idle = [idle for idle in self._idle if idle is not taken and idle not in outdated]
        _close(outdated)
        return taken.client if taken else None

    def put_back(self, owner: object, keys: object, client: S3Client) -> None:
        """Keep this client for next time, and close those that were not used for longest."""
        with self._lock:
            self._idle.append(IdleClient(owner, keys, client))
            surplus = self._idle[: -self._kept]
            del self._idle[: -self._kept]
        _close(surplus)


def _close(clients: list[IdleClient]) -> None:
    for idle in clients:
        idle.client.close()
