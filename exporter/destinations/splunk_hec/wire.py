"""How requests reach a collector: one try each, over guarded sessions that all collectors share.

It must not know what an answer means, nor let the token into a message. The token is in no session, and
cookies are in none either: whoever keeps some gives them along.
"""

from __future__ import annotations

import base64
import json
import re
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urljoin, urlsplit

from exporter.destinations.splunk_hec.address import ENDPOINT
from exporter.errors import ConfigError, NotSent, OutcomeUnknown
from exporter.notation.secret import without

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import requests
    from requests.cookies import RequestsCookieJar

    from exporter.destinations.splunk_hec.settings import SplunkHecSettings
    from exporter.network.guard import Guard

EVENTS: Final = f"{ENDPOINT}/event"
ACKS: Final = f"{ENDPOINT}/ack"
CONNECT_S: Final = 5.0
ANSWER_S: Final = 60.0
SLOWEST_BYTES_PER_S: Final = 32 << 10
MOST_ANSWER_BYTES: Final = 1 << 20
BLOCK_BYTES: Final = 1 << 16
GZIP: Final = b"\x1f\x8b"
MOST_WORDS: Final = 300
MOST_NUMBER: Final = 1 << 63
KEPT_SESSIONS: Final = 32
CONNECTION_HINT: Final = "check url, ca_file and the network between here and Splunk"
SEE_CHECK: Final = "where the way ends is said by: audit-exporter check --export NAME"
PLAIN_HINT: Final = "give the token alone, on one line and without the word Splunk in front of it"


class Broken(OutcomeUnknown):
    """The connection ended before there was an answer. Some servers say so that a request is too large."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; ``said`` is the JSON object in its body, empty if there is none."""

    status: int
    said: Mapping[str, Any]
    words: str = ""  # for a person, without secrets
    wait_s: float | None = None  # how long it asks to wait

    @property
    def code(self) -> int | None:
        """Splunk's own."""
        return self._number("code")

    @property
    def event(self) -> int | None:
        """Which event is bad, counted from 0 within the request."""
        return self._number("invalid-event-number")

    @property
    def ack_id(self) -> int | None:
        """What to ask for, to know when indexers have it."""
        return self._number("ackId")

    def _number(self, key: str) -> int | None:
        return _number(self.said.get(key))


@dataclass(frozen=True, slots=True)
class Channel:
    """A way to one indexer: its acknowledgements are of a channel, whose cookies lead back to it."""

    id: str
    cookies: RequestsCookieJar = field(repr=False)


class Wire:
    """Requests to one collector, at ``base``."""

    def __init__(self, settings: SplunkHecSettings, guard: Guard, base: str) -> None:
        self.base = base
        self._settings = settings
        self._guard = guard

    def pack(self, events: bytes) -> bytes:
        """Events as they go over the wire."""
        return _zipped(events) if self._settings.gzip else events

    def send(self, packed: bytes, channel: Channel | None) -> Answer:
        """One request with events. Raises NotSent if there was no connection, OutcomeUnknown if no answer."""
        return self._post(EVENTS, packed, channel, encoding="gzip" if self._settings.gzip else "")

    def ask(self, ack_ids: Sequence[int], channel: Channel) -> Answer:
        """One request for acknowledgements; raises the same."""
        body = json.dumps({"acks": ack_ids}).encode()
        return self._post(f"{ACKS}?channel={channel.id}", body, channel)

    def _post(self, path: str, body: bytes, channel: Channel | None, *, encoding: str = "") -> Answer:
        token = self._token()
        basic = base64.b64encode(f"x:{token}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Splunk {token}"}
        if self._settings.auth == "basic":
            headers["Authorization"] = f"Basic {basic}"
        if channel is not None:
            headers["X-Splunk-Request-Channel"] = channel.id
        if encoding:
            headers["Content-Encoding"] = encoding
        hide = (token, basic)
        try:
            with self._session(channel) as session:
                return _ask(session, f"{self.base}{path}", headers, body, hide)
        except ConfigError as error:  # a certificate file that is gone
            raise NotSent(error.message, hint=error.hint) from error
        except NotSent as error:
            raise NotSent(error.message, hint=f"{error.hint}; {SEE_CHECK}") from error
        except _wire_errors() as error:
            reason = _one_line(reason_of(error), hide)
            kind = Broken if _ended_early(error) else OutcomeUnknown
            raise kind(
                f"{self.base} did not say whether it took the events: {reason}", hint=CONNECTION_HINT
            ) from None  # what requests raises holds the request, and with it the token

    def _token(self) -> str:
        """Read anew each time, so that a rotated token is used at once."""
        try:
            token = self._settings.token.reveal()
        except ConfigError as error:
            raise NotSent(error.message, hint=error.hint) from error
        if not token:
            raise NotSent("the token is empty", hint="put the token where `token` says that it is")
        if not re.fullmatch(r"[!-~]{1,1000}", token):
            raise NotSent("the token has characters that no request can carry", hint=PLAIN_HINT)
        return token

    @contextmanager
    def _session(self, channel: Channel | None) -> Iterator[requests.Session]:
        with session_for(self._guard, self._settings.ca_file) as session:
            if channel is None:
                yield session
                return
            usual, session.cookies = session.cookies, channel.cookies
            try:
                yield session
            finally:
                session.cookies = usual


