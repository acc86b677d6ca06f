"""The driver for Amazon S3 and its compatibles: create-only puts, at once or in parts.

The identity that writes needs `s3:PutObject` on the prefix; with a customer's own key also
`kms:GenerateDataKey` and, for large objects, `kms:Decrypt`. It must not list, read or delete, nor try
a put twice: only the parts of a large upload are tried again, because nothing exists before it is
completed. A store other than Amazon's first has to prove that it never replaces an object; where
CompleteMultipartUpload would, large ones go at once as well.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict

from exporter.destinations.probe import unwatched
from exporter.destinations.s3 import answers
from exporter.destinations.s3.access import Access, load
from exporter.destinations.s3.check import check as check_bucket
from exporter.destinations.s3.errors import put_failed
from exporter.destinations.s3.proofs import Proofs
from exporter.destinations.uploads import DEFAULT_LIMITS, Body, Limits, changed, nothing_landed, opened
from exporter.errors import DeliveryError, NotSent, OutcomeUnknown, Refused
from exporter.model import Receipt
from exporter.retries import RetryingCaller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from exporter.destinations.s3.settings import S3Settings
    from exporter.model import Finding, Package
    from exporter.network.guard import Guard

PART_TRIES = 4
PARTS_TIMEOUT_S = 600


class _Owner(TypedDict, total=False):
    """What every request says of the account that must own the bucket."""

    ExpectedBucketOwner: str


class _Upload(_Owner):
    """What the requests of one upload in parts have in common."""

    Bucket: str
    Key: str
    UploadId: str


class S3Store:
    """A bucket. Secrets are revealed anew before every request. Safe to use from several threads.

    Raises ConfigError for an endpoint that ``guard`` does not allow.
    """

    max_component_bytes = 1024  # S3 limits whole keys alone

    def __init__(
        self,
        settings: S3Settings,
        guard: Guard,
        *,
        limits: Limits = DEFAULT_LIMITS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if settings.endpoint_url:
            guard.inspect(settings.endpoint_url, "endpoint_url")
        self.name = settings.store_name
        self.endpoint = settings.endpoint
        self._settings = settings
        self._guard = guard
        self._limits = limits
        self._access = Access(settings, guard, answer_s=limits.answer_s, now=now)
        self._proofs = Proofs(self.name, self._prove_at_once, self._prove_in_parts)

    def folds_case(self) -> bool:
        """Whether two names that differ only by case are one."""
        return False

    def load(self) -> None:
        """Load boto3, what it knows of S3, and the authorities that are trusted."""
        load()

    def check(self, probe: str) -> Sequence[Finding]:
        """Create the probe with the headers of production, prove that nothing replaces it, or say why."""
        return check_bucket(self, self._access, self._settings, self._guard, probe)

    def put(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """Create the object whole, or not at all; exactly one request decides."""
        size = package.content.archive_bytes
        with opened(package) as file:
            if not self._settings.is_aws:
                self._proofs.must_create_once(package.name)
            if size < self._limits.large_bytes or not self._takes_parts(package):
                answer = self._put_at_once(package, self._limits.body(file, 0, size, progress))
            else:
                answer = self._put_in_parts(package, self._limits.parts(file, size, progress))
        etag, version = answer.get("ETag", "").strip('"'), answer.get("VersionId", "")
        return Receipt(f"{self.name}/{package.name}", etag, version)

    def in_parts(self) -> S3Store:
        """The same store, but everything goes in parts, as only large objects do: for `check`."""
        return S3Store(self._settings, self._guard, limits=replace(self._limits, large_bytes=0))

    def completes_once(self, probe: str) -> bool:
        """Whether this store refuses to complete an upload in parts on a name that is taken.

        Proved with the small object ``probe``, which is there afterwards. Raises NotSent if the store does
        not say, and Refused if it does not encrypt as asked.
        """
        return self._proofs.completes_once(probe)

    def _prove_at_once(self, probe: Package) -> None:
        with opened(probe) as file:
            self._put_at_once(probe, self._limits.body(file, 0, probe.content.archive_bytes, unwatched))

    def _prove_in_parts(self, probe: Package) -> None:
        with opened(probe) as file:
            self._put_in_parts(probe, [self._limits.body(file, 0, probe.content.archive_bytes, unwatched)])

    def _takes_parts(self, package: Package) -> bool:
        """Whether this object may go in parts. Raises Refused if it may not, and is too large otherwise."""
        if self._settings.is_aws:
            return True
        takes_parts = self._proofs.completes_once_beside(package.name)
        if not takes_parts and package.content.archive_bytes > self._limits.at_once_bytes:
            raise Refused(
                f"{self.name} takes {package.name} only in parts, and there it would replace another object",
                hint="lower part_limit, so that archives stay below 5,000 MiB",
            )
        return takes_parts

    def _put_at_once(self, package: Package, body: Body) -> Mapping[str, Any]:
        checksum = bytes.fromhex(package.content.archive_sha256)
        with self._client(package.name) as client:
            answer = client.put_object(
                **self._properties(package), **_checked(body, checksum), IfNoneMatch="*"
            )
        answers.check_has(answer, {"ETag"}, self._settings, package.name)
        answers.check_object(answer, answers.whole_checksum(checksum), self._settings, package.name)
        answers.check_encryption(answer, self._settings, package.name, landed=True)
        return answer

    def _put_in_parts(self, package: Package, bodies: Iterable[Body]) -> Mapping[str, Any]:
        upload = self._begin(package)
        try:
            with nothing_landed():
                parts = self._upload_parts(package, upload, bodies)
            return self._complete(upload, parts, bytes.fromhex(package.content.archive_sha256))
        except OutcomeUnknown:  # the completion may still land: the parts must stay
            raise
        except DeliveryError:
            self._abort(upload)
            raise

    def _begin(self, package: Package) -> _Upload:
        with nothing_landed():
            with self._client(package.name) as client:
                begun = client.create_multipart_upload(
                    **self._properties(package), ChecksumAlgorithm="SHA256"
                )
            answers.check_has(begun, {"UploadId"}, self._settings, package.name)
        upload: _Upload = {
            "Bucket": self._settings.bucket,
            "Key": package.name,
            "UploadId": begun["UploadId"],
            **self._owner(),
        }
        try:
            answers.check_encryption(begun, self._settings, package.name, landed=False)
        except Refused:
            self._abort(upload)
            raise
        return upload

    def _upload_parts(
        self, package: Package, upload: _Upload, bodies: Iterable[Body]
    ) -> list[CompletedPartTypeDef]:
        again = RetryingCaller(attempts=PART_TRIES, timeout=PARTS_TIMEOUT_S)
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
        answers.check_part(answer, checksum, self._settings, upload["Key"])
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": answers.encoded(checksum)}

    def _complete(
        self, upload: _Upload, parts: list[CompletedPartTypeDef], sha256: bytes
    ) -> Mapping[str, Any]:
        with self._client(upload["Key"]) as client:
            answer = client.complete_multipart_upload(
                **upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        answers.check_has(answer, {"ETag", "Location"}, self._settings, upload["Key"])  # Ceph: no ETag
        checksums = [base64.b64decode(part["ChecksumSHA256"]) for part in parts]
        right = answers.checksum_of_parts(checksums, sha256)
        answers.check_object(answer, right, self._settings, upload["Key"])
        return answer

    def _abort(self, upload: _Upload) -> None:
        # A right to create alone may not abort; the bucket's lifecycle rule then removes the parts.
        with suppress(DeliveryError), self._client(upload["Key"]) as client:
            client.abort_multipart_upload(**upload)

    def _properties(self, package: Package) -> dict[str, Any]:
        """What an object is created with, however it goes."""
        settings = self._settings
        chosen = {
            "ServerSideEncryption": settings.sse,
            "SSEKMSKeyId": settings.kms_key,
            "BucketKeyEnabled": settings.sse == "aws:kms" or None,  # else every object asks the key
            "StorageClass": settings.storage_class,
            "ACL": settings.acl,
        }
        return {
            "Bucket": settings.bucket,
            "Key": package.name,
            "ContentType": package.content_type,
            "Metadata": dict(package.metadata),
            **self._owner(),
            **{name: value for name, value in chosen.items() if value is not None},
        }

    def _owner(self) -> _Owner:
        owner = self._settings.bucket_owner
        return {"ExpectedBucketOwner": owner} if owner else {}

    @contextmanager
    def _client(self, name: str) -> Iterator[S3Client]:
        """A client with fresh credentials, for one request about ``name``; its errors are translated."""
        with self._access.client() as client:
            try:
                yield client
            except DeliveryError:  # of the guard
                raise
            except Exception as error:  # botocore raises anything at an odd answer: the object may be there
                sent, tidy = self._access.has_sent(client), self._access.tidied(error)
                failed = put_failed(tidy, self._settings, name, sent=sent)
                raise self._access.redacted(failed) from error


def _checked(body: Body, checksum: bytes) -> dict[str, Any]:
    """A body that the store takes only if its SHA-256 is ``checksum``."""
    return {
        "Body": body.stream(),
        "ChecksumAlgorithm": "SHA256",
        "ChecksumSHA256": answers.encoded(checksum),
    }


def _digest(body: Body, whole: hashlib._Hash) -> bytes:
    """The body's SHA-256; ``whole`` goes on by it."""
    digest = hashlib.sha256()
    while chunk := body.read(1 << 20):
        digest.update(chunk)
        whole.update(chunk)
    return digest.digest()
