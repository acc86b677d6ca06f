"""What every storage of the ledger promises: rows come back as they went in, and transactions are whole."""

from __future__ import annotations

import string
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.ledger.memory import MemoryStorage
from exporter.ledger.requests import restored
from exporter.ledger.storage import RunRecord
from exporter.model import (
    LIVE_LANE,
    QUARANTINE_RECORDS,
    Attempt,
    BadKind,
    BadRecord,
    Content,
    Export,
    Failure,
    Lane,
    LaneKind,
    Outcome,
    Plan,
    PlanState,
    Range,
    Rendering,
    SealedWindow,
    Stamp,
    Window,
    flat_mapping,
)
from tests.contracts.ledger import (
    BAD,
    BEGIN,
    FAR,
    NAME,
    STORE,
    Subject,
    at,
    content,
    everything,
    seal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    from exporter.ledger.storage import ExportRows, Rows, Storage

KEY: Final = ("2026-11-19 01:00:00.000000", 1)
REFUSED: Final = replace(BAD, kind=BadKind.REFUSED)

few = settings(deadline=None, max_examples=40)
"""Each example is a transaction, which a database syncs to disk."""

ODD: Final = 'it\'s "odd" \\ %s ?1 :x ; -- \r\n\u2028 \U0001f600 é' + "".join(map(str, range(3000)))
NO_TEXT: Final = "\x00\x1a0000\ud83d\udc80"
"""What PostgreSQL, or UTF-8, does not count as text, and what stands for it where it is stored."""
texts = st.text(max_size=12) | st.sampled_from([ODD, NO_TEXT])
names = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=50) | st.just('it\'s "odd" \\ %s :x é')
"""Of exports and lanes: printable, and never long."""
json_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from([ODD, "\x00"])
keys_of_rows = st.text(string.hexdigits, min_size=32, max_size=32)
times = st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
numbers = st.integers(0, 2**63 - 1)
scalars = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | json_texts
json_values = st.recursive(
    st.none() | st.booleans() | scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(json_texts, inner, max_size=3),
    max_leaves=5,
)
seals = st.dictionaries(json_texts, json_values, max_size=3)
keys = st.tuples(st.none() | scalars, scalars)
stamps = st.builds(Stamp, times, st.integers(1, 9999))
counts = st.dictionaries(json_texts, numbers, max_size=3)
contents = st.builds(
    Content, numbers, numbers, numbers, numbers, json_texts, numbers, json_texts, numbers, counts
)
renderings = st.builds(
    Rendering,
    format=json_texts,
    mapping=json_values,
    archive=json_texts,
    body=json_texts,
    max_record_bytes=numbers,
    chosen=json_values,
    protected=st.dictionaries(json_texts, json_texts, max_size=3),
    key_id=json_texts,
    mask_secrets=st.booleans(),
    batch_bytes=numbers,
)
ranges = st.builds(
    Range,
    account=texts,
    window=st.builds(Window, times, times),
    seal=seals,
    previous=st.none() | seals,
    first=st.booleans(),
    after=st.none() | keys,
    last=st.none() | keys,
)
exports = st.builds(
    Export,
    name=names,
    account=texts,
    claim=texts,
    begin=times,
    begin_seal=seals,
    version=numbers,
    sequence=numbers,
    stamp=st.none() | stamps,
    names_from=st.none() | times,
    repeats_until=st.none() | times,
    paused=st.booleans(),
    stopped=texts,
    alarm=texts,
    tries=st.integers(0, 2**31 - 1),
    blocked_until=st.none() | times,
    failure=st.none() | st.builds(Failure, texts, texts, times),
    delivered_at=st.none() | times,
    object_name=texts,
    filtered=numbers,
    protected=counts,
)
lanes = st.builds(
    Lane,
    export=names,
    id=names,
    kind=st.sampled_from(LaneKind),
    watermark=times,
    seal=seals,
    open_end=st.none() | times,
    open_seal=st.none() | seals,
    last_key=st.none() | keys,
    until=st.none() | times,
    start=st.none() | times,
    sequences=st.lists(numbers, max_size=3).map(tuple),
    requested=st.lists(numbers, max_size=3).map(tuple),
    redeliver=st.booleans(),
    done=st.booleans(),
)
plans = st.builds(
    Plan,
    id=keys_of_rows,
    export=names,
    lane=names,
    sequence=numbers,
    range=ranges,
    rendering=renderings,
    final=st.booleans(),
    name=texts,
    stamp=stamps,
    content=contents,
    created_at=times,
    bad_not_whole=numbers,
    repeats=st.booleans(),
    state=st.sampled_from(PlanState),
    delivered_at=st.none() | times,
    hashes=st.lists(json_texts, max_size=3).map(tuple),
    reached=st.none() | keys,
    sent=numbers,
    refused=numbers,
)
bad_records = st.builds(
    BadRecord, texts, texts, numbers, st.binary(), st.sampled_from(BadKind), st.none() | times
)
attempts = st.builds(
    Attempt,
    id=keys_of_rows,
    plan=keys_of_rows,
    store=texts,
    started_at=times,
    content=contents,
    outcome=st.sampled_from(Outcome),
    error=texts,
)
runs = st.builds(RunRecord, keys_of_rows, times, st.none() | times, numbers, numbers, error=texts, hint=texts)


