"""From a plan to its commit: attempt, upload, answer. Steps 5 to 7 of the protocol, for many exports at once.

What the ledger has to know of several goes into one transaction; an upload is one export's own. Nobody here
decides who waits for whom: that is ``sending``.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from exporter.errors import (
    Conflict,
    DeliveryError,
    Interrupted,
    LedgerError,
    NotSent,
    ObjectExists,
    OutcomeUnknown,
    Stopped,
)
from exporter.journal import PlanJournal
from exporter.ledger.rules import foreign_alarm, resume_hint
from exporter.model import Failure, Outcome
from exporter.steps import Delivered, Held, result_of, without_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from exporter.interfaces import Clock
    from exporter.ledger.rules import Ledger, Rules
    from exporter.model import Attempt, Receipt
    from exporter.steps import Answer, Job, Ready

    Sent: TypeAlias = "tuple[Ready, Attempt, Receipt | Exception | None]"
    """An upload that is over: what it was, and what came of it; None: nothing was left to send."""

One = TypeVar("One")
T = TypeVar("T")

FIRST_RETRY: Final = timedelta(seconds=60)
LONGEST_WISH_S: Final = 3600.0  # of a destination, to be left alone


class Delivering:
    """What one ledger is told of deliveries; safe to use from several threads and processes at once."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def attempt(self, group: Sequence[Ready]) -> list[Attempt | Exception]:
        """Step 5. Record a try at each, before its first byte; a Conflict: another process was first."""
        return self._together(group, _name_of, _attempt)

    def send(
        self,
        ready: Ready,
        progress: Callable[[int], None],
        must_end: Callable[[], bool] = lambda: False,
    ) -> Receipt | None:
        """One try, behind its attempt; of events it is over when the ledger has them all.

        ``must_end`` is asked between batches of events, while their destination waits, and never during
        the upload of an object. None: nothing was left to send. Raises what `settle` is to be told.
        """
        plan, package = ready.plan, ready.package
        journal = PlanJournal(self._ledger, plan, package, progress, must_end)
        if not plan.rendering.is_events:
            return ready.job.destination.deliver(package, journal)
        receipt = ready.job.destination.deliver(package, journal) if package.batches else None
        journal.close()
        return receipt

    def settle(self, group: Sequence[Sent]) -> list[Answer]:
        """Steps 6 and 7. What came of each of these, once the ledger knows it."""
        answers = self._together(group, lambda sent: sent[0].plan.export, self._settle)
        return [None if isinstance(answer, Conflict) else answer for answer in answers]

    def _settle(self, rules: Rules, sent: Sent) -> Delivered | Held | Exception | None:
        ready, attempt, answer = sent
        plan, receipt, outcome = ready.plan, None, Outcome.SUCCEEDED
        if isinstance(answer, ObjectExists):
            if not rules.judge(plan, attempt):
                alarm = foreign_alarm(ready.job.destination.store, plan.name)
                return Held(_chained(Stopped(alarm, hint=resume_hint(plan.export)), answer), None)
            outcome = Outcome.EXISTS
        elif isinstance(answer, Interrupted):
            rules.interrupted(plan, attempt)
            return Held(answer, self._clock())
        elif isinstance(answer, DeliveryError):
            retry_at = self._retry_at(rules, ready.job, answer.wait_s)
            failure = Failure(answer.message, answer.hint, self._clock())
            rules.answer(plan, attempt, _outcome_of(answer), failure, retry_at)
            return Held(answer, retry_at)
        elif isinstance(answer, Exception):
            return answer
        else:
            receipt = answer
        done = rules.commit(plan, attempt, outcome)
        return Delivered(done, ready.package.content, receipt, len(ready.package.batches))

    def _retry_at(self, rules: Rules, job: Job, wait_s: float) -> datetime:
        """Twice as long after each try in a row, up to a window's length; longer if that was asked for."""
        standing = rules.standing(job.name)
        tries = standing.export.tries if standing else 0
        wished = timedelta(seconds=min(wait_s, LONGEST_WISH_S))
        return self._clock() + max(wished, min(job.every, FIRST_RETRY * (1 << min(tries, 16))))

    def _together(
        self,
        group: Sequence[One],
        name_of: Callable[[One], str],
        rule: Callable[[Rules, One], T],
        claim_of: Callable[[One], str] | None = None,
    ) -> list[T | Exception]:
        """What a rule says of each, in one transaction; where the ledger fails, it says so of all.

        ``claim_of`` goes with rules that look whose a claim is: these are looked up at once.
        Whose it is when something else does not go in, such as a value, shows when they go one by one.
        """
        if not group:
            return []
        try:
            with self._ledger.together([name_of(one) for one in group]) as rules:
                rules.expect([] if claim_of is None else [claim_of(one) for one in group])
                return [result_of(partial(rule, rules, one)) for one in group]
        except LedgerError as error:
            return [error for _ in group]
        except Exception as error:  # noqa: BLE001 - told as an answer
            if len(group) == 1:
                return [without_values(error)]
        return [answer for one in group for answer in self._together([one], name_of, rule, claim_of)]


def _name_of(ready: Ready) -> str:
    return ready.job.name


def _attempt(rules: Rules, ready: Ready) -> Attempt:
    return rules.attempt(ready.plan, ready.package.content, ready.job.destination.store)


def _outcome_of(error: DeliveryError) -> Outcome:
    if isinstance(error, OutcomeUnknown):
        return Outcome.UNKNOWN
    return Outcome.NOT_SENT if isinstance(error, NotSent) else Outcome.REFUSED


def _chained(error: Stopped, cause: Exception) -> Stopped:
    error.__cause__ = cause
    return error
