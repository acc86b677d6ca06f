"""HTTP of `tests.kit.gcs_server`: requests, bodies and answers as the JSON API has them; no rules in here."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from uuid import uuid4

from tests.kit.gcs_objects import EVERYTHING, GoogleError, Upload, invalid
from tests.kit.gcs_sessions import Chunk
from tests.kit.proxy import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message

    from tests.kit.gcs_objects import Bucket, Principal, StoredObject
    from tests.kit.gcs_server import Gcs

SEEN_BYTES = 64 << 10
IDLE_S = 60
INSERT = re.compile(r"/upload/storage/v1/b/([^/]+)/o")


@dataclass(frozen=True)
class Answer:
    """What goes back. ``body``: bytes as they are, anything else as JSON."""

    status: int
    body: object = b""
    headers: Mapping[str, str] | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_S
    gcs: Gcs
    query: Mapping[str, str]
    body: bytes
    whole: bool

    def version_string(self) -> str:
        return "UploadServer"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def handle_expect_100(self) -> bool:
        return True  # answered once the request is found good: a refusal comes before the body

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        self.query = {
            name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()
        }
        try:
            self.body, self.whole = self._take_body(parts.path)
            self._note()
            answer = self._route(parts.path)
        except GoogleError as error:
            kind = "text/plain; charset=utf-8" if error.plain else "application/json; charset=UTF-8"
            answer = Answer(error.status, error.body(), {"Content-Type": kind})
        if self.whole:
            self._answer(answer)
        else:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the base class's names

    def _note(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.body if len(self.body) <= SEEN_BYTES else b""
        self.gcs.seen.append(Request(self.command, self.path, headers, body))

    def _take_body(self, path: str) -> tuple[bytes, bool]:
        """The request's body, and whether all of it came."""
        self.body, self.whole = b"", True
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        length = self.headers.get("Content-Length")
        if self.headers.get("Expect", "").lower() == "100-continue":
            self._admit(path)
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
        if chunked:
            return self._take_chunks()
        if length is None and self.command in {"POST", "PUT"}:
            self.close_connection = True
            raise GoogleError(411, "", "Length Required")
        body = self.rfile.read(int(length or 0))
        return body, len(body) == int(length or 0)

    def _take_chunks(self) -> tuple[bytes, bool]:
        parts: list[bytes] = []
        while True:
            line = self.rfile.readline(80)
            size = int(line.split(b";")[0] or b"0", 16) if line.strip() else 0
            part = self.rfile.read(size + 2)
            if not line.strip() or len(part) < size + 2:
                return b"".join([*parts, part]), False
            if not size:
                return b"".join(parts), True
            parts.append(part[:-2])

    def _admit(self, path: str) -> None:
        """Refuse what is asked for beforehand, as far as it can be told without the body."""
        self.close_connection = True  # until it is found good: who was refused may send the body or not
        match = INSERT.fullmatch(path)
        if match and self.command == "POST" and "upload_id" not in self.query:
            principal, bucket = self._principal(), self.gcs.storage.bucket(unquote(match[1]))
            if "name" in self.query:
                self.gcs.storage.admit(bucket, Upload.of(self.query, {}, ""), principal)
        self.close_connection = self.headers.get("Connection", "").lower() == "close"

    def _principal(self) -> Principal:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if token and scheme.lower() != "bearer":
            raise GoogleError(401, "authError", "Invalid Credentials", header="Authorization")
        return self.gcs.storage.caller(token)

    def _route(self, path: str) -> Answer:
        if path.startswith("/upload/") and "upload_id" in self.query:
            return self._resume(self.query["upload_id"])
        for method, pattern, action in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == self.command:
                return action(self, *(unquote(part) for part in match.groups()))
        raise GoogleError(404, "notFound", "Not Found")

    # Uploads

    def _upload(self, name: str) -> Answer:
        if not self.whole:
            return Answer(400)
        principal, bucket = self._principal(), self.gcs.storage.bucket(name)
        body = self._unpacked()
        match self.query.get("uploadType"):
            case "resumable":
                return self._start(bucket, principal, body)
            case "multipart":
                resource, content_type, data = _parts(self.headers, body)
            case "media":
                resource, content_type, data = {}, self.headers.get("Content-Type", ""), body
            case _:
                raise invalid("Invalid Upload Request: uploadType must be media, multipart or resumable")
        upload = Upload.of(self.query, resource, str(resource.get("contentType") or content_type))
        hashes = self.headers.get("X-Goog-Hash", "")
        stored = self.gcs.storage.create(bucket, upload, principal, data, hashes)
        return self._created(bucket, upload, stored)

    def _start(self, bucket: Bucket, principal: Principal, body: bytes) -> Answer:
        resource = _json(body) if body else {}
        content_type = resource.get("contentType") or self.headers.get("X-Upload-Content-Type", "")
        upload = Upload.of(self.query, resource, str(content_type))
        total = self.headers.get("X-Upload-Content-Length")
        session = self.gcs.sessions.start(bucket, upload, principal, int(total) if total else None)
        place = (
            f"/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&name={quote(upload.name, safe='')}"
        )
        headers = {
            "Location": f"{self._address()}{place}&upload_id={session}",
            "X-GUploader-UploadID": session,
        }
        return Answer(200, headers=headers)

    def _resume(self, session_id: str) -> Answer:
        if self.headers.get("Authorization"):  # the address is a credential of its own
            self._principal()
        if self.command == "DELETE":
            self.gcs.sessions.cancel(session_id)
            return Answer(499)
        if self.headers.get("Content-Encoding"):
            raise GoogleError(400, "", "Invalid request.  A chunk has no Content-Encoding.")
        session = self.gcs.sessions.session(session_id)
        chunk = Chunk.of(self.headers.get("Content-Range"), self.body, whole=self.whole)
        result = self.gcs.sessions.put(session_id, chunk, self.headers.get("X-Goog-Hash", ""))
        if not isinstance(result, int):
            return self._created(session.bucket, session.upload, result, session_id)
        headers = {"X-GUploader-UploadID": session_id} | (
            {"Range": f"bytes=0-{result - 1}"} if result else {}
        )
        if self.headers.get("X-GUploader-No-308") == "yes":
            return Answer(200, headers=headers | {"X-HTTP-Status-Code-Override": "308"})
        return Answer(308, headers=headers)

    def _created(self, bucket: Bucket, upload: Upload, stored: StoredObject, session: str = "") -> Answer:
        headers = {"ETag": f'"{stored.generation}"', "X-GUploader-UploadID": session or f"AB{uuid4().hex}"}
        return Answer(200, self._resource(bucket, upload.name, stored), headers)

    def _resource(self, bucket: Bucket, name: str, stored: StoredObject) -> dict[str, Any]:
        return stored.resource(bucket.name, name, self._address())

    def _address(self) -> str:
        return self.gcs.address(self.headers.get("Host"))

    def _unpacked(self) -> bytes:
        """A request's own gzip is undone before anything is stored; the object's encoding is a setting."""
        if self.headers.get("Content-Encoding", "identity") == "identity":
            return self.body
        try:
            return zlib.decompress(self.body, wbits=31)
        except zlib.error:
            raise invalid("Failed to decompress the request body.") from None

    # Everything else

    def _bucket(self, name: str) -> Answer:
        principal, bucket = self._principal(), self.gcs.storage.bucket(name)
        principal.need("storage.buckets.get")
        return Answer(200, bucket.resource())

    def _delete(self, bucket: str, name: str) -> Answer:
        self.gcs.storage.delete(self.gcs.storage.bucket(bucket), name, self._principal())
        return Answer(204)

    def _test_permissions(self, name: str) -> Answer:
        """The answer has no list where the caller may do nothing of it. Asking needs no permission."""
        principal = self._principal()
        self.gcs.storage.bucket(name)
        asked = parse_qs(urlsplit(self.path).query).get("permissions", [])
        held = [permission for permission in asked if (permission, "") in principal.grants]
        held = asked if (EVERYTHING, "") in principal.grants else held
        kind: dict[str, object] = {"kind": "storage#testIamPermissionsResponse"}
        return Answer(200, kind | ({"permissions": held} if held else {}))

    def _list(self, name: str) -> Answer:
        principal, bucket = self._principal(), self.gcs.storage.bucket(name)
        prefix, after = self.query.get("prefix", ""), self.query.get("pageToken", "")
        principal.need("storage.objects.list", prefix)
        limit = min(int(self.query.get("maxResults", "1000")), 1000)
        names = sorted(
            name for name in self.gcs.objects(bucket.name) if name.startswith(prefix) and name > after
        )
        page: dict[str, object] = {"kind": "storage#objects"}
        if names:
            page["items"] = [self._resource(bucket, name, bucket.get(name)) for name in names[:limit]]
        if len(names) > limit:
            page["nextPageToken"] = names[limit - 1]
        return Answer(200, page)

    def _object(self, bucket_name: str, name: str) -> Answer:
        principal, bucket = self._principal(), self.gcs.storage.bucket(bucket_name)
        principal.need("storage.objects.get", name)
        stored = bucket.get(name, self.query.get("generation", ""))
        if self.query.get("alt") != "media":
            return Answer(200, self._resource(bucket, name, stored))
        headers = {
            "Content-Type": stored.content_type,
            "X-Goog-Hash": f"crc32c={stored.crc32c},md5={stored.md5}",
            "X-Goog-Generation": str(stored.generation),
            "X-Goog-Storage-Class": stored.storage_class,
            "X-Goog-Stored-Content-Encoding": stored.content_encoding or "identity",
            "X-Goog-Stored-Content-Length": str(len(stored.data)),
        }
        if stored.content_encoding != "gzip":
            return self._ranged(stored.data, headers)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            return Answer(200, stored.data, headers | {"Content-Encoding": "gzip"})
        return Answer(200, zlib.decompress(stored.data, wbits=31), headers)

    def _ranged(self, data: bytes, headers: Mapping[str, str]) -> Answer:
        match = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", self.headers.get("Range", ""))
        if match is None:
            return Answer(200, data, headers)
        first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
        if first >= len(data):
            raise GoogleError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
        part = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return Answer(206, data[first : last + 1], dict(headers) | part)

    def _answer(self, answer: Answer) -> None:
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        headers = dict(answer.headers or {})
        if body:
            headers = {"Content-Type": "application/json; charset=UTF-8"} | headers
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if answer.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ROUTES: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
    ("POST", INSERT.pattern, _Handler._upload),
    ("GET", r"/storage/v1/b/([^/]+)", _Handler._bucket),
    ("GET", r"/storage/v1/b/([^/]+)/iam/testPermissions", _Handler._test_permissions),
    ("GET", r"/storage/v1/b/([^/]+)/o", _Handler._list),
    ("GET", r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)", _Handler._object),
    ("DELETE", r"/storage/v1/b/([^/]+)/o/([^/]+)", _Handler._delete),
)