class Undo(Exception):
    """Ends a transaction without a trace."""


@contextmanager
def undone(storage: Storage) -> Iterator[Rows]:
    """A transaction that is rolled back, so that examples do not see each other."""
    with suppress(Undo), storage.writing() as rows:
        yield rows
        raise Undo


# --- rows --------------------------------------------------------------------------------------------


def keeps_every_export(subject: Subject) -> None:
    """An export comes back as it was inserted, and as it was updated, also by its claim."""

    @few
    @given(exports, exports)
    def keeps(one: Export, other: Export) -> None:
        with undone(subject.storage) as rows:
            rows.insert_export(one)
            assert rows.export(one.name) == one == rows.export_by_claim(one.claim)
            changed = replace(other, name=one.name)
            rows.update_export(changed)
            assert rows.exports() == [changed]

    keeps()


def keeps_every_lane(subject: Subject) -> None:
    """A lane comes back as it was inserted, and as it was updated, and no other with it."""

    @few
    @given(lanes, lanes)
    def keeps(one: Lane, other: Lane) -> None:
        with undone(subject.storage) as rows:
            rows.insert_lane(one)
            rows.insert_lane(replace(one, id=one.id + "2"))
            changed = replace(other, export=one.export, id=one.id)
            assert rows.lane(one.export, one.id) == one
            rows.update_lane(changed)
            assert rows.lane(one.export, one.id) == changed
            assert rows.lane(one.export, one.id + "2") == replace(one, id=one.id + "2")

    keeps()


def keeps_every_plan(subject: Subject) -> None:
    """A plan comes back as it was inserted, and as it was updated, with range, rendering and content."""

    @few
    @given(plans, plans)
    def keeps(one: Plan, other: Plan) -> None:
        with undone(subject.storage) as rows:
            rows.insert_plan(one)
            assert rows.plan(one.id) == one
            changed = replace(other, id=one.id, export=one.export)
            rows.update_plan(changed)
            assert rows.plan(one.id) == changed
            assert rows.open_plans() == ([changed] if changed.state is PlanState.OPEN else [])

    keeps()


def keeps_every_attempt(subject: Subject) -> None:
    """An attempt comes back as it was inserted, and as it was updated, in its place."""

    @few
    @given(attempts, attempts)
    def keeps(one: Attempt, other: Attempt) -> None:
        with undone(subject.storage) as rows:
            second = replace(one, id=one.id[:31] + "x")
            rows.insert_attempt(one)
            rows.insert_attempt(second)
            assert rows.attempts(one.plan) == [one, second]
            changed = replace(other, id=one.id, plan=one.plan)
            rows.update_attempt(changed)
            assert rows.attempts(one.plan) == [changed, second]

    keeps()


def keeps_every_window_run_and_bad_record(subject: Subject) -> None:
    """History, runs and bad records come back as they were inserted."""

    @few
    @given(
        st.builds(SealedWindow, names, times, seals, times.filter(lambda time: time < FAR), numbers),
        runs,
        bad_records,
    )
    @example(SealedWindow("", BEGIN, {}, BEGIN), RunRecord("0", BEGIN), replace(BAD, body=bytes(1_000_000)))
    def keeps(window: SealedWindow, run: RunRecord, bad: BadRecord) -> None:
        with undone(subject.storage) as rows:
            rows.insert_window(window)
            assert rows.last_window_before(window.export, FAR) == window
            rows.insert_run(run)
            assert rows.last_run() == run
            rows.insert_bad_records("plan", [bad])
            assert rows.bad_records("plan") == [bad]

    keeps()


