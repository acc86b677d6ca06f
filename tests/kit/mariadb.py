"""Real MariaDB servers for tests, from the machine's own programs.

`root` needs no password on loopback; everybody else is really asked for one.
"""

from __future__ import annotations

import atexit
import os
import shutil
from contextlib import contextmanager
from functools import cache
from itertools import count
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pymysql
import pytest

from tests.kit.processes import (
    HOST,
    Server,
    free_port,
    new_folder,
    new_server_certificate,
    run_tool,
    service_user,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymysql.connections import Connection

MISSING: Final = (
    "MariaDB is not installed: apt-get install mariadb-server (Debian, Ubuntu) or brew install mariadb"
)
SIGNALS: Final = {"fast": SIGTERM, "immediate": SIGKILL}
SETTINGS: Final = {
    "innodb_flush_log_at_trx_commit": "2",
    "innodb_buffer_pool_size": "64M",
    "innodb_log_file_size": "32M",
    "max_connections": "300",
}
# Anonymous users of the installation would be taken for `user@%` on loopback, and need no password.
AT_START: Final = "DELETE FROM mysql.global_priv WHERE User = '';\nFLUSH PRIVILEGES;\n"

_NUMBERS: Final = count(1)


class MariaDb:
    """A running MariaDB: everything allowed, through `connect`."""

    host: Final = HOST

    def __init__(self, folder: Path, user: str, settings: dict[str, str], certificate: Path | None) -> None:
        self.port = free_port()
        self.certificate = certificate
        """What a client of a server with TLS has to trust: a file."""
        places = {
            "datadir": f"{folder / 'data'}",
            "tmpdir": f"{folder}",
            "socket": f"{folder / 'socket'}",
            "pid_file": f"{folder / 'pid'}",
            "init_file": f"{folder / 'start.sql'}",
            "bind_address": HOST,
            "port": str(self.port),
        }
        options = [f"--{name}={value}" for name, value in {**places, **settings}.items()]
        self._server = Server([_program("mariadbd"), "--no-defaults", *options], folder, user, SIGKILL)

    def url(self, database: str, user: str = "root", password: str = "") -> str:
        """The address of a database, for people and configurations."""
        secret = f":{quote(password, safe='')}" if password else ""
        return f"mysql://{quote(user, safe='')}{secret}@{self.host}:{self.port}/{quote(database, safe='')}"

    def connect(self, database: str = "mysql", **how: Any) -> Connection[Any]:  # noqa: ANN401 - pymysql's own
        """A connection as root, without a transaction unless `autocommit` says otherwise."""
        place = {"host": self.host, "port": self.port, "database": database, "user": "root"}
        return pymysql.connect(**{**place, "autocommit": True, **how})

    def new_database(self) -> str:
        """An empty database that no other test has."""
        name = f"test_{next(_NUMBERS)}"
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        return name

    def start(self) -> None:
        """Starts it where it was before; returns once it answers."""
        self._server.start(self._answers)

    def stop(self, mode: str = "fast") -> None:
        """Ends it: `fast` (a clean end) or `immediate` (as in a crash)."""
        self._server.stop(SIGNALS[mode])

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        self._server.remove()

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True


def require_mariadb() -> None:
    """Leave the test out where MariaDB is not installed."""
    _program("mariadb-install-db")


@contextmanager
def mariadb_server(*, tls: bool = False, **settings: str) -> Iterator[MariaDb]:
    """A server of one's own; settings are the server's options, with underscores."""
    install = _program("mariadb-install-db")
    user = service_user("mysql")
    folder = new_folder(user)
    certificate, key = new_server_certificate(folder, user) if tls else (None, None)
    of_tls = {"ssl_cert": f"{certificate}", "ssl_key": f"{key}"} if tls else {}
    server = MariaDb(folder, user, SETTINGS | of_tls | settings, certificate)
    try:
        of_root = ["--auth-root-authentication-method=normal", "--skip-test-db", "--force"]
        # In a shared /tmp, another server that starts would remove this one's temporary tables.
        places = [f"--datadir={folder / 'data'}", f"--tmpdir={folder}"]
        small = f"--innodb-log-file-size={SETTINGS['innodb_log_file_size']}"
        run_tool([install, "--no-defaults", *of_root, *places, small], folder, user)
        (folder / "start.sql").write_text(AT_START, encoding="utf-8")
        server.start()
        yield server
    finally:
        server.remove()


@cache
def shared_mariadb() -> MariaDb:
    """One server for all tests of this process; every test takes databases of its own."""
    server = mariadb_server()
    mariadb = server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return mariadb


def _program(name: str) -> str:
    """Where it is; Debian keeps servers in a folder that is on the superuser's path alone."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin")
    return found or pytest.skip(MISSING)
