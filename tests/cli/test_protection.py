"""`filter` and `protect` as a user sets them: what goes out, what is said of it, and what is refused."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from exporter.config import load
from exporter.destinations.directory import DirectoryStore
from exporter.errors import OutcomeUnknown, Refused
from exporter.formats import compile_format
from exporter.formats.protection import account_key, key_id
from exporter.wiring.renderings import correction, rendering_of
from tests.kit.command_line import DAY, START, Vendor

if TYPE_CHECKING:
    from pathlib import Path

KEY = "canary-zwitscher-0123"
MINUTE = timedelta(minutes=1)
SECRET = "gh" + "p_" + "a1B2" * 9
ACTIONS = ("Login", "login failed", "Export", "Login")


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vendor:
    """Four records in each of two windows that are due, of an account without an export yet."""
    monkeypatch.setattr("exporter.turns.RETRIES_S", ())
    monkeypatch.setenv("PSEUDONYMS", KEY)
    made = Vendor(tmp_path)
    made.settings["source"]["columns"]["ip_address"] = "ip_address"
    for day in (START, START + DAY):
        for number, action in enumerate(ACTIONS):
            made.insert("acme", day + number * MINUTE, f"token={SECRET}" if number == 3 else "fine")
            made.execute(
                "UPDATE audit_log SET action = ?, ip_address = ? WHERE id = last_insert_rowid() OR id ="
                " (SELECT max(id) FROM audit_log)",
                action,
                "203.0.113.77" if number else None,
            )
    return made


def without_answer(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The store fails, whatever it is given, until this is undone."""

    def put(*_: object) -> None:
        raise error

    monkeypatch.setattr(DirectoryStore, "put", put)


# --- what goes out -------------------------------------------------------------------------------------


def test_records_are_chosen_fields_too_and_values_protected(vendor: Vendor) -> None:
    vendor.export(
        "acme",
        filter={"actions": ["login*", "!*failed"], "fields": "!Action ID"},
        protect={
            "columns": {"email": "pseudonymise", "ip_address": "truncate"},
            "key": {"env": "PSEUDONYMS"},
        },
    )
    vendor.start()
    answer = vendor("run")
    assert answer.status == 0
    records = vendor.records()
    assert [record["Event ID"] for record in records] == ["1", "4", "5", "8"]
    assert list(records[0]) == ["Date", "Email", "Action", "Description", "IP Address", "Event ID"]
    assert [record["IP Address"] for record in records[:2]] == [None, "203.0.113.0"]
    assert [record["Description"] for record in records[:2]] == ["fine", "token=[masked]"]
    (name,) = {record["Email"] for record in records}
    assert len(name) == 32
    assert answer.out.splitlines()[-1] == (
        "acme: 4 records filtered out; 8 values protected: "
        "actor_email pseudonymise 4, ip_address truncate 2, secrets 2."
    )


def test_what_was_left_out_is_told_by_the_log_by_json_and_by_status(vendor: Vendor) -> None:
    vendor.export("acme", filter={"where": {"summary": "!fine"}}, protect={"columns": {"email": "drop"}})
    vendor.start()
    answer = vendor("run", "--json")
    protected = {"actor_email drop": 1, "secrets": 1}
    for line in (*answer.events("delivered"), *json.loads(answer.out)["objects"]):
        assert (line["filtered"], line["protected"]) == (3, protected)
    row = vendor.row("acme")
    assert (row["filtered"], row["protected"]) == (6, {name: 2 * count for name, count in protected.items()})
    said = vendor("status").out
    assert "acme: 6 records filtered out; 4 values protected: actor_email drop 2, secrets 2" in " ".join(
        said.split()
    )


def test_where_nothing_is_left_out_nothing_is_said_of_it(vendor: Vendor) -> None:
    vendor.export("acme", protect={"secrets": False})
    vendor.start()
    answer = vendor("run")
    assert SECRET in json.dumps(vendor.records())
    assert not {"filtered", "protected", "refused"} & set(answer.events("delivered")[0])
    assert not {"filtered", "protected"} & set((answer.out + vendor("status").out).split())


def test_a_window_of_nothing_but_filtered_records_makes_no_object_and_is_counted(vendor: Vendor) -> None:
    """The watermark moves on, and the count is of all windows."""
    vendor.export("acme", filter={"actions": "nothing like it"})
    vendor.start()
    assert vendor("run").status == 0
    assert vendor.objects() == {}
    row = vendor.row("acme")
    assert (row["filtered"], row["sequence"], row["lag_s"]) == (8, 0, 0)


def test_parts_of_a_window_have_every_chosen_record_once(vendor: Vendor) -> None:
    vendor.export("acme", filter={"actions": "login"}, part_limit=150)
    vendor.start()
    assert vendor("run").status == 0
    assert vendor.event_ids() == ["1", "4", "5", "8"]
    assert len(vendor.objects()) == 4
    assert vendor.row("acme")["filtered"] == 4


# --- rows that customers may have a hand in --------------------------------------------------------------


