"""What `check` says of the actions of derived columns, and what a configuration may not write there."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.config.settings import SourceSettings
from exporter.model import Finding, Level
from exporter.sources.derived import action_findings
from exporter.sources.postgres import PostgresOptions, PostgresSource
from exporter.sources.sqlite import SqliteSource
from exporter.sources.sqlite import check as sqlite_check
from tests.contracts.derived import FIRST_LOGIN, LOGINS, Bench, add
from tests.kit.mysql_tables import INDEXES, table
from tests.kit.postgres import shared_postgres
from tests.kit.postgres_bench import ROLES as POSTGRES_ROLES
from tests.sources.test_derived import (
    BY_USER,
    MYSQL_COLUMNS,
    ON_MYSQL,
    ON_POSTGRES,
    ROLES,
    SCHEMA,
    TEXT_OF_LETTERS,
    WITH_USERS,
    MysqlBench,
    PostgresDerived,
    SqliteBench,
)
from tests.sources.test_sources import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TEXTS: Final = SCHEMA.format(user="TEXT COLLATE NOCASE") + BY_USER
ON_SQLITE: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "table": (TEXTS, {"table": "records"}),
    "no index": (TEXTS.replace("CREATE INDEX", "-- CREATE INDEX"), {"table": "records"}),
    "by time alone": (TEXTS.replace("CREATE INDEX by_account", "-- "), {"table": "records"}),
    "view": (TEXTS + "CREATE VIEW seen AS SELECT * FROM records;", {"table": "seen"}),
    "query": (TEXTS, {"query": "SELECT * FROM records -- all; "}),
    "UTF-16": ("PRAGMA encoding = 'UTF-16le';" + TEXTS, {"table": "records"}),
}
BENCHES: Final = [
    *(f"sqlite {variant}" for variant in ON_SQLITE),
    *(f"postgres {variant}" for variant in ON_POSTGRES),
    *(f"mysql {variant}" for variant in ON_MYSQL),
]


def sqlite_bench(path: Path, variant: str) -> SqliteBench:
    schema, origin = ON_SQLITE[variant]
    source = SqliteSource(path, roles=ROLES, derived=[FIRST_LOGIN], **origin)  # type: ignore[arg-type] # by name
    return SqliteBench(path, schema, source, canonical)


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    kind, _, variant = request.param.partition(" ")
    with ExitStack() as stack:
        if kind == "sqlite":
            yield sqlite_bench(tmp_path / "audit.db", variant)
        elif kind == "postgres":
            made = PostgresDerived(ON_POSTGRES[variant], FIRST_LOGIN)
            yield stack.enter_context(closing(made))
        else:
            yield stack.enter_context(closing(MysqlBench(ON_MYSQL[variant], FIRST_LOGIN)))


def said(bench: Bench, *accounts: str) -> list[Finding]:
    return [one for one in bench.source.check(accounts or ("acme",)) if one.subject == "derived"]


def test_another_spelling_is_named(bench: Bench) -> None:
    """`check` says that no record has one of the actions, and which ones look like them."""
    for second, action in enumerate(("Login", "LOGIN", "view", None)):
        add(bench, "acme", second, action=action)
    add(bench, "other", 1, action="login")
    (found,) = said(bench)
    assert found.level is Level.WARNING
    assert "none of the newest 4 records (1 account) has one of its actions" in found.message
    assert found.message.endswith("there is 'LOGIN', 'Login'")
    assert "source.derived.first_login.actions" in found.hint


def test_a_further_spelling_is_named(bench: Bench) -> None:
    """Where some records have the action and others another spelling of it, these are null: that is said."""
    add(bench, "acme", 1, action="login")
    add(bench, "acme", 2, action="Login ")
    (found,) = said(bench, "acme", "other")
    assert found.message.startswith("first_login is null for 'Login '")


def test_actions_that_do_not_occur_are_said(bench: Bench) -> None:
    """Without any such action it is said how far was looked; with one, or without records, nothing is."""
    assert said(bench) == []
    add(bench, "acme", 1, action="view")
    add(bench, "umlaut", 1, action="view")
    (found,) = said(bench, "acme", "nobody", "umlaut")
    assert "none of the newest 2 records (2 accounts)" in found.message
    assert "there is" not in found.message
    assert "no more was looked at" in found.hint
    add(bench, "umlaut", 2, action="user.login")
    assert said(bench, "acme", "nobody", "umlaut") == []
    assert said(bench, "acme")


def test_postgres_takes_actions_as_they_are_where_any_byte_may_be() -> None:
    """In a database without an encoding, an action that is no UTF-8 keeps `check` from nothing."""
    server = shared_postgres()
    name = "any_byte_as_action"
    with closing(server.connect()) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII'")
    with closing(server.connect(name, client_encoding="SQL_ASCII")) as connection:
        connection.execute(
            WITH_USERS.format(table="records", id="bigserial", time="timestamptz", account="text")
        )
        connection.execute(
            "INSERT INTO records (happened, account, user_id, action) VALUES (now(), 'acme', 'ann', 'Login'),"
            r" (now(), 'acme', 'ann', convert_from('\xe95c'::bytea, 'SQL_ASCII'))"
        )
    options = PostgresOptions(server.url(name))
    source = PostgresSource(
        options, roles=POSTGRES_ROLES, commit="export_xid", table="records", derived=[FIRST_LOGIN]
    )
    with closing(source):
        (found,) = [one for one in source.check(["acme"]) if one.subject == "derived"]
    assert found.message.endswith("there is 'Login'")


def test_sqlite_looks_no_longer_than_it_has_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table without an index is gone through for some seconds at most, and the other findings stay."""
    bench = sqlite_bench(tmp_path / "audit.db", "no index")
    for second in range(20):
        add(bench, "acme", second, action="view")
    monkeypatch.setattr(sqlite_check, "PATIENCE_S", -1.0)
    monkeypatch.setattr(sqlite_check, "_STEPS", 1)
    (found,) = said(bench)
    assert "could not be looked at within" in found.message
    assert {"ids", "index"} <= {one.subject for one in bench.source.check(["acme"])}


