"""Real processes die, by SIGKILL, at every step they take; a rerun delivers each record exactly once.

`make test` kills at every kind of step (some 125, in a run of some 940 steps) and at an even share of all;
`make proof` at every single one, in four stories (first run, later windows, backfill, replay), with a
directory, and with S3, Google Cloud Storage and Azure behind real sockets: some 2,200 steps each. Every test
prints at how many it killed.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.crash import promises
from tests.crash.child import SMALL_PART_BYTES, Nursery, nursery
from tests.crash.clouds import AzureContainer, GoogleBucket
from tests.crash.ledgers import PostgresDatabase
from tests.crash.stories import (
    ALL_LIVE,
    END_HOURS,
    FIRST_WINDOW,
    KILLED,
    MEANWHILE,
    NEXT_WINDOWS,
    STORIES,
    chosen,
    die_and_recover,
    finish,
    prepare,
    steps_of,
    sweep,
)
from tests.crash.world import ACCOUNTS, Bucket, Directory, New, World, run_at
from tests.kit import gcs_sessions
from tests.kit import proxy as proxies
from tests.kit.azure_stores import azure_before
from tests.kit.azurite import shared_azurite
from tests.kit.gcs_stores import cloud_for, is_completion, query_of
from tests.kit.postgres import shared_postgres
from tests.kit.proxy import LOSE_ANSWER, Fault, Proxy, Request, proxy_before
from tests.kit.servers import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Moto, moto_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.crash.steps import Step

SHARES = 4
CLOUDS = {  # with how it takes small objects, and large ones
    "s3_world": ("S3Store.put: before an answer", "S3Store._complete"),
    "gcs_world": ("GcsStore._put_at_once", "Chunks.complete"),
    "azure_world": ("AzureStore._put_at_once", "AzureStore._commit"),
}
IN_PUT = re.compile(r"(S3|Gcs|Azure)Store\.put")
MEMORY = "/dev/shm"
STOPPED = -signal.SIGSTOP
ALONE = replace(STORIES["windows"], command=(*run_at(3), "--export", "acme"))
FIRST_NAME = "audit/acme/audit_acme_20250301T010000Z.zip"
INSISTING = ("run", *(word for name in ACCOUNTS for word in ("--export", name)), "--as-of", run_at(1)[-1])

# A process that sleeps inside a transaction makes the others wait: that is the database's promise, not ours.
IN_TRANSACTION = re.compile(
    r"Ledger\.together/|(Ledger|Rules)\.\w+: (?!begins|ends|before BEGIN|after COMMIT|sqlite3)"
)


@pytest.fixture(scope="module")
def children() -> Iterator[Nursery]:
    with nursery() as running:
        yield running


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Moto, Proxy]]:
    """An S3 that takes small parts, and creates one object at a time."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("S3_UPLOAD_PART_MIN_SIZE", "1")
        with moto_server() as moto, proxy_before(moto.url) as proxy:
            yield moto, proxy


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory, if there is a place: a killed process loses nothing that it wrote, synced or not."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=MEMORY) as path:
        yield Path(path)


@pytest.fixture
def world(folder: Path, children: Nursery) -> World:
    return World(folder / "world", Directory(folder / "out"), children)


@pytest.fixture
def postgres_world(folder: Path, children: Nursery) -> World:
    """With its ledger in PostgreSQL."""
    ledger = PostgresDatabase(shared_postgres())
    return World(folder / "world", Directory(folder / "out"), children, ledger=ledger)


@pytest.fixture
def s3_world(folder: Path, children: Nursery, s3: tuple[Moto, Proxy]) -> World:
    moto, proxy = s3
    proxy.script = proxies.no_fault
    proxy.seen.clear()
    place = Bucket(moto.s3(), moto.new_bucket(), proxy.url, (ACCESS_KEY_ID, SECRET_ACCESS_KEY))
    return World(folder / "world", place, children)


