"""Promises of `init`: a sample that is realistic and always the same, and imports that lose nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from exporter.errors import ConfigError
from exporter.report import init as report_init
from exporter.starter import fields
from exporter.starter.folder import COLUMNS
from exporter.starter.records import MAX_PATHS, import_records
from exporter.starter.sample import create_sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.starter.folder import Created, FileReport

NOW = datetime(2026, 11, 20, 3, 4, 5, 678901, tzinfo=UTC)
YESTERDAY = "2026-11-19T00:00:00.000000Z"
# Audit logs of real products; they may lie beside the repository and are never part of it.
REAL_LOGS = Path(__file__).resolve().parents[2] / "shared" / "data"
REAL_TIMES = {"cloudtrail": 103, "github": 71, "gsuite": 90, "okta": 71, "slack": 34}

CLOUDTRAIL = {
    "eventVersion": "1.05",
    "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::123456789012:user/pedro"},
    "eventTime": "2020-09-14T00:44:23Z",
    "eventType": "AwsApiCall",
    "eventName": "PutObject",
    "sourceIPAddress": "192.0.2.7",
    "requestParameters": {"bucketName": "reports", "key": "a.txt"},
}
GITHUB = {
    "@timestamp": 1623971719091,
    "action": "git.push",
    "actor": "cat",
    "user": "",
    "repo": "org/repo",
    "actor_ip": "192.0.2.1",
}
GSUITE = {
    "id": {"time": "2022-12-11 02:57:48.693000000", "applicationName": "admin"},
    "actor": {"email": "ann@example.com", "profileId": "1"},
    "name": "DELETE_ROLE",
    "type": "DELEGATED_ADMIN_SETTINGS",
    "parameters": {"ROLE_ID": "567890"},
    "ipAddress": "2001:db8::7",
}
OKTA = {
    "published": "2022-03-22 14:21:53.225",
    "eventType": "user.session.start",
    "displayMessage": "User login to Okta",
    "actor": {"alternateId": "homer@example.com", "id": "111111", "type": "User"},
    "client": {"ipAddress": "192.0.2.9", "zone": "null"},
    "target": [{"id": "00u6", "type": "User", "alternateId": "marge@example.com"}, {"id": "00u7"}],
}
SLACK = {
    "id": "9d9b76ce",
    "date_create": 1659026895,
    "action": "role_change_to_admin",
    "actor": {"type": "user", "user": {"email": "ann@example.com", "id": "W1", "name": "ann"}},
    "entity": {"type": "user", "user": {"email": "bob@example.com", "id": "W2", "name": "bob"}},
    "context": {"ip_address": "192.0.2.3", "location": {"id": "T01", "name": "space"}},
}


def written(path: Path, records: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def rows(created: Created) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(created.database)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM audit_log ORDER BY id")]


def imported(folder: Path, *records: object) -> tuple[list[dict[str, Any]], FileReport]:
    file = written(folder / "log.jsonl", records)
    created = import_records(folder / "new", [file], NOW)
    return rows(created), created.files[0]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- The sample ------------------------------------------------------------------------------------


def test_the_same_moment_gives_the_same_sample(tmp_path: Path) -> None:
    """The sample depends on `now` alone, whichever zone `now` is written in."""
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-7)))
    first, second = create_sample(tmp_path / "a", NOW), create_sample(tmp_path / "b", elsewhere)
    assert rows(first) == rows(second)
    assert first.config.read_bytes() == second.config.read_bytes()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_sample_lies_in_the_week_before(tmp_path_factory: pytest.TempPathFactory, now: datetime) -> None:
    """Every record of the sample is from the seven days before `now`, after the configured start."""
    created = create_sample(tmp_path_factory.mktemp("sample"), now)
    times = [datetime.fromisoformat(row["created_at"]) for row in rows(created)]
    assert all(now - timedelta(days=7) <= time < now for time in times)
    assert yaml.safe_load(created.config.read_text(encoding="utf-8"))["defaults"]["start"] <= min(times)


def test_the_sample_is_as_difficult_as_real_records(tmp_path: Path) -> None:
    """The sample has what breaks exporters: odd characters, empty and missing values, late records."""
    found = rows(create_sample(tmp_path, NOW))
    text = "".join(str(row["summary"]) + row["actor_email"] for row in found)
    assert all(odd in text for odd in ('"', "'", "\\", "\n", "\r", "\t", "\u2028", "🚀", "الصيف", "春", "ü"))
    assert {None} < {row["ip_address"] for row in found}
    assert any(":" in (row["ip_address"] or "") for row in found)
    assert any(row["summary"] == "" and row["target_id"] == "" for row in found)
    assert {row["original"] is None for row in found} == {True, False}
    late = sum(row["created_at"] < before["created_at"] for before, row in pairwise(found))
    assert 10 < late < len(found) / 50
    times = [datetime.fromisoformat(row["created_at"]) for row in found]
    assert max(before - time for before, time in pairwise(times)) > timedelta(hours=6)


def test_the_sample_has_several_accounts_that_work_by_day(tmp_path: Path) -> None:
    """Each account of the sample has its own zone, hundreds of records, and most between 8 and 18 there."""
    created = create_sample(tmp_path, NOW)
    assert len({account.timezone for account in created.accounts}) == len(created.accounts) >= 4
    for account in created.accounts:
        times = [row["created_at"] for row in rows(created) if row["account_id"] == account.name]
        hours = [datetime.fromisoformat(time).astimezone(ZoneInfo(account.timezone)).hour for time in times]
        assert len(times) == account.records > 300
        assert sum(8 <= hour < 18 for hour in hours) > len(hours) * 0.7


def test_the_configuration_names_what_the_database_has(tmp_path: Path) -> None:
    """Every column, account and zone of the configuration is one of the database."""
    created = create_sample(tmp_path, NOW)
    config = yaml.safe_load(created.config.read_text(encoding="utf-8"))
    assert set(config["source"]["columns"].values()) < set(rows(created)[0])
    assert config["source"]["url"] == "sqlite:///audit.db"
    assert config["ledger"] == {"url": "sqlite:///ledger.db"}
    assert config["defaults"]["every"] == "4h"
    assert config["defaults"]["format"] == "standard"
    assert config["defaults"]["start"] == datetime(2026, 11, 13, tzinfo=UTC)
    configured = [(export["account"], export["timezone"]) for export in config["exports"]]
    assert configured == [(account.name, account.timezone) for account in created.accounts]
    assert names_in(tmp_path) == ["audit-exporter.yaml", "audit.db"]


def test_the_table_is_ready_to_be_exported_from(tmp_path: Path) -> None:
    """Ids are never used twice, the originals are declared JSON, and both indexes exist."""
    created = create_sample(tmp_path, NOW)
    with closing(sqlite3.connect(created.database)) as connection:
        schema = "\n".join(
            sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql > ''")
        )
    assert "id INTEGER PRIMARY KEY AUTOINCREMENT" in schema
    assert "original JSON" in schema
    assert "audit_log_by_time ON audit_log (account_id, created_at, id)" in schema
    assert "audit_log_by_account ON audit_log (account_id)" in schema


# --- Finding the fields ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            CLOUDTRAIL,
            (
                "2020-09-14T00:44:23.000000Z",
                "arn:aws:iam::123456789012:user/pedro",
                "PutObject",
                "reports",
                None,
                "192.0.2.7",
            ),
        ),
        (GITHUB, ("2021-06-17T23:15:19.091000Z", "cat", "git.push", "org/repo", None, "192.0.2.1")),
        (
            GSUITE,
            ("2022-12-11T02:57:48.693000Z", "ann@example.com", "DELETE_ROLE", "567890", None, "2001:db8::7"),
        ),
        (
            OKTA,
            (
                "2022-03-22T14:21:53.225000Z",
                "homer@example.com",
                "user.session.start",
                "00u6",
                "User login to Okta",
                "192.0.2.9",
            ),
        ),
        (
            SLACK,
            (
                "2022-07-28T16:48:15.000000Z",
                "ann@example.com",
                "role_change_to_admin",
                "W2",
                None,
                "192.0.2.3",
            ),
        ),
    ],
    ids=["cloudtrail", "github", "gsuite", "okta", "slack"],
)
def test_the_logs_of_well_known_products_are_understood(
    tmp_path: Path, record: object, expected: tuple[str | None, ...]
) -> None:
    """Time, actor, action, target, summary and address are found where each product puts them."""
    (row,), _ = imported(tmp_path, record)
    columns = ("created_at", "actor_email", "action", "target_id", "summary", "ip_address")
    assert tuple(row[column] for column in columns) == expected


def test_a_record_without_the_best_field_uses_the_next_best(tmp_path: Path) -> None:
    """Records of one file may differ: each takes the best field it has, and the report tells which."""
    found, report = imported(
        tmp_path,
        {"created_at": 1621305118553, "actor": "ann"},
        {"created_at": "2021-05-18 02:31:59", "actor": None, "user_email": "bob@example.com"},
        {"created_at": "soon", "p_event_time": "2021-05-18 02:32:00.5", "actor": ""},
        {"actor": "eve"},
    )
    assert [row["created_at"] for row in found] == [
        "2021-05-18T02:31:58.553000Z",
        "2021-05-18T02:31:59.000000Z",
        "2021-05-18T02:32:00.500000Z",
        "2021-05-18T02:32:00.500000Z",
    ]
    assert [row["actor_email"] for row in found] == ["ann", "bob@example.com", None, "eve"]
    assert report.columns["created_at"].paths == (("created_at", 2), ("p_event_time", 1))
    assert report.columns["created_at"].missing == 1
    assert report.columns["actor_email"].paths == (("actor", 2), ("user_email", 1))
    assert report.columns["ip_address"].paths == ()
    assert report.columns["ip_address"].missing == 4
    assert report.zoneless == 2
    assert report.by_shape == ()


def test_the_field_that_most_records_have_is_preferred(tmp_path: Path) -> None:
    """A well-named field that is rare does not displace a plainer one that nearly every record has."""
    found, _ = imported(tmp_path, *[{"caller": "cat"}] * 50, {"caller": "dog", "user": "eve"})
    assert found[-1]["actor_email"] == "dog"


def test_what_was_assumed_is_said(tmp_path: Path) -> None:
    """The notes say how accounts were named and, if that was done, where times came from."""
    file = written(tmp_path / "log.jsonl", [OKTA, GITHUB, {}, {"time": "2099-01-01T00:00:00Z"}])
    undated = written(tmp_path / "undated.jsonl", [{}, {}])
    assumed = import_records(tmp_path / "a", [file, undated], NOW)
    exact = import_records(tmp_path / "b", [written(tmp_path / "exact.jsonl", [GITHUB])], NOW)
    assert assumed.notes[1:] == (
        "Times without an offset were taken as UTC: 1.",
        "Records without a readable time have the last one before them in the file, or its first: 1.",
        "Records of files without any readable time have 2026-11-19T00:00:00Z: 2.",
        "Records with a time later than now are delivered when it has come: 1.",
    )
    assert len(exact.notes) == 1


def shown(created: Created, width: int) -> str:
    console = Console(width=width, soft_wrap=True, highlight=False, color_system=None)
    with console.capture() as capture:
        report_init.show(console, created)
    return capture.get()


@pytest.mark.parametrize("width", [80, 140])
def test_everything_assumed_is_shown(tmp_path: Path, width: int) -> None:
    """`init` prints every path with its count, every assumption and every note, in the width there is."""
    file = written(
        tmp_path / "log.jsonl",
        [
            {"wer": "ann@example.com", "source": {"at": "2020-01-01T00:00:00Z"}},
            {"time": "2024-01-15 10:30:00"},
            {"time": "2099-01-15T10:30:00Z", "repo": "[bold]"},
        ],
    )
    created = import_records(tmp_path / "new", [file], NOW)
    text = shown(created, width)
    for column, counts in zip(
        COLUMNS, ("2 1 time (2)", "1 2 wer (1)", "0 3 -", "1 2 repo (1)"), strict=False
    ):
        assert f"{column} {counts}" in " ".join(text.split())
    for line in (
        "By shape alone, no name was known: actor_email",
        "Times without an offset, taken as UTC: 1",
        "Records with the time of a neighbour: 1",
        "Passed over as their time (records): source.at (1)",
        "Records with a time later than now: 1",
        *created.notes,
    ):
        assert line in " ".join(text.split())
    made, *rest = text.splitlines()
    assert made.startswith("Made ")
    named = (str(file), "Next: ")  # whole, to be copied
    assert all(len(line) <= width for line in rest if not line.startswith(named))


def test_what_is_shown_cannot_move_the_cursor(tmp_path: Path) -> None:
    """Names come from a stranger's file: control characters in them are shown as escapes."""
    created = import_records(
        tmp_path / "new", [written(tmp_path / "log.jsonl", [{"a\x1bc": "ann@example.com"}])], NOW
    )
    assert "a\\u001bc (1)" in shown(created, 80)


