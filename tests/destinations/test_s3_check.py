"""What `check` says of a bucket: the cause of every refusal, what cures it, and which rights are too many."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import EndpointConnectionError

from exporter.destinations.object_store import ObjectStoreDestination
from exporter.destinations.s3 import access, policies
from exporter.destinations.s3.causes import Case, explained
from exporter.destinations.s3.settings import S3Settings
from exporter.destinations.s3.store import S3Store
from exporter.errors import NotSent
from exporter.model import Finding, Level
from exporter.network.guard import Guard
from exporter.notation.secret import Secret
from tests.kit.aws_tokens import CUSTOMER, CUSTOMER_ROLE, VENDOR, VENDOR_USER, Tokens, aws
from tests.kit.proxy import LOSE_ANSWER, Answer, Fault, Proxy, Request, proxy_before, s3_error
from tests.kit.s3_stores import LOOPBACK
from tests.kit.servers import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, new_certificate, shared_moto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


EXTERNAL_ID = "canary-external-id"
OWN_ROLE = f"arn:aws:iam::{VENDOR}:role/teams/hub"
KEY = f"arn:aws:kms:us-east-1:{CUSTOMER}:key/0d9f"


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def proxy(tokens: Tokens) -> Iterator[Proxy]:
    """S3 and its token service, for a writer who may create objects and nothing else."""
    with aws(tokens) as running:
        running.script = create_only
        yield running


def create_only(request: Request) -> Fault | None:
    """Of objects, that is: stores let everybody ask which buckets are their own."""
    asks_for_more = request.method in {"GET", "DELETE"} and not is_for_buckets(request)
    return s3_error(403, "AccessDenied", "Access Denied") if asks_for_more else None


def is_for_buckets(request: Request) -> bool:
    return request.method == "GET" and request.path.partition("?")[0] == "/"


def otherwise(fault: Fault, match: Callable[[Request], bool]) -> Callable[[Request], Fault | None]:
    """A writer who may create, of whose requests some meet this fault."""
    return lambda request: fault if match(request) else create_only(request)


def is_put(request: Request) -> bool:
    return request.method == "PUT"


def settings_of(proxy: Proxy, **more: Any) -> S3Settings:  # noqa: ANN401 - any setting
    """A bucket that no other test has, and the vendor's own keys."""
    bucket = more.pop("bucket", None) or shared_moto().new_bucket()
    keys = {"access_key_id": Secret(ACCESS_KEY_ID), "secret_access_key": Secret(SECRET_ACCESS_KEY)}
    place = {"bucket": bucket, "region": REGION, "endpoint_url": proxy.url, "path_style": True}
    return S3Settings.model_validate({"type": "s3", **place, **keys, **more})


def role(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    """The customer's role, with its external id."""
    return {"role_arn": CUSTOMER_ROLE, "external_id": Secret(EXTERNAL_ID)} | more


def check(settings: S3Settings) -> list[Finding]:
    """What `check` says; and never does it say a secret, or where the records are."""
    found = ObjectStoreDestination(S3Store(settings, LOOPBACK), "vendor").check()
    for secret in (SECRET_ACCESS_KEY, EXTERNAL_ID):
        assert secret not in repr(found)
    names = {
        one["Key"] for one in shared_moto().s3().list_objects_v2(Bucket=settings.bucket).get("Contents", [])
    }
    assert all(name.startswith("vendor/.audit-exporter-check/") for name in names)
    return list(found)


def failed(settings: S3Settings) -> Finding:
    (finding,) = check(settings)
    assert finding.level is Level.ERROR
    return finding


def warned(settings: S3Settings) -> Finding:
    good, finding = check(settings)
    assert (good.level, finding.level) == (Level.OK, Level.WARNING)
    return finding


def assert_good(settings: S3Settings) -> None:
    (finding,) = check(settings)
    assert finding.level is Level.OK, finding


def documents(fix: str) -> dict[str, Any]:
    """What a fix says to write, by where it belongs; empty for the one that stands alone."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in fix.splitlines():
        if line.endswith(":") and not line.startswith((" ", "{", "}")):
            title = line
        else:
            found.setdefault(title, []).append(line)
    return {title: json.loads("\n".join(lines)) for title, lines in found.items()}


@pytest.fixture
def as_amazon(monkeypatch: pytest.MonkeyPatch) -> Callable[[Proxy], None]:
    """Has what is behind a proxy taken for Amazon's S3 and token service."""

    def take(proxy: Proxy) -> None:
        monkeypatch.setattr(S3Settings, "is_aws", property(lambda _settings: True))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", proxy.url)

    return take


# --- Rights ---------------------------------------------------------------------------------------


@pytest.fixture
def plain() -> Iterator[Proxy]:
    with proxy_before(shared_moto().url) as running:
        yield running


@pytest.fixture
def user() -> Iterator[dict[str, Any]]:
    """A user of AWS without any right."""
    iam, name = shared_moto().iam(), "checked"
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield {"access_key_id": Secret(key["AccessKeyId"]), "secret_access_key": Secret(key["SecretAccessKey"])}
    for policy in iam.list_user_policies(UserName=name)["PolicyNames"]:
        iam.delete_user_policy(UserName=name, PolicyName=policy)
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=name)


