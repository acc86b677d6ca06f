"""Who asks Google: a token for each request, from whatever identity a configuration names.

A token is fetched before a put's request, so nothing has landed when that fails: NotSent. Secrets are read
again for every request; a token is used as long as they are the same, and no longer than it is valid.
It must not let a secret into a message, nor into what a traceback shows.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.destinations.gcs.customer_file import checked
from exporter.destinations.gcs.token_errors import token_refused
from exporter.destinations.gcs.tokens import (
    IAM_SCOPE,
    SERVICE_HINT,
    STORAGE_SCOPE,
    Token,
    TokenRefused,
    account_in,
    file_token,
    impersonated,
    impersonation_url,
    load,
    machine_token,
)
from exporter.destinations.gcs.wire import session_for, with_google, with_metadata
from exporter.errors import ConfigError, DeliveryError, NotSent
from exporter.notation.secret import revealed, without

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.destinations.gcs.settings import GcsSettings
    from exporter.network.guard import Guard

MARGIN = timedelta(minutes=5)
# What google-auth raises besides its own errors, for files and answers that are not as it expects.
MALFORMED = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
SECRET_KEYS = ("private_key", "private_key_id")


class Kept(NamedTuple):
    """A token, and the fingerprint of the secret that it was given for."""

    token: Token
    given_for: bytes


class Credentials:
    """The identity that writes to one bucket. Safe to use from several threads."""

    def __init__(
        self, settings: GcsSettings, guard: Guard, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._now = now
        self._lock = Lock()
        self._kept: Kept | None = None
        self._secrets: tuple[str, ...] = ()
        self._whose = settings.impersonate or ""

    @property
    def member(self) -> str:
        """The identity as policies name it; empty before it is known."""
        return f"serviceAccount:{self._whose}" if re.fullmatch(r"[\w.-]+@[\w.-]+", self._whose) else ""

    def load(self) -> None:
        """Load what the first token and the first request take 0.2 s of work to load."""
        from exporter.network import session

        session.load(self._settings.ca_file)
        load(of_this_machine=self._settings.credentials is None)

    def token(self) -> str:
        """A token that is valid for some minutes more. Raises NotSent."""
        with self._lock:
            try:
                text = revealed(self._settings.credentials)
                return self._token(text).value
            except ConfigError as error:
                raise NotSent(error.message, hint=error.hint) from error

    def forget(self, value: str) -> None:
        """Do not use this token again: it was not accepted."""
        with self._lock:
            if self._kept is not None and self._kept.token.value == value:
                self._kept = None

    def redacted(self, error: DeliveryError) -> DeliveryError:
        """The error without the secrets that a vendor's message may repeat."""
        return type(error)(self._without_secrets(error.message), hint=error.hint, fix=error.fix)

    def presentable(self, cause: BaseException) -> BaseException | None:
        """The cause of an error, unless its traceback would show a secret."""
        shown = "".join(traceback.format_exception(cause))
        return cause if self._without_secrets(shown) == shown else None

    def _hide(self, secret: str) -> None:
        """Show it in no error."""
        self._secrets += (secret,)

    def _without_secrets(self, text: str) -> str:
        return without(text, self._secrets)

    def _token(self, text: str | None) -> Token:
        given_for = hashlib.sha256((text or "").encode()).digest()
        kept = self._kept
        if kept and kept.given_for == given_for and kept.token.expires_at - MARGIN > self._now():
            return kept.token
        self._secrets = (kept.token.value,) if kept else ()  # others may still be using it
        self._hide(text or "")
        token = self._fetch(text)
        if not re.fullmatch(r"[!-~]+", token.value):  # not shown
            raise NotSent("the token service gave no token that a request can carry", hint=SERVICE_HINT)
        self._kept = Kept(token, given_for)
        self._whose = token.whose or self._whose
        return token

    def _fetch(self, text: str | None) -> Token:
        info = None if text is None else checked(text, self._settings.subject_token_file, self._guard)
        for key in SECRET_KEYS:
            self._hide((info or {}).get(key, ""))
        steps = self._impersonations(info)
        from google.auth.exceptions import GoogleAuthError

        try:
            return self._through(info, steps)
        except DeliveryError as error:
            raise self.redacted(error) from self.presentable(error)
        except (GoogleAuthError, TokenRefused, *MALFORMED) as error:
            whose = account_in(steps[-1]) if steps else str((info or {}).get("client_email", ""))
            refused = token_refused(error, self._settings.bucket, info, whose)
            raise self.redacted(refused) from self.presentable(error)

    def _impersonations(self, info: Mapping[str, Any] | None) -> list[str]:
        """Where the tokens of other service accounts are asked for, each with the one before."""
        named = (info or {}).get("service_account_impersonation_url")
        wanted = self._settings.impersonate
        return [url for url in (named, impersonation_url(wanted) if wanted else None) if url]

    def _through(self, info: Mapping[str, Any] | None, steps: list[str]) -> Token:
        """The first identity's token, then that of each further one."""
        scopes = [IAM_SCOPE] * len(steps) + [STORAGE_SCOPE]
        source = (info or {}).get("credential_source", {})
        guard = (with_metadata if "environment_id" in source else with_google)(self._guard)
        with session_for(guard, self._settings.ca_file) as session:
            token = (
                machine_token(scopes[0]) if info is None else file_token(info, scopes[0], session, self._hide)
            )
            self._hide(token.value)
            for url, scope in zip(steps, scopes[1:], strict=True):
                token = impersonated(url, token, scope, session)
                self._hide(token.value)
        return token