def test_unknown_names_are_understood_by_shape(tmp_path: Path) -> None:
    """A file whose names are in no vocabulary still gives time, actor and address, and the report says so."""
    (row,), report = imported(
        tmp_path, {"zeitpunkt": "2024-01-15T10:30:00+01:00", "wer": "ann@example.com", "woher": "2001:db8::1"}
    )
    assert row["created_at"] == "2024-01-15T09:30:00.000000Z"
    assert row["actor_email"] == "ann@example.com"
    assert row["ip_address"] == "2001:db8::1"
    assert report.by_shape == ("created_at", "actor_email", "ip_address")


def test_the_time_of_another_thing_is_not_the_records(tmp_path: Path) -> None:
    """When a repository was made is not when it was deleted: passed over, and reported."""
    (row, _), report = imported(
        tmp_path,
        {"action": "deleted", "repository": {"created_at": "2015-01-01T00:00:00Z"}},
        {"action": "deleted", "created_at": "2024-01-01T00:00:00Z"},
    )
    assert row["created_at"] == "2024-01-01T00:00:00.000000Z"
    assert report.passed_over == (("repository.created_at", 1),)


def test_shape_alone_is_not_enough_inside_another_thing(tmp_path: Path) -> None:
    """Without known names, only the record's own fields are understood by shape."""
    (row,), report = imported(tmp_path, {"ablauf": {"ende": "2024-01-15T10:30:00Z"}})
    assert row["created_at"] == YESTERDAY
    assert report.columns["created_at"].missing == 1
    assert report.passed_over == (("ablauf.ende", 1),)


