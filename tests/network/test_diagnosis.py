"""The diagnosis: for each place where the way to a host can end, its own words, against real sockets."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from exporter.network.diagnosis import Obstacle, obstacle
from exporter.network.guard import Guard
from tests.kit.sockets import (
    answering,
    closed_port,
    listening,
    read_request,
    server_context,
    silent,
    unanswered_port,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from threading import Event

HERE = Guard(["127.0.0.1", "[::1]", "localhost"])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxies of the machine that the tests run on."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def found(url: str, guard: Guard = HERE, *, ca_file: Path | None = None, timeout_s: float = 5) -> Obstacle:
    """What ends the way; there has to be something."""
    result = obstacle(url, guard, ca_file=ca_file, timeout_s=timeout_s)
    assert result is not None
    return result


def date(ahead: timedelta = timedelta()) -> str:
    return f"Date: {format_datetime(datetime.now(UTC) + ahead, usegmt=True)}"


def at(port: int) -> str:
    return f"https://127.0.0.1:{port}/bucket?sig=s3cret"


# --- a way without obstacles -----------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_host_that_answers_in_time_is_no_obstacle(tmp_path: Path, host: str) -> None:
    """Whether it is IPv4 or IPv6."""
    authority, context = server_context(tmp_path, names=["127.0.0.1", "::1"])
    with listening(answering(date()), host=host, tls=context) as server:
        shown = f"[{host}]" if ":" in host else host
        assert obstacle(f"https://{shown}:{server.port}/", HERE, ca_file=authority) is None


def test_the_request_says_nothing_of_whom_it_is_for() -> None:
    """Neither the path of the address nor its query: they hold secrets."""
    heads: list[bytes] = []

    def handle(connection: socket.socket, _over: Event) -> None:
        heads.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with listening(handle) as server:
        assert obstacle(f"http://127.0.0.1:{server.port}/bucket?sig=s3cret", HERE) is None
    assert heads[0].startswith(b"HEAD / HTTP/1.1\r\n")
    assert b"s3cret" not in heads[0]


@pytest.mark.parametrize("line", ["X-No: date", "Date: yesterday", "Date:", None])
def test_a_host_without_a_readable_or_with_nearly_the_same_time_is_no_obstacle(line: str | None) -> None:
    with listening(answering(line or date(timedelta(minutes=4)))) as server:
        assert obstacle(f"http://127.0.0.1:{server.port}/", HERE) is None


# --- guard and DNS ---------------------------------------------------------------------------------


def test_an_address_that_the_guard_refuses_is_an_obstacle_with_the_way_around_it() -> None:
    with listening(silent) as server:
        result = found(at(server.port), Guard())
        assert server.connections == 0
    assert result.message == "the address must not be used: 127.0.0.1 is this machine itself"
    assert result.hint == "allow it by name: network: {allow: [127.0.0.1]}"


def test_a_name_that_is_not_known_is_an_obstacle() -> None:
    def nobody(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    result = found("https://storage.example/", Guard(resolver=nobody))
    assert result.message == "the host storage.example cannot be found: Name or service not known"
    assert "DNS" in result.hint


# --- TCP -------------------------------------------------------------------------------------------


def test_a_closed_port_is_an_obstacle() -> None:
    port = closed_port()
    result = found(at(port))
    assert result.message == f"nothing listens on port {port} of 127.0.0.1"
    assert "check the port" in result.hint


def test_a_name_is_shown_with_its_addresses() -> None:
    port = closed_port()
    guard = Guard(["storage.example"], resolver=lambda _host, _port: ["::1", "127.0.0.1"])
    result = found(f"https://storage.example:{port}/", guard)
    assert result.message == f"nothing listens on port {port} of storage.example (::1, 127.0.0.1)"


def test_a_port_behind_a_firewall_is_an_obstacle() -> None:
    with unanswered_port() as port:
        result = found(at(port), timeout_s=0.5)
    assert result.message == f"port {port} of 127.0.0.1 does not answer within 0.5 s"
    assert "firewalls" in result.hint


def test_no_route_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without IPv6."""

    def unreachable(*_args: object) -> socket.socket:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    result = found("https://[2606:4700::1111]/")
    assert result.message == "there is no way from this machine to [2606:4700::1111]: Network is unreachable"
    assert "IPv6" in result.hint


