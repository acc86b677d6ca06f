"""Where a benchmark happens: a folder, a PostgreSQL and a SQLite file, each filled when first asked for."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final, Self

import pytest

from tests.bench import data
from tests.kit.postgres import postgres_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.postgres import Postgres

SHARED_BUFFERS: Final = "512MB"
HOW_TO_INSTALL: Final = {
    "psql": "apt-get install postgresql-client",
    "igzip": "apt-get install isal",
    "gzip": "apt-get install gzip",
    "zip": "apt-get install zip",
    "sqlite3": "apt-get install sqlite3",
}
PLAIN_FIELDS: Final = ", ".join(
    name for name in data.COLUMNS if name not in {"id", "created_at", "account_id"}
)
LARGE: Final = "audit_large"
MANY: Final = "audit_many"
EACH_OF_MANY: Final = 50
LAST: Final = data.END - timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is: 1 is one account with a million records, and 2,000 with 500 each."""

    factor: float

    @property
    def big(self) -> int:
        """Records of the one account that has many."""
        return max(1_000, round(1_000_000 * self.factor))

    @property
    def accounts(self) -> int:
        """Accounts with few records."""
        return max(20, round(2_000 * self.factor))

    @property
    def each(self) -> int:
        """Records of each of those."""
        return 500


class World:
    """The databases and the peers' programs; everything ends with the context."""

    def __init__(self, folder: Path, sizes: Sizes, peers: Path) -> None:
        self.folder = folder
        self.sizes = sizes
        self.python_of_peers = peers / "bin" / "python"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def postgres(self) -> Postgres:
        """With the settings that a user finds, but for shared_buffers and what makes it start quickly."""
        try:
            server = self._stack.enter_context(postgres_server(shared_buffers=SHARED_BUFFERS))
        except pytest.skip.Exception as missing:
            raise SystemExit(str(missing)) from None
        _say(f"filling PostgreSQL {server.version} with {self._size()}")
        with server.connect() as connection:
            data.fill_postgres(connection, self._records())
        return server

    @property
    def url(self) -> str:
        """Of the PostgreSQL."""
        return self.postgres.url("postgres")

    @cached_property
    def postmaster(self) -> int:
        """The process id of the PostgreSQL."""
        return int((self.postgres.data / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])

    @cached_property
    def sqlite(self) -> Path:
        """The same records in a file."""
        _say(f"filling SQLite {sqlite3.sqlite_version} with {self._size()}")
        path = self.folder / "audit.db"
        data.fill_sqlite(path, self._records())
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path

    def _records(self) -> Iterator[data.Row]:
        return data.all_records(self.sizes.big, self.sizes.accounts, self.sizes.each)

    def _size(self) -> str:
        return f"{self.sizes.big + self.sizes.accounts * self.sizes.each:,} records"

    @cached_property
    def large(self) -> dict[int, str]:
        """Accounts of the table ``LARGE`` by how many records they have: up to ten times the large one's."""
        big = self.sizes.big
        names = {count: f"large-{count}" for count in (big // 100, big // 10, big, big * 10)}
        server = self.postgres
        _say(f"filling PostgreSQL with {sum(names):,} more")
        with server.connect() as connection:
            connection.execute(f"CREATE TABLE {LARGE} (LIKE audit_log INCLUDING DEFAULTS)")
            for place, (count, name) in enumerate(names.items()):
                copies = max(1, count // big)
                connection.execute(
                    f"INSERT INTO {LARGE} (id, created_at, account_id, {PLAIN_FIELDS})"
                    f" SELECT (id * 10 + copy) * 4 + {place},"
                    f" least(created_at + copy * '1 us'::interval, '{LAST}'),"
                    f" '{name}', {PLAIN_FIELDS}"
                    f" FROM audit_log, generate_series(0, {copies - 1}) copy WHERE id <= {count // copies}"
                )
        self._index(LARGE)
        return names

    @cached_property
    def many(self) -> list[str]:
        """Accounts of the table ``MANY``: ten times as many, with a tenth of the records each."""
        names = [data.small_account(number) for number in range(self.sizes.accounts * 10)]
        server = self.postgres
        _say(f"filling PostgreSQL with {len(names):,} accounts")
        with server.connect() as connection:
            connection.execute(f"CREATE TABLE {MANY} (LIKE audit_log INCLUDING DEFAULTS)")
            connection.execute(
                f"INSERT INTO {MANY} (id, created_at, account_id, {PLAIN_FIELDS})"
                f" SELECT number, timestamptz '{data.START}' + number % {EACH_OF_MANY} * interval '1 min',"
                f" format('account-%s', lpad((number / {EACH_OF_MANY})::text, 5, '0')), {PLAIN_FIELDS}"
                f" FROM generate_series(0, {len(names) * EACH_OF_MANY - 1}) number"
                f" JOIN audit_log ON id = 1 + number % {self.sizes.big}"
            )
        self._index(MANY)
        return names

    def _index(self, table: str) -> None:
        with self.postgres.connect() as connection:
            connection.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (id)")
            connection.execute(f"CREATE INDEX ON {table} (account_id, created_at, id)")
            connection.execute(f"CREATE INDEX ON {table} (account_id, export_xid)")
            connection.execute(f"VACUUM ANALYZE {table}")

    def small_accounts(self) -> list[str]:
        """The names of the accounts with few records."""
        return [data.small_account(number) for number in range(self.sizes.accounts)]


def program(name: str) -> str:
    """Where a peer's program is. Raises SystemExit with how to install it."""
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"the benchmark needs {name}, and this machine has none: {HOW_TO_INSTALL[name]}")
    return found


def sling(world: World) -> str:
    """Where sling's program is, in the wheel that brings it. Raises SystemExit with how to install it."""
    found = sorted(world.python_of_peers.parent.parent.glob("lib/python*/site-packages/sling_*/bin/sling-*"))
    if not found:
        raise SystemExit(f"{_no_peers(world)} (there is a sling for Linux and for macOS on ARM)")
    found[0].chmod(0o755)
    return str(found[0])


def python_of_peers(world: World) -> str:
    """The Python that has the peers' packages. Raises SystemExit with how to install it."""
    if not world.python_of_peers.exists():
        raise SystemExit(_no_peers(world))
    return str(world.python_of_peers)


def _no_peers(world: World) -> str:
    where = world.python_of_peers.parent.parent
    return (
        f"the peers' packages are not in {where}: `make bench` installs them (tests/bench/requirements.lock)"
    )


def _say(what: str) -> None:
    print(f"  {what} …", file=sys.stderr, flush=True)
