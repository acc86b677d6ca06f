"""What has to be true of a world once everything due was delivered, whatever died on the way.

It looks at the store, the source and the ledger's rows with its own eyes: zipfile, json and SQL.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import zipfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.crash.world import ACCOUNTS, BEGIN, LONGEST_RECORD_BYTES, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.crash.world import World

WHOLE_RECORD_BYTES = LONGEST_RECORD_BYTES // 2  # no summary is between this and the limit


class BrokenPromiseError(AssertionError):
    """Something was lost, doubled or changed."""


@dataclass(frozen=True)
class Planned:
    """A plan's row."""

    export: str
    lane: str
    sequence: int
    state: str
    name: str
    window: tuple[str, str]
    count: int
    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Held:
    """What is in one object."""

    ids: tuple[int, ...]
    bad: frozenset[int]
    content_sha256: str


def require(holds: bool, broken: str) -> None:  # noqa: FBT001
    """Raise unless it holds."""
    if not holds:
        raise BrokenPromiseError(broken)


# --- looking -------------------------------------------------------------------------------------------


def opened(name: str, data: bytes) -> Held:
    """An object's records; raises BrokenPromiseError unless it is a whole archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            require(archive.testzip() is None, f"{name} is damaged")
            (member,) = archive.namelist()
            body = archive.read(member)
    except (zipfile.BadZipFile, ValueError) as error:
        raise BrokenPromiseError(f"{name} is no whole archive: {error}") from error
    require(member == name.rpartition("/")[2].replace(".zip", ".json"), f"{name} holds {member}")
    require(body.endswith(b"\n"), f"{name} ends within a line")
    lines = [json.loads(line) for line in body.decode().split("\n")[:-1]]
    bad = frozenset(int(line["bad_record"]["id"]) for line in lines if "bad_record" in line)
    ids = tuple(int(line.get("Event ID") or line["bad_record"]["id"]) for line in lines)
    return Held(ids, bad, hashlib.sha256(body).hexdigest())


def plans(world: World) -> list[Planned]:
    """All plans there ever were, by sequence number; those given up come before their successors."""
    query = (
        "SELECT export, lane, sequence, state, name, window_start, window_end, content, hashes FROM plans"
        " ORDER BY sequence, created_at"
    )
    return [
        Planned(
            export=export,
            lane=lane,
            sequence=int(sequence),
            state=state,
            name=name,
            window=(start, end),
            count=json.loads(content)["count"],
            hashes=tuple(json.loads(hashes)),
        )
        for export, lane, sequence, state, name, start, end, content, hashes in world.ledger.rows(query)
    ]


def owed(world: World, account: str, first_hour: int, hours: int) -> dict[int, bool]:
    """The ids that have to be in this account's objects, each with whether in the form of a bad record."""
    first, end = (f"{BEGIN + timedelta(hours=count):%Y-%m-%dT%H:%M:%S.%fZ}" for count in (first_hour, hours))
    query = "SELECT id, created_at, length(summary) FROM audit_log WHERE account_id = ?"
    with closing(sqlite3.connect(world.source)) as connection:
        rows = connection.execute(query, (account,)).fetchall()
    return {
        number: time == UNREADABLE or length > WHOLE_RECORD_BYTES
        for number, time, length in rows
        if time == UNREADABLE or first <= time < end
    }


# --- judging -------------------------------------------------------------------------------------------


def check(world: World, hours: int, begin_hours: Mapping[str, int], foreign: str = "") -> None:
    """Each account's records between two hours are delivered: nothing lost, nothing doubled or left over.

    ``foreign`` is the name of an object that somebody else put in the way.
    """
    _check_left_over(world)
    _check_standing(world)
    objects = _objects(world, foreign)
    known = [plan for plan in plans(world) if plan.name != foreign]
    require(
        sorted(objects) == sorted(plan.name for plan in known),
        f"objects {sorted(objects)} are not those of the plans {known}",
    )
    for account, first_hour in begin_hours.items():
        mine = [plan for plan in known if plan.export == account]
        _check_plans(mine, objects)
        once = [objects[plan.name] for plan in mine if not plan.lane.startswith("replay")]
        wanted = owed(world, account, first_hour, hours)
        _check_nothing_lost(account, wanted, once)
        _check_nothing_doubled(once)
        _check_replays(mine, objects)


