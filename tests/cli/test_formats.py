"""`formats`: the list, a file to start from, schemas, and real records before and after."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml
from typer.testing import CliRunner

from exporter.cli import app
from tests.kit.command_line import DAY, START, Answer

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.kit.command_line import Vendor

NAMES = ["standard", "native", "ocsf", "ecs", "cef", "leef", "cerby", "auth0", "sentry"]


def run(*words: str) -> Answer:
    """One command, without a configuration."""
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    return Answer(result.exit_code, result.stdout, result.stderr)


def insert_newest(vendor: Vendor) -> None:
    """One more record, of an action of its own."""
    vendor.insert("acme", START + DAY)
    vendor.execute("UPDATE audit_log SET action = 'Newest' WHERE id = (SELECT max(id) FROM audit_log)")


def test_the_list_names_each_format_and_what_it_is_for() -> None:
    """A person sees a line for each; a machine the same, with the kind of lines and the parameters."""
    shown = run("formats").out
    listed = json.loads(run("formats", "--json").out)
    assert [one["name"] for one in listed] == NAMES
    assert {one["line"] for one in listed} == {"json", "cef", "leef"}
    for one in listed:
        assert one["about"].endswith(".")
        assert f"{one['name']} " in shown
        assert one["about"] in shown
    assert listed[NAMES.index("ocsf")]["parameters"]["schema"] == "1.8.0"


def test_what_is_printed_of_a_format_is_a_format(tmp_path: Path) -> None:
    """`formats NAME > mine.yaml` is a file that does the same, and that a person can go on from."""
    for name in NAMES:
        printed = run("formats", name).out
        mine = tmp_path / f"{name}.yaml"
        mine.write_text(printed, encoding="utf-8")
        assert run("formats", str(mine)).out == printed
        assert json.loads(run("formats", name, "--json").out)["text"] == printed
        assert yaml.safe_load(printed)["about"]


def test_a_sample_without_a_format_is_answered_with_a_command_that_works() -> None:
    """What a person is told to type can be typed as it stands."""
    for words in (("--sample", "2"), ("--schema",)):
        answer = run("formats", *words)
        assert answer.status == 2
        _, _, suggested = answer.err.rstrip().rpartition("such as: audit-exporter ")
        assert suggested.split() == ["formats", "standard", *words]
        assert run(*suggested.split()).status == 0


def test_a_schema_is_printed_where_there_is_one() -> None:
    """Our own formats have one; of another's format and of one's own it says whose it is."""
    assert json.loads(run("formats", "standard", "--schema").out)["$defs"]["record"]["required"]
    answer = run("formats", "ecs", "--schema")
    assert answer.status == 2
    assert "standard" in answer.err


def test_records_are_shown_before_and_after(vendor: Vendor) -> None:
    """The newest records of the account come as the source has them and as the format writes them."""
    insert_newest(vendor)
    before_and_after = json.loads(vendor("formats", "standard", "--sample", "2", "--json").out)
    assert len(before_and_after) == 2
    last = before_and_after[-1]
    assert last["before"]["action"] == last["after"]["Action"] == "Newest"
    assert last["after"]["Event ID"] == str(last["before"]["id"])
    shown = vendor("formats", "standard", "--sample", "1").out
    assert "actor_email: " in shown
    assert '"Action": "Newest"' in shown


def test_looking_changes_nothing(vendor: Vendor) -> None:
    """A sample reads the source, and leaves ledger and destinations alone."""
    before = vendor.fingerprint()
    assert vendor("formats", "ocsf", "--sample", "3").status == 0
    assert vendor.fingerprint() == before


def test_a_sample_goes_out_as_the_export_says(vendor: Vendor) -> None:
    """The filter of the chosen export holds, and it says how many records that left out."""
    vendor.export("acme", name="only", filter={"actions": "Newest"}, protect={"columns": {"email": "mask"}})
    insert_newest(vendor)
    found = json.loads(vendor("formats", "standard", "--sample", "9", "--export", "only", "--json").out)
    assert [one["after"]["Action"] for one in found] == ["Newest"]
    assert found[0]["after"]["Email"] != found[0]["before"]["actor_email"]
    assert "left out 4 more" in vendor("formats", "standard", "--sample", "9", "--export", "only").out


def test_a_sample_of_what_there_is_not_names_the_nearest(vendor: Vendor) -> None:
    """Exports and accounts in the words of every other command, also where the two do not go together."""
    vendor.export("globex", name="globex-copy")
    sample = ("formats", "standard", "--sample", "1")
    for words, said in (
        (("--export", "globex-cpy"), "no export 'globex-cpy' is configured\n  did you mean globex-copy?"),
        (("--account", "globx"), "no account 'globx' is configured\n  did you mean globex?"),
        (
            ("--export", "nosuch"),
            "no export 'nosuch' is configured\n  see them all with: audit-exporter status",
        ),
        (
            ("--export", "acme", "--account", "globex"),
            "--export acme is of account 'acme', not of --account globex\n",
        ),
    ):
        answer = vendor(*sample, *words)
        assert answer.status == 2
        assert f"audit-exporter: {said}" in answer.err


def test_a_file_is_shown_like_a_format(vendor: Vendor, tmp_path: Path) -> None:
    """A format of one's own can be tried before any export has it."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("about: Mine.\nfields: {what: action | upper, who: email}\n", encoding="utf-8")
    (found,) = json.loads(vendor("formats", str(mine), "--sample", "1", "--json").out)
    assert found["after"] == {
        "what": found["before"]["action"].upper(),
        "who": found["before"]["actor_email"],
    }


