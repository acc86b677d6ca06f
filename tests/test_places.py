"""Places: a share for everything that can hang together, room for all others, and nobody forgotten."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from exporter import places
from exporter.destinations.azure.settings import AzureSettings
from exporter.destinations.directory import DirectorySettings
from exporter.destinations.gcs.settings import GcsSettings
from exporter.destinations.object_store import ObjectStoreDestination
from exporter.destinations.s3.settings import S3Settings
from exporter.network.guard import Guard
from exporter.notation.secret import Secret
from exporter.places import Places
from tests.test_runner import job

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.destinations.object_store import ObjectStoreSettings
    from exporter.pipeline import Job

ROOM = 1000


def started(line: Places, moment: float = 0.0) -> list[str]:
    """Everybody who can start now, in order."""
    names: list[str] = []
    while (one := line.next(moment)) is not None:
        names.append(one.name)
    return names


def numbered(word: str, count: int, store: str) -> list[Job]:
    return [job(f"{word}{number}", store.format(number)) for number in range(count)]


def names_of(jobs: Iterable[Job]) -> list[str]:
    return [one.name for one in jobs]


# --- shares ------------------------------------------------------------------------------------------


def test_a_store_gets_half_an_endpoint_three_quarters_and_trouble_a_quarter() -> None:
    one_store = numbered("store", 20, "one")
    one_endpoint = numbered("endpoint", 20, "s3://{}@minio")
    trouble = numbered("trouble", 20, "s3://t{}")
    assert len(started(Places(16, ROOM, one_store, ()))) == 8
    assert len(started(Places(16, ROOM, one_endpoint, ()))) == 12
    assert len(started(Places(16, ROOM, trouble, names_of(trouble)))) == 4
    everything = Places(16, ROOM, [*trouble, *one_store], names_of(trouble))
    assert len(started(everything)) == 4 + 8


def test_of_four_starts_one_is_of_an_export_in_trouble() -> None:
    """Else those that are refused at once would have all the renderers until they are through."""
    bad, good = numbered("bad", 3, "s3://b{}"), numbered("good", 9, "s3://g{}")
    order = started(Places(64, ROOM, [*bad, *good], names_of(bad)))
    assert [name.rstrip("0123456789") for name in order] == ["good", "good", "good", "bad"] * 3


def test_whoever_is_alone_has_all_the_turns() -> None:
    bad = numbered("bad", 3, "s3://b{}")
    assert started(Places(64, ROOM, bad, names_of(bad))) == names_of(bad)


def test_a_share_ends_with_its_part_of_the_workspace() -> None:
    """Few large archives of a store that does not take them leave room for those of the others."""
    large, small = numbered("large", 5, "slow"), numbered("small", 5, "s3://{}")
    line = Places(64, ROOM, large, ())
    first = line.next(0)
    assert first is not None
    line.upload(first, ROOM // 2, 0)
    assert started(line) == []
    for one in small:
        line.wait(one)
    assert started(line) == names_of(small)
    line.leave(first)
    assert started(line) == names_of(large[1:])


def test_an_endpoint_at_which_attempts_hang_is_trouble_until_one_succeeds() -> None:
    exports = numbered("x", 40, "s3://{}@minio")
    line = Places(64, ROOM, exports, ())
    for _ in range(places.HANGS):
        one = line.next(0)
        assert one is not None
        line.failed(one, hung=True)
        line.leave(one)
    waiting = started(line)
    assert len(waiting) == 16
    line.succeeded(exports[places.HANGS])
    line.leave(exports[places.HANGS])
    assert len(waiting) + len(started(line)) == 40 - places.HANGS


@pytest.mark.parametrize(
    ("settings", "endpoint"),
    [
        (
            S3Settings(type="s3", bucket="b", endpoint_url="https://Minio.example.com:9000/"),
            "minio.example.com:9000",
        ),
        (S3Settings(type="s3", bucket="b", region="eu-west-1"), "s3 eu-west-1"),
        (GcsSettings(type="gcs", bucket="bbb"), "https://storage.googleapis.com"),
        (
            AzureSettings(
                type="azure",
                container="ccc",
                account_url="https://Acme.blob.core.windows.net",
                sas=Secret("sp=c&sig=x"),
            ),
            "https://acme.blob.core.windows.net",
        ),
        (DirectorySettings(type="directory", path=Path("/out")), "file:///out"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.type,
)
def test_buckets_of_one_server_have_one_endpoint(settings: ObjectStoreSettings, endpoint: str) -> None:
    assert ObjectStoreDestination(settings.open(Guard()), "prefix").endpoint == endpoint


# --- slow uploads ------------------------------------------------------------------------------------


def test_an_upload_that_takes_long_leaves_its_place_and_its_room() -> None:
    slow, others = numbered("slow", 4, "s3://{}"), numbered("other", 2, "s3://o{}")
    line = Places(4, ROOM, [*slow, *others], ())
    assert started(line) == names_of(slow)
    for one in slow:
        line.upload(one, ROOM // 4, 100.0)
    assert started(line, 100.0) == []
    assert line.slow_at() == 100.0 + places.SLOW_S
    assert started(line, 100.0 + places.SLOW_S) == names_of(others)


def test_as_many_uploads_may_be_slow_as_there_are_places() -> None:
    line = Places(4, ROOM, numbered("slow", 20, "s3://{}"), ())
    moment, under_way = 0.0, 0
    for _ in range(5):
        for name in started(line, moment):
            line.upload(job(name, f"s3://{name.removeprefix('slow')}"), 1, moment)
            under_way += 1
        moment += places.SLOW_S
    assert (under_way, line.slow_at()) == (8, None)


# --- nobody is forgotten -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_nobody_waits_while_there_is_room_in_all_their_shares(seed: int) -> None:
    """Whatever is shared by whom, fails, hangs and recovers: all get their turns, and no share overflows."""
    choices = Random(seed)
    stores = ["a@x", "b@x", "c@x", "d@y", "e@y", "f", "g"]
    exports = [job(f"{number}", choices.choice(stores)) for number in range(60)]
    line = Places(8, ROOM, exports, choices.sample(names_of(exports), 20))
    steps = dict.fromkeys(names_of(exports), 3)
    under_way: list[Job] = []
    moment = 0.0
    while any(steps.values()):
        moment += choices.choice((0.0, 1.0, 4.0))
        while (one := line.next(moment)) is not None:
            under_way.append(one)
            if choices.random() < 0.8:
                line.upload(one, choices.randrange(ROOM // 4), moment)
        assert all(shut_out(line, waiting) for waiting in line.waiting())
        ended = under_way.pop(choices.randrange(len(under_way)))
        line.leave(ended)
        steps[ended.name] -= 1
        if choices.random() < 0.5:
            line.failed(ended, hung=choices.random() < 0.7)
        else:
            line.succeeded(ended)
        if steps[ended.name]:
            line.wait(ended)
    assert line.waiting() == []


def shut_out(line: Places, waiting: Job) -> bool:
    """Whether one of this export's shares is used up, and none is overdrawn."""
    shares = [line._all, *line._shares_of(waiting)]
    assert all(share.taken <= share.places for share in shares)
    return any(share.room <= 0 for share in shares)
