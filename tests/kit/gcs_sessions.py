"""Resumable uploads of ``gcs_server``, as documented: chunks, offsets, lost answers, the end. No HTTP."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from tests.kit.gcs_objects import GoogleError, invalid

if TYPE_CHECKING:
    from tests.kit.gcs_objects import Bucket, Principal, Storage, StoredObject, Upload

QUANTUM_BYTES = 256 << 10
RANGE = re.compile(r"bytes (?:(\*)|([0-9]+)-([0-9]+))/(\*|[0-9]+)")


@dataclass(frozen=True)
class Chunk:
    """One `PUT`: ``begin`` is None where it asks for the state. ``total``: the size, as far as it says it."""

    data: bytes
    begin: int | None
    total: int | None
    whole: bool = True  # or did the connection end in the middle?

    @classmethod
    def of(cls, content_range: str | None, data: bytes, *, whole: bool = True) -> Chunk:
        if content_range is None:
            return cls(data, 0, len(data) if whole else None, whole)
        match = RANGE.fullmatch(content_range)
        if match is None:
            raise GoogleError(400, "", "Failed to parse Content-Range header.")
        total = None if match[4] == "*" else int(match[4])
        if match[1]:
            return cls(data, None, total, whole)
        begin, length = int(match[2]), int(match[3]) - int(match[2]) + 1
        fits = total is None or begin + length <= total
        if not fits or (whole and length != len(data)):
            raise GoogleError(400, "", "Invalid request.  The Content-Range header does not fit the request.")
        return cls(data, begin, total, whole)

    @property
    def is_last(self) -> bool:
        return self.whole and self.begin is not None and self.begin + len(self.data) == self.total


@dataclass
class Session:
    """An upload that has begun. ``total``: its size, once it was said; ``stored``: what came of it."""

    bucket: Bucket
    upload: Upload
    principal: Principal
    total: int | None
    data: bytearray = field(default_factory=bytearray)
    stored: StoredObject | None = None

    def agree(self, total: int | None) -> None:
        if total is not None and self.total not in {None, total}:
            raise GoogleError(
                400,
                "",
                f"Invalid request.  The upload has {self.total} byte(s), not the {total} of this request.",
            )
        self.total = self.total if total is None else total

    def take(self, chunk: Chunk) -> None:
        """Keep what is new of a chunk, in whole quanta unless it is the last."""
        begin = chunk.begin or 0
        if begin > len(self.data):
            raise GoogleError(
                503,
                "",
                f"Invalid request.  According to the Content-Range header, the upload offset is {begin} "
                f"byte(s), which exceeds already uploaded size of {len(self.data)} byte(s).",
            )
        if chunk.whole and not chunk.is_last and len(chunk.data) < QUANTUM_BYTES:
            raise GoogleError(
                400,
                "",
                "Invalid request.  The number of bytes uploaded is required to be equal or greater than "
                f"{QUANTUM_BYTES}, except for the final request (it's recommended to be the exact multiple "
                f"of {QUANTUM_BYTES}).  The received request contained {len(chunk.data)} bytes, which does "
                "not meet this requirement.",
            )
        end = begin + len(chunk.data)
        kept = end if chunk.is_last else end - end % QUANTUM_BYTES
        self.data += chunk.data[len(self.data) - begin : max(kept - begin, 0)]


class Sessions:
    """All resumable uploads of a storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._sessions: dict[str, Session] = {}
        self._gone: set[str] = set()

    def start(self, bucket: Bucket, upload: Upload, principal: Principal, total: int | None) -> str:
        """The id of a new upload; raises what the upload would meet now."""
        with self._storage.lock:
            bucket.slow_down(upload.name)
            self._storage.admit(bucket, upload, principal)
            session_id = f"AB{uuid4().hex}"
            self._sessions[session_id] = Session(bucket, upload, principal, total)
            return session_id

    def put(self, session_id: str, chunk: Chunk, hashes: str) -> StoredObject | int:
        """The finished object, or how many bytes are kept so far."""
        with self._storage.lock:
            session = self._get(session_id)
            if session.stored is None:
                self._advance(session, chunk, hashes)
            return len(session.data) if session.stored is None else session.stored

    def session(self, session_id: str) -> Session:
        """Raises for one that is not, or no longer."""
        with self._storage.lock:
            return self._get(session_id)

    def cancel(self, session_id: str) -> None:
        with self._storage.lock:
            self._get(session_id)
            self._end(session_id)

    def end_all(self, *, forget: bool) -> None:
        """As after a week: gone (410), or forgotten (404)."""
        with self._storage.lock:
            for session_id in list(self._sessions):
                self._end(session_id)
            if forget:
                self._gone.clear()

    def _end(self, session_id: str) -> None:
        del self._sessions[session_id]
        self._gone.add(session_id)

    def _get(self, session_id: str) -> Session:
        if session_id in self._gone:
            raise GoogleError(410, "gone", "The requested upload session is no longer available.")
        if session_id not in self._sessions:
            raise GoogleError(404, "", "Not Found")
        return self._sessions[session_id]

    def _advance(self, session: Session, chunk: Chunk, hashes: str) -> None:
        if chunk.begin is None and chunk.data:
            raise invalid("Invalid request.  A request for the state of an upload has no body.")
        session.agree(chunk.total)
        if chunk.begin is not None:
            session.take(chunk)
        if len(session.data) == session.total and chunk.whole:
            session.stored = self._storage.create(
                session.bucket, session.upload, session.principal, bytes(session.data), hashes
            )
            session.data.clear()
