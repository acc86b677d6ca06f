"""A ledger with a past: what a command asks of it costs the same whatever was delivered before."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from exporter import config as configuration
from exporter import wiring
from tests.bench import old_ledger
from tests.kit.command_line import DAY, START, Vendor, rfc3339
from tests.kit.ledgers import connected, noted
from tests.kit.postgres import shared_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.ledger.connection import Connection

GROWING: Final = ("plans", "attempts", "windows", "bad_records", "runs")
SMALL: Final = ("one_open_plan", "waiting_records")
"""Indexes of few rows, however many the table has."""

ALL_OF_AN_EXPORT: Final = ("plans_by_sequence (export=?)", "windows_by_commit (export=?)")

BAD_RECORDS: Final = """
INSERT INTO bad_records (plan, id, reason, length, body)
SELECT p.id, '1', 'too long', 1, {body} FROM plans AS p JOIN exports ON p.sequence >= 0
"""
"""Some of every delivery, none of which waits to be sent again."""

EXPORTS: Final = 5
WINDOWS: Final = 60


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def vendor(tmp_path: Path, request: pytest.FixtureRequest) -> Vendor:
    """Some accounts with a past of many windows, and a record in the window that is due."""
    made = Vendor(tmp_path)
    if request.param == "postgresql":
        server = shared_postgres()
        made.settings["ledger"]["url"] = server.url(server.new_database())
    for number in range(EXPORTS):
        made.export(f"acme-{number}")
        made.insert(f"acme-{number}", START + timedelta(hours=1))
    made.write()
    old_ledger.build(made.config, WINDOWS, START)
    with ledger_of(made) as connection:
        body = "X'00'" if connection.dialect.name == "sqlite" else r"'\x00'::bytea"
        connection.execute(BAD_RECORDS.format(body=body))
        connection.execute("ANALYZE")
    return made


@contextmanager
def ledger_of(vendor: Vendor) -> Iterator[Connection]:
    storage = wiring.ledger_of(configuration.load(vendor.config)).open()
    with closing(storage), connected(storage) as connection:
        if connection.dialect.name == "postgresql":
            # These tables are small enough to be read as a whole: what counts is that an index could be.
            connection.execute("SET search_path = audit_exporter")
            for way in ("seqscan", "hashjoin", "mergejoin"):
                connection.execute(f"SET enable_{way} = off")
        yield connection


def whole_scans(connection: Connection, text: str, values: Any) -> list[str]:  # noqa: ANN401 - a driver's
    """The steps of a statement that go through a table that grows, its index, or all rows of an export."""
    if connection.dialect.name == "sqlite":
        steps = [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
        if "min(" in text:  # is the first entry of an index, and SQLite takes no other
            steps = [step for step in steps if not step.endswith(ALL_OF_AN_EXPORT)]
        growing = [step for step in steps if step.split()[1] in GROWING and step.split()[-1] not in SMALL]
        return [step for step in growing if step.startswith("SCAN ") or step.endswith(ALL_OF_AN_EXPORT)]
    ((plan,),) = connection.execute(f"EXPLAIN (FORMAT JSON) {text}", values)
    return [
        json.dumps(node)
        for node in nodes_of(plan[0]["Plan"])
        if node.get("Relation Name") in GROWING
        and not ("Index Cond" in node or "Recheck Cond" in node or node.get("Index Name") in SMALL)
        and node["Node Type"] != "ModifyTable"
    ]


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes_of(below)


COMMANDS: Final = (
    ("run", "--as-of", rfc3339(START)),  # nothing is due
    ("run", "--as-of", rfc3339(START + DAY)),
    ("status",),
    ("status", "--export", "acme-1"),
    ("check",),
    ("pause", "acme-1"),
    ("resume", "acme-1"),
    ("replay", "--export", "acme-1", "--seq", str(WINDOWS + 1)),
    ("ledger", "bad-records", "--export", "acme-1"),
    ("ledger", "bad-records", "--export", "acme-1", "--seq", "7"),
)


def test_no_command_goes_through_what_was_delivered(vendor: Vendor) -> None:
    """Starting, looking and delivering find what they need by an index, and the newest run at its end."""
    with noted() as asked:
        for command in COMMANDS:
            assert vendor(*command).status in (0, 10), command
    statements = dict(asked)  # each once, with values that it came with
    with ledger_of(vendor) as connection:
        looked_at = [
            text for text in statements if text.startswith(("SELECT ", "UPDATE ", "DELETE ", "WITH "))
        ]
        about = {name for text in looked_at for name in GROWING if f" {name}" in text}
        assert about == set(GROWING)
        newest = [text for text in looked_at if "ORDER BY started_at DESC" in text]
        assert newest
        for text in looked_at:
            if text not in newest and "pg_catalog" not in text:
                assert whole_scans(connection, text, statements[text]) == [], text


def test_what_has_no_index_is_noticed(vendor: Vendor) -> None:
    with ledger_of(vendor) as connection:
        assert whole_scans(connection, "SELECT * FROM plans WHERE account = 'acme-1'", ())
        assert not whole_scans(connection, "SELECT * FROM plans WHERE export = 'acme-1' AND sequence = 1", ())


def test_an_old_ledger_is_one_that_deliveries_go_on_with(vendor: Vendor) -> None:
    """What the benchmark times is the real thing: the window that follows is delivered as any other."""
    assert vendor.row("acme-1")["sequence"] == WINDOWS
    answer = vendor("run", "--as-of", rfc3339(START + DAY))
    assert answer.status == 0, answer
    assert vendor.row("acme-1")["sequence"] == WINDOWS + 1
    assert len(vendor.records()) == EXPORTS
    with ledger_of(vendor) as connection:
        counts = {
            name: connection.execute(f"SELECT count(*) FROM {name}")[0][0]
            for name in ("plans", "attempts", "windows")
        }
    assert set(counts.values()) == {EXPORTS * (WINDOWS + 1)}
