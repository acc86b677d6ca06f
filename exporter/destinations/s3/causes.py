"""Why S3 refused the probe of `check`, beyond the words of its answer, and the statement that cures it.

An answer says which right is missing, not to whom, in which policy or for want of what: that is asked for
here, of the token service and of the store, with requests that cannot create an object. It must not
quote an answer of its own requests, which may repeat a secret.
"""

from __future__ import annotations

import re
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from exporter.destinations.s3 import policies
from exporter.destinations.s3.advice import PATH_HINT, SAYS_MORE, role_of, text_in
from exporter.destinations.s3.errors import RoleFailed, sdk_errors
from exporter.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.destinations.s3.access import Access
    from exporter.destinations.s3.settings import S3Settings
    from exporter.model import Finding
    from exporter.network.guard import Guard

SKEW = timedelta(minutes=5)
"""From here on a clock is worth a word; S3 refuses from 15 minutes on."""
CLOCK_HINT = (
    "set this machine's clock, or that of the node it runs on: S3 refuses requests from 15 minutes off on"
)
CLOCK_FIX = "timedatectl set-ntp true"
CLOCK_WORDS = re.compile("RequestTimeTooSkewed|RequestExpired|Signature (expired|not yet current)")
CHECKSUM_DEMANDED = re.compile(r"Content-MD5|x-amz-checksum|Object Lock")
LOCK_HINT = (
    "the bucket has Object Lock and asks for a checksum, and this program sends one: look for what takes"
    " x-amz-checksum-sha256 away between here and the store"
)
BESIDE_HINT = "; the probe of `check` lies beside audit/, so that a right for audit/ alone is not enough"
BUCKET = "resource-based policy"
ENDPOINT = "VPC endpoint policy"
KEY_ARN = re.compile(r"arn:[\w-]+:kms:[\w-]+:\d+:(?:key|alias)/[\w/-]+")
ASKER = re.compile(r"User: (arn:\S+) is not authorized")
MISSING = re.compile(r"because no (.+?) allows")
DENYING = re.compile(r"explicit deny in (?:an? |the )?([\w -]+)")


@dataclass(frozen=True)
class Case:
    """One bucket that `check` looks at, and the name of its probe."""

    settings: S3Settings
    access: Access
    guard: Guard
    probe: str

    @cached_property
    def own_identity(self) -> str:
        """Whose this program's own keys are, as the token service says it; empty if it does not."""
        with (
            suppress(DeliveryError, *sdk_errors()),
            closing(self.access.connect("sts", self.access.own_keys())) as sts,
        ):
            return self.without_secrets(text_in(sts.get_caller_identity(), "Arn"))
        return ""

    @property
    def caller(self) -> str:
        """The identity that asks for the customer's role, or writes by itself; empty if it cannot be told."""
        roles = self.settings.through_roles
        return roles[-1] if roles else role_of(self.own_identity)

    @property
    def writer(self) -> str:
        """The identity that writes, as policies name it."""
        return self.settings.role_arn or self.caller or policies.nobody(self.settings)

    @cached_property
    def _buckets(self) -> Mapping[str, Any]:
        """What the store answers to who asks for their own buckets."""
        return answer_to(lambda client: client.list_buckets(), self)

    @property
    def is_own_bucket(self) -> bool:
        """Whether the store counts the bucket among the writer's own."""
        own = self._buckets.get("Buckets") or []
        return any(one.get("Name") == self.settings.bucket for one in own)

    @property
    def has_acls(self) -> bool:
        """Whether an object may be another user's than its bucket, for all that is known of the store."""
        server = self._buckets.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("server", "")
        host = urlsplit(self.settings.endpoint_url or "").hostname or ""
        return not (server.startswith("MinIO") or host.endswith(".r2.cloudflarestorage.com"))

    def notes_on(self, fix: str) -> str:
        """The end of a hint: what a person has to put right in this text before it serves."""
        is_session = self.settings.role_arn is None and ":assumed-role/" in self.own_identity
        names_writer = '"Principal"' in fix and self.writer in fix
        return policies.what_stands_for(fix) + (PATH_HINT if is_session and names_writer else "")

    def without_secrets(self, words: str) -> str:
        """What somebody answered: a store that is up to no good repeats what it was sent."""
        return self.access.redacted(DeliveryError(words)).message

    @property
    def place(self) -> dict[str, Any]:
        """What every request says: the bucket, and whose it must be."""
        bucket, owner = self.settings.bucket, self.settings.bucket_owner
        return {"Bucket": bucket} | ({"ExpectedBucketOwner": owner} if owner else {})


def account_of(arn: str) -> str:
    """The number of the account that an identity belongs to; empty if the text is no ARN."""
    return (arn.split(":") + [""] * 5)[4]


