"""What every ledger promises of `Ledger.together`: the rules of several exports in one transaction.

That each rule does there what it does alone is shown twice: by the suites of the rules themselves, on a
`GroupedLedger`, and by ``ledger_calls`` with calls as chance has them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from exporter.errors import ConfigError, Conflict, Defect, LedgerError, NameTaken
from exporter.ledger.requests import restored
from exporter.ledger.rules import Draft
from exporter.model import LIVE_LANE, Failure, LaneKind, Outcome, PlanState, Range, Stamp, Window
from tests.contracts.ledger import (
    BEGIN,
    CLAIM,
    EVERY,
    NAME,
    RENDERING,
    STORE,
    Subject,
    at,
    content,
    everything,
    seal,
)
from tests.contracts.ledger_storage import Killed, MortalStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from exporter.model import Json, Plan

NAMES: Final = ("acme", "globex", "initech")


def begin_all(subject: Subject) -> None:
    """Three exports, each with a place of its own."""
    for name in NAMES:
        subject.ledger.begin(name, "acme", f"{STORE}/{name}", BEGIN, seal(0))


def draft(number: int = 1, start: datetime = BEGIN) -> Draft:
    """A draft of an export's n-th object, with the window that starts then."""
    window = Window(start, start + EVERY)
    range_ = Range("acme", window, seal(100 + number), seal(0), last=(window.end.isoformat(), number))
    stamp = Stamp(window.end, number)
    return Draft(LIVE_LANE, range_, RENDERING, True, f"audit/acme/{number}.zip", stamp, content())


def plan_all(subject: Subject) -> dict[str, Plan]:
    """The first plan of each, in one transaction."""
    exports = [subject.standing(name).export for name in NAMES]
    with subject.ledger.together(NAMES) as rules:
        return {export.name: rules.plan(export, draft()) for export in exports}


# --- several in one ----------------------------------------------------------------------------------


def takes_several_exports_through_the_protocol(subject: Subject) -> None:
    """Begin, plan, attempt and commit are one transaction each, however many exports take part."""
    with subject.ledger.together(NAMES) as rules:
        begun = {name: rules.begin(name, "acme", f"{STORE}/{name}", BEGIN, seal(0)) for name in NAMES}
    assert {name: subject.standing(name) for name in NAMES} == begun
    plans = plan_all(subject)
    assert {name: subject.standing(name).open_plan for name in NAMES} == plans
    with subject.ledger.together(NAMES) as rules:
        attempts = {name: rules.attempt(plan, plan.content, STORE) for name, plan in plans.items()}
    assert {name: subject.ledger.attempts(plans[name].id) for name in NAMES} == {
        name: [attempt] for name, attempt in attempts.items()
    }
    with subject.ledger.together(NAMES) as rules:
        done = {name: rules.commit(plans[name], attempts[name], Outcome.SUCCEEDED) for name in NAMES}
    for name in NAMES:
        standing = subject.standing(name)
        assert standing.live.watermark == done[name].range.window.end
        assert (standing.open_plan, standing.export.sequence) == (None, 1)
        assert subject.ledger.delivered(name, 1) == done[name]


def sees_what_it_has_done_itself(subject: Subject) -> None:
    """Within one transaction an export may begin, deliver and go on, as if each call had ended it."""
    with subject.ledger.together([NAME]) as rules:
        assert rules.standing(NAME) is None
        export = rules.begin(NAME, "acme", CLAIM, BEGIN, seal(0)).export
        assert rules.begin(NAME, "acme", "elsewhere", at(9), seal(9)).export == export
        plans = []
        for number in (1, 2, 3):
            standing = rules.standing(NAME)
            assert standing is not None
            plan = rules.plan(standing.export, draft(number, standing.live.watermark))
            attempt = rules.attempt(plan, plan.content, STORE)
            assert rules.attempts(plan.id) == [attempt]
            plans.append(rules.commit(plan, attempt, Outcome.SUCCEEDED))
            assert rules.delivered(NAME, number) == plans[-1]
    assert [subject.ledger.delivered(NAME, number) for number in (1, 2, 3)] == plans
    assert subject.export().sequence == 3
    with subject.storage.reading() as rows:
        found = [rows.last_window_before(NAME, at(hours)) for hours in (0, 1)]
    assert [window and window.end for window in found] == [None, plans[-1].range.window.end]


