"""The driver for Amazon S3 and its compatibles: create-only puts, and one table of errors.

The identity that writes needs `s3:PutObject` on the prefix; with a customer's own key also
`kms:GenerateDataKey` and, for large objects, `kms:Decrypt`. It must not list, read or delete, nor try
a put twice: only the parts of a large upload are tried again, because nothing exists before it is
completed. Large objects need a store whose CompleteMultipartUpload honours If-None-Match.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple
from urllib.parse import urlsplit

import stamina

from exporter.destinations.object_store import Body, changed, opened, prove_create_only
from exporter.errors import ConfigError, DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused
from exporter.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from exporter.model import Finding, Package

CONNECT_TIMEOUT_S = 5
PART_TRIES = 4
PARTS_TIMEOUT_S = 600
ROLE_MARGIN = timedelta(minutes=5)
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class S3Options:
    """One bucket and how to reach it. ``endpoint_url`` is for compatibles; AWS needs none."""

    bucket: str
    region: str | None = None
    endpoint_url: str | None = None
    path_style: bool = False
    role_arn: str | None = None
    kms_key: str | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class S3Secrets:
    """What proves who is asking; without an access key, what the machine offers (pod identity, profile)."""

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    external_id: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class S3Limits:
    """From which size an upload goes in parts, and how long a request may take."""

    multipart_bytes: int = 64 << 20  # large: many customers are only notified of objects put at once
    part_bytes: int = 16 << 20
    answer_s: float = 60
    slowest_bytes_per_s: float = 32 << 10

    def upload_s(self, size_bytes: int) -> float:
        """How long the body of a request may be on its way."""
        return self.answer_s + size_bytes / self.slowest_bytes_per_s


class S3Store:
    """A bucket. ``read_secrets`` is called before every request. Safe to use from several threads."""

    max_component_bytes = 1024  # S3 limits whole keys alone

    def __init__(
        self,
        options: S3Options,
        read_secrets: Callable[[], S3Secrets] = S3Secrets,
        *,
        limits: S3Limits = S3Limits(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = _canonical_name(options)
        self._options = options
        self._limits = limits
        self._access = _Access(options, read_secrets, limits, now)

    def folds_case(self) -> bool:
        """Whether two names that differ only by case are one."""
        return False

    def put(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """Create the object whole, or not at all; exactly one request decides."""
        with opened(package) as file:
            if package.content.archive_bytes < self._limits.multipart_bytes:
                answer = self._put_at_once(package, file, progress)
            else:
                answer = self._put_in_parts(package, file, progress)
        return Receipt(
            f"{self.name}/{package.name}",
            etag=answer.get("ETag", "").strip('"'),
            version=answer.get("VersionId", ""),
        )

    def check(self, probe: str) -> Sequence[Finding]:
        """Create the probe with the headers of production, and prove that it cannot be replaced."""
        return prove_create_only(self, probe)

    def _put_at_once(
        self, package: Package, file: BinaryIO, progress: Callable[[int], None]
    ) -> Mapping[str, Any]:
        body = self._body(file, 0, package.content.archive_bytes, progress)
        with self._client(package.name) as client:
            return client.put_object(
                **self._place(package.name),
                **self._properties(package),
                Body=body.stream(),
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=_base64(bytes.fromhex(package.content.archive_sha256)),
            )

    def _put_in_parts(
        self, package: Package, file: BinaryIO, progress: Callable[[int], None]
    ) -> Mapping[str, Any]:
        upload_id = self._begin(package)
        try:
            with _nothing_landed():
                parts = self._upload_parts(package, upload_id, file, progress)
            return self._complete(package.name, upload_id, parts)
        except OutcomeUnknown:  # the completion may still land: the parts must stay
            raise
        except DeliveryError:
            self._abort(package.name, upload_id)
            raise

    def _begin(self, package: Package) -> str:
        with _nothing_landed(), self._client(package.name) as client:
            return client.create_multipart_upload(
                **self._place(package.name), **self._properties(package), ChecksumAlgorithm="SHA256"
            )["UploadId"]

    def _upload_parts(
        self, package: Package, upload_id: str, file: BinaryIO, progress: Callable[[int], None]
    ) -> list[CompletedPartTypeDef]:
        retry = stamina.RetryingCaller(attempts=PART_TRIES, timeout=PARTS_TIMEOUT_S)
        size, step = package.content.archive_bytes, self._limits.part_bytes
        whole = hashlib.sha256()
        parts: list[CompletedPartTypeDef] = []
        for number, start in enumerate(range(0, size, step), 1):
            body = self._body(file, start, min(step, size - start), progress)
            checksum = _base64(_digest(body, whole))
            part = retry(
                (NotSent, OutcomeUnknown), self._upload_part, package.name, upload_id, number, body, checksum
            )
            parts.append(part)
        if whole.hexdigest() != package.content.archive_sha256:
            raise changed(package)
        return parts

    def _upload_part(
        self, name: str, upload_id: str, number: int, body: Body, checksum: str
    ) -> CompletedPartTypeDef:
        with self._client(name) as client:
            answer = client.upload_part(
                **self._place(name),
                UploadId=upload_id,
                PartNumber=number,
                Body=body.stream(),
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=checksum,
            )
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}

    def _complete(self, name: str, upload_id: str, parts: list[CompletedPartTypeDef]) -> Mapping[str, Any]:
        with self._client(name) as client:
            return client.complete_multipart_upload(
                **self._place(name), UploadId=upload_id, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )

    def _abort(self, name: str, upload_id: str) -> None:
        # A right to create alone may not abort; the bucket's lifecycle rule then removes the parts.
        with suppress(DeliveryError), self._client(name) as client:
            client.abort_multipart_upload(**self._place(name), UploadId=upload_id)

    def _body(self, file: BinaryIO, start: int, length: int, progress: Callable[[int], None]) -> Body:
        return Body(file, start, length, limit_s=self._limits.upload_s(length), progress=progress)

    def _place(self, name: str) -> dict[str, Any]:
        return {"Bucket": self._options.bucket, "Key": name}

    def _properties(self, package: Package) -> dict[str, Any]:
        properties = {"ContentType": package.content_type, "Metadata": dict(package.metadata)}
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
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        client = self._access.client()
        try:
            yield client
        except ClientError as error:
            raise self._redacted(_answered(error, self.name, name, self._options)) from error
        except (BotoCoreError, ResponseParserError, OSError) as error:
            raise self._redacted(_unanswered(error, self.name, name)) from error

    def _redacted(self, error: DeliveryError) -> DeliveryError:
        return type(error)(self._access.redact(error.message), hint=error.hint)


@contextmanager
def _nothing_landed() -> Iterator[None]:
    """Before the completion there is no object, whatever became of the parts."""
    try:
        yield
    except OutcomeUnknown as error:
        raise NotSent(f"the upload broke off: {error.message}", hint=error.hint) from error


def _digest(body: Body, whole: hashlib._Hash) -> bytes:
    digest = hashlib.sha256()
    while chunk := body.read(1 << 20):
        digest.update(chunk)
        whole.update(chunk)
    return digest.digest()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _canonical_name(options: S3Options) -> str:
    """A bucket's name is unique within a partition of AWS, and within any other endpoint."""
    if _is_aws(options):
        partition = _partition(options)
        return f"s3://{options.bucket}" + ("" if partition == "aws" else f"@{partition}")
    url = urlsplit(options.endpoint_url or "")
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    port = "" if url.port in (None, DEFAULT_PORTS.get(url.scheme)) else f":{url.port}"
    return f"s3://{options.bucket}@{host}{port}{url.path.rstrip('/')}"