def test_a_host_name_is_no_address(tmp_path: Path) -> None:
    """A value goes into the address column only if it is an address."""
    found, report = imported(
        tmp_path, {"sourceIPAddress": "ec2.amazonaws.com"}, {"sourceIPAddress": "192.0.2.1"}
    )
    assert [row["ip_address"] for row in found] == [None, "192.0.2.1"]
    assert report.columns["ip_address"].missing == 1


def test_numbers_become_the_text_they_were(tmp_path: Path) -> None:
    """A number that says who or what is kept digit by digit, however long."""
    long = "9" * 5000
    (tmp_path / "log.jsonl").write_text(
        f'{{"actor": {long}, "target_id": 1.50, "action": true}}', encoding="utf-8"
    )
    (row,) = rows(import_records(tmp_path / "new", [tmp_path / "log.jsonl"], NOW))
    assert (row["actor_email"], row["target_id"], row["action"]) == (long, "1.50", None)


def test_half_a_surrogate_pair_is_kept_as_written(tmp_path: Path) -> None:
    """Text that no database can hold stays as the escape it was written as."""
    (row,), _ = imported(tmp_path, {"actor": "a\ud800", "\udfff": 1})
    assert row["actor_email"] == "a\\ud800"
    assert json.loads(row["original"])["actor"] == "a\ud800"


