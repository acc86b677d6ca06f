"""What a person's requests promise, whatever keeps the ledger's rows: pause, resume, backfill, restore …

Each promise takes a `Subject`; it must not look behind `Storage`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from exporter.errors import ConfigError, Conflict
from exporter.ledger.requests import Accepted, Requests, restored
from exporter.ledger.rules import Ledger
from exporter.model import LIVE_LANE, Failure, Lane, LaneKind, Outcome, PlanState, Window
from tests.contracts.ledger import (
    BAD,
    BEGIN,
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

    from exporter.model import Plan, Seal
    from tests.contracts.ledger import Subject

PAST: Final = Window(at(-8), at(-4))


def held(one: Seal) -> Seal:
    """A source that has reached every seal."""
    return one


def lost(_seal: Seal) -> None:
    """A source that was never at any seal."""


def moved(one: Seal) -> Seal:
    """A source that failed over after every seal."""
    return {**one, "timeline": 2}


def backfill(
    subject: Subject, window: Window = PAST, *, redeliver: bool = False, again: bool = False
) -> Lane:
    """Ask for a past range, with seal 50 at the moment."""
    return subject.requests.backfill(NAME, window, seal(50), redeliver=redeliver, again=again)


# --- pause, resume, rename ---------------------------------------------------------------------------


def gives_a_paused_export_no_plan(subject: Subject) -> None:
    """A paused export gets no new plan."""
    subject.begin()
    subject.requests.pause(NAME)
    changes_nothing(subject, Conflict, subject.plan)


def finishes_the_open_plan_of_a_paused_export(subject: Subject) -> None:
    """A pause does not keep an open plan from being attempted and committed."""
    subject.begin()
    plan = subject.plan()
    subject.requests.pause(NAME)
    assert subject.deliver(plan).state is PlanState.DELIVERED
    assert subject.export().paused


def resumes_from_whatever_held_it(subject: Subject) -> None:
    """Resuming ends a pause, a block and an alarm, and is a change that planners notice."""
    before = subject.begin().export
    failure = Failure("no", "", BEGIN)
    subject.change(paused=True, stopped="alarm", alarm="look", tries=3, blocked_until=at(9), failure=failure)
    assert subject.requests.resume(NAME) is None
    assert subject.export() == replace(before, version=before.version + 1)


def resumes_by_giving_up_only_what_cannot_have_landed(subject: Subject) -> None:
    """An open plan is given up exactly if none of its attempts, at whatever store, may have landed."""
    subject.begin()
    for store in (STORE, "memory://other"):
        for outcome in Outcome:
            plan = subject.plan()
            subject.answered(plan, Outcome.REFUSED)
            attempt = subject.answered(plan, outcome, store)
            again = outcome not in MAY_HAVE_LANDED
            assert subject.requests.resume(NAME) == (plan if again else None), (outcome, store)
            assert subject.standing().open_plan == (None if again else plan)
            subject.know(attempt, Outcome.NOT_SENT)
            subject.requests.resume(NAME)


def plans_a_given_up_range_again_under_the_same_number(subject: Subject) -> None:
    """What was given up is planned again: same range and number, names from the moment of the resume."""
    subject.begin()
    subject.deliver(subject.plan(final=False, last=3))
    given_up = subject.plan(last=9)
    subject.clock.now = at(7)
    assert subject.requests.resume(NAME)
    assert subject.export().names_from == at(7)
    again = subject.plan(last=9)
    assert (again.range, again.sequence) == (given_up.range, given_up.sequence)
    assert again.id != given_up.id
    assert subject.export().names_from is None
    subject.deliver(again)
    assert subject.ledger.delivered(NAME, 2).id == again.id


def keeps_the_number_and_names_of_a_plan_that_may_have_landed(subject: Subject) -> None:
    """Resuming leaves a plan that may have landed, and the names after it, as they are."""
    subject.begin()
    plan = subject.plan()
    subject.answered(plan, Outcome.UNKNOWN)
    before = subject.export()
    assert subject.requests.resume(NAME) is None
    assert subject.export() == replace(before, version=before.version + 1)
    assert subject.standing().open_plan == plan


def renames_everything_that_belongs_to_an_export(subject: Subject) -> None:
    """Lanes, plans, attempts, bad records and history go with the new name, and nothing else does."""
    subject.begin()
    subject.begin("other", "elsewhere")
    subject.deliver(subject.plan())
    backfill(subject)
    plan = subject.ledger.plan(subject.export(), subject.draft(bad=1), [BAD])
    attempt = subject.answered(plan, Outcome.UNKNOWN)
    before, other = subject.standing(), subject.standing("other")
    subject.requests.rename(NAME, "it's new")
    after = subject.standing("it's new")
    assert after.export == replace(before.export, name="it's new", version=before.export.version + 1)
    for lane in before.lanes:
        assert after.lane(lane.id) == replace(lane, export="it's new")
    assert after.open_plan == replace(plan, export="it's new")
    assert subject.ledger.delivered("it's new", 1).export == "it's new"
    assert subject.ledger.attempts(plan.id) == [attempt]
    with subject.storage.reading() as rows:
        assert rows.bad_records(plan.id) == [BAD]
        window = rows.last_window_before("it's new", FAR)
        assert window is not None
        assert (window.export, window.end) == ("it's new", at(4))
    assert subject.standing("other") == other


def leaves_nothing_under_an_old_name(subject: Subject) -> None:
    """After a rename the old name is free: an export of that name begins with nothing."""
    subject.begin()
    subject.deliver(subject.plan())
    plan = subject.plan()
    subject.requests.rename(NAME, "new")
    assert subject.ledger.standing(NAME) is None
    fresh = subject.begin(claim="elsewhere")
    assert (fresh.open_plan, len(fresh.lanes), fresh.live.watermark) == (None, 1, BEGIN)
    with subject.storage.reading() as rows:
        assert (rows.open_plans(NAME), rows.plan_by_sequence(NAME, 1)) == ([], None)
        assert rows.last_window_before(NAME, FAR) is None
    assert subject.deliver(replace(plan, export="new")).sequence == 2


def never_mistakes_a_new_export_for_the_one_that_had_its_name(subject: Subject) -> None:
    """A process that outlives a rename does nothing to the export that has begun under the old name since."""
    subject.begin()
    plan = subject.plan()
    attempt = subject.ledger.attempt(plan, content(), STORE)
    subject.requests.rename(NAME, "new")
    subject.begin(claim="elsewhere")
    failure = Failure("no", "", BEGIN)
    subject.ledger.answer(plan, attempt, Outcome.UNKNOWN, failure, at(1))
    assert subject.export().tries == 0
    changes_nothing(subject, Conflict, lambda: subject.ledger.attempt(plan, content(), STORE))
    changes_nothing(subject, Conflict, lambda: subject.ledger.judge(plan, attempt))
    changes_nothing(subject, Conflict, lambda: subject.ledger.commit(plan, attempt, Outcome.SUCCEEDED))


def plans_nothing_for_a_new_export_from_an_old_ones_standing(subject: Subject) -> None:
    """Two exports that had one name, one after the other, can have equal versions, and are not the same."""
    old = subject.begin().export
    draft = subject.draft()
    subject.requests.rename(NAME, "new")
    subject.begin(claim="elsewhere")
    changes_nothing(subject, Conflict, lambda: subject.ledger.plan(old, draft))
    changes_nothing(subject, Conflict, lambda: subject.ledger.advance(old, LIVE_LANE, at(4), seal(4)))


def refuses_a_new_name_that_is_taken(subject: Subject) -> None:
    """Two exports never have one name."""
    subject.begin()
    subject.begin("other", "elsewhere")
    refused = changes_nothing(subject, ConfigError, lambda: subject.requests.rename(NAME, "other"))
    assert "'other'" in str(refused)


def refuses_requests_for_an_unknown_export(subject: Subject) -> None:
    """Every request for an export that the ledger does not know says so."""
    requests: list[Callable[[], object]] = [
        lambda: subject.requests.pause(NAME),
        lambda: subject.requests.resume(NAME),
        lambda: subject.requests.rename(NAME, "new"),
        lambda: backfill(subject),
        lambda: subject.requests.replay(NAME, (1,)),
        lambda: subject.requests.accept_source(NAME, BEGIN, seal(1), held),
    ]
    for request in requests:
        refused = changes_nothing(subject, ConfigError, request)
        assert f"no export named '{NAME}'" in str(refused)


# --- backfill ----------------------------------------------------------------------------------------


def backfills_what_was_visible_at_the_begin(subject: Subject) -> None:
    """A range before the begin is a lane of its own under the begin's seal; the rest comes live, as late."""
    before = subject.begin().export
    lane = backfill(subject)
    assert lane == Lane(
        NAME, "backfill-1", LaneKind.BACKFILL, PAST.start, seal(0), start=PAST.start, until=PAST.end
    )
    assert subject.standing().lane(lane.id) == lane
    assert subject.export() == replace(before, version=before.version + 1)