# --- TLS -------------------------------------------------------------------------------------------


def _plain_error(connection: socket.socket, _over: Event) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def _hang_up(connection: socket.socket, _over: Event) -> None:
    connection.recv(4096)


@pytest.mark.parametrize(
    ("handle", "words"),
    [
        (_plain_error, "does not speak TLS: it may be plain http"),
        (silent, "takes connections, and says nothing for 0.5 s"),
        (_hang_up, "breaks off instead of speaking TLS"),
    ],
)
def test_a_port_without_tls_is_an_obstacle(
    handle: Callable[[socket.socket, Event], None], words: str
) -> None:
    with listening(handle) as server:
        result = found(at(server.port), timeout_s=0.5)
    assert result.message.startswith(f"port {server.port} of 127.0.0.1 {words}")
    assert "the one for https" in result.hint


def test_an_unknown_authority_is_named(tmp_path: Path) -> None:
    _, context = server_context(tmp_path)
    with listening(silent, tls=context) as server:
        result = found(at(server.port))
    assert (
        result.message
        == "the certificate of 127.0.0.1 is signed by 'Acme Root', which this machine does not trust"
    )
    assert result.hint.startswith("set ca_file to a file with the certificate of 'Acme Root'")


@pytest.mark.parametrize("name", ["Acme Root", "Other Root"])
def test_another_authority_than_that_of_ca_file_is_named(tmp_path: Path, name: str) -> None:
    """Also one that has the same name, and another key."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    other, _ = server_context(tmp_path / "there", authority=name)
    _, context = server_context(tmp_path / "here")
    with listening(silent, tls=context) as server:
        result = found(at(server.port), ca_file=other)
    assert "is signed by 'Acme Root', which neither this machine nor ca_file trusts" in result.message


@pytest.mark.parametrize(
    ("valid_days", "words"), [((-3, -2), "expired on "), ((2, 3), "is valid only from ")]
)
def test_a_certificate_out_of_date_is_an_obstacle_with_its_date(
    tmp_path: Path, valid_days: tuple[int, int], words: str
) -> None:
    authority, context = server_context(tmp_path, valid_days=valid_days)
    with listening(silent, tls=context) as server:
        result = found(at(server.port), ca_file=authority)
    day = datetime.now(UTC) + timedelta(days=2 if words == "is valid only from " else -2)
    assert result.message.startswith(f"the certificate of 127.0.0.1 {words}{day:%Y-%m-%d}")
    assert "this machine's clock" in result.hint


def test_a_certificate_for_other_names_is_an_obstacle_with_those_names(tmp_path: Path) -> None:
    names = [f"s{number}.example" for number in range(7)]
    authority, context = server_context(tmp_path, names=names)
    for url, host in (("https://127.0.0.1:{}/", "127.0.0.1"), ("https://localhost:{}/", "localhost")):
        with listening(silent, tls=context) as server:
            result = found(url.format(server.port), ca_file=authority)
        assert result.message == f"the certificate is for {', '.join(names[:5])}, …, not for {host}"


def test_what_a_certificate_says_cannot_write_to_the_screen(tmp_path: Path) -> None:
    """Its texts are a stranger's."""
    _, context = server_context(tmp_path, authority="\x1b[2JAcme\r\n")
    with listening(silent, tls=context) as server:
        assert "signed by '?[2JAcme??'" in found(at(server.port)).message


def test_old_tls_is_an_obstacle(tmp_path: Path) -> None:
    authority, context = server_context(tmp_path)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with listening(silent, tls=context) as server:
        result = found(at(server.port), ca_file=authority)
    assert result.message.endswith("speaks no TLS that is still safe")
    assert result.hint == "let the server speak TLS 1.2 or newer"


def test_a_server_that_wants_a_certificate_of_ours_is_an_obstacle(tmp_path: Path) -> None:
    authority, context = server_context(tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority)
    with listening(answering(date()), tls=context) as server:
        result = found(at(server.port), ca_file=authority)
    assert "asks for a certificate of this program" in result.message


