"""What the errors of S3 mean: one table from vendor's words to ours, with a hint and a fix for each code.

What decides is whether the object can have landed; when in doubt, it can. It must not raise, try
anything again or know a secret: whoever raises these errors takes secrets out of them.
"""

from __future__ import annotations

import re
import shlex
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from exporter.destinations.s3 import policies
from exporter.errors import DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.exceptions import ClientError

    from exporter.destinations.s3.settings import S3Settings

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
OWN_ROLE_HINT = "let the trust policy of {role} allow sts:AssumeRole to what is before it in through_roles"
CONNECTION_HINT = "check endpoint_url, region, ca_file and the network between here and the store"
KEYS_HINT = "enter access_key_id and secret_access_key again: they are not, or no longer, a valid pair"
TOKEN_HINT = "give a fresh session_token, or use role_arn, which renews itself"  # noqa: S105 - advice
REGION_HINT = "set region: {region}"
CHECKSUM_HINT = "look at what lies between here and the store: the bytes changed on their way"
KMS_HINT = (
    "grant kms:GenerateDataKey, and kms:Decrypt for large objects, on {kms_key}, also in the key's"
    " policy, and see that the key is enabled and in the bucket's region"
)
ARN = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::[0-9]{12}:[\w+=,.@/-]+")
REGION_NAME = re.compile("[A-Za-z0-9-]{1,63}")
SESSION = re.compile(r"arn:(aws[a-z-]*):sts::([0-9]{12}):assumed-role/(?:.*/)?([\w+=,.@-]+)/[\w+=,.@-]+")


class Denied(NamedTuple):
    """What is known of a request that the store refused."""

    settings: S3Settings
    name: str
    message: str
    region: str

    @property
    def writer(self) -> str:
        """Who was refused: whom the store names, else the role, else nobody that is known."""
        named = ARN.search(self.message)
        return role_of(named[0]) if named else self.settings.role_arn or "ARN_OF_THE_WRITER"

    @property
    def is_elsewhere(self) -> bool:
        """Whether the bucket belongs to another account than the writer, so that it has to agree."""
        owner, account = self.settings.bucket_owner, self.writer.split(":")[4:5]
        if owner and account and "resource-based policy" not in self.message:
            return account != [owner]
        # A role is the customer's own, and so is the bucket; this program's identity is not.
        return "identity-based policy" not in self.message and (
            self.settings.role_arn is None or "resource-based policy" in self.message
        )


class Advice(NamedTuple):
    """What a person does about a code: a hint, and what to copy."""

    hint: str
    fix: Callable[[Denied], str] = lambda _denied: ""


def _grant(denied: Denied) -> str:
    settings, name, writer = denied.settings, denied.name, denied.writer
    if "explicit deny" in denied.message:
        return ""  # no grant outweighs it
    documents = [policies.of_writer(settings, name, writer)]
    if denied.is_elsewhere:
        documents.append(policies.of_bucket(settings, name, writer))
    return policies.text_of(*documents)


def _grant_key(denied: Denied) -> str:
    key = denied.settings.kms_key or "THE_BUCKETS_KEY"
    writer = policies.of_writer(denied.settings, denied.name, denied.writer)
    return policies.text_of(policies.of_key(key, denied.writer), writer)


def _create_bucket(denied: Denied) -> str:
    settings = denied.settings
    if not settings.is_aws:
        endpoint = shlex.quote(settings.endpoint_url or "")
        return f"aws s3api create-bucket --endpoint-url {endpoint} --bucket {settings.bucket}"
    region = settings.region or "us-east-1"
    place = f" --create-bucket-configuration LocationConstraint={region}" if region != "us-east-1" else ""
    return f"aws s3api create-bucket --bucket {settings.bucket} --region {region}{place}"


def _set_region(denied: Denied) -> str:
    return f"region: {denied.region}" if denied.region else ""


REGION = Advice(REGION_HINT, _set_region)
KMS = Advice(KMS_HINT, _grant_key)
NO_ADVICE = Advice("")
ADVICE = {
    "AccessDenied": Advice(
        "grant s3:PutObject on {arn} to this program's identity,"
        " and look for a bucket policy that denies it or demands encryption{more}",
        _grant,
    ),
    "NoSuchBucket": Advice(
        "create the bucket {bucket}, or correct bucket, region or endpoint_url", _create_bucket
    ),
    "InvalidAccessKeyId": Advice(KEYS_HINT),
    "SignatureDoesNotMatch": Advice(KEYS_HINT),
    "ExpiredToken": Advice(TOKEN_HINT),
    "InvalidToken": Advice(TOKEN_HINT),
    "RequestTimeTooSkewed": Advice(
        "set this machine's clock: it differs from the store's by over 15 minutes"
    ),
    "EntityTooLarge": Advice("lower part_limit: the store does not take objects of this size"),
    "QuotaExceeded": Advice("free space in the bucket, or raise its quota"),
    "AccessControlListNotSupported": Advice(
        "remove acl: the bucket has no ACLs, and its owner owns what is in it"
    ),
    "InvalidStorageClass": Advice("correct storage_class, or leave it out: the store does not have this one"),
    "BadDigest": Advice(CHECKSUM_HINT),
    "XAmzContentSHA256Mismatch": Advice(CHECKSUM_HINT),
    "NotImplemented": Advice("use a store that knows If-None-Match on PutObject and CompleteMultipartUpload"),
    "SlowDown": Advice("nothing, unless it stays: the store asks for fewer requests"),
    "PermanentRedirect": REGION,
    "TemporaryRedirect": REGION,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
}