@pytest.fixture
def gcs_world(folder: Path, children: Nursery, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """With a server that takes small chunks."""
    monkeypatch.setattr(gcs_sessions, "QUANTUM_BYTES", SMALL_PART_BYTES)
    with cloud_for() as cloud:
        yield World(folder / "world", GoogleBucket(cloud), children)


@pytest.fixture
def azure_world(folder: Path, children: Nursery) -> Iterator[World]:
    azurite = shared_azurite()
    with azure_before(azurite) as proxy:
        yield World(folder / "world", AzureContainer(azurite, proxy, "cw"), children)


def shared(steps: list[Step], share: int, of: int = SHARES) -> list[Step]:
    return steps[share::of]


def say(what: str, count: int, of: int) -> None:
    sys.stdout.write(f"{what}: killed at {count} of {of} steps\n")


# --- (a) one death, at every step -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_every_kind_of_step_a_run_loses_and_doubles_nothing(world: World, share: int) -> None:
    story = STORIES["windows"]
    prepare(world, story)
    steps = steps_of(world, story)
    some = shared(chosen(steps, spread=40), share)
    say("windows, directory", len(some), len(steps))
    sweep(world, story, some)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["begin", "backfill", "replay"])
def test_killed_at_the_first_run_a_backfill_or_a_replay_it_goes_on(world: World, name: str) -> None:
    story = STORIES[name]
    prepare(world, story)
    steps = steps_of(world, story)
    own = [step for step in steps if re.search(r"Rules\.begin|Requests|advance|__enter__|the end", step[0])]
    some = [*chosen(own, spread=1000), *steps[::25]]
    say(f"{name}, directory", len(some), len(steps))
    sweep(world, story, some)


@pytest.mark.slow
@pytest.mark.parametrize("share", range(2))
@pytest.mark.parametrize("store", CLOUDS)
def test_killed_at_every_kind_of_step_of_an_upload_to_a_cloud_it_is_delivered_once(
    request: pytest.FixtureRequest, store: str, share: int
) -> None:
    world: World = request.getfixturevalue(store)
    story = STORIES["windows"]
    prepare(world, story)
    steps = steps_of(world, story)
    uploads = [step for step in steps if IN_PUT.search(step[0])]
    for way in CLOUDS[store]:
        assert any(way in kind for kind, _ in uploads)
    elsewhere = steps[::80] if store == "s3_world" else []
    some = shared([*chosen(uploads, spread=1000), *elsewhere], share, of=2)
    say(f"windows, {store}", len(some), len(steps))
    sweep(world, story, some)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["windows", "begin"])
def test_killed_within_a_ledger_in_postgresql_it_goes_on(postgres_world: World, name: str) -> None:
    story = STORIES[name]
    prepare(postgres_world, story)
    steps = steps_of(postgres_world, story)
    own = [step for step in steps if re.search(r"Ledger\.|Rules\.", step[0])]
    some = shared(chosen(own, spread=1000), 0, of=3 if name == "windows" else 6)
    say(f"{name}, PostgreSQL", len(some), len(steps))
    sweep(postgres_world, story, some)


@pytest.mark.proof
@pytest.mark.timeout(0)
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("store", ["world", "postgres_world", *CLOUDS])
def test_killed_at_every_single_step_nothing_is_lost_or_doubled(
    request: pytest.FixtureRequest, store: str, name: str, share: int
) -> None:
    world: World = request.getfixturevalue(store)
    story = STORIES[name]
    prepare(world, story)
    steps = steps_of(world, story)
    say(f"{name}, {store}", len(shared(steps, share)), len(steps))
    sweep(world, story, shared(steps, share))


# --- (b) several deaths ---------------------------------------------------------------------------------


def kill_often(world: World, name: str, rounds: int, seed: int) -> None:
    """Two to four deaths of the same command, one after the other, at random steps."""
    story = STORIES[name]
    prepare(world, story)
    steps = steps_of(world, story)
    chance = random.Random(seed)
    for _ in range(rounds):
        fatal = chance.sample(steps, chance.randint(2, 4))
        try:
            die_and_recover(world, story, *fatal)
        except AssertionError as error:
            raise promises.BrokenPromiseError(f"killed at {fatal}: {error}") from error


@pytest.mark.slow
@pytest.mark.parametrize("name", ["windows", "backfill"])
def test_killed_again_while_it_recovers_it_loses_and_doubles_nothing(world: World, name: str) -> None:
    kill_often(world, name, rounds=12, seed=1)


