"""What the ledger's rules promise, whatever keeps the rows: begin, plan, attempt, judge, commit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING, Final, NoReturn

import pytest

from exporter.errors import ConfigError, Conflict, ExportError, LedgerError, NameTaken, Stopped
from exporter.ledger.history import WINDOWS_KEPT
from exporter.ledger.lanes import ALARMS, MORE_ALARMS
from exporter.ledger.requests import Requests, restored
from exporter.ledger.rules import Draft, Ledger, foreign_alarm
from exporter.ledger.storage import RunRecord
from exporter.model import (
    LIVE_LANE,
    Attempt,
    Failure,
    LaneKind,
    Outcome,
    PlanState,
    SealedWindow,
    Window,
)
from tests.contracts.ledger import (
    BAD,
    BEGIN,
    CLAIM,
    FAR,
    MAY_HAVE_LANDED,
    NAME,
    STORE,
    WatchedStorage,
    at,
    changes_nothing,
    content,
    seal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.model import Export, Plan
    from tests.contracts.ledger import Subject


# --- begin and relocate ------------------------------------------------------------------------------


def begins_with_a_live_lane(subject: Subject) -> None:
    """A begun export has one lane, the live one, from its begin and with the seal of that moment."""
    standing = subject.begin()
    assert (standing.export.begin, standing.export.begin_seal) == (BEGIN, seal(0))
    assert standing.lanes == (standing.live,)
    assert (standing.live.kind, standing.live.watermark, standing.live.seal) == (
        LaneKind.LIVE,
        BEGIN,
        seal(0),
    )
    assert standing.open_plan is None


def begins_for_good(subject: Subject) -> None:
    """A second begin, whatever it says, changes nothing and answers what the first one stored."""
    first = subject.begin()
    assert subject.ledger.begin(NAME, "acme", "elsewhere", at(9), seal(9)) == first
    assert subject.standing() == first


def refuses_the_newer_of_two_exports_with_the_same_names(subject: Subject) -> None:
    """An export whose names another one has is refused with that one's name, and leaves no trace."""
    subject.begin("older")
    refused = changes_nothing(subject, NameTaken, lambda: subject.begin("newer"))
    assert "'older'" in str(refused)
    assert isinstance(refused, NameTaken)
    assert "audit-exporter rename older newer" in refused.hint
    assert subject.ledger.standing("newer") is None


def moves_an_exports_names_to_a_free_place(subject: Subject) -> None:
    """Relocating changes where the names live, is a change like any other, and frees the old place."""
    before = subject.begin().export
    assert subject.ledger.relocate(NAME, "acme", "elsewhere") == subject.standing()
    assert subject.export() == replace(before, claim="elsewhere", version=before.version + 1)
    assert subject.begin("newer").export.claim == CLAIM


def relocates_to_the_same_place_without_a_change(subject: Subject) -> None:
    """Relocating to where the names live already does not even count as a change."""
    before = subject.begin()
    subject.ledger.relocate(NAME, "acme", CLAIM)
    assert subject.standing() == before


def refuses_to_relocate_onto_anothers_names(subject: Subject) -> None:
    """An export cannot move to where another one's names live."""
    subject.begin()
    subject.begin("other", "elsewhere")
    changes_nothing(subject, NameTaken, lambda: subject.ledger.relocate(NAME, "acme", "elsewhere"))


def refuses_another_account_for_an_export(subject: Subject) -> None:
    """An export never changes its account."""
    subject.begin()
    refused = changes_nothing(subject, ExportError, lambda: subject.ledger.relocate(NAME, "globex", CLAIM))
    assert "'globex'" in str(refused)


# --- plan --------------------------------------------------------------------------------------------


