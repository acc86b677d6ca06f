"""The driver for Amazon S3 and its compatibles: create-only puts, at once or in parts.

The identity that writes needs `s3:PutObject` on the prefix; with a customer's own key also
`kms:GenerateDataKey` and, for large objects, `kms:Decrypt`. It must not list, read or delete, nor try
a put twice: only the parts of a large upload are tried again, because nothing exists before it is
completed. Large objects need a store whose CompleteMultipartUpload honours If-None-Match.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict

import stamina

from exporter.destinations.object_store import Body, changed, opened, prove_create_only
from exporter.destinations.s3.access import Access
from exporter.destinations.s3.errors import put_failed, sdk_errors
from exporter.destinations.s3.options import S3Limits, S3Options, S3Secrets
from exporter.errors import DeliveryError, NotSent, OutcomeUnknown
from exporter.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import BinaryIO

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from exporter.model import Finding, Package

__all__ = ["S3Limits", "S3Options", "S3Secrets", "S3Store"]

PART_TRIES = 4
PARTS_TIMEOUT_S = 600
DEFAULT_LIMITS = S3Limits()


class _Upload(TypedDict):
    """What the requests of one upload in parts have in common."""

    Bucket: str
    Key: str
    UploadId: str


class S3Store:
    """A bucket. ``read_secrets`` is called before every request. Safe to use from several threads."""

    max_component_bytes = 1024  # S3 limits whole keys alone

    def __init__(
        self,
        options: S3Options,
        read_secrets: Callable[[], S3Secrets] = S3Secrets,
        *,
        limits: S3Limits = DEFAULT_LIMITS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = options.store
        self._options = options
        self._limits = limits
        self._access = Access(options, read_secrets, answer_s=limits.answer_s, now=now)

    def folds_case(self) -> bool:
        """Whether two names that differ only by case are one."""
        return False

    def check(self, probe: str) -> Sequence[Finding]:
        """Create the probe with the headers of production, and prove that it cannot be replaced."""
        return prove_create_only(self, probe)

    def put(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """Create the object whole, or not at all; exactly one request decides."""
        size = package.content.archive_bytes
        with opened(package) as file:
            if size < self._limits.multipart_bytes:
                answer = self._put_at_once(package, self._body(file, 0, size, progress))
            else:
                answer = self._put_in_parts(package, self._parts(file, size, progress))
        etag, version = answer.get("ETag", "").strip('"'), answer.get("VersionId", "")
        return Receipt(f"{self.name}/{package.name}", etag, version)

    def _put_at_once(self, package: Package, body: Body) -> Mapping[str, Any]:
        checksum = bytes.fromhex(package.content.archive_sha256)
        with self._client(package.name) as client:
            return client.put_object(**self._properties(package), **_checked(body, checksum), IfNoneMatch="*")

    def _put_in_parts(self, package: Package, bodies: Iterable[Body]) -> Mapping[str, Any]:
        upload = self._begin(package)
        try:
            with _nothing_landed():
                parts = self._upload_parts(package, upload, bodies)
            return self._complete(upload, parts)
        except OutcomeUnknown:  # the completion may still land: the parts must stay
            raise
        except DeliveryError:
            self._abort(upload)
            raise

    def _begin(self, package: Package) -> _Upload:
        with _nothing_landed(), self._client(package.name) as client:
            begun = client.create_multipart_upload(**self._properties(package), ChecksumAlgorithm="SHA256")
        return {"Bucket": self._options.bucket, "Key": package.name, "UploadId": begun["UploadId"]}

    def _upload_parts(
        self, package: Package, upload: _Upload, bodies: Iterable[Body]
    ) -> list[CompletedPartTypeDef]:
        again = stamina.RetryingCaller(attempts=PART_TRIES, timeout=PARTS_TIMEOUT_S)
        whole = hashlib.sha256()
        parts: list[CompletedPartTypeDef] = []
        for number, body in enumerate(bodies, 1):
            checksum = _digest(body, whole)
            parts.append(again((NotSent, OutcomeUnknown), self._upload_part, upload, number, body, checksum))
        if whole.hexdigest() != package.content.archive_sha256:
            raise changed(package)
        return parts

    def _upload_part(self, upload: _Upload, number: int, body: Body, checksum: bytes) -> CompletedPartTypeDef:
        with self._client(upload["Key"]) as client:
            answer = client.upload_part(**upload, **_checked(body, checksum), PartNumber=number)
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": _base64(checksum)}

    def _complete(self, upload: _Upload, parts: list[CompletedPartTypeDef]) -> Mapping[str, Any]:
        with self._client(upload["Key"]) as client:
            return client.complete_multipart_upload(
                **upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )

    def _abort(self, upload: _Upload) -> None:
        # A right to create alone may not abort; the bucket's lifecycle rule then removes the parts.
        with suppress(DeliveryError), self._client(upload["Key"]) as client:
            client.abort_multipart_upload(**upload)

    def _parts(self, file: BinaryIO, size: int, progress: Callable[[int], None]) -> Iterator[Body]:
        step = self._limits.part_bytes
        for start in range(0, size, step):
            yield self._body(file, start, min(step, size - start), progress)

    def _body(self, file: BinaryIO, start: int, length: int, progress: Callable[[int], None]) -> Body:
        return Body(file, start, length, limit_s=self._limits.upload_s(length), progress=progress)

    def _properties(self, package: Package) -> dict[str, Any]:
        properties = {
            "Bucket": self._options.bucket,
            "Key": package.name,
            "ContentType": package.content_type,
            "Metadata": dict(package.metadata),
        }
        if self._options.kms_key is None:
            return properties
        return properties | {
            "ServerSideEncryption": "aws:kms",
            "SSEKMSKeyId": self._options.kms_key,
            "BucketKeyEnabled": True,
        }

    @contextmanager
    def _client(self, name: str) -> Iterator[S3Client]:
        """A client with fresh credentials, for one request about ``name``; its errors are translated."""
        with self._access.client() as client:
            try:
                yield client
            except sdk_errors() as error:
                raise self._access.redacted(put_failed(error, self._options, name)) from error


@contextmanager
def _nothing_landed() -> Iterator[None]:
    """Before the completion there is no object, whatever became of the parts."""
    try:
        yield
    except OutcomeUnknown as error:
        raise NotSent(f"the upload broke off: {error.message}", hint=error.hint) from error


def _checked(body: Body, checksum: bytes) -> dict[str, Any]:
    """A body that the store takes only if its SHA-256 is ``checksum``."""
    return {"Body": body.stream(), "ChecksumAlgorithm": "SHA256", "ChecksumSHA256": _base64(checksum)}


def _digest(body: Body, whole: hashlib._Hash) -> bytes:
    """The body's SHA-256; ``whole`` goes on by it."""
    digest = hashlib.sha256()
    while chunk := body.read(1 << 20):
        digest.update(chunk)
        whole.update(chunk)
    return digest.digest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