@pytest.mark.proof
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("store", ["world", "s3_world"])
def test_killed_again_and_again_it_loses_and_doubles_nothing(
    request: pytest.FixtureRequest, store: str, seed: int
) -> None:
    world: World = request.getfixturevalue(store)
    for name in STORIES:
        kill_often(world, name, rounds=100, seed=seed)


@pytest.mark.slow
def test_killed_from_outside_in_the_middle_of_its_work_it_ends_all_the_same(
    folder: Path, children: Nursery
) -> None:
    """The program as people start it, with 60 windows to deliver, killed once some more objects are there."""
    world = World(folder / "world", Directory(folder / "out"), children, every="1m")
    world.appear(*(New(account, tuple(range(60)), summary_bytes=90) for account in ACCOUNTS))
    command = [sys.executable, "-m", "exporter", *run_at(1), "-c", str(world.config)]
    chance = random.Random(1)
    for _ in range(8):
        survivors = world.place.objects()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            enough = len(survivors) + chance.randint(0, 9)
            while len(world.place.objects()) < enough and process.poll() is None:
                pass
            process.kill()
        assert process.returncode == KILLED
        promises.unchanged(survivors, world.place.objects())
    finish(world, *run_at(1))
    assert len(world.place.objects()) == 120
    promises.check(world, 1, ALL_LIVE)


# --- (c) several processes at once ------------------------------------------------------------------------


def together(world: World, processes: int, rounds: int, deaths: int, seed: int) -> None:
    """Several processes on one ledger and one store; some of them die."""
    story = STORIES["windows"]
    prepare(world, story)
    steps = steps_of(world, story)
    chance = random.Random(seed)
    for _ in range(rounds):
        world.restore()
        fatal: list[Step | None] = [*chance.sample(steps, deaths), *[None] * (processes - deaths)]
        running = [world.start(*story.command, fatal=step) for step in fatal]
        ends = [world.wait(process_id) for process_id in running]
        assert ends[:deaths] == [KILLED] * deaths, (fatal, ends)
        assert ends[deaths:] == [0] * (processes - deaths), world.said()
        world.appear(*MEANWHILE)
        finish(world, *run_at(END_HOURS))
        promises.check(world, END_HOURS, story.begin_hours)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "deaths"), [(2, 0), (2, 1), (4, 0), (4, 2)])
def test_several_processes_at_once_deliver_each_record_once(
    world: World, processes: int, deaths: int
) -> None:
    together(world, processes, rounds=6, deaths=deaths, seed=1)