def plans_what_the_draft_says(subject: Subject) -> None:
    """A plan is the draft with an id, the next sequence number and the time, and it is open."""
    subject.begin()
    subject.clock.now = at(5)
    draft = subject.draft()
    plan = subject.plan()
    assert Draft(*(getattr(plan, name) for name in Draft.__slots__)) == draft
    assert (plan.export, plan.sequence, plan.created_at, plan.state) == (NAME, 1, at(5), PlanState.OPEN)
    assert subject.standing().open_plan == plan


def fixes_the_window_with_its_first_plan(subject: Subject) -> None:
    """A plan notes its window's end and seal in the lane, for the parts that follow, and its stamp."""
    before = subject.begin()
    plan = subject.plan(final=False)
    after = subject.standing()
    assert after.live == replace(before.live, open_end=plan.range.window.end, open_seal=plan.range.seal)
    assert after.export == replace(
        before.export, version=before.export.version + 1, sequence=1, stamp=plan.stamp
    )


def refuses_a_plan_from_an_old_standing(subject: Subject) -> None:
    """A plan made from what is no longer so is a Conflict, and nothing of it is written."""
    old = subject.begin().export
    draft = subject.draft()
    subject.ledger.relocate(NAME, "acme", "elsewhere")
    changes_nothing(subject, Conflict, lambda: subject.ledger.plan(old, draft))


def lets_one_of_two_planners_win(subject: Subject) -> None:
    """Of two processes that plan from the same standing, the second is told that it lost."""
    export, draft = subject.begin().export, subject.draft()
    won = subject.ledger.plan(export, draft)
    other = Ledger(subject.storage, subject.clock)
    changes_nothing(subject, Conflict, lambda: other.plan(export, draft))
    assert subject.standing().open_plan == won


def refuses_a_second_open_plan(subject: Subject) -> None:
    """While a plan of any lane is open, no lane gets another."""
    subject.begin()
    subject.requests.backfill(NAME, Window(at(-8), at(-4)), seal(0), redeliver=False)
    subject.plan("backfill-1")
    changes_nothing(subject, Conflict, subject.plan)
    changes_nothing(subject, Conflict, lambda: subject.plan("backfill-1"))


def gives_a_stopped_export_no_plan(subject: Subject) -> None:
    """After an alarm there is no new plan until a person resumes, and the error says how."""
    subject.begin()
    subject.change(stopped="alarm")
    stopped = changes_nothing(subject, Stopped, subject.plan)
    assert isinstance(stopped, Stopped)
    assert "audit-exporter resume acme" in stopped.hint


def refuses_a_plan_in_a_lane_that_is_gone(subject: Subject) -> None:
    """A plan needs a lane."""
    subject.begin()
    draft = subject.draft()
    changes_nothing(
        subject, Conflict, lambda: subject.ledger.plan(subject.export(), replace(draft, lane="backfill-7"))
    )
    with pytest.raises(Conflict, match="backfill-7"):
        subject.standing().lane("backfill-7")


def keeps_the_bad_records_of_a_plan(subject: Subject) -> None:
    """A plan's bad records are kept with it byte by byte and in order."""
    subject.begin()
    records = [BAD, replace(BAD, id="6", body=bytes(range(256)) * 4000), replace(BAD, id="'\u2028\U0001f600")]
    plan = subject.ledger.plan(subject.export(), subject.draft(bad=3), iter(records))
    with subject.storage.reading() as rows:
        assert rows.bad_records(plan.id) == records
        assert rows.bad_records("another") == []


def tells_how_many_bad_records_are_not_whole(subject: Subject) -> None:
    """A plan counts the bad records that are kept in part or not at all."""
    subject.begin()
    records = [BAD, replace(BAD, id="8", length=6)]
    plan = subject.ledger.plan(subject.export(), subject.draft(bad=5), records)
    assert plan.bad_not_whole == 4
    assert subject.standing().open_plan == plan