SPELLINGS: Final = st.sampled_from(
    [b"login", b"Login", b"user.login", b"USER.LOGIN", b" login", b"view", None]
)


@given(st.lists(st.lists(st.tuples(SPELLINGS, st.integers(1, 9)), max_size=4), max_size=5))
def test_what_is_said_follows_from_what_is_there(accounts: list[list[tuple[bytes | None, int]]]) -> None:
    """A warning, unless there is no record, or one of the actions and no other spelling of one."""
    names = [str(number) for number in range(len(accounts))]
    found = list(action_findings([FIRST_LOGIN], names, lambda _, account: accounts[int(account)]))
    there = {action for actions in accounts for action, _ in actions}
    exact = {login.encode() for login in LOGINS}
    others = there & {b"Login", b"USER.LOGIN", b" login"}
    assert bool(found) == bool(there and (others or not there & exact))
    for one in found:
        assert all(repr(other.decode()) in one.message for other in others if other)
        assert ("none of" in one.message) == (not there & exact)


def test_no_more_is_looked_at_than_it_takes() -> None:
    """Ten accounts with records are looked at, a hundred are tried, and an action column is read once."""
    asked: list[tuple[str, str]] = []

    def newest(rows: Callable[[int], list[tuple[bytes | None, int]]]) -> Callable[..., Any]:
        def look(action: str, account: str) -> list[tuple[bytes | None, int]]:
            asked.append((action, account))
            return rows(int(account))

        return look

    names = [str(number) for number in range(1_000)]
    derived = [FIRST_LOGIN, replace(FIRST_LOGIN, name="again", of="email")]
    found = list(action_findings(derived, names, newest(lambda number: [(b"view", 7)] * (number % 2))))
    assert [one.message.split(": ")[0] for one in found] == ["first_login", "again"]
    assert all("70 records (10 accounts)" in one.message for one in found)
    assert asked == [("action", name) for name in names[:20]]
    asked.clear()
    assert list(action_findings(derived, names, newest(lambda _: []))) == []
    assert len(asked) == 100


