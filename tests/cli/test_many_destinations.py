"""Many destinations: each export keeps its own pace, and one that fails or hangs holds back nobody else."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from threading import Event
from typing import TYPE_CHECKING, Final, Protocol
from zipfile import ZipFile

import pytest

from exporter import delivering, turns
from exporter.archive import suffix
from exporter.destinations.directory import DirectoryStore
from exporter.destinations.s3 import proofs
from tests.crash.clouds import AzureContainer, GoogleBucket
from tests.crash.world import Bucket
from tests.kit.azure_stores import azure_before
from tests.kit.azurite import Azurite, shared_azurite
from tests.kit.command_line import DAY, TODAY, Vendor, rfc3339
from tests.kit.gcs_stores import cloud_for
from tests.kit.proxy import TIMEOUT_S, Fault, no_fault, proxy_before
from tests.kit.servers import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Moto, shared_moto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.kit.gcs_stores import Cloud
    from tests.kit.proxy import Proxy, Request

DAYS: Final = 9
BEGIN: Final = TODAY - timedelta(days=DAYS)
KEYS: Final = {"access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY, "region": REGION}


# --- a store that was gone for a week ------------------------------------------------------------------


class Remote(Protocol):
    """A place that a customer can take away and give back, with all that was in it."""

    settings: Mapping[str, object]

    def objects(self) -> dict[str, bytes]:
        """What is in it, by name."""
        ...

    def vanish(self) -> None: ...

    def come_back(self) -> None: ...


class S3Remote(Bucket):
    """A bucket that is deleted and made again."""

    def __init__(self, moto: Moto, proxy: Proxy) -> None:
        super().__init__(moto.s3(), moto.new_bucket(), proxy.url, (ACCESS_KEY_ID, SECRET_ACCESS_KEY))
        self._kept: dict[str, bytes] = {}

    def vanish(self) -> None:
        self._kept = self.objects()
        self.reset({})
        self._client.delete_bucket(Bucket=self._bucket)

    def come_back(self) -> None:
        self._client.create_bucket(Bucket=self._bucket)
        self.reset(self._kept)


class GcsRemote(GoogleBucket):
    """A bucket that is deleted and restored."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self._bucket = self._storage.buckets[self._name]

    def vanish(self) -> None:
        del self._storage.buckets[self._name]

    def come_back(self) -> None:
        self._storage.buckets[self._name] = self._bucket


class AzureRemote(AzureContainer):
    """A container that is deleted and made again."""

    def __init__(self, azurite: Azurite, proxy: Proxy) -> None:
        super().__init__(azurite, proxy)
        self._kept: dict[str, bytes] = {}

    def vanish(self) -> None:
        self._kept = self.objects()
        with self._azurite.container(self._name) as client:
            client.delete_container()

    def come_back(self) -> None:
        with self._azurite.container(self._name) as client:
            client.create_container()
        self.reset(self._kept)


@contextmanager
def s3() -> Iterator[Remote]:
    moto = shared_moto()
    with proxy_before(moto.url) as proxy:
        yield S3Remote(moto, proxy)


@contextmanager
def gcs() -> Iterator[Remote]:
    with cloud_for() as cloud:
        yield GcsRemote(cloud)


@contextmanager
def azure() -> Iterator[Remote]:
    azurite = shared_azurite()
    with azure_before(azurite) as proxy:
        yield AzureRemote(azurite, proxy)


@dataclass(frozen=True)
class Kind:
    """What one export of the account asks for, and what it then has."""

    every_h: int
    format: str
    archive: str
    body: str = "ndjson"

    @property
    def settings(self) -> dict[str, str]:
        return {
            "every": f"{self.every_h}h",
            "format": self.format,
            "archive": self.archive,
            "body": self.body,
        }

    def windows(self, until_day: int) -> int:
        return until_day * 24 // self.every_h

    def ids(self, name: str, data: bytes) -> list[str]:
        """The ids of an object's records, in order, if it is what was asked for."""
        assert name.endswith(suffix(self.archive, self.body))
        text = _member(data) if self.archive == "zip" else gzip.decompress(data)
        records = json.loads(text) if self.body == "json_array" else [*map(json.loads, text.splitlines())]
        return [str(record["id" if self.format == "native" else "Event ID"]) for record in records]


def _member(archive: bytes) -> bytes:
    with ZipFile(BytesIO(archive)) as opened:
        return opened.read(opened.namelist()[0])