def reads_bad_records_before_anybody_has_to_wait(subject: Subject) -> None:
    """The file of bad records is read before the transaction that takes them begins."""
    storage = WatchedStorage(subject.storage)
    ledger = Ledger(storage, subject.clock)
    subject.begin()
    records = (BAD for _ in range(1) if not storage.inside)
    plan = ledger.plan(subject.export(), subject.draft(bad=1), records)
    with subject.storage.reading() as rows:
        assert rows.bad_records(plan.id) == [BAD]


# --- attempt and answer ------------------------------------------------------------------------------


def records_attempts_in_order(subject: Subject) -> None:
    """An attempt is on record, pending, before it is made; later ones come after it."""
    subject.begin()
    plan = subject.plan()
    subject.clock.now = at(5)
    first = subject.ledger.attempt(plan, content("b"), STORE)
    subject.clock.now = at(4)
    second = subject.ledger.attempt(plan, content("c"), "memory://other")
    assert first == Attempt(first.id, plan.id, STORE, at(5), content("b"), Outcome.PENDING)
    assert subject.ledger.attempts(plan.id) == [first, second]


def refuses_an_attempt_at_a_closed_plan(subject: Subject) -> None:
    """A plan that was delivered or given up is attempted no more."""
    subject.begin()
    delivered = subject.plan()
    subject.deliver(delivered)
    changes_nothing(subject, Conflict, lambda: subject.ledger.attempt(delivered, content(), STORE))
    abandoned = subject.plan()
    subject.requests.resume(NAME)
    changes_nothing(subject, Conflict, lambda: subject.ledger.attempt(abandoned, content(), STORE))


def refuses_an_attempt_of_a_stopped_export(subject: Subject) -> None:
    """After an alarm not even an open plan is attempted."""
    subject.begin()
    plan = subject.plan()
    subject.change(stopped="alarm")
    stopped = changes_nothing(subject, Stopped, lambda: subject.ledger.attempt(plan, content(), STORE))
    assert str(stopped) == "alarm"


def keeps_an_alarm_that_stopped_an_export_through_later_failures(subject: Subject) -> None:
    """An answer or a failure that comes after a foreign object was seen says nothing more important."""
    subject.begin()
    plan = subject.plan()
    slow, mine = (subject.ledger.attempt(plan, content(), STORE) for _ in range(2))
    subject.know(slow, Outcome.NOT_SENT)
    assert not subject.ledger.judge(plan, mine)
    before = subject.standing()
    subject.ledger.answer(plan, slow, Outcome.UNKNOWN, Failure("slow", "", at(1)), at(2))
    subject.ledger.fail(NAME, "no room", "")
    assert subject.standing() == before
    assert subject.ledger.attempts(plan.id)[0].outcome is Outcome.UNKNOWN


def keeps_the_plan_open_after_any_failure(subject: Subject) -> None:
    """Whatever a failed attempt's outcome, the plan stays, and the export knows why and until when."""
    subject.begin()
    plan = subject.plan()
    for tries, outcome in enumerate((Outcome.UNKNOWN, Outcome.REFUSED, Outcome.NOT_SENT), start=1):
        failure = Failure(f"failed: {outcome}", "hint", at(tries))
        attempt = subject.ledger.attempt(plan, plan.content, STORE)
        subject.ledger.answer(plan, attempt, outcome, failure, at(tries + 1))
        export = subject.export()
        assert (export.tries, export.blocked_until, export.failure) == (tries, at(tries + 1), failure)
        assert subject.ledger.attempts(plan.id)[-1] == replace(
            attempt, outcome=outcome, error=failure.message
        )
        assert subject.standing().open_plan == plan


def keeps_a_late_answer_to_a_delivered_plan_apart(subject: Subject) -> None:
    """An answer that comes after another attempt was committed is kept, and blocks nothing."""
    subject.begin()
    plan = subject.plan()
    slow = subject.ledger.attempt(plan, plan.content, STORE)
    subject.deliver(plan)
    before = subject.standing()
    subject.ledger.answer(plan, slow, Outcome.REFUSED, Failure("too late", "", at(1)), at(2))
    assert subject.standing() == before
    assert subject.ledger.attempts(plan.id)[0].outcome is Outcome.REFUSED


