"""Who asks S3: clients with fresh credentials, given, the machine's own, or of a role assumed with either.

Credentials are fetched before a put's request, so nothing has landed when that fails: NotSent. It must
not let a client repeat a request, keep a secret longer than it is valid, or let one into a message.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from exporter.destinations.object_store import Body
from exporter.destinations.s3.clients import IdleClients
from exporter.destinations.s3.errors import CREDENTIALS_HINT, access_failed, sdk_errors
from exporter.destinations.s3.options import S3Secrets
from exporter.errors import ConfigError, DeliveryError, NotSent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import boto3
    from botocore.config import Config
    from mypy_boto3_s3 import S3Client

    from exporter.destinations.s3.options import S3Options

CONNECT_TIMEOUT_S = 5
SHORTEST_SECRET = 8  # below it are test servers' keys, such as `test`, which any word may hold
ROLE_MARGIN = timedelta(minutes=5)


class Keys(NamedTuple):
    """What signs a request."""

    id: str
    secret: str
    token: str | None


class Role(NamedTuple):
    """The keys of a role, and how long they serve."""

    asked_with: S3Secrets
    keys: Keys
    expires_at: datetime


class Access:
    """The way into one bucket. Safe to use from several threads."""

    def __init__(
        self,
        options: S3Options,
        read_secrets: Callable[[], S3Secrets],
        *,
        answer_s: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._options = options
        self._read_secrets = read_secrets
        self._answer_s = answer_s
        self._now = now
        self._lock = Lock()
        self._secrets = S3Secrets()
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
        given = self._secrets
        secrets = [given.access_key_id, given.secret_access_key, given.session_token, given.external_id]
        if self._latest is not None:
            secrets += [self._latest.secret, self._latest.token]
        message = error.message
        for secret in (one.strip() for one in secrets if one):
            if len(secret) >= SHORTEST_SECRET:
                message = message.replace(secret, "***")
        return type(error)(message, hint=error.hint)

    def _ready(self) -> tuple[Keys, S3Client]:
        """Fresh keys, and a client that signs with them."""
        with self._lock:
            try:
                self._secrets = self._read_secrets()
                keys = self._latest = self._keys()
                client = _IDLE.take(self, keys) or _one_request_each(self._connect("s3", keys))
            except ConfigError as error:
                raise NotSent(error.message, hint=error.hint) from error
            except sdk_errors(ValueError) as error:  # ValueError: an endpoint that boto3 cannot read
                has_id = bool(self._secrets.external_id)
                raise self.redacted(access_failed(error, self._options, external_id=has_id)) from error
            return keys, client

    def _keys(self) -> Keys:
        if self._options.role_arn is None:
            return self._own_keys()
        role = self._role
        if role is None or role.asked_with != self._secrets or role.expires_at - ROLE_MARGIN <= self._now():
            role = self._role = self._assume(self._options.role_arn)
        return role.keys

    def _own_keys(self) -> Keys:
        given = self._secrets
        if given.access_key_id and given.secret_access_key:
            return Keys(given.access_key_id, given.secret_access_key, given.session_token)
        with _SESSION_LOCK:
            found = session().get_credentials()
        frozen = found.get_frozen_credentials() if found else None
        if frozen is None or frozen.access_key is None or frozen.secret_key is None:
            raise NotSent("this machine offers no AWS credentials", hint=CREDENTIALS_HINT)
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    def _assume(self, role_arn: str) -> Role:
        external_id = self._secrets.external_id
        answer = self._connect("sts", self._own_keys()).assume_role(
            RoleArn=role_arn,
            RoleSessionName="audit-exporter",
            **({"ExternalId": external_id} if external_id else {}),
        )["Credentials"]
        keys = Keys(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])
        return Role(self._secrets, keys, answer["Expiration"])

    def _connect(self, service: Literal["s3", "sts"], keys: Keys) -> Any:  # noqa: ANN401 - either client
        options = self._options
        # A compatible store has an STS of its own; a private endpoint of AWS for S3 has not.
        here = service == "s3" or not options.is_aws
        with _SESSION_LOCK:
            return session().client(
                service,
                region_name=options.region or session().region_name or "us-east-1",
                endpoint_url=options.endpoint_url if here else None,
                verify=str(options.ca_file) if options.ca_file and here else None,
                aws_access_key_id=keys.id,
                aws_secret_access_key=keys.secret,
                aws_session_token=keys.token,
                config=self._config(service),
            )

    def _config(self, service: Literal["s3", "sts"]) -> Config:
        from botocore.config import Config

        style: Literal["auto", "virtual"] = "auto" if self._options.is_aws else "virtual"
        return Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=self._answer_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={"addressing_style": "path" if self._options.path_style else style},
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
