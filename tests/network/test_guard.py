"""The guard: no spelling of an address leads a customer's export inside, unless the operator says so."""

from __future__ import annotations

import socket
import urllib.request
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from exporter.errors import ConfigError, NotSent
from exporter.network.addresses import Place, place_of
from exporter.network.guard import Guard, origin_of, proxy_for, read_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PUBLIC = "93.184.215.14"
PUBLIC_6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are not about the proxies of the machine they run on."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def leading_to(*addresses: str) -> Callable[[str, int], Sequence[str]]:
    """A resolver that has these addresses for every name."""
    return lambda _host, _port: addresses


def knowing(*addresses: str, allowed: Sequence[str] = ()) -> Guard:
    return Guard(allowed, resolver=leading_to(*addresses))


# --- literal addresses -----------------------------------------------------------------------------

INSIDE = {
    "127.0.0.1": Place.HERE,
    "127.255.255.254": Place.HERE,
    "0.0.0.0": Place.HERE,
    "::1": Place.HERE,
    "::": Place.HERE,
    "::ffff:127.0.0.1": Place.HERE,
    "64:ff9b::7f00:1": Place.HERE,
    "2002:7f00:1::": Place.HERE,
    "169.254.169.254": Place.LINK,
    "::ffff:169.254.169.254": Place.LINK,
    "64:ff9b::a9fe:a9fe": Place.LINK,
    "2002:a9fe:a9fe::1": Place.LINK,
    "fe80::1": Place.LINK,
    "168.63.129.16": Place.PLATFORM,
    "100.100.100.200": Place.PLATFORM,
    "192.0.0.192": Place.PLATFORM,
    "fd00:ec2::254": Place.PLATFORM,
    "10.0.0.1": Place.PRIVATE,
    "172.31.255.255": Place.PRIVATE,
    "192.168.1.1": Place.PRIVATE,
    "100.64.0.1": Place.PRIVATE,
    "::ffff:10.0.0.1": Place.PRIVATE,
    "fd12:3456::1": Place.PRIVATE,
    "fec0::1": Place.PRIVATE,
    "224.0.0.1": Place.NOWHERE,
    "255.255.255.255": Place.NOWHERE,
    "240.0.0.1": Place.NOWHERE,
    "192.0.2.1": Place.NOWHERE,
    "198.18.0.1": Place.NOWHERE,
    "192.88.99.1": Place.NOWHERE,
    "ff02::1": Place.NOWHERE,
    "2001:db8::1": Place.NOWHERE,
    "2001:0:4136:e378:8000:63bf:80ff:fffe": Place.NOWHERE,
    "::127.0.0.1": Place.NOWHERE,
    "64:ff9b:1::a00:1": Place.NOWHERE,
    "3fff::1": Place.NOWHERE,
    "5f00::1": Place.NOWHERE,
}


@pytest.mark.parametrize(("address", "place"), INSIDE.items())
def test_every_special_address_is_known_for_what_it_is(address: str, place: Place) -> None:
    """Also those that carry an IPv4 address inside."""
    assert place_of(ip_address(address)) is place


