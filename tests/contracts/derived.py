"""What every source promises of a derived column, as functions that take a maker of fresh, empty sources.

What is expected comes from a plain model: the rule, word for word, over what a seal shows to a backfill.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.errors import SourceError
from exporter.model import Branch, Range, Window
from exporter.sources.derived import FirstOf
from tests.contracts.source import as_stored, at, window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.interfaces import Source
    from exporter.model import Key, Seal

LOGINS: Final = ("login", "user.login")
FIRST_LOGIN: Final = FirstOf("first_login", of="user_id", action="action", actions=LOGINS)
NAMES: Final = ("acme", "ACME")
LOOK_ALIKES: Final = ("ann", "Ann", "ANN", "ann ", "änn", "a\u0308nn", "42", "042", "")
ALWAYS: Final = Window(datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))


class Bench(Protocol):
    """A source with the columns `user_id`, `action` and `note`, and a way to fill it.

    ``histories`` is how many of them are tried.
    """

    histories: int

    @property
    def source(self) -> Source: ...

    def begin(self) -> object:
        """A transaction of its own, whose records appear at its commit."""
        ...

    def commit(self, transaction: object) -> None: ...

    def insert(
        self,
        transaction: object,
        account: str,
        time: datetime | None,
        user: str | None,
        action: str | None,
        note: str,
    ) -> None:
        """Add one record, with an unreadable time for None."""
        ...


@dataclass(frozen=True)
class Seen:
    """A record as a source gives it out; ``first`` is the derived column."""

    branch: Branch
    key: Key
    note: str
    user: bytes
    action: bytes
    first: bytes

    @property
    def is_login(self) -> bool:
        return self.user != b"null" and self.action.strip(b'"').decode() in LOGINS

    @property
    def order(self) -> tuple[bool, object, object]:
        return (self.key[0] is not None, self.key[0], self.key[1])


def add(
    bench: Bench,
    account: str,
    seconds: float | None,
    user: str | None = "ann",
    action: str | None = "login",
    note: str = "",
) -> None:
    """One record, committed at once."""
    transaction = bench.begin()
    bench.insert(transaction, account, None if seconds is None else at(seconds), user, action, note)
    bench.commit(transaction)


def seen(source: Source, ranges: Sequence[Range]) -> list[list[Seen]]:
    """The records of several ranges, read in one go."""
    found: list[list[Seen]] = [[] for _ in ranges]
    for index, block in source.read(ranges, None):
        names = ("note", "user_id", "action", "first_login")
        columns = [block.columns[name].json() for name in names]
        for row, (note, user, action, first) in enumerate(zip(*columns, strict=True)):
            key = as_stored(block.key(row))
            found[index].append(Seen(block.branch, key, note.decode().strip('"'), user, action, first))
    return found


def firsts(source: Source, one: Range) -> list[bytes]:
    """The derived column of a range."""
    return [record.first for record in seen(source, [one])[0]]


def test_the_first_login_is_the_first_one_alone(make: Callable[..., Bench]) -> None:
    """True for a user's first login, false for later ones, null for whatever is no login of a user."""
    bench = make()
    begin = bench.source.seal()
    for seconds, user, action in (
        (1, "ann", "logout"), (2, "ann", "login"), (3, "bob", "user.login"), (4, "ann", "user.login"),
        (5, "bob", "login"), (6, None, "login"), (7, "bob", None), (8, "ann", "Login"), (9, "ann", "login"),
    ):  # fmt: skip
        add(bench, "acme", seconds, user, action)
    one = Range("acme", window(0), bench.source.seal(begin), begin)
    true, false, null = b"true", b"false", b"null"
    assert firsts(bench.source, one) == [null, true, true, false, false, null, null, null, false]
    blocks = (block for _, block in bench.source.read([one], ["first_login"]))
    texts = [text for block in blocks for text in block.columns["first_login"].strings()]
    assert texts[:4] == [null, b'"true"', b'"true"', b'"false"']


def test_a_late_login_takes_no_title_away(make: Callable[..., Bench]) -> None:
    """A login that comes late, dated before one that was delivered as the first, is no first one."""
    bench = make()
    begin = bench.source.seal()
    add(bench, "acme", 5)
    first = Range("acme", window(0), bench.source.seal(begin), begin)
    assert firsts(bench.source, first) == [b"true"]
    add(bench, "acme", 2)
    add(bench, "acme", 15)
    second = Range("acme", window(1), bench.source.seal(first.seal), first.seal)
    assert firsts(bench.source, second) == [b"false", b"false"]
    assert firsts(bench.source, first) == [b"true"]


def test_a_late_login_may_be_the_first(make: Callable[..., Bench]) -> None:
    """A late login is the first where none was delivered; one dated ahead does not count before its time."""
    bench = make()
    add(bench, "acme", 25)
    begin = bench.source.seal()
    first = Range("acme", window(0), bench.source.seal(begin), begin)
    add(bench, "acme", 2)
    add(bench, "acme", 1)
    second = Range("acme", window(1), bench.source.seal(first.seal), first.seal)
    third = Range("acme", window(2), bench.source.seal(second.seal), second.seal)
    assert [firsts(bench.source, one) for one in (first, second, third)] == [
        [],
        [b"true", b"false"],
        [b"false"],
    ]