@pytest.mark.parametrize("origin", ["view", "query"])
def test_mysql_says_which_index_is_missing_behind_a_view_or_a_query(origin: str) -> None:
    """What a view or a query lacks for a derived column is found by its plan, and done with by the index."""
    with table(MYSQL_COLUMNS, INDEXES) as bare:
        run = bare.application.execute
        run(
            f"INSERT INTO {bare.name} (time, account, user_id, action) SELECT NOW() - INTERVAL seq MINUTE,"
            " 'acme', seq MOD 1000, 'login' FROM seq_1_to_20000"
        )
        run(f"ANALYZE TABLE {bare.name}")
        origins: dict[str, Any] = {"query": f"SELECT r.*, 1 AS one FROM {bare.name} AS r"}
        if origin == "view":
            run(f"CREATE VIEW seen_{bare.name} AS SELECT * FROM {bare.name}")
            origins = {"table": f"seen_{bare.name}"}
        source = bare.source(derived=[FIRST_LOGIN], **origins)

        def found() -> list[Finding]:
            return [one for one in source.check(["acme"]) if one.subject == "index"]

        if origin == "view":
            assert [one.hint for one in found() if "and one on (account, user_id, time)" in one.hint]
            run(f"GRANT SELECT, SHOW VIEW ON seen_{bare.name} TO watcher@'%'")
        (missing,) = [one for one in found() if one.level is Level.WARNING]
        assert "earlier records of the same user_id (for first_login)" in missing.message
        assert missing.hint == "index the table behind the view or query on (account, user_id, time)"
        run(f"CREATE INDEX by_user ON {bare.name} (account, user_id, time)")
        run(f"ANALYZE TABLE {bare.name}")
        assert {one.level for one in found()} == {Level.OK}


def test_mysql_says_that_a_long_text_has_no_index() -> None:
    """Where the user is a TEXT no index can help, and `check` says what would."""
    columns = MYSQL_COLUMNS.replace(f"user_id {TEXT_OF_LETTERS}", "user_id text")
    with table(columns, INDEXES) as bare:
        bare.application.execute(
            f"INSERT INTO {bare.name} (time, account, user_id, action) SELECT NOW() - INTERVAL seq MINUTE,"
            " 'acme', seq MOD 1000, 'login' FROM seq_1_to_20000"
        )
        bare.application.execute(f"ANALYZE TABLE {bare.name}")
        found = bare.source(derived=[FIRST_LOGIN]).check(["acme"])
        (missing,) = [one for one in found if one.subject == "index" and one.level is Level.WARNING]
        assert "declare it as varchar" in missing.hint


@pytest.mark.parametrize("action", ["login*", "log?n", "login|signin", "!login", " login", "login\t"])
def test_a_pattern_is_no_action_to_derive_from(action: str) -> None:
    """What a filter takes for a pattern, or nobody can see, is refused where actions are exact."""
    with pytest.raises(ValidationError, match="exact actions, which are compared byte by byte"):
        settings("view", action)


@pytest.mark.parametrize("action", ["login", "user login", "Größe!", "a.b:c/d", "["])
def test_any_other_text_is_an_action(action: str) -> None:
    """An exact action may hold whatever no pattern is made of."""
    assert settings(action).derived["first_login"].actions == (action,)


def settings(*actions: str) -> SourceSettings:
    columns = {"id": "id", "time": "happened", "account": "account", "action": "action"}
    derived = {"first_login": {"first_of": "user_id", "actions": list(actions)}}
    given = {"url": "sqlite:///audit.db", "table": "records", "columns": columns, "derived": derived}
    return SourceSettings.model_validate(given)