def keeps_every_bad_record_of_many(subject: Subject) -> None:
    """As many as a plan may have are kept, in order; and none is as well."""
    many = [replace(BAD, id=str(number)) for number in range(QUARANTINE_RECORDS)]
    with undone(subject.storage) as rows:
        rows.insert_bad_records("none", [])
        rows.insert_bad_records("many", many)
        assert (rows.bad_records("none"), rows.bad_records("many")) == ([], many)


def forgets_what_is_older_than_a_moment(subject: Subject) -> None:
    """Runs started, and one export's windows committed, strictly before a moment are forgotten."""
    with undone(subject.storage) as rows:
        for hour in (1, 2):
            rows.insert_run(RunRecord(str(hour), at(hour)))
            rows.insert_window(SealedWindow(NAME, at(hour), {}, at(hour)))
        rows.insert_window(SealedWindow("other", at(1), {}, at(1)))
        rows.delete_runs(before=at(2))
        rows.delete_windows(NAME, before=at(2))
        assert rows.last_run() == RunRecord("2", at(2))
        assert rows.last_window_before(NAME, at(2)) is None
        assert rows.last_window_before(NAME, FAR) == SealedWindow(NAME, at(2), {}, at(2))
        assert rows.last_window_before("other", FAR) is not None
        rows.delete_runs(before=FAR)
        assert rows.last_run() is None