def test_a_login_that_ran_at_the_seal_comes_too_late(make: Callable[..., Bench]) -> None:
    """A login whose transaction was running when its window was sealed changes nothing in that window."""
    bench = make()
    begin = bench.source.seal()
    slow = bench.begin()
    bench.insert(slow, "acme", at(1), "ann", "login", "")
    bench.insert(slow, "acme", at(1), "bob", "login", "")
    add(bench, "acme", 5)
    first = Range("acme", window(0), bench.source.seal(begin), begin)
    before = firsts(bench.source, first)
    bench.commit(slow)
    add(bench, "acme", 15)
    second = Range("acme", window(1), bench.source.seal(first.seal), first.seal)
    assert firsts(bench.source, first) == before
    assert (before + firsts(bench.source, second)).count(b"true") == len(("ann", "bob"))


def test_what_lies_before_the_begin_counts(make: Callable[..., Bench]) -> None:
    """Who logged in before the begin is new no more; in a backfill of that time it is the first login."""
    bench = make()
    add(bench, "acme", -15)
    begin = bench.source.seal()
    add(bench, "acme", 5)
    seal = bench.source.seal()
    assert firsts(bench.source, Range("acme", window(0), seal, begin)) == [b"false"]
    assert firsts(bench.source, Range("acme", window(-2), seal)) == [b"true"]


def test_a_record_without_a_time_is_nobodys_first(make: Callable[..., Bench]) -> None:
    """A record whose time is unreadable has null, and takes the title from no other."""
    bench = make()
    begin = bench.source.seal()
    for _ in range(7):
        add(bench, "acme", None)
    add(bench, "acme", 1)
    one = Range("acme", window(0), bench.source.seal(begin), begin)
    assert firsts(bench.source, one) == [*[b"null"] * 7, b"true"]
    assert firsts(bench.source, replace(one, previous=None)) == [b"true"]


def test_users_are_told_apart_by_bytes(make: Callable[..., Bench]) -> None:
    """Users, accounts and actions that look alike to a collation are different ones."""
    bench = make()
    for number, user in enumerate(LOOK_ALIKES):
        add(bench, "acme", 1 + number / 10, user)
        add(bench, "ACME", 1 + number / 10, user)
        add(bench, "acme", 2 + number / 10, user)
        add(bench, "acme", number / 10, user, "LOGIN")
        add(bench, "acme", number / 10, user, "login ")
    found = firsts(bench.source, Range("acme", window(0), bench.source.seal()))
    others = [b"null"] * 2 * len(LOOK_ALIKES)
    assert found == [*others, *[b"true"] * len(LOOK_ALIKES), *[b"false"] * len(LOOK_ALIKES)]


def test_it_is_read_like_a_column(make: Callable[..., Bench]) -> None:
    """A derived column is named after all others, read when it is asked for, and asks for none of them."""
    bench = make()
    add(bench, "acme", 1, note="secret")
    one = Range("acme", window(0), bench.source.seal())
    names = list(bench.source.columns())
    assert names[-1] == "first_login"
    ((_, everything),) = bench.source.read([one], None)
    assert list(everything.columns) == names
    ((_, block),) = bench.source.read([one], ["first_login", "action"])
    assert list(block.columns) == ["action", "first_login"]
    ((_, alone),) = bench.source.read([one], ["first_login"])
    assert list(alone.columns["first_login"].json()) == [b"true"]
    ((_, without),) = bench.source.read([one], ["note"])
    assert list(without.columns) == ["note"]
    assert b"first_login" not in without.raw(0)


def test_a_mistake_is_named(make: Callable[..., Bench]) -> None:
    """A name that is taken, or a column that is not there, is said with its place in the configuration."""
    for derived, message in (
        (replace(FIRST_LOGIN, name="note"), "source.derived.note: .* has a column 'note' already"),
        (replace(FIRST_LOGIN, of="usr"), "source.derived.first_login.first_of: .* no column 'usr'"),
        (
            replace(FIRST_LOGIN, action="act"),
            "source.columns.action: .* no column 'act', which source.derived",
        ),
    ):
        with pytest.raises(SourceError, match=message):
            make(derived).source.columns()


# --- All histories ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One record; a slow one's transaction is still running when the next seal is taken."""

    account: str
    seconds: float | None
    user: str | None
    action: str
    is_slow: bool = False


_STEPS = st.builds(
    Step,
    account=st.sampled_from(NAMES),
    seconds=st.none() | st.sampled_from([-25.0, -0.5, 0.0, 3.0, 9.5, 10.0, 14.0, 25.0]),
    user=st.sampled_from(["ann", "Ann", "bob", None]),
    action=st.sampled_from(["login", "user.login", "LOGIN", "logout"]),
    is_slow=st.booleans(),
)
_HISTORY = st.lists(st.none() | _STEPS, max_size=14)


