"""What a person does about a refusal of S3, or of its token service: a hint and a fix for each code.

It must not decide what a refusal means for an object, ask anybody, or repeat more of an answer than names.
"""

from __future__ import annotations

import re
import shlex
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.destinations.s3 import policies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.exceptions import ClientError

    from exporter.destinations.s3.settings import S3Settings

ARN = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::[0-9]{12}:[\w+=,.@/-]+")
REGION_NAME = re.compile("[A-Za-z0-9-]{1,63}")
SESSION = re.compile(r"arn:(aws[a-z-]*):sts::([0-9]{12}):assumed-role/(?:.*/)?([\w+=,.@-]+)/[\w+=,.@-]+")

PATH_HINT = "; if the role that asks has a path, write it into its ARN: AWS leaves it out of the answer"
SAYS_MORE = "; `audit-exporter check` says more"
"""The end of a hint, for everybody but `check`."""

# --- Whose keys are not taken ---------------------------------------------------------------------

UNKNOWN_KEYS = {"InvalidAccessKeyId", "InvalidClientTokenId", "SignatureDoesNotMatch"}
ENDED_KEYS = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
KEYS_HINT = "enter access_key_id and secret_access_key again: they are not, or no longer, a valid pair"
TOKEN_HINT = "give a fresh session_token, or use role_arn, which renews itself"  # noqa: S105 - advice
MACHINE_KEYS_HINT = (
    "renew the credentials that this machine offers (pod identity, instance role, AWS_PROFILE, environment):"
    " they are not, or no longer, valid here"
)
ROLE_KEYS_HINT = (
    "the keys are those of {role}, fresh from the token service: see that the store is of the same part of"
    " AWS, or has that service, by region and endpoint_url"
)
ROLE_SESSION_HINT = (
    "the session of {role} is not, or no longer, taken: see whether somebody ended the role's sessions, and"
    " whether the bucket's account has enabled its region; the next start of this program asks for a new one"
)

# --- Roles ----------------------------------------------------------------------------------------

ROLE_ID_HINT = (
    "let the trust policy of {role} allow sts:AssumeRole to this program's identity,"
    " with the external id of this export"
)
ROLE_HINT = (
    "let the trust policy of {role} allow sts:AssumeRole to this program's identity,"
    " and set external_id if the policy asks for one"
)
OWN_ROLE_HINT = "let the trust policy of {role} allow sts:AssumeRole to what is before it in through_roles"
STS_HINTS = {
    "RegionDisabledException": "enable the token service (STS) of the region, in IAM under account settings",
    "ValidationError": "correct role_arn, or through_roles: arn:aws:iam::ACCOUNT:role/NAME",
}
NO_STS_HINT = (
    "see that the store at endpoint_url has a token service (STS) which gives {role}; if it has none,"
    " leave role_arn out, and give access_key_id and secret_access_key of a user who may only write"
)
OTHER_STS_HINT = "compare role_arn, through_roles, external_id and region with what {role} is for"
NO_WAY_TO_STS_HINT = (
    "let this machine reach the token service (STS) of {where}, which it asks for {role}: {how}"
)
MACHINE_ROLE_HINT = (
    "this machine's own role is refused, before any role of a customer: compare AWS_ROLE_ARN, which the"
    " service account's annotation sets, with that role's trust policy: identity provider, `sub` and `aud`"
)

# --- The store ------------------------------------------------------------------------------------

REGION_HINT = "set region: {region}"
CHECKSUM_HINT = "look at what lies between here and the store: the bytes changed on their way"
KMS_HINT = (
    "grant kms:GenerateDataKey, and kms:Decrypt for large objects, on {kms_key}, also in the key's"
    " policy, and see that the key is enabled and in the bucket's region"
)
SUSPENDED_HINT = "ask whoever runs the store, or owns the account: it is closed for now, rights or not"
FAULT_HINT = "nothing, unless it stays: then who answers has a fault that whoever runs it has to look for"


class Denied(NamedTuple):
    """What is known of a request that the store refused."""

    settings: S3Settings
    name: str
    message: str
    region: str

    @property
    def writer(self) -> str:
        """Who was refused: whom the store names, else the role, else nobody that is known."""
        found = ARN.search(self.message)
        return role_of(found[0]) if found else self.settings.role_arn or policies.nobody(self.settings)

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
    if "VPC endpoint policy" in denied.message:
        return policies.text_of(policies.of_endpoint(settings, name, writer))
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
FEWER = Advice("nothing, unless it stays: the store asks for fewer requests")
CONFLICT = Advice("nothing, unless it stays: somebody wrote there at the same moment, and the next try tells")
SUSPENDED = Advice(SUSPENDED_HINT)
ADVICE = {
    "AccessDenied": Advice(
        "grant s3:PutObject on {arn} to this program's identity,"
        " and look for a bucket policy that denies it or demands encryption{more}",
        _grant,
    ),
    "NoSuchBucket": Advice(
        "create the bucket {bucket}, or correct bucket, region or endpoint_url", _create_bucket
    ),
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
    "SlowDown": FEWER,
    "TooManyRequests": FEWER,
    "ConditionalRequestConflict": CONFLICT,
    "OperationAborted": CONFLICT,
    "RequestTimeout": Advice("look at the network between here and the store: the object came too slowly"),
    "PermanentRedirect": REGION,
    "TemporaryRedirect": REGION,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
    "UserSuspended": SUSPENDED,
    "AllAccessDisabled": SUSPENDED,
    "AccountProblem": SUSPENDED,
    "NotSignedUp": SUSPENDED,
}