def test_a_row_that_weakens_protection_is_set_aside_and_the_others_go_on(vendor: Vendor) -> None:
    protect = {"columns": {"email": "pseudonymise"}, "key": {"env": "PSEUDONYMS"}}
    vendor.settings["defaults"]["protect"] = protect
    vendor.settings["exports_from"] = {"query": "SELECT settings FROM audit_exports", "folder": "."}
    vendor.execute("CREATE TABLE audit_exports (settings TEXT)")
    wrong: list[dict[str, Any]] = [
        {"protect": {"columns": {"actor_email": "drop"}}},
        {"filter": {"where": ["x"]}},
    ]
    for number, own in enumerate([*wrong, {}]):
        row = {
            "account": "acme",
            "name": f"row {number}",
            "destination": {"type": "directory", "path": "out"},
        }
        vendor.execute("INSERT INTO audit_exports VALUES (?)", json.dumps(row | own))
    vendor.start()
    answer = vendor("run")
    assert answer.status == 10
    said = " ".join(answer.out.split())
    assert "Skipped: row 0: exports_from.query, row 1: protect.columns.actor_email: must be" in said
    assert "Skipped: row 1: exports_from.query, row 2: filter.where: must be a mapping, not a list" in said
    assert {line["export"] for line in answer.events("delivered")} == {"row 2"}
    assert "ada@" not in json.dumps(vendor.records())


# --- a plan keeps what it was made with ----------------------------------------------------------------


def test_an_open_plan_keeps_its_filter_and_the_next_one_has_the_new(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have landed already: the same bytes again, and the same counts."""
    vendor.export("acme", filter={"actions": "login"})
    vendor.start()
    with monkeypatch.context() as patch:
        without_answer(patch, OutcomeUnknown("no answer"))
        assert vendor("run").status == 10
    vendor.settings["exports"][0] |= {"filter": {"actions": "export"}, "protect": {"secrets": False}}
    answer = vendor("run", "--export", "acme", "--json")
    assert answer.status == 0
    assert vendor.event_ids() == ["1", "4", "7"]
    assert SECRET not in json.dumps(vendor.records())
    assert [line["filtered"] for line in json.loads(answer.out)["objects"]] == [2, 3]
    assert len(answer.events("delivered")[0]["content_sha256"]) == 1
    assert vendor.row("acme")["filtered"] == 5


def test_an_open_plan_waits_for_its_own_key(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor.export("acme", protect={"columns": {"email": "pseudonymise"}, "key": {"env": "PSEUDONYMS"}})
    vendor.start()
    with monkeypatch.context() as patch:
        without_answer(patch, Refused("no right"))
        assert vendor("run").status == 10
    for other in ({"columns": {"email": "pseudonymise"}, "key": "another-key-of-mine"}, {}):
        vendor.settings["exports"][0]["protect"] = other
        answer = vendor("run", "--export", "acme")
        assert answer.status == 10
        (failed,) = answer.events("failed")
        assert "pseudonyms of another key" in failed["error"]
        assert "put the earlier key back" in failed["hint"]
        assert "`audit-exporter resume EXPORT` has an open plan made anew" in failed["hint"]
    vendor.settings["exports"][0]["protect"] = {
        "columns": {"email": "pseudonymise"},
        "key": {"env": "PSEUDONYMS"},
    }
    assert vendor("run", "--export", "acme").status == 0
    assert len(vendor.objects()) == 2


def test_a_replay_after_a_change_of_keys_speaks_of_no_open_plan(vendor: Vendor) -> None:
    protect: dict[str, Any] = {"columns": {"email": "pseudonymise"}, "key": {"env": "PSEUDONYMS"}}
    vendor.export("acme", protect=protect)
    vendor.start()
    assert vendor("run").status == 0
    protect["key"] = "another-key-of-mine"
    answer = vendor("replay", "--export", "acme", "--seq", "1")
    assert answer.status == 10
    assert "its plan has pseudonyms of another key" in " ".join((answer.out + answer.err).split())


def test_a_lost_key_is_got_over_by_resume(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that cannot have landed is made anew with the key that there is."""
    vendor.export("acme", protect={"columns": {"email": "pseudonymise"}, "key": {"env": "PSEUDONYMS"}})
    vendor.start()
    with monkeypatch.context() as patch:
        without_answer(patch, Refused("no right"))
        assert vendor("run").status == 10
    vendor.settings["exports"][0]["protect"]["key"] = "another-key-of-mine"
    assert vendor("run").status == 10
    assert vendor("resume", "acme").status == 0
    assert vendor("run").status == 0
    assert len(vendor.records()) == 8


def test_the_key_is_in_no_file_and_no_message(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as it is nor as the account's own; of that there is the id alone."""
    vendor.export("acme", protect={"columns": {"email": "pseudonymise"}, "key": {"env": "PSEUDONYMS"}})
    vendor.start()
    with monkeypatch.context() as patch:
        without_answer(patch, OutcomeUnknown("no answer"))
        answers = [vendor("run"), vendor("status", "--json"), vendor("check")]
    own = account_key(KEY, "acme")
    kept = b"".join(path.read_bytes() for path in vendor.folder.rglob("*") if path.is_file())
    said = "".join(answer.out + answer.err for answer in answers).encode() + kept
    for secret in (KEY.encode(), own, own.hex().encode()):
        assert secret not in said
    assert key_id(own).encode() in kept


# --- bad records ---------------------------------------------------------------------------------------


def test_a_bad_record_goes_out_without_what_is_protected_and_is_kept_whole(vendor: Vendor) -> None:
    vendor.insert("acme", START + 9 * MINUTE, b"\xff token=abc")
    vendor.export("acme", protect={"columns": {"email": "mask"}})
    vendor.start()
    assert vendor("run").status == 0
    (form,) = (record["bad_record"] for record in vendor.records() if "bad_record" in record)
    leading = base64.b64decode(form["leading_bytes"])
    assert b"ada@" not in leading
    assert b"abc" not in leading
    assert b"token=[masked]" in leading
    kept = json.loads(vendor("ledger", "bad-records", "--export", "acme", "--seq", "1").out)
    assert "ada@acme.example" in kept["body"]
    assert "token=abc" in kept["body"]


# --- mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"protect": {"columns": {"email": "hash"}}},
            "is not 'drop' or 'mask' or 'truncate' or 'pseudonymise'",
        ),
        ({"protect": {"columns": {"email": "pseudonymise"}}}, "needs a `key` to pseudonymise 'email'"),
        (
            {"protect": {"columns": {"time": "mask"}}},
            "'time' is the source's time, which cannot be protected",
        ),
        (
            {"protect": {"columns": {"account_id": "drop"}}},
            "is the source's account, which cannot be protected",
        ),
        ({"filter": {"fields": ["Emial"]}}, "filter.fields: 'Emial' is no field of the format"),
        ({"filter": {"action": "login"}}, "did you mean 'actions'?"),
        (
            {"protect": {"columns": {"email": "pseudonymise"}, "key": "canary-short"}},
            "protect.key of export 'acme': is 12 bytes long, and needs 16 or more",
        ),
        (
            {"protect": {"columns": {"email": "pseudonymise"}, "key": {"env": "NOT_SET_AT_ALL"}}},
            "protect.key of export 'acme': the environment variable NOT_SET_AT_ALL is not set",
        ),
    ],
)
def test_a_mistake_is_named_and_keeps_the_export_alone_from_running(
    vendor: Vendor, settings: dict[str, Any], said: str
) -> None:
    vendor.export("acme", **settings)
    vendor.export("globex")
    vendor.insert("globex", START)
    vendor.start()
    answer = vendor("run")
    assert answer.status == 10
    assert said in " ".join(answer.out.split())
    assert "canary" not in answer.out + answer.err
    assert [name.split("/")[1] for name in vendor.objects()] == ["globex"]


