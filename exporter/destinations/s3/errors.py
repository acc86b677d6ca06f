"""What the errors of S3 mean: one table from vendor's words to ours, with a hint for each code.

What decides is whether the object can have landed; when in doubt, it can. It must not raise, try
anything again or know a secret: whoever raises these errors takes secrets out of them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from exporter.errors import DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from exporter.destinations.s3.options import S3Options

UNKNOWN_CODES = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout"}
UNKNOWN_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT}

CREDENTIALS_HINT = (
    "give access_key_id and secret_access_key, or run where AWS gives credentials"
    " (pod identity, instance role, AWS_PROFILE)"
)
ROLE_ID_HINT = (
    "let the trust policy of {role} allow sts:AssumeRole to this program's identity,"
    " with the external id of this export"
)
ROLE_HINT = (
    "let the trust policy of {role} allow sts:AssumeRole to this program's identity,"
    " and set external_id if the policy asks for one"
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


def sdk_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What a request can raise. A bare OSError is the archive's: those of the network come wrapped."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return BotoCoreError, ClientError, ResponseParserError, OSError, *others


def put_failed(error: Exception, options: S3Options, name: str) -> DeliveryError:
    """What it means for the object ``name`` that a request raised ``error``."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return _answered(error, options, name)
    return _unanswered(error, options, name)


def access_failed(error: Exception, options: S3Options, *, external_id: bool) -> NotSent:
    """What it means that there are no credentials for a request; ``external_id``: whether one is given."""
    hint = CREDENTIALS_HINT
    if options.role_arn is not None and hasattr(error, "operation_name"):  # STS answered
        hint = ROLE_ID_HINT if external_id else ROLE_HINT
    hint = hint.format(role=options.role_arn)
    return NotSent(f"no access to bucket '{options.bucket}': {_words(error)}", hint=hint)


def _answered(error: ClientError, options: S3Options, name: str) -> DeliveryError:
    """The meaning of an error answer of the store."""
    code = error.response["Error"].get("Code")
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    hint = _hint(error, options, name)
    if code == "PreconditionFailed" or status == HTTPStatus.PRECONDITION_FAILED:
        return ObjectExists(f"{options.store} already has {name}")
    if code in UNKNOWN_CODES or status in UNKNOWN_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return OutcomeUnknown(
            f"{options.store} did not say whether it took {name}: {_words(error)}", hint=hint
        )
    return Refused(f"{options.store} refused {name}: {_words(error)}", hint=hint)


def _unanswered(error: Exception, options: S3Options, name: str) -> DeliveryError:
    """The meaning of no answer, or of none that can be read."""
    if _never_sent(error):
        return NotSent(f"{options.store} was not asked to take {name}: {error}", hint=CONNECTION_HINT)
    return OutcomeUnknown(
        f"{options.store} did not say whether it took {name}: {error}", hint=CONNECTION_HINT
    )


def _never_sent(error: Exception) -> bool:
    """Whether the failure is certain to come before the first byte of the request."""
    from botocore import exceptions as botocore

    if isinstance(error, botocore.SSLError):
        return "CERTIFICATE_VERIFY_FAILED" in str(error)
    if not isinstance(error, botocore.BotoCoreError):  # some of those are OSError too
        return isinstance(error, OSError)
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


def _hint(error: ClientError, options: S3Options, name: str) -> str:
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message")
    hint = KMS_HINT if "kms" in f"{code} {message}".lower() else HINTS.get(code, "")
    headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
    region = error.response["Error"].get("Region") or headers.get("x-amz-bucket-region")
    folder = f"{name.split('/', maxsplit=1)[0]}/*" if "/" in name else "*"
    return hint.format(
        arn=f"arn:{options.partition}:s3:::{options.bucket}/{folder}",
        bucket=options.bucket,
        kms_key=options.kms_key or "the bucket's key",
        region=region or "the bucket's",
    )
