"""What a configuration says of a bucket of S3, or of a store that speaks its protocol.

Besides the settings there are the names that follow from them. It must not open a connection, load an SDK
or reveal a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from exporter.destinations.object_store import ObjectStoreSettings
from exporter.notation.secret import Secret  # noqa: TC001 - pydantic reads the annotations
from exporter.notation.values import Endpoint, FilePath, Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.destinations.object_store import Driver
    from exporter.network.guard import Guard

DEFAULT_PORTS = {"http": 80, "https": 443}
_REGION = r"[a-z]{2}(-[a-z]+)+-[0-9]+"
# Not every host of Amazon's is its S3: anybody can have a balancer, or a machine, with a name there.
_AWS_HOST = re.compile(
    rf"(.+\.)?s3(-fips|-accelerate|-external-1)?(\.dualstack)?([.-]{_REGION})?(\.vpce)?"
    r"\.amazonaws\.com(\.cn)?"
)
_KEY_ARN = re.compile(rf"arn:aws[a-z-]*:kms:({_REGION}):[0-9]{{12}}:key/[A-Za-z0-9-]+")


def _matching(pattern: str, message: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(message)
        return value

    return check


def _of_a_server(url: str) -> str:
    if set(url) & set("?#"):  # not shown: somebody's secret may be behind them
        message = "must not have a query or a fragment: nothing with `?` or `#`"
        raise ValueError(message)
    try:
        port = urlsplit(url).port
    except ValueError:  # no number or too large, or half an IPv6 address
        port = 0
    if port == 0:
        message = "must be https://host or https://host:port, with a port from 1 to 65535"
        raise ValueError(message)
    return url


# Bucket and region become part of a host's name, the rest of headers and of texts to copy.
_BUCKET = _matching("[A-Za-z0-9._-]{1,255}", "must be a bucket's name, or an access point's alias")
_LABEL = _matching(
    "(?![0-9]+$)(?!-)[A-Za-z0-9-]{1,63}(?<!-)", "must be the name of a region, such as us-east-1"
)
_ACCOUNT = _matching("[0-9]{12}", "must be the 12 digits of an AWS account, in quotes")
_ROLE = _matching(
    r"arn:[A-Za-z0-9-]+:iam::[A-Za-z0-9_-]*:role/[A-Za-z0-9_+=,.@/-]{1,1024}",  # Ceph's have no account
    "must be a role's ARN: arn:aws:iam::ACCOUNT:role/NAME",
)
_KEY = _matching(r"[A-Za-z0-9_+=,.@:/-]{1,2048}", "must be a key's ARN: arn:aws:kms:REGION:ACCOUNT:key/ID")
_CLASS = _matching("[A-Za-z0-9_-]{1,100}", "must be a storage class, such as STANDARD_IA")

Bucket = Annotated[Text, AfterValidator(_BUCKET)]
Region = Annotated[Text, AfterValidator(_LABEL)]
AwsAccount = Annotated[Text, AfterValidator(_ACCOUNT)]
RoleArn = Annotated[Text, AfterValidator(_ROLE)]
KmsKey = Annotated[Text, AfterValidator(_KEY)]
StorageClass = Annotated[Text, AfterValidator(_CLASS)]
S3Endpoint = Annotated[Endpoint, AfterValidator(_of_a_server)]


class S3Settings(ObjectStoreSettings):
    """A bucket of Amazon S3, or of a store that speaks its protocol."""

    type: Literal["s3"]
    bucket: Bucket
    """Its name, without `s3://`."""
    region: Region | None = None
    """The bucket's region; without it, the machine's, or `us-east-1`."""
    endpoint_url: S3Endpoint | None = None
    """The address of another store than Amazon's, or a private endpoint of Amazon's."""
    path_style: bool = False
    """Bucket in the path instead of the host name, as many stores other than Amazon's want it."""
    access_key_id: Secret | None = None
    """With `secret_access_key`: a pair of keys; without it, the identity of the machine or pod."""
    secret_access_key: Secret | None = None
    """The other one of the pair."""
    session_token: Secret | None = None
    """Of keys that serve for a while alone."""
    through_roles: tuple[RoleArn, ...] = Field(default=(), strict=False)
    """Roles of your own to assume first, each by means of the one before; the last assumes `role_arn`."""
    role_arn: RoleArn | None = None
    """The customer's role to assume."""
    external_id: Secret | None = None
    """What the customer's trust policy demands, so that nobody else can have you use the role."""
    bucket_owner: AwsAccount | None = None
    """The account that must own the bucket; a bucket of the same name that is another's is refused."""
    encryption: Literal["sse-s3", "sse-kms"] | None = None
    """`sse-s3` or `sse-kms`; without it, as the bucket's default says."""
    kms_key: KmsKey | None = None
    """The key of `sse-kms`, as its full ARN; without it, the bucket's."""
    storage_class: StorageClass | None = None
    """Such as `STANDARD_IA`; without it, the bucket's default."""
    acl: Literal["bucket-owner-full-control"] | None = None
    """For a bucket that still has ACLs, so that its owner can read what this program writes."""
    ca_file: FilePath | None = None
    """Certificates to trust for the endpoint, as a PEM file."""

    def open(self, guard: Guard) -> Driver:
        """The driver. Raises ConfigError."""
        from exporter.destinations.s3.store import S3Store

        return S3Store(self, guard)

    @property
    def store_name(self) -> str:
        """The canonical name: a bucket is unique in its partition of AWS, and in any other endpoint."""
        if self.is_aws:
            return f"s3://{self.bucket}" + ("" if self.partition == "aws" else f"@{self.partition}")
        url = urlsplit(self.endpoint_url or "")
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        port = "" if url.port in (None, DEFAULT_PORTS.get(url.scheme)) else f":{url.port}"
        return f"s3://{self.bucket}@{host}{port}{url.path.rstrip('/')}"

    @property
    def endpoint(self) -> str:
        """The server behind it: a region of AWS has one for all its buckets."""
        return f"s3 {self.region or ''}" if self.is_aws else self.store_name.partition("@")[2]

    @property
    def is_aws(self) -> bool:
        """Whether this is Amazon's own S3, also behind a private endpoint."""
        return self.endpoint_url is None or bool(
            _AWS_HOST.fullmatch(urlsplit(self.endpoint_url).hostname or "")
        )

    @property
    def partition(self) -> str:
        """The part of AWS that the region belongs to, as ARNs call it."""
        region = self.region or ""
        return (
            "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
        )

    @property
    def sse(self) -> Literal["AES256", "aws:kms"] | None:
        """The encryption to ask for, as S3 calls it; a key asks for its own kind."""
        if self.encryption == "sse-kms" or self.kms_key:
            return "aws:kms"
        return "AES256" if self.encryption == "sse-s3" else None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for message in (_mistake_in_credentials(self), _mistake_in_encryption(self)):
            if message:
                raise ValueError(message)
        return self