def backfills_to_its_end_without_touching_live_delivery(subject: Subject) -> None:
    """A backfill is done when its last window is, and moves neither watermark nor history."""
    live = subject.begin().live
    lane = backfill(subject, Window(at(-8), at(-1)))
    subject.deliver(subject.plan(lane.id))
    assert not subject.standing().lane(lane.id).done
    assert subject.standing().lane(lane.id).watermark == at(-4)
    subject.ledger.advance(subject.export(), lane.id, at(-1), lane.seal)
    assert subject.standing().lane(lane.id).done
    assert subject.standing().live == live
    with subject.storage.reading() as rows:
        assert rows.last_window_before(NAME, FAR) is None


def refuses_to_backfill_what_live_delivery_covers(subject: Subject) -> None:
    """A range that reaches beyond the begin is refused with the range that is left; one up to it is not."""
    subject.begin()
    refused = changes_nothing(subject, ConfigError, lambda: backfill(subject, Window(at(-4), at(0.001))))
    assert isinstance(refused, ConfigError)
    assert "--to 2026-11-19T00:00:00Z" in refused.hint
    assert "--redeliver" in refused.hint
    assert backfill(subject, Window(at(-4), BEGIN)).until == BEGIN


def refuses_to_backfill_twice(subject: Subject) -> None:
    """Another range that overlaps an earlier backfill is refused, whether that is done or not."""
    subject.begin()
    lane = backfill(subject)
    overlapping = (
        Window(at(-9), at(-7)),
        Window(at(-5), at(-3)),
        Window(at(-9), at(-3)),
        Window(at(-7), at(-6)),
    )
    for _ in range(2):
        for window in overlapping:
            changes_nothing(subject, ConfigError, lambda window=window: backfill(subject, window))  # type: ignore[misc]
        if not lane.done:
            subject.ledger.advance(subject.export(), lane.id, PAST.end, lane.seal)
            lane = subject.standing().lane(lane.id)
    changes_nothing(subject, ConfigError, lambda: backfill(subject, again=True))


