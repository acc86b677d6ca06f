"""Requests to one container: each with fresh credentials, each sent once, each error translated.

The SDK writes and signs the requests; bodies come from files, block by block, which it does not do by
itself. It must not let the SDK repeat a request, follow a redirect, answer a challenge, or show a URL.
"""

from __future__ import annotations

import base64
import logging
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from exporter.destinations.azure.errors import Asked, put_failed
from exporter.destinations.azure.fixes import Fixes
from exporter.network.session import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.storage.blob import BlobClient, ContainerClient

    from exporter.destinations.azure.credentials import Credentials, Grant
    from exporter.destinations.azure.settings import AzureSettings
    from exporter.destinations.uploads import Body, Limits

T = TypeVar("T")

API_VERSION: Final = "2021-12-02"  # has all that is needed; the SDK's newest is not in every cloud yet
SILENT_LOGS: Final = ("azure", "msal", "urllib3.connectionpool")
"""They write URLs with a SAS, and in words of their own what our errors say."""


class Requests:
    """The way to one container. Safe to use from several threads."""

    def __init__(self, settings: AzureSettings, credentials: Credentials, limits: Limits) -> None:
        self.store = credentials.account.store(settings.container)
        self.fixes = Fixes(
            credentials.account.name or "ACCOUNT",
            settings.container,
            settings.client_id or "",
            settings.encryption_scope or "",
        )
        self._container = settings.container
        self._credentials = credentials
        self._limits = limits
        self._asked = Asked(self.store, credentials.way, self.fixes, credentials.redacted)

    def load(self) -> None:
        """Load what the first request takes 0.2 s of work to load, its token included."""
        import azure.storage.blob  # noqa: F401 - for the first client
        from azure.core.pipeline.transport import RequestsTransport  # noqa: F401 - and what it sends with

        self._credentials.load()

    def send(
        self, name: str, act: Callable[[BlobClient], T], body: Body | None = None, md5: bytes | None = None
    ) -> T:
        """What ``act`` brings back from its one request about ``name``, which carries the ``body``.

        Raises NotSent, ObjectExists, Refused or OutcomeUnknown.
        """
        from azure.storage.blob import BlobClient

        options = self._options(body, md5)
        url = self._credentials.account.url
        return self._sent(name, lambda: act(BlobClient(url, self._container, name, **options)))

    def look(self, name: str, act: Callable[[ContainerClient], T]) -> T:
        """The same for a request about the whole container."""
        from azure.storage.blob import ContainerClient

        options = self._options(None, None)
        url = self._credentials.account.url
        return self._sent(name, lambda: act(ContainerClient(url, self._container, **options)))

    def _sent(self, name: str, act: Callable[[], T]) -> T:
        """Raised where no exception of the SDK's is being handled: it would be shown along with ours."""
        from azure.core.exceptions import AzureError

        try:
            return act()
        except (AzureError, OSError, ValueError, LookupError) as error:  # the last three: answers of no sense
            failure = put_failed(error, self._asked, name)
            if getattr(error, "status_code", None) == HTTPStatus.UNAUTHORIZED:
                self._credentials.forget()
        raise failure

    def _options(self, body: Body | None, md5: bytes | None) -> dict[str, Any]:
        """How a client is made that sends one request and nothing else. Raises NotSent."""
        from azure.core.pipeline.transport import RequestsTransport

        _silence()
        session = self._credentials.session()
        grant = self._credentials.grant(session)
        transport = RequestsTransport(
            session=session,
            session_owner=False,
            connection_timeout=CONNECT_TIMEOUT_S,
            read_timeout=self._limits.answer_s,
        )
        return {
            "credential": self._signing(grant),
            "transport": transport,
            "api_version": API_VERSION,
            "retry_total": 0,
            "permit_redirects": False,
            "max_single_put_size": self._limits.at_once_bytes,  # beyond its own, the SDK makes blocks
            "raw_request_hook": _completing(grant, body, md5),
        }

    def _signing(self, grant: Grant) -> Any:  # noqa: ANN401 - the SDK takes three kinds
        from azure.core.credentials import AzureSasCredential

        if grant.key is not None:
            return {"account_name": self._credentials.account.name, "account_key": grant.key}
        return AzureSasCredential(grant.sas) if grant.sas is not None else None


def _completing(grant: Grant, body: Body | None, md5: bytes | None) -> Callable[[Any], None]:
    """What is done to a request after the SDK wrote it, and before it is signed and sent.

    A token is put in here: the SDK's own way would answer a host that asks for another one.
    """

    def complete(request: Any) -> None:  # noqa: ANN401 - the SDK's pipeline request
        http = request.http_request
        if grant.token is not None:
            http.headers["Authorization"] = f"Bearer {grant.token}"
        if md5 is not None:
            http.headers["Content-MD5"] = base64.b64encode(md5).decode()
        if body is not None:
            http.data = body.stream()
            body.sending()

    return complete


@cache
def _silence() -> None:
    for name in SILENT_LOGS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