def grant(policy: object) -> None:
    shared_moto().iam().put_user_policy(
        UserName="checked", PolicyName="checked", PolicyDocument=json.dumps(policy)
    )


def checked_with_permissions(settings: S3Settings) -> list[Finding]:
    with shared_moto().enforcing_permissions():
        return list(ObjectStoreDestination(S3Store(settings, LOOPBACK), "vendor").check())


def test_the_policy_that_a_refusal_prints_is_enough_and_no_more_than_that(
    plain: Proxy, user: dict[str, Any], as_amazon: Callable[[Proxy], None]
) -> None:
    as_amazon(plain)
    settings = settings_of(plain, **user)
    (refused,) = checked_with_permissions(settings)
    assert refused.level is Level.ERROR
    (policy,) = [document for title, document in documents(refused.fix).items() if "identity" in title]
    grant(policy)
    (finding,) = checked_with_permissions(settings)
    assert finding.level is Level.OK
    (elsewhere,) = checked_with_permissions(
        settings.model_copy(update={"bucket": shared_moto().new_bucket()})
    )
    assert elsewhere.level is Level.ERROR


def test_the_policy_that_a_warning_prints_takes_every_other_right_away(
    plain: Proxy, user: dict[str, Any], as_amazon: Callable[[Proxy], None]
) -> None:
    as_amazon(plain)
    settings = settings_of(plain, **user)
    grant({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
    good, warning = checked_with_permissions(settings)
    assert (good.level, warning.level) == (Level.OK, Level.WARNING)
    assert "s3:GetObject, s3:ListBucket, s3:DeleteObject" in warning.message
    grant(json.loads(warning.fix))
    (finding,) = checked_with_permissions(settings)
    assert finding.level is Level.OK


@pytest.mark.parametrize(
    ("right", "is_allowed"),
    [
        ("s3:GetObject", lambda request: request.method == "GET" and "list-type" not in request.path),
        ("s3:ListBucket", lambda request: "list-type" in request.path),
        ("s3:DeleteObject", lambda request: request.method == "DELETE"),
    ],
)
def test_a_right_that_nobody_needs_is_named_by_itself(
    right: str, is_allowed: Callable[[Request], bool], proxy: Proxy, as_amazon: Callable[[Proxy], None]
) -> None:
    as_amazon(proxy)
    proxy.script = lambda request: None if is_allowed(request) else create_only(request)
    finding = warned(settings_of(proxy))
    assert finding.message == f"{VENDOR_USER} has more rights here than it needs: {right}"
    assert json.loads(finding.fix)["Statement"][0]["Action"] == "s3:PutObject"


def test_a_writer_of_another_store_may_read_what_it_wrote_itself(proxy: Proxy) -> None:
    """As on Ceph, where objects are their writer's."""
    proxy.script = lambda request: (
        None if request.method == "GET" and "list-type" not in request.path else create_only(request)
    )
    assert_good(settings_of(proxy))


def test_a_user_who_owns_the_bucket_is_to_make_room_for_another(proxy: Proxy) -> None:
    """No policy of Ceph takes rights away from an owner."""
    proxy.script = lambda _request: None
    settings = settings_of(proxy)
    finding = warned(settings)
    assert finding.hint.startswith("use another user, who has only this: no policy narrows")
    assert list(documents(finding.fix)) == [
        f"identity policy of {VENDOR_USER}:",
        f"statement to add to the list `Statement` of the bucket policy of {settings.bucket}:",
    ]


def test_the_probe_is_taken_away_again_where_that_is_allowed(proxy: Proxy) -> None:
    proxy.script = lambda request: None if request.method == "DELETE" else create_only(request)
    settings = settings_of(proxy)
    assert "s3:DeleteObject" in warned(settings).message
    left = shared_moto().s3().list_objects_v2(Bucket=settings.bucket)["Contents"]
    assert [one["Key"] for one in left] == ["vendor/.audit-exporter-check/once"]  # for a run to look at


def test_a_right_that_nobody_could_ask_for_is_not_claimed(proxy: Proxy) -> None:
    proxy.script = otherwise(
        Fault(cut=True), lambda request: request.method in {"GET", "DELETE"} and not is_for_buckets(request)
    )
    assert_good(settings_of(proxy))


# --- Whose the bucket is --------------------------------------------------------------------------


def test_a_store_that_does_not_look_at_the_owner_is_a_warning(proxy: Proxy) -> None:
    finding = warned(settings_of(proxy, bucket_owner=CUSTOMER))
    assert finding.message.startswith("the store does not look at bucket_owner")


@pytest.mark.parametrize("owner", [CUSTOMER, "0" * 12])
def test_a_store_that_refuses_another_owner_is_good(owner: str, proxy: Proxy) -> None:
    proxy.script = otherwise(
        s3_error(403, "AccessDenied"),
        lambda request: request.headers.get("x-amz-expected-bucket-owner", owner) != owner,
    )
    assert_good(settings_of(proxy, bucket_owner=owner))


def test_amazon_is_not_asked_whether_it_looks_at_the_owner(
    proxy: Proxy, as_amazon: Callable[[Proxy], None]
) -> None:
    as_amazon(proxy)
    assert_good(settings_of(proxy, bucket_owner=CUSTOMER))


def test_an_answer_that_nobody_can_read_is_none(proxy: Proxy) -> None:
    odd = b"<ListAllMyBucketsResult><Buckets><Bucket><CreationDate>never</CreationDate></Bucket></Buckets>"
    answer = Answer(200, odd + b"</ListAllMyBucketsResult>")
    proxy.script = otherwise(Fault(forward=False, answer=answer), is_for_buckets)
    assert "its owner may not be able to read" in warned(settings_of(proxy)).message


NOT_YOURS = s3_error(403, "AccessDenied")
NO_ACLS = s3_error(403, "AccessDenied", headers={"Server": "MinIO"})


def test_objects_that_a_bucket_s_owner_could_not_read_are_a_warning_that_its_fix_ends(proxy: Proxy) -> None:
    """As on Ceph, where they are their writer's."""
    proxy.script = otherwise(NOT_YOURS, is_for_buckets)
    settings = settings_of(proxy)
    finding = warned(settings)
    assert "its owner may not be able to read" in finding.message
    name, _, value = finding.fix.partition(": ")
    assert_good(settings.model_copy(update={name: value}))


@pytest.mark.parametrize("fault", [NO_ACLS, LOSE_ANSWER], ids=["no ACLs", "no answer"])
def test_what_is_known_of_the_store_decides_whether_acl_is_worth_a_word(fault: Fault, proxy: Proxy) -> None:
    proxy.script = otherwise(fault, is_for_buckets)
    _, *others = check(settings_of(proxy))
    assert len(others) == (0 if fault is NO_ACLS else 1)


# --- Who may not write ----------------------------------------------------------------------------


def denied(message: str) -> Callable[[Request], Fault | None]:
    return otherwise(s3_error(403, "AccessDenied", message), is_put)


def by_aws(end: str, action: str = "s3:PutObject") -> str:
    """A refusal as AWS words it."""
    return f"User: {VENDOR_USER} is not authorized to perform: {action} on resource: &quot;x&quot; {end}"


def test_a_missing_right_of_the_identity_is_cured_by_its_policy_alone(proxy: Proxy) -> None:
    settings = settings_of(proxy, kms_key=KEY, acl="bucket-owner-full-control")
    proxy.script = denied(by_aws("because no identity-based policy allows the s3:PutObject action"))
    finding = failed(settings)
    assert f"no identity-based policy lets {VENDOR_USER} create" in finding.hint
    assert json.loads(finding.fix) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:PutObjectAcl"],
                "Resource": f"arn:aws:s3:::{settings.bucket}/vendor/*",
            },
            {"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": KEY},
        ],
    }


