"""What a person asks for: pause, resume, rename, ledger, backfill, replay."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.conftest import MANY
from tests.kit.command_line import DAY, START, TODAY, Vendor, name_of, rfc3339, until_first_delivery

# --- pause, resume, rename -------------------------------------------------------------------------


def test_a_paused_export_gets_nothing_until_it_is_resumed(vendor: Vendor) -> None:
    vendor("run", "--as-of", rfc3339(START))
    paused = vendor("pause", "acme")
    assert (paused.status, paused.out) == (0, "acme is paused. Go on with: audit-exporter resume acme\n")
    assert vendor("run").out == "Nothing was due.\n"
    assert vendor.objects() == {}
    resumed = vendor("resume", "acme")
    assert (resumed.status, resumed.out) == (0, "acme goes on with the next run.\n")
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("1234")


def test_a_foreign_object_stops_an_export_until_a_person_resumes_it(vendor: Vendor) -> None:
    foreign = vendor.out / name_of("acme", START + DAY)
    foreign.parent.mkdir(parents=True)
    foreign.write_text("somebody else's")
    answer = vendor("run")
    assert answer.status == 10
    alarm = (
        "a foreign object has the name of this export's next object: "
        f"file://{vendor.out}/{name_of('acme', START + DAY)}"
    )
    hint = (
        "find out who else writes under this prefix, keep that object or move it away, "
        "then run: audit-exporter resume acme"
    )
    assert f"Not delivered: acme: {alarm}\n  {hint}\n" in answer.out
    assert (vendor.row("acme")["error"], vendor.row("acme")["what_to_do"]) == (alarm, hint)
    assert vendor("run", "--export", "acme").status == 10
    assert foreign.read_text() == "somebody else's"
    said = vendor("resume", "acme").out
    assert said == (
        "acme goes on with the next run."
        " Its open plan cannot have landed and will be made anew, named from now on.\n"
    )
    foreign.rename(vendor.folder / "kept")
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("1234")


def test_a_renamed_export_goes_on_where_it_was(vendor: Vendor) -> None:
    vendor("run", "--as-of", rfc3339(START + DAY))
    said = vendor("rename", "acme", "acme-archive")
    assert (said.status, said.out) == (
        0,
        "The ledger now calls it acme-archive; give it that `name` in the configuration.\n",
    )
    vendor.settings["exports"][0]["name"] = "acme-archive"
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("1234")


def test_an_export_is_not_renamed_to_another(vendor: Vendor) -> None:
    vendor.export("globex")
    vendor("run")
    answer = vendor("rename", "acme", "globex")
    assert answer.status == 2
    assert answer.err == (
        "audit-exporter: there is an export named 'globex' already\n"
        "  choose another name; see them all with: audit-exporter status\n"
    )


@pytest.mark.parametrize("words", [("pause", "amce"), ("resume", "amce"), ("rename", "amce", "acme2")])
def test_an_export_that_the_ledger_does_not_know_is_named(vendor: Vendor, words: tuple[str, ...]) -> None:
    answer = vendor(*words)
    assert answer.status == 2
    assert answer.err == (
        "audit-exporter: the ledger knows no export named 'amce'\n"
        "  it has not begun, or has another name; see them all with: audit-exporter status\n"
    )


# --- ledger ----------------------------------------------------------------------------------------


def test_a_ledger_is_created_once(vendor: Vendor) -> None:
    vendor("run")
    before = vendor.fingerprint()
    answer = vendor("ledger", "create")
    assert answer.status == 20
    assert answer.err.startswith(f"audit-exporter: there is a file at {vendor.ledger} already\n  ")
    assert vendor.fingerprint() == before


def test_a_ledger_of_today_needs_no_migration(vendor: Vendor) -> None:
    answer = vendor("ledger", "migrate")
    assert answer.status == 0
    assert answer.out.startswith(f"The ledger {vendor.ledger} is at version ")
    assert answer.out.endswith(" already.\n")


def test_the_records_that_could_not_be_rendered_can_be_read(vendor: Vendor) -> None:
    vendor.insert("acme", START, b"caf\xe9")
    assert vendor("run").status == 0
    vendor.database.unlink()
    answer = vendor("ledger", "bad-records", "--export", "acme", "--seq", "1")
    assert answer.status == 0
    (record,) = [json.loads(line) for line in answer.out.splitlines()]
    assert record["id"] == "5"
    assert "UTF-8" in record["reason"]
    assert "caf" in record["body"]
    assert vendor("ledger", "bad-records", "--export", "acme", "--seq", "2").out == ""
    assert vendor("ledger", "bad-records", "--export", "acme", "--seq", "3").status == 2


@pytest.mark.parametrize("queried", [False, True])
def test_without_the_source_a_person_still_sees_and_says_what_goes_on(
    vendor: Vendor, *, queried: bool
) -> None:
    vendor.export("globex")
    vendor.insert("globex", START)
    vendor("run")
    if queried:
        vendor.settings["exports_from"] = {"query": "SELECT settings FROM audit_exports"}
        del vendor.settings["exports"][1]
    vendor.database.unlink()
    for words in (["pause", "globex"], ["resume", "globex"], ["rename", "globex", "initech"]):
        assert vendor(*words).status == 0
    assert vendor.row("acme")["state"] == "up to date"
    assert vendor("ledger", "migrate").status == 0
    assert vendor("ledger", "restored").status == 0
    answer = vendor("status")
    assert answer.status == 0
    unknown = f"exports_from.query: its exports are unknown for now: there is no database {vendor.database}"
    assert (unknown in answer.out) is queried
    state, error = ("unknown", unknown) if queried else ("not configured", "")
    assert (vendor.row("initech")["state"], vendor.row("initech")["error"]) == (state, error)
    assert vendor("run").status == (10 if queried else 20)  # of what is known, nothing is due without it


def test_a_query_that_cannot_be_read_holds_up_no_export_of_the_file(vendor: Vendor) -> None:
    vendor.settings["exports_from"] = {"query": "SELECT settings FROM audit_exports"}
    answer = vendor("run")
    assert answer.status == 10
    assert "Skipped: exports_from.query: its exports are unknown for now: " in answer.out
    assert vendor.event_ids() == list("1234")
    (said,) = vendor("run", "--export", "initech").events("stopped")
    assert said["error"].startswith("exports_from.query: its exports are unknown for now: ")


def test_a_restored_ledger_loses_nothing(vendor: Vendor) -> None:
    vendor("run", "--as-of", rfc3339(START + DAY))
    backup = vendor.ledger.read_bytes()
    vendor("run")
    vendor.ledger.write_bytes(backup)
    answer = vendor("ledger", "restored")
    assert answer.status == 0
    assert answer.out.startswith("The restored ledger is in service. 0 open plans will be made anew;")
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("123344")
    names = list(vendor.objects())
    assert names[-1] > name_of("acme", TODAY)


def test_an_accepted_source_goes_on_from_before_it_changed(vendor: Vendor) -> None:
    vendor("run")
    vendor.execute("DELETE FROM audit_log WHERE id > 2")
    vendor.execute("UPDATE sqlite_sequence SET seq = 2")
    vendor.insert("acme", TODAY - timedelta(hours=1))
    vendor.settings["defaults"]["every"] = "1s"  # so that something is due, whatever the hour
    refused = vendor("run")
    assert refused.status == 20
    assert "accept-source" in refused.events("failed")[0]["hint"]
    answer = vendor("ledger", "accept-source", "--from", rfc3339(START))
    assert answer.status == 0
    assert answer.out.startswith(f"acme goes on from {rfc3339(START)}\n")
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("112233" + "4")


# --- backfill and replay ---------------------------------------------------------------------------


@pytest.fixture
def history(vendor: Vendor) -> Vendor:
    """The same account, live delivery up to date, with a record on each of three days before that."""
    for days in (3, 2, 1):
        vendor.insert("acme", START - days * DAY)
    assert vendor("run").status == 0
    assert vendor.event_ids() == list("1234")
    return vendor


def past(days: int, until: int = 0) -> list[str]:
    return ["backfill", "--account", "acme", "--from", rfc3339(START - days * DAY),
            "--to", rfc3339(START - until * DAY)]  # fmt: skip


def test_a_dry_backfill_prints_names_counts_and_sizes_and_writes_nothing(history: Vendor) -> None:
    before = history.fingerprint()
    answer = history(*past(3), "--dry-run")
    assert answer.status == 0
    heading, *rows, total = answer.out.splitlines()
    assert heading.split() == ["Object", "Records", "Late", "Bad", "Bytes"]
    assert [row.split()[1:4] for row in rows] == [["1", "0", "0"]] * 3
    assert total == "3 objects with 3 records would be delivered."
    assert history.fingerprint() == before


def test_a_backfill_delivers_a_past_range_under_new_names_and_moves_no_watermark(history: Vendor) -> None:
    before, names = history.row("acme")["watermark"], list(history.objects())
    assert history(*past(3)).status == 0
    assert history.event_ids() == list("1234567")
    new = [name for name in history.objects() if name not in names]
    assert min(new) > max(names)
    assert max(new) < name_of("acme", datetime.now(UTC) + timedelta(seconds=1))
    assert history.row("acme")["watermark"] == before
    assert history.row("acme")["requests"] == []


@pytest.mark.slow
def test_a_backfill_that_was_killed_goes_on_with_the_same_command(busy: Vendor) -> None:
    begin = START + MANY * timedelta(hours=1)
    busy.settings["defaults"]["start"] = rfc3339(begin)
    words = ["backfill", "--account", "acme", "--from", rfc3339(START), "--to", rfc3339(begin)]
    process = busy.spawn(*words)
    until_first_delivery(process)
    process.kill()
    process.communicate(timeout=60)
    (request,) = busy.row("acme")["requests"]
    range_ = f"--from {rfc3339(START)} --to {rfc3339(begin)}"
    assert request == f"audit-exporter backfill --export acme {range_}"
    assert busy(*request.split()[1:]).status == 0
    assert busy.event_ids() == [str(number + 1) for number in range(MANY)]
    assert busy.row("acme")["requests"] == []


def test_a_backfill_of_what_live_delivery_covers_is_refused(history: Vendor) -> None:
    answer = history(*past(3, until=-1))
    assert answer.status == 2
    (said,) = answer.events("stopped")
    assert said["error"] == (f"live delivery of export 'acme' covers every record from {rfc3339(START)} on")
    assert f"--to {rfc3339(START)}" in said["hint"]
    assert "--redeliver" in said["hint"]
    assert history.event_ids() == list("1234")


def test_a_backfill_of_what_another_one_delivered_needs_redeliver(history: Vendor) -> None:
    assert history(*past(3)).status == 0
    answer = history(*past(2))
    assert answer.status == 2
    assert answer.events("stopped")[0]["error"] == (
        f"an earlier backfill of export 'acme' covers {rfc3339(START - 3 * DAY)} to {rfc3339(START)}"
    )
    assert history(*past(2), "--redeliver").status == 0
    assert history.event_ids() == list("123456677")


@pytest.mark.parametrize("redeliver", [[], ["--redeliver"]])
def test_a_finished_backfill_said_again_delivers_nothing_and_says_so(
    history: Vendor, redeliver: list[str]
) -> None:
    assert history(*past(3), *redeliver).status == 0
    before = history.objects()
    answer = history(*past(3), *redeliver)
    assert answer.status == 0
    option = "--again" if redeliver else "--redeliver"
    assert answer.out == f"Already delivered. Once more: add {option}\n"
    assert history.objects() == before
    more = history(*past(3), *redeliver, *(["--again"] if redeliver else ["--redeliver"]))
    assert more.status == 0
    assert history.event_ids() == list("1234556677")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*past(3), "--again"], "--again is a second --redeliver"),
        (["replay", "--export", "acme", "--seq", "1..999999999999"], "--seq names more than 10,000 objects"),
        (["replay", "--export", "acme", "--seq", "9" * 30], "is not a sequence number"),
        (past(0, until=3), " is not before --to "),
        (past(1, until=-400), " lies in the future"),
        (["backfill", "--from", "2026-01-01", "--to", "2026-01-02"], "it is not said whose records"),
        (["replay", "--export", "acme", "--seq", "2..1"], "'2..1' is not a sequence number"),
        (
            ["replay", "--export", "acme", "--seq", "9"],
            "export 'acme' has delivered nothing with sequence number 9",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(history: Vendor, words: list[str], message: str) -> None:
    answer = history(*words)
    assert answer.status == 2
    assert message in answer.err
    assert history.event_ids() == list("1234")


def test_a_request_for_one_of_many_exports_says_how_many_there_are(vendor: Vendor) -> None:
    """Some names, and that they are not all."""
    for number in range(31):
        vendor.export("acme", name=f"copy-{number}", destination={"type": "directory", "path": f"o{number}"})
    (said,) = vendor(*past(1)).events("stopped")
    assert said["error"] == (
        "this needs exactly one export, and the choice leaves 32: "
        "acme, copy-0, copy-1, copy-2, copy-3 and 27 more"
    )
    assert said["hint"] == "name it with --export NAME"


def test_a_replay_delivers_the_same_content_under_new_names(history: Vendor) -> None:
    before = history.objects()
    dry = history("replay", "--export", "acme", "--seq", "1..2", "--dry-run")
    assert dry.out.splitlines()[-1] == "2 objects with 4 records would be delivered."
    assert history.objects() == before
    assert history("replay", "--export", "acme", "--seq", "1..2").status == 0
    new = {name: data for name, data in history.objects().items() if name not in before}
    assert list(new.values()) == list(before.values())
    assert min(new) > max(before)


def test_a_replay_of_records_that_the_source_no_longer_has_says_so(history: Vendor) -> None:
    history.execute("DELETE FROM audit_log WHERE id = 3")
    history.execute("UPDATE audit_log SET account_id = 'moved' WHERE id < 3")
    before = history.objects()
    answer = history("replay", "--export", "acme", "--seq", "1")
    message = "the source no longer has the records of sequence number 1"
    hint = "replay renders from the source again; the object itself is where it was delivered"
    assert answer.status == 10
    assert f"Not delivered: acme: {message}\n  {hint}\n" in answer.out
    assert history.objects() == before