@pytest.mark.parametrize(
    "address", [PUBLIC, PUBLIC_6, "8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert place_of(ip_address(address)) is Place.PUBLIC


def hint_for(address: str, shown: str) -> str:
    """Nobody is told to open the way to a cloud's credentials."""
    if place_of(ip_address(address)) in {Place.LINK, Place.PLATFORM}:
        return "name the host itself"
    return f"allow it by name: network: {{allow: [{shown}]}}"


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_of_the_inside_is_refused_when_it_is_written_and_when_it_is_used(address: str) -> None:
    url = f"https://[{address}]/x" if ":" in address else f"https://{address}/x"
    with pytest.raises(ConfigError, match="endpoint_url must not be used") as caught:
        Guard().inspect(url, "endpoint_url")
    assert caught.value.hint.startswith(hint_for(address, shown="").removesuffix("]}"))
    with pytest.raises(NotSent, match="must not be used"):
        Guard().addresses(url)


@pytest.mark.parametrize("address", INSIDE)
def test_a_name_that_leads_inside_is_refused_with_where_it_leads(address: str) -> None:
    with pytest.raises(NotSent) as caught:
        knowing(address).addresses("https://storage.example.com/")
    assert f"storage.example.com leads to {ip_address(address)}" in caught.value.message
    assert caught.value.hint.startswith(hint_for(address, shown="storage.example.com"))


# ruff: noqa: RUF001 - letters that look like others are what some of these are about
@pytest.mark.parametrize(
    "host",
    [
        *(
            "2130706433",
            "0x7f000001",
            "0x7F.1",
            "017700000001",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "10.1",
            "0",
        ),
        *("127.0.0.01", "0x7f.0.0.1", "127.0.0.0x1", "127.0.0.1.", "3232235777", "0x", "[127.0.0.1]"),
        *("[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[0000::1]", "[::FFFF:127.0.0.1]", "[::]"),
        *("[fe80::1%25eth0]", "[::1%1]", "%31%32%37.0.0.1", "127。0。0。1", "１２７.0.0.1", "①②⑦.0.0.1"),
        *("localhoſt", "\u212aafka.example", "127.0.0.1\t", "127.0.0.1 ", " 127.0.0.1", "127.0.0.1\n"),
        *("127.0.0.1\x00.a.example", "127.0.0.1\\@a.example", "127.0.0.1#@a.example", "a..b", "", "."),
        *("127.0.0.1\\.a.example", "a.example\\@127.0.0.1", "127.0.0.1;a.example", "a.example@127.0.0.1"),
    ],
)
def test_no_odd_spelling_gets_through(host: str) -> None:
    """Whatever a C library or a lenient parser reads out of it: nobody is asked where it leads."""
    for url in (f"https://{host}/x", f"HTTPS://{host}:443/x", f"https://{host}"):
        with pytest.raises(NotSent):
            knowing(PUBLIC).addresses(url)


@given(
    st.one_of(
        st.ip_addresses(v=4), st.ip_addresses(v=6), st.sampled_from(sorted(map(ip_address, INSIDE), key=str))
    ),
    st.integers(min_value=0, max_value=20),
)
def test_no_spelling_of_a_private_address_passes_and_public_ones_do(
    address: IPv4Address | IPv6Address, choice: int
) -> None:
    """All that the C library reads as an address, in the place of a host."""
    spellings = _spellings(address)
    host = spellings[choice % len(spellings)]
    try:
        found = Guard(resolver=_of_the_c_library).addresses(f"https://{host}/")
    except NotSent:
        assert place_of(address) is not Place.PUBLIC or host != spellings[0]
    else:
        assert place_of(address) is Place.PUBLIC
        assert [_unmapped(one) for one in found] == [_unmapped(str(address))]


def _unmapped(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _spellings(address: IPv4Address | IPv6Address) -> list[str]:
    """The usual one first."""
    if isinstance(address, IPv6Address):
        return [f"[{address}]", f"[{address.exploded}]", f"[{address.exploded.upper()}]", str(address)]
    number = int(address)
    a, b, c, d = address.packed
    return [
        str(address),
        *(str(number), hex(number), f"0{number:o}", f"{address}.", hex(number).upper().replace("0X", "0x")),
        *(f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{number & 0xFFFF}", f"0x{a:x}.{b}.{c}.{d}"),
        *(f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"0x{a:02X}.0x{b:02x}.{c}.0{d:o}", f"[::ffff:{address}]"),
    ]


def _of_the_c_library(host: str, port: int) -> Sequence[str]:
    """What this machine's C library makes of an address, without asking the DNS."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return [str(one[4][0]) for one in found]


@given(st.ip_addresses())
def test_only_what_the_library_calls_global_is_public(address: IPv4Address | IPv6Address) -> None:
    """We are stricter than Python, never laxer."""
    assume(isinstance(address, IPv4Address) or not (address.ipv4_mapped or address.sixtofour))
    if place_of(address) is Place.PUBLIC and not str(address).startswith("64:ff9b:"):
        assert address.is_global
        assert not any((address.is_multicast, address.is_private, address.is_reserved))


# --- what an address may look like -----------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://storage.example.com",
        "https://storage.example.com./",
        "https://storage.example.com:8443/bucket?a=b&c=d@e",
        "https://minio_1.example.com/",
        f"https://{PUBLIC}:9000/",
        f"https://[{PUBLIC_6}]/",
        "HTTPS://STORAGE.EXAMPLE.COM/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_plain_https_addresses_pass(url: str) -> None:
    Guard().inspect(url, "endpoint_url")
    assert knowing(PUBLIC).addresses(url) in ([PUBLIC], [PUBLIC_6], (PUBLIC,))


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "storage.example.com",
            "//storage.example.com/",
            "ftp://storage.example.com/",
            "file:///etc/passwd",
        ),
        *("https:///path", "https://storage.example.com:0/", "https://storage.example.com:65536/"),
        *("https://storage.example.com:/", "https://storage.example.com:٤٤٣/", "https:/storage.example.com/"),
        *(
            "https://storage.example.com/a b",
            "https://storage.example.com/\r\nHost: x",
            "https://a.example/#b",
        ),
        *("https://storage.example.com?x=1", "https://-a.example/", f"https://{'a' * 64}.example/"),
        *(
            f"https://{'a.' * 130}example/",
            "https://bücher.example/",
            "https://a.example\\b/",
            "http+unix://x/",
        ),
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^endpoint_url "):
        Guard(["*.example", "*.example.com"]).inspect(url, "endpoint_url")


@pytest.mark.parametrize(
    "url", ["https://me:s3cret@a.example/", "https://s3cret@a.example", "https://:s3cret@a/"]
)
def test_an_address_with_a_password_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="user or a password") as caught:
        Guard().inspect(url, "endpoint_url")
    assert "s3cret" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize(
    "url", ["http://a.example/s3cret", "https://10.0.0.1/s3cret?sig=s3cret", "https://a b/s3cret"]
)
def test_paths_and_queries_are_never_shown(url: str) -> None:
    """Webhooks and signatures have their secrets there."""
    with pytest.raises(ConfigError) as caught:
        Guard().inspect(url, "endpoint_url")
    assert "s3cret" not in f"{caught.value.message}{caught.value.hint}"


def test_http_is_refused_and_the_hint_says_how_to_have_it() -> None:
    with pytest.raises(ConfigError, match=r"endpoint_url is not https: minio\.example") as caught:
        Guard().inspect("http://minio.example:9000/", "endpoint_url")
    assert caught.value.hint == "write https://, or allow it by name: network: {allow: [minio.example]}"


# --- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["10.0.0.5", "::1"])
def test_one_private_address_among_public_ones_is_one_too_many(inside: str) -> None:
    """Which one a library would choose is nothing to rely on."""
    for addresses in ((PUBLIC, inside), (inside, PUBLIC), (PUBLIC, PUBLIC_6, inside)):
        with pytest.raises(NotSent, match=inside):
            knowing(*addresses).addresses("https://storage.example.com/")


def test_all_addresses_of_a_fit_host_come_back_in_their_order() -> None:
    assert list(knowing(PUBLIC_6, PUBLIC).addresses("https://storage.example.com/")) == [PUBLIC_6, PUBLIC]


def test_a_name_that_is_not_known_says_so() -> None:
    def nobody(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(NotSent, match=r"storage\.example\.com cannot be found: Name or service") as caught:
        Guard(resolver=nobody).addresses("https://storage.example.com/")
    assert "DNS" in caught.value.hint


def test_a_name_without_addresses_says_so() -> None:
    with pytest.raises(NotSent, match="has no address"):
        knowing().addresses("https://storage.example.com/")


def test_localhost_is_judged_by_what_this_machine_makes_of_it() -> None:
    """With the real resolver."""
    with pytest.raises(NotSent, match=r"localhost leads to .*, which is this machine itself"):
        Guard().addresses("https://localhost/")


# --- what the operator allows ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("minio.example", "https://minio.example:9000/"),
        ("minio.example", "http://MINIO.example./"),
        ("MINIO.example.", "http://minio.example/"),
        ("minio.example:9000", "http://minio.example:9000/"),
        ("minio.example:443", "https://minio.example/"),
        ("minio.example:80", "http://minio.example/"),
        ("*.example", "http://minio.example/"),
        ("*.example:9000", "http://a.b.example:9000/"),
        ("10.0.0.5", "http://10.0.0.5:9000/"),
        ("10.0.0.5:9000", "http://10.0.0.5:9000/"),
        ("[fd00::5]", "http://[fd00:0:0::5]:9000/"),
        ("[fd00:0::5]:9000", "http://[fd00::5]:9000/"),
    ],
)
def test_an_allowed_host_may_be_private_and_in_the_clear(allowed: str, url: str) -> None:
    guard = knowing("10.0.0.5", allowed=[allowed])
    guard.inspect(url, "endpoint_url")
    assert list(guard.addresses(url)) in (["10.0.0.5"], ["fd00::5"])


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("minio.example", "http://evil-minio.example/"),
        ("minio.example", "http://minio.example.evil.example/"),
        ("minio.example", "http://a.minio.example/"),
        ("minio.example:9000", "http://minio.example:9001/"),
        ("minio.example:9000", "http://minio.example/"),
        ("*.example", "http://example/"),
        ("*.minio.example", "http://evil-minio.example/"),
        ("*.example:9000", "http://a.example:90/"),
        ("10.0.0.5", "http://10.0.0.50/"),
        ("10.0.0.5", "http://minio.example/"),
        ("[fd00::5]", "http://[fd00::6]/"),
    ],
)
def test_what_is_allowed_is_allowed_alone(allowed: str, url: str) -> None:
    """Neither another host, nor another port, nor another name of the same address."""
    with pytest.raises(ConfigError):
        Guard([allowed]).inspect(url, "endpoint_url")
    with pytest.raises(NotSent):
        knowing("10.0.0.5", allowed=[allowed]).addresses(url.replace("http:", "https:"))


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "168.63.129.16", "0.0.0.0", "::1"])
def test_a_domain_does_not_open_this_machine_and_its_metadata(address: str) -> None:
    """Whoever may add a name to the domain is not whom the operator meant to trust with those."""
    with pytest.raises(NotSent, match="must not be used"):
        knowing(address, allowed=["*.example"]).addresses("https://minio.example/")
    assert list(knowing(address, allowed=["minio.example"]).addresses("https://minio.example/")) == [address]


@pytest.mark.parametrize(
    ("allowed", "named"),
    [
        ("store.example.com", True),
        ("store.example.com:443", True),
        ("store.example.com:9000", False),
        ("*.example.com", False),
    ],
)
def test_a_host_of_an_allowed_domain_is_not_named_by_it(allowed: str, *, named: bool) -> None:
    """Whoever may add a name to the domain must not be handed what is meant for one host."""
    assert Guard([allowed]).is_named("https://store.example.com/") is named


def test_further_hosts_are_allowed_beside_those_of_the_operator() -> None:
    guard = knowing("10.0.0.5", allowed=["a.example"])
    wider = guard.allowing("b.example", "*.c.example")
    for host in ("a.example", "b.example", "x.c.example"):
        assert list(wider.addresses(f"https://{host}/")) == ["10.0.0.5"]
    with pytest.raises(NotSent):
        guard.addresses("https://b.example/")


def test_what_the_program_knows_itself_may_be_private_and_is_never_spoken_to_in_the_clear() -> None:
    """A customer would choose http by writing it so, and a signature would be for everybody to read."""
    guard = knowing("10.0.0.5", allowed=["a.example"]).allowing("*.c.example")
    with pytest.raises(ConfigError, match=r"not https: x\.c\.example"):
        guard.inspect("http://x.c.example/", "account_url")
    with pytest.raises(NotSent, match="not https"):
        guard.addresses("http://x.c.example/")
    assert list(guard.addresses("http://a.example/")) == ["10.0.0.5"], "what the operator allows"
    both = knowing("10.0.0.5", allowed=["x.c.example"]).allowing("*.c.example")
    assert list(both.addresses("http://x.c.example/")) == ["10.0.0.5"], "in the operator's own words"
    metadata = Guard().allowing("169.254.169.254", in_clear=True)
    assert list(metadata.addresses("http://169.254.169.254/")) == ["169.254.169.254"]


@pytest.mark.parametrize("host", ["", "*", "a b", "https://a.example", "127.1", "a/b", "10.0.0.0/8"])
def test_what_is_no_host_cannot_be_allowed(host: str) -> None:
    with pytest.raises(ConfigError, match=r"network\.allow"):
        Guard([host])


# --- behind a proxy of the operator ----------------------------------------------------------------


@pytest.fixture
def _proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "direct.example,.corp.example")


@pytest.mark.usefixtures("_proxy")
def test_behind_a_proxy_a_name_that_leads_inside_from_here_is_refused() -> None:
    """The proxy would most likely find it there as well."""
    with pytest.raises(NotSent, match=r"storage\.example\.com leads to 10\.0\.0\.5"):
        knowing(PUBLIC, "10.0.0.5").addresses("https://storage.example.com/")
    assert list(knowing(PUBLIC).addresses("https://storage.example.com/")) == []
    assert list(knowing("10.0.0.5", allowed=["*.example.com"]).addresses("https://a.example.com/")) == []


@pytest.mark.usefixtures("_proxy")
def test_behind_a_proxy_a_name_that_nobody_here_knows_is_the_proxys_and_is_asked_for_once() -> None:
    """Where a proxy is the only way out, the DNS of this machine may take seconds to say no."""
    asked: list[str] = []

    def nobody(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    guard = Guard(["named.example.com"], resolver=nobody)
    for _ in range(3):
        assert list(guard.addresses("https://storage.example.com/")) == []
        assert list(guard.addresses("https://named.example.com/")) == []
    assert asked == ["storage.example.com"]


@pytest.mark.usefixtures("_proxy")
def test_behind_a_proxy_hosts_without_it_are_still_resolved() -> None:
    for host in ("direct.example", "a.corp.example"):
        with pytest.raises(NotSent, match=r"10\.0\.0\.5"):
            knowing("10.0.0.5").addresses(f"https://{host}/")


@pytest.mark.usefixtures("_proxy")
@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.5", "[::1]", "localhost", "a.localhost", "metadata.google.internal", "minio", "nas.local."),
        *(
            "minio.storage.svc",
            "minio.storage.svc.cluster.local",
            "vault.service.consul",
            "nas.corp",
            "a.home",
        ),
        *(
            "nas.lan",
            "git.intranet",
            "db.private",
            "x.test",
            "x.example",
            "x.invalid",
            "x.onion",
            "x.home.arpa",
        ),
    ],
)
def test_behind_a_proxy_what_is_inside_by_its_spelling_is_refused(host: str) -> None:
    """The proxy would find its own inside under such a name."""
    with pytest.raises(NotSent, match="must not be used"):
        Guard().addresses(f"https://{host}/")
    assert list(Guard([host.removesuffix(".")]).addresses(f"https://{host}/")) == []


@pytest.mark.usefixtures("_proxy")
def test_the_proxy_is_that_of_the_scheme() -> None:
    assert proxy_for("https://a.example/") == "http://proxy.example:3128"
    assert proxy_for("http://a.example/") is None
    assert proxy_for("https://direct.example:8443/") is None


@pytest.mark.usefixtures("_proxy")
def test_the_environment_is_looked_through_once_for_each_host(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    getproxies = urllib.request.getproxies

    def looking() -> dict[str, str]:
        looks.append("")
        return getproxies()

    monkeypatch.setattr(urllib.request, "getproxies", looking)
    guard = knowing(PUBLIC)
    for number in range(5):
        assert guard.proxy_for(f"https://a.example.com/{number}") == "http://proxy.example:3128"
        assert guard.proxy_for(f"https://direct.example/{number}?x=https://a.example.com/") is None
        assert list(guard.addresses(f"https://b.example.com/{number}")) == []
    assert len(looks) == 3


def test_a_name_is_resolved_anew_each_time() -> None:
    """It may lead inside by now, whatever it led to before."""
    found = iter([[PUBLIC], ["10.0.0.5"]])
    guard = Guard(resolver=lambda _host, _port: next(found))
    assert list(guard.addresses("https://storage.example.com/")) == [PUBLIC]
    with pytest.raises(NotSent, match=r"10\.0\.0\.5"):
        guard.addresses("https://storage.example.com/")


@given(
    st.sampled_from(["https", "HTTP"]),
    st.sampled_from(["a.example.com", "A-b_c.example.", "93.184.215.14", "[2606:2800:21f::1]"]),
    st.sampled_from(["", ":1", ":8443"]),
    st.sampled_from(["", "/"]),
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"], exclude_characters="\\#")),
)
def test_an_origin_is_the_address_of_the_same_host(
    scheme: str, host: str, port: str, slash: str, path: str
) -> None:
    url = f"{scheme}://{host}{port}{slash}{path if slash else ''}"
    assert read_target(origin_of(url), "it") == read_target(url, "it")


@pytest.mark.parametrize(
    "host", ["good.example@10.0.0.5", "good.example\\@10.0.0.5", "10.0.0.5#.good.example"]
)
def test_an_origin_is_no_better_than_its_address(host: str) -> None:
    for url in (f"https://{host}/path", origin_of(f"https://{host}/path")):
        with pytest.raises(NotSent, match=r"the address|10\.0\.0\.5|good"):
            knowing("10.0.0.5").addresses(url)