def test_a_missing_word_of_the_bucket_is_cured_by_its_policy_alone(proxy: Proxy) -> None:
    settings = settings_of(proxy)
    proxy.script = denied(by_aws("because no resource-based policy allows the s3:PutObject action"))
    finding = failed(settings)
    statement = json.loads(finding.fix)
    assert f"add this to the list `Statement` of the bucket policy of {settings.bucket}" in finding.hint
    assert statement["Principal"] == {"AWS": VENDOR_USER}
    assert statement["Resource"] == f"arn:aws:s3:::{settings.bucket}/vendor/*"


def test_a_missing_word_of_a_vpc_endpoint_is_cured_by_its_policy_alone(proxy: Proxy) -> None:
    """Which has to have a principal, and takes none but everybody for S3."""
    settings = settings_of(proxy)
    proxy.script = denied(by_aws("because no VPC endpoint policy allows the s3:PutObject action"))
    finding = failed(settings)
    statement = json.loads(finding.fix)
    assert "add this to the list `Statement` of that endpoint's policy" in finding.hint
    assert statement["Principal"] == "*"
    assert statement["Condition"] == {"ArnEquals": {"aws:PrincipalArn": VENDOR_USER}}


def test_a_path_that_a_role_may_have_is_pointed_out_where_a_policy_names_it(
    tokens: Tokens, proxy: Proxy
) -> None:
    tokens.users[ACCESS_KEY_ID] = f"arn:aws:sts::{VENDOR}:assumed-role/node/i-0123"
    proxy.script = denied("Access Denied")
    finding = failed(settings_of(proxy))
    assert f'"AWS": "arn:aws:iam::{VENDOR}:role/node"' in finding.fix
    assert "if the role that asks has a path" in finding.hint
    assert "has a path" not in failed(settings_of(proxy, bucket_owner=VENDOR)).hint  # no policy names it


