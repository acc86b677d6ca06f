"""What guarded sessions are made of: requests, over ``connections`` that go only where a guard allows.

Loaded by ``session`` alone, when the first session is made: requests takes a while to load. It must not
know what is spoken.
"""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema, InvalidURL
from urllib3.exceptions import LocationValueError

from exporter.errors import NotSent
from exporter.network.connections import PROXY_HINT, pool_classes

if TYPE_CHECKING:
    import ssl

    from exporter.network.guard import Guard


class GuardedSession(requests.Session):
    """A session without a memory: no redirects, cookies or `.netrc`, and of the environment proxies alone."""

    def __init__(self, adapter: GuardedAdapter) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Nowhere: the answer is what it is, whatever the caller asked for."""
        del resp
        return None


class GuardedAdapter(HTTPAdapter):
    """Sends requests to hosts that the guard lets through, once each.

    What callers say of trust and proxies does not count. ``timeout`` is (connect, idle), in seconds.
    """

    def __init__(self, guard: Guard, context: ssl.SSLContext, timeout: tuple[float, float]) -> None:
        self._guard = guard
        self._context = context
        self._timeout = timeout
        super().__init__(max_retries=0)
        self.poolmanager.pool_classes_by_scheme = pool_classes(guard, timeout)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 - as the base class has it
        timeout: Any = None,  # noqa: ANN401
        *_trust: object,
        **_more_trust: object,
    ) -> requests.Response:
        """One try, through the operator's proxy if there is one. Raises NotSent, or what requests raises."""
        url = request.url or ""
        proxy = self._guard.proxy_for(url)
        if proxy is not None:
            self._guard.addresses(url)
        request.headers["Accept-Encoding"] = "identity"  # a compressed answer could grow without bounds
        proxies = {} if proxy is None else {url.partition(":")[0]: proxy}
        try:
            answer = super().send(request, stream=stream, timeout=timeout or self._timeout, proxies=proxies)
        except (InvalidSchema, InvalidURL, LocationValueError) as error:
            # Before anything was sent, and their words show addresses.
            raise NotSent("the proxy of the environment is of no known kind", hint=PROXY_HINT) from error
        answer.raw.headers.pop("Content-Encoding", None)
        return answer

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as the base class has it
        """Pools that trust whom we trust."""
        super().init_poolmanager(*args, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:  # noqa: ANN401 - as the base class has it
        """The same for connections through a proxy, which finds the host by itself."""
        if proxy not in self.proxy_manager:
            manager = super().proxy_manager_for(proxy, **options, ssl_context=self._context)
            manager.pool_classes_by_scheme = pool_classes(None, self._timeout)
        return self.proxy_manager[proxy]

    def cert_verify(self, *args: object) -> None:
        """Nothing: the context decides, and requests would have it load all authorities once more."""
