"""Who asks S3: clients with fresh credentials, given, the machine's own, or of a role assumed with either.

Credentials are fetched before a put's request, so nothing has landed when that fails: NotSent. It must
not let a client repeat a request, keep a secret longer than it is valid, or let one into a message.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from exporter.destinations.s3.clients import IdleClients
from exporter.destinations.s3.errors import (
    CONNECTION_HINT,
    CREDENTIALS_HINT,
    access_failed,
    sdk_errors,
)
from exporter.destinations.uploads import Body
from exporter.errors import ConfigError, DeliveryError, NotSent
from exporter.notation.secret import revealed, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import boto3
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.config import Config
    from mypy_boto3_s3 import S3Client

    from exporter.destinations.s3.settings import S3Settings
    from exporter.network.guard import Guard

CONNECT_TIMEOUT_S = 5
ROLE_MARGIN = timedelta(minutes=5)


class Keys(NamedTuple):
    """What signs a request."""

    id: str
    secret: str
    token: str | None

    def __repr__(self) -> str:
        return "***"


class Secrets(NamedTuple):
    """What the settings' references held when they were read last."""

    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    external_id: str | None = None

    def __repr__(self) -> str:
        return "***"

    @classmethod
    def of(cls, settings: S3Settings) -> Secrets:
        """What they hold now. Raises ConfigError."""
        secrets = cls(*(revealed(getattr(settings, name)) for name in cls._fields))
        for name, value in secrets._asdict().items():
            if value is not None and not re.fullmatch("[!-~]+", value):
                raise ConfigError(
                    f"{name} is empty, or holds a space, a line break or another character that none has",
                    hint=f"enter {name} again",
                )
        return secrets


class Role(NamedTuple):
    """The keys of a role, and how long they serve."""

    asked_with: Secrets
    keys: Keys
    expires_at: datetime