@pytest.mark.slow
def test_several_processes_at_once_on_a_ledger_in_postgresql_deliver_each_record_once(
    postgres_world: World,
) -> None:
    together(postgres_world, processes=4, rounds=3, deaths=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("store", CLOUDS)
def test_two_processes_at_once_deliver_each_record_to_a_cloud_once(
    request: pytest.FixtureRequest, store: str
) -> None:
    together(request.getfixturevalue(store), processes=2, rounds=3, deaths=0, seed=1)


@pytest.mark.proof
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("store", ["world", "s3_world"])
def test_several_processes_at_once_deliver_each_record_once_however_often(
    request: pytest.FixtureRequest, store: str, seed: int
) -> None:
    world: World = request.getfixturevalue(store)
    for processes, deaths in ((2, 0), (2, 1), (4, 0), (4, 2)):
        together(world, processes, rounds=50, deaths=deaths, seed=seed)


def sleep_through(world: World, steps: list[Step]) -> None:
    """A process stops at a step, another one does all the work, then the first one wakes up."""
    story = STORIES["windows"]
    for step in steps:
        world.restore()
        sleeper = world.start(*ALONE.command, fatal=step, signal_number=signal.SIGSTOP)
        stopped = world.wait(sleeper) == STOPPED
        finish(world, *story.command)
        if stopped:  # or threads had it that the step did not come, and it is through
            os.kill(sleeper, signal.SIGCONT)
            assert world.wait(sleeper) == 0, (step, world.said())
        world.appear(*MEANWHILE)
        finish(world, *run_at(END_HOURS))
        try:
            promises.check(world, END_HOURS, story.begin_hours)
        except AssertionError as error:
            raise promises.BrokenPromiseError(f"asleep at {step}: {error}") from error


@pytest.mark.slow
@pytest.mark.parametrize("share", range(2))
def test_a_process_that_wakes_up_after_another_did_its_work_changes_nothing(world: World, share: int) -> None:
    prepare(world, ALONE)
    steps = [step for step in steps_of(world, ALONE) if not IN_TRANSACTION.search(step[0])]
    sleep_through(world, shared(chosen(steps, spread=1000), share, of=2))


# --- (d) the store ----------------------------------------------------------------------------------------


@contextmanager
def listening_again(proxy: Proxy) -> Iterator[None]:
    """The proxy on its old address, after its server was closed."""
    host, port = proxy.url.removeprefix("http://").split(":")
    server = proxies._Server((host, int(port)), proxies._handler(proxy))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_store_that_is_down_for_a_while_gets_everything_in_order(
    folder: Path, children: Nursery, s3: tuple[Moto, Proxy]
) -> None:
    moto, _ = s3
    with proxy_before(moto.url) as own:
        place = Bucket(moto.s3(), moto.new_bucket(), own.url, (ACCESS_KEY_ID, SECRET_ACCESS_KEY))
        world = World(folder / "world", place, children)
        world.appear(*FIRST_WINDOW)
        finish(world, *run_at(1))
    world.appear(*NEXT_WINDOWS)
    delivered = place.objects()
    assert world.run(*run_at(3)) == 10
    assert place.objects() == delivered
    assert world.run(*run_at(3)) == 10  # blocked: it is not even tried
    with listening_again(own):
        finish(world, *INSISTING[:-1], run_at(END_HOURS)[-1])
    promises.unchanged(delivered, place.objects())
    promises.check(world, END_HOURS, ALL_LIVE)


@pytest.mark.parametrize("budget", [(), ("--budget", "1s")])
def test_an_object_whose_answer_was_lost_is_found_and_committed_without_alarm(
    s3_world: World, s3: tuple[Moto, Proxy], budget: tuple[str, ...]
) -> None:
    """By the same run after a pause or, when its time is over, by a later one."""
    met: set[str] = set()

    def script(request: Request) -> Fault | None:
        in_parts = request.method == "POST" and "uploadId" in request.path
        at_once = request.method == "PUT" and "partNumber" not in request.path
        name = request.path.partition("?")[0]
        if name in met or not (in_parts or at_once) or "/audit/" not in name:
            return None
        met.add(name)
        return LOSE_ANSWER

    s3[1].script = script
    s3_world.appear(*FIRST_WINDOW)
    assert s3_world.run(*run_at(1), *budget) == (10 if budget else 0)
    s3[1].script = script if not budget else proxies.no_fault
    finish(s3_world, *INSISTING)
    promises.check(s3_world, 1, ALL_LIVE)
    outcomes = promises.outcomes(s3_world)
    assert outcomes["unknown"] == outcomes["exists"] == len(met) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "decides"),
    [
        ("gcs_world", lambda sent: is_completion(sent) or query_of(sent).get("uploadType") == "multipart"),
        ("azure_world", lambda sent: sent.method == "PUT" and query_of(sent).get("comp") != "block"),
    ],
)
def test_an_object_of_another_cloud_whose_answer_was_lost_is_found_too(
    request: pytest.FixtureRequest, store: str, decides: Callable[[Request], bool]
) -> None:
    world: World = request.getfixturevalue(store)
    assert isinstance(world.place, (GoogleBucket, AzureContainer))
    met: set[str] = set()

    def script(sent: Request) -> Fault | None:
        query = query_of(sent)
        upload = query.get("name") or query.get("upload_id") or sent.path.partition("?")[0]
        if upload in met or not decides(sent):
            return None
        met.add(upload)
        return LOSE_ANSWER

    world.place.proxy.script = script
    world.appear(*FIRST_WINDOW)
    finish(world, *run_at(1))
    promises.check(world, 1, ALL_LIVE)
    outcomes = promises.outcomes(world)
    assert outcomes["unknown"] == outcomes["exists"] == len(met) > 1