def handler_for(gcs: Gcs) -> type[BaseHTTPRequestHandler]:
    """What answers this server's requests."""
    return type("Handler", (_Handler,), {"gcs": gcs})


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        raise GoogleError(400, "parseError", "Parse Error") from None
    if not isinstance(value, dict) or any(
        not isinstance(text, str) for text in value.get("metadata", {}).values()
    ):
        raise GoogleError(400, "parseError", "Parse Error")
    return value


def _parts(headers: Message, body: bytes) -> tuple[dict[str, Any], str, bytes]:
    """The object resource, the content type and the bytes of a `multipart/related` body."""
    boundary = headers.get_param("boundary")
    if headers.get_content_type() != "multipart/related" or not isinstance(boundary, str):
        raise GoogleError(400, "badContent", "Multipart must have Content-Type multipart/related")
    line = b"--" + boundary.encode()
    end = body.rfind(b"\r\n" + line + b"--")
    if not body.startswith(line + b"\r\n") or end < 0:
        raise GoogleError(400, "badContent", "Missing end boundary in multipart body.")
    first, separator, second = body[len(line) : end].partition(b"\r\n" + line + b"\r\n")
    _, _, resource = first.partition(b"\r\n\r\n")
    media_headers, blank, data = second.partition(b"\r\n\r\n")
    if not separator or not blank:
        raise GoogleError(400, "badContent", "Malformed multipart body.")
    content_type = next(
        (
            value.strip().decode()
            for name, _, value in (line.partition(b":") for line in media_headers.split(b"\r\n"))
            if name.lower() == b"content-type"
        ),
        "",
    )
    return _json(resource), content_type, data