# --- judge -------------------------------------------------------------------------------------------


def judges_by_what_the_other_attempts_may_have_done(subject: Subject) -> None:
    """A taken name is ours exactly if another attempt, at the same store, may have landed: all pairs."""
    subject.begin()
    plan = subject.plan()
    others = [subject.ledger.attempt(plan, content(), STORE) for _ in range(2)]
    mine = subject.ledger.attempt(plan, content(), STORE)
    cases = list(product(Outcome, (STORE, "memory://other")))
    for pair in product(cases, cases):
        with subject.storage.writing() as rows:
            for other, (outcome, store) in zip(others, pair, strict=True):
                rows.update_attempt(replace(other, outcome=outcome, store=store))
        ours = any(outcome in MAY_HAVE_LANDED and store == STORE for outcome, store in pair)
        assert subject.ledger.judge(plan, mine) is ours, pair
        assert bool(subject.export().stopped) is not ours, pair
        subject.change(stopped="")


def judges_a_lone_attempts_taken_name_foreign(subject: Subject) -> None:
    """The first attempt cannot have put the object that is in its own way."""
    subject.begin()
    plan = subject.plan()
    assert not subject.ledger.judge(plan, subject.ledger.attempt(plan, content(), STORE))


def judges_the_attempts_of_its_own_plan_alone(subject: Subject) -> None:
    """What landed under an earlier plan's name says nothing of this plan's."""
    subject.begin()
    subject.deliver(subject.plan())
    plan = subject.plan()
    assert not subject.ledger.judge(plan, subject.ledger.attempt(plan, content(), STORE))


def stops_the_export_at_a_foreign_object(subject: Subject) -> None:
    """A foreign object stops the export with an alarm that names it, and the plan stays open."""
    subject.begin()
    plan = subject.plan()
    before = subject.export()
    attempt = subject.ledger.attempt(plan, content(), STORE)
    subject.clock.now = at(6)
    subject.ledger.judge(plan, attempt)
    export = subject.export()
    assert export.stopped == foreign_alarm(STORE, plan.name)
    assert f"{STORE}/{plan.name}" in export.stopped
    assert export.failure is not None
    assert (export.failure.message, export.failure.at) == (export.stopped, at(6))
    assert "audit-exporter resume acme" in export.failure.hint
    assert export.version == before.version + 1
    assert subject.standing().open_plan == plan
    assert subject.ledger.attempts(plan.id) == [replace(attempt, outcome=Outcome.EXISTS)]


def leaves_an_export_alone_whose_name_is_taken_by_itself(subject: Subject) -> None:
    """An object that is ours is marked at the attempt, and the export stays as it is."""
    subject.begin()
    plan = subject.plan()
    subject.answered(plan, Outcome.UNKNOWN)
    before = subject.standing()
    attempt = subject.ledger.attempt(plan, content(), STORE)
    assert subject.ledger.judge(plan, attempt)
    assert subject.standing() == before
    assert subject.ledger.attempts(plan.id)[1].outcome is Outcome.EXISTS


def refuses_to_judge_a_closed_plan(subject: Subject) -> None:
    """When another process has delivered the plan meanwhile, there is nothing to be alarmed about."""
    subject.begin()
    plan = subject.plan()
    slow = subject.ledger.attempt(plan, content(), STORE)
    subject.deliver(plan)
    changes_nothing(subject, Conflict, lambda: subject.ledger.judge(plan, slow))


# --- commit and advance ------------------------------------------------------------------------------


