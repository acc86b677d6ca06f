"""Every object store keeps the one contract; and what the portable destination adds above them."""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from exporter.destinations.directory import DirectoryStore
from exporter.destinations.memory import Fault, MemoryStore
from exporter.destinations.object_store import ObjectStoreDestination
from exporter.destinations.probe import PROBE
from exporter.destinations.s3 import proofs
from exporter.destinations.s3.store import S3Store
from exporter.destinations.uploads import Body
from exporter.errors import ConfigError, NotSent, ObjectExists, OutcomeUnknown, Refused
from exporter.model import Level
from tests.contracts.object_store import CONTRACT, NAME, Subject, ignore, package_of
from tests.kit.azure_stores import azure_before, creating_subject
from tests.kit.azurite import shared_azurite
from tests.kit.gcs_server import gcs_server, shared_gcs
from tests.kit.gcs_stores import plain_store
from tests.kit.proxy import Fault as ProxyFault
from tests.kit.proxy import proxy_before, s3_error
from tests.kit.s3_stores import IN_PARTS, LOOPBACK, new_bucket_behind
from tests.kit.servers import new_certificate, shared_moto

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exporter.destinations.s3.settings import S3Settings
    from exporter.model import Package, Receipt
    from tests.kit.gcs_server import Gcs

MIB = 1 << 20


def memory(folder: Path) -> Iterator[Subject]:
    store = MemoryStore()
    yield Subject(store, lambda name: store.objects[name].data, lambda: set(store.objects), folder)


def directory(folder: Path) -> Iterator[Subject]:
    root = folder / "root"

    def names() -> set[str]:
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    yield Subject(DirectoryStore(root), lambda name: (root / name).read_bytes(), names, folder)


def s3(folder: Path) -> Iterator[Subject]:
    with proxy_before(shared_moto().url) as proxy:
        yield s3_subject(new_bucket_behind(proxy), folder)


def s3_https(folder: Path) -> Iterator[Subject]:
    authority, tls = new_certificate(folder)
    with proxy_before(shared_moto().url, tls=tls) as proxy:
        yield s3_subject(new_bucket_behind(proxy, ca_file=authority), folder)


def s3_subject(settings: S3Settings, folder: Path) -> Subject:
    bucket, client = settings.bucket, shared_moto().s3()
    proofs._CREATES_ONCE.add(settings.store_name)  # as after its first object
    return Subject(
        S3Store(settings, LOOPBACK, limits=IN_PARTS),
        lambda name: client.get_object(Bucket=bucket, Key=name)["Body"].read(),
        lambda: {found["Key"] for found in client.list_objects_v2(Bucket=bucket).get("Contents", [])},
        folder,
        large_bytes=11 * MIB,
    )


def gcs(folder: Path) -> Iterator[Subject]:
    yield from _gcs(shared_gcs(), folder)


def gcs_https(folder: Path) -> Iterator[Subject]:
    authority, tls = new_certificate(folder)
    with gcs_server(tls) as server:
        yield from _gcs(server, folder, tls, authority)


def _gcs(
    server: Gcs, folder: Path, tls: ssl.SSLContext | None = None, ca_file: Path | None = None
) -> Iterator[Subject]:
    with plain_store(server, tls, ca_file) as (store, bucket):
        yield Subject(
            store,
            lambda name: server.objects(bucket)[name].data,
            lambda: set(server.objects(bucket)),
            folder,
        )


def azure(folder: Path) -> Iterator[Subject]:
    with azure_before(shared_azurite()) as proxy:
        yield creating_subject(proxy, folder)


def azure_https(folder: Path) -> Iterator[Subject]:
    authority, tls = new_certificate(folder)
    with azure_before(shared_azurite(), tls=tls) as proxy:
        yield creating_subject(proxy, folder, ca_file=authority)


@pytest.fixture(
    params=[memory, directory, s3, s3_https, gcs, gcs_https, azure, azure_https],
    ids=lambda make: make.__name__,
)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    yield from request.param(tmp_path)


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_every_store_keeps_the_contract(promise: Callable[[Subject], None], subject: Subject) -> None:
    promise(subject)


