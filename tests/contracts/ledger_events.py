"""What the ledger promises of events: progress by key, the quarantine, and what is sent again."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Final

from exporter.errors import ConfigError, Conflict, Defect, LedgerError, Stopped
from exporter.ledger.requests import WAITING_AT_ONCE, restored
from exporter.model import BadKind, BadRecord, Failure, Outcome, PlanState, Rendering, Window
from tests.contracts.ledger import BAD, NAME, STORE, at, changes_nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.ledger.storage import Kept
    from exporter.model import Key, Plan
    from tests.contracts.ledger import Subject

EVENTS: Final = Rendering("native", None, "events", batch_bytes=900)
ONE: Final = ("2026-11-19 01:00:00.000000", 1)
TWO: Final = ("2026-11-19 02:00:00.000000", "2")


def poison(name: str = "7") -> BadRecord:
    """An event that was refused, told apart by its id."""
    body = b'{"event": "\xff' + name.encode() + b'"}'
    return BadRecord(name, "code 6", len(body), body, BadKind.REFUSED)


def planned(subject: Subject, *, bad: int = 0) -> Plan:
    """A new plan of events."""
    draft = replace(subject.draft(bad=bad), rendering=EVENTS, name="")
    return subject.ledger.plan(subject.export(), draft, [BAD] * bad)


def stored(subject: Subject) -> Plan:
    """The open plan as the ledger has it."""
    plan = subject.standing().open_plan
    assert plan is not None
    return plan


def delivered(subject: Subject, plan: Plan, *refused: BadRecord) -> Plan:
    """The plan, all of it in but for what was refused."""
    subject.ledger.reach(plan, plan.reached, last_of(plan), 3 - len(refused), refused)
    return subject.deliver(plan)


def last_of(plan: Plan) -> Key:
    """The key at which the plan is all in."""
    assert plan.range.last is not None
    return plan.range.last


def waiting(subject: Subject, sequence: int | None = None) -> list[Kept]:
    """All refused events that nobody has sent again."""
    return list(chain.from_iterable(subject.requests.waiting(NAME, sequence)))


# --- progress ----------------------------------------------------------------------------------------


def keeps_how_far_events_are_in(subject: Subject) -> None:
    """Progress, and the counts of what is in and what was refused, add up batch by batch, and stay."""
    subject.begin()
    plan = planned(subject)
    assert (plan.reached, plan.sent, plan.refused) == (None, 0, 0)
    subject.ledger.reach(plan, None, ONE, 2)
    subject.ledger.reach(plan, ONE, TWO, 5, [poison()])
    assert stored(subject) == replace(plan, reached=TWO, sent=7, refused=1)
    subject.ledger.reach(plan, TWO, last_of(plan))
    done = subject.deliver(plan)
    assert (done.state, done.reached, done.sent, done.refused) == (
        PlanState.DELIVERED,
        last_of(plan),
        7,
        1,
    )
    assert subject.ledger.delivered(NAME, 1) == done


def of_two_processes_only_one_gets_on(subject: Subject) -> None:
    """Who thinks that progress is where it was before gets a Conflict, and changes nothing."""
    subject.begin()
    plan = planned(subject)
    subject.ledger.reach(plan, None, ONE, 2)
    changes_nothing(subject, Conflict, lambda: subject.ledger.reach(plan, None, ONE, 2, [poison()]))
    changes_nothing(subject, Conflict, lambda: subject.ledger.reach(plan, TWO, last_of(plan), 2))


def reaches_nothing_in_a_plan_that_is_closed(subject: Subject) -> None:
    """Neither of a delivered plan nor of one that was given up can more get in."""
    subject.begin()
    plan = delivered(subject, planned(subject))
    changes_nothing(subject, Conflict, lambda: subject.ledger.reach(plan, plan.reached, TWO, 1))
    given_up = planned(subject)
    assert subject.requests.resume(NAME)
    changes_nothing(subject, Conflict, lambda: subject.ledger.reach(given_up, None, ONE, 1))


def reaches_nothing_while_the_export_is_stopped(subject: Subject) -> None:
    """An export that waits for a person gets no events either."""
    subject.begin()
    plan = planned(subject)
    subject.change(stopped="an alarm")
    changes_nothing(subject, Stopped, lambda: subject.ledger.reach(plan, None, ONE, 1))


def reaches_nothing_in_a_ledger_that_was_restored(subject: Subject) -> None:
    """A process that outlives a restore keeps no progress: its plan is made anew."""
    subject.begin()
    plan = planned(subject)
    restored(subject.storage, subject.clock)
    changes_nothing(subject, LedgerError, lambda: subject.ledger.reach(plan, None, ONE, 1))


def commits_events_only_when_all_are_in(subject: Subject) -> None:
    """The watermark does not pass an event that the destination has not answered for."""
    subject.begin()
    plan = planned(subject)
    subject.ledger.reach(plan, None, ONE, 2)
    attempt = subject.ledger.attempt(plan, plan.content, STORE)
    changes_nothing(subject, Defect, lambda: subject.ledger.commit(plan, attempt, Outcome.SUCCEEDED))
    subject.ledger.reach(plan, ONE, last_of(plan), 1)
    subject.ledger.commit(plan, attempt, Outcome.SUCCEEDED)
    assert subject.standing().live.watermark == plan.range.window.end


def different_contents_of_events_are_no_alarm(subject: Subject) -> None:
    """A later attempt sends the rest alone: of events it is no news that contents differ."""
    subject.begin()
    plan = planned(subject)
    subject.answered(plan, Outcome.UNKNOWN, sha256="a")
    subject.answered(plan, Outcome.SUCCEEDED, sha256="b")
    done = delivered(subject, plan)
    assert (done.hashes, subject.export().alarm, subject.export().object_name) == ((), "", "")


def an_interruption_is_no_failure(subject: Subject) -> None:
    """A run that ends between two batches leaves no try, no failure and no pause behind."""
    before = subject.begin().export
    plan = planned(subject)
    attempt = subject.ledger.attempt(plan, plan.content, STORE)
    subject.ledger.reach(plan, None, ONE, 1)
    subject.ledger.interrupted(plan, attempt)
    (known,) = subject.ledger.attempts(plan.id)
    assert known.outcome is Outcome.NOT_SENT
    after = subject.export()
    assert (after.tries, after.blocked_until, after.failure) == (0, None, before.failure)
    assert stored(subject).reached == ONE


def progress_ends_a_row_of_failures(subject: Subject) -> None:
    """A delivery that gets on pauses after its next failure as after the first."""
    subject.begin()
    plan = planned(subject)
    for _ in range(3):
        attempt = subject.ledger.attempt(plan, plan.content, STORE)
        subject.ledger.answer(plan, attempt, Outcome.UNKNOWN, Failure("busy", "", at(1)), at(2))
    assert subject.export().tries == 3
    subject.ledger.reach(plan, None, ONE, 1)
    assert subject.export().tries == 0


# --- resume ------------------------------------------------------------------------------------------


def resume_ends_a_plan_where_its_events_have_come_to(subject: Subject) -> None:
    """It counts as delivered up to there, and the same window is open for a plan of the rest."""
    begun = subject.begin()
    plan = planned(subject)
    subject.ledger.reach(plan, None, ONE, 2, [poison()])
    subject.ledger.answer(
        plan,
        subject.ledger.attempt(plan, plan.content, STORE),
        Outcome.REFUSED,
        Failure("no such index", "", at(1)),
        at(2),
    )
    subject.clock.now = at(5)
    assert subject.requests.resume(NAME) == replace(plan, reached=ONE, sent=2, refused=1)
    done = subject.ledger.delivered(NAME, 1)
    assert (done.state, done.range.last, done.final, done.delivered_at) == (
        PlanState.DELIVERED,
        ONE,
        False,
        at(5),
    )
    assert (done.range.after, done.content.count, done.sent, done.refused) == (None, 3, 2, 1)
    assert (done.content.content_sha256, done.rendering) == ("", plan.rendering)
    standing = subject.standing()
    assert standing.open_plan is None
    assert standing.live == replace(
        begun.live, open_end=plan.range.window.end, open_seal=plan.range.seal, last_key=ONE
    )
    export = standing.export
    assert (export.sequence, export.tries, export.failure, export.delivered_at) == (1, 0, None, at(5))
    assert standing.waiting == 1
    rest = planned(subject)
    assert (rest.sequence, rest.range) == (2, replace(plan.range, after=ONE, last=rest.range.last))
    delivered(subject, rest)
    assert subject.standing().live.watermark == plan.range.window.end


def resume_counts_a_plan_whose_events_are_all_in(subject: Subject) -> None:
    """Only its commit was missing: it is delivered whole, and its window is closed."""
    subject.begin()
    plan = planned(subject)
    subject.ledger.reach(plan, None, last_of(plan), 3)
    subject.clock.now = at(5)
    assert subject.requests.resume(NAME) is None
    done = subject.ledger.delivered(NAME, 1)
    assert (done.range, done.final, done.state) == (plan.range, True, PlanState.DELIVERED)
    assert (subject.standing().live.watermark, subject.standing().live.open_end) == (
        plan.range.window.end,
        None,
    )
    with subject.storage.reading() as rows:
        window = rows.last_window_before(NAME, at(6))
    assert window is not None
    assert (window.end, window.seal) == (plan.range.window.end, plan.range.seal)


def resume_makes_events_anew_that_may_be_in(subject: Subject) -> None:
    """Of events an attempt without an answer is no reason to keep a plan: what comes twice is allowed."""
    subject.begin()
    for outcome in Outcome:
        plan = planned(subject)
        subject.answered(plan, outcome)
        assert subject.requests.resume(NAME) == plan
        assert subject.standing().open_plan is None
        assert subject.export().sequence == plan.sequence - 1


def who_sends_events_meanwhile_learns_of_a_resume(subject: Subject) -> None:
    """The process that goes on with the ended plan neither gets on nor commits."""
    subject.begin()
    plan = planned(subject)
    attempt = subject.ledger.attempt(plan, plan.content, STORE)
    subject.ledger.reach(plan, None, ONE, 2)
    assert subject.requests.resume(NAME)
    changes_nothing(subject, Conflict, lambda: subject.ledger.reach(plan, ONE, last_of(plan), 1))
    changes_nothing(subject, Conflict, lambda: subject.ledger.commit(plan, attempt, Outcome.SUCCEEDED))


def resume_ends_events_of_every_lane_where_they_have_come_to(subject: Subject) -> None:
    """What is left of a backfill and of a replay is still asked for; a replay's next number begins anew."""
    begun = subject.begin()
    for _ in range(2):
        delivered(subject, planned(subject))
    lanes = [
        subject.requests.backfill(NAME, Window(at(-4), at(0)), begun.export.begin_seal, redeliver=False),
        subject.requests.replay(NAME, (1, 2)),
    ]
    for lane in lanes:
        draft = replace(subject.draft(lane.id), rendering=EVENTS, name="")
        plan = subject.ledger.plan(subject.export(), draft)
        subject.ledger.reach(plan, None, ONE, 2)
        assert subject.requests.resume(NAME)
        left = subject.standing().lane(lane.id)
        assert (left.last_key, left.done, left.watermark) == (ONE, False, lane.watermark)
        assert left.sequences == lane.sequences
        rest = subject.ledger.plan(subject.export(), replace(subject.draft(lane.id), rendering=EVENTS))
        delivered(subject, rest)
        left = subject.standing().lane(lane.id)
        assert (left.last_key, left.sequences) == (None, lane.sequences[1:])
        assert left.done is not bool(left.sequences)