def commits_a_final_part_as_the_end_of_its_window(subject: Subject) -> None:
    """With a window's last part the watermark and the seal move, and the window is history."""
    before = subject.begin()
    plan = subject.plan()
    subject.clock.now = at(5)
    subject.deliver(plan)
    assert subject.standing().live == replace(before.live, watermark=at(4), seal=plan.range.seal)
    with subject.storage.reading() as rows:
        assert rows.last_window_before(NAME, FAR) == SealedWindow(NAME, at(4), plan.range.seal, at(5))


def commits_another_part_as_a_key_within_its_window(subject: Subject) -> None:
    """With any other part only the last key moves; the open window keeps its end and seal."""
    before = subject.begin()
    plan = subject.plan(final=False, last=5)
    subject.deliver(plan)
    assert subject.standing().live == replace(
        before.live, open_end=at(4), open_seal=plan.range.seal, last_key=plan.range.last
    )
    with subject.storage.reading() as rows:
        assert rows.last_window_before(NAME, FAR) is None
    last = subject.plan(last=9)
    assert (last.range.after, last.range.seal) == (plan.range.last, plan.range.seal)
    subject.deliver(last)
    assert subject.standing().live == replace(before.live, watermark=at(4), seal=plan.range.seal)


def commits_a_delivery_to_the_export(subject: Subject) -> None:
    """A delivery ends every back-off, and says what was delivered last and when."""
    subject.begin()
    plan = subject.plan()
    attempt = subject.ledger.attempt(plan, content(), STORE)
    subject.ledger.answer(plan, attempt, Outcome.REFUSED, Failure("no", "", BEGIN), at(1))
    before = subject.export()
    subject.clock.now = at(5)
    delivered = subject.deliver(plan)
    assert subject.export() == replace(
        before,
        version=before.version + 1,
        tries=0,
        blocked_until=None,
        failure=None,
        delivered_at=at(5),
        object_name=plan.name,
    )
    assert delivered == replace(plan, state=PlanState.DELIVERED, delivered_at=at(5), hashes=("a" * 64,))
    assert subject.ledger.delivered(NAME, 1) == delivered
    assert subject.standing().open_plan is None
    assert subject.ledger.attempts(plan.id)[1].outcome is Outcome.SUCCEEDED


def commits_once(subject: Subject) -> None:
    """A second commit of a plan, also by another process, is a Conflict and moves nothing."""
    subject.begin()
    plan = subject.plan()
    slow = subject.ledger.attempt(plan, content(), STORE)
    subject.deliver(plan)
    other = Ledger(subject.storage, subject.clock)
    changes_nothing(subject, Conflict, lambda: other.commit(plan, slow, Outcome.SUCCEEDED))


def commits_only_what_can_have_landed(subject: Subject) -> None:
    """An object that was ours for an attempt since refused is foreign: the watermark does not pass it."""
    subject.begin()
    plan = subject.plan()
    unanswered = subject.ledger.attempt(plan, content(), STORE)
    mine = subject.ledger.attempt(plan, content(), STORE)
    assert subject.ledger.judge(plan, mine)
    subject.ledger.answer(plan, unanswered, Outcome.REFUSED, Failure("no", "", BEGIN), at(1))
    changes_nothing(subject, Conflict, lambda: subject.ledger.commit(plan, mine, Outcome.EXISTS))


def commits_nothing_after_an_alarm(subject: Subject) -> None:
    """Two found an object and the second saw that it is foreign: the first is stopped, its outcome kept."""
    subject.begin()
    plan = subject.plan()
    first = subject.ledger.attempt(plan, content(), STORE)
    second = subject.ledger.attempt(plan, content(), STORE)
    assert subject.ledger.judge(plan, first)
    assert not subject.ledger.judge(plan, second)
    before = subject.standing()
    with pytest.raises(Stopped) as stopped:
        subject.ledger.commit(plan, first, Outcome.SUCCEEDED)
    assert "audit-exporter resume acme" in stopped.value.hint
    assert subject.standing() == before
    assert subject.ledger.attempts(plan.id)[0].outcome is Outcome.SUCCEEDED


