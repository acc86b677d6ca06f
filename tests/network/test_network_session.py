"""Sessions: they connect where the guard looked, trust whom they should, try once, and come to an end."""

from __future__ import annotations

import gzip
import io
import socket
import time
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

import pytest
import requests

from exporter.errors import ConfigError, NotSent
from exporter.network.answers import MAX_ANSWER_BYTES
from exporter.network.guard import Guard
from exporter.network.session import new_session, tls_context
from tests.kit.proxy import Answer, Fault, Proxy, proxy_before
from tests.kit.servers import new_certificate
from tests.kit.sockets import answering, closed_port, listening, read_request, server_context, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from threading import Event

    from tests.kit.proxy import Request

HERE = Guard(["127.0.0.1"])
PUBLIC = "93.184.215.14"
BRIEF = (5, 0.3)  # connecting, and each wait


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxies of the machine that the tests run on."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def hello(request: Request) -> Fault:
    """Answers at once; `/STATUS` with a redirect to what the request says."""
    status, target = request.path.removeprefix("/"), request.headers.get("go-to")
    if target is not None:
        return Fault(forward=False, answer=Answer(int(status), b"elsewhere", {"Location": target}))
    return Fault(forward=False, answer=Answer(200, b"hello", {"Set-Cookie": "memory=1; Path=/"}))


@contextmanager
def https(folder: Path, script: Callable[[Request], Fault] = hello) -> Iterator[tuple[Proxy, Path]]:
    """A server with a certificate of a private authority, and the file to trust."""
    authority, context = new_certificate(folder)
    with proxy_before("http://127.0.0.1:1", script, tls=context) as server:
        yield server, authority


# --- where they connect ----------------------------------------------------------------------------


def test_a_name_that_leads_elsewhere_by_the_time_of_the_connection_does_not_mislead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """DNS rebinding: a public address for whoever looks first, this machine for whoever connects."""
    with https(tmp_path) as (server, authority):
        answers = iter([PUBLIC])
        real = socket.getaddrinfo

        def rebinding(host: str, port: int, *args: int, **options: int) -> object:
            return real(
                next(answers, "127.0.0.1") if host == "rebind.example" else host, port, *args, **options
            )

        tried: list[object] = []

        def refused(address: object, *_args: object) -> socket.socket:
            tried.append(address)
            raise ConnectionRefusedError(111, "Connection refused")

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        monkeypatch.setattr(socket, "create_connection", refused)
        port = int(server.url.rpartition(":")[2])
        session = new_session(Guard(), ca_file=authority)
        with pytest.raises(NotSent, match="cannot be reached"):
            session.get(f"https://rebind.example:{port}/")
        assert tried == [(PUBLIC, port)]
        with pytest.raises(NotSent, match=r"rebind\.example leads to 127\.0\.0\.1"):
            session.get(f"https://rebind.example:{port}/")
        assert tried == [(PUBLIC, port)]
        assert server.seen == []


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:{port}/", "https://localhost:{port}/", "https://127.1:{port}/"]
)
def test_a_host_that_the_guard_refuses_gets_no_connection(tmp_path: Path, url: str) -> None:
    with https(tmp_path) as (server, authority):
        port = server.url.rpartition(":")[2]
        with pytest.raises(NotSent):
            new_session(Guard(), ca_file=authority).put(url.format(port=port), b"records")
    assert server.seen == []


def test_http_is_spoken_with_allowed_hosts_alone() -> None:
    with listening(answering(body=b"plain")) as server:
        url = f"http://127.0.0.1:{server.port}/"
        with pytest.raises(NotSent, match="not https"):
            new_session(Guard()).get(url)
        assert server.connections == 0
        assert new_session(HERE).get(url).content == b"plain"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "HEAD"])
def test_no_redirect_is_followed(tmp_path: Path, status: int, method: str) -> None:
    """Not even for a caller who asks for it: the answer comes back as it is."""
    with https(tmp_path) as (server, authority), listening(answering()) as elsewhere:
        session = new_session(HERE, ca_file=authority)
        for target in (f"http://127.0.0.1:{elsewhere.port}/", f"{server.url}/again", "http://[half"):
            url, headers = f"{server.url}/{status}", {"go-to": target}
            answer = session.request(method, url, headers=headers, allow_redirects=True)
            assert answer.status_code == status
            assert answer.headers["Location"] == target
    assert elsewhere.connections == 0
    assert len(server.seen) == 3


def test_the_second_address_is_tried_when_the_first_does_not_answer(tmp_path: Path) -> None:
    """And the certificate is checked against the name, not against the address."""
    with https(tmp_path) as (server, authority):
        guard = Guard(["localhost"], resolver=lambda _host, _port: ["::1", "127.0.0.1"])
        port = server.url.rpartition(":")[2]
        assert new_session(guard, ca_file=authority).get(f"https://localhost:{port}/").content == b"hello"