# --- Times -----------------------------------------------------------------------------------------


def canonical(seconds: int, nanoseconds: int) -> str:
    digits = f"{nanoseconds:09d}"
    fraction = digits[:6] if digits.endswith("000") else digits
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction}Z"


MOMENTS = st.integers(10**8, 10**11 - 1)
NANOSECONDS = st.integers(0, 10**9 - 1)


@given(MOMENTS, NANOSECONDS, st.sampled_from([("s", 9), ("ms", 6), ("us", 3), ("ns", 0)]))
def test_numbers_are_times_in_the_unit_of_their_size(
    seconds: int, nanoseconds: int, unit: tuple[str, int]
) -> None:
    """Seconds, milli-, micro- and nanoseconds since 1970 are told apart, and exact with a fraction."""
    number = (seconds * 10**9 + nanoseconds) * Decimal(1).scaleb(-unit[1])
    assert fields.instant(f"{number:f}") == canonical(seconds, nanoseconds)
    whole = (seconds * 10**9 + nanoseconds) // 10 ** unit[1]
    kept = nanoseconds // 10 ** unit[1] * 10 ** unit[1]
    assert fields.instant(str(whole)) == canonical(seconds, kept)


def test_a_number_with_an_exponent_is_a_time() -> None:
    """Some writers print milliseconds as a float."""
    assert fields.instant("1.621305118553E12") == "2021-05-18T02:31:58.553000Z"


