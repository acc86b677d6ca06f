"""What `check` says about a PostgreSQL source: each finding, and that nothing hides another one."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from exporter.columns import Roles
from exporter.errors import SourceBusy
from exporter.model import Level
from exporter.sources.postgres import check as postgres_check
from exporter.sources.postgres import health as postgres_health
from exporter.sources.postgres import plans as postgres_plans
from tests.contracts.source import at
from tests.kit.postgres import postgres_server
from tests.kit.postgres_bench import INDEXES, PARTITIONED, TABLE, PostgresBench, Variant
from tests.kit.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from exporter.model import Finding
    from exporter.sources.postgres import PostgresSource


XMIN: Final = Variant(commit=None)
SUBJECTS: Final = [
    *("strategy", "horizon", "server", "connection", "privileges", "index", "index"),
]


@pytest.fixture(name="new_bench")
def _new_bench() -> Iterator[Callable[..., PostgresBench]]:
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(closing(PostgresBench(*arguments)))


@pytest.fixture(name="bench")
def _bench(new_bench: Callable[..., PostgresBench]) -> PostgresBench:
    return new_bench()


@pytest.fixture(name="new_role")
def _new_role(bench: PostgresBench) -> Iterator[Callable[..., str]]:
    """Makes a role with these rights on the bench's table; gives the URL it reaches the database by."""
    made: list[str] = []

    def new_role(*rights: str) -> str:
        role = f"role_{bench.number}_{len(made)}"
        bench.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'a-secret'")
        made.append(role)
        for right in rights:
            bench.execute(f"GRANT {right} ON {{table}} TO {role}")
        return bench.server.url(bench.database, role, "a-secret")

    yield new_role
    for role in made:
        bench.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def as_superuser(bench: PostgresBench) -> PostgresSource:
    return bench.new_source(url=bench.server.url(bench.database))


def of(found: list[Finding], subject: str) -> list[Finding]:
    return [finding for finding in found if finding.subject == subject]


def check(source: PostgresSource, subject: str, *accounts: str) -> Finding:
    """The one finding about a subject."""
    (finding,) = of(list(source.check(accounts)), subject)
    return finding


def checks(source: PostgresSource, subject: str, *accounts: str) -> list[Finding]:
    return of(list(source.check(accounts)), subject)


@contextmanager
def transaction(bench: PostgresBench, **how: Any) -> Iterator[psycopg.Connection[Any]]:  # noqa: ANN401 - psycopg's own
    """A connection of the application's in a transaction; the end of the block rolls back what is open."""
    with closing(bench.server.connect(bench.database, autocommit=False, **how)) as connection:
        yield connection


# --- Strategy -------------------------------------------------------------------------------------------


def test_a_table_as_it_should_be_has_nothing_but_good_findings(
    bench: PostgresBench, new_role: Callable[..., str]
) -> None:
    """In this order, each says what is in force; the role with the right to select is enough to find out."""
    bench.insert("acme", at(1))
    found = list(bench.new_source(url=new_role("SELECT")).check(["acme"]))
    assert [finding.subject for finding in found] == SUBJECTS
    assert [finding for finding in found if finding.level is not Level.OK or finding.hint] == []
    assert found[0].message.startswith("positions are those of the xid8 column export_xid, read below the")


def test_what_cannot_be_sealed_is_an_error(bench: PostgresBench) -> None:
    """The strategy's own objection and hint; other findings stand beside it."""
    bench.execute("ALTER TABLE {table} ALTER COLUMN export_xid DROP NOT NULL")
    found = list(bench.source.check([]))
    assert found[0].level is Level.ERROR
    assert "may be NULL" in found[0].message
    assert "SET NOT NULL" in found[0].hint
    assert of(found, "horizon") != []
    not_xid8 = list(bench.new_source(commit="id").check(["acme"]))
    assert [finding.subject for finding in not_xid8 if finding.level is Level.ERROR] == ["strategy"]