class Story:
    """What happens to the accounts of one history, and what each window delivered at once."""

    def __init__(self, bench: Bench, number: int) -> None:
        self.bench = bench
        self._number = number
        self._notes = itertools.count()
        self._running: list[object] = []
        self._known: dict[str, list[Seen]] = {}
        self.seals: list[Seal] = []

    def account(self, name: str) -> str:
        """Each history has accounts of its own in one table."""
        return f"{name}-{self._number}"

    def do(self, step: Step) -> None:
        transaction = self.bench.begin()
        time = None if step.seconds is None else at(step.seconds)
        note = f"record {next(self._notes)}"
        self.bench.insert(transaction, self.account(step.account), time, step.user, step.action, note)
        if step.is_slow:
            self._running.append(transaction)
        else:
            self.bench.commit(transaction)

    def seal(self) -> None:
        """What ran until now ends after the seal."""
        self.seals.append(self.bench.source.seal(self.seals[-1] if self.seals else None))
        for transaction in self._running:
            self.bench.commit(transaction)
        self._running.clear()

    def live(self, name: str) -> list[Range]:
        """The windows so far."""
        account, pairs = self.account(name), itertools.pairwise(self.seals)
        return [
            Range(account, window(number), seal, previous, first=number == 0)
            for number, (previous, seal) in enumerate(pairs)
        ]

    def expected(self, ranges: Sequence[Range]) -> list[list[Seen]]:
        """The ranges with the derived column as the rule has it, from what each seal shows."""
        found = seen(self.bench.source, ranges)
        return [
            [replace(record, first=self._by_the_rule(record, one)) for record in records]
            for one, records in zip(ranges, found, strict=True)
        ]

    def before_begin(self, name: str) -> list[Seen]:
        """The logins that no window delivers, because they were there at the begin."""
        return self._logins(self.account(name), self.seals[0], at(0))

    def _by_the_rule(self, record: Seen, one: Range) -> bytes:
        if not record.is_login or record.branch is Branch.UNREADABLE:
            return b"null"
        visible = self._logins(one.account, one.seal, ALWAYS.end)
        takes = any(other.user == record.user and other.order < record.order for other in visible)
        earlier = [] if one.previous is None else self._logins(one.account, one.previous, one.window.start)
        return b"false" if takes or any(other.user == record.user for other in earlier) else b"true"

    def _logins(self, account: str, seal: Seal, end: datetime) -> list[Seen]:
        """The logins before a moment that a seal shows."""
        place = f"{account} {seal} {end}"
        if place not in self._known:
            (found,) = seen(self.bench.source, [Range(account, Window(ALWAYS.start, end), seal)])
            self._known[place] = [record for record in found if record.is_login]
        return self._known[place]


def test_each_user_has_one_first_login(make: Callable[..., Bench]) -> None:
    """Whatever comes when, the rule holds at every reading and in any parts: each user has one first."""
    bench = make()
    add(bench, "other", 0)  # with bad times alone a source may take its settings for wrong
    numbers = itertools.count()

    @settings(max_examples=bench.histories, deadline=None)
    @given(before=st.lists(_STEPS, max_size=3), history=_HISTORY)
    def check(before: list[Step], history: list[Step | None]) -> None:
        story = Story(bench, next(numbers))
        at_once: list[list[Seen]] = []
        for step in [*before, None, *history, *[None] * 4]:
            if step is not None:
                story.do(step)
                continue
            story.seal()
            newest = [story.live(name)[-1] for name in NAMES if len(story.seals) > 1]
            at_once += seen(bench.source, newest)
        for place, name in enumerate(NAMES):
            live = story.live(name)
            windows = seen(bench.source, live)
            assert windows == at_once[place :: len(NAMES)]
            assert windows == story.expected(live)
            assert joined(bench.source, live, windows) == windows
            assert_one_each(story, name, windows)
            again = [replace(one, previous=None, first=False, seal=story.seals[-1]) for one in live]
            assert seen(bench.source, again) == story.expected(again)

    check()


def joined(source: Source, ranges: Sequence[Range], whole: Sequence[Sequence[Seen]]) -> list[list[Seen]]:
    """The ranges, each read in parts of one record."""
    parts, counts = [], []
    for one, records in zip(ranges, whole, strict=True):
        keys = [record.key for record in records]
        pairs = zip([None, *keys], keys, strict=False)
        parts += [replace(one, after=after, last=last) for after, last in pairs]
        counts.append(len(keys))
    found = iter(seen(source, parts))
    return [[record for _ in range(count) for record in next(found)] for count in counts]


def assert_one_each(story: Story, name: str, windows: Sequence[Sequence[Seen]]) -> None:
    """One first login for each user that has any, and none where one was known before the begin."""
    logins = [
        record for found in windows for record in found if record.is_login and record.key[0] is not None
    ]
    known = {record.user for record in story.before_begin(name)}
    firsts_of = Counter(record.user for record in logins if record.first == b"true")
    assert firsts_of == Counter({record.user for record in logins} - known)


DERIVED_CONTRACT = [value for name, value in list(globals().items()) if name.startswith("test_")]