def finds_a_backfill_that_is_done(subject: Subject) -> None:
    """The same request as one that is done is that one, neither refused nor delivered again."""
    subject.begin()
    for redeliver in (False, True):
        lane = backfill(subject, redeliver=redeliver)
        subject.ledger.advance(subject.export(), lane.id, PAST.end, lane.seal)
        before = subject.standing()
        found = backfill(subject, redeliver=redeliver)
        assert (found, found.done) == (before.lane(lane.id), True)
        assert subject.standing() == before


def redelivers_once_more_when_asked_to(subject: Subject) -> None:
    """With `again` a redelivery that is done is asked for anew, one that is not is found, however many."""
    subject.begin()
    for number in range(1, 12):
        lane = backfill(subject, redeliver=True, again=True)
        assert (lane.id, lane.done) == (f"backfill-{number}", False)
        for again in (True, False):
            assert backfill(subject, redeliver=True, again=again) == lane
        subject.ledger.advance(subject.export(), lane.id, PAST.end, lane.seal)


def backfills_right_beside_an_earlier_one(subject: Subject) -> None:
    """Ranges are half-open: one that ends where another begins repeats nothing."""
    subject.begin()
    backfill(subject)
    lanes = [backfill(subject, Window(at(-9), at(-8))), backfill(subject, Window(at(-4), at(-3)))]
    assert [lane.id for lane in lanes] == ["backfill-2", "backfill-3"]


