"""How requests to Google go out: once each, with bounded answers, over sessions that all buckets share.

Plain requests over a guarded session, not google-cloud-storage: its uploads read an object, or a whole chunk,
into memory and copy it, send a request again after a 401, and look up locations in a thread of their own.
It must not know what a request is for, or what an answer means.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.destinations.uploads import RENDER_AGAIN
from exporter.errors import NotSent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import requests

    from exporter.destinations.uploads import Body
    from exporter.network.guard import Guard

STORAGE = "https://storage.googleapis.com"
IAM_CREDENTIALS = "https://iamcredentials.googleapis.com"
# Fixed hosts, which a private DNS may lead to private addresses.
GOOGLE = (
    "storage.googleapis.com",
    "oauth2.googleapis.com",
    "sts.googleapis.com",
    "iamcredentials.googleapis.com",
)
AWS_METADATA = ("169.254.169.254", "[fd00:ec2::254]")
DONE = (HTTPStatus.OK, HTTPStatus.CREATED)
CONNECT_S = 5.0
IDLE_S = 60.0
MOST_ANSWER_BYTES = 1 << 20
BLOCK_BYTES = 1 << 16
KEPT_SESSIONS = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``body`` is cut off where no answer of Google's would go on."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> dict[str, Any]:
        """The object in the body; empty if there is none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


class Upload:
    """A body between two texts, to be sent once. Raises what ends it: its time is over, or its file."""

    def __init__(self, body: Body, head: bytes = b"", tail: bytes = b"") -> None:
        self._body = body
        self._head = head
        self._tail = tail
        self._length = body.seek(0, 2)

    def __len__(self) -> int:
        return len(self._head) + self._length + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        self._body.seek(0)
        self._body.sending()
        yield self._head
        while block := self._body.read(BLOCK_BYTES):
            yield block
        if self._body.tell() != self._length:  # what was sent is less than announced, so nothing can land
            raise NotSent("the archive became shorter in the workspace", hint=RENDER_AGAIN)
        yield self._tail


def ask(
    session: requests.Session,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | Upload | None = None,
    idle_s: float = IDLE_S,
) -> Answer:
    """One request and its answer. Raises NotSent if no connection came about, else `wire_errors`."""
    with session.request(
        method,
        url,
        headers={"Accept-Encoding": "identity", **headers},
        data=body,
        timeout=(CONNECT_S, idle_s),
        allow_redirects=False,
        stream=True,
    ) as response:
        data = b"".join(_blocks(response, idle_s))
        return Answer(response.status_code, response.headers, data)


def _blocks(response: requests.Response, limit_s: float) -> Iterable[bytes]:
    """The answer as it comes, until it is long or takes long: an answer is small."""
    deadline = time.monotonic() + limit_s
    received = 0
    while received < MOST_ANSWER_BYTES and (block := response.raw.read1(BLOCK_BYTES)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the answer was not through after {limit_s:.0f} s")
        received += len(block)
        yield block


def wire_errors() -> tuple[type[Exception], ...]:
    """What a request can raise after its connection came about, or when it cannot be written."""
    import requests
    from urllib3.exceptions import HTTPError

    return requests.RequestException, HTTPError, OSError, ValueError


# --- Sessions --------------------------------------------------------------------------------------


class IdleSession(NamedTuple):
    """A session that nobody uses, whose connections are open: whom it may talk to and what it trusts."""

    guard: Guard
    ca_file: Path | None
    session: requests.Session


_idle: list[IdleSession] = []  # the least recently used first
_lock = Lock()


@contextmanager
def session_for(guard: Guard, ca_file: Path | None) -> Iterator[requests.Session]:
    """A session that nobody else uses meanwhile. Raises ConfigError for a ``ca_file`` that cannot be used.

    Credentials are in requests and not in sessions, so all buckets share them.
    """
    idle = _take(guard, ca_file) or _new(guard, ca_file)
    try:
        yield idle.session
    finally:
        idle.session.cookies.clear()
        _put_back(idle)


def _new(guard: Guard, ca_file: Path | None) -> IdleSession:
    from exporter.network.session import new_session

    return IdleSession(guard, ca_file, new_session(guard, ca_file=ca_file))


def _take(guard: Guard, ca_file: Path | None) -> IdleSession | None:
    with _lock:
        found = next((one for one in reversed(_idle) if (one.guard, one.ca_file) == (guard, ca_file)), None)
        if found is not None:
            _idle.remove(found)
        return found


def _put_back(idle: IdleSession) -> None:
    with _lock:
        _idle.append(idle)
        surplus = _idle[:-KEPT_SESSIONS]
        del _idle[:-KEPT_SESSIONS]
    for one in surplus:
        one.session.close()


@cache
def with_google(guard: Guard) -> Guard:
    """The guard that lets Google's own hosts be anywhere; one for each, so that sessions are shared."""
    return guard.allowing(*GOOGLE)


@cache
def with_metadata(guard: Guard) -> Guard:
    """The guard that also lets AWS tell this machine who it is."""
    return with_google(guard).allowing(*AWS_METADATA, in_clear=True)