def test_a_connection_serves_several_requests(tmp_path: Path) -> None:
    with listening(_twice, tls=server_context(tmp_path)[1]) as server:
        session = new_session(HERE, ca_file=tmp_path / "root.pem")
        for _ in range(2):
            assert session.get(f"https://127.0.0.1:{server.port}/").content == b"ok"
        assert server.connections == 1


def _twice(connection: socket.socket, _over: Event) -> None:
    for _ in range(2):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


# --- whom they trust -------------------------------------------------------------------------------


def test_a_private_authority_is_trusted_when_it_is_given(tmp_path: Path) -> None:
    with https(tmp_path) as (server, authority):
        assert new_session(HERE, ca_file=authority).get(server.url).content == b"hello"


@pytest.mark.parametrize("verify", [True, False])
def test_an_unknown_authority_is_not_trusted_whatever_the_caller_or_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, verify: bool
) -> None:
    """Nothing is sent: the certificate comes first."""
    with https(tmp_path) as (server, authority):
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(name, str(authority))
        with pytest.raises(NotSent, match="self-signed certificate"):
            new_session(HERE).put(server.url, b"records", verify=verify)
    assert server.seen == []


def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    with https(tmp_path) as (server, authority):
        guard = Guard(["storage.example"], resolver=lambda _host, _port: ["127.0.0.1"])
        with pytest.raises(NotSent, match=r"storage\.example cannot be reached: Hostname mismatch"):
            new_session(guard, ca_file=authority).get(server.url.replace("127.0.0.1", "storage.example"))


def test_everybody_with_the_same_ca_file_shares_what_was_read_until_the_file_is_another(
    tmp_path: Path,
) -> None:
    """Reading the authorities takes longer than an upload; but a revoked one must not stay."""
    (tmp_path / "new").mkdir()
    authority, _ = new_certificate(tmp_path)
    other, _ = new_certificate(tmp_path / "new")
    first = tls_context(authority)
    assert tls_context(authority) is first
    assert tls_context(other) is not first
    assert tls_context() is not first
    other.replace(authority)
    second = tls_context(authority)
    assert second is not first
    assert second.get_ca_certs(binary_form=True)[-1] != first.get_ca_certs(binary_form=True)[-1]


def test_a_ca_file_that_is_missing_or_holds_no_certificate_says_so(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for path, words in ((empty, "holds no certificate"), (tmp_path / "missing.pem", "cannot be read")):
        with pytest.raises(ConfigError, match=words):
            new_session(HERE, ca_file=path)


# --- what they do not send -------------------------------------------------------------------------


def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its passwords are those of the operator, and the host is the customer's."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\ndefault login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with https(tmp_path) as (server, authority):
        assert "Authorization" in requests.Session().get(server.url, verify=str(authority)).request.headers
        new_session(HERE, ca_file=authority).get(server.url)
        assert "authorization" not in server.seen[-1].headers


def test_cookies_are_forgotten(tmp_path: Path) -> None:
    with https(tmp_path) as (server, authority):
        session = new_session(HERE, ca_file=authority)
        session.get(server.url)
        session.get(server.url)
        assert "cookie" not in server.seen[-1].headers


# --- how they end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["closed", "silent"])
def test_a_connection_that_does_not_come_about_is_not_sent(why: str) -> None:
    """Also when the other side takes it, and never answers the TLS handshake."""
    with listening(silent) as server:
        port = server.port if why == "silent" else closed_port()
        with pytest.raises(NotSent, match=r"127\.0\.0\.1 cannot be reached") as caught:
            new_session(HERE, timeout=(0.3, 5)).put(f"https://127.0.0.1:{port}/", b"records")
    assert "network between here and 127.0.0.1" in caught.value.hint
    assert "object at" not in caught.value.message


def test_an_answer_that_does_not_come_is_a_time_out_of_its_own(tmp_path: Path) -> None:
    """The request may have arrived."""
    authority, context = server_context(tmp_path)
    with listening(silent, tls=context) as server, pytest.raises(requests.ReadTimeout):
        new_session(HERE, ca_file=authority, timeout=BRIEF).put(
            f"https://127.0.0.1:{server.port}/", b"records"
        )


def _drip_head(connection: socket.socket, over: Event) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not over.wait(0.05):
        connection.sendall(b"x")


def _drip_body(connection: socket.socket, over: Event) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not over.wait(0.05):
        connection.sendall(b"x")


def _flood(connection: socket.socket, over: Event) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"x" * 65536)


@pytest.mark.parametrize("drip", [_drip_head, _drip_body])
def test_an_answer_byte_by_byte_comes_to_an_end(drip: Callable[[socket.socket, Event], None]) -> None:
    """Each byte is in time, and all of them would hold a thread for ever."""
    with listening(drip) as server:
        started = time.monotonic()
        with pytest.raises((requests.ReadTimeout, requests.ConnectionError)):
            new_session(HERE, timeout=BRIEF).get(f"http://127.0.0.1:{server.port}/")
        assert time.monotonic() - started < 5


def test_an_answer_without_end_is_cut_off() -> None:
    with (
        listening(_flood) as server,
        pytest.raises(requests.RequestException, match=f"{MAX_ANSWER_BYTES} bytes"),
    ):
        new_session(HERE).get(f"http://127.0.0.1:{server.port}/")