def finds_the_same_backfill_where_it_was_left(subject: Subject) -> None:
    """The same request again, while unfinished, is the same lane with its progress, not a new one."""
    subject.begin()
    lane = backfill(subject)
    subject.deliver(subject.plan(lane.id, final=False, last=2))
    before = subject.standing()
    assert backfill(subject) == before.lane(lane.id)
    assert subject.standing() == before


def redelivers_whatever_is_asked_for(subject: Subject) -> None:
    """With `redeliver` a range may repeat anything, under the seal of the moment."""
    subject.begin()
    backfill(subject)
    repeated = backfill(subject, Window(at(-6), at(6)), redeliver=True)
    assert (repeated.id, repeated.seal, repeated.redeliver) == ("backfill-2", seal(50), True)
    assert backfill(subject, Window(at(-6), at(6)), redeliver=True) == repeated


# --- replay ------------------------------------------------------------------------------------------


def replays_number_by_number(subject: Subject) -> None:
    """A replay goes through its numbers in order, ends with the last, and moves nothing else."""
    subject.begin()
    for _ in range(3):
        subject.deliver(subject.plan())
    live = subject.standing().live
    lane = subject.requests.replay(NAME, (3, 1))
    assert lane.kind is LaneKind.REPLAY
    left = []
    while not lane.done:
        left.append(lane.sequences)
        subject.deliver(subject.plan(lane.id))
        lane = subject.standing().lane(lane.id)
    assert left == [(3, 1), (1,)]
    assert (lane.sequences, lane.requested, lane.open_end) == ((), (3, 1), None)
    assert subject.standing().live == live
    assert subject.export().sequence == 5


def replays_only_what_was_delivered(subject: Subject) -> None:
    """A replay with a number that delivered nothing is refused as a whole."""
    subject.begin()
    subject.deliver(subject.plan())
    subject.plan()
    for sequences in ((1, 2), (3,), (0,)):
        changes_nothing(subject, ConfigError, lambda some=sequences: subject.requests.replay(NAME, some))  # type: ignore[misc]


def finds_the_same_replay_where_it_was_left(subject: Subject) -> None:
    """The same replay again goes on while it is unfinished, and starts anew once it is done."""
    subject.begin()
    subject.deliver(subject.plan())
    subject.deliver(subject.plan())
    lane = subject.requests.replay(NAME, (1, 2))
    subject.deliver(subject.plan(lane.id))
    before = subject.standing()
    assert subject.requests.replay(NAME, (1, 2)).sequences == (2,)
    assert subject.standing() == before
    subject.deliver(subject.plan(lane.id))
    assert subject.requests.replay(NAME, (1, 2)).id == "replay-2"


# --- accept-source -----------------------------------------------------------------------------------


def three_windows(subject: Subject) -> None:
    """Deliver the windows that end at 4, 8 and 12 hours, committed one hour after each end."""
    subject.begin()
    for end in (4, 8, 12):
        subject.clock.now = at(end + 1)
        subject.deliver(subject.plan())
    subject.clock.now = at(14)


def goes_back_to_the_last_window_sealed_before_a_moment(subject: Subject) -> None:
    """The watermark and its seal are those of the last window that was committed before the moment."""
    three_windows(subject)
    sealed = subject.ledger.delivered(NAME, 2).range.seal
    before = subject.export()
    accepted = subject.requests.accept_source(NAME, at(13), seal(77), held)
    assert accepted == Accepted(NAME, at(8), by_time_alone=False)
    live = subject.standing().live
    assert (live.watermark, live.seal) == (at(8), sealed)
    assert subject.export() == replace(
        before, version=before.version + 1, names_from=at(14), repeats_until=at(12)
    )