def _is_aws(options: S3Options) -> bool:
    host = urlsplit(options.endpoint_url or "").hostname
    return host is None or host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _partition(options: S3Options) -> str:
    region = options.region or ""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


# --- Who asks ------------------------------------------------------------------------------------


class _Keys(NamedTuple):
    id: str
    secret: str
    token: str | None


class _Role(NamedTuple):
    asked_with: S3Secrets
    keys: _Keys
    expires_at: datetime


class _Access:
    """Clients with fresh credentials: given ones, the machine's own, or those of a role assumed with either.

    Credentials are fetched before a put's request, so nothing has landed when that fails: NotSent.
    """

    def __init__(
        self,
        options: S3Options,
        read_secrets: Callable[[], S3Secrets],
        limits: S3Limits,
        now: Callable[[], datetime],
    ) -> None:
        self._options = options
        self._read_secrets = read_secrets
        self._limits = limits
        self._now = now
        self._lock = Lock()
        self._secrets = S3Secrets()
        self._role: _Role | None = None
        self._latest: tuple[_Keys, S3Client] | None = None

    def client(self) -> S3Client:
        """A client for the next request; the same one as long as the credentials are."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        with self._lock:
            try:
                self._secrets = self._read_secrets()
                keys = self._keys()
                if self._latest is None or self._latest[0] != keys:
                    self._latest = keys, _one_request_each(self._connect("s3", keys))
            except ConfigError as error:
                raise NotSent(error.message, hint=error.hint) from error
            except (BotoCoreError, ClientError, ResponseParserError, ValueError, OSError) as error:
                raise self._failure(error) from error
            return self._latest[1]

    def redact(self, text: str) -> str:
        """The text without the secrets that a vendor's message may repeat."""
        secrets = [self._secrets.secret_access_key, self._secrets.session_token, self._secrets.external_id]
        if self._latest is not None:
            secrets += [self._latest[0].secret, self._latest[0].token]
        for secret in filter(None, secrets):
            text = text.replace(secret.strip(), "***")
        return text

    def _keys(self) -> _Keys:
        if self._options.role_arn is None:
            return self._own_keys()
        role = self._role
        if role is None or role.asked_with != self._secrets or role.expires_at - ROLE_MARGIN <= self._now():
            role = self._role = self._assume(self._options.role_arn)
        return role.keys

    def _own_keys(self) -> _Keys:
        given = self._secrets
        if given.access_key_id and given.secret_access_key:
            return _Keys(given.access_key_id, given.secret_access_key, given.session_token)
        with _SESSION_LOCK:
            found = _session().get_credentials()
        frozen = found.get_frozen_credentials() if found else None
        if frozen is None or frozen.access_key is None or frozen.secret_key is None:
            raise NotSent("this machine offers no AWS credentials", hint=CREDENTIALS_HINT)
        return _Keys(frozen.access_key, frozen.secret_key, frozen.token)

    def _assume(self, role_arn: str) -> _Role:
        external_id = self._secrets.external_id
        answer = self._connect("sts", self._own_keys()).assume_role(
            RoleArn=role_arn,
            RoleSessionName="audit-exporter",
            **({"ExternalId": external_id} if external_id else {}),
        )["Credentials"]
        keys = _Keys(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])
        return _Role(self._secrets, keys, answer["Expiration"])

    def _connect(self, service: Literal["s3", "sts"], keys: _Keys) -> Any:  # noqa: ANN401 - either client
        options = self._options
        # A compatible store has an STS of its own; a private endpoint of AWS for S3 has not.
        here = service == "s3" or not _is_aws(options)
        with _SESSION_LOCK:
            return _session().client(
                service,
                region_name=options.region or _session().region_name or "us-east-1",
                endpoint_url=options.endpoint_url if here else None,
                verify=str(options.ca_file) if options.ca_file and here else None,
                aws_access_key_id=keys.id,
                aws_secret_access_key=keys.secret,
                aws_session_token=keys.token,
                config=self._config(service),
            )

    def _config(self, service: Literal["s3", "sts"]) -> Config:
        from botocore.config import Config

        style: Literal["auto", "virtual"] = "auto" if _is_aws(self._options) else "virtual"
        return Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=self._limits.answer_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={"addressing_style": "path" if self._options.path_style else style},
            # By default, trailing checksums: some compatibles refuse them (Ceph over https: 411).
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # An endpoint from the environment would be another store than `name` says.
            ignore_configured_endpoint_urls=service == "s3",  # type: ignore[call-arg] # not in the stubs
        )

    def _failure(self, error: Exception) -> NotSent:
        text = self.redact(_words(error))
        return NotSent(f"no access to bucket '{self._options.bucket}': {text}", hint=self._hint(error))

    def _hint(self, error: Exception) -> str:
        role_arn = self._options.role_arn
        if role_arn is None or not hasattr(error, "operation_name"):
            return CREDENTIALS_HINT
        how = (
            "with the external id of this export"
            if self._secrets.external_id
            else "and set external_id if the policy asks for one"
        )
        return f"let the trust policy of {role_arn} allow sts:AssumeRole to this program's identity, {how}"


