"""What the S3 driver is told: which bucket and how to reach it, who asks, and how long requests may take.

These are values with the names that follow from them. They must not open a connection or load an SDK.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class S3Options:
    """One bucket and how to reach it. ``endpoint_url`` is for compatibles; AWS needs none.

    Raises ConfigError for an endpoint that is no address.
    """

    bucket: str
    region: str | None = None
    endpoint_url: str | None = None
    path_style: bool = False
    role_arn: str | None = None
    kms_key: str | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        if not _is_address(self.endpoint_url or ""):
            raise ConfigError(
                f"the endpoint_url of bucket '{self.bucket}' is no address",
                hint="write endpoint_url as https://host or https://host:port, with a port from 1 to 65535",
            )

    @property
    def store(self) -> str:
        """The canonical name: a bucket is unique in its partition of AWS, and in any other endpoint."""
        if self.is_aws:
            return f"s3://{self.bucket}" + ("" if self.partition == "aws" else f"@{self.partition}")
        url = urlsplit(self.endpoint_url or "")
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        port = "" if url.port in (None, DEFAULT_PORTS.get(url.scheme)) else f":{url.port}"
        return f"s3://{self.bucket}@{host}{port}{url.path.rstrip('/')}"

    @property
    def is_aws(self) -> bool:
        """Whether this is Amazon's own S3, also behind a private endpoint."""
        host = urlsplit(self.endpoint_url or "").hostname
        return host is None or host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    @property
    def partition(self) -> str:
        """The part of AWS that the region belongs to, as ARNs call it."""
        region = self.region or ""
        return (
            "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
        )


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


def _is_address(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:  # a port that is no number or too large, or half an IPv6 address
        return False