def _zipped(body: bytes) -> bytes:
    from isal import igzip

    return igzip.compress(body, 1, mtime=0)


def _ask(
    session: requests.Session, url: str, headers: Mapping[str, str], body: bytes, hide: tuple[str, ...]
) -> Answer:
    with session.post(
        url,
        data=body,
        headers=headers,
        timeout=(CONNECT_S, ANSWER_S + len(body) / SLOWEST_BYTES_PER_S),
        allow_redirects=False,
        stream=True,
    ) as response:
        data = _unzipped(b"".join(_blocks(response)))
        said = _json(data)
        words = _words(response.status_code, said, data, hide) + _way_on(response, hide)
        return Answer(response.status_code, said, words, _wait_s(response.headers))


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """The answer as it comes, until it is long or takes long: an answer is small."""
    deadline = time.monotonic() + ANSWER_S
    received = 0
    while received < MOST_ANSWER_BYTES and (block := response.raw.read1(BLOCK_BYTES)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the answer was not through after {ANSWER_S:.0f} s")
        received += len(block)
        yield block


def _unzipped(data: bytes) -> bytes:
    """The answer of who zips it although nobody asked for that, as far as it goes."""
    if not data.startswith(GZIP):
        return data
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        return unzip.decompress(data, MOST_ANSWER_BYTES)
    except zlib.error:
        return b"a compressed answer that cannot be read"


def _way_on(response: requests.Response, hide: tuple[str, ...]) -> str:
    """Where a redirect leads, without path and query, which may hold secrets."""
    if not response.is_redirect:
        return ""
    try:
        parts = urlsplit(urljoin(response.url or "", response.headers["Location"]))
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    except ValueError:
        return ""
    return f" to {_one_line(place, hide)}"


def _json(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(found: object) -> int | None:
    """What can be a code, an event's number or an acknowledgement's."""
    if not isinstance(found, int) or isinstance(found, bool):
        return None
    return found if 0 <= found < MOST_NUMBER else None


def _words(status: int, said: Mapping[str, Any], data: bytes, hide: tuple[str, ...]) -> str:
    """What an answer says, for a person."""
    text, code = said.get("text"), _number(said.get("code"))
    if not isinstance(text, str):
        text = re.sub(r"<[^>]*>", " ", data[:BLOCK_BYTES].decode(errors="replace"))
    where = f"code {code}, HTTP {status}" if code is not None else f"HTTP {status}"
    return f"{_one_line(text, hide)} ({where})".strip()


def _one_line(text: str, hide: tuple[str, ...]) -> str:
    """Printable and not too long, without these secrets: cut off, one could not be recognised."""
    line = without(text, hide)
    return " ".join("".join(one if one.isprintable() else " " for one in line).split())[:MOST_WORDS]


def _wait_s(headers: Mapping[str, str]) -> float | None:
    """What Retry-After asks for: seconds, or a moment by the server's own clock."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        then, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError):  # no moments, or one without a zone
        return None


def _wire_errors() -> tuple[type[Exception], ...]:
    """What a request can raise after its connection came about."""
    import requests
    from urllib3.exceptions import HTTPError

    return requests.RequestException, HTTPError, OSError, ValueError


def _ended_early(error: BaseException) -> bool:
    import requests

    return isinstance(error, requests.ConnectionError)


def reason_of(error: BaseException) -> str:
    """Why there was no answer, as the innermost cause says it: the outer ones quote whole addresses."""
    inner: BaseException | None = error
    while inner is not None:
        error = inner
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((one for one in reversed(error.args) if isinstance(one, BaseException)), None)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


# --- Sessions --------------------------------------------------------------------------------------


class _Idle(NamedTuple):
    """A session that nobody uses, whose connections are open: whom it may talk to and what it trusts."""

    guard: Guard
    ca_file: Path | None
    session: requests.Session


_idle: list[_Idle] = []  # the least recently used first
_lock = Lock()


@contextmanager
def session_for(guard: Guard, ca_file: Path | None) -> Iterator[requests.Session]:
    """A session that nobody else uses meanwhile. Raises ConfigError for a ``ca_file`` that cannot be used."""
    one = _take(guard, ca_file) or _new(guard, ca_file)
    try:
        yield one.session
    finally:
        _put_back(one)


def _new(guard: Guard, ca_file: Path | None) -> _Idle:
    from exporter.network.session import new_session

    return _Idle(guard, ca_file, new_session(guard, ca_file=ca_file))


def _take(guard: Guard, ca_file: Path | None) -> _Idle | None:
    with _lock:
        found = next((one for one in reversed(_idle) if (one.guard, one.ca_file) == (guard, ca_file)), None)
        if found is not None:
            _idle.remove(found)
        return found


def _put_back(one: _Idle) -> None:
    with _lock:
        _idle.append(one)
        surplus = _idle[:-KEPT_SESSIONS]
        del _idle[:-KEPT_SESSIONS]
    for old in surplus:
        old.session.close()
