"""What every object store promises, whatever is behind it."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from exporter.destinations.object_store import ObjectStoreDestination
from exporter.errors import NotSent, ObjectExists
from exporter.model import Content, Level, Package
from tests.kit.archives import file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from exporter.destinations.object_store import Driver

NAME = "vendor/audit/acme/audit_acme_20261119T040000Z.zip"


@dataclass(frozen=True)
class Subject:
    """A store under test, and how to look behind it. ``large_bytes`` is beyond what goes in one piece."""

    store: Driver
    read: Callable[[str], bytes]
    names: Callable[[], set[str]]
    folder: Path
    large_bytes: int = 3 << 20

    def put(self, data: bytes, name: str = NAME) -> None:
        """Deliver these bytes."""
        self.store.put(package_of(self.folder, data, name), ignore)


def ignore(_sent_bytes: int) -> None:
    """Progress that nobody looks at."""


def package_of(
    folder: Path, data: bytes, name: str = NAME, metadata: Mapping[str, str] | None = None
) -> Package:
    """A package with these bytes, in a file of its own."""
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:8]}-{digest[:16]}"
    path.write_bytes(data)
    content = Content(1, 0, 0, len(data), digest, len(data), digest)
    return Package(path, name, content, "application/zip", metadata or {"plan": "p1"})


def creates_the_object_whole(subject: Subject) -> None:
    """An object holds exactly the bytes of its package, and the receipt says where it is."""
    receipt = subject.store.put(package_of(subject.folder, b"PK\x03\x04\x00\n"), ignore)
    assert subject.read(NAME) == b"PK\x03\x04\x00\n"
    assert receipt.location == f"{subject.store.name}/{NAME}"


def never_replaces_an_object(subject: Subject) -> None:
    """A second put of a name raises ObjectExists and leaves the first object as it was."""
    subject.put(b"first")
    with pytest.raises(ObjectExists, match="audit_acme_20261119T040000Z"):
        subject.put(b"second")
    assert subject.read(NAME) == b"first"


def lets_one_of_many_win(subject: Subject) -> None:
    """Of concurrent puts of one name exactly one succeeds, and the object is that one's."""
    contestants = [f"contestant {number}".encode() * 1000 for number in range(4)]
    barrier = Barrier(len(contestants))

    def contend(data: bytes) -> bytes | None:
        package = package_of(subject.folder, data)
        barrier.wait(timeout=10)
        try:
            subject.store.put(package, ignore)
        except ObjectExists:
            return None
        return data

    with ThreadPoolExecutor(len(contestants)) as pool:
        winners = [data for data in pool.map(contend, contestants) if data is not None]
    assert winners == [subject.read(NAME)]


def takes_large_files(subject: Subject) -> None:
    """A large object arrives whole, is not replaced either, and progress adds up to its size."""
    data = hashlib.shake_256(b"large").digest(subject.large_bytes)
    sent: list[int] = []
    subject.store.put(package_of(subject.folder, data), sent.append)
    assert subject.read(NAME) == data
    assert sum(sent) == len(data)
    assert min(sent) > 0
    with pytest.raises(ObjectExists):
        subject.put(data[::-1])
    assert subject.read(NAME) == data


def takes_an_archive_from_memory(subject: Subject) -> None:
    """A small archive was never a file; all that holds for files holds for it."""
    for size in (0, 1, 70_000, subject.large_bytes):
        data, name, sent = hashlib.shake_256(b"memory").digest(size), f"{NAME}{size}", list[int]()
        package = replace(package_of(subject.folder, data, name), body=data)
        subject.store.put(package, sent.append)
        assert subject.read(name) == data
        assert sum(sent) == size
        with pytest.raises(ObjectExists):
            subject.store.put(package, ignore)
        assert subject.read(name) == data


def takes_an_empty_file(subject: Subject) -> None:
    """An empty package becomes an empty object."""
    subject.put(b"")
    assert subject.read(NAME) == b""


def keeps_names_byte_by_byte(subject: Subject) -> None:
    """Every character that an object name may have stays as it is."""
    name = "a-b.c/audit/A_C3_89-9.x/audit_A_C3_89-9.x_20261119T040000Z_0002.jsonl.gz"
    subject.put(b"x", name)
    assert subject.names() == {name}


def writes_nothing_else(subject: Subject) -> None:
    """After puts that succeed and fail, there are the objects and nothing besides."""
    subject.put(b"first")
    with pytest.raises(ObjectExists):
        subject.put(b"second")
    assert subject.names() == {NAME}


def proves_itself_outside_of_audit(subject: Subject) -> None:
    """`check` finds a good store good, warns at most of rights, and touches no name under `audit/`."""
    first, *others = ObjectStoreDestination(subject.store, "vendor").check()
    assert (first.level, first.subject) == (Level.OK, subject.store.name)
    assert {finding.level for finding in others} <= {Level.WARNING}
    assert all(name.startswith("vendor/.audit-exporter-check/") for name in subject.names())


def reports_a_vanished_archive_as_not_sent(subject: Subject) -> None:
    """An archive that is gone from the workspace is a failure of this attempt, and nothing lands."""
    package = package_of(subject.folder, b"gone")
    file_of(package).unlink()
    with pytest.raises(NotSent, match="cannot be read from the workspace"):
        subject.store.put(package, ignore)
    assert subject.names() == set()


CONTRACT: tuple[Callable[[Subject], None], ...] = (
    creates_the_object_whole,
    never_replaces_an_object,
    lets_one_of_many_win,
    takes_large_files,
    takes_an_archive_from_memory,
    takes_an_empty_file,
    keeps_names_byte_by_byte,
    writes_nothing_else,
    proves_itself_outside_of_audit,
    reports_a_vanished_archive_as_not_sent,
)
