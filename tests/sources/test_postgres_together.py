"""Many accounts' windows read by one ordered scan: with which statements, for which accounts, and its end."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from exporter.model import Branch, Range
from exporter.sources.postgres import together
from exporter.sources.postgres.connection import Session
from exporter.sources.postgres.copy import CopyBlock, CopyColumn, CopyLayout, Kind
from tests.contracts import source as contract
from tests.contracts.source import at, ids, read, read_all, window
from tests.kit.postgres_bench import COUNTED, INDEXES, ROLES, TABLE, PostgresBench, Variant, plan_of
from tests.kit.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from exporter.model import Seal

MANY: Final = Variant(block_rows=2000)
ACCOUNTS: Final = [f"account {number}" for number in range(12)]


@pytest.fixture(name="new_bench")
def _new_bench() -> Iterator[Callable[..., PostgresBench]]:
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(closing(PostgresBench(*arguments)))


@pytest.fixture(name="copies")
def _copies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that records are read with."""
    statements: list[str] = []
    copy = Session.copy

    def noted(session: Session, select: Any, *rest: Any) -> Generator[list[bytes], None, None]:  # noqa: ANN401 - whatever copy takes
        statements.append(select.as_string(session.connection))
        return copy(session, select, *rest)

    monkeypatch.setattr(Session, "copy", noted)
    return statements


def fill(bench: PostgresBench, *, late: int = 0) -> tuple[Seal, list[Range]]:
    """Three records on time for each account, some late ones for the fifth; and their windows."""
    begin = bench.source.seal()
    for number, account in enumerate(ACCOUNTS):
        for seconds in (1, 2, 3, *[-1] * (late if number == 4 else 0)):
            bench.insert(account, at(seconds), f"{account} at {seconds}")
    seal = bench.source.seal(begin)
    return begin, [Range(account, window(0), seal, begin) for account in ACCOUNTS]


# --- Statements --------------------------------------------------------------------------------------


def test_a_group_takes_one_statement_for_each_branch(
    new_bench: Callable[..., PostgresBench], copies: list[str]
) -> None:
    """However many accounts, and with late records among them: three statements, and every record."""
    bench = new_bench()
    _, ranges = fill(bench, late=2)
    counts = [len(found) for found in read_all(bench.source, ranges)]
    assert counts == [5 if account == ACCOUNTS[4] else 3 for account in ACCOUNTS]
    assert len(copies) == 3


def test_other_previous_seals_share_the_records_on_time(
    new_bench: Callable[..., PostgresBench], copies: list[str]
) -> None:
    """Exports that began at different moments share the scan of their window; the rest is each one's."""
    bench = new_bench()
    begin, ranges = fill(bench)
    ranges[:6] = [replace(one, previous=bench.source.seal(begin)) for one in ranges[:6]]
    assert [len(found) for found in read_all(bench.source, ranges)] == [3] * len(ACCOUNTS)
    assert len(copies) == 5


def test_an_account_with_many_late_records_is_read_alone(
    new_bench: Callable[..., PostgresBench], copies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late records that are too many to keep cost their own account's statements, and nobody else's."""
    monkeypatch.setattr(together, "KEPT_BYTES", 300)
    bench = new_bench()
    _, ranges = fill(bench, late=9)
    alone = [read(bench.source, one) for one in ranges]
    copies.clear()
    assert read_all(bench.source, ranges) == alone
    assert len(alone[4]) == 12
    assert len(copies) == 2 + 3 + 2  # unreadable and late of all; that account; those before and behind it


@pytest.mark.parametrize(
    "kept_bytes", [150, *(pytest.param(size, marks=pytest.mark.slow) for size in (0, 600))]
)
def test_whatever_is_kept_the_records_are_the_same(
    new_bench: Callable[..., PostgresBench], monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    """The contract's promise about many ranges holds however little of them may be kept."""
    monkeypatch.setattr(together, "KEPT_BYTES", kept_bytes)
    contract.test_many_ranges_at_once_are_what_each_is_alone(new_bench)


@pytest.mark.slow
@pytest.mark.parametrize("id_type", [COUNTED, "text"], ids=["counted", "text"])
@pytest.mark.parametrize("analyzed", [True, False])
def test_an_index_serves_each_branch_of_many(
    new_bench: Callable[..., PostgresBench], id_type: str, *, analyzed: bool
) -> None:
    """For each account of a scan the records come by an index, those on time in its order."""
    bench = new_bench(replace(MANY, id=id_type))
    given = "id," if id_type == "text" else ""
    bench.insert_many(at(-5000), analyzed=analyzed)
    begin = bench.source.seal()
    bench.execute(
        f"INSERT INTO {{table}} ({given} happened, account)"
        f" VALUES ({given and repr('late') + ','} '{at(-5)}', 'other1')"
    )
    one = Range("acme", window(0), bench.source.seal(begin), begin)
    names = ["acme", *(f"other{number}" for number in range(50))]
    by_time, by_position = f"{bench.table}_account_happened_id_idx", f"{bench.table}_account_export_xid_idx"
    with bench.source._snapshot(begin, one.seal) as snapshot:
        for selection in snapshot.selections(one):
            select = snapshot.of_each(names, selection, one, snapshot.layout(None))
            plan = plan_of(snapshot.session, select)
            assert "Seq Scan" not in plan
            if selection.branch is Branch.ON_TIME:
                assert f"Index Scan using {by_time}" in plan
                assert ("Sort" in plan) is ("Incremental Sort" in plan) is (id_type == "text")
            elif selection.branch is Branch.LATE:
                assert by_position in plan
            else:
                assert by_position in plan or by_time in plan


# --- Accounts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account_type", "stored", "others"),
    [
        ("integer", ["42", "-7", "0"], ["042", "+42", "42.0", "9" * 20, "9" * 5000, "x", ""]),
        ("smallint", ["3", "-7"], ["70000", "--7"]),
        ("bigint", ["9223372036854775807", "-9223372036854775808"], ["9223372036854775808"]),
        ("uuid", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"],
         ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "acme", ""]),
        ("varchar(10)", ["acme", "acme ", "ACME", "", "a\tb\n", "\\N", "it's"],
         ["acme\0", "acme\ud800", "longer than ten"]),
        ("char(10)", ["acme", "ACME", " a"], ["acme ", "acme      ", "longer than ten"]),
        ("name", ["acme", "Acme", "x" * 63], ["x" * 64, "ACME"]),
        ('text COLLATE "C"', ["z", "Z", "é", "a{0}%s"], ["{}"]),
        ("numeric", ["42.0", "7"], ["42", "42.00", "seven"]),
        ("boolean", ["true", "false"], ["t", "1"]),
        ("text[]", ["{acme}", "{}"], ['["acme"]', "acme"]),
        ("jsonb", ['{"a": 1}', "1"], ['{"a":1}', "{"]),
    ],
)  # fmt: skip
def test_accounts_of_every_type_together(
    new_bench: Callable[..., PostgresBench], account_type: str, stored: list[str], others: list[str]
) -> None:
    """Whatever the column's type, each account has its own records and nothing else finds any."""
    bench = new_bench(Variant(account=account_type))
    begin = bench.source.seal()
    own = {
        account: [bench.insert(account, at(seconds) if seconds else None) for seconds in (None, -1, 1, 2)]
        for account in reversed(stored)
    }
    asked = [one for pair in zip([*stored, *others], [*others, *stored], strict=True) for one in pair]
    seal = bench.source.seal(begin)
    ranges = [Range(account, window(0), seal, begin) for account in asked]
    assert [ids(found) for found in read_all(bench.source, ranges)] == [own.get(one, []) for one in asked]


