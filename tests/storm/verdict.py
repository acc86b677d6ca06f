"""Whether what was delivered is what is in the table: read with zipfile and json, judged row by row.

It must not use the product's code. Of the ledger it reads the table of plans alone, for what was counted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
import zipfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from tests.storm.exporting import objects
from tests.storm.records import HISTORY, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.storm.exporting import Account, Export, Place
    from tests.storm.sessions import Database

_NAME = re.compile(r"audit/[^/]+/audit_[^/]+_(\d{8}T\d{6}Z)(?:_\d{4})?\.zip")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

DELIVERED = ("delivered", "late", "flagged as late", "bad")
FAULTS = (
    "lost",
    "doubled",
    "altered",
    "damaged objects",
    "of other accounts",
    "of no row",
    "before their time",
    "in the wrong window",
    "out of order",
    "late, but not counted as late",
    "objects that no plan knows, or plans without",
    "objects that a consumer misses, or that changed",
    "names that did not grow",
)
LEFT_OUT = ("not yet due", "before the begin")


class Truth(NamedTuple):
    """What a row of the table says; the time in microseconds since 1970, None if it is unreadable."""

    account: str
    time: int | None
    action: str
    fingerprint: bytes


class Delivered(NamedTuple):
    """A record as an object has it."""

    id: int
    time: int | None
    fingerprint: bytes | None  # None: a bad record that holds what it has to


class Planned(NamedTuple):
    """What the ledger says of an object."""

    name: str
    late: int
    records: int
    state: str


@dataclass
class Judgement:
    """One export, in numbers."""

    export: str
    objects: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def faults(self) -> int:
        """How much is wrong."""
        return sum(self.counts[fault] for fault in FAULTS)

    def add(self, what: str, number: int, example: object = "") -> None:
        """Count, and keep the first example."""
        if number:
            self.counts[what] += number
            self.examples.setdefault(what, str(example))


def table(database: Database) -> dict[int, Truth]:
    """Every row, by its id."""
    statement = (
        f"SELECT id, account_id, {database.microseconds}, action, actor_email, target_id, summary, ip_address"
        " FROM audit_log"
    )
    return {
        identifier: Truth(account, time, action, _fingerprint(email, action, digest, summary, ip))
        for identifier, account, time, action, email, digest, summary, ip in database.rows(statement)
    }


def judge(place: Place, account: Account, truth: Mapping[int, Truth]) -> list[Judgement]:
    """Every export of a place."""
    return [_judge(place, export, account, truth) for export in place.exports]


def _fingerprint(*values: object) -> bytes:
    return hashlib.blake2b(repr(values).encode(), digest_size=8).digest()


# --- One export ----------------------------------------------------------------------------------------


def _judge(place: Place, export: Export, account: Account, truth: Mapping[int, Truth]) -> Judgement:
    found = objects(place.objects_of(export))
    judgement = Judgement(export.name, len(found))
    plans = {one.name: one for one in _plans(place, export)}
    _judge_names(judgement, found, plans, account.first_seen[export.name])
    delivered: Counter[int] = Counter()
    for name, path in sorted(found.items()):
        try:
            start, end = _window(name, export)
            records = list(_records(path, export.account))
        except (ValueError, KeyError, zipfile.BadZipFile) as error:
            judgement.add("damaged objects", 1, f"{name}: {error}")
            continue
        delivered.update(record.id for record in records)
        _judge_object(judgement, name, records, export, truth)
        _judge_window(judgement, name, records, (start, end), plans.get(name))
    _judge_union(judgement, delivered, place, export, account, truth)
    return judgement


def _judge_names(
    judgement: Judgement,
    found: Mapping[str, Path],
    plans: Mapping[str, Planned],
    first_seen: Mapping[str, str],
) -> None:
    """What is there is what was planned, in the order of its planning, and nobody missed or lost any."""
    strays = found.keys() ^ {plan.name for plan in plans.values() if plan.state == "delivered"}
    judgement.add("objects that no plan knows, or plans without", len(strays), min(strays, default=""))
    names = list(plans)
    shrunk = [after for before, after in pairwise(names) if not before.encode() < after.encode()]
    times = [found[name].stat().st_mtime_ns for name in sorted(found)]
    shrunk += [str(after) for before, after in pairwise(times) if before > after]
    judgement.add("names that did not grow", len(shrunk), shrunk[:1])
    now = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}
    odd = [name for name in now.keys() | first_seen if now.get(name) != first_seen.get(name)]
    judgement.add("objects that a consumer misses, or that changed", len(odd), odd[:1])


def _judge_object(
    judgement: Judgement, name: str, records: Sequence[Delivered], export: Export, truth: Mapping[int, Truth]
) -> None:
    """Each record is one of this account's rows, unchanged; all are in order."""
    for record in records:
        row = truth.get(record.id)
        if row is None:
            judgement.add("of no row", 1, f"{record.id} in {name}")
        elif row.account != export.account:
            judgement.add("of other accounts", 1, f"{record.id} in {name}")
        elif record.time != row.time or record.fingerprint not in (None, row.fingerprint):
            judgement.add("altered", 1, f"{record.id} in {name}")
    keys = [(record.time is not None, record.time or 0, record.id) for record in records]
    disorder = [after for before, after in pairwise(keys) if before >= after]
    judgement.add("out of order", len(disorder), f"{disorder[:1]} in {name}")