def keeps_times_of_every_year(subject: Subject) -> None:
    """A time of any year comes back as it was: a backfill may ask for everything since year 1."""
    with undone(subject.storage) as rows:
        for year in (1, 999, 1000, 9999):
            time = datetime(year, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
            rows.insert_window(SealedWindow(str(year), time, {}, BEGIN))
            window = rows.last_window_before(str(year), FAR)
            assert window is not None
            assert window.end == time


def keeps_the_order_of_fields(subject: Subject) -> None:
    """The order of a rendering's fields is part of the format, and stays."""
    subject.begin()
    fields: dict[str, tuple[str, str | None]] = dict.fromkeys("zebra", ("value", None))
    draft = replace(subject.draft(), rendering=Rendering("custom", flat_mapping(fields)))
    plan = subject.ledger.plan(subject.export(), draft)
    with subject.storage.reading() as rows:
        stored = rows.plan(plan.id)
    assert stored is not None
    assert stored.rendering == draft.rendering


def finds_open_plans_of_one_export_or_all(subject: Subject) -> None:
    """Open plans are found by export or all together; closed ones are not among them."""
    for name in ("one", "two", "three"):
        subject.begin(name, name)
    subject.begin()
    plan = subject.plan()
    with undone(subject.storage) as rows:
        two = replace(plan, id="2" * 32, export="two")
        rows.insert_plan(two)
        rows.insert_plan(replace(plan, id="3" * 32, export="three", state=PlanState.ABANDONED))
        assert sorted(one.id for one in rows.open_plans()) == sorted((plan.id, two.id))
        assert (rows.open_plans("two"), rows.open_plans("three"), rows.open_plans("one")) == ([two], [], [])


def finds_the_plan_that_counts_under_a_number(subject: Subject) -> None:
    """A sequence number finds the plan that was not given up, of its own export."""
    subject.begin()
    subject.plan()
    subject.requests.resume(NAME)
    plan = subject.plan()
    with subject.storage.reading() as rows:
        assert rows.plan_by_sequence(NAME, 1) == plan
        assert rows.plan_by_sequence("other", 1) is None


def finds_the_last_window_committed_before_a_moment(subject: Subject) -> None:
    """Of the windows committed strictly before a moment it is the one recorded last, of that export."""
    with undone(subject.storage) as rows:
        for end, committed in ((4, 5), (8, 9), (2, 10), (6, 10)):
            rows.insert_window(SealedWindow(NAME, at(end), seal(end), at(committed)))
        rows.insert_window(SealedWindow("other", at(12), seal(12), at(6)))
        found = {
            moment: rows.last_window_before(NAME, at(moment)) for moment in (5, 5.000001, 9.5, 10, 10.5, 99)
        }
        assert {moment: window and window.end for moment, window in found.items()} == {
            5: None,
            5.000001: at(4),
            9.5: at(8),
            10: at(8),
            10.5: at(6),
            99: at(6),
        }


# --- transactions ------------------------------------------------------------------------------------


def takes_back_a_transaction_that_fails(subject: Subject) -> None:
    """An error inside a transaction undoes every kind of change made in it, and comes through."""
    subject.begin()
    plan = subject.plan()
    attempt = subject.answered(plan, Outcome.UNKNOWN)
    before = everything(subject.storage)
    with undone(subject.storage) as rows:
        rows.set_ledger_id("another")
        rows.insert_export(Export("b", "b", "b", BEGIN, {}))
        rows.update_export(replace(subject_export(rows), paused=True))
        rows.insert_lane(Lane(NAME, "backfill-1", LaneKind.BACKFILL, BEGIN, {}))
        rows.update_lane(Lane(NAME, LIVE_LANE, LaneKind.LIVE, FAR, {}))
        rows.update_plan(replace(plan, state=PlanState.ABANDONED))
        rows.insert_plan(replace(plan, id="2" * 32, sequence=2))
        rows.update_attempt(replace(attempt, outcome=Outcome.REFUSED))
        rows.insert_attempt(replace(attempt, id="3" * 32))
        rows.insert_window(SealedWindow(NAME, BEGIN, {}, BEGIN))
        rows.insert_bad_records(plan.id, [BAD])
        rows.insert_run(RunRecord("1", BEGIN))
        rows.delete_runs(before=FAR)
        rows.delete_windows(NAME, before=FAR)
        rows.rename_export(NAME, "renamed")
    assert everything(subject.storage) == before
    assert everything(subject.storage, ["renamed", "b"])["open"] == before["open"]


def subject_export(rows: Rows) -> Export:
    """The export under test, as this transaction sees it."""
    export = rows.export(NAME)
    assert export is not None
    return export


class Killed(BaseException):
    """The process dies here."""


class MortalRows:
    """Rows on which the process dies before the n-th change."""

    def __init__(self, rows: ExportRows, count_change: Callable[[], None]) -> None:
        self._rows = rows
        self._count_change = count_change

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever Rows has
        if name.startswith(("insert_", "update_", "rename_", "set_", "delete_")):
            self._count_change()
        return getattr(self._rows, name)


class MortalStorage:
    """A storage under which the process dies before the n-th change; None: it lives and counts."""

    def __init__(self, storage: Storage, dies_at: int | None) -> None:
        self._storage = storage
        self._dies_at = dies_at
        self.changes = 0
        self.transactions = 0

    def _count_change(self) -> None:
        if self.changes == self._dies_at:
            raise Killed
        self.changes += 1

    @contextmanager
    def writing(self, export: str | None = None) -> Iterator[Any]:
        """A transaction."""
        with self._storage.writing(export) as rows:
            yield MortalRows(rows, self._count_change)
        self.transactions += 1

    @contextmanager
    def together(self, exports: Collection[str]) -> Iterator[Any]:
        """A transaction of several exports."""
        with self._storage.together(exports) as rows:
            yield MortalRows(rows, self._count_change)
        self.transactions += 1

    def reading(self) -> AbstractContextManager[Rows]:
        """One consistent view."""
        return self._storage.reading()

    def close(self) -> None:
        """The storage below belongs to somebody else."""


def _open(subject: Subject) -> Plan:
    plan = subject.standing().open_plan
    assert plan is not None
    return plan


def _tried(subject: Subject) -> tuple[Plan, Attempt]:
    """The open plan and its one attempt."""
    plan = _open(subject)
    (attempt,) = subject.ledger.attempts(plan.id)
    return plan, attempt


def _delivered(subject: Subject) -> None:
    subject.begin()
    subject.deliver(subject.plan())


def _planned(subject: Subject) -> None:
    _delivered(subject)
    subject.plan()


def _refused(subject: Subject) -> None:
    _planned(subject)
    subject.ledger.reach(_open(subject), None, KEY, 1, [REFUSED, REFUSED])


def _attempted(subject: Subject) -> None:
    _planned(subject)
    subject.ledger.attempt(_open(subject), content(), STORE)


WHOLE: Final[Mapping[str, tuple[Callable[[Subject], None], Callable[[Subject], object], int]]] = {
    "begin": (_delivered, lambda it: it.begin("other", "elsewhere"), 2),
    "relocate": (_delivered, lambda it: it.ledger.relocate(NAME, "acme", "elsewhere"), 1),
    "plan": (_delivered, lambda it: it.ledger.plan(it.export(), it.draft(bad=1), [BAD]), 4),
    "attempt": (_planned, lambda it: it.ledger.attempt(_open(it), content(), STORE), 1),
    "reach": (_planned, lambda it: it.ledger.reach(_open(it), None, KEY, 1, [REFUSED]), 2),
    "interrupted": (_attempted, lambda it: it.ledger.interrupted(*_tried(it)), 1),
    "resent": (_refused, lambda it: it.requests.resent(NAME, next(it.requests.waiting(NAME)), {}), 2),
    "answer": (
        _attempted,
        lambda it: it.ledger.answer(*_tried(it), Outcome.REFUSED, Failure("no", "", BEGIN), at(1)),
        2,
    ),
    "judge": (_attempted, lambda it: it.ledger.judge(*_tried(it)), 2),
    "commit": (_attempted, lambda it: it.ledger.commit(*_tried(it), Outcome.SUCCEEDED), 5),
    "advance": (_delivered, lambda it: it.ledger.advance(it.export(), LIVE_LANE, at(8), seal(8)), 3),
    "fail": (_delivered, lambda it: it.ledger.fail(NAME, "no", ""), 1),
    "pause": (_delivered, lambda it: it.requests.pause(NAME), 1),
    "resume": (_planned, lambda it: it.requests.resume(NAME), 2),
    "rename": (_planned, lambda it: it.requests.rename(NAME, "other"), 2),
    "backfill": (
        _planned,
        lambda it: it.requests.backfill(NAME, Window(at(-8), at(-4)), seal(0), redeliver=False),
        2,
    ),
    "replay": (_planned, lambda it: it.requests.replay(NAME, (1,)), 2),
    "accept_source": (_planned, lambda it: it.requests.accept_source(NAME, FAR, seal(9), lambda _: None), 3),
    "restored": (_planned, lambda it: restored(it.storage, it.clock), 4),
}
"""Of each rule: what comes before it, the rule, and how many changes it makes."""


def changes_all_or_nothing(subject: Subject, rule: str) -> None:
    """A rule is one transaction: a process that dies before any of its changes has changed nothing."""
    prepare, call, changes = WHOLE[rule]
    prepare(subject)
    names = (NAME, "other")
    before = everything(subject.storage, names)
    for dies_at in range(changes):
        with pytest.raises(Killed):
            call(Subject(MortalStorage(subject.storage, dies_at), subject.clock))
        assert everything(subject.storage, names) == before, dies_at
    immortal = MortalStorage(subject.storage, None)
    call(Subject(immortal, subject.clock))
    assert (immortal.changes, immortal.transactions) == (changes, 1)
    assert everything(subject.storage, names) != before


# --- a copy ------------------------------------------------------------------------------------------


def copies_what_is_known(subject: Subject) -> None:
    """A copy knows what the ledger does, and goes on from there without a trace in it."""
    _attempted(subject)
    subject.begin("other", "elsewhere")
    before = everything(subject.storage, [NAME, "other"])
    copy = Subject(MemoryStorage.copy_of(subject.storage), subject.clock)
    assert copy.ledger.standings() == subject.ledger.standings()
    assert copy.ledger.delivered(NAME, 1) == subject.ledger.delivered(NAME, 1)
    plan, attempt = _tried(copy)
    assert [attempt] == subject.ledger.attempts(plan.id)
    copy.ledger.commit(plan, attempt, Outcome.SUCCEEDED)
    copy.deliver(copy.plan())
    assert copy.export().sequence == 3
    assert everything(subject.storage, [NAME, "other"]) == before


STORAGE: Final[tuple[Callable[[Subject], None], ...]] = (
    keeps_every_export,
    keeps_every_lane,
    keeps_every_plan,
    keeps_every_attempt,
    keeps_every_window_run_and_bad_record,
    keeps_every_bad_record_of_many,
    forgets_what_is_older_than_a_moment,
    keeps_times_of_every_year,
    keeps_the_order_of_fields,
    finds_open_plans_of_one_export_or_all,
    finds_the_plan_that_counts_under_a_number,
    finds_the_last_window_committed_before_a_moment,
    takes_back_a_transaction_that_fails,
    copies_what_is_known,
)
