"""Google's token services for tests: oauth2, sts, iamcredentials, and the metadata of two clouds' machines.

One server in a thread. It checks what the real ones check: the signature of a key's assertion, the subject
token, the audience, and who may impersonate whom. What it gives out, `tests.kit.gcs_server` has to know.
"""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

AUDIENCE = (
    "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/vendor/providers/k8s"
)
WRITER = "writer@customer.iam.gserviceaccount.com"
TARGET = "target@customer.iam.gserviceaccount.com"
SUBJECT_TOKEN = "eyJhbGciOi.subject-token-of-the-pod.sig"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
CHECK_URL = "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
_NUMBERS = count(1)


@dataclass(frozen=True)
class Asked:
    """One request to a token service."""

    method: str
    path: str
    headers: Mapping[str, str]
    form: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass
class TokenServices:
    """Where they listen, whom they know, and what they were asked. ``script`` may answer in their place."""

    url: str = ""
    life: timedelta = timedelta(hours=1)
    issued: dict[str, tuple[str, str]] = field(default_factory=dict)  # token: whose, which scope
    asked: list[Asked] = field(default_factory=list)
    on_issue: Callable[[str, str], None] = lambda _token, _whose: None
    script: Callable[[Asked], tuple[int, dict[str, Any]] | None] = lambda _asked: None

    def issue(self, whose: str, scope: str) -> str:
        token = f"ya29.token-{next(_NUMBERS)}-of-{whose.partition('@')[0]}"
        self.issued[token] = (whose, scope)
        self.on_issue(token, whose)
        return token

    def key_file(self, **changes: Any) -> str:  # noqa: ANN401 - whatever a test wants in it
        """A service account's key, as Google hands it out, with these token services."""
        email = changes.get("client_email", WRITER)
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "customer",
                "private_key_id": "0123456789abcdef0123456789abcdef01234567",
                "private_key": private_pem(),
                "client_email": email,
                "client_id": "1",
                "auth_uri": "https://accounts.google.com/o/oauth2/auth",
                "token_uri": f"{self.url}/token",
                "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
                "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{quote(email)}",
                "universe_domain": "googleapis.com",
            }
            | changes
        )

    def federation_file(self, source: Mapping[str, Any] | None = None, **changes: Any) -> str:  # noqa: ANN401
        """A file of workload identity federation, as `create-cred-config` makes it."""
        return json.dumps(
            {
                "universe_domain": "googleapis.com",
                "type": "external_account",
                "audience": AUDIENCE,
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"{self.url}/v1/token",
                "credential_source": dict(source or {"file": "/var/run/token", "format": {"type": "text"}}),
            }
            | changes
        )

    def aws_source(self) -> dict[str, str]:
        """Where a federation file for Amazon's machines has its identity from."""
        return {
            "environment_id": "aws1",
            "region_url": f"{self.url}/latest/meta-data/placement/availability-zone",
            "url": f"{self.url}/latest/meta-data/iam/security-credentials",
            "imdsv2_session_token_url": f"{self.url}/latest/api/token",
            "regional_cred_verification_url": CHECK_URL,
        }

    def impersonation_url(self, email: str = TARGET) -> str:
        return f"{self.url}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"

    def answer(self, asked: Asked) -> tuple[int, dict[str, Any] | str]:
        scripted = self.script(asked)
        if scripted is not None:
            return scripted
        path = urlsplit(asked.path).path
        if path == "/token":
            return self._key_grant(asked)
        if path == "/v1/token":
            return self._exchange(asked)
        if path.endswith(":generateAccessToken"):
            return self._impersonate(asked, unquote(path.split("/")[-1].partition(":")[0]))
        if path in ("", "/") or path.startswith("/computeMetadata/"):
            return self._google_metadata(asked, path)
        return self._aws_metadata(asked, path)

    def _key_grant(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        if asked.form.get("grant_type") != JWT_GRANT:
            return 400, {"error": "unsupported_grant_type"}
        claims = verified_claims(asked.form["assertion"])
        if claims is None:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        if claims["aud"] != "https://oauth2.googleapis.com/token":
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT: wrong audience."}
        return 200, self._grant(claims["iss"], claims["scope"])

    def _exchange(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        form = asked.form
        if form.get("grant_type") != EXCHANGE or form.get("audience") != AUDIENCE:
            words = 'The target service indicated by the "audience" parameters is invalid.'
            return 400, {"error": "invalid_target", "error_description": words}
        if form["subject_token_type"] == "urn:ietf:params:aws:token-type:aws4_request":
            signed = json.loads(unquote(form["subject_token"]))
            headers = {one["key"].lower(): one["value"] for one in signed["headers"]}
            good = (
                "AKIAPOD" in headers["authorization"] and headers["x-goog-cloud-target-resource"] == AUDIENCE
            )
            good = good and signed["url"].startswith("https://sts.eu-west-1.amazonaws.com?")
        else:
            good = form["subject_token"] == SUBJECT_TOKEN
        if not good:
            words = "The given credential is rejected by the attribute condition."
            return 400, {"error": "unauthorized_client", "error_description": words}
        return 200, self._grant("federated", form["scope"]) | {"issued_token_type": "access_token"}

    def _grant(self, whose: str, scope: str) -> dict[str, Any]:
        token = self.issue(whose, scope)
        return {
            "access_token": token,
            "expires_in": int(self.life.total_seconds()),
            "token_type": "Bearer",
        }

    def _impersonate(self, asked: Asked, email: str) -> tuple[int, dict[str, Any]]:
        known = self.issued.get(asked.headers.get("authorization", "").removeprefix("Bearer "))
        if known is None or "auth/iam" not in known[1]:
            message = (
                "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
            )
            return 403, {"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}}
        scope = json.loads(asked.body)["scope"][0]
        expires = datetime.now(UTC) + self.life
        return 200, {
            "accessToken": self.issue(email, scope),
            "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def _google_metadata(self, asked: Asked, path: str) -> tuple[int, dict[str, Any] | str]:
        if asked.headers.get("metadata-flavor") != "Google":
            return 403, "Missing Metadata-Flavor:Google header."
        if path.endswith("/token"):
            return 200, self._grant("pod@vendor.iam.gserviceaccount.com", unquote(asked.path))
        if path.endswith(("universe-domain", "universe_domain")):
            return 200, "googleapis.com"
        if "service-accounts/" in path:
            return 200, {
                "email": "pod@vendor.iam.gserviceaccount.com",
                "scopes": ["cloud-platform"],
                "aliases": [],
            }
        return 200, "vendor"

    @staticmethod
    def _aws_metadata(asked: Asked, path: str) -> tuple[int, dict[str, Any] | str]:
        if path == "/latest/api/token" and asked.method == "PUT":
            return 200, "imds-token"
        if asked.headers.get("x-aws-ec2-metadata-token") != "imds-token":
            return 401, "Unauthorized"
        if path.endswith("availability-zone"):
            return 200, "eu-west-1b"
        if path.endswith("/security-credentials"):
            return 200, "pod-role"
        return 200, {
            "AccessKeyId": "AKIAPOD",
            "SecretAccessKey": "made-up-aws-secret",
            "Token": "made-up-session",
        }


@cache
def private_key() -> rsa.RSAPrivateKey:
    """The one key of all service accounts in tests: making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem() -> str:
    return (
        private_key()
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        .decode()
    )


def verified_claims(assertion: str) -> dict[str, Any] | None:
    """What a signed assertion says; None if the key did not sign it."""
    signed, _, signature = assertion.rpartition(".")
    try:
        private_key().public_key().verify(
            _decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
        )
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no signature
        return None
    claims: dict[str, Any] = json.loads(_decoded(signed.partition(".")[2]))
    return claims


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextmanager
def token_services(tls: ssl.SSLContext | None = None) -> Iterator[TokenServices]:
    """Token services of one's own on a free port."""
    services = TokenServices()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"services": services}))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    services.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield services
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust the server goes away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    services: TokenServices

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""

    def handle_any(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        form = (
            {name: values[0] for name, values in parse_qs(body.decode()).items()}
            if "form" in headers.get("content-type", "")
            else {}
        )
        asked = Asked(self.command, self.path, headers, form, body)
        self.services.asked.append(asked)
        status, answer = self.services.answer(asked)
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header(
            "Content-Type", "application/text" if isinstance(answer, str) else "application/json"
        )
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - the base class's names