# --- HTTP and the clock ----------------------------------------------------------------------------


def _garbage(connection: socket.socket, _over: Event) -> None:
    read_request(connection)
    connection.sendall(b"220 smtp.example ESMTP\r\n")


@pytest.mark.parametrize(
    ("handle", "words"),
    [
        (silent, "takes requests, and answers none within 1.5 s"),
        (_hang_up, "breaks off instead of answering"),
        (_garbage, "does not speak HTTP"),
    ],
)
def test_a_host_that_does_not_answer_requests_is_an_obstacle(
    tmp_path: Path, handle: Callable[[socket.socket, Event], None], words: str
) -> None:
    authority, context = server_context(tmp_path)
    with listening(handle, tls=context) as server:
        result = found(at(server.port), ca_file=authority, timeout_s=1.5)
    assert result.message.startswith(f"port {server.port} of 127.0.0.1 {words}")


@pytest.mark.parametrize(("hours", "words"), [(1, "behind"), (-1, "ahead of")])
def test_another_time_than_the_hosts_is_an_obstacle(tmp_path: Path, hours: int, words: str) -> None:
    authority, context = server_context(tmp_path)
    with listening(answering(date(timedelta(hours=hours))), tls=context) as server:
        result = found(at(server.port), ca_file=authority)
    assert result.message == f"this machine's clock is 60 minutes {words} that of 127.0.0.1"
    assert result.fix == "timedatectl set-ntp true"


def test_a_ca_file_that_cannot_be_used_is_an_obstacle(tmp_path: Path) -> None:
    result = found(at(closed_port()), ca_file=tmp_path / "missing.pem")
    assert "ca_file" in result.message
    assert "cannot be read" in result.message


def test_no_obstacle_shows_the_path_or_the_query(tmp_path: Path) -> None:
    _, context = server_context(tmp_path)
    with listening(silent, tls=context) as tls, listening(silent) as plain:
        for url, guard in ((at(tls.port), HERE), (at(plain.port), HERE), (at(1), HERE), (at(1), Guard())):
            assert "s3cret" not in repr(found(url, guard, timeout_s=0.5))


# --- behind a proxy --------------------------------------------------------------------------------


def test_a_proxy_that_refuses_is_the_obstacle_and_its_password_stays_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads: list[bytes] = []

    def refuse(connection: socket.socket, _over: Event) -> None:
        heads.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 403 Forbidden\x1b[2J\r\n\r\n")

    with listening(refuse) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:s3cret@127.0.0.1:{proxy.port}")
        result = found("https://storage.example.com/")
    assert f"proxy 127.0.0.1:{proxy.port} does not lead to storage.example.com" in result.message
    assert "403 Forbidden" in result.message
    assert result.message.isprintable()
    assert "s3cret" not in repr(result)
    assert b"CONNECT storage.example.com:443 " in heads[0]
    assert b"Proxy-Authorization: Basic bWU6czNjcmV0" in heads[0]


def test_a_proxy_that_is_not_there_is_the_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https"):
        port = closed_port()
        monkeypatch.setenv("https_proxy", f"{scheme}://127.0.0.1:{port}")
        assert f"proxy 127.0.0.1:{port} does not lead to" in found("https://storage.example.com/").message


@pytest.mark.parametrize("proxy", ["http://me:s3cret@proxy.example:port", "http://me:s3cret@[::1"])
def test_a_proxy_that_cannot_be_read_is_the_obstacle(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    result = found("https://storage.example.com/")
    assert result.message == "the proxy of the environment has no host or port that is one"
    assert "s3cret" not in repr(result)


def test_behind_a_proxy_that_tunnels_the_way_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the host's own certificate."""
    _, context = server_context(tmp_path)

    def end_itself(connection: socket.socket, over: Event) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as secured:
            silent(secured, over)

    with listening(end_itself) as proxy:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.port}")
        assert "signed by 'Acme Root'" in found("https://storage.example.com/").message
