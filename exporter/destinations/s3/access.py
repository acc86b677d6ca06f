"""Who asks S3: clients with fresh credentials, given, the machine's own, or of a role assumed with either.

Credentials are fetched before a put's request, so nothing has landed when that fails: NotSent. It must
not let a client repeat a request, keep a secret longer than it is valid, or let one into a message.
"""

from __future__ import annotations

import re
from contextlib import closing, contextmanager, suppress
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from exporter.destinations.s3.clients import IdleClients, Way
from exporter.destinations.s3.errors import (
    CREDENTIALS_HINT,
    RoleFailed,
    access_failed,
)
from exporter.destinations.s3.words import LONGEST_MESSAGE, fit, tidied
from exporter.destinations.uploads import Body
from exporter.errors import ConfigError, DeliveryError, NotSent
from exporter.network.guard import origin_of
from exporter.network.session import tls_context
from exporter.notation.secret import revealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import boto3
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.config import Config
    from mypy_boto3_s3 import S3Client

    from exporter.destinations.s3.settings import S3Settings
    from exporter.network.guard import Guard

CONNECT_TIMEOUT_S = 5
USER_AGENT = "audit-exporter"  # what customers find in their logs
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
        self._way = Way(
            endpoint_url=settings.endpoint_url,
            region=settings.region,
            path_style=settings.path_style,
            ca_file=settings.ca_file,
            answer_s=answer_s,
            guard=guard,
        )
        self._signing: Keys | None = None  # with which the last client was made or found

    @contextmanager
    def client(self) -> Iterator[S3Client]:
        """A client for one request, which nobody else uses meanwhile. Raises NotSent."""
        from exporter.destinations.s3 import wire

        keys, client = self._ready()
        wire.session_of(client).has_sent = False
        try:
            yield client
        finally:
            if keys == self._signing:
                _IDLE.put_back(self._way, keys, client)
            else:  # replaced meanwhile
                client.close()

    def has_sent(self, client: S3Client) -> bool:
        """Whether anything of the client's request may have left."""
        from exporter.destinations.s3 import wire

        return wire.session_of(client).has_sent

    def redacted(self, error: DeliveryError) -> DeliveryError:
        """The error without the secrets that a vendor's message may repeat, and on one line."""
        clean = copy(error)
        clean.message = fit(error.message, self._known_secrets(), LONGEST_MESSAGE)
        clean.args = (clean.message,)
        return clean

    def tidied(self, error: Exception) -> Exception:
        """The SDK's error; its answer has no secrets now, and nothing but short text."""
        return tidied(error, self._known_secrets())

    def _known_secrets(self) -> list[str | None]:
        latest = self._latest
        return [*self._secrets, *((latest.secret, latest.token) if latest else ())]

    def _ready(self) -> tuple[Keys, S3Client]:
        """Fresh keys, and a client that signs with them."""
        with self._lock:
            try:
                self._secrets = Secrets.of(self._settings)
                keys = self._latest = self._keys()
                if keys != self._signing:
                    _IDLE.let_go(self._way, self._signing)
                    self._signing = keys
                client = _IDLE.take(self._way, keys) or _one_request_each(self.connect("s3", keys))
            except ConfigError as error:
                raise NotSent(error.message, hint=error.hint, fix=error.fix) from error
            except DeliveryError:
                raise
            except Exception as error:  # anything, in files and answers of others: nothing of a put was sent
                raise self.redacted(access_failed(self.tidied(error), self._settings)) from error
            return keys, client

    def _keys(self) -> Keys:
        role = self._settings.role_arn
        if role is None:
            return self.own_keys()
        kept = self._role
        if kept is None or kept.asked_with != self._secrets or kept.expires_at <= self._now() + ROLE_MARGIN:
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
            with closing(self.connect("sts", keys)) as sts:
                answer = sts.assume_role(
                    RoleArn=role,
                    RoleSessionName="audit-exporter",
                    **({"ExternalId": external_id} if external_id else {}),
                )
            return Role(self._secrets, *_granted(answer, role))
        except (ConfigError, DeliveryError):
            raise
        except Exception as error:  # anything, at an odd answer: nothing of a put was sent
            refusal = self.redacted(access_failed(self.tidied(error), self._settings, role))
            raise RoleFailed.of(role, refusal) from error

    def connect(self, service: Literal["s3", "sts"], keys: Keys) -> Any:  # noqa: ANN401 - either client
        """A new client that signs with these keys."""
        from exporter.destinations.s3 import wire

        settings = self._settings
        # A compatible store has an STS of its own; a private endpoint of AWS for S3 has not.
        here = service == "s3" or not settings.is_aws
        context = tls_context(settings.ca_file if here and settings.ca_file else _own_authorities())
        with _SESSION_LOCK:
            client = session().client(
                service,
                region_name=settings.region or session().region_name or "us-east-1",
                endpoint_url=settings.endpoint_url if here else None,
                aws_access_key_id=keys.id,
                aws_secret_access_key=keys.secret,
                aws_session_token=keys.token,
                config=self._config(service),
            )
        guard = self._guard if here and settings.endpoint_url else None
        wire.use(client, guard, context, (CONNECT_TIMEOUT_S, self._answer_s))
        if guard is not None:
            client.meta.events.register_first("before-send", partial(_let_through, guard))
        return client

    def _config(self, service: Literal["s3", "sts"]) -> Config:
        from botocore.config import Config

        style: Literal["auto", "virtual"] = "auto" if self._settings.is_aws else "virtual"
        return Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=self._answer_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            parameter_validation=False,  # what requests are made of are settings, which were validated
            s3={"addressing_style": "path" if self._settings.path_style else style},
            # By default, trailing checksums: some compatibles refuse them (Ceph over https: 411).
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # An endpoint from the environment would be another store than `name` says.
            ignore_configured_endpoint_urls=service == "s3",  # type: ignore[call-arg] # not in the stubs
            # botocore's own would be put together anew from twenty parts for each request.
            user_agent=USER_AGENT,
        )


