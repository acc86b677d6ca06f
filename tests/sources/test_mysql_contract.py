"""MariaDB keeps the contract of every source, with ids, times, accounts and tables of many kinds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from exporter.columns import Roles
from exporter.sources.mysql import MysqlSource
from tests.contracts.source import CONTRACT, Bench
from tests.kit.mysql_tables import NUMBERS, Application, options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _pytest.mark import ParameterSet

ROLES = Roles(id="id", time="happened", account="account")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INDEXES = "INDEX by_time (account, happened, id), INDEX by_position (account, {position})"
OWN_POSITION = ", seq bigint AUTO_INCREMENT UNIQUE, PRIMARY KEY (id), " + INDEXES.format(position="seq")


def naive(time: datetime | None) -> object:
    return None if time is None else time.replace(tzinfo=None)


def microseconds(time: datetime | None) -> object:
    return None if time is None else (time - EPOCH) // timedelta(microseconds=1)


def seconds(time: datetime | None) -> object:
    return None if time is None else f"{(time - EPOCH) // timedelta(microseconds=1) / 1_000_000:.6f}"


def strange() -> Callable[[datetime | None], object]:
    """Unreadable times of all kinds, as lenient SQL modes let them in."""
    kinds = itertools.cycle(["0000-00-00", None, "2026-11-00", "2026-00-19 23:59:59", "2026-02-31 00:00:00"])
    return lambda time: next(kinds) if time is None else naive(time)


@dataclass(frozen=True)
class Variant:
    """How a table is declared, and what goes into it."""

    id: str = "bigint unsigned AUTO_INCREMENT"
    time: str = "datetime(6)"
    account: str = "varchar(50) COLLATE utf8mb4_general_ci"
    more: str = ", PRIMARY KEY (id), " + INDEXES.format(position="id")
    store: Callable[[datetime | None], object] = naive
    new_id: Callable[[int], object] | None = None
    unit: str | None = None
    origin: str = "table"
    user: str = "watcher"


VARIANTS = {
    "select only": Variant(store=strange(), user="reader"),
    "process": Variant(time="timestamp(6) NULL", account="varchar(50) CHARACTER SET ucs2"),
    "uuids": Variant(
        id="uuid",
        new_id=lambda number: str(UUID(int=number << 64)),
        more=OWN_POSITION,
        time="bigint",
        unit="us",
        store=microseconds,
    ),
    "texts": Variant(
        id="varchar(40) COLLATE utf8mb4_general_ci",
        new_id=lambda number: f"É-{number:06}",
        more=OWN_POSITION,
        time="decimal(20, 6)",
        unit="s",
        store=seconds,
    ),
    "ascii": Variant(
        id="char(20) COLLATE ascii_bin",
        new_id=lambda number: f"id-{number:06}",
        more=OWN_POSITION,
        time="double",
        unit="s",
        store=seconds,
    ),
    "binary": Variant(
        id="binary(16)",
        new_id=lambda number: number.to_bytes(16, "big"),
        more=OWN_POSITION,
        account="varbinary(200)",
    ),
    "partitions": Variant(more=", PRIMARY KEY (id)) PARTITION BY HASH (id) PARTITIONS 3 -- "),
    "view": Variant(origin="view"),
    "query": Variant(origin="query", store=strange()),
}


class MysqlBench:
    """A table of its own, in a database that all benches of this process share."""

    def __init__(self, variant: Variant, table: str) -> None:
        self._variant = variant
        self._table = table
        declared = f"id {variant.id}, happened {variant.time}, account {variant.account}, note text"
        application().execute(f"CREATE TABLE {table} ({declared}{variant.more})")
        if variant.origin == "view":
            application().execute(
                f"CREATE VIEW seen_{table} AS SELECT * FROM {table} WHERE account <> 'hidden'"
            )
        given: dict[str, dict[str, Any]] = {
            "table": {"table": table},
            "view": {"table": f"seen_{table}"},
            "query": {"query": f"SELECT r.*, 1 AS one FROM {table} AS r WHERE r.account <> 'hidden' ; "},
        }
        self.source = MysqlSource(
            options(variant.user),
            roles=ROLES,
            commit="seq" if variant.more is OWN_POSITION else None,
            time_unit=variant.unit,
            block_rows=3,
            **given[variant.origin],
        )

    def insert(self, account: str, time: datetime | None, note: str = "") -> str:
        row = {"happened": self._variant.store(time), "account": account, "note": note}
        made = self._variant.new_id(next(NUMBERS)) if self._variant.new_id else None
        if made is not None:
            row["id"] = made
        places = ", ".join(["%s"] * len(row))
        application().execute(
            f"INSERT INTO {self._table} ({', '.join(row)}) VALUES ({places})", *row.values()
        )
        if made is None:
            return str(application().one("SELECT LAST_INSERT_ID()"))
        return made.hex() if isinstance(made, bytes) else str(made)


@cache
def application() -> Application:
    """One that inserts what strict ones would not."""
    made = Application()
    made.execute("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
    return made


@pytest.fixture(params=VARIANTS)
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[], Bench]]:
    benches: list[MysqlBench] = []

    def bench() -> Bench:
        benches.append(MysqlBench(VARIANTS[request.param], f"records_{next(NUMBERS)}"))
        return benches[-1]

    yield bench
    for one in benches:
        one.source.close()


def _promised(promise: Callable[[Callable[[], Bench]], None]) -> ParameterSet:
    """A promise by its name; one asks for so many ranges that it takes seconds."""
    name = promise.__name__.removeprefix("test_")
    is_slow = name == "many_ranges_at_once_are_what_each_is_alone"
    return pytest.param(promise, id=name, marks=[pytest.mark.slow] if is_slow else [])


@pytest.mark.parametrize("promise", [_promised(promise) for promise in CONTRACT])
def test_contract(promise: Callable[[Callable[[], Bench]], None], make: Callable[[], Bench]) -> None:
    """MariaDB keeps every promise of the contract."""
    promise(make)