_SESSION_LOCK = Lock()  # boto3 makes clients in one thread at a time


@cache
def _session() -> boto3.Session:
    """One for all stores: it keeps the parsed service models, which take 100 ms to read."""
    import boto3

    return boto3.Session()


def _one_request_each(client: S3Client) -> S3Client:
    """The client, made to send each request once and to start the body's clock when it does."""
    client.meta.events.register("before-parameter-build.s3", _stay)
    client.meta.events.register("before-send.s3", _start_clock)
    return client


def _stay(context: dict[str, Any], **_: object) -> None:
    # botocore repeats a request in the region that an answer names, unless it already did.
    context["s3_redirect"]["redirected"] = True


def _start_clock(request: Any, **_: object) -> None:  # noqa: ANN401 - botocore's request
    if isinstance(request.body, Body):
        request.body.sending()


# --- What errors mean ----------------------------------------------------------------------------

UNKNOWN_CODES = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout"}
UNKNOWN_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT}

CREDENTIALS_HINT = (
    "give access_key_id and secret_access_key, or run where AWS gives credentials"
    " (pod identity, instance role, AWS_PROFILE)"
)
CONNECTION_HINT = "check endpoint_url, region, ca_file and the network between here and the store"
KEYS_HINT = "enter access_key_id and secret_access_key again: they are not, or no longer, a valid pair"
TOKEN_HINT = "give a fresh session_token, or use role_arn, which renews itself"  # noqa: S105 - advice
REGION_HINT = "set region: {region}"
ACL_HINT = "remove what the bucket's policy demands about ACLs: this program sends none"
CHECKSUM_HINT = "look at what lies between here and the store: the bytes changed on their way"
KMS_HINT = (
    "grant kms:GenerateDataKey, and kms:Decrypt for large objects, on {kms_key}, also in the key's"
    " policy, and see that the key is enabled and in the bucket's region"
)
HINTS = {
    "AccessDenied": "grant s3:PutObject on {arn} to this program's identity,"
    " and look for a bucket policy that denies it or demands encryption",
    "NoSuchBucket": "create the bucket {bucket}, or correct bucket, region or endpoint_url",
    "InvalidAccessKeyId": KEYS_HINT,
    "SignatureDoesNotMatch": KEYS_HINT,
    "ExpiredToken": TOKEN_HINT,
    "InvalidToken": TOKEN_HINT,
    "RequestTimeTooSkewed": "set this machine's clock: it differs from the store's by over 15 minutes",
    "EntityTooLarge": "lower part_limit: the store does not take objects of this size",
    "QuotaExceeded": "free space in the bucket, or raise its quota",
    "AccessControlListNotSupported": ACL_HINT,
    "BadDigest": CHECKSUM_HINT,
    "XAmzContentSHA256Mismatch": CHECKSUM_HINT,
    "NotImplemented": "use a store that knows If-None-Match on PutObject and CompleteMultipartUpload",
    "SlowDown": "nothing, unless it stays: the store asks for fewer requests",
    "PermanentRedirect": REGION_HINT,
    "TemporaryRedirect": REGION_HINT,
    "AuthorizationHeaderMalformed": REGION_HINT,
    "IllegalLocationConstraintException": REGION_HINT,
}


