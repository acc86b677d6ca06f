"""Roles that the S3 driver assumes: one after another, each at the right moment, the last with its id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from exporter.destinations.s3 import access as s3_access
from exporter.destinations.s3 import proofs
from exporter.destinations.s3.store import S3Store
from exporter.errors import NotSent
from exporter.notation.secret import Secret
from tests.contracts.object_store import ignore, package_of
from tests.kit.proxy import (
    LOSE_ANSWER,
    Answer,
    Fault,
    Proxy,
    Request,
    proxy_before,
    s3_error,
)
from tests.kit.s3_stores import (
    CANARY,
    LOOPBACK,
    ROLE_ARN,
    answering,
    failed_put,
    new_bucket_behind,
    settings_of,
    store_of,
    with_,
)
from tests.kit.servers import (
    ACCESS_KEY_ID,
    shared_moto,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.destinations.s3.settings import S3Settings


HOPS = ("arn:aws:iam::111122223333:role/hub", "arn:aws:iam::111122223333:role/exporter")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxy_before(shared_moto().url) as running:
        yield running


@pytest.fixture
def settings(proxy: Proxy) -> S3Settings:
    return new_bucket_behind(proxy)


def sts_form(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}


def test_a_role_is_assumed_with_the_external_id_and_kept_until_near_its_expiry(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    times = iter([timedelta(0), timedelta(minutes=54), timedelta(minutes=56)])
    clock = [datetime.now(UTC)]
    store = S3Store(
        with_(settings, role_arn=ROLE_ARN, external_id="customer-17"), LOOPBACK, now=lambda: clock[0]
    )
    proofs._CREATES_ONCE.add(store.name)
    begun = clock[0]
    for number, passed in enumerate(times):
        clock[0] = begun + passed
        store.put(package_of(tmp_path, b"x", f"audit/{number}"), ignore)
    first, put_0, put_1, second, put_2 = proxy.seen
    for asked in (first, second):
        form = sts_form(asked)
        assert form["Action"] == "AssumeRole"
        assert form["RoleArn"] == ROLE_ARN
        assert form["ExternalId"] == "customer-17"
        assert form["RoleSessionName"] == "audit-exporter"
        assert ACCESS_KEY_ID in asked.headers["authorization"]
    tokens = [seen.headers["x-amz-security-token"] for seen in (put_0, put_1, put_2)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert all(ACCESS_KEY_ID not in seen.headers["authorization"] for seen in (put_0, put_1, put_2))


def test_a_new_external_id_is_used_at_once(settings: S3Settings, proxy: Proxy, tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    external_id = Secret("EXTERNAL", "env", environ)
    store = store_of(with_(settings, role_arn=ROLE_ARN, external_id=external_id))
    for number, current in enumerate(("customer-1", "customer-2")):
        environ["EXTERNAL"] = current
        store.put(package_of(tmp_path, b"x", f"audit/{number}"), ignore)
    assert [sts_form(seen)["ExternalId"] for seen in proxy.seen if seen.method == "POST"] == [
        "customer-1",
        "customer-2",
    ]


@pytest.mark.parametrize("external_id", [None, CANARY])
def test_a_role_that_cannot_be_assumed_is_not_sent_and_the_hint_says_what_to_change(
    external_id: str | None, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    body = (
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole"
        f" with '{CANARY}'</Message></Error></ErrorResponse>"
    ).encode()
    proxy.script = answering(Fault(forward=False, answer=Answer(403, body)))
    store = store_of(with_(settings, role_arn=ROLE_ARN, external_id=external_id))
    error = failed_put(store, tmp_path)
    assert isinstance(error, NotSent)
    assert "AccessDenied" in error.message
    assert ROLE_ARN in error.hint
    assert ("external id of this export" if external_id else "set external_id") in error.hint
    assert (CANARY in error.message) is (external_id is None)


@pytest.mark.parametrize(
    "fault",
    [
        LOSE_ANSWER,
        Fault(forward=False, answer=Answer(500)),
        Fault(forward=False, answer=Answer(200)),
        Fault(forward=False, answer=Answer(200, b"<html>Welcome</html>")),
        s3_error(403, "AccessDenied"),
    ],
    ids=["no answer", "500", "nothing", "a page", "an error of S3"],
)
def test_an_sts_that_breaks_off_is_not_sent(
    fault: Fault, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(fault)
    error = failed_put(store_of(with_(settings, role_arn=ROLE_ARN)), tmp_path)
    assert isinstance(error, NotSent)
    assert "access_key_id" not in error.hint or "token service" in error.hint
    assert len(proxy.seen) == 1


def test_roles_are_assumed_each_with_the_one_before_and_only_the_customer_s_with_its_external_id(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    chain = with_(settings, through_roles=HOPS, role_arn=ROLE_ARN, external_id="customer-17")
    store = store_of(chain)
    for number in range(2):
        store.put(package_of(tmp_path, b"x", f"audit/{number}"), ignore)
    *asked, first, second = proxy.seen  # roles are kept for the second put
    forms = [sts_form(one) for one in asked]
    assert [form["RoleArn"] for form in forms] == [*HOPS, ROLE_ARN]
    assert [form.get("ExternalId") for form in forms] == [None, None, "customer-17"]
    assert ACCESS_KEY_ID in asked[0].headers["authorization"]
    tokens = [one.headers.get("x-amz-security-token") for one in [*asked, first]]
    assert tokens[0] is None
    assert len(set(tokens)) == 4
    assert tokens[-1] == second.headers["x-amz-security-token"]


@pytest.mark.parametrize(("hop", "role"), list(enumerate([*HOPS, ROLE_ARN])))
def test_a_role_on_the_way_that_cannot_be_assumed_is_named(
    hop: int, role: str, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    caller = "arn:aws:sts::111122223333:assumed-role/a-role/audit-exporter"
    body = (
        "<ErrorResponse><Error><Code>AccessDenied</Code>"
        f"<Message>User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role}</Message>"
        "</Error></ErrorResponse>"
    ).encode()
    denied = Fault(forward=False, answer=Answer(403, body))
    proxy.script = lambda _request: denied if len(proxy.seen) == hop else None
    chain = with_(settings, through_roles=HOPS, role_arn=ROLE_ARN, external_id=CANARY)
    error = failed_put(store_of(chain), tmp_path)
    assert isinstance(error, NotSent)
    assert role in error.hint
    assert f"trust policy of {role}:" in error.fix
    assert '"AWS": "arn:aws:iam::111122223333:role/a-role"' in error.fix
    assert ("sts:ExternalId" in error.fix) is (role == ROLE_ARN)
    assert CANARY not in error.message + error.hint + error.fix
    assert len(proxy.seen) == hop + 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"through_roles": HOPS}, "`through_roles` without the `role_arn` that they lead to"),
        ({"external_id": "x"}, "`external_id` without the `role_arn` that it belongs to"),
        ({"access_key_id": "x"}, "both `access_key_id` and `secret_access_key`"),
        ({"session_token": "x"}, "`session_token` without `access_key_id`"),
    ],
)
def test_credentials_that_do_not_fit_together_are_told_in_words(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_of("b", **more)


def sts_error(code: str) -> Fault:
    body = f"<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>"
    return Fault(forward=False, answer=Answer(403, body.encode()))


def test_a_fault_of_the_token_service_is_not_looked_for_in_the_settings(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(Fault(forward=False, answer=Answer(500)))
    error = failed_put(store_of(with_(settings, role_arn=ROLE_ARN)), tmp_path)
    assert error.hint.startswith("nothing, unless it stays")


def test_a_token_service_that_says_nothing_is_named_as_what_to_look_at(
    settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(LOSE_ANSWER)
    error = failed_put(store_of(with_(settings, role_arn=ROLE_ARN)), tmp_path)
    assert error.hint.startswith("let this machine reach the token service (STS) of endpoint_url")
    assert "access_key_id" not in error.hint


@pytest.mark.parametrize(
    ("code", "hints"),
    [
        ("InvalidClientTokenId", ("enter access_key_id", f"the keys are those of {HOPS[0]}")),
        ("ExpiredToken", ("give a fresh session_token", f"the session of {HOPS[0]}")),
        ("ValidationError", ("correct role_arn",) * 2),
        ("SomethingNew", ("see that the store at endpoint_url has a token service",) * 2),
    ],
)
@pytest.mark.parametrize("hop", [0, 1])
def test_what_the_token_service_says_of_keys_is_told_of_whose_they_are(
    hop: int, code: str, hints: tuple[str, str], settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = lambda _request: sts_error(code) if len(proxy.seen) == hop else None
    error = failed_put(store_of(with_(settings, through_roles=HOPS, role_arn=ROLE_ARN)), tmp_path)
    assert error.hint.startswith(hints[hop])
    assert error.fix == ""


@pytest.mark.parametrize(
    ("code", "hint"),
    [("ExpiredToken", "the session of {}"), ("InvalidAccessKeyId", "the keys are those of {}")],
)
def test_keys_of_a_role_that_the_store_does_not_take_are_not_those_of_the_settings(
    code: str, hint: str, settings: S3Settings, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.script = answering(s3_error(403, code), lambda request: request.method == "PUT")
    error = failed_put(store_of(with_(settings, role_arn=ROLE_ARN)), tmp_path)
    assert error.hint.startswith(hint.format(ROLE_ARN))


@pytest.mark.parametrize("arn", ["arn:aws:iam::123456789012:user/x", "arn:aws:sts::1:assumed-role/a/b", "x"])
@pytest.mark.parametrize("setting", ["role_arn", "through_roles"])
def test_what_is_no_role_is_told_before_anybody_is_asked(setting: str, arn: str) -> None:
    with pytest.raises(ValidationError, match="must be a role's ARN"):
        settings_of("b", **{"role_arn": ROLE_ARN} | {setting: arn if setting == "role_arn" else [arn]})


def test_a_role_of_ceph_has_no_account() -> None:
    assert settings_of("b", role_arn="arn:aws:iam:::role/writer").role_arn


def test_amazon_s_sts_is_not_at_a_private_endpoint_for_s3() -> None:
    endpoint = "https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com"
    store = store_of(settings_of("b", region="eu-west-1", endpoint_url=endpoint))
    sts = store._access.connect("sts", s3_access.Keys("a", "b", None))
    assert sts.meta.endpoint_url == "https://sts.eu-west-1.amazonaws.com"