def test_without_a_configuration_records_are_invented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a fresh machine every format can be looked at, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIT_EXPORTER_CONFIG", raising=False)
    for name in NAMES:
        answer = run("formats", name, "--sample", "2")
        assert answer.status == 0
        assert "invented" in answer.out
        assert "Record 2" in answer.out
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_cannot_be_written_says_why(vendor: Vendor) -> None:
    """One bad record is shown as one, and hides none of the others."""
    vendor.insert("acme", START + DAY, b"\xff")
    good, bad = json.loads(vendor("formats", "standard", "--sample", "2", "--json").out)
    assert good["after"]["Action"] == "Login"
    assert bad["after"]["bad_record"]["id"] == "5"
    assert "UTF-8" in bad["after"]["bad_record"]["reason"]


def test_an_export_of_a_row_can_be_tried_too(vendor: Vendor) -> None:
    """Exports that come from the source's own rows are as good as those of the file."""
    row = {
        "account": "acme",
        "name": "rowed",
        "destination": {"type": "s3", "bucket": "acme-audit", "region": "us-east-1"},
    }
    vendor.settings["exports_from"] = {"query": f"SELECT '{json.dumps(row)}'"}
    answer = vendor("formats", "standard", "--sample", "1", "--export", "rowed")
    assert "'rowed'" in answer.out


def test_a_configuration_that_somebody_named_is_never_replaced_by_inventions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong name, on the command line or in the environment, is a mistake and no fresh machine."""
    monkeypatch.chdir(tmp_path)
    assert run("formats", "standard", "--sample", "1", "-c", "absent.yaml").status == 2
    monkeypatch.setenv("AUDIT_EXPORTER_CONFIG", str(tmp_path / "absent.yaml"))
    answer = run("formats", "standard", "--sample", "1")
    assert answer.status == 2
    assert "absent.yaml" in answer.err


def test_an_account_without_records_has_none_to_show(vendor: Vendor) -> None:
    """Nothing to show is said so, and is no error."""
    vendor.export("empty")
    assert "no record" in vendor("formats", "standard", "--sample", "1", "--account", "empty").out
    assert vendor("formats", "standard", "--sample", "1", "--account", "empty", "--json").out == "[]\n"


def test_an_export_that_is_wrong_says_so(vendor: Vendor) -> None:
    """An account whose only export has a mistake is told about it, and not that it is unknown."""
    vendor.export("wrong", format="stadnard")
    answer = vendor("formats", "standard", "--sample", "1", "--account", "wrong")
    assert answer.status == 2
    assert "stadnard" in answer.err


def test_what_cannot_be_shown_is_said(vendor: Vendor, tmp_path: Path) -> None:
    """An unknown name, a mistake in a file and an option without a format are refused with a reason."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("fields: {who: email | shout}\n", encoding="utf-8")
    absent = tmp_path / "absent.yaml"
    absent.write_text("fields: {who: colour}\n", encoding="utf-8")
    for arguments, said in (
        ((str(absent), "--sample", "1"), "'colour'"),
        (("nonsense",), "nonsense"),
        ((str(wrong),), "shout"),
        (("--sample", "1"), "--sample"),
        (("--schema",), "--schema"),
        (("standard", "--sample", "1", "--account", "nobody"), "nobody"),
    ):
        answer = vendor("formats", *arguments)
        assert answer.status == 2, answer
        assert said in answer.err
