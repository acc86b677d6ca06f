"""Who asks Azure: an account key, a SAS, or a token of Microsoft Entra ID, fresh for every request.

They are fetched before a request, so nothing has landed when that fails: NotSent. It must not keep a
secret longer than it is valid, send a token to a host that is not Azure's, or let a secret into a message.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from exporter.destinations.azure.account import AZURE_HOSTS, TEXT_URL, Account, ConnectionString
from exporter.destinations.azure.errors import token_failed
from exporter.destinations.azure.sas import checked_sas
from exporter.errors import ConfigError, NotSent
from exporter.network.session import CONNECT_TIMEOUT_S, IDLE_TIMEOUT_S, new_session
from exporter.notation.secret import revealed, without

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import requests

    from exporter.destinations.azure.settings import AzureSettings
    from exporter.network.guard import Guard

Way = Literal["key", "sas", "secret", "certificate", "managed", "workload", "machine"]
SIGNED: Final = ("key", "sas")
"""The ways that need no token."""


SCOPE: Final = "https://storage.azure.com/.default"
KEPT_SESSIONS: Final = 16
TLS_HINT: Final = "write https:// instead of http://, or give a sas or an account_key"
TOKEN_MARGIN: Final = timedelta(minutes=5)
PUBLIC_AUTHORITY: Final = "login.microsoftonline.com"
AUTHORITIES: Final = {
    "blob.core.usgovcloudapi.net": "login.microsoftonline.us",
    "blob.core.chinacloudapi.cn": "login.chinacloudapi.cn",
}
KNOWN_AUTHORITIES: Final = (PUBLIC_AUTHORITY, *AUTHORITIES.values(), "login.partner.microsoftonline.cn")
TIMEOUTS: Final[Mapping[str, Any]] = {
    "connection_timeout": CONNECT_TIMEOUT_S,
    "read_timeout": IDLE_TIMEOUT_S,
}
TOKEN_TRIES: Final[Mapping[str, Any]] = {
    "retry_total": 2,
    "retry_status": 2,
    "retry_backoff_factor": 0.2,
    "retry_backoff_max": 2,
}


class Grant(NamedTuple):
    """What opens the container for one request: one of these."""

    key: str | None = None
    sas: str | None = None
    token: str | None = None


class Token(NamedTuple):
    """A token, what it was asked for with, and how long it serves."""

    asked_with: str | None
    text: str
    expires_at: datetime


class Credentials:
    """The ways into one container, of which its settings name one. Safe to use from several threads.

    Raises ConfigError for an account that cannot be asked in this way.
    """

    def __init__(
        self,
        settings: AzureSettings,
        guard: Guard,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._now = now
        self._lock = Lock()
        self._token: Token | None = None
        self._seen: tuple[str, ...] = ()
        self.account, self.way = _account_and_way(settings)
        self.authority = _authority(settings, self.account)
        self.ca_file = settings.ca_file
        self.guard = _with_azure(guard)
        from_text = settings.connection_string is not None
        self.guard.inspect(self.account.url, TEXT_URL if from_text else "account_url")
        self._check_key_owner()
        self._check_token_host(guard)

    def load(self) -> None:
        """Load what makes requests, and what asks for tokens where any are needed."""
        from exporter.network.session import load

        load(self.ca_file)
        if self.way not in SIGNED:
            import azure.identity  # noqa: F401 - for the first token

    def session(self) -> requests.Session:
        """A session for this account and for where its tokens come from. Raises NotSent."""
        try:
            return _shared_session(self.guard, self.ca_file)
        except ConfigError as error:
            raise NotSent(error.message, hint=error.hint) from error

    def grant(self, session: requests.Session) -> Grant:
        """What opens the container now. Raises NotSent."""
        with self._lock:
            try:
                grant, given = self._fresh(session)
            except ConfigError as error:
                raise NotSent(error.message, hint=error.hint) from error
            self._seen = tuple(filter(None, (*given, *grant)))
            return grant

    def forget(self) -> None:
        """The next request asks for another token: this one was not accepted."""
        with self._lock:
            self._token = None

    def redacted(self, text: str) -> str:
        """A text without the secrets that were last used, in any spelling, nor any other signature."""
        signatures = [sig for one in self._seen for sig in re.findall(r"(?i)\bsig=([^&\s'\";]+)", one)]
        text = without(text, (*self._seen, *signatures))
        return re.sub(r"(?i)\bsig=[^&\s'\"]+", "sig=***", text)

    def _fresh(self, session: requests.Session) -> tuple[Grant, tuple[str | None, ...]]:
        """What opens the container, and what it was made from."""
        settings = self._settings
        if settings.connection_string is not None:
            text = settings.connection_string.reveal()
            found = ConnectionString.parse(text)
            if found.account != self.account:
                raise NotSent(
                    "the connection_string names another account than when this run began",
                    hint="start again, or put the former account's connection string back",
                )
            return Grant(found.key, _bare(found.sas)), (text,)
        if self.way in SIGNED:
            return Grant(revealed(settings.account_key), _bare(revealed(settings.sas))), ()
        secret = revealed(settings.client_secret or settings.client_certificate)
        return Grant(token=self._fresh_token(secret, session)), (secret,)

    def _fresh_token(self, secret: str | None, session: requests.Session) -> str:
        token = self._token
        if token is None or token.asked_with != secret or token.expires_at - TOKEN_MARGIN <= self._now():
            self._seen = tuple(filter(None, (secret,)))  # also if asking with it fails
            token = self._token = self._ask(secret, session)
        return token.text

    def _ask(self, secret: str | None, session: requests.Session) -> Token:
        from azure.core.exceptions import AzureError

        try:
            answer = self._identity(secret, session).get_token(SCOPE)
        except (AzureError, ValueError, OSError) as error:  # ValueError: a certificate or id that is none
            failure = token_failed(error, self.way, self.authority, self.redacted)
        else:
            return Token(secret, answer.token, datetime.fromtimestamp(answer.expires_on, UTC))
        raise failure

    def _identity(self, secret: str | None, session: requests.Session) -> Any:  # noqa: ANN401 - four classes
        from azure import identity
        from azure.core.pipeline.transport import RequestsTransport

        settings = self._settings
        options: Any = {
            "authority": self.authority,
            "disable_instance_discovery": True,  # the authority is a known one, or the operator's word
            "transport": RequestsTransport(session=session, session_owner=False, **TIMEOUTS),
            **TOKEN_TRIES,
        }
        if self.way in {"managed", "workload", "machine"}:
            return self._own_identity(options)
        who = (settings.tenant_id or "", settings.client_id or "")
        if self.way == "certificate":
            data = (secret or "").encode()
            return identity.CertificateCredential(*who, certificate_data=data, **options)
        return identity.ClientSecretCredential(*who, secret or "", **options)

    def _own_identity(self, options: Any) -> Any:  # noqa: ANN401 - two classes
        """The pod's identity, or the machine's where the pod has none and none was asked for."""
        from azure import identity
        from azure.core.pipeline.transport import RequestsTransport

        client_id = self._settings.client_id
        if self.way != "managed":
            try:
                return identity.WorkloadIdentityCredential(
                    tenant_id=self._settings.tenant_id, client_id=client_id, **options
                )
            except ValueError:  # this pod has none
                if self.way == "workload":
                    raise
        # Asked on this machine, where neither a proxy nor a customer is between.
        alone = RequestsTransport(use_env_settings=False, **TIMEOUTS)
        return identity.ManagedIdentityCredential(client_id=client_id, transport=alone, **TOKEN_TRIES)

    def _check_key_owner(self) -> None:
        if self.way == "key" and not self.account.name:
            raise ConfigError(
                "account_url does not tell which account the account_key is of",
                hint="use the account's own host, ACCOUNT.blob.core.windows.net, or its connection_string",
            )

    def _check_token_host(self, guard: Guard) -> None:
        """A token opens other accounts as well: whoever receives it must be Azure, or the operator's word."""
        if self.way in SIGNED:
            return
        if not self.account.url.startswith("https:"):
            raise ConfigError("account_url is http, and a token must not be sent in the clear", hint=TLS_HINT)
        self.guard.inspect(self.authority, "authority_host")
        if self.authority.removeprefix("https://") not in KNOWN_AUTHORITIES:
            _check_allowed(guard, self.authority, "authority_host")
        if not self.account.cloud:
            _check_allowed(guard, self.account.url, "account_url")


