"""A stand-in for AWS that checks what moto does not: who asks for a role, with which external id and when.

It speaks the token service (STS) itself and leaves S3 to moto, but only with keys that it knows. It
looks whether a request is signed, with which key and when, not whether the signature is right.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from tests.kit.proxy import Answer, Fault, Proxy, Request, no_fault, proxy_before
from tests.kit.servers import ACCESS_KEY_ID, shared_moto

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

VENDOR = "111122223333"
CUSTOMER = "444455556666"
VENDOR_USER = f"arn:aws:iam::{VENDOR}:user/exporter"
CUSTOMER_ROLE = f"arn:aws:iam::{CUSTOMER}:role/audit-writer"
CLOCK_TOLERANCE = timedelta(minutes=15)
NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


@dataclass(frozen=True)
class Trust:
    """Who may assume a role, and with which external id."""

    principals: frozenset[str]
    external_id: str | None = None


@dataclass
class Tokens:
    """What the stand-in knows: whose the keys are, what roles trust, and what time it is."""

    users: dict[str, str] = field(default_factory=lambda: {ACCESS_KEY_ID: VENDOR_USER})
    roles: dict[str, Trust] = field(default_factory=dict)
    ahead: timedelta = timedelta(0)
    """How far its clock is before ours."""
    asked: list[dict[str, str]] = field(default_factory=list)
    """The forms that came, in order."""
    _behind: dict[str, str] = field(default_factory=dict)
    _serial: Iterator[int] = field(default_factory=lambda: count(1))

    def trust(self, role: str, *principals: str, external_id: str | None = None) -> None:
        self.roles[role] = Trust(frozenset(principals), external_id)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def answer(self, request: Request) -> Answer | None:
        """The token service's answer, or a refusal in S3's place; None for S3 to answer."""
        form = {name: values[0] for name, values in parse_qs(request.body.decode("latin-1")).items()}
        to_sts = request.method == "POST" and "Action" in form
        refusal = self._refusal(request, to_sts=to_sts)
        if refusal or not to_sts:
            return refusal
        self.asked.append(form)
        caller = self.users[_key_id(request)]
        if form["Action"] == "GetCallerIdentity":
            account = caller.split(":")[4]
            return _sts_answer(form["Action"], f"<Arn>{caller}</Arn><Account>{account}</Account>")
        return self._assume(caller, form)

    def _assume(self, caller: str, form: dict[str, str]) -> Answer:
        role, session = form["RoleArn"], form["RoleSessionName"]
        trust = self.roles.get(role)
        known = trust is not None and self._behind.get(caller, caller) in trust.principals
        if trust is None or not known or trust.external_id not in (None, form.get("ExternalId")):
            return _sts_error(
                403,
                "AccessDenied",
                f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role}",
            )
        key = f"ASIA{next(self._serial):016}"
        name = role.rpartition("/")[2]  # AWS leaves out the role's path here, too
        self.users[key] = f"arn:aws:sts::{role.split(':')[4]}:assumed-role/{name}/{session}"
        self._behind[self.users[key]] = role
        until = self.now() + timedelta(hours=1)
        return _sts_answer(
            "AssumeRole",
            f"<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>made-up</SecretAccessKey>"
            f"<SessionToken>token-of-{key}</SessionToken><Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
            "</Credentials>",
        )

    def _refusal(self, request: Request, *, to_sts: bool) -> Answer | None:
        """What an unsigned, late or unknown asker gets."""
        refuse = _sts_error if to_sts else _s3_error
        key = _key_id(request)
        if not key:
            return refuse(403, "MissingAuthenticationToken" if to_sts else "AccessDenied", "not signed")
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
        if abs(signed - self.now()) > CLOCK_TOLERANCE:
            words = f"Signature expired: {signed} is now earlier than {self.now()}"
            return refuse(403, "SignatureDoesNotMatch" if to_sts else "RequestTimeTooSkewed", words)
        if key not in self.users:
            code = "InvalidClientTokenId" if to_sts else "InvalidAccessKeyId"
            return refuse(403, code, "the key is not known")
        token = request.headers.get("x-amz-security-token")
        if token != (f"token-of-{key}" if key.startswith("ASIA") else None):
            return refuse(400, "InvalidClientTokenId" if to_sts else "InvalidToken", "the token is wrong")
        return None


class _Aws(Proxy):
    """A proxy before moto's S3 that asks the token service first."""

    def __init__(
        self, tokens: Tokens, upstream: str, script: Callable[[Request], Fault | None] = no_fault
    ) -> None:
        super().__init__(upstream, script)
        self._tokens = tokens

    def forward(self, request: Request, fault: Fault) -> Answer:
        answer = self._tokens.answer(request) or super().forward(request, fault)
        headers = {name: value for name, value in answer.headers.items() if name.lower() != "date"}
        return replace(answer, headers=headers | {"Date": format_datetime(self._tokens.now(), usegmt=True)})


@contextmanager
def aws(tokens: Tokens, *, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """S3 and STS at one address."""
    with proxy_before(shared_moto().url, tls=tls, make=partial(_Aws, tokens)) as running:
        yield running


def _key_id(request: Request) -> str:
    found = re.match(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/.*, Signature=", request.headers.get("authorization", "")
    )
    return found[1] if found else ""


def _sts_answer(action: str, result: str) -> Answer:
    body = (
        f'<{action}Response xmlns="{NAMESPACE}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>STS1</RequestId></ResponseMetadata></{action}Response>"
    )
    return Answer(200, body.encode(), {"Content-Type": "text/xml"})


def _sts_error(status: int, code: str, message: str) -> Answer:
    body = (
        f'<ErrorResponse xmlns="{NAMESPACE}"><Error><Type>Sender</Type><Code>{code}</Code>'
        f"<Message>{message}</Message></Error><RequestId>STS1</RequestId></ErrorResponse>"
    )
    return Answer(status, body.encode(), {"Content-Type": "text/xml"})


def _s3_error(status: int, code: str, message: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())
