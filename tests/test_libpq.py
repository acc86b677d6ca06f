"""A PostgreSQL server's address: it means what it means to libpq, and nothing of a password is ever shown."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from exporter import libpq
from exporter.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SECRET: Final = "hunter2"


@dataclass(frozen=True)
class Server:
    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    tls_mode: str | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@x@host/db",
        f"postgresql://user:x/{SECRET}@host/db",
        f"postgresql://user:12/{SECRET}@host/db",
        f"postgresql://user:{SECRET}/x@host:5432/db",
        f"postgresql://user:{SECRET}/db",
        f"postgresql://user:{SECRET}%zz@host/db",
        f"postgresql://user:x%{SECRET}@host/db",
        f"postgresql://user:x?y={SECRET}@host/db",
        f"postgresql://host:{SECRET}/db",
        f"postgresql://user:x@host/db?{SECRET}=1",
        f"postgresql://user:{SECRET}@host/db?no_such_setting={SECRET}",
        f"postgresql://user:{SECRET}@[::1/db",
        f"postgresql://[{SECRET}/db",
        f"postgresql://user:{SECRET}@host",
        f"postgresql:user:{SECRET}@host/db",
        f"postgres:{SECRET}",
        f"mysql://user:{SECRET}@host/db",
        f"host=localhost password={SECRET}",
        f"user={SECRET}",
        "postgresql://",
    ],
)
def test_a_wrong_url_shows_no_secret(url: str) -> None:
    """A URL that cannot be taken apart as meant is refused before anything of it is used or shown."""
    with pytest.raises(ConfigError, match=r"^source\.url is not of the form") as raised:
        libpq.parameters(Server(url), "source")
    assert SECRET not in "".join(traceback.format_exception(raised.value, chain=True))
    assert raised.value.__context__ is None
    assert "%40" in raised.value.hint
    assert "source.password" in raised.value.hint


@pytest.mark.parametrize(
    ("url", "expected", "place"),
    [
        (f"postgresql://u:{SECRET}@h/d", {"host": "h", "dbname": "d", "user": "u"}, "//h:5432/d"),
        ("postgres://u:p%40%2F@h:1,i:2/d", {"host": "h,i", "port": "1,2", "password": "p@/"}, "//h:1,i:2/d"),
        ("postgresql+psycopg://a,b:6432/d", {"host": "a,b"}, "//a:5432,b:6432/d"),
        ("postgresql://a,b/d?port=6432", {"host": "a,b"}, "//a:6432,b:6432/d"),
        ("postgresql://u@[::1]:5433/d?sslmode=require", {"host": "::1", "port": "5433"}, "//::1:5433/d"),
        ("postgresql://u@%2Frun%2Fpg/d", {"host": "/run/pg"}, "///d?host=/run/pg"),
        (
            "postgresql:///d?host=/run/pg&sslmode=disable",
            {"host": "/run/pg", "sslmode": "disable"},
            "///d?host=/run/pg",
        ),
        ("postgresql:///d", {"dbname": "d"}, "///d"),
        ("postgresql://h/a%20b?application_name=mine", {"application_name": "mine"}, "//h:5432/a b"),
    ],
)
def test_urls_of_every_form(url: str, expected: dict[str, str], place: str) -> None:
    """A URL means what it means to libpq; what is shown of it is host, port and database."""
    told = libpq.parameters(Server(url), "ledger")
    assert {name: told.get(name) for name in expected} == expected
    assert libpq.place_of(told) == f"postgresql:{place}"


def test_settings_go_before_the_url() -> None:
    """Password and TLS settings of their own replace those in the URL."""
    server = Server("postgresql://u:old@h/d?sslmode=disable", password=SECRET, tls_mode="verify-full")
    told = libpq.parameters(server, "source")
    assert (told["password"], told["sslmode"]) == (SECRET, "verify-full")


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_the_systems_authorities_are_trusted_where_none_is_named(mode: str, tmp_path: Path) -> None:
    """Whether settings or URL ask for verification; an authority that is named stays alone."""
    for server in (
        Server("postgresql://h/d", tls_mode=mode),
        Server(f"postgresql://h/d?sslmode={mode}"),
    ):
        found = libpq.parameters(server, "source")["sslrootcert"]
        assert found.endswith(".crt") or found in ("system", "cert.pem")
    named = Server(f"postgresql://h/d?sslmode={mode}", ca_file=tmp_path / "ca.pem")
    assert libpq.parameters(named, "source")["sslrootcert"] == str(tmp_path / "ca.pem")
    assert "sslrootcert" not in libpq.parameters(Server("postgresql://h/d"), "source")


def test_the_files_of_tls_reach_libpq(tmp_path: Path) -> None:
    """Authority, certificate and key by libpq's names; without settings it decides by itself."""
    files = [tmp_path / name for name in ("ca", "cert", "key")]
    told = libpq.parameters(Server("postgresql://h/d", None, "verify-ca", *files), "source")
    names = ("sslmode", "sslrootcert", "sslcert", "sslkey")
    assert [told[name] for name in names] == ["verify-ca", *map(str, files)]
    plain = libpq.parameters(Server("postgresql://h/d"), "source")
    assert not any(name in plain for name in names)