# --- quarantine --------------------------------------------------------------------------------------


def refused_events_lie_in_the_quarantine_whole(subject: Subject) -> None:
    """Beside those that could not be rendered, batch by batch, with all that was sent of them."""
    subject.begin()
    plan = planned(subject, bad=1)
    big = replace(poison("8"), length=2_000_000, body=b"\x00" * 2_000_000)
    subject.ledger.reach(plan, None, ONE, 2, [poison()])
    subject.ledger.reach(plan, ONE, TWO, 2, [big])
    assert subject.requests.bad_records(NAME, 1) == [BAD, poison(), big]
    assert [kept.record for kept in waiting(subject)] == [poison(), big]
    assert subject.standing().waiting == subject.ledger.standings()[NAME].waiting == 2


def waiting_events_are_those_of_one_export_or_one_delivery(subject: Subject) -> None:
    """They come in their order, with the number of their delivery; nobody else's among them."""
    subject.begin()
    subject.begin("other", "elsewhere")
    delivered(subject, planned(subject), poison("1"), poison("2"))
    delivered(subject, planned(subject), poison("3"))
    assert [(kept.sequence, kept.record.id) for kept in waiting(subject)] == [(1, "1"), (1, "2"), (2, "3")]
    assert [kept.record.id for kept in waiting(subject, 2)] == ["3"]
    assert waiting(subject, 3) == []
    assert [*subject.requests.waiting("other")] == []
    assert {name: one.waiting for name, one in subject.ledger.standings().items()} == {NAME: 3, "other": 0}