def goes_back_to_the_begin_when_nothing_was_sealed_before(subject: Subject) -> None:
    """Before the first window there is the begin, with its seal."""
    three_windows(subject)
    accepted = subject.requests.accept_source(NAME, at(1), seal(77), held)
    assert accepted.watermark == BEGIN
    assert subject.standing().live.seal == seal(0)


def never_goes_forward_by_accepting(subject: Subject) -> None:
    """A window of the history before an earlier acceptance does not carry the watermark forward."""
    three_windows(subject)
    subject.requests.accept_source(NAME, at(6), seal(77), held)
    assert subject.requests.accept_source(NAME, at(14), seal(77), held).watermark == at(4)


def goes_back_by_time_alone_with_a_seal_of_now(subject: Subject) -> None:
    """Where the source does not hold the old seal, the time stays and the seal is the present one."""
    three_windows(subject)
    accepted = subject.requests.accept_source(NAME, at(13), seal(77), lost)
    assert accepted == Accepted(NAME, at(8), by_time_alone=True)
    assert (subject.standing().live.watermark, subject.standing().live.seal) == (at(8), seal(77))


def replaces_the_begins_seal_only_when_it_is_lost(subject: Subject) -> None:
    """Later backfills read under a seal that the source holds."""
    three_windows(subject)
    subject.requests.accept_source(NAME, at(13), seal(77), lambda one: one if one == seal(0) else None)
    assert subject.export().begin_seal == seal(0)
    subject.requests.accept_source(NAME, at(13), seal(88), lost)
    assert subject.export().begin_seal == seal(88)
    assert backfill(subject).seal == seal(88)


def flags_what_may_come_again(subject: Subject) -> None:
    """Plans of windows that had been begun before the acceptance are flagged, and no later one."""
    three_windows(subject)
    subject.plan(final=False)
    subject.requests.accept_source(NAME, at(9.5), seal(77), held)
    assert subject.export().repeats_until == at(16)
    flags = [
        (plan.range.window.end, plan.repeats) for plan in (subject.deliver(subject.plan()) for _ in range(3))
    ]
    assert flags == [(at(12), True), (at(16), True), (at(20), False)]


def keeps_the_longest_flag_over_two_acceptances(subject: Subject) -> None:
    """A second acceptance does not unflag what the first one had."""
    three_windows(subject)
    subject.requests.accept_source(NAME, at(6), seal(77), held)
    subject.requests.accept_source(NAME, at(1), seal(77), held)
    assert subject.export().repeats_until == at(12)


def gives_up_open_plans_by_accepting(subject: Subject) -> None:
    """An open plan, even one that may have landed, and its window are given up; its number stays used."""
    three_windows(subject)
    subject.deliver(subject.plan(final=False))
    plan = subject.plan()
    attempt = subject.answered(plan, Outcome.UNKNOWN)
    subject.change(tries=3, blocked_until=at(99), failure=Failure("no", "", BEGIN))
    subject.requests.accept_source(NAME, at(99), seal(77), held)
    standing = subject.standing()
    assert (standing.open_plan, standing.live.open_end, standing.live.last_key) == (None, None, None)
    assert standing.live.open_seal is None
    assert (standing.export.tries, standing.export.blocked_until, standing.export.failure) == (0, None, None)
    changes_nothing(subject, Conflict, lambda: subject.ledger.commit(plan, attempt, Outcome.SUCCEEDED))
    assert subject.plan().sequence == plan.sequence + 1