def explained(finding: Finding, error: DeliveryError, case: Case) -> Finding:
    """The finding of a failed put, with the cause that lies behind it, as far as it can be told."""
    cause = error.__cause__
    response = getattr(cause, "response", None)
    if response is None:
        return _on_the_way(finding, cause, case)
    finding = replace(finding, hint=finding.hint.removesuffix(SAYS_MORE))
    answer = response.get("Error", {})
    code = text_in(answer, "Code")
    message = case.without_secrets(text_in(answer, "Message"))
    if CLOCK_WORDS.search(f"{code}: {message}"):
        return replace(
            finding, message=clock_words(response) or finding.message, hint=CLOCK_HINT, fix=CLOCK_FIX
        )
    if isinstance(error, RoleFailed) and code == "AccessDenied":
        return _role_refused(finding, message, error.role, case)
    if getattr(cause, "operation_name", "").startswith("AssumeRole"):  # its hint is of the token service
        return finding
    return _access_to_bucket(finding, code, message, case)


def _access_to_bucket(finding: Finding, code: str, message: str, case: Case) -> Finding:
    """What the store refused."""
    if code.startswith("KMS") or "kms:" in message:
        return _key_refused(finding, f"{code}: {message}", case)
    if code == "AccessDenied":
        return _put_refused(finding, message, case)
    lacks_checksum = code == "InvalidRequest" and CHECKSUM_DEMANDED.search(message)
    return replace(finding, hint=LOCK_HINT) if lacks_checksum else finding


def clock_words(response: Mapping[str, Any]) -> str:
    """How far this machine's clock is from that of whoever answered; empty if that is little or unknown."""
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        ahead = datetime.now(UTC) - parsedate_to_datetime(date)
    except (TypeError, ValueError):  # no date, one that cannot be read, or one without a zone
        return ""
    if abs(ahead) < SKEW:
        return ""
    minutes = round(abs(ahead).total_seconds() / 60)
    direction = "ahead of" if ahead > timedelta(0) else "behind"
    return f"this machine's clock is {minutes} minutes {direction} the store's"


def _on_the_way(finding: Finding, cause: BaseException | None, case: Case) -> Finding:
    """Nobody answered: perhaps the way to the host says why."""
    url = getattr(cause, "kwargs", {}).get("endpoint_url")  # of the request that went unanswered
    if not url:
        return finding
    from exporter.network.diagnosis import obstacle

    host, chosen = (urlsplit(one).hostname or "" for one in (url, case.settings.endpoint_url or ""))
    # A host that no customer chose is AWS's, and a private DNS zone may lead it to a private address.
    guard = case.guard if chosen and host.endswith(chosen) else case.guard.allowing(host)
    met = obstacle(url, guard, ca_file=case.settings.ca_file)
    if met is None:
        return finding
    region = case.settings.region
    of_region = f"; region: {region} made this name" if not chosen and region and region in host else ""
    return replace(finding, message=met.message, hint=met.hint + of_region, fix=met.fix)


def _role_refused(finding: Finding, message: str, role: str, case: Case) -> Finding:
    """Somebody may not assume a role: one of `through_roles`, or the customer's."""
    settings = case.settings
    chain = [*settings.through_roles, settings.role_arn or ""]
    hop = chain.index(role)
    own = role_of(_first(ASKER, message) or case.own_identity)
    caller = chain[hop - 1] if hop else own or policies.nobody(settings)
    is_foreign = role == settings.role_arn and account_of(caller) != account_of(role)
    trust = policies.of_trust(role, caller, external_id=is_foreign or _sends_id(role, case))
    step = f", step {hop + 1} of {len(chain)}" if len(chain) > 1 else ""
    fix = policies.text_of(trust, policies.of_caller(role, caller))
    hides_path = not hop and ":assumed-role/" in message + case.own_identity
    return replace(
        finding,
        message=f"{policies.named(caller)} may not assume {role}{step}: {_reason(finding.message)}",
        hint=_role_hint(role, case) + policies.what_stands_for(fix) + (PATH_HINT if hides_path else ""),
        fix=fix,
    )


def _sends_id(role: str, case: Case) -> bool:
    return role == case.settings.role_arn and case.settings.external_id is not None


def _role_hint(role: str, case: Case) -> str:
    both = "and who asks needs a policy that allows it, too"
    if _sends_id(role, case):
        return (
            f"see that {role} exists, and that its trust policy names who asks and this export's external_id,"
            f" letter by letter (here {policies.EXTERNAL_ID}); {both}"
        )
    asked = "; if that policy demands an external id, set external_id to the same"
    return (
        f"see that {role} exists, and that its trust policy names who asks; {both}"
        f"{asked if role == case.settings.role_arn else ''}"
    )