def on_refusal(error: ClientError, settings: S3Settings, name: str) -> tuple[str, str]:
    """The hint and the fix for what the store answered to a put of ``name``."""
    answer, metadata = error.response.get("Error", {}), error.response["ResponseMetadata"]
    code, message = text_in(answer, "Code"), text_in(answer, "Message")
    told = str(answer.get("Region") or metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region") or "")
    region = told if REGION_NAME.fullmatch(told) else ""  # not everybody's text is one to copy
    advice = _advice(code, message, metadata["HTTPStatusCode"], settings)
    hint = advice.hint.format(
        arn=policies.objects(settings, name),
        bucket=settings.bucket,
        kms_key=settings.kms_key or "the bucket's key",
        region=region or "the bucket's",
        more=_what_more_is_denied(settings),
    )
    fix = advice.fix(Denied(settings, name, message, region))
    hides_path = ":assumed-role/" in message and '"Principal"' in fix
    return hint + policies.what_stands_for(fix) + (PATH_HINT if hides_path else ""), fix


def on_role(error: ClientError, settings: S3Settings, role: str) -> tuple[str, str]:
    """The hint and the fix for what the token service answered to whoever asked for ``role``."""
    code = text_in(error.response.get("Error", {}), "Code")
    chain = [*settings.through_roles, settings.role_arn]
    before = settings.through_roles[chain.index(role) - 1] if role in chain[1:] else None
    if error.response["ResponseMetadata"]["HTTPStatusCode"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return FAULT_HINT, ""
    if code != "AccessDenied":
        other = OTHER_STS_HINT + SAYS_MORE if settings.is_aws else NO_STS_HINT
        hint = about_keys(code, settings, before) or STS_HINTS.get(code, other)
        return hint.format(role=role), ""
    is_customers = role == settings.role_arn
    hint = (ROLE_ID_HINT if settings.external_id else ROLE_HINT) if is_customers else OWN_ROLE_HINT
    asker = ARN.search(str(error))
    who = role_of(asker[0]) if asker else before or policies.nobody(settings)
    trust = policies.of_trust(role, who, external_id=is_customers)
    fix = policies.text_of(trust, policies.of_caller(role, who))
    return hint.format(role=role) + policies.what_stands_for(fix), fix


def on_no_way_to_sts(settings: S3Settings, role: str) -> str:
    """The hint for a token service that was asked for ``role`` and did not answer."""
    if settings.is_aws:
        where, how = settings.region or "AWS", "a private endpoint for S3 alone does not lead there"
    else:
        where, how = "endpoint_url", "roles are asked for at the same address as the bucket"
    return NO_WAY_TO_STS_HINT.format(where=where, role=role, how=how)


def about_keys(code: str, settings: S3Settings, role: str | None) -> str:
    """The hint for a code that is about the keys of ``role``, or this program's own; empty for others."""
    if code not in UNKNOWN_KEYS | ENDED_KEYS:
        return ""
    if role is not None:
        return (ROLE_SESSION_HINT if code in ENDED_KEYS else ROLE_KEYS_HINT).replace("{role}", role)
    if settings.access_key_id is None:
        return MACHINE_KEYS_HINT
    return TOKEN_HINT if code in ENDED_KEYS else KEYS_HINT


def text_in(answer: Mapping[str, Any], name: str) -> str:
    """What an answer says there; empty if that is nothing, or no text."""
    value = answer.get(name)
    return value if isinstance(value, str) else ""


def role_of(caller: str) -> str:
    """The role behind the ARN of one of its sessions, which is what policies name; others as they are."""
    session = SESSION.fullmatch(caller)
    return f"arn:{session[1]}:iam::{session[2]}:role/{session[3]}" if session else caller


def _advice(code: str, message: str, status: int, settings: S3Settings) -> Advice:
    if code.startswith("KMS") or "kms:" in message:
        return KMS
    if keys := about_keys(code, settings, settings.role_arn):
        return Advice(keys)
    faulty = Advice(FAULT_HINT) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
    return ADVICE.get(code) or faulty or Advice(_settings_hint(settings))


def _settings_hint(settings: S3Settings) -> str:
    """For what no table knows: perhaps it is one of the things that this export asks for."""
    asked = ("storage_class", "encryption", "kms_key", "acl", "bucket_owner")
    given = [name for name in asked if getattr(settings, name)]
    places = ["bucket", *(name for name in ("region", "endpoint_url") if getattr(settings, name)), *given]
    return f"compare what this export asks for with what the store takes: {', '.join(places)}{SAYS_MORE}"


def _what_more_is_denied(settings: S3Settings) -> str:
    """Reasons for AccessDenied that lie in what was asked for."""
    acl = "; acl also needs s3:PutObjectAcl" if settings.acl else ""
    owner = f"; it is also the answer when the bucket is not of account {settings.bucket_owner}"
    return acl + (owner if settings.bucket_owner else "")
