"""What Google's token services give for an identity: the machine's own, a key's, a federated or another one.

Reading identities is google-auth's work; requests go over a guarded session, the machine's own identity
alone over google-auth's. It must not read settings, keep a token, or see a credential file unchecked.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from exporter.destinations.gcs import wire
from exporter.destinations.gcs.errors import reason_of, words_of
from exporter.destinations.gcs.wire import Answer, ask, wire_errors
from exporter.errors import NotSent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import requests

STORAGE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
IAM_SCOPE = "https://www.googleapis.com/auth/iam"  # enough to become another service account
LIFETIME_S = 3600  # more needs a change of the customer's organisation policy
SHORTEST_LIFE = timedelta(minutes=10)  # of a token that does not say when it ends
NOT_NOW = (408, 429)
SUCCESS = range(200, 300)
ELSEWHERE = range(300, 400)
NO_KEY = "the private_key is no RSA key in PEM form"
BETWEEN_HINT = "see what lies between here and {host}, such as a proxy or a sign-in page"
LONGEST_LIFE_S = 10**6
SERVICE_HINT = "nothing, unless it stays: the next run tries again"


class TokenRefused(Exception):
    """A token service said no; ``words`` are its own."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


class Token(NamedTuple):
    """What a request shows, until when, and whose it is (an e-mail address, empty if nobody knows)."""

    value: str
    expires_at: datetime
    whose: str


class TransportAnswer(NamedTuple):
    """An answer as google-auth wants it."""

    status: int
    headers: Mapping[str, str]
    data: bytes


def transport_over(session: requests.Session, hide: Callable[[str], None]) -> Callable[..., TransportAnswer]:
    """What google-auth asks through: once each, since trying again is the run's business.

    ``hide`` is told each secret that is sent. Raises NotSent for no answer, and for one that may be
    another later.
    """

    def send(
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> TransportAnswer:
        for name, value in parse_qsl((body or b"").decode()):
            if name in ("assertion", "subject_token"):
                hide(value)
        answer = asked(session, method, url, headers=headers or {}, body=body)
        if method == "POST" and answer.status in SUCCESS and not _is_token(answer.json()):
            raise no_token(url, answer)
        return TransportAnswer(answer.status, answer.headers, answer.body)

    return send


def asked(
    session: requests.Session, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None
) -> Answer:
    """The answer of a token service. Raises NotSent for none, and for one that may be another later."""
    host = urlsplit(url).hostname
    try:
        answer = ask(session, method, url, headers=headers, body=body)
    except wire_errors() as error:
        raise NotSent(f"{host} gave no token: {reason_of(error)}", hint=SERVICE_HINT) from error
    if answer.status in NOT_NOW or answer.status >= 500:  # noqa: PLR2004 - all errors of a server
        raise NotSent(f"{host} gave no token: {words_of(answer)}", hint=SERVICE_HINT)
    if method == "POST" and (answer.status in ELSEWHERE or not answer.json()):
        raise no_token(url, answer)
    return answer


def no_token(url: str, answer: Answer) -> NotSent:
    """The error for an answer that no token service gives: what is in between is to blame."""
    host = urlsplit(url).hostname or ""
    # What came with a success may hold a token, if not one for us.
    said = f" (HTTP {answer.status})" if answer.status in SUCCESS else f": {words_of(answer)}"
    return NotSent(f"{host} answered something that is no token{said}", hint=BETWEEN_HINT.format(host=host))


def _is_token(made: Mapping[str, Any]) -> bool:
    """Whether google-auth can make something of it."""
    try:
        life_s = int(made.get("expires_in", 0))
    except (TypeError, ValueError):
        return False
    return isinstance(made.get("access_token"), str) and 0 <= life_s <= LONGEST_LIFE_S


# --- Identities ------------------------------------------------------------------------------------


def load(*, of_this_machine: bool) -> None:
    """Load what the token of this machine's own identity, or that of a credential file, is asked for with."""
    if of_this_machine:
        import google.auth.compute_engine
        import google.auth.transport.requests
    else:
        import google.auth.identity_pool
        import google.oauth2.service_account  # noqa: F401 - all four to be there


def machine_token(scope: str) -> Token:
    """A token of the machine's own identity, wherever it runs. Raises google-auth's errors."""
    import google.auth
    from google.auth.transport.requests import Request

    found: Any = google.auth.default(scopes=[scope])[0]
    found.refresh(partial(Request(), timeout=wire.IDLE_S))
    return _token(found, str(getattr(found, "service_account_email", None) or ""))


def file_token(
    info: Mapping[str, Any], scope: str, session: requests.Session, hide: Callable[[str], None]
) -> Token:
    """A token for a credential file that has been checked. Raises NotSent, or google-auth's errors."""
    made = (_service_account if info["type"] == "service_account" else _federated)(info, [scope])
    made.refresh(transport_over(session, hide))
    return _token(made, info.get("client_email", ""))


def _service_account(info: Mapping[str, Any], scopes: Sequence[str]) -> Any:  # noqa: ANN401 - untyped
    from google.oauth2 import service_account

    used = ("client_email", "private_key", "private_key_id", "token_uri")
    _check_key(info["private_key"])
    return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call] # so it is
        {key: info[key] for key in used if key in info}, scopes=scopes
    )


def _check_key(pem: str) -> None:
    """Raises ValueError for a key of a kind that Google makes none of: google-auth would fail as it signs."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        is_rsa = isinstance(load_pem_private_key(pem.encode(), None), RSAPrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise ValueError(NO_KEY) from error
    if not is_rsa:
        raise ValueError(NO_KEY)


def _federated(info: Mapping[str, Any], scopes: Sequence[str]) -> Any:  # noqa: ANN401 - untyped
    from google.auth import aws, identity_pool

    kind: Any = aws if "environment_id" in info["credential_source"] else identity_pool
    used = ("audience", "subject_token_type", "token_url", "credential_source")
    return kind.Credentials(**{key: info[key] for key in used}, scopes=scopes)


def _token(found: Any, whose: str) -> Token:  # noqa: ANN401 - google-auth's credentials
    expires_at = found.expiry.replace(tzinfo=UTC) if found.expiry else datetime.now(UTC) + SHORTEST_LIFE
    return Token(found.token if isinstance(found.token, str) else "", expires_at, whose)


def impersonated(url: str, token: Token, scope: str, session: requests.Session) -> Token:
    """The token of the service account that ``url`` names. Raises NotSent or TokenRefused."""
    answer = asked(
        session,
        "POST",
        url,
        headers={"Authorization": f"Bearer {token.value}", "Content-Type": "application/json"},
        body=json.dumps({"scope": [scope], "lifetime": f"{LIFETIME_S}s"}).encode(),
    )
    given = answer.json()
    value, end = given.get("accessToken"), given.get("expireTime")
    if isinstance(value, str) and isinstance(end, str):
        with suppress(ValueError, OverflowError):  # no time, or one at the edge of all times
            return Token(value, datetime.fromisoformat(end).astimezone(UTC), account_in(url))
    if answer.status in SUCCESS:
        raise no_token(url, answer)
    raise TokenRefused(words_of(answer))


def impersonation_url(email: str) -> str:
    """Where the token of this service account is asked for."""
    return f"{wire.IAM_CREDENTIALS}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"


def account_in(url: str) -> str:
    """The e-mail address of the service account that an impersonation address names."""
    found = re.search(r"/serviceAccounts/([^/:]+):generateAccessToken$", url)
    return found[1] if found else ""