DAILY: Final = Kind(24, "standard", "zip")
OFTEN: Final = Kind(6, "native", "gzip")
REMOTES: Final[Mapping[str, tuple[Callable[[], AbstractContextManager[Remote]], Kind]]] = {
    "s3": (s3, Kind(12, "standard", "gzip", "json_array")),
    "gcs": (gcs, Kind(8, "native", "zip")),
    "azure": (azure, Kind(24, "standard", "gzip")),
}


@pytest.fixture
def acme(tmp_path: Path) -> Vendor:
    """One account with two folders of different pace; a record every five hours, for nine days."""
    vendor = Vendor(tmp_path)
    vendor.settings["defaults"]["start"] = rfc3339(BEGIN)
    vendor.export("acme", name="acme-daily", **DAILY.settings)
    vendor.export("acme", name="acme-often", destination=folder("often"), **OFTEN.settings)
    for hours in range(0, DAYS * 24, 5):
        vendor.insert("acme", BEGIN + timedelta(hours=hours))
    return vendor


def folder(path: str) -> dict[str, object]:
    return {"type": "directory", "path": path}


def files_in(vendor: Vendor, path: str) -> dict[str, bytes]:
    root = vendor.folder / path
    return {
        str(file.relative_to(root)): file.read_bytes() for file in root.rglob("audit_*") if file.is_file()
    }


def ids_in(kind: Kind, objects: Mapping[str, bytes]) -> list[str]:
    """Of all records, in the order of the objects' names and in that of each object."""
    return [one for name in sorted(objects) for one in kind.ids(name, objects[name])]