def test_a_claim_is_the_one_place_of_an_accounts_names() -> None:
    destination = ObjectStoreDestination(MemoryStore("memory://m"), "a/b/")
    assert destination.store == "memory://m"
    assert destination.prefix == "a/b/"
    assert destination.claim("Acme Ltd") == "memory://m/a/b/audit/Acme_20Ltd"


def test_accounts_that_differ_by_case_share_a_claim_where_the_store_cannot_tell_them_apart(
    tmp_path: Path,
) -> None:
    (tmp_path / ".INCOMING").mkdir()  # what `.incoming` is also called on such a file system
    folding = ObjectStoreDestination(DirectoryStore(tmp_path), "Vendor")
    assert folding.claim("ACME") == folding.claim("acme")
    telling = ObjectStoreDestination(DirectoryStore(tmp_path / "other"), "Vendor")
    assert telling.claim("ACME") != telling.claim("acme")


def test_an_account_whose_files_would_be_too_long_for_a_folder_is_refused(tmp_path: Path) -> None:
    account = "a" * 230
    with pytest.raises(ConfigError, match=r"cannot hold names as long as.* it takes 255"):
        ObjectStoreDestination(DirectoryStore(tmp_path), "").claim(account)
    assert ObjectStoreDestination(MemoryStore(), "").claim(account).endswith(account)