def reseals_the_unfinished_backfills_whose_seal_is_lost(subject: Subject) -> None:
    """An unfinished backfill starts its window anew, under a seal that the source holds; others stay."""
    subject.begin()
    done = backfill(subject, Window(at(-12), at(-8)), redeliver=True)
    subject.ledger.advance(subject.export(), done.id, at(-8), done.seal)
    kept = backfill(subject, redeliver=True)
    subject.deliver(subject.plan(kept.id, final=False))
    lanes = {lane.id: lane for lane in subject.standing().lanes}
    subject.requests.accept_source(NAME, BEGIN, seal(77), held)
    assert {lane.id: lane for lane in subject.standing().lanes} == lanes
    subject.requests.accept_source(NAME, BEGIN, seal(77), lost)
    after = subject.standing()
    assert after.lane(done.id) == lanes[done.id]
    assert after.lane(kept.id) == replace(
        lanes[kept.id], seal=seal(77), open_seal=None, open_end=None, last_key=None
    )
    assert lanes[kept.id].last_key is not None


def goes_on_with_seals_as_the_source_would_have_taken_them(subject: Subject) -> None:
    """After a fail-over the live lane, the begin and a backfill have seals of the present source."""
    three_windows(subject)
    kept = backfill(subject, redeliver=True)
    subject.deliver(subject.plan(kept.id, final=False))
    before, sealed = subject.standing(), subject.ledger.delivered(NAME, 2).range.seal
    assert subject.requests.accept_source(NAME, at(13), seal(77), moved).by_time_alone is False
    after = subject.standing()
    assert (after.live.watermark, after.live.seal) == (at(8), moved(sealed))
    assert after.export.begin_seal == moved(seal(0))
    lane = before.lane(kept.id)
    assert lane.last_key is not None
    assert after.lane(kept.id) == replace(lane, seal=moved(lane.seal), open_seal=moved(lane.seal))


def keeps_an_alarm_through_an_acceptance(subject: Subject) -> None:
    """Accepting a source says nothing about a foreign object."""
    three_windows(subject)
    failure = Failure("alarm", "", BEGIN)
    subject.change(stopped="alarm", paused=True, failure=failure)
    subject.requests.accept_source(NAME, at(99), seal(77), held)
    export = subject.export()
    assert (export.stopped, export.paused, export.failure) == ("alarm", True, failure)


def asks_the_source_while_others_may_write(subject: Subject) -> None:
    """A source may take seconds to answer: no transaction that writes waits for it; each seal comes once."""
    three_windows(subject)
    backfill(subject)
    storage = WatchedStorage(subject.storage)
    asked: list[Seal] = []

    def adopt(one: Seal) -> None:
        assert not storage.inside
        asked.append(one)

    requests = Requests(Ledger(storage, subject.clock), subject.clock)
    requests.accept_source(NAME, at(13), seal(77), adopt)
    assert asked == [subject.ledger.delivered(NAME, 2).range.seal, seal(0)]


def accepts_for_an_export_as_it_is_by_then(subject: Subject) -> None:
    """What another process does while the source is asked counts: it is asked again."""
    three_windows(subject)
    plans: list[Plan] = []

    def adopt(one: Seal) -> Seal:
        if not plans:
            plans.append(subject.plan())
            subject.requests.pause(NAME)
        return one

    subject.requests.accept_source(NAME, at(13), seal(77), adopt)
    standing = subject.standing()
    assert (standing.open_plan, standing.live.open_end, standing.live.watermark) == (None, None, at(8))
    assert (standing.export.repeats_until, standing.export.sequence) == (at(16), 4)
    assert standing.export.paused


def gives_up_on_an_export_that_does_not_stand_still(subject: Subject) -> None:
    """Accepting ends with an error that says what to do, if the export moves whenever the source is asked."""
    three_windows(subject)

    def adopt(one: Seal) -> Seal:
        subject.ledger.advance(subject.export(), LIVE_LANE, at(16), seal(16))
        return one

    with pytest.raises(Conflict) as moving:
        subject.requests.accept_source(NAME, at(13), seal(77), adopt)
    assert "end the runs" in moving.value.hint
    assert subject.standing().live.watermark == at(16)
    assert subject.export().repeats_until is None


# --- restored ----------------------------------------------------------------------------------------


