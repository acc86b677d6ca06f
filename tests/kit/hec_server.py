"""Splunk's HTTP Event Collector for tests: a server in a thread that answers as Splunk 10.4.3 was seen to.

Which events are good is in ``hec_events``, tokens, queues and acknowledgements in ``hec_indexers``, HTTP in
``hec_http``. Beyond that it does to a request what its script says, with the faults of ``proxy`` and its own.
"""

from __future__ import annotations

from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from itertools import count
from threading import Event as Signal
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.kit.hec_http import Instead, handler_for, hec_answer, html
from tests.kit.hec_indexers import Splunk, Token
from tests.kit.proxy import Answer, Fault

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from tests.kit.hec_events import Event
    from tests.kit.hec_http import Request

LOGIN_PAGE = Fault(forward=False, answer=html(200, "Please sign in"))
BAD_GATEWAY = Fault(forward=False, answer=html(502, "502 Bad Gateway"))


def redirect(to: str, status: int = 302) -> Fault:
    """A way to somewhere else."""
    return Fault(forward=False, answer=Answer(status, b"", {"Location": to}))


def says(
    code: int, *, number: int | None = None, retry_after: str | None = None, forward: bool = False
) -> Fault:
    """A code, whatever was sent. With ``forward`` it comes in place of a success: the events are taken."""
    answer = hec_answer(code, number=number, retry_after=retry_after)
    return Instead(answer=answer) if forward else Fault(forward=False, answer=answer)


def answers(status: int, body: bytes = b"", content_type: str = "application/json") -> Fault:
    """Some other answer; the events are not taken."""
    return Fault(forward=False, answer=Answer(status, body, {"Content-Type": content_type}))


class Hec(Splunk):
    """A running server, with all that a test arranges and looks at.

    ``seen``: every request in order. ``script`` decides about each of them. ``max_bytes``: larger bodies are
    a 413, measured after decompression. ``numbered``: whether a refusal names the event, and ``number_as``
    how. ``retry_after`` goes with every 429 and 503. ``cookies``: whether the way to one of several indexers
    can be found again. ``zips_answers`` (where the client takes that) and ``chunks_answers`` stand for what
    changes answers on their way.
    """

    def __init__(self, indexers: int = 1) -> None:
        super().__init__(indexers)
        self.url = ""
        self.seen: list[Request] = []
        self.script: Callable[[Request], Fault | None] = lambda _request: None
        self.max_bytes: int | None = None
        self.numbered = True
        self.number_as: Callable[[int], object] = lambda number: number
        self.retry_after: str | None = None
        self.cookies = True
        self.zips_answers = False
        self.chunks_answers = False
        self.connections = 0  # that are open
        self.over = Signal()
        self._turns = count()

    def new_token(
        self,
        *indexes: str,
        acknowledged: bool = False,
        enabled: bool = True,
        default_index: str = "main",
    ) -> str:
        """A token that nobody else has."""
        value = str(uuid4())
        self.tokens[value] = Token(value, enabled, indexes, acknowledged, default_index)
        return value

    def next_indexer(self) -> int:
        """The one whose turn it is."""
        return next(self._turns) % len(self.indexers)

    def fault_for(self, request: Request) -> Fault | None:
        """What the script says of it."""
        return self.script(request)

    def play(self, *faults: Fault | None, endpoint: str = "event") -> None:
        """Do this to the next requests to an endpoint, one after another; then all is well again."""
        left = list(faults)

        def script(request: Request) -> Fault | None:
            return left.pop(0) if left and request.endpoint == endpoint else None

        self.script = script

    def requests(self, endpoint: str = "event") -> list[Request]:
        """Those to one endpoint, in order."""
        with self.lock:
            return [request for request in self.seen if request.endpoint == endpoint]

    def events(self, index: str = "main") -> list[Event]:
        """What is in an index, in the order in which it was indexed."""
        with self.lock:
            return list(self.indexes[index])

    def flush(self) -> None:
        """Index what is queued anywhere."""
        with self.lock:
            for indexer in self.indexers:
                indexer.flush()

    def flush_first(self, indexer: int = 0) -> None:
        """One indexer indexes what it queued first."""
        with self.lock:
            if self.indexers[indexer].queue:
                self.indexers[indexer].flush(0)

    def lose(self, indexer: int = 0) -> None:
        """One indexer loses what it queued."""
        with self.lock:
            self.indexers[indexer].lose()

    def replace(self, indexer: int = 0) -> None:
        """One indexer is another machine now: it has nothing, and counts acknowledgements from 0."""
        with self.lock:
            self.indexers[indexer].lose()
            self.indexers[indexer].channels.clear()


@contextmanager
def hec_server(tls: ssl.SSLContext | None = None, *, indexers: int = 1) -> Iterator[Hec]:
    """A server of one's own on a free port."""
    hec = Hec(indexers)
    server = _Server(hec)
    if tls is not None:
        # The handshake belongs to the connection's thread: a client that stands still stops nobody else.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    hec.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hec
    finally:
        hec.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, hec: Hec) -> None:
        super().__init__(("127.0.0.1", 0), handler_for(hec))
        self.hec = hec

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base has it
        with self.hec.lock:
            self.hec.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        super().shutdown_request(request)
        with self.hec.lock:
            self.hec.connections -= 1

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what many tests are about."""