def keeps_the_hashes_that_can_have_landed(subject: Subject) -> None:
    """A delivered plan has the hash of each attempt, at the same store, that may have landed: no other."""
    subject.begin()
    plan = subject.plan()
    for outcome, sha256 in zip(Outcome, "bcdef0", strict=True):
        subject.answered(plan, outcome, STORE, sha256)
    subject.answered(plan, Outcome.UNKNOWN, "memory://other", "1")
    mine = subject.ledger.attempt(plan, content("2"), STORE)
    delivered = subject.ledger.commit(plan, mine, Outcome.EXISTS)
    landed = [sha256 for outcome, sha256 in zip(Outcome, "bcdef0", strict=True) if outcome in MAY_HAVE_LANDED]
    assert delivered.hashes == tuple(sha256 * 64 for sha256 in sorted(landed))


def alarms_about_differing_contents(subject: Subject) -> None:
    """Contents that differ between attempts are delivered all the same, and said out loud."""
    subject.begin()
    plan = subject.plan()
    subject.answered(plan, Outcome.UNKNOWN, sha256="b")
    subject.clock.now = at(7)
    delivered = subject.deliver(plan)
    assert delivered.hashes == ("a" * 64, "b" * 64)
    export = subject.export()
    for said in (plan.name, "2 different contents", "a" * 64, "b" * 64):
        assert said in export.alarm
    assert (export.stopped, export.failure) == ("", None)


def differ(subject: Subject) -> Plan:
    """Deliver the next plan, whose two attempts had two contents."""
    plan = subject.plan()
    subject.answered(plan, Outcome.UNKNOWN, sha256="b")
    return subject.deliver(plan)


def keeps_an_alarm_until_a_person_clears_it(subject: Subject) -> None:
    """No delivery, empty window, failure, restart or accepted source takes an alarm away: `resume` does."""
    subject.begin()
    first = differ(subject)
    subject.deliver(subject.plan())
    subject.ledger.advance(subject.export(), LIVE_LANE, at(12), seal(12))
    subject.ledger.fail(NAME, "no", "")
    subject.requests.accept_source(NAME, FAR, seal(77), lambda one: one)
    restored(subject.storage, subject.clock)
    subject.ledger = Ledger(subject.storage, subject.clock)
    subject.requests = Requests(subject.ledger, subject.clock)
    second = differ(subject)
    about_first, about_second = subject.export().alarm.splitlines()
    assert first.name in about_first
    assert second.name in about_second
    subject.requests.resume(NAME)
    assert subject.export().alarm == ""


def keeps_as_many_alarms_as_a_person_reads(subject: Subject) -> None:
    """However many objects it is about, an alarm stays short, and says where the others are."""
    subject.begin()
    first, *_ = (differ(subject) for _ in range(ALARMS + 2))
    lines = subject.export().alarm.splitlines()
    assert first.name in lines[0]
    assert lines[ALARMS:] == [MORE_ALARMS]


def advances_over_an_empty_window(subject: Subject) -> None:
    """An empty window is progress and history without a plan, and ends every back-off."""
    before = subject.begin()
    subject.ledger.fail(NAME, "was not reachable", "")
    subject.clock.now = at(9)
    subject.ledger.advance(before.export, LIVE_LANE, at(8), seal(8))
    after = subject.standing()
    assert after.live == replace(before.live, watermark=at(8), seal=seal(8))
    assert after.export == replace(before.export, version=before.export.version + 1)
    with subject.storage.reading() as rows:
        assert rows.last_window_before(NAME, FAR) == SealedWindow(NAME, at(8), seal(8), at(9))