class Access:
    """The way into one bucket. Safe to use from several threads.

    ``guard`` sees every address that the endpoint leads to, before each request.
    """

    def __init__(
        self,
        settings: S3Settings,
        guard: Guard,
        *,
        answer_s: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._answer_s = answer_s
        self._now = now
        self._lock = Lock()
        self._secrets = Secrets()
        self._role: Role | None = None
        self._latest: Keys | None = None

    @contextmanager
    def client(self) -> Iterator[S3Client]:
        """A client for one request, which nobody else uses meanwhile. Raises NotSent."""
        keys, client = self._ready()
        try:
            yield client
        finally:
            _IDLE.put_back(self, keys, client)

    def redacted(self, error: DeliveryError) -> DeliveryError:
        """The error without the secrets that a vendor's message may repeat."""
        secrets = [*self._secrets]
        if self._latest is not None:
            secrets += [self._latest.secret, self._latest.token]
        return type(error)(without(error.message, secrets), hint=error.hint, fix=error.fix)

    def _ready(self) -> tuple[Keys, S3Client]:
        """Fresh keys, and a client that signs with them."""
        with self._lock:
            try:
                self._secrets = Secrets.of(self._settings)
                keys = self._latest = self._keys()
                client = _IDLE.take(self, keys) or _one_request_each(self.connect("s3", keys))
            except ConfigError as error:
                raise NotSent(error.message, hint=error.hint, fix=error.fix) from error
            except sdk_errors(ValueError) as error:  # ValueError: an endpoint that boto3 cannot read
                raise self.redacted(access_failed(error, self._settings)) from error
            return keys, client

    def _keys(self) -> Keys:
        role = self._settings.role_arn
        if role is None:
            return self.own_keys()
        kept = self._role
        if kept is None or kept.asked_with != self._secrets or kept.expires_at - ROLE_MARGIN <= self._now():
            kept = self._role = self.assume(role, self.caller_keys(), external_id=self._secrets.external_id)
        return kept.keys

    def caller_keys(self) -> Keys:
        """The keys that assume the customer's role: this program's own, or of the last role on the way."""
        keys = self.own_keys()
        for role in self._settings.through_roles:
            keys = self._latest = self.assume(role, keys).keys
        return keys

    def own_keys(self) -> Keys:
        """The keys that the settings give, or else the machine. Raises NotSent."""
        given = self._secrets
        if given.access_key_id and given.secret_access_key:
            return Keys(given.access_key_id, given.secret_access_key, given.session_token)
        with _SESSION_LOCK:
            found = session().get_credentials()
        frozen = found.get_frozen_credentials() if found else None
        if frozen is None or frozen.access_key is None or frozen.secret_key is None:
            raise NotSent("this machine offers no AWS credentials", hint=CREDENTIALS_HINT)
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    def assume(self, role: str, keys: Keys, *, external_id: str | None = None) -> Role:
        """The role, asked for with ``keys``. Raises NotSent, which names the role."""
        try:
            answer = self.connect("sts", keys).assume_role(
                RoleArn=role,
                RoleSessionName="audit-exporter",
                **({"ExternalId": external_id} if external_id else {}),
            )
        except sdk_errors(ValueError, KeyError) as error:  # KeyError: an answer of something else
            raise self.redacted(access_failed(error, self._settings, role)) from error
        given = answer.get("Credentials")
        if given is None:
            raise NotSent(f"what should assume {role} answers without credentials", hint=CONNECTION_HINT)
        assumed = Keys(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
        return Role(self._secrets, assumed, given["Expiration"])

    def connect(self, service: Literal["s3", "sts"], keys: Keys) -> Any:  # noqa: ANN401 - either client
        """A new client that signs with these keys."""
        settings = self._settings
        # A compatible store has an STS of its own; a private endpoint of AWS for S3 has not.
        here = service == "s3" or not settings.is_aws
        with _SESSION_LOCK:
            client = session().client(
                service,
                region_name=settings.region or session().region_name or "us-east-1",
                endpoint_url=settings.endpoint_url if here else None,
                verify=str(settings.ca_file) if settings.ca_file and here else None,
                aws_access_key_id=keys.id,
                aws_secret_access_key=keys.secret,
                aws_session_token=keys.token,
                config=self._config(service),
            )
        if here and settings.endpoint_url:
            client.meta.events.register_first("before-send", self._guarded)
        return client

    def _guarded(self, request: AWSPreparedRequest, **_: object) -> None:
        # Of the request, not of the setting: a bucket in the host's name is another name to resolve. What
        # resolves otherwise a moment later still has to prove over TLS that it is this host.
        self._guard.addresses(request.url)

    def _config(self, service: Literal["s3", "sts"]) -> Config:
        from botocore.config import Config

        style: Literal["auto", "virtual"] = "auto" if self._settings.is_aws else "virtual"
        return Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=self._answer_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={"addressing_style": "path" if self._settings.path_style else style},
            # By default, trailing checksums: some compatibles refuse them (Ceph over https: 411).
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # An endpoint from the environment would be another store than `name` says.
            ignore_configured_endpoint_urls=service == "s3",  # type: ignore[call-arg] # not in the stubs
        )


_IDLE = IdleClients()
_SESSION_LOCK = Lock()  # boto3 makes clients in one thread at a time


@cache
def session() -> boto3.Session:
    """One for all stores: it keeps the parsed service models, which take 100 ms to read."""
    import boto3

    return boto3.Session()


def _one_request_each(client: S3Client) -> S3Client:
    """The client, made to send each request once and to start the body's clock when it does."""
    client.meta.events.register("before-parameter-build.s3", _stay)
    client.meta.events.register("before-send.s3", _start_clock)
    return client


def _stay(context: dict[str, Any], **_: object) -> None:
    # botocore repeats a request in the region that an answer names, unless it already did.
    context["s3_redirect"]["redirected"] = True


def _start_clock(request: Any, **_: object) -> None:  # noqa: ANN401 - botocore's request
    if isinstance(request.body, Body):
        request.body.sending()
