"""Stand-ins for where Azure's tokens come from: Microsoft Entra ID over https, and a machine's metadata.

They answer as documented, and record what they were asked. Azurite takes their tokens: it looks at issuer,
audience and times, and at no signature.
"""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.kit.proxy import Answer, Fault, Proxy, Request, proxy_before

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

TENANT = "0a1b2c3d-1111-2222-3333-444455556666"
CLIENT = "c11e0000-1111-2222-3333-444455556666"
NOWHERE = "http://127.0.0.1:9"
JSON = {"Content-Type": "application/json"}


def new_token(*, lasts_s: int = 3600, audience: str = "https://storage.azure.com") -> str:
    """A token as Entra ID makes them, signed by nobody."""
    now = int(time.time())
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{TENANT}/",
        "iat": now,
        "nbf": now - 60,
        "exp": now + lasts_s,
        "jti": str(time.monotonic_ns()),
    }
    parts = ({"typ": "JWT", "alg": "RS256"}, claims, {"made": "up"})
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )


@contextmanager
def entra_id(tls: ssl.SSLContext, *, lasts_s: int = 3600) -> Iterator[Proxy]:
    """A token service; set the proxy's script to have it answer otherwise."""
    with proxy_before(NOWHERE, tls=tls) as proxy:
        proxy.script = lambda request: _answer(_entra_answer(proxy.url, request, lasts_s))
        yield proxy


@contextmanager
def metadata_service(*, lasts_s: int = 3600) -> Iterator[Proxy]:
    """A machine's metadata service, which is spoken to in the clear."""
    answer = {
        "access_token": new_token(lasts_s=lasts_s),
        "expires_in": str(lasts_s),
        "expires_on": str(int(time.time()) + lasts_s),
        "resource": "https://storage.azure.com",
        "token_type": "Bearer",
    }
    with proxy_before(NOWHERE, lambda _request: _answer(answer)) as proxy:
        yield proxy


def entra_error(code: int, words: str = "made up") -> Fault:
    """A refusal as Entra ID writes it."""
    body = {
        "error": "invalid_client",
        "error_description": f"AADSTS{code}: {words} Trace ID: TRACE1 Correlation ID: C1",
        "error_codes": [code],
    }
    return Fault(forward=False, answer=Answer(401, json.dumps(body).encode(), JSON))


def is_token_request(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("/oauth2/v2.0/token")


def form_of(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}


def query_of(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}


def token_requests(service: Proxy) -> list[Request]:
    return [request for request in service.seen if is_token_request(request)]


def _entra_answer(url: str, request: Request, lasts_s: int) -> dict[str, Any]:
    if is_token_request(request):
        return {"token_type": "Bearer", "expires_in": lasts_s, "access_token": new_token(lasts_s=lasts_s)}
    tenant = f"{url}/{TENANT}"
    return {
        "token_endpoint": f"{tenant}/oauth2/v2.0/token",
        "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
        "device_authorization_endpoint": f"{tenant}/oauth2/v2.0/devicecode",
        "issuer": f"{tenant}/v2.0",
    }


def _answer(body: dict[str, Any]) -> Fault:
    return Fault(forward=False, answer=Answer(200, json.dumps(body).encode(), JSON))