def many_waiting_events_come_some_at_a_time(subject: Subject) -> None:
    """A quarantine of any size is gone through in pieces that memory holds."""
    subject.begin()
    many = [poison(str(number)) for number in range(WAITING_AT_ONCE + 1)]
    subject.ledger.reach(planned(subject), None, ONE, 0, many)
    pages = list(subject.requests.waiting(NAME))
    assert [len(page) for page in pages] == [WAITING_AT_ONCE, 1]
    assert [kept.record for page in pages for kept in page] == many


def a_second_resend_at_the_same_time_does_no_harm(subject: Subject) -> None:
    """What one process has brought in waits no more, whatever another one heard of it later."""
    subject.begin()
    delivered(subject, planned(subject), poison("1"))
    found = waiting(subject)
    subject.clock.now = at(9)
    subject.requests.resent(NAME, found, {})
    subject.requests.resent(NAME, found, {found[0].number: "code 12"})
    assert waiting(subject) == []
    assert subject.requests.bad_records(NAME, 1) == [replace(poison("1"), resent_at=at(9))]


def what_was_sent_again_waits_no_more(subject: Subject) -> None:
    """It is marked with the time; what was refused again stays, with the new reason."""
    subject.begin()
    delivered(subject, planned(subject), poison("1"), poison("2"))
    subject.clock.now = at(9)
    first, second = waiting(subject)
    subject.requests.resent(NAME, [first, second], {second.number: "code 12"})
    again = replace(poison("2"), reason="code 12")
    assert subject.requests.bad_records(NAME, 1) == [replace(poison("1"), resent_at=at(9)), again]
    assert [kept.record for kept in waiting(subject)] == [again]
    assert subject.standing().waiting == 1