@pytest.mark.parametrize(
    "how", [{"filter": {"where": {"sumary": "x"}}}, {"protect": {"columns": {"sumary": "mask"}}}]
)
@pytest.mark.parametrize("form", ["standard", "native"])
def test_a_column_that_there_is_not_delivers_nothing(vendor: Vendor, how: dict[str, Any], form: str) -> None:
    """Neither the records of a filter that cannot judge, nor values that should have been protected."""
    vendor.export("acme", format=form, **how)
    vendor.start()
    answer = vendor("run")
    assert answer.status == 10
    assert "the source has no column 'sumary'" in answer.out
    assert vendor.objects() == {}


@pytest.mark.parametrize(
    "settings", [{"filter": {"where": {"statu": "ok"}}}, {"protect": {"columns": {"emial": "mask"}}}]
)
def test_check_names_a_column_that_only_filter_or_protection_ask_for(
    vendor: Vendor, settings: dict[str, Any]
) -> None:
    """Also for a format that takes every column as it comes, where nothing else would miss it."""
    vendor.export("acme", format="native", **settings)
    vendor.start()
    answer = vendor("check")
    assert answer.status == 10
    assert "the source has no column" in answer.out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"filter": {"where": {"statu": "ok"}}}, "correct filter of the export, or source.columns"),
        ({"filter": {"fields": "!statu"}}, "correct filter.fields of the export, or source.columns"),
        ({"protect": {"columns": {"emial": "mask"}}}, "correct protect.columns of the export, or"),
    ],
)
def test_what_to_do_about_a_missing_column_names_the_setting_that_asks_for_it(
    vendor: Vendor, settings: dict[str, Any], said: str
) -> None:
    """Another format would ask for it too; where the format asks as well, both are named."""
    vendor.export("acme", format="native", **settings)
    vendor.write()
    config = load(vendor.config, {})
    rendering = rendering_of(config, config.exports[0])
    missing = set(compile_format(rendering).named) - {"id"}
    assert correction(rendering, missing).startswith(said)
    assert correction(rendering, [*missing, "target"]).startswith("correct source.columns or ")
    assert correction(rendering, ["target"]) == "correct source.columns, or choose another format"