def test_an_answer_is_never_unpacked() -> None:
    """A few bytes could become any number of them."""
    packed = gzip.compress(b"\0" * 1_000_000)
    with listening(answering("Content-Encoding: gzip", body=packed)) as server:
        answer = new_session(HERE).get(f"http://127.0.0.1:{server.port}/")
    assert answer.content == packed
    assert answer.request.headers["Accept-Encoding"] == "identity"


def _slow_reader(connection: socket.socket, over: Event) -> None:
    over.wait(0.8)
    left = 20_000_000 - len(read_request(connection).partition(b"\r\n\r\n")[2])
    while left > 0:
        chunk = connection.recv(1 << 20)
        if not chunk:
            return
        left -= len(chunk)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_sending_may_pause_as_long_as_answers_may() -> None:
    """And not only as long as connecting may, which is what urllib3 does by itself."""
    with listening(_slow_reader) as server:
        session = new_session(HERE, timeout=(0.3, 10))
        body = io.BytesIO(bytes(20_000_000))
        assert session.put(f"http://127.0.0.1:{server.port}/", body).status_code == 200


def test_a_request_is_made_once(tmp_path: Path) -> None:
    """Whatever becomes of it."""
    with https(tmp_path, lambda _request: Fault(forward=False, cut=True)) as (server, authority):
        with pytest.raises(requests.ConnectionError):
            new_session(HERE, ca_file=authority).get(server.url)
        assert len(server.seen) == 1


# --- through a proxy of the operator ---------------------------------------------------------------


@contextmanager
def connect_proxy(monkeypatch: pytest.MonkeyPatch, *, refuses: bool = False) -> Iterator[list[str]]:
    """A proxy that tunnels, and is the environment's: the first lines of what it was asked."""
    asked: list[str] = []

    def tunnel(connection: socket.socket, _over: Event) -> None:
        asked.append(read_request(connection).decode().partition("\r\n")[0])
        if refuses:
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        host, _, port = asked[-1].split()[1].rpartition(":")
        with socket.create_connection((host, int(port)), 5) as upstream:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            there = Thread(target=_pump, args=(connection, upstream))
            there.start()
            _pump(upstream, connection)
            there.join()

    with listening(tunnel) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        yield asked


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()


def test_the_proxy_of_the_environment_is_used_and_asked_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the host itself; what it tunnels is still TLS with the host."""
    with https(tmp_path) as (server, authority), connect_proxy(monkeypatch) as asked:
        url = server.url.replace("127.0.0.1", "localhost")
        session = new_session(Guard(["localhost"], resolver=_nobody), ca_file=authority)
        assert session.get(url).content == b"hello"
        session.close()
        assert [line.split()[:2] for line in asked] == [["CONNECT", url.removeprefix("https://")]]
        with pytest.raises(NotSent, match="self-signed certificate"):
            new_session(Guard(["localhost"])).get(url)


def _nobody(host: str, _port: int) -> Sequence[str]:
    raise AssertionError(host)


def test_the_proxy_is_not_asked_for_what_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    with connect_proxy(monkeypatch) as asked:
        for url in ("https://10.0.0.1/", "https://metadata.google.internal/", "https://[::1]/"):
            with pytest.raises(NotSent, match="must not be used"):
                new_session(Guard()).get(url)
        assert asked == []


def test_a_proxy_that_refuses_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    with connect_proxy(monkeypatch, refuses=True), pytest.raises(NotSent, match="403 Forbidden") as caught:
        new_session(Guard()).get("https://storage.example.com/")
    assert "storage.example.com cannot be reached through the environment's proxy 127.0.0.1:" in (
        caught.value.message
    )
    assert "let the proxy connect to storage.example.com" in caught.value.hint


def test_a_proxy_over_tls_that_refuses_is_named_as_the_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(connection: socket.socket, _over: Event) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 403 \x1b[31mForbidden\r\n\r\n")

    authority, tls = server_context(tmp_path)
    with listening(refuse, tls=tls) as proxy:
        monkeypatch.setenv("https_proxy", f"https://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        with pytest.raises(NotSent, match="403") as caught:
            new_session(Guard()).get("https://storage.example.com/")
    assert (
        f"storage.example.com cannot be reached through the environment's proxy 127.0.0.1:{proxy.port}"
        in (caught.value.message)
    )
    assert caught.value.message.isprintable()


def test_a_proxy_for_http_that_is_not_there_is_called_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    port = closed_port()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    with pytest.raises(NotSent, match=f"the environment's proxy 127.0.0.1:{port} cannot be reached"):
        new_session(Guard(["store.example.com"])).get("http://store.example.com/")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://:3128", "http://[::1"])
def test_a_proxy_of_another_kind_says_so_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(NotSent, match="proxy of the environment") as caught:
        new_session(Guard()).get("https://storage.example.com/?sig=s3cret")
    assert "HTTPS_PROXY" in caught.value.hint