@lru_cache(maxsize=KEPT_SESSIONS)
def _with_azure(guard: Guard) -> Guard:
    """The guard of one run, with Azure's own hosts: private DNS may lead those to private addresses."""
    return guard.allowing(*AZURE_HOSTS, *KNOWN_AUTHORITIES)


@lru_cache(maxsize=KEPT_SESSIONS)
def _shared_session(guard: Guard, ca_file: Path | None) -> requests.Session:
    """One for all containers: it keeps connections to few hosts, and a thousand would use up too much."""
    return new_session(guard, ca_file=ca_file)


def _check_allowed(guard: Guard, url: str, setting: str) -> None:
    try:  # what the operator allows may also be spoken to without TLS, and nothing else may
        guard.inspect(re.sub("^https?", "http", url), setting)
    except ConfigError as error:
        raise ConfigError(
            f"{setting} is not Azure's own, and would receive an identity that opens other places too",
            hint="use the account's own host, give a sas or account_key instead, or have the operator allow"
            " the host by name in `network.allow`",
        ) from error


def _account_and_way(settings: AzureSettings) -> tuple[Account, Way]:
    if settings.connection_string is not None:
        found = ConnectionString.parse(settings.connection_string.reveal())
        return found.account, "sas" if found.sas else "key"
    account = Account.at(settings.account_url or "", "account_url")
    ways: dict[Way, object] = {
        "key": settings.account_key,
        "sas": settings.sas,
        "secret": settings.client_secret,
        "certificate": settings.client_certificate,
    }
    given = next((way for way, value in ways.items() if value is not None), None)
    return account, given or settings.identity or "machine"


def _authority(settings: AzureSettings, account: Account) -> str:
    host = settings.authority_host or AUTHORITIES.get(account.cloud, PUBLIC_AUTHORITY)
    return f"https://{host.removeprefix('https://').rstrip('/').lower()}"


def _bare(sas: str | None) -> str | None:
    """The SAS if there is one, as `checked_sas` has it. Raises ConfigError."""
    return None if sas is None else checked_sas(sas)