def sdk_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What a request can raise. A bare OSError is the archive's: those of the network come wrapped."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return BotoCoreError, ClientError, ResponseParserError, OSError, *others


def put_failed(error: Exception, settings: S3Settings, name: str) -> DeliveryError:
    """What it means for the object ``name`` that a request raised ``error``."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return _answered(error, settings, name)
    return _unanswered(error, settings, name)


def access_failed(error: Exception, settings: S3Settings, role: str = "") -> NotSent:
    """What it means that there are no credentials for a request, or that ``role`` could not be assumed."""
    message = f"no access to bucket '{settings.bucket}': {_words(error)}"
    if not (role and hasattr(error, "operation_name")):  # STS did not answer
        return NotSent(message, hint=CREDENTIALS_HINT)
    hint = ROLE_ID_HINT if settings.external_id else ROLE_HINT
    caller = ARN.search(str(error))
    who = role_of(caller[0]) if caller else "ARN_OF_THIS_PROGRAM"
    trust = policies.of_trust(role, who, external_id=role == settings.role_arn)
    return NotSent(
        message,
        hint=(hint if role == settings.role_arn else OWN_ROLE_HINT).format(role=role),
        fix=policies.text_of(trust, policies.of_caller(role, who)),
    )


def role_of(caller: str) -> str:
    """The role behind the ARN of one of its sessions, which is what policies name; others as they are."""
    session = SESSION.fullmatch(caller)
    return f"arn:{session[1]}:iam::{session[2]}:role/{session[3]}" if session else caller


def lacks_feature(error: BaseException) -> bool:
    """Whether the store said, somewhere behind this error, that it does not know what it was asked for."""
    response = getattr(error, "response", None)
    if response is None:
        return error.__cause__ is not None and lacks_feature(error.__cause__)
    return bool(response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_IMPLEMENTED)


def _answered(error: ClientError, settings: S3Settings, name: str) -> DeliveryError:
    """The meaning of an error answer of the store."""
    code = error.response.get("Error", {}).get("Code")
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    store = settings.store_name
    if code == "PreconditionFailed" or status == HTTPStatus.PRECONDITION_FAILED:
        return ObjectExists(f"{store} already has {name}")
    hint, fix = _advice(error, settings, name)
    if code in UNKNOWN_CODES or status in UNKNOWN_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return OutcomeUnknown(
            f"{store} did not say whether it took {name}: {_words(error)}", hint=hint, fix=fix
        )
    return Refused(f"{store} refused {name}: {_words(error)}", hint=hint, fix=fix)


def _unanswered(error: Exception, settings: S3Settings, name: str) -> DeliveryError:
    """The meaning of no answer, or of none that can be read."""
    store = settings.store_name
    if _never_sent(error):
        return NotSent(f"{store} was not asked to take {name}: {error}", hint=CONNECTION_HINT)
    return OutcomeUnknown(f"{store} did not say whether it took {name}: {error}", hint=CONNECTION_HINT)


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
    told = response.get("Error", {})  # a token service that is none says nothing
    words = ": ".join(filter(None, (told.get("Code"), told.get("Message")))) or str(error)
    request_id = response["ResponseMetadata"].get("RequestId")
    return f"{words} (request {request_id})" if request_id else words


def _advice(error: ClientError, settings: S3Settings, name: str) -> tuple[str, str]:
    """The hint and the fix."""
    code, message = (
        error.response.get("Error", {}).get("Code", ""),
        error.response.get("Error", {}).get("Message") or "",
    )
    advice = KMS if code.startswith("KMS") or "kms:" in message else ADVICE.get(code, NO_ADVICE)
    headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
    told = str(error.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or "")
    region = told if REGION_NAME.fullmatch(told) else ""  # not everybody's text is one to copy
    hint = advice.hint.format(
        arn=policies.objects(settings, name),
        bucket=settings.bucket,
        kms_key=settings.kms_key or "the bucket's key",
        region=region or "the bucket's",
        more=_what_more_is_denied(settings),
    )
    return hint, advice.fix(Denied(settings, name, message, region))


def _what_more_is_denied(settings: S3Settings) -> str:
    """Reasons for AccessDenied that lie in what was asked for."""
    acl = "; acl also needs s3:PutObjectAcl" if settings.acl else ""
    owner = f"; it is also the answer when the bucket is not of account {settings.bucket_owner}"
    return acl + (owner if settings.bucket_owner else "")