@given(
    moment=MOMENTS,
    digits=st.text("0123456789", min_size=0, max_size=9),
    separator=st.sampled_from("Tt "),
    point=st.sampled_from(".,"),
    zone=st.one_of(
        st.sampled_from(["", "Z", "z", " UTC", " GMT", "+00"]),
        st.tuples(
            st.sampled_from("+-"), st.integers(0, 23), st.integers(0, 59), st.sampled_from(["", ":"])
        ).map(lambda parts: f"{parts[0]}{parts[1]:02d}{parts[3]}{parts[2]:02d}"),
    ),
)
def test_every_way_to_write_iso_8601_is_read(
    moment: int, digits: str, separator: str, point: str, zone: str
) -> None:
    """Any separator, zero to nine digits and any offset give the same moment; without offset it is UTC."""
    ahead = 0
    if zone[:1] in {"+", "-"} and len(zone) > 3:
        ahead = (int(zone[1:3]) * 3600 + int(zone[-2:]) * 60) * (1 if zone[0] == "+" else -1)
    local = datetime.fromtimestamp(moment + ahead, UTC)
    text = f"{local:%Y-%m-%d}{separator}{local:%H:%M:%S}{point + digits if digits else ''}{zone}"
    assert fields.instant(text) == canonical(moment, int(digits.ljust(9, "0")))
    assert fields.is_zoneless(text) == (zone == "")


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "1",
        "-1",
        "99999999",
        "1" + "0" * 20,
        "9" * 5000,
        "NaN",
        "1e99",
        "1e9999999999",
        "٣" * 10,
        "",
        "now",
        "2024",
        "2024-01-15",
        "2024-02-30T00:00:00Z",
        "2024-01-15T24:00:00Z",
        "2024-01-15T10:30Z",
        "2024-01-15T10:30:00.1234567890Z",
        "2024-12-17 00:00:00000000",
        "2024-01-15T10:30:00+24:00",
        "0001-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "0001-01-01T00:00:00+01:00",
    ],
)
def test_what_is_no_time_is_not_read(text: str) -> None:
    """Impossible dates, placeholders for "none" and other numbers give no time, and no crash."""
    assert fields.instant(text) is None


@given(st.text(max_size=40) | st.from_regex(r"[0-9TZ:.+eE -]{1,40}", fullmatch=True))
def test_any_text_is_read_or_refused_for_every_column(text: str) -> None:
    """No value crashes the reading, and what is read can be stored."""
    for column in fields.NAMES:
        shaped = fields.read(column, text)
        if shaped is not None:
            assert shaped[0].encode()
            assert 0 < shaped[1] <= 1


# --- Importing --------------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.sampled_from(["time", "actor", "action", "target", "ip", "id", "message"]) | st.text()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(KEYS, JSON_VALUES, max_size=5), max_size=5))
def test_every_record_comes_in_unchanged_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    """Whatever the records are, the originals are all there, in the order of the file."""
    found, report = imported(tmp_path_factory.mktemp("import"), *records)
    assert [row["original"] for row in found] == [json.dumps(record) for record in records]
    assert [row["id"] for row in found] == list(range(1, len(records) + 1))
    assert report.records == len(records)
    for filled in report.columns.values():
        assert sum(count for _, count in filled.paths) + filled.missing == len(records)


@pytest.mark.parametrize(
    "text",
    [
        '{"a" : 1.0e5,"b":123456789012345678901234567890, "a":"twice"}',
        '{"é":"\\u00e9\\ud83d\\ude00/\\/"}',
        "{}",
        '{"deep":' + "[" * 300 + "]" * 300 + "}",
        '{"time":"2024-01-15T10:30:00Z\\u0000"}',
    ],
)
def test_the_original_keeps_its_exact_text(tmp_path: Path, text: str) -> None:
    """Spelling, key order, doubled keys and long numbers stay as they were written."""
    (tmp_path / "log.jsonl").write_text(text, encoding="utf-8")
    (row,) = rows(import_records(tmp_path / "new", [tmp_path / "log.jsonl"], NOW))
    assert row["original"] == text