def test_xmin_says_whose_word_it_rests_on(new_bench: Callable[..., PostgresBench]) -> None:
    """The operator's, with those who could break it; a trigger's; and nobody's, which is an error."""
    bench = new_bench(XMIN)
    stated = check(bench.source, "strategy")
    assert stated.level is Level.OK
    assert "source.append_only says that nobody updates" in stated.message
    assert stated.message.endswith("(postgres could)")
    unstated = bench.new_source(append_only=False)
    assert check(unstated, "strategy").level is Level.ERROR
    bench.execute("CREATE RULE no_update AS ON UPDATE TO {table} DO INSTEAD NOTHING")
    refused = check(unstated, "strategy")
    assert refused.level is Level.OK
    assert "nobody can update" in refused.message


def test_xmin_counts_updates_that_should_never_have_been(new_bench: Callable[..., PostgresBench]) -> None:
    """Whoever states `append_only` hears of it when the statistics say otherwise."""
    bench = new_bench(XMIN)
    bench.insert("acme", at(1))
    with closing(bench.server.connect(bench.database)) as application:
        application.execute(f"UPDATE {bench.table} SET note = 'changed'")  # counted once it has gone
    wait_until("counted", lambda: len(checks(bench.source, "positions")) == 2)
    counted = checks(bench.source, "positions")[0]
    assert counted.level is Level.WARNING
    assert "1 updates of" in counted.message
    assert "columns.commit" in counted.hint


