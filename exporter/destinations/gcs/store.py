"""The driver for Google Cloud Storage: create-only puts, at once or in chunks of one resumable session.

The identity that writes needs `storage.objects.create` on the prefix (roles/storage.objectCreator), which
cannot replace; a customer's own key is used by the storage service agent of the bucket's project. It must
not list, read or delete, nor try a put twice: only the chunks of a large upload are tried again, because
nothing exists before the last one. ``wire`` says why it does without google-cloud-storage.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from exporter.destinations.gcs import wire
from exporter.destinations.gcs.check import findings_of
from exporter.destinations.gcs.credentials import Credentials
from exporter.destinations.gcs.errors import Place, put_refused, put_unanswered
from exporter.destinations.gcs.resumable import Chunks, Counted, session_path
from exporter.destinations.gcs.wire import Answer, Upload, ask, session_for, wire_errors, with_google
from exporter.destinations.uploads import (
    DEFAULT_LIMITS,
    Limits,
    changed,
    nothing_landed,
    opened,
    unreadable,
)
from exporter.errors import ConfigError, NotSent, OutcomeUnknown, Refused
from exporter.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

    from exporter.destinations.gcs.settings import GcsSettings
    from exporter.model import Finding, Package
    from exporter.network.guard import Guard

DEFAULT_PORTS = {"http": 80, "https": 443}
READ_BYTES = 1 << 20
# Public, regional, and Private Service Connect; no customer can have a server under such a name.
GOOGLES = re.compile(
    r"(storage|www)\.googleapis\.com|storage\.[a-z0-9-]+\.rep\.googleapis\.com|storage-[a-z0-9-]+\.p\.googleapis\.com"
)


class GcsStore:
    """A bucket. Secrets are read before every request. Safe to use from several threads.

    Raises ConfigError for an endpoint that must not be talked to.
    """

    max_component_bytes = 1024  # Google limits whole names alone

    def __init__(
        self,
        settings: GcsSettings,
        guard: Guard,
        *,
        limits: Limits = DEFAULT_LIMITS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if settings.endpoint_url is not None:
            _check_endpoint(settings.endpoint_url, guard)
        self.name = canonical_name(settings)
        self.endpoint = (settings.endpoint_url or wire.STORAGE).rstrip("/")
        self._settings = settings
        self._guard = with_google(guard)
        self._limits = limits
        self._credentials = Credentials(settings, guard, now=now)

    def load(self) -> None:
        """Load what makes requests, and what makes tokens: google-auth, and cryptography for an own key."""
        import google_crc32c  # noqa: F401 - for the first archive

        self._credentials.load()

    def folds_case(self) -> bool:
        """Whether two names that differ only by case are one."""
        return False

    def check(self, probe: str) -> Sequence[Finding]:
        """Create the probe with the headers of production, and prove that it cannot be replaced."""
        return findings_of(self, probe, self._settings, self._guard)

    def put(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """Create the object whole, or not at all; exactly one request decides."""
        size = package.content.archive_bytes
        with opened(package) as file:
            crc32c = _crc32c(package, file)
            if size < self._limits.large_bytes:
                answer = self._put_at_once(package, crc32c, file, progress)
            else:
                answer = self._put_in_chunks(package, crc32c, file, progress)
        return self._receipt(package, crc32c, answer)

    def _put_at_once(
        self, package: Package, crc32c: str, file: BinaryIO, progress: Callable[[int], None]
    ) -> Answer:
        size = package.content.archive_bytes
        body = self._limits.body(file, 0, size, progress)
        boundary = secrets.token_hex(16)
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
            f"{json.dumps(self._resource(package, crc32c))}\r\n"
            f"--{boundary}\r\nContent-Type: {package.content_type}\r\n\r\n"
        )
        upload = Upload(body, head.encode(), f"\r\n--{boundary}--\r\n".encode())
        headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
        path = self._upload_path("multipart", package.name)
        return self.request(package.name, "POST", path, headers=headers, body=upload)

    def _put_in_chunks(
        self, package: Package, crc32c: str, file: BinaryIO, progress: Callable[[int], None]
    ) -> Answer:
        with nothing_landed():
            path = self._begin(package, crc32c)
            size = package.content.archive_bytes
            send = partial(self.request, package.name)
            chunks = Chunks(send, path, file, size, self._limits, Counted(progress))
            last = chunks.send_all_but_the_last()
        return chunks.complete(last)

    def _begin(self, package: Package, crc32c: str) -> str:
        """The path of a new session."""
        headers = {
            "Content-Type": "application/json; charset=UTF-8",
            "X-Upload-Content-Type": package.content_type,
            "X-Upload-Content-Length": str(package.content.archive_bytes),
        }
        body = json.dumps(self._resource(package, crc32c)).encode()
        path = self._upload_path("resumable", package.name)
        begun = self.request(package.name, "POST", path, headers=headers, body=body)
        return session_path(begun).removeprefix(urlsplit(self.endpoint).path)

    def _upload_path(self, kind: str, name: str) -> str:
        query = {"uploadType": kind, "name": name, "ifGenerationMatch": "0"}
        if self._settings.kms_key:
            query["kmsKeyName"] = self._settings.kms_key
        bucket = quote(self._settings.bucket, safe="")
        return f"/upload/storage/v1/b/{bucket}/o?{urlencode(query, quote_via=quote, safe='')}"

    def _resource(self, package: Package, crc32c: str) -> dict[str, Any]:
        """What the object is to be; the store refuses it if its checksums come out otherwise."""
        resource = {
            "name": package.name,
            "contentType": package.content_type,
            "crc32c": crc32c,
            "metadata": dict(package.metadata),
        }
        if self._settings.storage_class:
            resource["storageClass"] = self._settings.storage_class
        return resource

    def request(
        self,
        name: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | Upload | None = None,
        expected: tuple[int, ...] = wire.DONE,
    ) -> Answer:
        """One request about the object ``name``, with a fresh token.

        Raises DeliveryError, also for an answer that is not ``expected``.
        """
        token = self._credentials.token()
        signed = {"Authorization": f"Bearer {token}", **headers}
        url, idle_s = self.endpoint + path, self._limits.answer_s
        try:
            with session_for(self._guard, self._settings.ca_file) as session:
                answer = ask(session, method, url, headers=signed, body=body, idle_s=idle_s)
        except ConfigError as error:
            raise NotSent(error.message, hint=error.hint) from error
        except wire_errors() as error:
            failed = put_unanswered(error, self._place(), name)
            raise self._credentials.redacted(failed) from self._credentials.presentable(error)
        if answer.status in expected:
            return answer
        if answer.status == HTTPStatus.UNAUTHORIZED:
            self._credentials.forget(token)
        raise self._credentials.redacted(put_refused(answer, self._place(), name))

    def _place(self) -> Place:
        settings = self._settings
        return Place(self.name, settings.bucket, settings.kms_key, self._credentials.member)

    def _receipt(self, package: Package, crc32c: str, answer: Answer) -> Receipt:
        """The proof of delivery, if the answer is one. Raises Refused or OutcomeUnknown."""
        made = answer.json()
        sent = {
            "size": str(package.content.archive_bytes),
            "crc32c": crc32c,
        }
        stored = {key: str(made[key]) for key in sent if key in made}
        if any(stored[key] != sent[key] for key in stored):
            raise Refused(
                f"{self.name} holds something else than what was sent as {package.name}",
                hint="look at what lies between here and the store, and at the object",
            )
        if "size" not in stored or "crc32c" not in stored:
            raise OutcomeUnknown(
                f"{self.name} did not say what it stored as {package.name}",
                hint="see that nothing between here and the store answers in its place",
            )
        location = f"{self.name}/{package.name}"
        return Receipt(location, str(made.get("etag", "")), str(made.get("generation", "")))


def _check_endpoint(url: str, guard: Guard) -> None:
    """Raise ConfigError for a host that must not see a token: who has one may use it at Google's as well."""
    guard.inspect(url, "endpoint_url")
    host = urlsplit(url).hostname or ""
    if not GOOGLES.fullmatch(host) and not guard.is_named(url):
        raise ConfigError(
            f"endpoint_url is not Google's: {host} would be shown a token that is good at Google's",
            hint=f"correct it, or allow the host by name: network: {{allow: [{host}]}}",
        )
    if "?" in url:
        raise ConfigError("endpoint_url has a query", hint="write it up to the host, or its folder")


def canonical_name(settings: GcsSettings) -> str:
    """A bucket is unique in Google Cloud, however it is reached, and in any other endpoint."""
    url = urlsplit(settings.endpoint_url or wire.STORAGE)
    host = url.hostname or ""
    if host.rstrip(".").endswith(".googleapis.com"):
        return f"gs://{settings.bucket}"
    shown = f"[{host}]" if ":" in host else host
    port = "" if url.port in (None, DEFAULT_PORTS.get(url.scheme)) else f":{url.port}"
    return f"gs://{settings.bucket}@{shown}{port}{url.path.rstrip('/')}"


def _crc32c(package: Package, file: BinaryIO) -> str:
    """That of the archive, in base64. Raises NotSent if it is not what its package says.

    The store computes it as well, ten times as fast as the MD5 that it also takes.
    """
    import google_crc32c

    crc32c: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call] # so it is
    sha256 = hashlib.sha256()
    try:
        while block := file.read(READ_BYTES):
            crc32c.update(block)
            sha256.update(block)
    except OSError as error:
        raise unreadable(package, error) from error
    if sha256.hexdigest() != package.content.archive_sha256:
        raise changed(package)
    return base64.b64encode(crc32c.digest()).decode()