def goes_on_after_a_restore(subject: Subject) -> None:
    """Every open plan, also one that may have landed, is given up, names start at now, nothing else moves."""
    subject.begin()
    subject.begin("other", "elsewhere")
    subject.deliver(subject.plan())
    plan = subject.plan()
    subject.answered(plan, Outcome.UNKNOWN)
    before, other = subject.standing(), subject.standing("other")
    subject.clock.now = at(30)
    assert restored(subject.storage, subject.clock) == 1
    after = subject.standing()
    assert after.open_plan is None
    assert after.lanes == before.lanes
    assert after.export == replace(before.export, version=before.export.version + 1, names_from=at(30))
    assert subject.standing("other").export.names_from == at(30)
    assert subject.standing("other").lanes == other.lanes


def compares_versions_across_a_restore(subject: Subject) -> None:
    """A standing from before the restore is stale for the ledger opened after it, too."""
    old = subject.begin().export
    restored(subject.storage, subject.clock)
    subject.ledger = Ledger(subject.storage, subject.clock)
    changes_nothing(subject, Conflict, lambda: subject.ledger.advance(old, LIVE_LANE, at(4), seal(4)))
    assert subject.ledger.attempt(subject.plan(), content(), STORE).store == STORE


def gives_every_restore_an_id_of_its_own(subject: Subject) -> None:
    """No two restores, and no ledger and its restore, share an id."""
    ids = set()
    for _ in range(3):
        with subject.storage.reading() as rows:
            ids.add(rows.ledger_id())
        restored(subject.storage, subject.clock)
    assert len(ids) == 3


def begins_later_exports_after_the_restore(subject: Subject) -> None:
    """An export that the backup does not know meets none of the names it gave before."""
    subject.clock.now = at(30)
    restored(subject.storage, subject.clock)
    subject.ledger = Ledger(subject.storage, subject.clock)
    assert subject.begin().export.names_from == at(30)


REQUESTS: Final[tuple[Callable[[Subject], None], ...]] = (
    begins_later_exports_after_the_restore,
    gives_a_paused_export_no_plan,
    finishes_the_open_plan_of_a_paused_export,
    resumes_from_whatever_held_it,
    resumes_by_giving_up_only_what_cannot_have_landed,
    plans_a_given_up_range_again_under_the_same_number,
    keeps_the_number_and_names_of_a_plan_that_may_have_landed,
    renames_everything_that_belongs_to_an_export,
    leaves_nothing_under_an_old_name,
    never_mistakes_a_new_export_for_the_one_that_had_its_name,
    plans_nothing_for_a_new_export_from_an_old_ones_standing,
    refuses_a_new_name_that_is_taken,
    refuses_requests_for_an_unknown_export,
    backfills_what_was_visible_at_the_begin,
    backfills_to_its_end_without_touching_live_delivery,
    refuses_to_backfill_what_live_delivery_covers,
    refuses_to_backfill_twice,
    backfills_right_beside_an_earlier_one,
    finds_the_same_backfill_where_it_was_left,
    finds_a_backfill_that_is_done,
    redelivers_whatever_is_asked_for,
    redelivers_once_more_when_asked_to,
    replays_number_by_number,
    replays_only_what_was_delivered,
    finds_the_same_replay_where_it_was_left,
    goes_back_to_the_last_window_sealed_before_a_moment,
    goes_back_to_the_begin_when_nothing_was_sealed_before,
    never_goes_forward_by_accepting,
    goes_back_by_time_alone_with_a_seal_of_now,
    replaces_the_begins_seal_only_when_it_is_lost,
    flags_what_may_come_again,
    keeps_the_longest_flag_over_two_acceptances,
    gives_up_open_plans_by_accepting,
    reseals_the_unfinished_backfills_whose_seal_is_lost,
    goes_on_with_seals_as_the_source_would_have_taken_them,
    keeps_an_alarm_through_an_acceptance,
    asks_the_source_while_others_may_write,
    accepts_for_an_export_as_it_is_by_then,
    gives_up_on_an_export_that_does_not_stand_still,
    goes_on_after_a_restore,
    compares_versions_across_a_restore,
    gives_every_restore_an_id_of_its_own,
)