@pytest.mark.parametrize(
    ("account", "message", "hint"),
    [
        ("", "the account is empty", "give the account its id in the source"),
        (
            "; " * 200,
            f"the object name for account {'; ' * 200!r} has 2444 bytes, and stores take 1024",
            "shorten the destination's prefix, or the account, which is in the name twice",
        ),
    ],
)
def test_an_account_that_cannot_be_in_a_name_is_refused_with_what_to_do(
    account: str, message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        ObjectStoreDestination(MemoryStore(), "").claim(account)
    assert (refused.value.message, refused.value.hint) == (message, hint)


def test_the_longest_account_that_may_be_claimed_can_be_delivered_at_any_time(tmp_path: Path) -> None:
    longest = 255 - len("audit__20261119T040000Z_9999.jsonl.gz")
    destination = ObjectStoreDestination(DirectoryStore(tmp_path / "root"), "")
    destination.claim("a" * longest)
    with pytest.raises(ConfigError):
        destination.claim("a" * (longest + 1))
    name = f"audit/{'a' * longest}/audit_{'a' * longest}_20261119T040000Z_9999.jsonl.gz"
    destination.deliver(package_of(tmp_path, b"x", name), ignore)


@pytest.mark.parametrize("metadata", [{"plan": "é"}, {"plan": "a\nb"}, {"plan": "x" * 2045}])
def test_metadata_that_a_store_would_refuse_is_never_sent(metadata: dict[str, str], tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(Refused, match="metadata"):
        ObjectStoreDestination(store, "").deliver(package_of(tmp_path, b"x", metadata=metadata), ignore)
    assert store.objects == {}


def test_metadata_of_two_kilobytes_is_stored(tmp_path: Path) -> None:
    store = MemoryStore()
    metadata = {"plan": "x" * 2044}
    ObjectStoreDestination(store, "").deliver(package_of(tmp_path, b"x", metadata=metadata), ignore)
    assert store.objects[NAME].metadata == metadata


def test_a_body_that_is_tried_again_has_all_its_time_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    (tmp_path / "file").write_bytes(b"0123456789")
    sent: list[int] = []
    with (tmp_path / "file").open("rb") as file:
        body = Body(file, 2, 6, limit_s=60, progress=sent.append)
        body.sending()
        assert body.read(4) == b"2345"
        clock[0] = 61
        with pytest.raises(TimeoutError, match="not through after 60 s"):
            body.read()
        assert body.stream().read() == b"234567"  # to be signed
        body.stream()
        body.sending()
        assert body.read() == b"234567"
    assert sent == [4, 2]


def test_check_finds_a_store_that_replaces_objects() -> None:
    moto = shared_moto()

    def ignore_conditions(_request: object) -> ProxyFault:
        return ProxyFault(without=frozenset({"if-none-match"}))

    with proxy_before(moto.url, ignore_conditions) as proxy:
        store = S3Store(new_bucket_behind(proxy), LOOPBACK)
        (finding,) = ObjectStoreDestination(store, "").check()
        proofs._CREATES_ONCE.add(store.name)  # it did not when it was asked first
        (again,) = ObjectStoreDestination(store, "").check()
    assert finding.level is again.level is Level.ERROR
    assert finding.message.startswith("ignores If-None-Match")
    assert again.message.startswith("the store ignores If-None-Match")


def test_check_writes_nothing_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    store = MemoryStore()
    (finding,) = ObjectStoreDestination(store, "").check()
    assert finding.level is Level.OK
    assert {stored.data for stored in store.objects.values()} == {PROBE.read_bytes()}


@pytest.mark.parametrize("failing_put", [1, 2])
def test_check_reports_what_a_failed_put_says(failing_put: int) -> None:
    faults = iter([Fault.REFUSED if number == failing_put else None for number in (1, 2)])
    (finding,) = ObjectStoreDestination(MemoryStore(faults=lambda _package: next(faults)), "").check()
    assert (finding.level, finding.message) == (Level.ERROR, "the store refused the object")
    assert finding.hint


@pytest.mark.parametrize(
    ("failing_put", "fault", "message"),
    [
        (1, s3_error(403, "AccessDenied"), "refused {probe}: AccessDenied: made up (request REQ1)"),
        (2, s3_error(403, "AccessDenied"), "refused {probe}: AccessDenied: made up (request REQ1)"),
        (1, s3_error(412, "PreconditionFailed"), "already has {probe}"),
    ],
)
def test_check_names_the_store_that_fails_once_as_its_subject(
    failing_put: int, fault: ProxyFault, message: str
) -> None:
    moto = shared_moto()
    with proxy_before(moto.url) as proxy:
        proxy.script = lambda _request: fault if len(proxy.seen) == failing_put - 1 else None
        store = S3Store(new_bucket_behind(proxy), LOOPBACK)
        proofs._CREATES_ONCE.add(store.name)
        (finding,) = ObjectStoreDestination(store, "").check()
        probe = proxy.seen[0].path.split("/", maxsplit=2)[2]
    assert (finding.level, finding.subject) == (Level.ERROR, store.name)
    assert finding.message == message.format(probe=probe)


def test_check_does_not_take_a_store_that_always_says_exists_for_a_good_one() -> None:
    class Full(MemoryStore):
        def put(self, package: Package, _progress: Callable[[int], None]) -> Receipt:
            raise ObjectExists(f"{package.name} exists")

    (finding,) = ObjectStoreDestination(Full(), "").check()
    assert finding.level is Level.ERROR


@pytest.mark.parametrize(
    ("fault", "error", "landed"),
    [
        (Fault.NOT_SENT, NotSent, False),
        (Fault.REFUSED, Refused, False),
        (Fault.LOST_REQUEST, OutcomeUnknown, False),
        (Fault.LOST_ANSWER, OutcomeUnknown, True),
        (Fault.DELAYED, OutcomeUnknown, False),
    ],
)
def test_a_fault_on_demand_lands_or_not_as_its_error_allows(
    fault: Fault, error: type[Exception], *, landed: bool, tmp_path: Path
) -> None:
    store = MemoryStore(faults=lambda _package: fault)
    with pytest.raises(error):
        store.put(package_of(tmp_path, b"x"), ignore)
    assert (NAME in store.objects) is landed


def test_a_delayed_put_lands_later_unless_its_name_was_taken_meanwhile(tmp_path: Path) -> None:
    faults = iter([Fault.DELAYED, Fault.DELAYED, None])
    store = MemoryStore(faults=lambda _package: next(faults))
    for data, name in ((b"late", "free"), (b"late", "taken")):
        with pytest.raises(OutcomeUnknown):
            store.put(package_of(tmp_path, data, name), ignore)
    store.put(package_of(tmp_path, b"in time", "taken"), ignore)
    store.settle()
    assert {name: stored.data for name, stored in store.objects.items()} == {
        "free": b"late",
        "taken": b"in time",
    }


def test_a_lost_answer_does_not_replace_an_object(tmp_path: Path) -> None:
    faults = iter([None, Fault.LOST_ANSWER])
    store = MemoryStore(faults=lambda _package: next(faults))
    store.put(package_of(tmp_path, b"first"), ignore)
    with pytest.raises(OutcomeUnknown):
        store.put(package_of(tmp_path, b"second"), ignore)
    assert store.objects[NAME].data == b"first"