def goes_through_with_no_export_at_all(subject: Subject) -> None:
    """Nothing to do for nobody is no error."""
    with subject.ledger.together([]):
        pass


def keeps_whatever_changes_of_a_plan(subject: Subject) -> None:
    """Not only what a delivery changes of it: rows are rows, whatever rules there will be."""
    begin_all(subject)
    plans = plan_all(subject)
    changed = [
        replace(plans["acme"], final=False, content=content("b")),
        replace(plans["globex"], range=replace(plans["globex"].range, last=("x", 1)), bad_not_whole=7),
        replace(plans["initech"], state=PlanState.DELIVERED, hashes=("a", "b"), delivered_at=at(1)),
    ]
    with subject.storage.together(NAMES) as rows:
        for plan in changed:
            rows.update_plan(plan)
        assert [rows.plan(plan.id) for plan in changed] == changed
    with subject.storage.reading() as rows:
        assert [rows.plan(plan.id) for plan in changed] == changed


def keeps_whatever_changes_of_other_rows(subject: Subject) -> None:
    """However little it is: Python takes `1`, `1.0` and `True` for equal, JSON does not."""
    begin_all(subject)
    plans = plan_all(subject)
    attempts = [subject.ledger.attempt(plan, content(), STORE) for plan in plans.values()]
    exports = [subject.standing(name).export for name in NAMES]
    exports = [
        replace(exports[0], protected={"email drop": 1}, tries=3, failure=Failure("no", "", at(1))),
        replace(exports[1], begin_seal={"at": True}, stopped="\x00\x1a\ud800"),
        replace(exports[2], paused=True),
    ]
    lane = subject.standing("acme").live
    seals: list[dict[str, Json]] = [{"at": 1}, {"at": True}, {"at": 1.0}, {"at": [1, 2]}, {"at": [1, 2.0]}]
    for one in seals:
        with subject.storage.together(NAMES) as rows:
            rows.update_lane(replace(lane, seal=one, last_key=("x", 1)))
        with subject.storage.reading() as rows:
            assert repr(rows.lane("acme", LIVE_LANE)) == repr(replace(lane, seal=one, last_key=("x", 1)))
    changed = [
        replace(attempts[0], outcome=Outcome.REFUSED, error="\x00 no"),
        replace(attempts[1], content=content("b"), store="elsewhere"),
        attempts[2],
    ]
    with subject.storage.together(NAMES) as rows:
        assert rows.attempts(plans["acme"].id) == [attempts[0]]
        for export, attempt in zip(exports, changed, strict=True):
            rows.update_export(export)
            rows.update_attempt(attempt)
    with subject.storage.reading() as rows:
        assert [rows.export(name) for name in NAMES] == exports
        assert [rows.attempts(plans[name].id) for name in NAMES] == [[one] for one in changed]


# --- each for itself ---------------------------------------------------------------------------------


def keeps_trouble_of_one_export_from_the_others(subject: Subject) -> None:
    """A call that raises has changed nothing, and those before and after it count."""
    begin_all(subject)
    exports = {name: subject.standing(name).export for name in NAMES}
    subject.requests.pause("globex")
    paused = subject.standing("globex")
    with subject.ledger.together(NAMES) as rules:
        rules.plan(exports["acme"], draft())
        with pytest.raises(Conflict, match="paused"):
            rules.plan(exports["globex"], draft())
        rules.plan(exports["initech"], draft())
    assert [subject.standing(name).export.sequence for name in NAMES] == [1, 0, 1]
    assert subject.standing("globex") == paused


def takes_back_the_half_of_a_call_that_raises(subject: Subject) -> None:
    """A commit notes the attempt before it finds that the object cannot be there: then neither stays."""
    begin_all(subject)
    plan = plan_all(subject)[NAME]
    attempt = subject.answered(plan, Outcome.REFUSED)
    with subject.ledger.together(NAMES) as rules:
        for _ in range(2):
            with pytest.raises(Conflict, match="cannot have landed"):
                rules.commit(plan, attempt, Outcome.EXISTS)
            assert rules.attempts(plan.id) == [attempt]
        rules.fail("globex", "no", "")
    assert subject.ledger.attempts(plan.id) == [attempt]
    assert subject.standing().open_plan == plan
    assert subject.standing("globex").export.failure is not None