def events_of_a_plan_that_was_given_up_do_not_wait(subject: Subject) -> None:
    """They come again with the plan that takes its place."""
    subject.begin()
    subject.ledger.reach(planned(subject), None, ONE, 1, [poison()])
    restored(subject.storage, subject.clock)
    assert subject.standing().waiting == 0
    assert waiting(subject) == []


def nothing_waits_of_an_export_that_nobody_knows(subject: Subject) -> None:
    """A name that the ledger does not know is an error, and so is a number that was not delivered."""
    subject.begin()
    changes_nothing(subject, ConfigError, lambda: [*subject.requests.waiting("unknown")])
    changes_nothing(subject, ConfigError, lambda: subject.requests.bad_records(NAME, 1))


EVENT_RULES: Final[list[Callable[[Subject], None]]] = [
    keeps_how_far_events_are_in,
    of_two_processes_only_one_gets_on,
    reaches_nothing_in_a_plan_that_is_closed,
    reaches_nothing_while_the_export_is_stopped,
    reaches_nothing_in_a_ledger_that_was_restored,
    commits_events_only_when_all_are_in,
    different_contents_of_events_are_no_alarm,
    an_interruption_is_no_failure,
    progress_ends_a_row_of_failures,
    resume_ends_a_plan_where_its_events_have_come_to,
    resume_counts_a_plan_whose_events_are_all_in,
    resume_makes_events_anew_that_may_be_in,
    who_sends_events_meanwhile_learns_of_a_resume,
    resume_ends_events_of_every_lane_where_they_have_come_to,
    refused_events_lie_in_the_quarantine_whole,
    waiting_events_are_those_of_one_export_or_one_delivery,
    many_waiting_events_come_some_at_a_time,
    a_second_resend_at_the_same_time_does_no_harm,
    what_was_sent_again_waits_no_more,
    events_of_a_plan_that_was_given_up_do_not_wait,
    nothing_waits_of_an_export_that_nobody_knows,
]