_IDLE = IdleClients()
_SESSION_LOCK = Lock()  # boto3 makes clients in one thread at a time


@cache
def session() -> boto3.Session:
    """One for all stores: it keeps the parsed service models, which take 100 ms to read."""
    import boto3

    return boto3.Session()


@cache
def load() -> None:
    """Load what the first client takes 0.2 s of work to load, so that processes forked after it share it.

    What this machine's settings for AWS have wrong shows again, and is told, when there is a client to make.
    """
    from botocore.exceptions import BotoCoreError

    import exporter.destinations.s3.wire  # noqa: F401 - it loads urllib3

    nobody = "nobody"  # without keys, it would ask the machine for some
    with _SESSION_LOCK, suppress(BotoCoreError, ConfigError, OSError, ValueError):
        tls_context(_own_authorities())
        session().client(
            "s3", region_name="us-east-1", aws_access_key_id=nobody, aws_secret_access_key=nobody
        ).close()


def _own_authorities() -> Path | None:
    """The file of authorities that the operator has for AWS: AWS_CA_BUNDLE, or the profile's `ca_bundle`."""
    bundle = session()._session.get_config_variable("ca_bundle")  # noqa: SLF001 - nothing else tells
    return Path(bundle) if bundle else None


def _granted(answer: Mapping[str, Any], role: str) -> tuple[Keys, datetime]:
    """The keys of a role in a token service's answer, and until when. Raises ValueError for what are none."""
    given = answer.get("Credentials") or {}
    keys = Keys(*map(given.get, ("AccessKeyId", "SecretAccessKey", "SessionToken")))
    until = given.get("Expiration")
    if not all(isinstance(one, str) and re.fullmatch("[!-~]+", one) for one in keys):
        message = f"what should assume {role} answers without credentials"
        raise ValueError(message)
    if not isinstance(until, datetime):
        message = f"what should assume {role} does not say how long its credentials serve"
        raise ValueError(message)  # noqa: TRY004 - a fault of the answer, not of this program
    return keys, until if until.tzinfo else until.replace(tzinfo=UTC)


def _one_request_each(client: S3Client) -> S3Client:
    """The client, made to send each request once and to start the body's clock when it does."""
    from botocore.handlers import add_retry_headers

    events = client.meta.events
    events.register("before-parameter-build.s3", _stay)
    events.register_last("before-call.s3", _send_small_at_once)
    events.register("before-send.s3", _start_clock)
    # Of repeating requests, which `_config` allows none; to look each time whether to takes its time.
    events.unregister("needs-retry.s3", unique_id="retry-config-s3")
    events.unregister("request-created.s3", unique_id="seed-max-attempts-s3")
    events.unregister("request-created", add_retry_headers)
    return client


def _stay(context: dict[str, Any], **_: object) -> None:
    # botocore repeats a request in the region that an answer names, unless it already did.
    context["s3_redirect"]["redirected"] = True


def _send_small_at_once(params: dict[str, Any], **_: object) -> None:
    # botocore has every file wait for the word to send it, which takes a small one longer than the sending.
    body = params.get("body")
    if isinstance(body, Body) and body.is_small:
        params["headers"].pop("Expect", None)


def _let_through(guard: Guard, request: AWSPreparedRequest, **_: object) -> None:
    # Of the request, not of the setting: a bucket in the host's name is another name to resolve. A
    # connection that is still open is not enough: what its name leads to may be forbidden since.
    guard.addresses(origin_of(request.url))


def _start_clock(request: Any, **_: object) -> None:  # noqa: ANN401 - botocore's request
    if isinstance(request.body, Body):
        request.body.sending()