def gives_one_place_to_one_export_of_a_group(subject: Subject) -> None:
    """Of two that begin at the same place the second one is refused, also in the same transaction."""
    with subject.ledger.together(NAMES) as rules:
        rules.begin("acme", "acme", CLAIM, BEGIN, seal(0))
        with pytest.raises(NameTaken, match="'acme'"):
            rules.begin("globex", "acme", CLAIM, BEGIN, seal(0))
        rules.begin("initech", "acme", f"{CLAIM}2", BEGIN, seal(0))
    assert [subject.ledger.standing(name) is None for name in NAMES] == [False, True, False]


def gives_a_place_away_that_an_export_of_the_group_has_left(subject: Subject) -> None:
    """Places go from one to the other and back within a transaction, as in transactions of their own."""
    with subject.ledger.together(NAMES) as rules:
        rules.begin("acme", "acme", "1", BEGIN, seal(0))
        rules.relocate("acme", "acme", "2")
        rules.begin("globex", "acme", "1", BEGIN, seal(0))
        with pytest.raises(NameTaken, match="'acme'"):
            rules.relocate("globex", "acme", "2")
        rules.relocate("acme", "acme", "3")
        rules.relocate("globex", "acme", "2")
        rules.relocate("acme", "acme", "1")
        rules.begin("initech", "acme", "3", BEGIN, seal(0))
    assert [subject.standing(name).export.claim for name in NAMES] == ["1", "2", "3"]


def refuses_a_place_that_somebody_outside_has(subject: Subject) -> None:
    """Whoever is not among the exports of the transaction keeps what it has."""
    begin_all(subject)
    with subject.ledger.together(["new", "globex"]) as rules:
        with pytest.raises(NameTaken, match="'acme'"):
            rules.begin("new", "acme", f"{STORE}/acme", BEGIN, seal(0))
        with pytest.raises(NameTaken, match="'acme'"):
            rules.relocate("globex", "acme", f"{STORE}/acme")
    assert subject.ledger.standing("new") is None
    assert subject.standing("globex").export.claim == f"{STORE}/globex"


def refuses_to_change_an_export_that_was_not_named(subject: Subject) -> None:
    """Nobody waits for it, so nothing of it is safe."""
    begin_all(subject)
    plan = plan_all(subject)["globex"]
    before = everything(subject.storage, NAMES)
    with subject.ledger.together([NAME]) as rules:
        for call in (
            lambda: rules.begin("new", "acme", "new", BEGIN, seal(0)),
            lambda: rules.fail("globex", "no", ""),
            lambda: rules.attempt(plan, plan.content, STORE),
        ):
            with pytest.raises(Defect, match="not among those"):
                call()
        assert rules.standing("globex") == subject.ledger.standing("globex")
        with pytest.raises(ConfigError):
            rules.delivered("globex", 1)
    assert everything(subject.storage, NAMES) == before


def knows_whose_a_claim_is_that_it_was_to_expect(subject: Subject) -> None:
    """Also when that changes meanwhile: of two that begin at one place, or where somebody has moved away."""
    begin_all(subject)
    claims = [f"{STORE}/acme", "new", "\x00\x1a'\ud800", "left"]
    with subject.ledger.together(["one", "two", "three", "globex"]) as rules:
        rules.expect([*claims, *claims])
        for name, claim in (("one", claims[0]), ("three", claims[0])):
            with pytest.raises(NameTaken, match="'acme'"):
                rules.begin(name, "acme", claim, BEGIN, seal(0))
        rules.begin("one", "acme", claims[1], BEGIN, seal(0))
        with pytest.raises(NameTaken, match="'one'"):
            rules.begin("two", "acme", claims[1], BEGIN, seal(0))
        rules.begin("two", "acme", claims[2], BEGIN, seal(0))
        rules.relocate("globex", "acme", claims[3])
        rules.begin("three", "acme", f"{STORE}/globex", BEGIN, seal(0))
        rules.relocate("globex", "acme", "expected by nobody")
        rules.relocate("one", "acme", claims[3])
    found = {name: subject.standing(name).export.claim for name in ("one", "two", "three", "globex")}
    assert list(found.values()) == [claims[3], claims[2], f"{STORE}/globex", "expected by nobody"]