def _judge_window(
    judgement: Judgement,
    name: str,
    records: Sequence[Delivered],
    window: tuple[int, int],
    plan: Planned | None,
) -> None:
    """What lies before the start of its object's window is late, and counted so; nothing lies behind it."""
    start, end = window
    times = [record.time for record in records if record.time is not None]
    late = sum(time < start for time in times)
    judgement.add("in the wrong window", sum(time >= end for time in times), name)
    judgement.add("delivered", len(records))
    judgement.add("late", late)
    judgement.add("bad", len(records) - len(times))
    judgement.add("flagged as late", plan.late if plan else 0)
    said = (plan.late, plan.records) if plan else None
    if said != (late, len(records)):
        judgement.add("late, but not counted as late", 1, f"{name}: {said} and not {late, len(records)}")


def _judge_union(
    judgement: Judgement,
    delivered: Counter[int],
    place: Place,
    export: Export,
    account: Account,
    truth: Mapping[int, Truth],
) -> None:
    """What was delivered is what is due: all of it, once, and nothing else."""
    start, end = (_since_1970(moment) for moment in (place.start, export.end(account.until)))
    due: set[int] = set()
    for identifier, row in truth.items():
        if row.account != export.account:
            continue
        if row.time is not None and row.time >= end:
            judgement.add("not yet due", 1)
        elif row.action == HISTORY and row.time is not None and row.time < start:
            judgement.add("before the begin", 1)
        else:
            due.add(identifier)
    lost = due - delivered.keys()
    early = [one for one in delivered.keys() - due if one in truth and truth[one].account == export.account]
    doubled = {identifier: count for identifier, count in delivered.items() if count > 1}
    judgement.add("lost", len(lost), min(lost, default=""))
    judgement.add("before their time", len(early), early[:1])
    judgement.add("doubled", sum(doubled.values()) - len(doubled), min(doubled, default=""))


def _window(name: str, export: Export) -> tuple[int, int]:
    """The start and the end of an object's window, in microseconds since 1970; its name has the end."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError("this is no object's name")
    end = datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return _since_1970(end - timedelta(seconds=export.every_s)), _since_1970(end)


def _since_1970(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


# --- Objects and plans -----------------------------------------------------------------------------------


def _records(path: Path, account: str) -> Iterator[Delivered]:
    """The records of an archive; ValueError unless it is whole and has one member, named as it should be."""
    with zipfile.ZipFile(path) as archive:
        (member,) = archive.namelist()
        data = archive.read(member)  # compares the checksum
    if member != path.with_suffix(".json").name or not data.endswith(b"\n"):
        raise ValueError(f"its member {member} is not named after it, or ends in the middle of a line")
    for line in data.removesuffix(b"\n").split(b"\n"):
        record = json.loads(line)
        yield _bad(record["bad_record"], account) if "bad_record" in record else _good(record, account)


def _good(record: Mapping[str, Any], account: str) -> Delivered:
    columns = [record[name] for name in ("Email", "Action", "Action ID", "Description", "IP Address")]
    email, action, digest, summary, ip = columns
    time = _since_1970(datetime.fromisoformat(record["Date"]))
    genuine = digest == digest_of(account, email, action, summary, ip)
    return Delivered(int(record["Event ID"]), time, _fingerprint(*columns) if genuine else b"")


def _bad(record: Mapping[str, Any], account: str) -> Delivered:
    """A record whose time nobody can read; nearly all are short enough to be in the object as a whole."""
    held = base64.b64decode(record["leading_bytes"])
    identifier, is_bad = int(record["id"]), record["reason"] == "its time cannot be read"
    if record["length"] > len(held):
        return Delivered(identifier, None, None if is_bad and account.encode() in held else b"")
    row = json.loads(held)
    columns = [row[name] for name in ("actor_email", "action", "target_id", "summary", "ip_address")]
    genuine = is_bad and row["account_id"] == account and int(row["id"]) == identifier
    return Delivered(identifier, None, _fingerprint(*columns) if genuine else b"")


def _plans(place: Place, export: Export) -> list[Planned]:
    """The plans of an export in the order in which they were made."""
    url = place.settings()["ledger"]["url"]
    if url.startswith("sqlite"):
        statement = "SELECT name, content, state FROM plans WHERE export = ? ORDER BY sequence"
        with closing(sqlite3.connect(place.folder / url.removeprefix("sqlite:///"))) as connection:
            rows = connection.execute(statement, (export.name,)).fetchall()
    else:
        wanted = "SELECT name, content, state FROM audit_exporter.plans WHERE export = %s ORDER BY sequence"
        with psycopg.connect(url) as ledger:
            rows = ledger.execute(wanted, (export.name,)).fetchall()
    contents = [(name, json.loads(content), state) for name, content, state in rows]
    return [Planned(name, content["late"], content["count"], state) for name, content, state in contents]