def test_blank_lines_marks_and_windows_line_ends_are_tolerated(tmp_path: Path) -> None:
    """A byte order mark, CRLF, blank lines and a missing last line end change nothing about the records."""
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"action":"a"}\r\n\r\n  \n{"action":"b"}\r\n{"action":"c"}')
    created = import_records(tmp_path / "new", [file], NOW)
    assert [row["original"] for row in rows(created)] == [
        '{"action":"a"}',
        '{"action":"b"}',
        '{"action":"c"}',
    ]
    assert (created.files[0].lines, created.files[0].records) == (5, 3)


def test_each_file_is_an_account_and_ids_follow_the_files(tmp_path: Path) -> None:
    """Accounts are named like their files; files of one name are one account with one export."""
    (tmp_path / "old").mkdir()
    files = [
        written(tmp_path / "okta.jsonl", [OKTA, OKTA]),
        written(tmp_path / "on.jsonl", [GITHUB]),
        written(tmp_path / "old" / "okta.jsonl", [OKTA]),
    ]
    created = import_records(tmp_path / "new", files, NOW)
    assert [row["account_id"] for row in rows(created)] == ["okta", "okta", "on", "okta"]
    assert [(account.name, account.records) for account in created.accounts] == [("okta", 3), ("on", 1)]
    config = yaml.safe_load(created.config.read_text(encoding="utf-8"))
    assert [export["account"] for export in config["exports"]] == ["okta", "on"]
    assert config["defaults"]["format"] == "native"


@pytest.mark.parametrize(
    ("times", "start"),
    [
        (
            ["2021-06-17T23:15:19Z", "2020-09-14T00:44:23Z", "2022-01-01T00:00:00Z"],
            datetime(2020, 9, 14, tzinfo=UTC),
        ),
        (["2099-01-01T00:00:00Z"], datetime(2026, 11, 20, tzinfo=UTC)),
        ([None], datetime(2026, 11, 19, tzinfo=UTC)),
    ],
    ids=["past", "future", "none"],
)
def test_deliveries_start_before_the_oldest_record(
    tmp_path: Path, times: Sequence[str | None], start: datetime
) -> None:
    """The configured start is midnight before the oldest record, never in the future."""
    file = written(tmp_path / "log.jsonl", [{"time": time} for time in times])
    created = import_records(tmp_path / "new", [file], NOW)
    assert yaml.safe_load(created.config.read_text(encoding="utf-8"))["defaults"]["start"] == start


def test_names_made_up_per_record_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Only so many paths are considered for a column, and the rest counts as missing."""
    _, report = imported(tmp_path, *({"entity": {f"k{n}": {"id": n}}} for n in range(MAX_PATHS + 10)))
    assert len(report.columns["target_id"].paths) == MAX_PATHS
    assert report.columns["target_id"].missing == 10


# --- Times of records without one ---------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.just("soon") | st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1))))  # noqa: DTZ001
def test_a_record_without_a_time_takes_a_neighbours(
    tmp_path_factory: pytest.TempPathFactory, times: list[datetime | str | None]
) -> None:
    """It has the last time before it, at the beginning the first of all, without any yesterday's midnight."""
    found, report = imported(tmp_path_factory.mktemp("import"), *[{"time": t and str(t)} for t in times])
    own = [f"{t.isoformat(timespec='microseconds')}Z" if isinstance(t, datetime) else None for t in times]
    time = next(filter(None, own), YESTERDAY)
    expected = [time := each or time for each in own]
    assert [row["created_at"] for row in found] == expected
    assert report.columns["created_at"].missing == own.count(None)
    assert report.borrowed == (own.count(None) if any(own) else 0)
    assert report.future == sum(each > f"{NOW:%Y-%m-%dT%H:%M:%S.%fZ}" for each in expected)


def test_the_first_time_is_the_one_its_own_record_gets(tmp_path: Path) -> None:
    """Records before the first timed one have its time, chosen among its fields as for itself."""
    found, _ = imported(
        tmp_path,
        {"action": "a"},
        {"created": "2021-01-01T00:00:00Z", "time": "2021-01-02T00:00:00Z"},
        {"created": "2021-01-03T00:00:00Z"},
        {"time": "2021-01-04T00:00:00Z"},
    )
    assert found[0]["created_at"] == found[1]["created_at"] == "2021-01-02T00:00:00.000000Z"