def refuses_to_advance_against_anybody(subject: Subject) -> None:
    """Advancing gives way to a newer version, an open plan, a pause and an alarm."""
    old = subject.begin().export

    def advance(before: Export) -> None:
        subject.ledger.advance(before, LIVE_LANE, at(4), seal(4))

    subject.requests.pause(NAME)
    changes_nothing(subject, Conflict, lambda: advance(subject.export()))
    subject.requests.resume(NAME)
    changes_nothing(subject, Conflict, lambda: advance(old))
    subject.plan()
    changes_nothing(subject, Conflict, lambda: advance(subject.export()))
    subject.deliver(subject.standing().open_plan or _no_plan())
    subject.change(stopped="alarm")
    changes_nothing(subject, Stopped, lambda: advance(subject.export()))


def _no_plan() -> NoReturn:
    raise AssertionError("there is no open plan")


# --- the rest ----------------------------------------------------------------------------------------


def knows_every_export_at_once(subject: Subject) -> None:
    """All standings together say of each export what its own standing says; an unknown one has none."""
    subject.begin()
    subject.begin("other", "elsewhere")
    subject.requests.backfill("other", Window(at(-8), at(-4)), seal(0), redeliver=False)
    subject.plan()
    together = subject.ledger.standings()
    assert set(together) == {NAME, "other"}
    for name, standing in together.items():
        alone = subject.standing(name)
        assert (standing.export, standing.open_plan) == (alone.export, alone.open_plan)
        assert len(standing.lanes) == len(alone.lanes)
        assert all(standing.lane(lane.id) == lane for lane in alone.lanes)
    assert subject.ledger.standing("unknown") is None


def finds_only_what_was_delivered(subject: Subject) -> None:
    """A sequence number that is unknown, open or given up has delivered nothing."""
    subject.begin()
    plan = subject.plan()
    for sequence in (0, 1, 2):
        with pytest.raises(ConfigError, match=f"sequence number {sequence}"):
            subject.ledger.delivered(NAME, sequence)
    subject.requests.resume(NAME)
    with pytest.raises(ConfigError):
        subject.ledger.delivered(NAME, plan.sequence)


def keeps_why_an_export_did_not_get_on(subject: Subject) -> None:
    """A failure before any attempt is kept for `status`; an export that never began has nowhere for it."""
    before = subject.begin().export
    subject.ledger.fail(NAME, "no room", "make some")
    assert subject.export() == replace(before, failure=Failure("no room", "make some", BEGIN))
    subject.ledger.fail("unknown", "no room", "make some")
    assert subject.ledger.standing("unknown") is None


def remembers_the_newest_run(subject: Subject) -> None:
    """A run is on record from its start, and then with its end; the newest is the last one."""
    assert subject.ledger.last_run() is None
    older, newer = RunRecord("1", at(1)), RunRecord("2", at(2))
    subject.ledger.record_run(newer)
    subject.ledger.record_run(older)
    assert subject.ledger.last_run() == newer
    ended = replace(newer, finished_at=at(3), delivered=4, failing=1, error="it's over", hint="rest")
    subject.ledger.record_run(ended, again=True)
    assert subject.ledger.last_run() == ended


def remembers_a_run_that_is_over_at_once(subject: Subject) -> None:
    """Where nothing was due, a run is on record with its end alone."""
    over = RunRecord("1", at(1), finished_at=at(2))
    subject.ledger.record_run(over)
    assert subject.ledger.last_run() == over


def forgets_windows_after_a_while(subject: Subject) -> None:
    """Of the windows that are too old only the last one is remembered, so that there is one to go back to."""
    subject.begin()
    subject.begin("other", "elsewhere")
    subject.ledger.advance(subject.standing("other").export, LIVE_LANE, at(4), seal(4))
    for number in (1, 2, 3):
        subject.clock.now = at(number)
        subject.ledger.advance(subject.export(), LIVE_LANE, at(number), seal(number))
    subject.clock.now = at(2.5) + WINDOWS_KEPT
    subject.ledger.advance(subject.export(), LIVE_LANE, at(9), seal(9))
    second = timedelta(seconds=1)
    with subject.storage.reading() as rows:
        found = [rows.last_window_before(NAME, at(number) + second) for number in (1, 2, 3)]
        assert [window and window.end for window in found] == [None, at(2), at(3)]
        assert rows.last_window_before("other", FAR) is not None