def _answered(error: ClientError, store: str, name: str, options: S3Options) -> DeliveryError:
    """What an error answer of the store means."""
    code = error.response["Error"].get("Code")
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    hint = _hint(error, name, options)
    if code == "PreconditionFailed" or status == HTTPStatus.PRECONDITION_FAILED:
        return ObjectExists(f"{store} already has {name}")
    if code in UNKNOWN_CODES or status in UNKNOWN_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return OutcomeUnknown(f"{store} did not say whether it took {name}: {_words(error)}", hint=hint)
    return Refused(f"{store} refused {name}: {_words(error)}", hint=hint)


def _unanswered(error: Exception, store: str, name: str) -> DeliveryError:
    """What it means that no answer came, or none that can be read."""
    if _never_sent(error):
        return NotSent(f"{store} was not asked to take {name}: {error}", hint=CONNECTION_HINT)
    return OutcomeUnknown(f"{store} did not say whether it took {name}: {error}", hint=CONNECTION_HINT)


def _never_sent(error: Exception) -> bool:
    """Whether the failure is certain to come before the first byte of the request."""
    from botocore import exceptions as botocore

    if isinstance(error, botocore.SSLError):
        return "CERTIFICATE_VERIFY_FAILED" in str(error)
    if not isinstance(error, botocore.BotoCoreError):
        return isinstance(error, OSError)  # of the archive: those of the network come wrapped
    before = (
        botocore.EndpointConnectionError,  # also when the name does not resolve
        botocore.ConnectTimeoutError,
        botocore.ProxyConnectionError,
        botocore.ParamValidationError,
        botocore.EndpointProviderError,
        botocore.NoCredentialsError,
    )
    return isinstance(error, before)


def _words(error: Exception) -> str:
    """The vendor's words, with the id of the request that its support asks for."""
    response = getattr(error, "response", None)
    if response is None:
        return str(error)
    words = ": ".join(filter(None, (response["Error"].get("Code"), response["Error"].get("Message"))))
    request_id = response["ResponseMetadata"].get("RequestId")
    return f"{words} (request {request_id})" if request_id else words


def _hint(error: ClientError, name: str, options: S3Options) -> str:
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message")
    hint = KMS_HINT if "kms" in f"{code} {message}".lower() else HINTS.get(code, "")
    headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
    region = error.response["Error"].get("Region") or headers.get("x-amz-bucket-region")
    folder = f"{name.split('/', maxsplit=1)[0]}/*" if "/" in name else "*"
    return hint.format(
        arn=f"arn:{_partition(options)}:s3:::{options.bucket}/{folder}",
        bucket=options.bucket,
        kms_key=options.kms_key or "the bucket's key",
        region=region or "the bucket's",
    )