def test_a_foreign_object_stops_its_export_until_it_is_resumed(world: World) -> None:
    meet_a_foreign_object(world)


@pytest.mark.slow
@pytest.mark.parametrize("store", CLOUDS)
def test_a_foreign_object_in_a_cloud_stops_its_export_until_it_is_resumed(
    request: pytest.FixtureRequest, store: str
) -> None:
    meet_a_foreign_object(request.getfixturevalue(store))


def meet_a_foreign_object(world: World) -> None:
    place = world.place
    place.reset({FIRST_NAME: b"somebody else's"})
    world.appear(*FIRST_WINDOW)
    assert world.run(*run_at(1)) == 10
    assert "foreign object" in world.said()
    assert {name.split("/")[1] for name in place.objects()} == {"acme", "globex"}
    world.appear(*NEXT_WINDOWS)
    assert world.run(*run_at(3)) == 10
    assert [name for name in place.objects() if "/acme/" in name] == [FIRST_NAME]
    assert world.run("resume", "acme") == 0
    finish(world, *run_at(END_HOURS))
    assert place.objects()[FIRST_NAME] == b"somebody else's"
    promises.check(world, END_HOURS, ALL_LIVE, foreign=FIRST_NAME)


@pytest.mark.parametrize("ledger", ["world", "postgres_world"])
@pytest.mark.parametrize(
    "kind", ["Pipeline.send/DirectoryStore.put: after os.link", "Pipeline.attempt/Ledger.together: ends"]
)
def test_a_ledger_from_an_older_copy_loses_nothing_and_doubles_only_what_came_after_the_copy(
    request: pytest.FixtureRequest, ledger: str, kind: str
) -> None:
    """The copy was made while a plan was open: one whose object is there, or one that is still to come."""
    world: World = request.getfixturevalue(ledger)
    story = STORIES["windows"]
    prepare(world, story)
    world.restore()
    assert world.run(*story.command, fatal=(kind, 3)) == KILLED
    world.ledger.save()
    recorded = {plan.name for plan in promises.plans(world) if plan.state == "delivered"}
    finish(world, *story.command)
    world.appear(*MEANWHILE)
    world.ledger.restore()
    delivered = world.place.objects()
    assert world.run("ledger", "restored") == 0
    finish(world, *run_at(END_HOURS))
    promises.unchanged(delivered, world.place.objects())
    promises.check_restored(world, END_HOURS, recorded)


# --- (e) does it bite? --------------------------------------------------------------------------------------

HARMFUL = {
    "commit_before_put": r"Pipeline.send/Rules.commit: ends",
    "put_before_attempt": r"DirectoryStore.put: ends",
    "plans_forgotten": r"DirectoryStore.put: ends",
    "sealed_again": r"Pipeline.prepare/Ledger.together: ends",
    "two_transactions": r"Pipeline.settle/Ledger.together: after COMMIT",
    "published_unfinished": r"after os.fsync",
    "never_swept": r"Workspace.folder: ends",
}


@pytest.mark.parametrize("mutant", HARMFUL)
def test_a_product_without_one_of_its_rules_is_caught_by_killing_it(world: World, mutant: str) -> None:
    prepare(world, STORIES["windows"])
    world.mutant = mutant
    steps = [step for step in steps_of(world, STORIES["windows"]) if re.search(HARMFUL[mutant], step[0])]
    with pytest.raises(promises.BrokenPromiseError):
        sweep(world, STORIES["windows"], steps)


def test_a_product_that_replaces_files_is_caught_by_a_foreign_one(world: World) -> None:
    world.mutant = "files_replaced"
    with pytest.raises(AssertionError):
        meet_a_foreign_object(world)


def test_a_product_that_commits_whatever_happened_meanwhile_is_caught_by_a_late_process(world: World) -> None:
    prepare(world, ALONE)
    world.mutant = "conflicts_ignored"
    with pytest.raises(AssertionError):
        sleep_through(world, [("Pipeline.send/DirectoryStore.put: ends", 1)])