def test_xmin_warns_before_numbers_come_round(
    new_bench: Callable[..., PostgresBench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest record tells how far it is, once half of the numbers are used up."""
    bench = new_bench(XMIN)
    far = check(bench.source, "positions")
    assert far.level is Level.OK
    assert "come round to old records in 4,29" in far.message
    bench.insert("acme", at(1))
    number = bench.execute("SELECT xmin::text::bigint FROM {table}")
    monkeypatch.setattr(postgres_check, "HALF_ROUND", 0)
    monkeypatch.setattr(postgres_check, "_EARLY", 2**33)
    near = check(bench.source, "positions")
    assert near.level is Level.WARNING
    xmax = bench.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    assert f"in {2**32 + number - xmax:,} transactions" in near.message
    assert "columns.commit" in near.hint


def test_a_position_that_nobody_fills_is_a_warning(bench: PostgresBench) -> None:
    """Without its default only a trigger can fill it; what it does, nobody can say."""
    assert checks(bench.source, "positions") == []
    bench.execute("ALTER TABLE {table} ALTER COLUMN export_xid SET DEFAULT '0'")
    warning = check(bench.source, "positions")
    assert warning.level is Level.WARNING
    assert "not filled by default" in warning.message
    bench.execute(warning.hint)
    assert checks(bench.source, "positions") == []
    bench.execute("ALTER TABLE {table} ALTER COLUMN export_xid DROP DEFAULT")
    bench.execute(
        "CREATE FUNCTION fill_{table}() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.export_xid := pg_current_xact_id(); RETURN NEW; END $$;"
        " CREATE TRIGGER fill BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fill_{table}()"
    )
    assert checks(bench.source, "positions") == []


def test_a_table_that_logical_replication_fills_is_a_warning(bench: PostgresBench) -> None:
    """The publisher's numbers mean nothing here: a record that brings one along may never come out."""
    name = f"subscription_{bench.number}"
    bench.execute(
        f"CREATE SUBSCRIPTION {name} CONNECTION 'dbname=elsewhere' PUBLICATION everything"
        " WITH (connect = false, slot_name = NONE)"
    )
    try:
        bench.execute(
            "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)"
            f" SELECT oid, '{{table}}'::regclass, 'r' FROM pg_subscription WHERE subname = '{name}'"
        )
        warning = check(bench.source, "positions")
        assert warning.level is Level.WARNING
        assert "logical replication" in warning.message
        assert "leave export_xid out of the column list" in warning.hint
    finally:
        bench.execute(f"DROP SUBSCRIPTION {name}")


# --- Horizon --------------------------------------------------------------------------------------------


def test_the_horizon_names_the_session_that_holds_it_back(
    bench: PostgresBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who, since when and how to end it: a warning from five minutes on, and then without it all is well."""
    source = as_superuser(bench)
    assert check(source, "horizon").message == "no transaction is running that has written anything"
    with transaction(bench, application_name="billing") as application:
        bench.insert("acme", at(1), connection=application)
        bench.insert("acme", at(2))
        recent = check(source, "horizon")
        monkeypatch.setattr(postgres_health, "_LONG", timedelta(0))
        old = check(source, "horizon")
        pid = application.info.backend_pid
        assert recent.level is Level.OK
        assert recent.message.startswith("2 transactions behind: held back for 0:00:0")
        assert (
            f"by pid {pid} (user postgres, billing, database {bench.database}, idle in tr" in recent.message
        )
        assert old.level is Level.WARNING
        assert "comes late, and nothing is lost" in old.message
        ending, _, setting = old.hint.partition("; ")
        assert "idle_in_transaction_session_timeout" in setting
        assert bench.execute(ending) is True
    wait_until("ended", lambda: check(source, "horizon").message.startswith("no transaction is"))


def test_the_horizon_names_the_prepared_transaction_that_holds_it_back(
    bench: PostgresBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its identifier as it has to be written to end it."""
    monkeypatch.setattr(postgres_health, "_LONG", timedelta(0))
    with transaction(bench) as application:
        bench.insert("acme", at(1), connection=application)
        application.execute(f"PREPARE TRANSACTION 'it''s {bench.number}'")
    warning = check(bench.source, "horizon")
    assert warning.level is Level.WARNING
    assert f'the prepared transaction "it\'s {bench.number}" of postgres' in warning.message
    way = f"as postgres in {bench.database}: COMMIT PREPARED 'it''s {bench.number}' or "
    assert warning.hint.startswith(way)
    bench.execute(warning.hint.removeprefix(way))
    assert check(bench.source, "horizon").level is Level.OK


def test_a_role_that_cannot_see_since_when_is_told_what_to_grant(
    bench: PostgresBench, new_role: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose transaction it is everybody sees; once granted, also since when."""
    monkeypatch.setattr(postgres_health, "_SECOND_LOOK_S", 0)
    source = bench.new_source(url=new_role("SELECT"))
    with transaction(bench, application_name="billing") as application:
        bench.insert("acme", at(1), connection=application)
        unseen = check(source, "horizon")
        assert unseen.level is Level.WARNING
        assert "billing" in unseen.message
        assert "cannot see since when" in unseen.message
        bench.execute(unseen.hint)
        seen = check(source, "horizon")
        assert seen.level is Level.OK
        assert "held back for 0:00:0" in seen.message


def test_a_short_transaction_alarms_nobody(bench: PostgresBench, new_role: Callable[..., str]) -> None:
    """A role that cannot see since when looks again after a second: a busy database always has a youngest."""
    source = bench.new_source(url=new_role("SELECT"))
    with transaction(bench) as application:
        bench.insert("acme", at(1), connection=application)

        def end_between_the_looks() -> None:
            is_waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')"
            with closing(bench.server.connect(bench.database)) as observer:
                wait_until("asleep", lambda: observer.execute(is_waiting).fetchone() == (True,))
            application.rollback()

        ender = threading.Thread(target=end_between_the_looks)
        ender.start()
        finding = check(source, "horizon")
        ender.join()
    assert finding.level is Level.OK
    assert finding.message.endswith("it has just ended")


# --- Server, connection, privileges ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_standby_says_how_far_it_has_come_and_what_may_go_wrong(
    bench: PostgresBench, new_role: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replay, feedback, and the timeline that an ordinary role cannot see; then what a cut-off one says."""
    url = new_role("SELECT")
    with bench.server.standby() as standby:
        bench.insert("acme", at(1))
        with transaction(bench) as application:
            bench.insert("acme", at(2), connection=application)
            bench.insert("acme", at(3))
            standby.catch_up(bench.server)
            source = bench.new_source(url=url.replace(f":{bench.server.port}/", f":{standby.port}/"))
            replay, feedback, timeline = checks(source, "server")
            assert replay.level is Level.OK
            assert "a hot standby" in replay.message
            assert feedback.level is timeline.level is Level.WARNING
            assert "hot_standby_feedback = on" in feedback.hint
            assert "can be seen on the primary alone" in check(source, "horizon").message
        bench.execute(timeline.hint)
        with closing(standby.connect()) as administrator:
            administrator.execute("ALTER SYSTEM SET hot_standby_feedback = on")
            administrator.execute("SELECT pg_reload_conf()")
        standby.catch_up(bench.server)
        wait_until("both mended", lambda: len(checks(source, "server")) == 1)
        standby.isolate()
        monkeypatch.setattr(postgres_health, "_LONG", timedelta(0))
        cut_off = check(source, "server")
        assert cut_off.level is Level.WARNING
        assert "connected to no primary" in cut_off.message
        assert "pg_stat_replication" in cut_off.hint


def test_an_open_connection_to_elsewhere_is_a_warning(bench: PostgresBench) -> None:
    """Within one machine nobody listens; on a network anybody may."""
    here = check(bench.source, "connection")
    assert (here.level, here.message) == (Level.OK, "not encrypted, to 127.0.0.1")
    address = bench.server.url(bench.database).replace("@127.0.0.1:", "@audit.example:")
    elsewhere = check(bench.new_source(url=f"{address}?hostaddr=127.0.0.1"), "connection")
    assert (elsewhere.level, elsewhere.message) == (Level.WARNING, "not encrypted, to audit.example")
    assert elsewhere.hint == "set source.tls.mode: verify-full"


@pytest.mark.parametrize("host", ["", "/var/run/postgresql", "localhost", "127.0.0.2", "::1"])
def test_hosts_of_this_machine(host: str) -> None:
    """Unix sockets and loopback."""
    assert postgres_health._is_here(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "db", "localhost.example.com", "2001:db8::1"])
def test_hosts_of_other_machines(host: str) -> None:
    """Everything else, also when it does not look like an address."""
    assert not postgres_health._is_here(host)


@pytest.mark.slow
def test_encryption_is_worth_what_was_verified() -> None:
    """From another host, only a verified certificate says who answers."""
    with postgres_server(tls=True) as server, closing(PostgresBench(server=server)) as bench:
        address = server.url(bench.database).replace("@127.0.0.1:", "@audit.example:")

        def found(mode: str, url: str = server.url(bench.database)) -> tuple[Level, str]:
            source = bench.new_source(url=url, tls_mode=mode, ca_file=server.certificate)
            finding = check(source, "connection")
            return finding.level, finding.message

        nobody = "encrypted, but nobody verifies who answers"
        assert found("verify-full") == (Level.OK, "encrypted, certificate and host name verified")
        assert found("verify-ca")[0] is Level.OK
        assert found("disable") == (Level.OK, "not encrypted, to 127.0.0.1")
        unverified = bench.new_source(url=f"{address}?hostaddr=127.0.0.1", tls_mode="require")
        assert check(unverified, "connection").message == nobody
        assert check(unverified, "connection").level is Level.WARNING


def test_more_than_the_right_to_select_is_a_warning(
    bench: PostgresBench, new_role: Callable[..., str]
) -> None:
    """Superusers, owners and writers are told that less is enough; one column is enough to be a writer."""
    writer = bench.new_source(url=new_role("SELECT, INSERT"))
    editor = bench.new_source(url=new_role("SELECT, UPDATE (note)"))
    assert "is a superuser" in check(as_superuser(bench), "privileges").message
    assert "has the right to INSERT on" in check(writer, "privileges").message
    assert "has the right to UPDATE on" in check(editor, "privileges").message
    owner = new_role()
    bench.execute(f"ALTER TABLE {{table}} OWNER TO role_{bench.number}_2")
    owned = check(bench.new_source(url=owner), "privileges")
    bench.execute("ALTER TABLE {table} OWNER TO postgres")
    assert f'owns "public"."{bench.table}"' in owned.message
    assert owned.level is Level.WARNING
    assert "source prepare" in owned.hint


def test_hidden_rows_are_an_error(bench: PostgresBench, new_role: Callable[..., str]) -> None:
    """With row-level security reading stops, because what is hidden would be lost; the hint lets it read."""
    bench.insert("acme", at(1))
    source = bench.new_source(url=new_role("SELECT"))
    bench.execute("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    fine, hidden = checks(source, "privileges")
    assert (fine.level, hidden.level) == (Level.OK, Level.ERROR)
    bench.execute(hidden.hint.partition(": ")[2])
    assert {finding.level for finding in source.check(["acme"])} == {Level.OK}


def test_a_missing_right_to_select_is_an_error(bench: PostgresBench, new_role: Callable[..., str]) -> None:
    """What reads records fails, says why, and hides nothing of what can be said without them."""
    bench.insert("acme", at(1))
    found = list(bench.new_source(url=new_role()).check(["acme"]))
    assert [finding.subject for finding in found if finding.level is Level.ERROR] == ["index", "records"]
    assert all("GRANT SELECT" in finding.hint for finding in found if finding.level is Level.ERROR)
    assert found[0].level is Level.OK


# --- Indexes --------------------------------------------------------------------------------------------


def fill(bench: PostgresBench, count: int) -> None:
    """Records of three accounts over the last twenty days, one transaction for each day, and statistics."""
    for day in range(20):
        bench.execute(
            "INSERT INTO {table} (happened, account, note) SELECT now() - interval '20 days' + interval"
            f" '1 day' * ({day} + g * 20.0 / {count}),"
            " ('{{acme,globex,initech}}'::text[])[1 + g % 3], repeat('x', 100)"
            f" FROM generate_series(1, {count // 20}) AS g"
        )
    bench.execute("ANALYZE {table}")


def messages(source: PostgresSource, *accounts: str) -> list[str]:
    return [finding.message for finding in checks(source, "index", *accounts)]


@pytest.mark.slow
def test_both_branches_of_a_large_table_are_served_by_index(new_bench: Callable[..., PostgresBench]) -> None:
    """The plans of 200,000 records name both indexes; without them, the hints bring them back."""
    bench = new_bench()
    fill(bench, 200_000)
    by_time, by_position = (f"{bench.table}_account_{name}_idx" for name in ("happened_id", "export_xid"))
    served = [
        f"records on time are served by the index {by_time}",
        f"late records are served by the index {by_position}",
    ]
    assert messages(bench.source, "acme") == served
    bench.execute(f"DROP INDEX {by_position}")
    bench.execute(f"DROP INDEX {by_time}")
    for missing in checks(bench.source, "index", "acme"):
        assert missing.level is Level.WARNING
        assert "every window reads more than it delivers" in missing.message
        bench.execute(missing.hint)
    assert messages(bench.source, "acme") == [
        f"records on time are served by the index {bench.table}_by_time",
        f"late records are served by the index {bench.table}_by_position",
    ]


def test_an_index_that_leads_nowhere_does_not_count(new_bench: Callable[..., PostgresBench]) -> None:
    """On the account alone, or on the time alone, PostgreSQL reads more than the window."""
    indexes = "CREATE INDEX ON {table} (account); CREATE INDEX ON {table} (happened)"
    bench = new_bench(Variant(schema=TABLE + ";" + indexes))
    fill(bench, 20_000)
    assert [finding.level for finding in checks(bench.source, "index", "acme")] == [Level.WARNING] * 2
    bench.execute(f"DROP INDEX {bench.table}_happened_idx")
    bench.execute("UPDATE {table} SET account = 'a < b' WHERE account = 'acme'")
    bench.execute("ANALYZE {table}")
    assert [finding.level for finding in checks(bench.source, "index", "a < b")] == [Level.WARNING] * 2


@pytest.mark.parametrize("count", [0, 1, 60])
def test_a_small_table_with_both_indexes_is_well_served(bench: PostgresBench, count: int) -> None:
    """PostgreSQL may choose any index there, and says nothing about what it will choose one day."""
    bench.execute(
        f"INSERT INTO {{table}} (happened, account) SELECT now(), 'acme' FROM generate_series(1, {count})"
    )
    bench.execute("ANALYZE {table}")
    found = checks(bench.source, "index", "acme")
    assert [(finding.level, finding.hint) for finding in found] == [(Level.OK, "")] * 2


def test_an_index_that_is_not_used_asks_for_statistics(
    bench: PostgresBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a large table it matters that PostgreSQL would choose another one."""
    bench.execute("ANALYZE {table}")
    monkeypatch.setattr(postgres_plans, "CHEAP", 0.0)
    unused = next(finding for finding in checks(bench.source, "index") if finding.level is Level.WARNING)
    assert "is there, but PostgreSQL would not use it" in unused.message
    assert unused.hint == f'ANALYZE "public"."{bench.table}"'


def test_by_xmin_late_records_have_no_index(new_bench: Callable[..., PostgresBench]) -> None:
    """They are looked for in all of an account, and that is said; without its index, in the whole table."""
    bench = new_bench(XMIN)
    fill(bench, 20_000)
    assert "in all of an account, by the index" in messages(bench.source, "acme")[1]
    bench.execute(f"DROP INDEX {bench.table}_account_happened_id_idx")
    bench.execute(f"DROP INDEX {bench.table}_account_export_xid_idx")
    on_time, late = checks(bench.source, "index", "acme")
    assert on_time.level is late.level is Level.WARNING
    assert "in the whole table" in late.message


BY_ID: Final = Variant(
    id="bigint DEFAULT nextval('{table}_ids')",
    schema=PARTITIONED.replace("BY HASH (account)", "BY HASH (id)").replace("(account, id)", "(id)")
    + INDEXES,
)


def test_every_partition_has_to_be_served(new_bench: Callable[..., PostgresBench]) -> None:
    """One partition without an index is read as a whole, however well the others are."""
    bench = new_bench(BY_ID)
    fill(bench, 20_000)
    assert [finding.level for finding in checks(bench.source, "index", "acme")] == [Level.OK] * 2
    assert messages(bench.source, "acme")[0].endswith("_account_happened_id_idx and 1 more")
    bench.execute(f"DROP INDEX {bench.table}_account_happened_id_idx")
    bench.execute(f"CREATE INDEX ON {bench.table}_0 (account, happened, id)")
    on_time, late = checks(bench.source, "index", "acme")
    assert (on_time.level, late.level) == (Level.WARNING, Level.OK)
    assert on_time.hint == "`audit-exporter source prepare` prints how"
    bench.execute(f"DROP INDEX {bench.table}_account_export_xid_idx")
    assert [finding.level for finding in checks(bench.source, "index", "acme")] == [Level.WARNING] * 2


def test_an_empty_partition_is_no_matter(new_bench: Callable[..., PostgresBench]) -> None:
    """Next month's is there already, and PostgreSQL does not care how it reads nothing."""
    bench = new_bench(BY_ID)
    fill(bench, 20_000)
    bench.execute(f"TRUNCATE {bench.table}_1")
    bench.execute("VACUUM ANALYZE {table}")
    on_time, late = checks(bench.source, "index", "acme")
    assert (on_time.level, late.level) == (Level.OK, Level.OK)
    assert f"by the index {bench.table}_0_account_happened_id_idx" in on_time.message
    assert f"by the index {bench.table}_0_account_export_xid_idx" in late.message


def test_views_and_queries_are_served_by_what_is_behind_them(
    new_bench: Callable[..., PostgresBench],
) -> None:
    """The plan says so whatever the columns are called there; what is missing has to be made by hand."""
    bench = new_bench()
    fill(bench, 20_000)
    query = f"SELECT id, happened, account AS who, export_xid FROM {bench.table}"
    bench.execute(f"CREATE VIEW view_{bench.table} AS {query.replace(' AS who', '')}")
    roles = Roles("id", "happened", "who")
    sources = (
        bench.new_source(table=None, query=query, roles=roles),
        bench.new_source(table=f"view_{bench.table}"),
    )
    for source in sources:
        assert [finding.level for finding in checks(source, "index", "acme")] == [Level.OK] * 2
    bench.execute(f"DROP INDEX {bench.table}_account_happened_id_idx")
    for source in sources:
        on_time, late = checks(source, "index", "acme")
        assert (on_time.level, late.level) == (Level.WARNING, Level.OK)
        assert on_time.hint.startswith("index the table behind the view or query on (")


def test_the_question_is_asked_of_an_account_with_records(new_bench: Callable[..., PostgresBench]) -> None:
    """Of those that are exported, if one has any: what PostgreSQL does for a rare one says little."""
    bench = new_bench(
        Variant(schema=TABLE + "; CREATE INDEX ON {table} (account)", query="SELECT * FROM {table}")
    )
    bench.insert("rare", at(1))
    fill(bench, 20_000)
    quick = [Level.OK] * 2
    assert [finding.level for finding in checks(bench.source, "index", "nobody")] == quick
    assert [finding.level for finding in checks(bench.source, "index", "nobody", "acme")] == [
        Level.WARNING
    ] * 2
    bench.execute("DELETE FROM {table} WHERE account = 'rare'")
    assert [finding.level for finding in checks(bench.source, "index", "nobody")] == [Level.WARNING] * 2


def test_an_account_that_no_index_can_find_is_said(new_bench: Callable[..., PostgresBench]) -> None:
    """Bytes are compared as text, so an index on the column is of no use."""
    bench = new_bench(Variant(account="bytea"))
    assert "only text, integers and uuids" in checks(bench.source, "index")[0].hint


@pytest.mark.parametrize("account", ["bigint", "uuid"])
def test_an_empty_table_of_any_account_is_looked_at(
    new_bench: Callable[..., PostgresBench], account: str
) -> None:
    """The question needs an account, and there is none yet."""
    bench = new_bench(Variant(account=account))
    assert [finding.level for finding in checks(bench.source, "index")] == [Level.OK] * 2


# --- Records --------------------------------------------------------------------------------------------


def test_odd_records_are_counted(bench: PostgresBench) -> None:
    """Unreadable times, dates in the future, accounts without a record; of the accounts that are exported."""
    now = bench.source.now()
    bench.insert("acme", now - timedelta(hours=1))
    bench.insert("acme", now + timedelta(hours=1))
    for account in ("acme", "globex", "another"):
        bench.insert(account, None)
    unreadable, future = checks(bench.source, "times", "acme", "globex", "initech")
    assert unreadable.level is future.level is Level.WARNING
    assert unreadable.message == "2 records have an unreadable time"
    assert future.message == "1 records are dated in the future"
    unknown = check(bench.source, "accounts", "acme", "globex", "initech")
    assert (unknown.level, unknown.message) == (Level.WARNING, "no record yet of 'initech'")


def test_times_that_are_all_unreadable_are_an_error(new_bench: Callable[..., PostgresBench]) -> None:
    """Nanoseconds taken for seconds lie beyond the year 9999: all records would go out as bad ones."""
    bench = new_bench(Variant(time="bigint", unit="s", stored_time=lambda _: 1_800_000_000_000_000_000))
    bench.insert("acme", None)
    error = check(bench.source, "times", "acme")
    assert error.level is Level.ERROR
    assert "source.time_unit" in error.hint


def test_times_of_another_unit_are_noticed(new_bench: Callable[..., PostgresBench]) -> None:
    """Seconds taken for milliseconds are readable, and of 1970: no window would ever have them on time."""
    bench = new_bench(Variant(time="bigint", unit="ms", stored_time=lambda _: 1_800_000_000))
    bench.insert("acme", at(1))
    warning = check(bench.source, "times", "acme")
    assert warning.message == "all records of 'acme' are dated before 2000"
    assert warning.hint == "is source.time_unit: ms right?"


def test_positions_of_another_database_are_an_error(bench: PostgresBench) -> None:
    """After a restore from a dump nothing would come out; the hint gives the records numbers of this one."""
    for seconds in range(3):
        bench.insert("acme", at(seconds))
    bench.execute("UPDATE {table} SET export_xid = '1000000000000' WHERE id > 1")
    error = check(bench.source, "positions", "acme")
    assert error.level is Level.ERROR
    assert error.message.startswith("2 records have a export_xid that this database has not come to")
    bench.execute(error.hint)
    assert checks(bench.source, "positions", "acme") == []


def test_records_without_a_position_are_an_error(new_bench: Callable[..., PostgresBench]) -> None:
    """A query can lose what the table cannot."""
    query = "SELECT id, happened, account, CASE WHEN id > 1 THEN export_xid END AS export_xid FROM {table}"
    bench = new_bench(Variant(query=query))
    for seconds in range(3):
        bench.insert("acme", at(seconds))
    error = check(bench.source, "positions", "acme")
    assert (error.level, error.message) == (Level.ERROR, "1 records have no export_xid")


def test_ids_that_several_records_have_are_an_error(new_bench: Callable[..., PostgresBench]) -> None:
    """Keys could not tell them apart."""
    bench = new_bench(Variant(query="SELECT * FROM {table} UNION ALL SELECT * FROM {table}"))
    bench.insert("acme", at(1))
    error = check(bench.source, "ids", "acme")
    assert (error.level, error.message) == (Level.ERROR, "several records of 'acme' have one id")


def test_many_accounts_are_looked_at_quickly(bench: PostgresBench) -> None:
    """A hundred at a time; those beyond the first hundred count as well, and few are named."""
    bench.insert("acme", at(1))
    accounts = ["acme", *(f"nobody-{number}" for number in range(1_000))]
    started = time.monotonic()
    unknown = check(bench.source, "accounts", *accounts)
    assert time.monotonic() - started < 10
    assert unknown.message.endswith("'nobody-9' and 990 more")


# --- A look that fails hides no other -------------------------------------------------------------------


def test_what_takes_too_long_is_a_finding(
    new_bench: Callable[..., PostgresBench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow query ends after a few seconds, and everything else is still said."""
    monkeypatch.setattr(postgres_check, "TIMEOUT_S", 0.2)
    bench = new_bench(Variant(query="SELECT * FROM {table} WHERE pg_sleep(30) IS NOT NULL"))
    bench.insert("acme", at(1))
    found = list(bench.source.check(["acme"]))
    assert [finding.subject for finding in found] == [SUBJECTS[0], "appearing", *SUBJECTS[1:-1], "records"]
    assert {finding.level for finding in found[-2:]} == {Level.WARNING}
    assert found[-1].message == "could not be looked at within 0.2 s"
    assert found[0].level is Level.OK


def test_a_query_that_fails_is_a_finding_without_what_it_read(
    new_bench: Callable[..., PostgresBench],
) -> None:
    """A failed cast quotes the value, and that is a record's."""
    bench = new_bench(Variant(query="SELECT *, note::int AS number FROM {table} WHERE note::int > 0"))
    bench.insert("acme", at(1), "a-private-note")
    found = list(bench.source.check(["acme"]))
    errors = [finding for finding in found if finding.level is Level.ERROR]
    assert "records" in [finding.subject for finding in errors]
    assert "a-private-note" not in repr(found)


def test_a_locked_table_is_a_finding(bench: PostgresBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a check."""
    monkeypatch.setattr(postgres_check, "LOCK_TIMEOUT_S", 0.1)
    with transaction(bench) as application, bench.source._snapshot() as snapshot:
        application.execute(f"LOCK TABLE {bench.table}")
        found = postgres_check.findings(snapshot, bench.source._rules, ["acme"])
    assert of(found, "records")[0].level is Level.WARNING
    assert "is locked" in of(found, "records")[0].message
    assert of(found, "server")[0].level is Level.OK


def test_a_connection_that_drops_is_no_finding(new_bench: Callable[..., PostgresBench]) -> None:
    """There is nobody left to ask."""
    query = "SELECT * FROM {table} WHERE pg_terminate_backend(pg_backend_pid())"
    bench = new_bench(Variant(query=query))
    bench.insert("acme", at(1))
    with pytest.raises(SourceBusy):
        bench.source.check(["acme"])


def test_a_check_changes_nothing_for_the_reading_after_it(bench: PostgresBench) -> None:
    """Limits and planner settings end with the check, though the connection is used again."""
    bench.source.check(["acme"])
    query = "SELECT current_setting(name) FROM unnest('{statement_timeout,enable_seqscan}'::text[]) AS name"
    assert list(bench.source.settings(query)) == [b"30min", b"on"]


def test_a_query_or_view_is_said_to_show_records_by_inserts_alone(
    new_bench: Callable[..., PostgresBench],
) -> None:
    """What makes a record of them appear otherwise would be passed over: that is said, before it happens."""
    bench = new_bench(Variant(query="SELECT * FROM {table}"))
    found = check(bench.source, "appearing", "acme")
    assert found.level is Level.WARNING
    assert "another table" in found.message
    parted = new_bench(Variant(id="bigint DEFAULT nextval('{table}_ids')", schema=PARTITIONED + INDEXES))
    assert "attach empty tables" in check(parted.source, "appearing", "acme").message
    assert checks(new_bench().source, "appearing", "acme") == []
