"""A made-up week of audit records, as difficult as real ones: what `make demo` and first steps run on.

The same ``now`` always gives the same records. Names, addresses and texts are invented; addresses
come from the ranges reserved for documentation. Must not use the clock or unseeded chance.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from exporter.starter.folder import Account, Contents, Created, canonical, create, insert, midnight

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from exporter.starter.folder import Row

DAYS = 7
SEED = 20261119
RECORDS_A_DAY = 130  # of an account, on a working day
WEEKEND_RECORDS_A_DAY = 16
WEEKEND = (5, 6)
LATE_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class _Company:
    """A customer with its people."""

    account: str
    timezone: str
    domain: str
    people: tuple[tuple[str, str], ...]  # mailbox, name


@dataclass(frozen=True, slots=True)
class _Activity:
    """Something people do; ``target`` and ``summary`` may mention {number}, {name} and {thing}."""

    action: str
    weight: int
    target: str
    summary: str
    change: tuple[str, str] | None = None  # before and after, kept in the original


COMPANIES = (
    _Company(
        "R6R-KRR-7K7Z",
        "America/New_York",
        "acme.example",
        (("ada.o'neil", "Ada O'Neil"), ("jose.pena", "José Peña"), ("sam+audit", 'Sam "Ace" Reed')),
    ),
    _Company(
        "globex",
        "Europe/Berlin",
        "globex.example",
        (("jürgen.groß", "Jürgen Groß"), ("zofia", "Zofia Żółć"), ("bot", "")),
    ),
    _Company(
        "initech",
        "Asia/Kolkata",
        "initech.example",
        (("priya", "प्रिया शर्मा"), ("arjun", "Arjun Rao"), ("noor", "نور الهدى")),
    ),
    _Company(
        "hooli",
        "Australia/Lord_Howe",
        "hooli.example",
        (("mia", "Mia Tane"), ("li.wei", "李伟"), ("ops", "Ops 🚀")),
    ),
    _Company(
        "umbrella",
        "America/Sao_Paulo",
        "umbrella.example",
        (("joão", "João Araújo"), ("shira", "שירה לוי"), ("anna", "Anna\tMaria")),
    ),
)

ACTIVITIES = (
    _Activity("Login", 40, "", "{name} signed in"),
    _Activity("Login Failed", 6, "", "Wrong password for “{name}”"),
    _Activity("Logout", 15, "", ""),
    _Activity("Campaign Save", 25, "campaign-{number}", 'Campaign "{thing}" saved'),
    _Activity("Campaign Publish", 8, "campaign-{number}", "Campaign “{thing}” goes out\nto 12,000 people"),
    _Activity("Export", 10, "segment/{number}", "Exported {number} profiles to C:\\exports\\{thing}.csv"),
    _Activity("Role Change", 4, "user-{number}", "{name} made an administrator", ("Viewer", "Admin")),
    _Activity("Role Change", 4, "user-{number}", "{name} may only look", ("Editor", "Viewer")),
    _Activity("API Key Created", 3, "key_{number}", "Key <{thing}> & its secret shown once"),
    _Activity("API Key Revoked", 2, "key_{number}", "Key '{thing}' revoked 🔑"),
    _Activity("Settings Change", 4, "settings", "Time-out changed\u2028by {name}", ("30 min", "8 h")),
    _Activity("Dashboard View", 20, "dashboard-{number}", ""),
)
THINGS = (
    "Black Friday",
    "Frühjahrs-Aktion",
    "दिवाली",
    "تخفيضات الصيف",
    "春节促销",
    "50 % off, \\o/",
    "Win-back 👩‍👩‍👧‍👦 families",
    "a {very} 'odd' name; -- with a; semicolon",
    "line one\r\nline two",
)
# How much happens in each hour of an account's local day.
HOURS = (1, 1, 0, 0, 0, 1, 2, 5, 12, 18, 20, 18, 12, 16, 18, 17, 14, 10, 6, 4, 3, 3, 2, 1)
NETWORKS = ("203.0.113.", "198.51.100.", "192.0.2.")


def create_sample(folder: Path, now: datetime) -> Created:
    """Make a new folder with the records of five accounts in the seven days before ``now``.

    Raises ConfigError when the folder has a database or a configuration already.
    """
    now = now.astimezone(UTC)
    accounts: dict[str, int] = {company.account: 0 for company in COMPANIES}

    def fill(connection: sqlite3.Connection) -> Contents:
        rows = _rows(Random(SEED), now)  # noqa: S311 (invented records, no secrets)
        for account, *_ in rows:
            accounts[str(account)] += 1
        insert(connection, rows)
        return Contents(
            start=midnight(now - timedelta(days=DAYS)),
            format="standard",
            accounts=tuple(
                Account(each.account, each.timezone, accounts[each.account]) for each in COMPANIES
            ),
        )

    return create(folder, fill)


def _rows(random: Random, now: datetime) -> Sequence[Row]:
    """Every record in the order of insertion: that of time, but for the late ones."""
    records = [
        (time, company, random.choices(ACTIVITIES, [activity.weight for activity in ACTIVITIES])[0])
        for company in COMPANIES
        for time in _times(random, company, now)
    ]
    records.sort(key=lambda record: (record[0], record[1].account))
    return _delayed(random, [_row(random, *record) for record in records])


def _times(random: Random, company: _Company, now: datetime) -> Iterator[datetime]:
    zone = ZoneInfo(company.timezone)
    first = now - timedelta(days=DAYS)
    for day in range(DAYS + 2):
        date = (first.astimezone(zone) + timedelta(days=day)).date()
        busy = WEEKEND_RECORDS_A_DAY if date.weekday() in WEEKEND else RECORDS_A_DAY
        for hour in random.choices(range(24), HOURS, k=busy):
            local = datetime(date.year, date.month, date.day, hour, tzinfo=zone)
            time = local.astimezone(UTC) + timedelta(microseconds=random.randrange(3_600_000_000))
            if first <= time < now:
                yield time


def _delayed(random: Random, rows: list[Row]) -> list[Row]:
    """A few records come into the database long after they happened."""
    for _ in range(round(len(rows) * LATE_SHARE)):
        happened = random.randrange(len(rows) // 2)
        rows.insert(random.randrange(happened + 20, len(rows)), rows.pop(happened))
    return rows


def _row(random: Random, time: datetime, company: _Company, activity: _Activity) -> Row:
    mailbox, name = random.choice(company.people)
    words = {"number": str(random.randrange(1, 5000)), "name": name, "thing": random.choice(THINGS)}
    return (
        company.account,
        canonical(time),
        f"{mailbox}@{company.domain}",
        activity.action,
        activity.target.format(**words),
        activity.summary.format(**words),
        _address(random),
        _original(random, activity),
    )


def _address(random: Random) -> str | None:
    ipv4 = random.choice(NETWORKS) + str(random.randrange(1, 255))
    ipv6 = f"2001:db8:{random.randrange(0x10000):x}::{random.randrange(1, 0x10000):x}"
    # None: something that happened without anybody's request.
    return random.choices((ipv4, ipv6, None), (80, 15, 5))[0]


def _original(random: Random, activity: _Activity) -> str | None:
    if activity.change is not None:
        before, after = activity.change
        return json.dumps({"before": before, "after": after, "approved": random.choice((True, False))})
    session = {"session": f"{random.getrandbits(64):016x}", "client": "web", "tries": random.randrange(3)}
    return random.choice((json.dumps(session), None))
