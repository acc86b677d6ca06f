"""The configuration: what it means, and what a person is told about every kind of mistake in it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from exporter import config
from exporter.config import (
    Columns,
    Config,
    Defaults,
    ExportSettings,
    LedgerSettings,
    Secret,
    SourceSettings,
    Surroundings,
    parse_size,
)
from exporter.destinations.directory import DirectorySettings
from exporter.destinations.gcs.settings import GcsSettings
from exporter.destinations.s3.settings import S3Settings
from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD = """\
source:
  url: sqlite:///audit.db
  table: audit_log
  columns: {id: id, time: created_at, account: account_id}
ledger: {url: sqlite:///ledger.db}
"""
FOLDER = "destination: {type: directory, path: out}"
CANARY = "hunter2canary"

EXAMPLE = """\
source:
  url: sqlite:///audit.db
  table: audit_log
  columns: {id: id, time: created_at, account: account_id, commit: export_xid,
            email: actor_email, action: action, action_id: target_id, description: summary,
            ip_address: ip_address}
ledger: {url: sqlite:///ledger.db}
defaults: {every: 4h, grace: 60s, timezone: UTC, format: standard, archive: zip, start: 2026-11-01T00:00:00Z}
exports:
  - account: R6R-KRR-7K7Z
    timezone: America/New_York
    destination: {type: s3, bucket: acme-audit, prefix: vendor, region: us-east-1,
                  role_arn: "arn:aws:iam::123456789012:role/audit",
                  external_id: {env: ACME_EXTERNAL_ID},
                  kms_key: "arn:aws:kms:us-east-1:123456789012:key/0d9f"}
  - {account: local, destination: {type: directory, path: ./out}}
exports_from: {files: exports.d/*.yaml}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default configuration file of an empty working folder."""
    monkeypatch.chdir(tmp_path)
    return Path("audit-exporter.yaml")


@pytest.fixture
def load(file: Path) -> Callable[..., Config]:
    def load(text: str, environ: dict[str, str] | None = None) -> Config:
        file.write_text(text, encoding="utf-8")
        return config.load(None, environ or {})

    return load


@pytest.fixture
def refusal(load: Callable[..., Config]) -> Callable[[str], list[str]]:
    def refusal(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text)
        assert caught.value.hint
        return caught.value.message.splitlines()

    return refusal


@pytest.fixture
def problem(load: Callable[..., Config]) -> Callable[[str], str]:
    """What is said about the one export, written from line 7 on."""

    def problem(export: str) -> str:
        lines = export.splitlines()
        found = load(HEAD + "exports:\n  - " + "\n    ".join(lines))
        assert not found.exports
        (only,) = found.problems
        return only.message.removeprefix("audit-exporter.yaml, ")

    return problem


# --- What a right file means -----------------------------------------------------------------------


def test_the_example_means_what_it_says(load: Callable[..., Config]) -> None:
    found = load(EXAMPLE, {"ACME_EXTERNAL_ID": CANARY})
    assert found.problems == ()
    assert found.source.url.reveal() == "sqlite:///audit.db"
    assert found.source.columns.ip_address == "ip_address"
    first, second = found.exports
    assert (first.account, first.name, first.timezone) == ("R6R-KRR-7K7Z", "R6R-KRR-7K7Z", "America/New_York")
    assert (first.every, first.grace) == (timedelta(hours=4), timedelta(seconds=60))
    assert first.start == datetime(2026, 11, 1, tzinfo=UTC)
    assert isinstance(first.destination, S3Settings)
    assert first.destination.external_id is not None
    assert first.destination.external_id.reveal() == CANARY
    assert isinstance(second.destination, DirectorySettings)
    assert second.timezone == "UTC"


def test_without_defaults_an_export_gets_the_built_in_ones(load: Callable[..., Config]) -> None:
    (export,) = load(HEAD + f"exports: [{{account: a, {FOLDER}}}]").exports
    assert export.every == timedelta(hours=4)
    assert export.grace == timedelta(seconds=60)
    assert (export.timezone, export.format.name, export.archive, export.body) == (
        "UTC",
        "standard",
        "zip",
        "ndjson",
    )
    assert export.start is None
    assert (export.part_limit, export.max_record) == (1024**3, 4_000_000)


def test_defaults_reach_every_export_that_does_not_say_otherwise(load: Callable[..., Config]) -> None:
    first, second = load(
        HEAD + "defaults: {every: 1m, archive: gzip}\nexports:\n"
        f"  - {{account: a, {FOLDER}}}\n  - {{account: b, every: 1h, {FOLDER}}}"
    ).exports
    assert (first.every, second.every) == (timedelta(minutes=1), timedelta(hours=1))
    assert first.archive == second.archive == "gzip"


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "conf.yaml"
    path.parent.mkdir()
    path.write_text(HEAD + f"workspace: scratch\nexports: [{{account: a, {FOLDER}}}]")
    found = config.load(path, {})
    assert found.workspace == path.parent / "scratch"
    assert isinstance(found.exports[0].destination, DirectorySettings)
    assert found.exports[0].destination.path == path.parent / "out"


def test_anchors_and_merge_keys_carry_settings_from_one_export_to_another(
    load: Callable[..., Config],
) -> None:
    first, second = load(
        HEAD + f"exports:\n  - &base {{account: a, every: 1h, {FOLDER}}}\n  - {{<<: *base, account: b}}"
    ).exports
    assert (second.account, second.every, second.destination) == ("b", first.every, first.destination)


def test_plain_words_of_other_yaml_versions_stay_text(load: Callable[..., Config]) -> None:
    """NO is a country, 0042 an account and 1:30 no number of minutes."""
    accounts = ["NO", "on", "0042", "1:30", "1_000", "0x1f", "2026-11-01"]
    listed = "".join(f"  - {{account: {account}, {FOLDER}}}\n" for account in accounts)
    assert [export.account for export in load(f"{HEAD}exports:\n{listed}").exports] == accounts


def test_settings_cannot_be_changed(load: Callable[..., Config]) -> None:
    (export,) = load(HEAD + f"exports: [{{account: a, {FOLDER}}}]").exports
    with pytest.raises(ValidationError):
        export.every = timedelta(hours=1)


# --- Which file ------------------------------------------------------------------------------------


def test_the_argument_goes_before_the_variable_and_the_variable_before_the_folder(file: Path) -> None:
    paths = [Path("given.yaml"), Path("variable.yaml"), file]
    for path in paths:
        path.touch()
    environ = {"AUDIT_EXPORTER_CONFIG": "variable.yaml"}
    found = [config.find(Path("given.yaml"), environ), config.find(None, environ), config.find(None, {})]
    assert found == paths


def test_without_a_file_the_hint_says_how_to_get_one(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.find(None, {})
    assert caught.value.message == f"there is no configuration file {file}"
    assert "`audit-exporter init`" in caught.value.hint


# --- Mistakes that concern the whole file ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2\n", "line 2: did not find expected ',' or ']' (in what begins in line 1)"),
        ("a: b: c", "line 1: a ':' is not allowed here; correct the indentation, or put the text in quotes"),
        (
            "a:\n\tb: 1",
            "line 2: text cannot begin with this character; put it in quotes, and indent with spaces alone",
        ),
        ("a: 1\n---\nb: 2", "line 2: a second document begins"),
        ("a: 1\nb: \x01", "line 2: a control character is not allowed"),
        ("[" * 100_000, "line 1: nested too deep"),
        ("- a", "line 1: must be a mapping, not a list"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_with_the_line(
    refusal: Callable[[str], list[str]], text: str, said: str
) -> None:
    assert refusal(text) == [f"audit-exporter.yaml, {said}"]


def test_a_file_in_another_encoding_is_refused_with_the_line(file: Path) -> None:
    file.write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(ConfigError, match="line 2: not UTF-8 text"):
        config.load(file, {})


def test_an_empty_file_lacks_its_parts(refusal: Callable[[str], list[str]]) -> None:
    assert [line.partition(": ")[2] for line in refusal("")] == ["source: missing", "ledger: missing"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "exprots: []", "line 6: exprots: unknown key; did you mean 'exports'?"),
        (HEAD + "ledger: {}", "line 6: ledger: given twice, first in line 5"),
        (HEAD + "exports: {}", "line 6: exports: must be a list, not a mapping"),
        (HEAD + "exports:", "line 6: exports: has no value"),
        (HEAD, "line 1: there is no export: list them under `exports`, or say `exports_from`"),
        (
            HEAD + "exports_from: {query: 5}",
            "line 6: exports_from.query: must be text, not a number; put it in quotes",
        ),
        (
            HEAD + "exports_from: {files: 5}",
            "line 6: exports_from.files: must be text or a list, not a number",
        ),
        (HEAD + "exports_from: {fils: x}", "line 6: exports_from.fils: unknown key; did you mean 'files'?"),
        (HEAD + "[a]: b", "line 6: '?': a key must be text"),
        (HEAD + "<<: 5", "line 6: '<<': must name a mapping"),
        (
            HEAD.replace("table: audit_log", "query: SELECT 1\n  table: t") + "exports_from: {files: x}",
            "line 1: source: needs either `table` or `query`, not both",
        ),
        (
            HEAD.replace("account: account_id", "acount: account_id") + "exports_from: {files: x}",
            "line 4: source.columns.acount: unknown key; did you mean 'account'?",
        ),
        (
            HEAD + "defaults: {every: 5h}",
            "line 6: defaults.every: 5h does not divide a day into equal windows; nearest: 4h and 6h",
        ),
    ],
)
def test_a_mistake_at_the_top_refuses_the_file(
    refusal: Callable[[str], list[str]], text: str, said: str
) -> None:
    if "defaults" in text:
        text += "\nexports_from: {files: x}"
    assert refusal(text) == [f"audit-exporter.yaml, {said}"]


def test_every_mistake_of_a_refused_file_is_listed(refusal: Callable[[str], list[str]]) -> None:
    text = (
        HEAD
        + "defaults: {every: 4, archive: rar}\nledgr: {}\nexports: [{account: a, destination: {type: s3}}]"
    )
    assert [line.split(": ")[1] for line in refusal(text)] == [
        "defaults.every",
        "defaults.archive",
        "ledgr",
        "exports[0].destination.bucket",
    ]


# --- Mistakes in one export ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("export", "said"),
    [
        (
            "account: a\ndestination:\n  type: s3\n  buckett: x",
            "line 10: exports[0].destination.buckett: unknown key; did you mean 'bucket'?",
        ),
        (
            f"account: a\nxyz: 1\n{FOLDER}",
            (
                "line 8: exports[0].xyz: unknown key; valid keys are every, grace, timezone, format, filter, "
                "protect, siem, archive, body, start, part_limit, max_record, account, name, destination"
            ),
        ),
        (FOLDER, "line 7: exports[0].account: missing"),
        (
            f"account: 42\n{FOLDER}",
            "line 7: exports[0].account: must be text, not a number; put it in quotes",
        ),
        (f"account:\n{FOLDER}", "line 7: exports[0].account: has no value"),
        (f"account: ''\n{FOLDER}", "line 7: exports[0].account: must not be empty"),
        (f"account: !secret a\n{FOLDER}", "line 7: exports[0].account: has a YAML tag; write it without"),
        (
            f"account: *a\n{FOLDER}",
            "line 7: exports[0].account: stands for an anchor that nothing above it has",
        ),
        (f"account: a\naccount: b\n{FOLDER}", "line 8: exports[0].account: given twice, first in line 7"),
        (
            f'account: a\nname: "a\\nb"\n{FOLDER}',
            "line 8: exports[0].name: 'a\\nb' holds a character that cannot be printed",
        ),
        (
            f"account: {'é' * 101}\n{FOLDER}",
            (
                "line 7: exports[0].name: is 202 bytes long, "
                "and an export's name may have 200: give it a shorter `name`"
            ),
        ),
        (
            f"account: a\nformat: standart\n{FOLDER}",
            "line 8: exports[0].format: 'standart' is no format; did you mean 'standard'?",
        ),
        (
            f"account: a\nbody: [x]\n{FOLDER}",
            "line 8: exports[0].body: must be 'ndjson' or 'json_array', not a list",
        ),
        (
            f"account: a\ntimezone: Europe/Berln\n{FOLDER}",
            "line 8: exports[0].timezone: there is no time zone 'Europe/Berln'; the nearest names are",
        ),
        (
            f"account: a\nevery: 4 hours\n{FOLDER}",
            "line 8: exports[0].every: '4 hours' is not a time span; write a number and s, m, h or d: '4h'",
        ),
        (
            f"account: a\ngrace: 60\n{FOLDER}",
            "line 8: exports[0].grace: must be text like '4h', not a number",
        ),
        (
            f"account: a\ngrace: 25h\n{FOLDER}",
            "line 8: exports[0].grace: must not be longer than 24h",
        ),
        (
            f"account: a\nstart: 2026-11-01T00:00:00\n{FOLDER}",
            "line 8: exports[0].start: '2026-11-01T00:00:00' has no offset; write",
        ),
        (
            f"account: a\npart_limit: 4GiB\n{FOLDER}",
            "line 8: exports[0].part_limit: 4294967296 bytes are not between 1B and 3GiB",
        ),
        (
            f"account: a\nmax_record: 0\n{FOLDER}",
            "line 8: exports[0].max_record: 0 bytes are not between 1B and 1GiB",
        ),
        (
            "account: a\ndestination: {type: ftp, bucket: x}",
            "line 8: exports[0].destination.type: 'ftp' is not 's3' or 'gcs' or 'azure' or 'directory'",
        ),
        (
            "account: a\ndestination: {bucket: x}",
            "line 8: exports[0].destination.type: missing; it is 's3' or",
        ),
        (
            "account: a\ndestination: {typ: s3}",
            "line 8: exports[0].destination.type: missing; typ is not a key",
        ),
        ("account: a\ndestination: out", "line 8: exports[0].destination: must be a mapping, not text"),
        (
            "account: a\ndestination: {type: directory, path: ''}",
            "line 8: exports[0].destination.path: must be a path",
        ),
        (
            "account: a\ndestination: {type: s3, bucket: b, prefix: ../x}",
            "line 8: exports[0].destination.prefix: the prefix '../x' has an empty segment",
        ),
        (
            "account: a\ndestination: {type: s3, bucket: b, path_style: yes}",
            "line 8: exports[0].destination.path_style: must be true or false, not text",
        ),
        (
            "account: a\ndestination: {type: s3, bucket: b, endpoint_url: minio}",
            "line 8: exports[0].destination.endpoint_url: must begin with https:// or http://",
        ),
        (
            "account: a\ndestination: {type: s3, bucket: b, access_key_id: x}",
            "line 8: exports[0].destination: needs both `access_key_id` and `secret_access_key`, or neither",
        ),
        (
            "account: a\ndestination: {type: s3, bucket: b, external_id: x}",
            "line 8: exports[0].destination: has an `external_id` without the `role_arn`",
        ),
        (
            "account: a\ndestination: {type: s3, bucket: b, external_id: {enf: X}}",
            "line 8: exports[0].destination.external_id: must be text, {env: NAME} or {file: PATH}",
        ),
    ],
)
def test_a_mistake_in_an_export_is_said_in_one_sentence(
    problem: Callable[[str], str], export: str, said: str
) -> None:
    told = problem(export)
    assert told.startswith(said)
    assert "\n" not in told


def test_one_wrong_export_leaves_the_others_alone(load: Callable[..., Config]) -> None:
    found = load(
        HEAD
        + f"exports:\n  - {{account: a, {FOLDER}}}\n  - {{account: b}}\n  - 5\n  - {{account: c, {FOLDER}}}"
    )
    assert [export.name for export in found.exports] == ["a", "c"]
    assert [problem.export for problem in found.problems] == ["b", "exports[2]"]


def test_every_mistake_of_an_export_is_listed(problem: Callable[[str], str]) -> None:
    told = problem("account: 5\nevery: 7h\ndestination: {type: directory, pth: x}").splitlines()
    assert [line.split(": ")[1] for line in told] == [
        "exports[0].every",
        "exports[0].account",
        "exports[0].destination.pth",
    ]


def test_an_anchor_that_contains_itself_is_a_mistake_and_not_a_hang(problem: Callable[[str], str]) -> None:
    assert "must be text, not a list" in problem(f"account: &a [*a]\n{FOLDER}")


def test_anchors_that_multiply_take_no_time(problem: Callable[[str], str]) -> None:
    levels = "\n".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]" for n in range(1, 25))
    assert "unknown key" in problem(f"account: a\n{FOLDER}\nk0: &k0 x\n{levels}")


# --- Names -----------------------------------------------------------------------------------------


def test_the_later_of_two_exports_with_one_name_is_set_aside_and_both_lines_are_named(
    load: Callable[..., Config],
) -> None:
    found = load(HEAD + f"exports:\n  - {{account: a, {FOLDER}}}\n  - {{account: b, name: a, {FOLDER}}}")
    assert [export.account for export in found.exports] == ["a"]
    assert found.problems[0].message == (
        "audit-exporter.yaml, line 8: exports[1].name: 'a' is already the name "
        "of the export at audit-exporter.yaml, line 7"
    )


def test_two_exports_of_one_account_are_told_to_give_names(load: Callable[..., Config]) -> None:
    found = load(HEAD + f"exports:\n  - {{account: a, {FOLDER}}}\n  - {{account: a, {FOLDER}}}")
    assert found.problems[0].message == (
        "audit-exporter.yaml, line 8: exports[1].account: 'a' has another export at audit-exporter.yaml, "
        "line 7; give each of its exports a `name`"
    )


def test_a_wrong_export_keeps_its_name_from_others(load: Callable[..., Config]) -> None:
    """Otherwise the later one would go on with the watermark of the first."""
    found = load(HEAD + f"exports:\n  - {{account: a}}\n  - {{account: b, name: a, {FOLDER}}}")
    assert found.exports == ()
    assert len(found.problems) == 2


# --- Exports from elsewhere ------------------------------------------------------------------------


def test_files_hold_one_export_or_a_list_and_one_broken_file_is_one_problem(
    load: Callable[..., Config], tmp_path: Path
) -> None:
    folder = tmp_path / "exports.d"
    folder.mkdir()
    (folder / "1.yaml").write_text(f"account: a\n{FOLDER}")
    (folder / "2.yaml").write_text(
        f"- {{account: b, {FOLDER}}}\n- account: c\n  destination:\n    type: s3\n"
    )
    (folder / "3.yaml").write_text(f"account: [{CANARY}\n")
    (folder / "4.yaml").write_text(f"{{account: a, {FOLDER}}}")
    found = load(HEAD + "exports_from: {files: [exports.d/*.yaml, exports.d/1.yaml, missing.yaml]}")
    assert [export.name for export in found.exports] == ["a", "b"]
    assert [problem.message for problem in found.problems] == [
        "exports.d/2.yaml, line 3: [1].destination.bucket: missing",
        "exports.d/3.yaml, line 2: did not find expected ',' or ']' (in what begins in line 1)",
        (
            "exports.d/4.yaml, line 1: account: 'a' has another export at exports.d/1.yaml, line 1; "
            "give each of its exports a `name`"
        ),
        "missing.yaml cannot be read: No such file or directory",
    ]


def test_rows_are_exports_like_those_of_the_file(load: Callable[..., Config]) -> None:
    found = load(
        HEAD
        + f"defaults: {{every: 1h}}\nexports: [{{account: a, {FOLDER}}}]\n"
        + "exports_from: {query: SELECT 1, folder: rows}"
    )
    assert found.exports_query == "SELECT 1"
    row = {"account": "b", "destination": {"type": "directory", "path": "out"}}
    wrong = row | {"account": "c", "destination": {"type": "s3", "buckett": "x"}}
    more = config.add_rows(
        found, [json.dumps(row), json.dumps(wrong), CANARY, json.dumps(row | {"name": "a"})]
    )
    assert [export.name for export in more.exports] == ["a", "b"]
    assert more.exports[1].every == timedelta(hours=1)
    assert [problem.message for problem in more.problems] == [
        "exports_from.query, row 2: destination.buckett: unknown key; did you mean 'bucket'?",
        "exports_from.query, row 3: not JSON text",
        f"exports_from.query, row 4: name: 'a' is already the name of the export at {found.path}",
    ]


ROW: dict[str, Any] = {"account": "a", "destination": {"type": "directory", "path": "out"}}


def with_row(
    data: dict[str, Any], defaults: Defaults | None = None, folder: Path | None = Path("rows")
) -> Config:
    """A configuration whose one export is a row of the source."""
    whole = Config(
        path=Path("audit-exporter.yaml"),
        source=SourceSettings(
            url=Secret("sqlite:///audit.db"), query="SELECT 1", columns=Columns(id="i", time="t", account="a")
        ),
        ledger=LedgerSettings(url=Secret("sqlite:///ledger.db")),
        exports=(),
        problems=(),
        workspace=None,
        allowed_hosts=(),
        defaults=defaults or Defaults(),
        exports_query="SELECT 1",
        rows_folder=folder,
    )
    return config.add_rows(whole, [json.dumps(data)])


def test_a_row_starts_from_the_defaults_and_a_folder_of_its_own() -> None:
    (export,) = with_row(ROW, Defaults({"every": "1h"}, Surroundings(Path("/etc"))), Path("/rows")).exports
    assert export.every == timedelta(hours=1)
    assert export.destination == DirectorySettings(type="directory", path=Path("/rows/out"))


OUTSIDE = "names a file outside of `exports_from.folder`"


@pytest.mark.parametrize(
    ("destination", "said"),
    [
        ({"path": "/etc"}, f"destination.path: {OUTSIDE}"),
        ({"path": "../out"}, f"destination.path: {OUTSIDE}"),
        ({"path": "away/out"}, f"destination.path: {OUTSIDE}"),
        ({"type": "s3", "bucket": "bbb", "ca_file": "/etc/shadow"}, f"destination.ca_file: {OUTSIDE}"),
        (
            {"type": "gcs", "bucket": "bbb", "credentials": "{}", "subject_token_file": "../token"},
            f"destination.subject_token_file: {OUTSIDE}",
        ),
        (
            {"type": "gcs", "bucket": "bbb", "credentials": {"file": "/secrets/ledger"}},
            f"destination.credentials: {OUTSIDE}",
        ),
        (
            {"type": "gcs", "bucket": "bbb", "credentials": {"env": "LEDGER_PASSWORD"}},
            "destination.credentials: names a variable, which a row may not",
        ),
    ],
)
def test_a_row_names_nothing_that_is_the_operator_s(
    tmp_path: Path, destination: dict[str, Any], said: str
) -> None:
    """Customers have a hand in rows: what these name would be sent to the address that stands beside it."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "away").symlink_to(tmp_path)
    row = {"account": "a", "destination": {"type": "directory", **destination}}
    (problem,) = with_row(row, folder=tmp_path / "rows").problems
    assert said in problem.message


def test_a_row_names_a_file_only_where_the_operator_says_below_which_folder(tmp_path: Path) -> None:
    row = {
        "account": "a",
        "destination": {"type": "gcs", "bucket": "bbb", "credentials": {"file": "acme.json"}},
    }
    (problem,) = with_row(row, folder=None).problems
    assert "set `exports_from.folder`" in problem.message
    (export,) = with_row(row, folder=tmp_path).exports
    assert isinstance(export.destination, GcsSettings)
    assert export.destination.credentials == Secret(str(tmp_path / "acme.json"), "file")


def test_a_mark_of_the_byte_order_is_no_part_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbf{}")
    assert Secret(str(tmp_path / "key"), "file").reveal() == "{}"


def test_an_account_that_is_no_unicode_text_is_refused() -> None:
    (problem,) = with_row(ROW | {"account": "\ud800"}).problems
    assert "row 1: account: holds half of a surrogate pair" in problem.message


# --- Secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["tok-n", "tok-n\n", "tok-n\r\n"])
def test_a_line_break_at_the_end_is_no_part_of_a_secret(tmp_path: Path, written: str) -> None:
    (tmp_path / "token").write_bytes(written.encode())
    assert Secret(str(tmp_path / "token"), "file").reveal() == "tok-n"
    assert Secret("TOKEN", "env", {"TOKEN": written}).reveal() == "tok-n"


def test_what_is_no_name_of_a_variable_is_not_shown_as_one(problem: Callable[[str], str]) -> None:
    """Some people write the secret itself there."""
    export = "account: a\ndestination: {type: s3, bucket: b, external_id: {env: s3+cr/et=}}"
    told = problem(export)
    assert "must be text, {env: NAME} or {file: PATH}" in told
    assert "cr/et" not in told


def test_a_secret_is_read_anew_at_every_call_without_its_last_newline(tmp_path: Path) -> None:
    environ = {"TOKEN": "one"}
    path = tmp_path / "token"
    path.write_text("one\n\n")
    from_environment, from_file = Secret("TOKEN", "env", environ), Secret(str(path), "file")
    assert (from_environment.reveal(), from_file.reveal()) == ("one", "one\n")
    environ["TOKEN"] = "two"
    path.write_text("two")
    assert (from_environment.reveal(), from_file.reveal()) == ("two", "two")


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (Secret("TOKEN", "env", {"OTHER": CANARY}), "the environment variable TOKEN is not set, or empty"),
        (
            Secret("/no/such/file", "file"),
            "the secret file /no/such/file cannot be read: No such file or directory",
        ),
    ],
)
def test_a_missing_secret_is_named_by_its_reference(secret: Secret, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        secret.reveal()
    assert caught.value.message == said
    assert caught.value.hint


def test_a_secret_file_that_is_not_text_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(CANARY.encode() + b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text") as caught:
        Secret(str(path), "file").reveal()
    assert all(CANARY not in repr(error) for error in chain(caught.value))


def test_no_view_of_the_settings_shows_a_secret(load: Callable[..., Config]) -> None:
    found = load(
        HEAD.replace("sqlite:///audit.db", f"mysql://u:{CANARY}@host/db") + "exports:\n"
        f"  - {{account: a, destination: {{type: s3, bucket: b, access_key_id: {CANARY}, "
        f"secret_access_key: {CANARY}, session_token: {{env: TOKEN}}}}}}",
        {"TOKEN": CANARY},
    )
    assert found.source.url.reveal().endswith(f"{CANARY}@host/db")
    models: list[BaseModel] = [found.source, found.exports[0]]
    views = [repr(found), str(found), f"{found.source.url}", repr(found.defaults)]
    views += [view for model in models for view in (str(model.model_dump()), model.model_dump_json())]
    assert all(CANARY not in view for view in views)
    assert "***" in views[0]


@pytest.mark.parametrize(
    "text",
    [
        f"ledger: {{url: *{CANARY}}}",
        f"ledger: {{url: !{CANARY} x}}",
        f"ledger: {{url: '{CANARY}",
        f"ledger: {{url: {{env: X, file: {CANARY}}}}}",
        f"ledger: {{url: [{CANARY}]}}",
        f"ledger: {CANARY}",
        f"ledger: {{ulr: {CANARY}}}",
        f"ledger: {{url: x}}\nexports: [{CANARY}]",
        f"ledger: {{url: x}}\nexports: [{{account: a, destination: {CANARY}}}]",
        f"ledger: {{url: x}}\nexports: [{{account: a, destination: {{type: s3, session_token: {CANARY}}}}}]",
        (
            "ledger: {url: x}\nexports: [{account: a, destination: {type: s3, bucket: b, "
            f'endpoint_url: "https://u:{CANARY}@host"}}}}]'
        ),
    ],
)
def test_no_message_quotes_what_may_be_a_secret(
    refusal: Callable[[str], list[str]], text: str, file: Path
) -> None:
    assert CANARY not in "".join(refusal(text))
    with pytest.raises(ConfigError) as caught:
        config.load(file, {})
    assert all(CANARY not in f"{error!r} {error}" for error in chain(caught.value))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# --- Notations -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01T00:00:00Z", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T01:30:00+01:00", datetime(2026, 11, 1, 0, 30, tzinfo=UTC)),
        ("2026-11-01 00:00:00.000z", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_a_whole_second_in_utc(text: str, moment: datetime) -> None:
    parsed = config.parse_time(text)
    assert parsed == moment
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-11-01T00:00:00", "has no offset"),
        ("2026-11-01T00:00:00.5Z", "is not a whole second"),
        ("2026-02-30T00:00:00Z", "is no moment of the calendar"),
        ("2026-11-01Z", "is not a time"),
        ("yesterday", "is not a time"),
        ("0026-11-01", "is not in a year from 1900 to 2200"),
    ],
)
def test_a_time_that_names_no_moment_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse_time(text)
    assert caught.value.message == f"'{text}' {said}"
    assert caught.value.hint


@given(st.datetimes(datetime(1900, 1, 2), datetime(2200, 12, 30), timezones=st.timezones()))  # noqa: DTZ001
def test_every_rfc_3339_time_is_read_as_it_was_written(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    offset = moment.utcoffset()
    if offset is None or offset.seconds % 60:
        moment = moment.replace(tzinfo=UTC)  # RFC 3339 has no seconds in offsets
    assert config.parse_time(moment.isoformat()) == moment.astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90s", 90), ("15m", 900), ("4h", 14_400), ("1d", 86_400), ("0s", 0)]
)
def test_a_time_span_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert config.parse_duration(text) == timedelta(seconds=seconds)


@given(st.text(max_size=12))
def test_other_text_is_no_time_span_time_or_size(text: str) -> None:
    """Whatever is typed, the answer is a value or a ConfigError with a hint, never another error."""
    for parse in (config.parse_duration, config.parse_time, parse_size):
        try:
            parse(text)
        except ConfigError as error:
            assert error.hint  # noqa: PT017 (most texts raise, some do not)


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("512MiB", 2**29), ("4MB", 4_000_000), ("3 GiB", 3 * 2**30), ("10B", 10)]
)
def test_a_size_is_a_number_and_a_unit(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///audit.db", "/etc/audit.db"), ("sqlite:////abs/audit.db", "/abs/audit.db")],
)
def test_a_sqlite_url_names_a_file_beside_the_configuration_or_an_absolute_one(url: str, path: str) -> None:
    assert config.sqlite_path(url, Path("/etc")) == Path(path)


@pytest.mark.parametrize("url", ["sqlite://audit.db", "sqlite:///", "audit.db", f"postgresql:///{CANARY}"])
def test_a_url_that_names_no_sqlite_file_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="three slashes") as caught:
        config.sqlite_path(url, Path("/etc"))
    assert CANARY not in caught.value.message + caught.value.hint


# --- Whatever comes --------------------------------------------------------------------------------

WORDS = st.sampled_from(["s3", "directory", "4h", "", "1", "standard"]) | st.text(
    st.characters(exclude_categories=()), max_size=3
)
KEYS = st.sampled_from([*ExportSettings.model_fields, *S3Settings.model_fields, "env", "file"]) | WORDS
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6), st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_row_is_an_export_or_a_mistake_in_words(
    data: dict[str, Any], destination: dict[str, Any]
) -> None:
    for row in (
        data,
        data | {"destination": destination},
        data | {"destination": {**destination, "type": "s3"}},
    ):
        found = with_row(row)
        assert len(found.exports) + len(found.problems) == 1
        for problem in found.problems:
            lines = problem.message.splitlines()
            assert all(line.startswith("exports_from.query, row 1: ") for line in lines)
            assert "Input should" not in problem.message


@given(st.text(st.sampled_from("ab:-[]{}&*<>!|'\"#%@\t\n ,?"), max_size=20))
def test_any_file_is_a_configuration_or_a_mistake_in_words(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"{path}, line ")):
        config.load(path, {})


# --- The schema for editors ------------------------------------------------------------------------


@pytest.fixture
def in_schema() -> Callable[[str], bool]:
    validator = jsonschema.Draft202012Validator(config.json_schema())

    def in_schema(text: str) -> bool:
        return bool(validator.is_valid(yaml.load(text, yaml.SafeLoader)))

    return in_schema


def test_the_schema_accepts_the_example(in_schema: Callable[[str], bool]) -> None:
    assert in_schema(EXAMPLE.replace("2026-11-01T00:00:00Z", "'2026-11-01T00:00:00Z'"))


@pytest.mark.parametrize(
    "export",
    [
        "{account: a}",
        "{account: 5, destination: {type: directory, path: out}}",
        "{account: a, destination: {type: ftp, bucket: b}}",
        "{account: a, destination: {type: s3, buckett: b}}",
        "{account: a, every: 4, destination: {type: directory, path: out}}",
        "{account: a, part_limit: much, destination: {type: directory, path: out}}",
        "{account: a, destination: {type: s3, bucket: b, session_token: {enf: X}}}",
    ],
)
def test_the_schema_refuses_what_loading_refuses(
    in_schema: Callable[[str], bool], load: Callable[..., Config], export: str
) -> None:
    text = f"{HEAD}exports: [{export}]"
    assert load(text).problems
    assert not in_schema(text)


def test_the_defaults_in_the_schema_are_written_as_people_write_them() -> None:
    properties = config.json_schema()["$defs"]["DefaultSettings"]["properties"]
    defaults = {key: value["default"] for key, value in properties.items() if "default" in value}
    assert (defaults["part_limit"], defaults["max_record"]) == ("1GiB", "4MB")
    assert with_row(defaults | ROW).exports == with_row(ROW).exports


def test_every_setting_of_an_export_is_described_with_its_choices() -> None:
    for name, one in config.json_schema()["$defs"]["DefaultSettings"]["properties"].items():
        assert one.get("description"), name
        assert all(f"`{choice}`" in one["description"] for choice in one.get("enum", ())), name


# --- what all exports have in common ---------------------------------------------------------------


def test_protection_of_the_defaults_is_added_to_and_not_given_up(load: Callable[..., Config]) -> None:
    """An export may protect a column in another way; the rest of what all have stays."""
    common = "defaults: {protect: {columns: {email: mask, ip_address: truncate}, secrets: false}}\n"
    own = "protect: {columns: {email: drop, description: mask}}"
    (export,) = load(f"{HEAD}{common}exports: [{{account: a, {own}, {FOLDER}}}]").exports
    assert export.protect.columns == {"email": "drop", "ip_address": "truncate", "description": "mask"}
    assert export.protect.secrets is False


def test_what_defaults_refer_to_is_the_operators_also_for_rows(load: Callable[..., Config]) -> None:
    """A row may name no variable and no file, but the defaults of its file may, and hold for it."""
    common = "defaults: {format: mine.yaml, protect: {columns: {email: pseudonymise}, key: {env: KEY}}}\n"
    text = f"{HEAD}{common}exports_from: {{query: SELECT 1}}\n"
    row = json.dumps({"account": "a", "destination": {"type": "directory", "path": "out"}})
    found = config.add_rows(load(text, {"KEY": "k" * 16}), [row])
    problems = [problem.message for problem in found.problems]
    assert problems == ["exports_from.query, row 1: destination.path: " + NO_FILE]
    row = json.dumps({"account": "a", "destination": {"type": "s3", "bucket": "bucket"}})
    (export,) = config.add_rows(load(text, {"KEY": "k" * 16}), [row]).exports
    assert (export.protect.key and export.protect.key.reveal()) == "k" * 16
    assert export.format.file is not None
    assert export.format.file.name == "mine.yaml"


NO_FILE = "names a file, which a row may only below a folder: set `exports_from.folder`"
