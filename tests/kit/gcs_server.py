"""Google Cloud Storage for tests: a server in a thread that keeps the documented JSON API.

Real preconditions, resumable uploads, checksums, permissions and errors (the emulator on PyPI overwrites
despite `ifGenerationMatch=0`). The rules are in ``gcs_objects`` and ``gcs_sessions``, HTTP is in
``gcs_http``. Its faults are the real ones only: connections are broken by ``proxy``.
"""

from __future__ import annotations

import atexit
from contextlib import contextmanager
from functools import cache
from http.server import ThreadingHTTPServer
from itertools import count
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.kit.gcs_http import handler_for
from tests.kit.gcs_objects import EVERYTHING, Bucket, Principal, Storage
from tests.kit.gcs_sessions import Sessions

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from tests.kit.gcs_objects import StoredObject
    from tests.kit.proxy import Request

ALMIGHTY = "ya29.may-do-everything"
_NUMBERS = count(1)


class Gcs:
    """A running server, with all that a test arranges and looks at.

    ``seen``: every request in order; bodies of more than 64 KiB are left out of it.
    """

    def __init__(self) -> None:
        self.url = ""
        self.token = ALMIGHTY
        self.seen: list[Request] = []
        self.storage = Storage()
        self.sessions = Sessions(self.storage)
        self._outside: dict[str, str] = {}
        self.grant(ALMIGHTY, EVERYTHING)

    def new_bucket(self, **properties: Any) -> str:  # noqa: ANN401 - a bucket resource, as the API has it
        """An empty bucket that no other test has, such as `new_bucket(retentionPolicy=…)`."""
        name = f"bucket-{next(_NUMBERS):06}"
        self.storage.buckets[name] = Bucket(name, properties)
        return name

    def objects(self, bucket: str) -> dict[str, StoredObject]:
        """What is in it, by name."""
        with self.storage.lock:
            return dict(self.storage.buckets[bucket].objects)

    def remove_bucket(self, bucket: str) -> None:
        with self.storage.lock:
            del self.storage.buckets[bucket]

    def grant(self, token: str, *permissions: str, prefix: str = "") -> str:
        """Let a token do these things too, to objects under the prefix; the account that it stands for.

        The token "" is everybody.
        """
        with self.storage.lock:
            known = self.storage.principals.get(token)
            email = known.email if known else f"writer-{next(_NUMBERS)}@vendor.iam.gserviceaccount.com"
            grants = known.grants if known else ()
            more = tuple((permission, prefix) for permission in permissions)
            self.storage.principals[token] = Principal(email, grants + more)
            return email

    def revoke(self, token: str) -> None:
        """It is no token any more."""
        with self.storage.lock:
            del self.storage.principals[token]

    def new_key(self, location: str = "us", *, enabled: bool = True) -> str:
        """A Cloud KMS key that the storage's service agent may use; any other one it may not."""
        name = f"projects/customer/locations/{location}/keyRings/ring/cryptoKeys/key-{next(_NUMBERS)}"
        self.storage.keys[name] = enabled
        return name

    def throttle(self, bucket: str, times: int = 1) -> None:
        """The next uploads to it are answered with 429."""
        self.storage.buckets[bucket].throttled = times

    def end_sessions(self, *, forget: bool = False) -> None:
        """Every resumable upload is gone (410), or forgotten (404)."""
        self.sessions.end_all(forget=forget)

    def stand_behind(self, url: str) -> None:
        """Requests that name this URL's host get session addresses that begin with it: a proxy with TLS."""
        self._outside[urlsplit(url).netloc] = url

    def address(self, host: str | None) -> str:
        """Of the server, as the client knows it."""
        if not host:
            return self.url
        return self._outside.get(host, f"{urlsplit(self.url).scheme}://{host}")


@contextmanager
def gcs_server(tls: ssl.SSLContext | None = None) -> Iterator[Gcs]:
    """A server of one's own on a free port."""
    gcs = Gcs()
    server = _Server(("127.0.0.1", 0), handler_for(gcs))
    if tls is not None:
        # The handshake belongs to the connection's thread: a client that stands still stops nobody else.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    gcs.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield gcs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@cache
def shared_gcs() -> Gcs:
    """One server for all tests of this process; every test takes buckets and tokens of its own."""
    server = gcs_server()
    gcs = server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return gcs


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what many tests are about."""