def test_times_are_not_borrowed_across_files(tmp_path: Path) -> None:
    """A neighbour is one of the same file."""
    files = [written(tmp_path / f"{name}.jsonl", [record]) for name, record in (("a", GITHUB), ("b", {}))]
    assert rows(import_records(tmp_path / "new", files, NOW))[1]["created_at"] == YESTERDAY


def test_a_moment_after_now_is_the_future(tmp_path: Path) -> None:
    """Later than now is later by a nanosecond, and now itself is not."""
    _, report = imported(
        tmp_path, {"time": "2026-11-20T03:04:05.678901Z"}, {"time": "2026-11-20T03:04:05.678901001Z"}
    )
    assert report.future == 1


# --- There and back -----------------------------------------------------------------------------------

# The shapes of real logs, and what is hard about them, as text: numbers and escapes count.
MIXED = {
    "github": r"""
        {"workflow_run": {"id": 12345678901234567890123, "name": "Schnellprüfung 🚀"}, "action": "requested"}
        {"@timestamp": 1623971719091, "action": "git.push", "actor": "cat", "repo": "org/repo", "_id": ""}
        {"action": "same", "nested": [[], {}, [null, true, {"deep": [1.50, -0.0, 1e400]}]]}
        {"action": "same", "nested": [[], {}, [null, true, {"deep": [1.50, -0.0, 1e400]}]]}
        {"created_at": "2024-12-17 00:00:00000000", "text": "a\u2028b\u0000c\ud83d\ude00 \ud800 \"\\\/"}
        {"created_at": 1621305118553, "actor": null, "actor_ip": "2001:db8::1"}
        """,
    "okta é [1]": r"""
        {"published": "redacted", "p_event_time": "redacted", "eventtype": "x"}
        {"published": "2022-03-22 14:21:53.225", "actor": {"alternateId": "ann@example.com"}, "target": []}
        {"p_event_time": "2022-03-22 14:21:53.225123456", "displayMessage": "line\r\nbreak \tこんにちは"}
        {"published": "2022-03-22 14:21:53.225123", "eventType": "user.session.start"}
        """,
    "undated": r"""
        {"id": {"applicationName": "admin"}, "actor": {"email": "zoë@example.com"}, "name": "a"}
        {}
        """,
}


def audit_exporter(*words: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "exporter", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def delivered(folder: Path) -> list[bytes]:
    lines: list[bytes] = []
    for path in folder.rglob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            lines += archive.read(archive.namelist()[0]).splitlines()
    return lines


def value(line: bytes | str) -> Any:  # noqa: ANN401 (any JSON value)
    return json.loads(line, parse_float=Decimal)


def there_and_back(folder: Path, files: Sequence[Path]) -> None:
    """Every record of the files is delivered once, in its account, with exactly its values."""
    audit_exporter("init", folder, "--records", *files)
    config = folder / "audit-exporter.yaml"
    as_they_are = "defaults:\n  protect: {secrets: false} # some of these records hold tokens\n"
    config.write_text(
        config.read_text(encoding="utf-8").replace("defaults:\n", as_they_are), encoding="utf-8"
    )
    audit_exporter("run", "-c", config)
    back = [value(line) for line in delivered(folder / "out")]
    # Their representations: equal numbers written differently, or keys in another order, are not the same.
    came = Counter((record["account_id"], repr(record["original"])) for record in back)
    went = Counter(
        (file.stem, repr(value(line)))
        for file in files
        for line in file.read_text(encoding="utf-8").split("\n")
        if line.strip()
    )
    assert came == went


def test_records_of_every_shape_come_back_as_they_went_in(tmp_path: Path) -> None:
    """Imported and exported as `native`, mixed records come back with every value, timeless ones too."""
    files = [tmp_path / f"{name}.jsonl" for name in MIXED]
    for file, lines in zip(files, MIXED.values(), strict=True):
        file.write_text(lines, encoding="utf-8")
    there_and_back(tmp_path / "new", files)


def test_the_real_logs_come_back_as_they_went_in(tmp_path: Path) -> None:
    """Real audit logs, where they are at hand, come back whole, with the times a person finds in them."""
    files = sorted(REAL_LOGS.glob("*.jsonl"))
    if files:
        there_and_back(tmp_path / "new", files)
    for report in import_records(tmp_path / "again", files, NOW).files:
        timed = report.records - report.columns["created_at"].missing
        assert timed == REAL_TIMES.get(report.path.stem, timed)


# --- Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[1, 2]", "line 2 is JSON, but not an object"),
        (b"nonsense", "line 2 is not JSON: Expecting value at character 1"),
        (b'{"a": 1} {"b": 2}', "line 2 is not JSON: Extra data at character 10"),
        (b'{"a": NaN}', "line 2 has NaN, which is no JSON value"),
        (b'{"a": "\xff"}', "line 2 is not UTF-8, at byte 8"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "line 2 is nested too deeply"),
    ],
    ids=["array", "no-json", "two-values", "nan", "no-utf8", "deep"],
)
def test_a_line_that_is_no_object_is_refused_with_its_number(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    """The message names file, line and reason; there is a hint, and no folder."""
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"action": "a"}\n' + line + b"\n")
    with pytest.raises(ConfigError) as caught:
        import_records(tmp_path / "new", [file], NOW)
    assert caught.value.message == f"{file}: {reason}"
    assert caught.value.hint
    assert names_in(tmp_path) == ["log.jsonl"]


