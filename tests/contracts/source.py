"""What every source promises, as functions that take a maker of fresh, empty sources.

A bench is a source together with the hand that inserts records into it, as the vendor's application would.
"""

from __future__ import annotations

import json
import pickle
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import MissingColumn, SourceChanged
from exporter.model import Branch, Key, Range, Seal, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.interfaces import Block, Source

BEGIN = datetime(2026, 11, 19, 23, 59, 50, tzinfo=UTC)  # a window soon crosses midnight
WINDOW_S = 10
LOOK_ALIKES = ("acme", "ACME", "acme ", "acmé", "acme\u0301", "42", "042", "42.0", "a%", "")


class Bench(Protocol):
    """A source and a way to fill it."""

    @property
    def source(self) -> Source: ...

    def insert(self, account: str, time: datetime | None, note: str = "") -> str:
        """Commit one record, with an unreadable time for None, and give its id."""
        ...


Read = tuple[Branch, Key, str, bytes]
_Record = tuple[str, "float | None"]


def at(seconds: float) -> datetime:
    """A moment so many seconds after the begin."""
    return BEGIN + timedelta(seconds=seconds)


def window(number: int) -> Window:
    """The windows of this suite, from 0 on."""
    return Window(at(number * WINDOW_S), at((number + 1) * WINDOW_S))


def read(source: Source, one: Range) -> list[Read]:
    """All records of a range."""
    return read_all(source, [one])[0]


def read_all(source: Source, ranges: Sequence[Range]) -> list[list[Read]]:
    """The records of each of several ranges, read in one go; they come one range after the other."""
    found: list[list[Read]] = [[] for _ in ranges]
    latest = 0
    for index, block in source.read(ranges, None):
        assert len(block)
        assert index >= latest
        latest = index
        assert block.belongs_to(ranges[index].account)
        notes = block.columns["note"].json()
        for row in range(len(block)):
            found[index].append((block.branch, as_stored(block.key(row)), block.id(row), notes[row]))
    return found


def as_stored(key: Key) -> Key:
    """A key after its way through the ledger."""
    time, identifier = json.loads(json.dumps(key))
    return (time, identifier)


def ids(records: Sequence[Read]) -> list[str]:
    return [identifier for _, _, identifier, _ in records]


def all_branches(bench: Bench) -> Range:
    """Fill the bench with a range that has several records in every branch, some times being equal."""
    previous = bench.source.seal()
    for seconds in (12, 3, None, -40, 0, 3, 9.999999, -0.5, None, 3.5, -40, 10, -0.000001):
        bench.insert("acme", None if seconds is None else at(seconds))
    return Range("acme", window(0), bench.source.seal(), previous)


def test_a_range_never_changes(make: Callable[[], Bench]) -> None:
    """A range reads the same after any number of later inserts, in and around its window."""
    bench = make()
    one = all_branches(bench)
    before = read(bench.source, one)
    for seconds in (0, 3, None, -40, 5):
        bench.insert("acme", None if seconds is None else at(seconds))
    assert read(bench.source, one) == before
    assert len(before) == 11


def test_branches_come_in_order(make: Callable[[], Bench]) -> None:
    """Unreadable times first, by id; then late records, then those on time, both by time and id."""
    bench = make()
    records = read(bench.source, all_branches(bench))
    branches = [branch for branch, _, _, _ in records]
    assert Counter(branches) == {Branch.UNREADABLE: 2, Branch.LATE: 4, Branch.ON_TIME: 5}
    assert branches == sorted(branches, key=list(Branch).index)
    keys = [key for _, key, _, _ in records]
    assert keys == sorted(keys, key=lambda key: (key[0] is not None, key[0] or 0, key[1]))
    assert len(set(keys)) == len(keys)


def test_parts_join(make: Callable[[], Bench]) -> None:
    """Cut at any key, or at all of them, the parts of a range join to exactly the range."""
    bench = make()
    one = all_branches(bench)
    whole = read(bench.source, one)
    keys = [key for _, key, _, _ in whole]
    for key in keys:
        parts = [replace(one, last=key), replace(one, after=key)]
        first, second = read_all(bench.source, parts)
        assert first + second == whole
        assert first[-1][1] == key
    singles = [replace(one, after=after, last=last) for after, last in zip([None, *keys], keys, strict=False)]
    assert read_all(bench.source, singles) == [[record] for record in whole]


def test_a_backfill_reads_times_alone(make: Callable[[], Bench]) -> None:
    """A range without a previous seal holds the window's records and no others."""
    bench = make()
    one = replace(all_branches(bench), previous=None)
    assert {branch for branch, _, _, _ in read(bench.source, one)} == {Branch.ON_TIME}
    assert len(read(bench.source, one)) == 5


