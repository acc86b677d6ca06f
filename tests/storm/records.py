"""What writers write: records whose content can be checked, dated by clocks as wrong as real ones.

It must not know a database: a time that only the database can tell is a `Clock`.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

COLUMNS: Final = (
    "created_at",
    "account_id",
    "actor_email",
    "action",
    "target_id",
    "summary",
    "ip_address",
)
"""The table's columns but for its id and, on PostgreSQL, its xid."""

ACCOUNTS: Final = {"acme": 5, "ACME": 2, "acme ": 1, "acmé": 1, "globex": 3, "glob_ex": 2}
"""Accounts with an export, and how busy they are; collations call some of them equal."""

NOBODY: Final = "nobody"
"""An account without an export."""

HISTORY: Final = "history"
"""The action of records that were there before the first export began."""

MOST_SKEW: Final = timedelta(hours=3)
SOON_S: Final = 8.0
_SENTENCES: Final = (
    "signed in",
    'changed the "plan" of O\'Neill \\ Sons',
    "a line\nand\tanother\r\n",
    "\\N",
    "ends in a backslash \\",
    "naïve café 日本語 \N{WOLF FACE}",
    "separators \u2028 \u2029 \u0085",
    "",
    '{"key": ["value", null]}',
)


class Clock(Enum):
    """A time that a session puts in its own way."""

    DATABASE = "now"  # the database's own clock
    NONE = "none"  # NULL
    BROKEN = "broken"  # what the column takes and no calendar has


When = datetime | Clock


class Record(NamedTuple):
    """A row of the table, in the order of COLUMNS."""

    time: When
    account: str
    email: str
    action: str
    digest: str
    summary: str
    ip: str


def digest_of(account: str, email: str, action: str, summary: str, ip: str) -> str:
    """What a record's other columns amount to, except the time, which the table alone knows."""
    whole = f"{account}\n{email}\n{action}\n{summary}\n{ip}"
    return hashlib.md5(whole.encode(), usedforsecurity=False).hexdigest()


class Pen:
    """One writer's way of making records; its application's clock may be hours off."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._skew = random.uniform(-1, 1) * MOST_SKEW
        self._weights = {**ACCOUNTS, NOBODY: 1}

    def records(self, count: int, action: str) -> list[Record]:
        """What one transaction writes: by one clock, and mostly for one account."""
        clock, account = self._clock(), self._account()
        mixed = self._random.random() < 0.2
        return [self.record(clock(), self._account() if mixed else account, action) for _ in range(count)]

    def record(self, time: When, account: str, action: str) -> Record:
        """One record, with a random id and a digest of the rest."""
        email = f"{self._random.getrandbits(64):016x}@storm.example"
        summary = self._random.choice(_SENTENCES) * self._random.randint(1, 8)
        ip = f"203.0.113.{self._random.randint(1, 254)}"
        return Record(
            time, account, email, action, digest_of(account, email, action, summary, ip), summary, ip
        )

    def _account(self) -> str:
        return self._random.choices(list(self._weights), list(self._weights.values()))[0]

    def _clock(self) -> Callable[[], When]:
        """How the records of one transaction are dated."""
        begun = datetime.now(UTC)
        soon = timedelta(seconds=self._random.uniform(0, SOON_S))
        much_later = self._random.uniform(1 / 3, 1) * MOST_SKEW
        clocks: dict[Callable[[], When], float] = {
            lambda: Clock.DATABASE: 40,
            lambda: datetime.now(UTC): 24,
            lambda: begun: 8,
            lambda: begun.replace(microsecond=0): 6,
            lambda: datetime.now(UTC) + self._skew: 8,
            lambda: datetime.now(UTC) + soon: 6,
            lambda: begun + much_later: 4,
            lambda: Clock.NONE: 2,
            lambda: Clock.BROKEN: 2,
        }
        return self._random.choices(list(clocks), list(clocks.values()))[0]