def test_a_right_for_the_records_alone_is_told_not_to_be_enough_for_the_probe(proxy: Proxy) -> None:
    proxy.script = denied("Access Denied")
    assert "the probe of `check` lies beside audit/" in failed(settings_of(proxy)).hint


@pytest.mark.parametrize(
    ("amazon", "name", "words"),
    [
        (True, "THE_ARN_OF_THIS_PROGRAM", "the Arn that `aws sts get-caller-identity` says"),
        (False, "arn:aws:iam:::user/THE_USER_OF_THIS_PROGRAM", "the name of the user who is to write"),
    ],
)
def test_who_cannot_be_asked_for_is_left_for_a_person_to_write(
    amazon: bool,  # noqa: FBT001 - a parameter
    name: str,
    words: str,
    proxy: Proxy,
    as_amazon: Callable[[Proxy], None],
) -> None:
    if amazon:
        as_amazon(proxy)
    proxy.script = otherwise(s3_error(403, "AccessDenied"), lambda request: request.method != "GET")
    finding = failed(settings_of(proxy))
    assert finding.hint.startswith("let this program create arn:")
    assert words in finding.hint
    (own, its) = documents(finding.fix).items()
    assert own[0] == "identity policy of this program:"
    assert its[1]["Principal"] == {"AWS": name}


def test_a_refusal_without_a_reason_shows_the_policies_of_both_accounts(proxy: Proxy) -> None:
    settings = settings_of(proxy)
    proxy.script = denied("Access Denied")
    assert list(documents(failed(settings).fix)) == [
        f"identity policy of {VENDOR_USER}:",
        f"statement to add to the list `Statement` of the bucket policy of {settings.bucket}:",
    ]


def test_a_bucket_of_the_writer_s_own_account_needs_no_word_of_its_own(proxy: Proxy) -> None:
    proxy.script = denied("Access Denied")
    settings = settings_of(proxy, bucket_owner=VENDOR)
    assert json.loads(failed(settings).fix)["Statement"][0]["Action"] == "s3:PutObject"


@pytest.mark.parametrize(
    ("where", "fix"),
    [
        ("resource-based policy", "aws s3api get-bucket-policy --bucket {} --query Policy --output text"),
        ("service control policy", ""),
        ("VPC endpoint policy: arn:aws:ec2:x", ""),
    ],
)
def test_an_explicit_deny_is_told_from_a_missing_right(where: str, fix: str, proxy: Proxy) -> None:
    settings = settings_of(proxy)
    proxy.script = denied(by_aws(f"with an explicit deny in a {where}"))
    finding = failed(settings)
    assert f"a Deny in the {where.partition(':')[0]} refuses s3:PutObject" in finding.hint
    assert finding.fix == fix.format(settings.bucket)