def check_restored(world: World, hours: int, recorded: set[str]) -> None:
    """Nothing is lost; what was delivered in ``recorded`` objects, which the copy knew, is not doubled."""
    _check_left_over(world)
    _check_standing(world)
    objects = _objects(world)
    for account in ACCOUNTS:
        mine = {name: held for name, held in objects.items() if f"/{account}/" in name}
        _check_nothing_lost(account, owed(world, account, 0, hours), mine.values())
        _check_nothing_doubled(held for name, held in mine.items() if name in recorded)
        first = {number for name, held in mine.items() if name in recorded for number in held.ids}
        again = {number for name, held in mine.items() if name not in recorded for number in held.ids}
        require(not first & again, f"records {first & again} came again")
    names = [plan.name for plan in plans(world) if plan.state == "delivered"]
    require(set(names) <= objects.keys(), f"{set(names) - objects.keys()} are delivered and not there")


def outcomes(world: World) -> Counter[str]:
    """How attempts ended, and how many of them."""
    return Counter(outcome for (outcome,) in world.ledger.rows("SELECT outcome FROM attempts"))


def _objects(world: World, foreign: str = "") -> dict[str, Held]:
    return {name: opened(name, data) for name, data in world.place.objects().items() if name != foreign}


def _check_left_over(world: World) -> None:
    left = [str(path.relative_to(world.folder)) for path in world.workspace.glob("*")]
    require(not left, f"the workspace still holds {left}")


def _check_standing(world: World) -> None:
    require(world.ledger.is_sound(), "the ledger is damaged")
    held = "stopped <> '' OR failure <> '' OR alarm <> ''"
    alarms = world.ledger.rows(f"SELECT name, stopped, failure, alarm FROM exports WHERE {held}")
    require(not alarms, f"alarms: {alarms}")


def _check_plans(mine: list[Planned], objects: dict[str, Held]) -> None:
    """Numbers without gaps, names that grow, windows in order, nothing open; objects as the plans say."""
    states = {plan.state for plan in mine}
    require(states <= {"delivered"}, f"plans are {states}")
    numbers = [plan.sequence for plan in mine]
    require(numbers == list(range(1, len(mine) + 1)), f"sequence numbers are {numbers}")
    for before, after in pairwise(mine):
        require(before.name < after.name, f"{after.name} comes after {before.name}")
    for lane in {plan.lane for plan in mine if not plan.lane.startswith("replay")}:
        windows = [plan.window for plan in mine if plan.lane == lane]
        require(windows == sorted(windows), f"windows of {lane} out of order: {windows}")
    for plan in mine:
        held = objects[plan.name]
        said, there = (plan.hashes, plan.count), ((held.content_sha256,), len(held.ids))
        require(said == there, f"{plan.name} is {there}, its plan says {said}")


def _check_nothing_lost(account: str, wanted: dict[int, bool], held: Iterable[Held]) -> None:
    """Every record that is owed is there, in the form it is owed in, and no other."""
    found = {number: number in one.bad for one in held for number in one.ids}
    require(not wanted.keys() - found.keys(), f"records {wanted.keys() - found} of {account} were lost")
    require(found == wanted, f"{account} got {found}, and is owed {wanted}")


def _check_nothing_doubled(held: Iterable[Held]) -> None:
    found = Counter(number for one in held for number in one.ids)
    doubled = sorted(number for number, count in found.items() if count > 1)
    require(not doubled, f"records {doubled} were doubled")


def _check_replays(mine: list[Planned], objects: dict[str, Held]) -> None:
    """Each replay holds what its originals hold, in their order."""
    originals = [objects[plan.name].content_sha256 for plan in mine if plan.lane == "live"]
    for lane in {plan.lane for plan in mine if plan.lane.startswith("replay")}:
        again = [objects[plan.name].content_sha256 for plan in mine if plan.lane == lane]
        require(again == originals[: len(again)], f"{lane} is not what was delivered before")


def unchanged(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """An object that once appeared stays as it is, for good."""
    for name, data in before.items():
        require(after.get(name) == data, f"{name} was changed or removed")