def _put_refused(finding: Finding, message: str, case: Case) -> Finding:
    """The writer may not create the object."""
    if case.settings.bucket_owner and _owner_differs(case):
        return replace(
            finding,
            message=f"the bucket does not belong to account {case.settings.bucket_owner}",
            hint="ask the customer whose bucket it is: the name may have changed hands; then correct"
            " bucket, or bucket_owner",
            fix="",
        )
    target = policies.objects(case.settings, case.probe)
    denying = _first(DENYING, message)
    if denying:
        hint = f"a Deny in the {denying} refuses s3:PutObject on {target}, whatever else allows it: look for"
        hint += " its conditions, such as encryption, network or TLS, and meet them or take it out"
        return replace(finding, hint=hint, fix=_where_to_look(denying, case))
    missing = _first(MISSING, message)
    fix = _permission(missing, case)
    writer = policies.named(case.writer)
    if missing:
        hint = f"no {missing} lets {writer} create {target}: add this{_list_of(missing, case)}"
    elif case.settings.is_aws:
        hint = f"let {writer} create {target}: by its own policy, and by the bucket's if that is another"
        hint += " account's; if they do so already, look for a Deny in either or in one of the organisation"
    else:
        hint = f"let {writer} create {target}: by its own policy or by the bucket's, whichever the store has;"
        hint += " if one does so already, look for a Deny in it"
    return replace(finding, hint=hint + BESIDE_HINT + case.notes_on(fix), fix=fix)


def _list_of(missing: str, case: Case) -> str:
    """Where a statement goes that is no policy by itself."""
    if missing == BUCKET:
        return f" to the list `Statement` of the bucket policy of {case.settings.bucket}"
    return " to the list `Statement` of that endpoint's policy" if missing == ENDPOINT else ""


def _permission(missing: str, case: Case) -> str:
    """What allows the put; where the answer does not say whose word is missing, that of both accounts."""
    asked = case.settings, case.probe, case.writer
    if missing == BUCKET:
        return policies.text_of(policies.of_bucket(*asked))
    if missing == ENDPOINT:
        return policies.text_of(policies.of_endpoint(*asked))
    one_account = case.settings.bucket_owner == account_of(case.writer)
    own = policies.of_writer(*asked)
    return (
        policies.text_of(own) if missing or one_account else policies.text_of(own, policies.of_bucket(*asked))
    )


def _where_to_look(denying: str, case: Case) -> str:
    if denying.strip() == BUCKET:
        return f"aws s3api get-bucket-policy --bucket {case.settings.bucket} --query Policy --output text"
    return ""


def _owner_differs(case: Case) -> bool:
    """Whether the same request is refused with the expected owner alone.

    S3 answers another owner with AccessDenied, like a missing right. A part of an upload that does not
    exist needs the right to put and creates nothing: who may put is told that there is no such upload.
    """
    codes = [_code_of_a_part(case, place) for place in (case.place, {"Bucket": case.settings.bucket})]
    return codes == ["AccessDenied", "NoSuchUpload"]


def _code_of_a_part(case: Case, place: Mapping[str, str]) -> str:
    part: dict[str, Any] = {**place, "Key": case.probe, "UploadId": "none", "PartNumber": 1, "Body": b""}
    return str(answer_to(lambda client: client.upload_part(**part), case).get("Error", {}).get("Code", ""))


def answer_to(ask: Callable[[Any], Mapping[str, Any]], case: Case) -> Mapping[str, Any]:
    """The store's answer to a request, be it a refusal; empty if there is none that can be read."""
    try:
        with case.access.client() as client:
            return ask(client)
    except Exception as error:  # noqa: BLE001 - anything, at an odd answer; nothing depends on it
        return getattr(error, "response", None) or {}  # None: nobody answered


def _key_refused(finding: Finding, words: str, case: Case) -> Finding:
    """The key of the encryption is not to be had."""
    key = case.settings.kms_key or _first(KEY_ARN, words)
    if not KEY_ARN.fullmatch(key):  # another store's, or a bucket's own that no answer names
        return finding
    command = f"aws kms {{}} --key-id {key} --region {key.split(':')[3]}"
    if "pending deletion" in words:
        hint = f"the key is about to be deleted: cancel that while there is time, and enable {key}"
        fix = "\n".join(command.format(one) for one in ("cancel-key-deletion", "enable-key"))
    elif "Disabled" in words or "InvalidState" in words:
        hint, fix = f"have the customer enable the key {key}", command.format("enable-key")
    elif "NotFound" in words or "arn region" in words.lower():
        hint = f"correct kms_key: the key must exist, and be in the region of the bucket; this is {key}"
        fix = command.format("describe-key")
    else:
        hint = f"let {policies.named(case.writer)} use {key}: the key's policy must say so, and, where the"
        hint += " key is another account's, the identity's policy as well"
        fix = policies.text_of(policies.of_key(key, case.writer), policies.of_key_user(key, case.writer))
        hint += case.notes_on(fix)
    return replace(finding, hint=hint, fix=fix)


def _reason(message: str) -> str:
    """The end of AWS's sentence, which says why; what is before it repeats who may not do what."""
    why = re.search(r"(?:because no |with an explicit deny ).*", message)
    request = re.search(r"\(request \S+\)$", message)
    return why[0] if why else f"AWS does not say why {request[0] if request else ''}".rstrip()


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found and pattern.groups else found[0] if found else ""