def test_a_bucket_of_another_owner_is_told_from_a_missing_right(proxy: Proxy) -> None:
    def not_owned(request: Request) -> Fault | None:
        if "x-amz-expected-bucket-owner" in request.headers:
            return s3_error(403, "AccessDenied", "Access Denied")
        assert "uploadId=none" in request.path, "a foreign bucket gets no object"
        return s3_error(404, "NoSuchUpload")  # as AWS answers who may put; moto fails at it

    proxy.script = not_owned
    finding = failed(settings_of(proxy, bucket_owner="999988887777"))
    assert finding.message == "the bucket does not belong to account 999988887777"


def test_a_missing_right_is_not_taken_for_another_owner(proxy: Proxy) -> None:
    proxy.script = denied("Access Denied")
    finding = failed(settings_of(proxy, bucket_owner=CUSTOMER))
    assert f"let {VENDOR_USER} create" in finding.hint


@pytest.mark.parametrize("end", ["with an explicit deny in {}", "because no {} allows"])
def test_a_store_that_repeats_a_secret_does_not_get_it_printed(end: str, proxy: Proxy) -> None:
    proxy.script = denied(
        f"User: arn:aws:iam::1:{SECRET_ACCESS_KEY} is not authorized {end.format(SECRET_ACCESS_KEY)}"
    )
    assert "***" in failed(settings_of(proxy)).message


