"""A large object in chunks: chunks are tried again, the last one, which completes the object, is not.

Nothing exists before the last chunk has arrived, whatever became of the others. After a lost answer the
session is asked how far it has come, and the upload goes on from there. It must not send the last
chunk twice, nor to another host than the session was begun at.
"""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from exporter.destinations.gcs.wire import DONE, Upload
from exporter.errors import NotSent, OutcomeUnknown, Refused
from exporter.retries import retry_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from exporter.destinations.gcs.wire import Answer
    from exporter.destinations.uploads import Limits

CHUNK_TRIES = 4
CHUNK_TIMEOUT_S = 600
INCOMPLETE = HTTPStatus.PERMANENT_REDIRECT  # 308, which this protocol means otherwise
GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
AGAIN = "nothing: the next try begins anew"


class SessionGone(NotSent):
    """This upload cannot land any more, nor go on."""


class Counted:
    """Progress that counts no byte twice, however often chunks are sent."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress = progress
        self._counted = 0

    def beginning_at(self, start: int) -> Callable[[int], None]:
        """For bytes from there on."""
        at = start

        def count(sent: int) -> None:
            nonlocal at
            at += sent
            if at > self._counted:
                self._progress(at - self._counted)
                self._counted = at

        return count


class Chunks(NamedTuple):
    """A file on its way through one session, at ``path`` of the store.

    ``send`` makes one request: a method, a path, headers, a body and the statuses that are expected.
    """

    send: Callable[..., Answer]
    path: str
    file: BinaryIO
    size: int
    limits: Limits
    counted: Counted

    def send_all_but_the_last(self) -> int:
        """Send chunks until one is left; where that begins."""
        last = (self.size - 1) // self.limits.part_bytes * self.limits.part_bytes
        deadline = time.monotonic() + self.limits.upload_s(self.size)
        at = 0
        while at < last:
            if time.monotonic() > deadline:
                raise OutcomeUnknown("the chunks were not through in the time for an upload of this size")
            at = self._go_on(at, last)
        return last

    def _go_on(self, at: int, last: int) -> int:
        """One chunk further, in several tries."""
        for attempt in retry_context(on=_passes, attempts=CHUNK_TRIES, timeout=CHUNK_TIMEOUT_S):
            with attempt:
                if attempt.num > 1:
                    at = self._kept()
                if at < last:
                    at = self._send_chunk(at, min(at + self.limits.part_bytes, last))
        return at

    def _kept(self) -> int:
        """How far the session has come."""
        headers = {"Content-Range": f"bytes */{self.size}", "Content-Length": "0"}
        return _end_of(self._asked(headers, None, INCOMPLETE))

    def _send_chunk(self, start: int, end: int) -> int:
        if (kept := _end_of(self._asked(*self._range(start, end), INCOMPLETE))) <= start:
            raise OutcomeUnknown("the store kept nothing of a chunk", hint=AGAIN)
        return kept

    def complete(self, start: int) -> Answer:
        """Send the last chunk, once: the request that makes the object, or does not."""
        answer = self._asked(*self._range(start, self.size), *DONE, INCOMPLETE)
        if answer.status == INCOMPLETE:
            raise NotSent("the upload broke off: its end was not taken", hint=AGAIN)
        return answer

    def _asked(self, headers: dict[str, str], body: Upload | None, *expected: int) -> Answer:
        """One request to the session. Raises SessionGone if that is so."""
        answer = self.send("PUT", self.path, headers=headers, body=body, expected=(*expected, *GONE))
        if answer.status in GONE:
            raise SessionGone("the upload broke off: its session is gone", hint=AGAIN)
        return answer

    def _range(self, start: int, end: int) -> tuple[dict[str, str], Upload]:
        """These bytes: headers and body."""
        body = self.limits.body(self.file, start, end - start, self.counted.beginning_at(start))
        return {"Content-Range": f"bytes {start}-{end - 1}/{self.size}"}, Upload(body)


def session_path(begun: Answer) -> str:
    """The path and query of the session; its host is the store's, whatever that says. Raises Refused."""
    parts = urlsplit(begun.headers.get("Location", ""))
    if not re.fullmatch(r"/[!-~]*", parts.path) or not re.fullmatch(r"[!-~]+", parts.query):
        raise Refused(
            "the store began an upload without saying where it goes on",
            hint="correct endpoint_url: what answers there does not speak as Google Cloud Storage does",
        )
    return f"{parts.path}?{parts.query}"


def _passes(failure: Exception) -> bool:
    """Whether another try may get further."""
    return isinstance(failure, NotSent | OutcomeUnknown) and not isinstance(failure, SessionGone)


def _end_of(answer: Answer) -> int:
    """How many bytes a session has kept, from the beginning on."""
    if "Range" not in answer.headers:
        return 0
    match = re.fullmatch(r"bytes=0-([0-9]{1,15})", answer.headers["Range"])
    if match is None:
        raise OutcomeUnknown("the store did not say how much it kept of an upload")
    return int(match[1]) + 1