@pytest.mark.slow
@pytest.mark.parametrize("absent", REMOTES)
def test_a_store_that_was_gone_for_a_week_catches_up_in_order(
    acme: Vendor, absent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the account's other clouds and folders keep their pace; nothing is lost, or double."""
    monkeypatch.setattr(delivering, "FIRST_RETRY", timedelta(0))  # each of the runs tries again
    every_id = [f"{number}" for number in range(1, 1 + len(range(0, DAYS * 24, 5)))]
    with ExitStack() as stack:
        remotes = {name: stack.enter_context(open_()) for name, (open_, _) in REMOTES.items()}
        for name, (_, kind) in REMOTES.items():
            acme.export("acme", name=name, destination=dict(remotes[name].settings), **kind.settings)
        acme.start()
        for day in range(1, DAYS + 1):
            if day == 2:
                remotes[absent].vanish()
            if day == DAYS:
                remotes[absent].come_back()
            answer = acme("run", "--json", "--as-of", rfc3339(BEGIN + timedelta(days=day)))
            gone = 2 <= day < DAYS
            assert list(json.loads(answer.out)["failing"]) == [absent] * gone
            assert answer.status == (10 if gone else 0)
            assert len(files_in(acme, "out")) == DAILY.windows(day)
            assert len(files_in(acme, "often")) == OFTEN.windows(day)
            for name, (_, kind) in REMOTES.items():
                assert (acme.row(name)["state"] == "blocked") is (gone and name == absent)
                assert acme.row(name)["sequence"] == kind.windows(day) or (gone and name == absent)
        for name, (_, kind) in REMOTES.items():
            objects = remotes[name].objects()
            assert len(objects) == kind.windows(DAYS)
            assert ids_in(kind, objects) == every_id
    assert ids_in(DAILY, files_in(acme, "out")) == every_id
    assert ids_in(OFTEN, files_in(acme, "often")) == every_id
    acme.assert_nothing_half_made()


def test_an_export_of_an_account_fails_alone(acme: Vendor) -> None:
    """The same account, records and run: what one destination refuses, the others have."""
    (acme.folder / "broken").mkdir()
    (acme.folder / "broken" / "audit").write_text("a file where a folder is needed")
    acme.export("acme", name="acme-broken", destination=folder("broken"))
    acme.start()
    assert acme("run").status == 10
    assert len(files_in(acme, "out")) == DAILY.windows(DAYS)
    assert len(files_in(acme, "often")) == OFTEN.windows(DAYS)
    assert acme.row("acme-broken")["blocked"]
    for name in ("acme-daily", "acme-often"):
        assert acme.row(name)["state"] == "up to date"


def test_a_blocked_export_is_tried_ever_less_often_up_to_the_length_of_its_window(acme: Vendor) -> None:
    (acme.folder / "broken").mkdir()
    (acme.folder / "broken" / "audit").write_text("a file where a folder is needed")
    acme.export("acme", name="acme-broken", destination=folder("broken"), every="15m")
    acme.start()
    pauses_s = []
    for _ in range(6):
        assert acme("run", "--export", "acme-broken").status == 10
        row = acme.row("acme-broken")
        pause = datetime.fromisoformat(row["retry_at"]) - datetime.fromisoformat(row["error_at"])
        pauses_s.append(round(pause.total_seconds()))
    assert pauses_s == [60, 120, 240, 480, 900, 900]
    answer = acme("run")
    assert "acme-broken: waits until" in answer.out
    assert acme.row("acme-broken")["attempts"] == 6


def test_what_surprises_check_at_one_destination_hides_none_of_the_others(
    acme: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in one driver is that destination's finding, without the words that may hold a secret."""
    check = DirectoryStore.check

    def surprised(store: DirectoryStore, probe: str) -> object:
        if store.name.endswith("/often"):
            raise KeyError("hunter2")
        return check(store, probe)

    monkeypatch.setattr(DirectoryStore, "check", surprised)
    acme.start()
    answer = acme("check")
    assert answer.status == 10
    assert f"ok      acme-daily: file://{acme.out}: created" in answer.out
    assert (
        f"error   acme-often: file://{acme.folder}/often: internal error: KeyError in surprised" in answer.out
    )
    assert "hunter2" not in answer.out + answer.err


# --- many that hang ------------------------------------------------------------------------------------

HUNG: Final = 180  # more than a run has places
HEALTHY: Final = 30
MOST_HUNG: Final = 32
"""With what may be under way at one server by then (96), fewer than all that hang."""


@dataclass
class Crowd:
    """Exports with buckets of their own: some at a server that takes connections and never answers."""

    vendor: Vendor
    hung: Proxy
    healthy_done: Event


@pytest.fixture
def crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    """The hanging ones come first in every order, and hang until the healthy ones have been delivered."""
    monkeypatch.setattr(turns, "PATIENCE_S", 0.0)  # whatever gets no answer has hung
    monkeypatch.setattr(turns, "MOST_HUNG", MOST_HUNG)
    moto, done, delivered = shared_moto(), Event(), Counter[str]()
    vendor = Vendor(tmp_path)
    vendor.settings["defaults"]["start"] = rfc3339(TODAY - DAY)

    def count(request: Request) -> Fault | None:
        delivered[request.path] += 1
        if len(delivered) == HEALTHY:
            done.set()
        return None

    with ExitStack() as stack:
        hung = stack.enter_context(
            proxy_before(moto.url, lambda _: Fault(forward=False, hold=done, cut=True))
        )
        healthy = stack.enter_context(proxy_before(moto.url, count))
        for number in range(HUNG + HEALTHY):
            name, server = (f"a-{number:03}", hung) if number < HUNG else (f"b-{number:03}", healthy)
            bucket = moto.new_bucket()
            place = {"type": "s3", "bucket": bucket, "endpoint_url": server.url, "path_style": True}
            proofs._CREATES_ONCE.add(f"s3://{bucket}@{server.url.removeprefix('http://')}")
            vendor.export(name, destination=place | KEYS)
            vendor.insert(name, TODAY - timedelta(hours=5))
        vendor.start()
        yield Crowd(vendor, hung, done)
        done.set()


@pytest.mark.slow
def test_exports_whose_server_hangs_hold_back_nobody_and_are_tried_again(crowd: Crowd) -> None:
    """More buckets than a run has places, of a server that never answers: the others are delivered meanwhile.

    The run ends long before all of them have timed out, and once the server is back all get their records.
    """
    assert crowd.vendor("run", "--as-of", rfc3339(TODAY - DAY)).status == 0  # all of them begin
    began = time.monotonic()
    answer = crowd.vendor("run", "--json", "--workers", "1")  # of more, each tries as many at once
    assert time.monotonic() - began < TIMEOUT_S  # of the server that hangs: nobody waited for that
    report = json.loads(answer.out)
    assert sorted(entry["export"] for entry in report["objects"]) == [
        f"b-{number:03}" for number in range(HUNG, HUNG + HEALTHY)
    ]
    assert (len(report["failing"]), answer.status) == (HUNG, 10)
    asked = len(crowd.hung.seen)
    assert MOST_HUNG <= asked < HUNG
    rows = json.loads(crowd.vendor("status", "--json").out)["exports"]
    assert Counter(row["state"] for row in rows) == {
        "blocked": asked,
        "failing": HUNG - asked,
        "up to date": HEALTHY,
    }
    crowd.hung.script = no_fault
    assert crowd.vendor("run").status == 10  # those that wait for their next try
    assert len(crowd.hung.seen) - asked == HUNG - asked
    everybody = [word for number in range(HUNG) for word in ("--export", f"a-{number:03}")]
    assert crowd.vendor("run", *everybody).status == 0
    assert len(crowd.hung.seen) == HUNG + asked