def _mistake_in_credentials(settings: S3Settings) -> str:
    if (settings.access_key_id is None) != (settings.secret_access_key is None):
        return "needs both `access_key_id` and `secret_access_key`, or neither"
    if settings.session_token and not settings.access_key_id:
        return "has a `session_token` without `access_key_id` and `secret_access_key`"
    if settings.external_id and not settings.role_arn:
        return "has an `external_id` without the `role_arn` that it belongs to"
    if settings.through_roles and not settings.role_arn:
        return "has `through_roles` without the `role_arn` that they lead to"
    return ""


def _mistake_in_encryption(settings: S3Settings) -> str:
    if settings.kms_key is None:
        return ""
    if settings.encryption == "sse-s3":
        return "has a `kms_key` with `encryption: sse-s3`, which uses none: write `encryption: sse-kms`"
    if not settings.is_aws:  # others name their keys as they like
        return ""
    key = _KEY_ARN.fullmatch(settings.kms_key)
    if key is None:
        return (
            "needs the full ARN of the key as `kms_key`, such as arn:aws:kms:REGION:ACCOUNT:key/ID:"
            " an id or an alias means another key in another account"
        )
    if settings.region and settings.region != key[1]:
        return f"has a `kms_key` of {key[1]} for a bucket of {settings.region}: both must be in one region"
    return ""
