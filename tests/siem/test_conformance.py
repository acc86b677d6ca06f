"""What the program writes is what each consumer reads; where it warns, that one really loses something.

The output is that of the real program over odd records; the readers are in ``readers``.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from exporter.siem.consumers import CONSUMERS
from tests.kit.command_line import DAY, START, Vendor, rfc3339
from tests.siem.readers import (
    READERS,
    Found,
    Object,
    Pack,
    elastic_polled,
    gunzipped,
    parsed,
    splunk_time,
    without_null,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ODD = (
    "plain",
    "two\nlines\r\nand\ttabs",
    "\u2028 \u2029 \x85 \x0b \x0c \x1c are ends of lines to some",
    'quotes " and \\" and \\n and }{][, and "Date":"1999-01-01T00:00:00.000000Z"',
    "😀 é ß 漢字 \ufeff \u200b",
    "",
    '{"detail": {"a": 1}}',
    "x" * 20_000,
)
PLAIN = ("sentinel-aws", "sentinel-azure")


@dataclass
class Written:
    """What one export delivered, in the order of its deliveries, and what has to arrive of it."""

    vendor: Vendor
    objects: list[Object] = field(default_factory=list)

    def pack(self, name: str) -> Pack:
        return {one["file"]: one["text"] for one in self.answer(name)["sections"]}

    def abouts(self, name: str) -> set[str]:
        """What the program warns of, but for the folder and the days that all of these tests deliver to."""
        return {one["about"] for one in self.answer(name)["cautions"]} - {"destination", "every"}

    def answer(self, name: str) -> dict[str, Any]:
        found = self.vendor("siem", name, "--json")
        assert found.status == 0, found.err
        answer: dict[str, Any] = json.loads(found.out)
        return answer

    def run(self, *words: str) -> None:
        answer = self.vendor(*words)
        assert answer.status == 0, answer.err
        for event in answer.events("delivered"):
            self.objects.append((event["object"], (self.vendor.out / event["object"]).read_bytes()))

    @property
    def rows(self) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.vendor.database)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM audit_log")]


def standard(row: dict[str, Any]) -> dict[str, Any]:
    """A record in the format `standard`, as the design has it."""
    date = datetime.fromisoformat(row["created_at"]).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "Date": date,
        "Email": row["actor_email"],
        "Action": row["action"],
        "Action ID": None,
        "Description": row["summary"],
        "IP Address": None,
        "Event ID": str(row["id"]),
    }


def expected(written: Written, name: str, form: str) -> Counter[str]:
    records = written.rows if form == "native" else [standard(row) for row in written.rows]
    if name == "wazuh":  # it leaves out what has no value, and says what the record came by
        by = {"source": "custom"} if written.objects[0][0].endswith(".zip") else {}
        records = [{key: one[key] for key in one if one[key] is not None} | by for one in records]
    return counted(records)


def counted(found: list[Any]) -> Counter[str]:
    return Counter(json.dumps(one, sort_keys=True) for one in found)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Written]]:
    """Real output for these settings of an export, made once for all tests."""
    made: dict[str, Written] = {}

    def output(texts: tuple[str, ...] = ODD, **settings: Any) -> Written:  # noqa: ANN401 - any setting
        key = json.dumps([settings, [hash(text) for text in texts]], sort_keys=True)
        if key not in made:
            made[key] = _written(tmp_path_factory.mktemp("vendor"), texts, settings)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield output


def _written(folder: Path, texts: tuple[str, ...], settings: dict[str, Any]) -> Written:
    """Two windows in parts, then late records, then a backfill of what was before the begin."""
    vendor = Vendor(folder)
    vendor.export("acme", **{"part_limit": "3kB"} | settings)
    for hour, text in enumerate(texts):
        vendor.insert("acme", START + timedelta(hours=hour % 24), text)
        vendor.insert("acme", START - DAY + timedelta(hours=hour % 24), f"before: {text}")
    vendor.start()
    written = Written(vendor)
    written.run("run", "--as-of", rfc3339(START + DAY))
    vendor.insert("acme", START, "late")
    vendor.insert("acme", START + DAY, "second window")
    written.run("run")
    written.run(
        "backfill", "--account", "acme", "--from", rfc3339(START - DAY), "--to", rfc3339(START), "--json"
    )
    return written


CLAIMED = [
    (name, archive, body)
    for name in READERS
    for archive in CONSUMERS[name].archives  # type: ignore[index]
    for body in CONSUMERS[name].bodies  # type: ignore[index]
]
OTHERS = [
    (name, archive, body)
    for name in READERS
    for archive in ("zip", "gzip")
    for body in ("ndjson", "json_array")
    if (name, archive, body) not in CLAIMED
]


def test_every_consumer_of_files_has_a_reader() -> None:
    assert set(READERS) == set(CONSUMERS) - {"splunk-hec"}


@pytest.mark.parametrize(("name", "archive", "body"), CLAIMED)
def test_each_record_arrives_once_and_unchanged(
    outputs: Callable[..., Written], name: str, archive: str, body: str
) -> None:
    """Whatever is in it, however it came about, and in the order in which this consumer looks."""
    form = "native" if name in PLAIN else "standard"
    written = outputs(archive=archive, body=body, format=form)
    assert len(written.objects) > 4, "parts, a late record, a second window and a backfill"
    found = READERS[name](written.objects, written.pack(name))
    assert counted(found) == expected(written, name, form)
    assert written.abouts(name) <= {"max_record"}


@pytest.mark.parametrize(("name", "archive", "body"), OTHERS)
def test_what_is_warned_of_is_really_lost(
    outputs: Callable[..., Written], name: str, archive: str, body: str
) -> None:
    """And of an archive or a body that it does not read, each is named."""
    form = "native" if name in PLAIN else "standard"
    written = outputs(archive=archive, body=body, format=form)
    consumer = CONSUMERS[name]  # type: ignore[index]
    wrong = {"archive"} if archive not in consumer.archives else set()
    wrong |= {"body"} if body not in consumer.bodies else set()
    assert written.abouts(name) - {"max_record"} == wrong
    found = READERS[name](written.objects, written.pack(name))
    assert counted(found) != expected(written, name, form)


@pytest.mark.parametrize("name", READERS)
def test_siem_by_name_is_read_without_a_warning(outputs: Callable[..., Written], name: str) -> None:
    """`siem: NAME` alone chooses what arrives."""
    form = "native" if name in PLAIN else "standard"
    written = outputs(siem=name, format=form)
    assert written.abouts(name) == set()
    assert counted(READERS[name](written.objects, written.pack(name))) == expected(written, name, form)


@pytest.mark.parametrize(
    ("name", "length"), [("wazuh", 70_000), ("datadog", 600_000), pytest.param("secops", 4_100_000)]
)
def test_records_beyond_a_limit_are_lost_and_never_sent_with_siem(
    outputs: Callable[..., Written], name: str, length: int
) -> None:
    """Above the limit they are in quarantine, and something that arrives takes their place."""
    long = ("a" * length,)
    without = outputs(texts=long, archive="gzip", max_record="8MB")
    assert "max_record" in without.abouts(name)
    assert counted(READERS[name](without.objects, without.pack(name))) != expected(without, name, "standard")
    chosen = outputs(texts=long, siem=name)
    assert chosen.abouts(name) == set()
    found = READERS[name](chosen.objects, chosen.pack(name))
    assert len(found) == len(chosen.rows)
    bad = [one for one in found if isinstance(one, dict) and "bad_record" in one]
    assert [one["bad_record"]["reason"][:11] for one in bad] == ["longer than"] * 2


def _renamed(vendor: Vendor, name: str) -> None:
    vendor.settings["source"] |= {
        "query": f"SELECT id, created_at, account_id, summary AS {name} FROM audit_log",
        "columns": {"id": "id", "time": "created_at", "account": "account_id"},
    }
    del vendor.settings["source"]["table"]


@pytest.mark.parametrize("archive", ["zip", "gzip"])
@pytest.mark.parametrize("name", ["detail", "source", "log_info", "full_log", "harmless"])
def test_wazuh_garbles_the_fields_that_are_warned_of_and_no_others(
    tmp_path: Path, name: str, archive: str
) -> None:
    """Some are garbled only on the way that it reads zip files."""
    vendor = Vendor(tmp_path)
    vendor.export("acme", format="native", archive=archive, max_record="60kB", part_limit="9MB")
    _renamed(vendor, name)
    vendor.insert("acme", START, "a summary")
    vendor.start()
    written = Written(vendor)
    written.run("run", "--as-of", rfc3339(START + DAY))
    (row,) = written.rows
    record = {"id": row["id"], "created_at": row["created_at"], "account_id": "acme", name: "a summary"}
    found = READERS["wazuh"](written.objects, {})
    unchanged = (
        [one for one in found if isinstance(one, dict) and record.items() <= one.items()] == found != []
    )
    assert unchanged == (written.abouts("wazuh") == set()), found


def test_sentinel_drops_the_fields_whose_names_are_no_columns(outputs: Callable[..., Written]) -> None:
    """`Action ID` is one; the warning names them all."""
    written = outputs(archive="gzip", body="ndjson", format="standard")
    (caution,) = [one for one in written.answer("sentinel-aws")["cautions"] if one["about"] == "names"]
    assert "Action ID, IP Address, Event ID" in caution["message"]
    found: list[Found] = READERS["sentinel-aws"](written.objects, written.pack("sentinel-aws"))
    assert {key for one in found for key in dict(one)} == {"Date", "Email", "Action", "Description"}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in READERS if "cef" not in CONSUMERS[name].lines])  # type: ignore[index]
def test_a_consumer_of_json_gets_no_record_of_other_lines(outputs: Callable[..., Written], name: str) -> None:
    """What the warning about CEF and LEEF says."""
    pack = outputs(archive="gzip", body="ndjson", format="native").pack(name)
    line = b"CEF:0|vendor|product|1|login|Login|3|suser=ada@acme.example\n"
    found = READERS[name]([("audit/acme/audit_acme_20261119T040000Z.jsonl.gz", gzip.compress(line))], pack)
    assert not [one for one in found if isinstance(one, dict)]


def test_splunk_finds_the_time_of_each_record_and_no_other_in_its_text(
    outputs: Callable[..., Written],
) -> None:
    """By what the printed props.conf says; one text holds the name of the field and a time behind it."""
    written = outputs(archive="gzip", body="ndjson", format="standard")
    pack = written.pack("splunk-addon")
    for _, data in written.objects:
        for raw in (gunzipped(data) or "").splitlines():
            assert splunk_time(raw, pack) == datetime.fromisoformat(json.loads(raw)["Date"]).astimezone(UTC)


@pytest.mark.parametrize("archive", ["zip", "gzip"])
def test_nothing_but_records_lies_below_the_folder_that_readers_are_given(
    outputs: Callable[..., Written], archive: str
) -> None:
    """A reader that takes everything below a prefix takes no probe, digest or leftover."""
    written = outputs(archive=archive, body="ndjson", format="standard")
    assert written.vendor("check").status == 0
    below = {
        path.relative_to(written.vendor.out).as_posix()
        for path in (written.vendor.out / "audit").rglob("*")
        if path.is_file()
    }
    assert below == {key for key, _ in written.objects}
    assert [key for key, _ in written.objects] == sorted(key for key, _ in written.objects)


@pytest.mark.parametrize("form", ["ocsf", "ecs", "auth0", "cerby", "sentry", "cef", "leef"])
def test_every_format_arrives_where_no_warning_is_given(outputs: Callable[..., Written], form: str) -> None:
    """JSON at every consumer, CEF and LEEF at those that take any line; where one is given, it is true."""
    written = outputs(archive="gzip", format=form)
    lines = [line for _, data in written.objects for line in (gunzipped(data) or "").split("\n")[:-1]]
    assert len(lines) == len(written.rows)
    for name, reader in READERS.items():
        found = reader(written.objects, written.pack(name))
        sent = [parsed(line) for line in lines]
        if name == "wazuh":
            sent = [without_null(one) if isinstance(one, dict) else one for one in sent]
        arrived = counted(found) == counted(sent)
        assert arrived == (written.abouts(name) <= {"max_record"}), name


POLLED = [
    {"type": "gcs", "bucket": "acme-audit"},
    {"type": "azure", "account_url": "https://acme.blob.core.windows.net", "container": "audit"},
]


@pytest.mark.parametrize("body", ["ndjson", "json_array"])
@pytest.mark.parametrize("place", POLLED, ids=lambda one: one["type"])
def test_elastic_opens_an_array_where_it_polls(
    outputs: Callable[..., Written], monkeypatch: pytest.MonkeyPatch, place: dict[str, str], body: str
) -> None:
    """From Google and Azure: there, nothing is warned of."""
    written = outputs(archive="gzip", body=body, format="standard")
    monkeypatch.setitem(written.vendor.settings["exports"][0], "destination", place)
    assert written.answer("elastic")["cautions"] == []
    found = elastic_polled(written.objects, written.pack("elastic"))
    assert counted(found) == expected(written, "elastic", "standard")


@pytest.mark.parametrize("form", ["cef", "leef"])
@pytest.mark.parametrize("place", POLLED, ids=lambda one: one["type"])
def test_elastic_takes_lines_of_text_from_s3_alone(
    outputs: Callable[..., Written], monkeypatch: pytest.MonkeyPatch, place: dict[str, str], form: str
) -> None:
    written = outputs(archive="gzip", format=form)
    monkeypatch.setitem(written.vendor.settings["exports"][0], "destination", place)
    (caution,) = written.answer("elastic")["cautions"]
    assert caution["message"] == f"elastic reads JSON from {place['type']}, and {form} is {form.upper()}"
    assert elastic_polled(written.objects, written.pack("elastic")) == []


def test_the_format_that_is_printed_for_sentinel_arrives_whole(tmp_path: Path) -> None:
    """`standard` under names that Azure Monitor has columns for; with it, nothing is left to warn of."""
    vendor = Vendor(tmp_path)
    vendor.export("acme", siem="sentinel-aws")
    vendor.insert("acme", START, ODD[3])
    written = Written(vendor)
    assert written.abouts("sentinel-aws") == {"names"}
    before = written.pack("sentinel-aws")
    (tmp_path / "sentinel-format.yml").write_text(before["sentinel-format.yml"])
    vendor.settings["exports"][0]["format"] = "sentinel-format.yml"
    vendor.start()
    written.run("run", "--as-of", rfc3339(START + DAY))
    assert written.abouts("sentinel-aws") == set()
    (found,) = READERS["sentinel-aws"](written.objects, written.pack("sentinel-aws"))
    assert isinstance(found, dict)
    assert list(found.values()) == list(standard(written.rows[0]).values())
    now = written.pack("sentinel-aws")
    for file in ("table.json", "data-collection-rule.json"):
        assert before[file] == now[file], "what was printed beside the format is made for it"


def test_sentinel_has_a_column_for_what_goes_out_in_place_of_a_record(
    outputs: Callable[..., Written],
) -> None:
    written = outputs(texts=("a" * 600,), siem="sentinel-aws", max_record="500B", format="native")
    found = READERS["sentinel-aws"](written.objects, written.pack("sentinel-aws"))
    bad = [one for one in found if isinstance(one, dict) and "bad_record" in one]
    assert [one["bad_record"]["reason"][:11] for one in bad] == ["longer than"] * 2


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("qradar", lambda objects: objects[::-1]),
        ("secops", lambda objects: objects[1:]),
        ("splunk-addon", lambda objects: objects + objects[:1]),
        ("elastic", lambda objects: [with_text(one, "\\u2028", "\u2028") for one in objects]),
        ("datadog", lambda objects: [with_text(one, "\\u0085", "\x85") for one in objects]),
        ("logscale", lambda objects: [with_text(one, "{", "\ufeff{") for one in objects]),
        ("sentinel-azure", lambda objects: [with_text(one, "}\n", "},\n") for one in objects]),
        ("wazuh", lambda objects: [with_text(one, "\n", "\n\n") for one in objects]),
    ],
)
def test_a_reader_sees_what_would_be_a_fault(
    outputs: Callable[..., Written], name: str, fault: Callable[[list[Object]], list[Object]]
) -> None:
    """Keys that do not grow, a raw separator, a BOM, an empty line: the readers are no rubber stamps."""
    form = "native" if name in PLAIN else "standard"
    written = outputs(archive="gzip", body="ndjson", format=form)
    found = READERS[name](fault(written.objects), written.pack(name))
    assert counted(found) != expected(written, name, form)


def with_text(found: Object, old: str, new: str) -> Object:
    key, data = found
    return key, gzip.compress(gzip.decompress(data).decode().replace(old, new).encode())