def shuts_out_whoever_outlives_a_restore(subject: Subject) -> None:
    """After a restore, no rule of a process that opened the ledger before it changes anything."""
    subject.begin()
    plan = subject.plan()
    attempt = subject.ledger.attempt(plan, content(), STORE)
    export, ledger, failure = subject.export(), subject.ledger, Failure("", "", BEGIN)
    draft = subject.draft()
    restored(subject.storage, subject.clock)
    rules: list[Callable[[], object]] = [
        lambda: ledger.begin("new", "new", "new", BEGIN, seal(0)),
        lambda: ledger.relocate(NAME, "acme", "elsewhere"),
        lambda: ledger.plan(export, draft),
        lambda: ledger.attempt(plan, content(), STORE),
        lambda: ledger.answer(plan, attempt, Outcome.REFUSED, failure, BEGIN),
        lambda: ledger.judge(plan, attempt),
        lambda: ledger.commit(plan, attempt, Outcome.SUCCEEDED),
        lambda: ledger.advance(export, LIVE_LANE, at(4), seal(4)),
        lambda: ledger.fail(NAME, "", ""),
        lambda: ledger.record_run(RunRecord("1", BEGIN)),
        lambda: subject.requests.resume(NAME),
    ]
    for rule in rules:
        refused = changes_nothing(subject, LedgerError, rule)
        assert "was restored" in str(refused)


RULES: Final[tuple[Callable[[Subject], None], ...]] = (
    begins_with_a_live_lane,
    begins_for_good,
    refuses_the_newer_of_two_exports_with_the_same_names,
    moves_an_exports_names_to_a_free_place,
    relocates_to_the_same_place_without_a_change,
    refuses_to_relocate_onto_anothers_names,
    refuses_another_account_for_an_export,
    plans_what_the_draft_says,
    fixes_the_window_with_its_first_plan,
    refuses_a_plan_from_an_old_standing,
    lets_one_of_two_planners_win,
    refuses_a_second_open_plan,
    gives_a_stopped_export_no_plan,
    refuses_a_plan_in_a_lane_that_is_gone,
    keeps_the_bad_records_of_a_plan,
    tells_how_many_bad_records_are_not_whole,
    reads_bad_records_before_anybody_has_to_wait,
    records_attempts_in_order,
    refuses_an_attempt_at_a_closed_plan,
    refuses_an_attempt_of_a_stopped_export,
    keeps_an_alarm_that_stopped_an_export_through_later_failures,
    keeps_the_plan_open_after_any_failure,
    keeps_a_late_answer_to_a_delivered_plan_apart,
    judges_by_what_the_other_attempts_may_have_done,
    judges_a_lone_attempts_taken_name_foreign,
    judges_the_attempts_of_its_own_plan_alone,
    stops_the_export_at_a_foreign_object,
    leaves_an_export_alone_whose_name_is_taken_by_itself,
    refuses_to_judge_a_closed_plan,
    commits_a_final_part_as_the_end_of_its_window,
    commits_another_part_as_a_key_within_its_window,
    commits_a_delivery_to_the_export,
    commits_once,
    commits_only_what_can_have_landed,
    commits_nothing_after_an_alarm,
    keeps_the_hashes_that_can_have_landed,
    alarms_about_differing_contents,
    keeps_an_alarm_until_a_person_clears_it,
    keeps_as_many_alarms_as_a_person_reads,
    advances_over_an_empty_window,
    refuses_to_advance_against_anybody,
    knows_every_export_at_once,
    finds_only_what_was_delivered,
    keeps_why_an_export_did_not_get_on,
    remembers_the_newest_run,
    forgets_windows_after_a_while,
    shuts_out_whoever_outlives_a_restore,
)