def test_the_first_window_takes_older_unreadable_records(make: Callable[[], Bench]) -> None:
    """Window 1 takes the unreadable records from before the begin, and nothing else from there."""
    bench = make()
    old = bench.insert("acme", None)
    bench.insert("acme", at(-5))
    previous = bench.source.seal()
    new = bench.insert("acme", None)
    one = Range("acme", window(0), bench.source.seal(), previous)
    assert ids(read(bench.source, one)) == [new]
    assert ids(read(bench.source, replace(one, first=True))) == [old, new]


def test_seals_only_grow(make: Callable[[], Bench]) -> None:
    """A seal holds from then on, and sealing after it is allowed, with or without new records."""
    bench = make()
    seals: list[Seal] = [bench.source.seal()]
    for _ in range(3):
        bench.insert("acme", at(1))
        seals += [bench.source.seal(seals[-1]), bench.source.seal(seals[-1])]
    assert all(bench.source.holds(json.loads(json.dumps(seal))) for seal in seals)
    sizes = [len(read(bench.source, Range("acme", window(0), seal))) for seal in seals]
    assert sizes == [0, 1, 1, 2, 2, 3, 3]


def test_a_source_behind_the_seal_is_refused(make: Callable[[], Bench]) -> None:
    """A copy that has not reached a range's seal, or its previous one, is not read and not sealed."""
    ahead, behind = make(), make()
    for bench in (ahead, ahead, behind):
        bench.insert("acme", at(1))
    seal, reached = ahead.source.seal(), behind.source.seal()
    assert not behind.source.holds(seal)
    for one in (Range("acme", window(0), seal), Range("acme", window(0), reached, seal)):
        with pytest.raises(SourceChanged) as raised:
            read(behind.source, one)
        assert "accept-source --from TIME" in raised.value.hint
    with pytest.raises(SourceChanged):
        behind.source.seal(seal)
    with pytest.raises(SourceChanged):
        behind.source.quiet_until("acme", at(0), at(1), seal)


def test_another_kind_of_seal_is_refused(make: Callable[[], Bench]) -> None:
    """A seal that some other source took is no seal of this one."""
    source = make().source
    assert not source.holds({"kind": "another", "id": 0})


def test_a_seal_that_still_means_something_is_adopted(make: Callable[[], Bench]) -> None:
    """A source adopts its own seals as they are, and none of another kind or that it has not reached."""
    ahead, behind = make(), make()
    for bench in (ahead, ahead, behind):
        bench.insert("acme", at(1))
    seal = json.loads(json.dumps(ahead.source.seal()))
    assert ahead.source.adopt(seal) == seal
    assert behind.source.adopt(seal) is None
    assert ahead.source.adopt({"kind": "another", "id": 0}) is None


def test_a_seal_that_was_due_may_serve_again(make: Callable[[], Bench]) -> None:
    """A seal for a window that was due before another seal may be that one, but never an older one."""
    source = make().source
    due = source.now() - timedelta(seconds=1)
    first = source.seal(due=due)
    second = source.seal(first, due=due)
    assert source.holds(first)
    assert source.holds(second)
    source.seal(second, due=source.now() + timedelta(seconds=1))


def test_accounts_are_told_apart_by_bytes(make: Callable[[], Bench]) -> None:
    """Accounts that look alike to a collation or as numbers get only their own records."""
    bench = make()
    previous = bench.source.seal()
    own = {
        account: [bench.insert(account, at(seconds) if seconds else None) for seconds in (None, -1, 1)]
        for account in LOOK_ALIKES
    }
    ranges = [Range(account, window(0), bench.source.seal(), previous) for account in LOOK_ALIKES]
    assert [ids(found) for found in read_all(bench.source, ranges)] == list(own.values())


def test_several_ranges_in_one_reading(make: Callable[[], Bench]) -> None:
    """Ranges of different accounts, windows and parts read together as they read alone."""
    bench = make()
    one = all_branches(bench)
    bench.insert("other", at(4))
    ranges = [
        one,
        replace(one, account="other", seal=bench.source.seal()),
        replace(one, window=window(1)),
        one,
    ]
    assert read_all(bench.source, ranges) == [read(bench.source, each) for each in ranges]


