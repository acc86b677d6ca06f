"""What a configuration says of a bucket of S3, or of a store that speaks its protocol."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from exporter.destinations.object_store import ObjectStoreSettings
from exporter.notation.secret import Secret, revealed
from exporter.notation.values import Endpoint, FilePath, Text

if TYPE_CHECKING:
    from exporter.destinations.object_store import Driver
    from exporter.network.guard import Guard


def _checked_account(number: str) -> str:
    if not re.fullmatch("[0-9]{12}", number):
        message = "must be the 12 digits of an AWS account, in quotes"
        raise ValueError(message)
    return number


AwsAccount = Annotated[Text, AfterValidator(_checked_account)]


class S3Settings(ObjectStoreSettings):
    """A bucket of Amazon S3, or of a store that speaks its protocol."""

    type: Literal["s3"]
    bucket: Text
    region: Text | None = None
    endpoint_url: Endpoint | None = None
    path_style: bool = False
    """Bucket in the path instead of the host name, as many stores other than Amazon's want it."""
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    through_roles: tuple[Text, ...] = Field((), strict=False)
    """Roles of your own to assume first, each by means of the one before; the last assumes `role_arn`."""
    role_arn: Text | None = None
    """The customer's role to assume."""
    external_id: Secret | None = None
    """What the customer's trust policy demands, so that nobody else can have you use the role."""
    bucket_owner: AwsAccount | None = None
    """The account that must own the bucket; a bucket of the same name that is another's is refused."""
    encryption: Literal["sse-s3", "sse-kms"] | None = None
    """`sse-s3` or `sse-kms`; without it, as the bucket's default says."""
    kms_key: Text | None = None
    """The key of `sse-kms`, as its full ARN; without it, the bucket's."""
    storage_class: Text | None = None
    """Such as `STANDARD_IA`; without it, the bucket's default."""
    acl: Literal["bucket-owner-full-control"] | None = None
    """For a bucket that still has ACLs, so that its owner can read what this program writes."""
    ca_file: FilePath | None = None
    """Certificates to trust for the endpoint, as a PEM file."""

    def open(self, guard: Guard) -> Driver:
        """The driver. Raises ConfigError."""
        from exporter.destinations.s3.options import S3Options, S3Secrets
        from exporter.destinations.s3.store import S3Store

        del guard

        def secrets() -> S3Secrets:
            return S3Secrets(
                access_key_id=revealed(self.access_key_id),
                secret_access_key=revealed(self.secret_access_key),
                session_token=revealed(self.session_token),
                external_id=revealed(self.external_id),
            )

        options = S3Options(
            bucket=self.bucket,
            region=self.region,
            endpoint_url=self.endpoint_url,
            path_style=self.path_style,
            role_arn=self.role_arn,
            kms_key=self.kms_key,
            ca_file=self.ca_file,
        )
        return S3Store(options, secrets)

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        message = ""
        if (self.access_key_id is None) != (self.secret_access_key is None):
            message = "needs both `access_key_id` and `secret_access_key`, or neither"
        elif self.session_token and not self.access_key_id:
            message = "has a `session_token` without `access_key_id` and `secret_access_key`"
        elif self.external_id and not self.role_arn:
            message = "has an `external_id` without the `role_arn` that it belongs to"
        if message:
            raise ValueError(message)
        return self