def test_an_account_that_two_exports_have(new_bench: Callable[..., PostgresBench]) -> None:
    """The same window of one account asked for more than once is given each time."""
    bench = new_bench()
    _, ranges = fill(bench, late=1)
    alone = [read(bench.source, one) for one in ranges]
    twice = [one for pair in zip(ranges, ranges, strict=True) for one in pair]
    assert read_all(bench.source, twice) == [found for found in alone for _ in range(2)]
    assert read_all(bench.source, [*ranges, *ranges]) == [*alone, *alone]


def test_without_an_index_a_group_is_read_all_the_same(new_bench: Callable[..., PostgresBench]) -> None:
    """A table without any index gives the same records in the same order."""
    bench = new_bench(Variant(schema=TABLE))
    _, ranges = fill(bench, late=2)
    assert read_all(bench.source, ranges) == [read(bench.source, one) for one in ranges]


@pytest.mark.parametrize("block_rows", [2, 3, 4, 7])
def test_what_a_scan_cut_in_two_is_one_block(
    new_bench: Callable[..., PostgresBench], block_rows: int
) -> None:
    """A small account is one block, wherever the scan's blocks end; none is larger than a block may be."""
    bench = new_bench(Variant(block_rows=block_rows))
    _, ranges = fill(bench)
    expected = [read(bench.source, one) for one in ranges]
    with closing(bench.source.read(ranges, None)) as found:
        sizes = [(index, len(block)) for index, block in found]
    assert max(size for _, size in sizes) <= block_rows
    if block_rows >= len(expected[0]):
        assert sizes == [(index, 3) for index in range(len(ranges))]
    assert read_all(bench.source, ranges) == expected


def test_records_out_of_turn_are_nobodys() -> None:
    """A scan that came in another order than was asked for ends in an error, and in nobody's file."""
    layout = CopyLayout((CopyColumn("account", Kind.TEXT),), ("account",), replace(ROLES, id="account"))
    rows = [b"b\n", b"a\n"]
    turns = together._Turns([(0, "a"), (1, "b")])
    with pytest.raises(RuntimeError, match="not asked for next"):
        list(turns.parts(CopyBlock(Branch.ON_TIME, layout, rows)))


# --- Its end -----------------------------------------------------------------------------------------


def test_closing_early_ends_the_scan(new_bench: Callable[..., PostgresBench]) -> None:
    """Whoever has enough in mid-group leaves no statement and no connection behind."""
    bench = new_bench(Variant(schema=TABLE + ";" + INDEXES, block_rows=1))
    bench.execute(
        "INSERT INTO {table} (happened, account, note)"
        f" SELECT '{at(1)}', 'account ' || n % 3, repeat('x', 10000) FROM generate_series(1, 3000) n"
    )
    seal = bench.source.seal()
    ranges = [Range(account, window(0), seal) for account in ACCOUNTS[:3]]
    with closing(bench.source.read(ranges, None)) as blocks:
        assert next(blocks)[0] == 0
        assert len(bench.source._database._idle) == 0
    running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND query LIKE 'COPY%{table}%'"
    wait_until("ended", lambda: bench.execute(running) == 0)
    assert len(read_all(bench.source, ranges)[2]) == 1000