# --- all or nothing ----------------------------------------------------------------------------------


def undoes_all_when_an_error_comes_out(subject: Subject) -> None:
    """What several exports did in one transaction is there for all of them or for none."""
    begin_all(subject)
    plans = plan_all(subject)
    attempts = [subject.ledger.attempt(plan, plan.content, STORE) for plan in plans.values()]
    before = everything(subject.storage, NAMES)

    def commit_all(subject: Subject) -> None:
        with subject.ledger.together(NAMES) as rules:
            for plan, attempt in zip(plans.values(), attempts, strict=True):
                rules.commit(plan, attempt, Outcome.SUCCEEDED)

    for dies_at in range(15):
        with pytest.raises(Killed):
            commit_all(Subject(MortalStorage(subject.storage, dies_at), subject.clock))
        assert everything(subject.storage, NAMES) == before, dies_at
    immortal = MortalStorage(subject.storage, None)
    commit_all(Subject(immortal, subject.clock))
    assert (immortal.changes, immortal.transactions) == (15, 1)
    assert [subject.ledger.delivered(name, 1).state for name in NAMES] == [PlanState.DELIVERED] * 3


def shuts_out_a_group_that_outlives_a_restore(subject: Subject) -> None:
    """Not even reading is of use to it."""
    begin_all(subject)
    restored(subject.storage, subject.clock)
    before = everything(subject.storage, NAMES)
    with pytest.raises(LedgerError, match="was restored"), subject.ledger.together(NAMES):
        raise AssertionError
    assert everything(subject.storage, NAMES) == before


def begins_with_the_names_of_a_restore(subject: Subject) -> None:
    """An export that begins in a group after a restore has names from then on, as any other."""
    subject.clock.now = at(3)
    restored(subject.storage, subject.clock)
    again = Subject(subject.storage, subject.clock)
    with again.ledger.together(NAMES) as rules:
        begun = [rules.begin(name, "acme", name, BEGIN, seal(0)).export.names_from for name in NAMES]
    assert begun == [at(3)] * 3
    assert [again.standing(name).export.names_from for name in NAMES] == begun


def leaves_backfills_alone(subject: Subject) -> None:
    """Of several lanes of an export each goes on by itself."""
    begin_all(subject)
    lane = subject.requests.backfill(NAME, Window(at(-8), at(-4)), seal(0), redeliver=False)
    export = subject.export()
    with subject.ledger.together(NAMES) as rules:
        rules.advance(export, LIVE_LANE, at(4), seal(4))
        standing = rules.standing(NAME)
        assert standing is not None
        assert [one.id for one in standing.lanes] == [lane.id, LIVE_LANE]
        rules.advance(standing.export, lane.id, at(-4), seal(0))
        with pytest.raises(Conflict):
            rules.advance(export, LIVE_LANE, at(8), seal(8))
    lanes = {one.kind: one for one in subject.standing().lanes}
    assert (lanes[LaneKind.LIVE].watermark, lanes[LaneKind.BACKFILL].done) == (at(4), True)


GROUPS: Final[tuple[Callable[[Subject], None], ...]] = (
    takes_several_exports_through_the_protocol,
    sees_what_it_has_done_itself,
    keeps_whatever_changes_of_a_plan,
    keeps_whatever_changes_of_other_rows,
    goes_through_with_no_export_at_all,
    keeps_trouble_of_one_export_from_the_others,
    takes_back_the_half_of_a_call_that_raises,
    gives_one_place_to_one_export_of_a_group,
    gives_a_place_away_that_an_export_of_the_group_has_left,
    refuses_a_place_that_somebody_outside_has,
    knows_whose_a_claim_is_that_it_was_to_expect,
    refuses_to_change_an_export_that_was_not_named,
    undoes_all_when_an_error_comes_out,
    shuts_out_a_group_that_outlives_a_restore,
    begins_with_the_names_of_a_restore,
    leaves_backfills_alone,
)