def test_only_the_columns_asked_for(make: Callable[[], Bench]) -> None:
    """Blocks carry the columns that were asked for, in the source's order."""
    bench = make()
    bench.insert("acme", at(1), "hello")
    one = Range("acme", window(0), bench.source.seal())
    names = list(bench.source.columns())
    ((_, everything),) = bench.source.read([one], None)
    assert list(everything.columns) == names
    ((_, block),) = bench.source.read([one], ["note", names[0]])
    assert list(block.columns) == [names[0], "note"]
    assert list(block.columns["note"].json()) == [b'"hello"']


def test_a_missing_column_is_one_exports_trouble(make: Callable[[], Bench]) -> None:
    """A column that only a format asks for is named, in an error that stops nobody else."""
    source = make().source
    with pytest.raises(MissingColumn, match="no column 'notes'") as raised:
        list(source.read([Range("acme", window(0), source.seal())], ["notes"]))
    assert "note" in raised.value.hint


def test_another_source_is_noticed_before_its_columns(make: Callable[[], Bench]) -> None:
    """A source that is not the one of the seal says so, whatever columns it has."""
    source = make().source
    with pytest.raises(SourceChanged):
        list(source.read([Range("acme", window(0), {"kind": "another", "id": 0})], ["notes"]))


def test_instants_are_rfc_3339(make: Callable[[], Bench]) -> None:
    """The time column gives UTC times with at least six digits of a second."""
    bench = make()
    bench.insert("acme", at(1.5))
    bench.insert("acme", at(2))
    one = Range("acme", window(0), bench.source.seal())
    name = bench.source.columns()[1]
    found = [text for _, block in bench.source.read([one], None) for text in block.columns[name].instants()]
    assert found == [b'"2026-11-19T23:59:51.500000Z"', b'"2026-11-19T23:59:52.000000Z"']


def test_raw_never_fails(make: Callable[[], Bench]) -> None:
    """Every record has a raw form, also one whose time is unreadable."""
    bench = make()
    previous = bench.source.seal()
    bench.insert("acme", None, "needle")
    one = Range("acme", window(0), bench.source.seal(), previous)
    ((_, block),) = bench.source.read([one], None)
    assert b"needle" in block.raw(0)
    with pytest.raises(ValueError, match="unreadable"):
        block.columns[bench.source.columns()[1]].instants()


def test_a_portable_block_is_the_same_in_another_process(make: Callable[[], Bench]) -> None:
    """Pickled and read again it has the same columns, keys and raw forms; so have its parts."""
    bench = make()
    one = all_branches(bench)
    bench.insert("acme", at(4), '\t\\N\n"ä\u2028\r\x01')
    wide = replace(one, seal=bench.source.seal())
    time = bench.source.columns()[1]
    found = list(bench.source.read([wide], None))
    assert sum(len(block) for _, block in found) == 12
    assert any(block.is_portable for _, block in found)
    for _, block in found:
        if block.is_portable:
            for part in (block, block.slice(1, 3), block.slice(0, 0), block.pick(range(0, len(block), 2))):
                again = pickle.loads(pickle.dumps(part, pickle.HIGHEST_PROTOCOL))
                assert _shown(again, time) == _shown(part, time)
            _shown(block, time)  # so that it has made what it can
            again = pickle.loads(pickle.dumps(block, pickle.HIGHEST_PROTOCOL))
            assert _shown(again.slice(1, 3), time) == _shown(block.slice(1, 3), time)
            assert _shown(again.pick([0]), time) == _shown(block.pick([0]), time)


def _shown(block: Block, time: str) -> list[object]:
    """All that can be seen of a block."""
    is_readable = len(block) and block.branch is not Branch.UNREADABLE
    return [
        (block.branch, len(block), block.is_portable, list(zip(*block.keys(), strict=True))),
        [(block.key(row), block.id(row), block.raw(row)) for row in range(len(block))],
        [(name, list(column.json()), list(column.strings())) for name, column in block.columns.items()],
        [block.belongs_to(account) for account in LOOK_ALIKES],
        list(block.columns[time].instants()) if is_readable else None,
    ]


def test_quiet_until_passes_over_no_record(make: Callable[[], Bench]) -> None:
    """What lies before the answer holds no record on time; without any, all of it may be skipped."""
    bench = make()
    for account, seconds in (("acme", -3), ("acme", 21.25), ("acme", 40), ("other", 2), ("acme", None)):
        bench.insert(account, None if seconds is None else at(seconds))
    seal = bench.source.seal()
    bench.insert("acme", at(1))
    assert bench.source.quiet_until("acme", at(0), at(86_400 * 30), seal) == at(21)
    assert bench.source.quiet_until("acme", at(22), at(40), seal) == at(40)
    assert bench.source.quiet_until("acme", at(22), at(41), seal) == at(40)
    assert bench.source.quiet_until("nobody", at(0), at(50), seal) == at(50)
    assert bench.source.quiet_until("acme", at(0), at(50), bench.source.seal()) == at(1)


