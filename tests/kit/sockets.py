"""Servers that behave badly, one connection at a time, and certificates with something wrong about them."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from threading import Event, Thread
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


@dataclass
class Listening:
    """A server on loopback: its port, and how often somebody connected. ``over`` is set at its end."""

    port: int
    connections: int = 0
    over: Event = field(default_factory=Event)


@contextmanager
def listening(
    handle: Callable[[socket.socket, Event], None],
    *,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> Iterator[Listening]:
    """A server that lets ``handle`` treat each connection, which may wait for the end; then it is closed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        state = Listening(server.getsockname()[1])
        thread = Thread(target=_serve, args=(server, handle, tls, state))
        thread.start()
        try:
            yield state
        finally:
            state.over.set()
            with suppress(OSError):  # the thread may be at another connection: then it sees `over`
                socket.create_connection((host, state.port), 1).close()
            thread.join()


def _serve(
    server: socket.socket,
    handle: Callable[[socket.socket, Event], None],
    tls: ssl.SSLContext | None,
    state: Listening,
) -> None:
    while True:
        connection, _ = server.accept()
        with connection:
            if state.over.is_set():
                return
            state.connections += 1
            connection.settimeout(10)
            with suppress(OSError):  # a client that goes away is what many tests are about
                if tls is None:
                    handle(connection, state.over)
                else:
                    with tls.wrap_socket(connection, server_side=True) as wrapped:
                        handle(wrapped, state.over)


def read_request(connection: socket.socket) -> bytes:
    """The head of a request."""
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = connection.recv(4096)
        if not chunk:
            raise ConnectionError("the client went away")
        head += chunk
    return head


def answering(*lines: str, body: bytes = b"") -> Callable[[socket.socket, Event], None]:
    """Answers one request with these header lines and the body."""
    head = "\r\n".join(("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *lines))

    def handle(connection: socket.socket, _over: Event) -> None:
        read_request(connection)
        connection.sendall(f"{head}\r\n\r\n".encode() + body)

    return handle


def silent(_connection: socket.socket, over: Event) -> None:
    """Takes the connection, and says nothing."""
    over.wait(30)


@contextmanager
def unanswered_port() -> Iterator[int]:
    """A port where connecting gets no answer at all, as behind a firewall: its queue is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(server.getsockname())
            yield server.getsockname()[1]
        finally:
            for one in waiting:
                one.close()


def closed_port() -> int:
    """A port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def server_context(
    folder: Path,
    *,
    names: Sequence[str] = ("127.0.0.1", "localhost"),
    valid_days: tuple[int, int] = (-1, 1),
    authority: str = "Acme Root",
) -> tuple[Path, ssl.SSLContext]:
    """The authority to trust, and the server's side of a certificate that it signed."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, leaf_name = _name(authority), _name("a server")
    root = _builder(root_name, root_name, root_key, (-30, 30)).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    leaf = _builder(leaf_name, root_name, key, valid_days).add_extension(
        x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
    )
    trusted, chain = folder / "root.pem", folder / "leaf.pem"
    trusted.write_bytes(root.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(
        leaf.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return trusted, context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, valid_days: tuple[int, int]
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=valid_days[0]))
        .not_valid_after(now + timedelta(days=valid_days[1]))
    )