def test_a_bad_last_line_of_the_last_file_leaves_nothing_behind(tmp_path: Path) -> None:
    """When the import fails after thousands of records, a folder that was there is as it was."""
    good = written(tmp_path / "good.jsonl", [GITHUB] * 3000)
    bad = written(tmp_path / "bad.jsonl", [*[GITHUB] * 10, 7])
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bad\.jsonl: line 11"):
        import_records(folder, [good, bad], NOW)
    assert names_in(folder) == ["notes.txt"]


@pytest.mark.parametrize(
    "name",
    ["audit.db", "audit-exporter.yaml", "ledger.db", "audit.db-journal", "audit.db-wal", "ledger.db-wal"],
)
def test_nothing_is_replaced(tmp_path: Path, name: str) -> None:
    """An existing database, configuration or ledger is refused by name and stays as it is."""
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="exists already") as caught:
        create_sample(tmp_path, NOW)
    assert name in caught.value.message
    assert caught.value.hint
    assert names_in(tmp_path) == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"


def test_the_database_goes_when_the_configuration_cannot_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both files appear, or none."""
    rename = Path.rename

    def fail_for_config(self: Path, target: Path) -> Path:
        if target.name == "audit-exporter.yaml":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_config)
    with pytest.raises(ConfigError, match="No space left"):
        create_sample(tmp_path, NOW)
    assert names_in(tmp_path) == []


KILLED_BETWEEN = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from exporter.starter.sample import create_sample
rename = Path.rename
def die_at_config(self, target):
    if target.name == "audit-exporter.yaml":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = die_at_config
create_sample(Path(sys.argv[1]), datetime(2026, 11, 20, tzinfo=UTC))
"""


def test_init_after_a_killed_init_says_what_to_do(tmp_path: Path) -> None:
    """A database without its configuration is refused with the way out, and that way works."""
    folder = tmp_path / "new"
    killed = subprocess.run([sys.executable, "-c", KILLED_BETWEEN, folder], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert names_in(folder) == ["audit.db"]
    with pytest.raises(
        ConfigError, match=r"audit\.db exists already, without audit-exporter\.yaml"
    ) as caught:
        create_sample(folder, NOW)
    assert "delete it" in (caught.value.hint or "")
    (folder / "audit.db").unlink()
    create_sample(folder, NOW)
    assert names_in(folder) == ["audit-exporter.yaml", "audit.db"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file where the folder should be is a message, not a traceback."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be written"):
        create_sample(tmp_path / "file" / "folder", NOW)


def test_files_that_cannot_be_read_twice_or_are_named_twice_are_refused(tmp_path: Path) -> None:
    """A missing file, a folder and the same file again are refused before anything is written."""
    file = written(tmp_path / "log.jsonl", [GITHUB])
    for files, message in (
        ([tmp_path / "none.jsonl"], "is not a file"),
        ([tmp_path], "is not a file"),
        ([file, tmp_path / "." / "log.jsonl"], "is named twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            import_records(tmp_path / "new", files, NOW)
    assert names_in(tmp_path) == ["log.jsonl"]


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message blames the file of records, not the new folder."""
    file = written(tmp_path / "log.jsonl", [GITHUB])

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"log\.jsonl cannot be read: Permission denied"):
        import_records(tmp_path / "new", [file], NOW)