class _Asked(NamedTuple):
    """A range that is asked for: of whom, whether as window 1, and whether since an older seal."""

    account: str
    is_first: bool = False
    is_older: bool = False


_SOME = st.sampled_from(("acme", "ACME", "acme ", "acmé", "a%", "", "a\\t\t\nb"))
_SOMETIME = st.none() | st.sampled_from([-40.0, -0.000001, 0.0, 3.0, 3.0, 9.999999, 10.0])
_SOME_RECORDS = st.lists(st.tuples(_SOME, _SOMETIME), max_size=25)
_MOSTLY_ALIKE = st.builds(_Asked, _SOME) | st.builds(_Asked, _SOME, st.booleans(), st.booleans())


def test_many_ranges_at_once_are_what_each_is_alone(make: Callable[[], Bench]) -> None:
    """Windows of many accounts read together give each record, in its order, that each gives alone."""

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        known=_SOME_RECORDS,
        new=_SOME_RECORDS,
        asked=st.lists(_MOSTLY_ALIKE, min_size=2, max_size=9),
        cut=st.integers(0, 100),
    )
    def check(known: list[_Record], new: list[_Record], asked: list[_Asked], cut: int) -> None:
        bench = make()
        bench.insert("other", at(0))  # with bad times alone a source may take its settings for wrong
        begin, previous, seal = (_sealed(bench, records) for records in ([], known, new))
        live = [
            Range(account, window(0), seal, begin if is_older else previous, first=is_first)
            for account, is_first, is_older in asked
        ]
        alone = [read(bench.source, one) for one in live]
        assert read_all(bench.source, live) == alone
        mixed = [replace(one, previous=None, first=False) for one in live] + _parts(live, alone, cut)
        expected = [read(bench.source, one) for one in mixed]
        assert read_all(bench.source, [*mixed, *live]) == [*expected, *alone]

    check()


def _sealed(bench: Bench, records: Sequence[_Record]) -> Seal:
    """A seal behind some more records."""
    for account, seconds in records:
        bench.insert(account, None if seconds is None else at(seconds))
    return bench.source.seal()


def _parts(ranges: Sequence[Range], whole: Sequence[list[Read]], cut: int) -> list[Range]:
    """Some of the ranges whole, and one of them in two parts, wherever there is one that can be cut."""
    parts = list(ranges)
    at_all = [(index, key) for index, records in enumerate(whole) for _, key, _, _ in records]
    if at_all:
        index, key = at_all[cut % len(at_all)]
        parts[index : index + 1] = [replace(ranges[index], last=key), replace(ranges[index], after=key)]
    return parts


_SECONDS = (
    st.none() | st.sampled_from([-25.0, -0.000001, 0.0, 9.5, 10.0, 55.5]) | st.integers(-30, 60).map(float)
)
_HISTORY = st.lists(st.just("seal") | st.tuples(st.sampled_from(["acme", "ACME"]), _SECONDS), max_size=25)


def test_consecutive_windows_hold_every_record_once(make: Callable[[], Bench]) -> None:
    """Whatever is inserted when, the windows from the begin on hold each record exactly once, for good."""

    @settings(max_examples=40, deadline=None)
    @given(before=_HISTORY, history=_HISTORY)
    def check(
        before: list[str | tuple[str, float | None]], history: list[str | tuple[str, float | None]]
    ) -> None:
        bench = make()
        bench.insert("other", at(0))  # with bad times alone a source may take its settings for wrong
        expected: dict[str, set[str]] = {"acme": set(), "ACME": set()}
        for account, seconds in (event for event in before if not isinstance(event, str)):
            identifier = bench.insert(account, None if seconds is None else at(seconds))
            if seconds is None or seconds >= 0:
                expected[account].add(identifier)
        seals = [bench.source.seal()]
        for event in [*history, *["seal"] * 7]:  # the last windows reach beyond all times
            if isinstance(event, str):
                seals.append(bench.source.seal(seals[-1]))
            else:
                account, seconds = event
                expected[account].add(bench.insert(account, None if seconds is None else at(seconds)))
        for account, identifiers in expected.items():
            ranges = [
                Range(account, window(number), seals[number + 1], seals[number], first=number == 0)
                for number in range(len(seals) - 1)
            ]
            delivered = Counter(one for found in read_all(bench.source, ranges) for one in ids(found))
            assert delivered == Counter(identifiers)

    check()


CONTRACT = [value for name, value in list(globals().items()) if name.startswith("test_")]