# --- Keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message", "fix"),
    [
        ("KMS.DisabledException", f"{KEY} is disabled.", "enable-key"),
        ("KMS.KMSInvalidStateException", f"{KEY} is pending deletion.", "cancel-key-deletion"),
        ("KMS.NotFoundException", "Key does not exist", "describe-key"),
        ("KMS.NotFoundException", "Invalid arn eu-west-1", "describe-key"),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_a_key_that_cannot_be_used_comes_with_the_command_for_it(
    code: str,
    message: str,
    fix: str,
    is_named: bool,  # noqa: FBT001 - a parameter
    proxy: Proxy,
) -> None:
    proxy.script = otherwise(s3_error(400, code, message), is_put)
    finding = failed(settings_of(proxy, **({"kms_key": KEY} if is_named else {})))
    if is_named or KEY in message:
        assert finding.fix.startswith(f"aws kms {fix} --key-id {KEY} --region us-east-1")
        assert KEY in finding.hint


def test_a_key_that_may_not_be_used_shows_its_policy_and_the_writer_s(proxy: Proxy) -> None:
    message = by_aws(
        "because no resource-based policy allows the kms:GenerateDataKey action", "kms:GenerateDataKey"
    )
    proxy.script = denied(message.replace("&quot;x&quot;", KEY))
    found = documents(failed(settings_of(proxy)).fix)
    assert found[f"statement to add to the list `Statement` of the key policy of {KEY}:"] == {
        "Sid": "AuditExporter",
        "Effect": "Allow",
        "Principal": {"AWS": VENDOR_USER},
        "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
        "Resource": "*",
    }
    assert found[f"identity policy of {VENDOR_USER}:"]["Statement"][0]["Resource"] == KEY


def test_a_key_that_serves_small_and_large_objects_is_good(proxy: Proxy) -> None:
    assert_good(settings_of(proxy, kms_key=KEY))
    assert [seen.method for seen in proxy.seen if "-parts" in seen.path] == ["POST", "PUT", "POST", "DELETE"]


def test_a_key_that_only_serves_small_objects_is_an_error(proxy: Proxy) -> None:
    message = by_aws("because no identity-based policy allows the kms:Decrypt action", "kms:Decrypt")
    refusal = s3_error(403, "AccessDenied", message)
    proxy.script = otherwise(refusal, lambda request: is_put(request) and "-parts?" in request.path)
    good, finding = check(settings_of(proxy, kms_key=KEY))
    assert (good.level, finding.level) == (Level.OK, Level.ERROR)
    assert finding.message.startswith("small objects can be written, and large ones cannot: ")
    assert f"statement to add to the list `Statement` of the key policy of {KEY}:" in finding.fix


# --- Roles ----------------------------------------------------------------------------------------


def follow(fix: str, tokens: Tokens) -> None:
    """Do what a fix says about a role's trust policy."""
    (title, document), *_ = documents(fix).items()
    (statement,) = document["Statement"]
    demanded = statement.get("Condition", {}).get("StringEquals", {}).get("sts:ExternalId")
    assert demanded in (None, policies.EXTERNAL_ID)
    name = title.removeprefix("trust policy of ").removesuffix(":") or CUSTOMER_ROLE
    tokens.trust(name, statement["Principal"]["AWS"], external_id=EXTERNAL_ID if demanded else None)


def test_a_role_that_demands_its_external_id_is_good(tokens: Tokens, proxy: Proxy) -> None:
    tokens.trust(CUSTOMER_ROLE, VENDOR_USER, external_id=EXTERNAL_ID)
    assert_good(settings_of(proxy, **role()))


def test_a_role_is_good_over_https_with_a_private_authority(tokens: Tokens, tmp_path: Path) -> None:
    tokens.trust(CUSTOMER_ROLE, VENDOR_USER, external_id=EXTERNAL_ID)
    authority, tls = new_certificate(tmp_path)
    with aws(tokens, tls=tls) as proxy:
        proxy.script = create_only
        assert_good(settings_of(proxy, **role(ca_file=authority)))


def test_a_role_that_works_without_its_external_id_is_a_warning_that_its_fix_ends(
    tokens: Tokens, proxy: Proxy
) -> None:
    tokens.trust(CUSTOMER_ROLE, VENDOR_USER)
    settings = settings_of(proxy, **role())
    finding = warned(settings)
    assert finding.message == f"{CUSTOMER_ROLE} can also be assumed without the external id"
    follow(finding.fix, tokens)
    assert_good(settings)


def test_a_role_of_another_account_without_an_external_id_is_a_warning(tokens: Tokens, proxy: Proxy) -> None:
    tokens.trust(CUSTOMER_ROLE, VENDOR_USER)
    finding = warned(settings_of(proxy, role_arn=CUSTOMER_ROLE))
    assert finding.message == f"{CUSTOMER_ROLE} is another account's, and no external_id protects it"
    assert "sts:ExternalId" in finding.fix


def test_a_role_of_the_same_account_needs_no_external_id(tokens: Tokens, proxy: Proxy) -> None:
    tokens.trust(OWN_ROLE, VENDOR_USER)
    assert_good(settings_of(proxy, role_arn=OWN_ROLE))


@pytest.mark.parametrize("known", [True, False])
def test_a_role_that_is_refused_names_who_asked_and_its_fix_lets_it_in(
    known: bool,  # noqa: FBT001 - a parameter
    tokens: Tokens,
    proxy: Proxy,
) -> None:
    """Whether the external id is another or the role trusts somebody else, AWS says the same."""
    tokens.trust(CUSTOMER_ROLE, VENDOR_USER if known else "somebody else", external_id="another")
    settings = settings_of(proxy, **role())
    finding = failed(settings)
    assert (
        finding.message
        == f"{VENDOR_USER} may not assume {CUSTOMER_ROLE}: AWS does not say why (request STS1)"
    )
    assert "this export's external_id, letter by letter" in finding.hint
    assert documents(finding.fix)[f"identity policy of {VENDOR_USER}:"]["Statement"][0] == {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Resource": CUSTOMER_ROLE,
    }
    follow(finding.fix, tokens)
    assert_good(settings)


@pytest.mark.parametrize("step", [1, 2])
def test_of_a_chain_of_roles_the_one_that_is_refused_is_named(
    step: int, tokens: Tokens, proxy: Proxy
) -> None:
    tokens.trust(OWN_ROLE, VENDOR_USER if step == 2 else "somebody else")
    tokens.trust(CUSTOMER_ROLE, "somebody else" if step == 2 else OWN_ROLE, external_id=EXTERNAL_ID)
    settings = settings_of(proxy, **role(through_roles=[OWN_ROLE]))
    who, refused = ((VENDOR_USER, OWN_ROLE), (OWN_ROLE, CUSTOMER_ROLE))[step - 1]
    finding = failed(settings)
    assert f"{who} may not assume {refused}, step {step} of 2" in finding.message
    follow(finding.fix, tokens)
    assert_good(settings)


@pytest.mark.parametrize("step", [1, 2])
def test_of_a_chain_of_roles_the_one_that_is_refused_is_named_without_a_word_of_the_answer(
    step: int, tokens: Tokens, proxy: Proxy
) -> None:
    """As token services of other stores refuse."""
    tokens.trust(OWN_ROLE, VENDOR_USER)
    body = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
    who, refused = ((VENDOR_USER, OWN_ROLE), (OWN_ROLE, CUSTOMER_ROLE))[step - 1]
    proxy.script = otherwise(
        Fault(forward=False, answer=Answer(403, body)), lambda _request: len(proxy.seen) == step - 1
    )
    finding = failed(settings_of(proxy, **role(through_roles=[OWN_ROLE])))
    assert f"{who} may not assume {refused}, step {step} of 2" in finding.message
    assert f"trust policy of {refused}:" in finding.fix


def test_a_machine_s_own_role_is_named_as_policies_name_it(tokens: Tokens, proxy: Proxy) -> None:
    tokens.users[ACCESS_KEY_ID] = f"arn:aws:sts::{VENDOR}:assumed-role/node/i-0123"
    finding = failed(settings_of(proxy, **role()))
    assert f"arn:aws:iam::{VENDOR}:role/node may not assume" in finding.message
    assert "if the role that asks has a path" in finding.hint


def test_keys_that_the_token_service_does_not_know_are_named_as_the_cause(proxy: Proxy) -> None:
    finding = failed(settings_of(proxy, **role(access_key_id=Secret("AKIAUNKNOWN"))))
    assert "InvalidClientTokenId" in finding.message
    assert "access_key_id and secret_access_key" in finding.hint
    assert finding.fix == ""


def test_a_machine_whose_own_role_is_refused_is_not_told_of_the_bucket(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("made up")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", f"arn:aws:iam::{VENDOR}:role/pod")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", proxy.url)
    refusal = Answer(403, b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")
    proxy.script = lambda _request: Fault(forward=False, answer=refusal)
    access.session.cache_clear()
    finding = failed(settings_of(proxy, access_key_id=None, secret_access_key=None))
    access.session.cache_clear()
    assert "AWS_ROLE_ARN" in finding.hint
    assert finding.fix == ""


def test_keys_that_the_store_does_not_know_are_named_as_the_cause(proxy: Proxy) -> None:
    finding = failed(settings_of(proxy, access_key_id=Secret("AKIAUNKNOWN")))
    assert "InvalidAccessKeyId" in finding.message
    assert "access_key_id and secret_access_key" in finding.hint


def test_what_no_table_knows_points_at_the_settings_and_not_at_check_itself(proxy: Proxy) -> None:
    proxy.script = otherwise(s3_error(400, "InvalidArgument"), is_put)
    finding = failed(settings_of(proxy, storage_class="FANCY"))
    assert finding.hint.endswith("bucket, region, endpoint_url, storage_class")


# --- Clock ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_role", [True, False])
@pytest.mark.parametrize(
    ("ahead", "words"), [(20, "20 minutes behind the store's"), (-90, "90 minutes ahead of the store's")]
)
def test_a_clock_that_is_far_off_is_the_cause_whoever_refuses(
    ahead: int,
    words: str,
    with_role: bool,  # noqa: FBT001 - a parameter
    tokens: Tokens,
    proxy: Proxy,
) -> None:
    tokens.ahead = timedelta(minutes=ahead)
    tokens.trust(CUSTOMER_ROLE, VENDOR_USER, external_id=EXTERNAL_ID)
    finding = failed(settings_of(proxy, **(role() if with_role else {})))
    assert finding.message == f"this machine's clock is {words}"
    assert "15 minutes" in finding.hint


def test_a_clock_that_is_about_to_be_refused_is_a_warning(tokens: Tokens, proxy: Proxy) -> None:
    tokens.ahead = timedelta(minutes=8)
    proxy.script = lambda _request: None
    *_, finding = check(settings_of(proxy))
    assert finding.level is Level.WARNING
    assert finding.message == "this machine's clock is 8 minutes behind the store's"


# --- Place ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "extra", "headers"),
    [
        (301, "PermanentRedirect", "", {"x-amz-bucket-region": "eu-west-1"}),
        (400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>", {}),
        (400, "IllegalLocationConstraintException", "", {"x-amz-bucket-region": "eu-west-1"}),
    ],
)
def test_a_wrong_region_comes_with_the_right_one(
    status: int, code: str, extra: str, headers: dict[str, str], proxy: Proxy
) -> None:
    proxy.script = otherwise(s3_error(status, code, extra=extra, headers=headers), is_put)
    assert failed(settings_of(proxy)).fix == "region: eu-west-1"


def test_a_bucket_that_is_not_there_is_named(proxy: Proxy) -> None:
    settings = settings_of(proxy, bucket="never-made")
    finding = list(ObjectStoreDestination(S3Store(settings, LOOPBACK), "").check())[-1]
    assert "NoSuchBucket" in finding.message
    assert "never-made" in finding.hint
    assert "create-bucket" in finding.fix


def test_a_checksum_that_got_lost_on_the_way_to_object_lock_is_named(proxy: Proxy) -> None:
    words = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock"
    proxy.script = otherwise(s3_error(400, "InvalidRequest", words), is_put)
    assert "takes x-amz-checksum-sha256 away" in failed(settings_of(proxy)).hint


def test_large_objects_that_could_be_replaced_are_a_warning(proxy: Proxy) -> None:
    def forgetful(request: Request) -> Fault | None:
        return (
            Fault(without=frozenset({"if-none-match"})) if request.method == "POST" else create_only(request)
        )

    proxy.script = forgetful
    finding = warned(settings_of(proxy))
    assert "uploads in parts are not safe here" in finding.message


# --- The way there --------------------------------------------------------------------------------


def check_of(settings: S3Settings, guard: Guard = LOOPBACK) -> Finding:
    """What `check` says of a place where there is no bucket."""
    (finding,) = ObjectStoreDestination(S3Store(settings, guard), "vendor").check()
    assert finding.level is Level.ERROR
    return finding


def test_a_name_that_no_resolver_knows_is_named(proxy: Proxy) -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    settings = settings_of(proxy, endpoint_url="https://s3.acme.example")
    finding = check_of(settings, Guard(resolver=unknown))
    assert "s3.acme.example cannot be found" in finding.message
    assert "DNS" in finding.hint


def test_a_region_that_amazon_does_not_have_is_named_where_its_host_is_not_found(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(host: str, *_: object, **__: object) -> list[Any]:
        raise socket.gaierror(-2, f"{host} is not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    place = {"endpoint_url": None, "path_style": False, "region": "us-est-1"}
    finding = check_of(settings_of(proxy, bucket="acme-audit", **place), Guard())
    assert "the host acme-audit.s3.us-est-1.amazonaws.com cannot be found" in finding.message
    assert finding.hint.endswith("; region: us-est-1 made this name")


def test_a_port_where_nobody_listens_is_named(proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    finding = check_of(settings_of(proxy, endpoint_url=f"http://127.0.0.1:{port}"))
    assert finding.message == f"nothing listens on port {port} of 127.0.0.1"


def test_a_certificate_of_an_unknown_authority_is_named(tokens: Tokens, tmp_path: Path) -> None:
    _, tls = new_certificate(tmp_path)
    with aws(tokens, tls=tls) as proxy:
        finding = check_of(settings_of(proxy))
    assert "a private authority" in finding.message
    assert "ca_file" in finding.hint


def test_a_server_without_tls_is_named(proxy: Proxy) -> None:
    finding = check_of(settings_of(proxy, endpoint_url=proxy.url.replace("http:", "https:")))
    assert "TLS" in finding.message


def test_a_store_that_breaks_off_though_the_way_is_free_keeps_its_own_words(proxy: Proxy) -> None:
    proxy.script = otherwise(LOSE_ANSWER, is_put)
    finding = check_of(settings_of(proxy))
    assert "did not say whether it took vendor/.audit-exporter-check/" in finding.message


def test_amazon_s_own_hosts_may_have_private_addresses_and_those_of_customers_may_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A private DNS zone of a VPC leads Amazon's names to an endpoint in it."""
    asked: list[tuple[str, bool]] = []

    def obstacle(url: str, guard: Guard, **_: object) -> None:
        with suppress(NotSent):
            asked.append((url, bool(guard.addresses(url))))

    monkeypatch.setattr("exporter.network.diagnosis.obstacle", obstacle)
    inside = Guard(resolver=lambda _host, _port: ["10.0.0.5"])
    place = {"type": "s3", "bucket": "b", "region": REGION}
    case = Case(S3Settings.model_validate(place), cast("access.Access", None), inside, "probe")
    failure = NotSent("no way")
    failure.__cause__ = EndpointConnectionError(endpoint_url="https://b.s3.us-east-1.amazonaws.com/probe")
    found = Finding("s3://b", Level.ERROR, "no way")
    assert explained(found, failure, case) == found
    place["endpoint_url"] = "https://acme.example"
    chosen = replace(case, settings=S3Settings.model_validate(place))
    failure.__cause__ = EndpointConnectionError(endpoint_url="https://b.acme.example/probe")
    assert explained(found, failure, chosen) == found
    assert asked == [("https://b.s3.us-east-1.amazonaws.com/probe", True)]
