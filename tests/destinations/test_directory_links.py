"""A large archive and the directory on one file system: linked, and by nothing to be told from a copy."""

from __future__ import annotations

import errno
import os
import stat
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from exporter.destinations.directory import CHUNK_BYTES, DirectoryStore
from exporter.errors import NotSent, ObjectExists, Refused
from exporter.workspace import Workspace
from tests.contracts.object_store import NAME, ignore, package_of
from tests.destinations.test_directory import Disk, failing, leftovers
from tests.kit.archives import file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.model import Package

CONTENT = os.urandom(3 * CHUNK_BYTES + 7)
OTHER_NAME = "vendor/audit/acme/second.zip"
ACCESS_LIST, DEFAULT_ACCESS_LIST = "system.posix_acl_access", "system.posix_acl_default"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """A large archive as the workspace has it: private, and older than any leftover may get."""
    package = package_of(tmp_path, CONTENT)
    file_of(package).chmod(0o600)
    os.utime(file_of(package), (0, 0))
    return package


@contextmanager
def masking(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def is_linked(package: Package, target: Path) -> bool:
    """Whether the file is the archive itself; it has its content either way."""
    assert target.read_bytes() == CONTENT
    return file_of(package).samefile(target)


def is_untouched(package: Package) -> bool:
    """Whether the archive is what the workspace made of it, for another put to find."""
    found = file_of(package).stat()
    return (found.st_nlink, found.st_mtime, stat.S_IMODE(found.st_mode)) == (1, 0, 0o600)


def arrives_copied(store: DirectoryStore, root: Path, package: Package) -> bool:
    """Whether a put leaves the archive alone, and a file as any other in the directory."""
    with masking(0o022):
        store.put(package, ignore)
    new = (root / NAME).stat()
    return (
        not is_linked(package, root / NAME)
        and is_untouched(package)
        and (new.st_nlink, stat.S_IMODE(new.st_mode)) == (1, 0o644)
        and leftovers(root) == []
    )


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_large_archive_is_linked_and_left_alone_with_its_name(
    mask: int, mode: int, store: DirectoryStore, root: Path, tmp_path: Path, package: Package
) -> None:
    told: list[int] = []
    with Workspace(tmp_path / "work") as workspace:
        folder = workspace.folder()
        package = replace(package, body=file_of(package).rename(folder.file("archive")))
        inode, before = file_of(package).stat().st_ino, time.time()
        with masking(mask):
            store.put(package, told.append)
        folder.discard()
    found = (root / NAME).stat()
    assert (found.st_ino, found.st_nlink, stat.S_IMODE(found.st_mode)) == (inode, 1, mode)
    assert found.st_mtime >= before - 1
    assert (root / NAME).read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)
    assert leftovers(root) == []


def test_an_archive_of_one_chunk_is_copied(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    small = package_of(tmp_path, CONTENT[:CHUNK_BYTES])
    store.put(small, ignore)
    assert not file_of(small).samefile(root / NAME)


def test_the_archive_is_on_disk_before_it_has_its_name(
    store: DirectoryStore, root: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    store.put(package, ignore)
    synced, named = ("sync", file_of(package)), ("link", root / NAME)
    assert disk.steps.index(synced) < disk.steps.index(named)
    assert disk.steps[-1] == ("sync", (root / NAME).parent)


# --- what a copy would be, and a link would not ------------------------------------------------------------


def test_a_file_belongs_to_the_group_of_its_folder(
    store: DirectoryStore, root: Path, package: Package
) -> None:
    groups = [2345] if os.geteuid() == 0 else sorted({*os.getgroups()} - {os.getegid()})
    if not groups:
        pytest.skip("this user is in one group only")
    (root / ".incoming").mkdir(parents=True)
    os.chown(root / ".incoming", -1, groups[0])
    (root / ".incoming").chmod(0o2770)
    assert arrives_copied(store, root, package)
    assert (root / NAME).stat().st_gid == groups[0]


def test_a_file_inherits_the_access_list_of_its_folder(
    store: DirectoryStore, root: Path, package: Package
) -> None:
    (root / ".incoming").mkdir(parents=True)
    user_itself, user, group_itself, mask, other, nobody = 1, 2, 4, 16, 32, 0xFFFF_FFFF
    entries = (
        *((user_itself, 7, nobody), (user, 5, 2345), (group_itself, 5, nobody)),
        *((mask, 7, nobody), (other, 0, nobody)),
    )
    access_list = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(root / ".incoming", DEFAULT_ACCESS_LIST, access_list)
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")
    (root / ".incoming" / "new").touch()
    store.put(package, ignore)
    assert not is_linked(package, root / NAME)
    assert is_untouched(package)
    delivered = os.getxattr(root / NAME, ACCESS_LIST)
    assert delivered == os.getxattr(root / ".incoming" / "new", ACCESS_LIST)


@pytest.mark.parametrize(
    ("archive_label", "new_label", "links"),
    [(None, b"out", False), (b"tmp", None, False), (b"tmp", b"out", False), (b"out", b"out", True)],
)
def test_a_file_has_the_label_of_its_folder(
    archive_label: bytes | None,
    new_label: bytes | None,
    links: bool,  # noqa: FBT001 - a column of the table
    store: DirectoryStore,
    root: Path,
    package: Package,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def label_of(descriptor: int) -> bytes | None:
        is_new = Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".part"
        return new_label if is_new else archive_label

    monkeypatch.setattr(os, "listxattr", lambda file: ["security.selinux"] if label_of(file) else [])
    monkeypatch.setattr(os, "getxattr", lambda file, _name: label_of(file))
    store.put(package, ignore)
    assert is_linked(package, root / NAME) == links


@pytest.mark.parametrize("field", ["st_dev", "st_uid", "st_gid"])
def test_an_archive_with_another_owner_or_place_is_copied(
    field: str, store: DirectoryStore, root: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    fstat, inode = os.fstat, file_of(package).stat().st_ino

    class Other:
        """The state of the archive, but for one field."""

        def __init__(self, found: os.stat_result) -> None:
            self._found = found

        def __getattr__(self, name: str) -> object:
            value = getattr(self._found, name)
            return value + 1 if name == field else value

    def fstat_other(descriptor: int) -> os.stat_result | Other:
        found = fstat(descriptor)
        return Other(found) if found.st_ino == inode else found

    monkeypatch.setattr(os, "fstat", fstat_other)
    monkeypatch.setattr(os.path, "samestat", lambda one, other: one.st_ino == other.st_ino)
    assert arrives_copied(store, root, package)


def test_an_archive_on_another_file_system_is_copied(package: Package) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == file_of(package).stat().st_dev:
        pytest.skip("there is no other file system")
    with TemporaryDirectory(dir=memory) as folder:
        assert arrives_copied(DirectoryStore(Path(folder)), Path(folder), package)


def test_an_archive_that_a_link_leads_to_is_copied(
    store: DirectoryStore, root: Path, tmp_path: Path, package: Package
) -> None:
    (tmp_path / "link").symlink_to(file_of(package))
    store.put(replace(package, body=tmp_path / "link"), ignore)
    assert not is_linked(package, root / NAME)
    assert not (root / NAME).is_symlink()
    assert leftovers(root) == []


def test_a_pipe_is_copied(store: DirectoryStore, root: Path, tmp_path: Path, package: Package) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[CONTENT])
    writer.start()
    store.put(replace(package, body=tmp_path / "pipe"), ignore)
    writer.join()
    assert (root / NAME).is_file()
    assert (root / NAME).read_bytes() == CONTENT


# --- systems that refuse -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES, errno.ENOENT, errno.EIO]
)
def test_an_archive_that_cannot_be_linked_is_copied(
    code: int, store: DirectoryStore, root: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def refuse(source: str | Path, target: str) -> None:
        if source == package.body:
            failing(code)()
        link(source, target)

    monkeypatch.setattr(os, "link", refuse)
    assert arrives_copied(store, root, package)


@pytest.mark.parametrize("call", ["fchmod", "listxattr"])
def test_an_archive_that_cannot_be_made_alike_is_copied(
    call: str, store: DirectoryStore, root: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, call, failing(errno.EPERM))
    assert arrives_copied(store, root, package)


def test_without_a_way_to_look_at_access_lists_all_is_copied(
    store: DirectoryStore, root: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS."""
    monkeypatch.delattr(os, "listxattr")
    assert arrives_copied(store, root, package)


# --- others at the same file -------------------------------------------------------------------------------


def while_looking(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen once the archive was looked at, and before it is linked."""
    link = os.link

    def link_later(source: str | Path, target: str) -> None:
        monkeypatch.setattr(os, "link", link)
        act()
        link(source, target)

    monkeypatch.setattr(os, "link", link_later)


def test_a_file_that_took_the_archives_place_is_not_delivered(
    store: DirectoryStore, root: Path, tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was opened is."""
    (tmp_path / "other").write_bytes(CONTENT[::-1])
    kept = tmp_path / "kept"

    def swap() -> None:
        file_of(package).rename(kept)
        (tmp_path / "other").rename(file_of(package))

    while_looking(monkeypatch, swap)
    store.put(package, ignore)
    assert (root / NAME).read_bytes() == CONTENT
    assert not kept.samefile(root / NAME)
    assert file_of(package).stat().st_nlink == 1
    assert leftovers(root) == []


def test_of_two_who_deliver_one_archive_at_once_one_is_told_that_it_exists(
    store: DirectoryStore, root: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found it without another name."""
    while_looking(monkeypatch, lambda: DirectoryStore(root).put(package, ignore))
    with pytest.raises(ObjectExists):
        store.put(package, ignore)
    assert is_linked(package, root / NAME)
    assert leftovers(root) == []


def test_an_archive_that_is_delivered_again_exists(
    store: DirectoryStore, root: Path, package: Package
) -> None:
    store.put(package, ignore)
    for again in (store, DirectoryStore(root)):
        with pytest.raises(ObjectExists):
            again.put(package, ignore)
    assert is_linked(package, root / NAME)
    assert leftovers(root) == []


def test_an_archive_that_was_delivered_is_copied_for_another_name(
    store: DirectoryStore, root: Path, package: Package
) -> None:
    """Two objects are two files: who changes one leaves the other as it is."""
    store.put(package, ignore)
    store.put(replace(package, name=OTHER_NAME), ignore)
    assert is_linked(package, root / NAME)
    assert not is_linked(package, root / OTHER_NAME)


def test_the_object_of_another_writer_stays_and_the_archive_can_be_put_elsewhere(
    store: DirectoryStore, root: Path, package: Package
) -> None:
    (root / NAME).parent.mkdir(parents=True)
    (root / NAME).write_bytes(b"another writer's")
    with pytest.raises(ObjectExists):
        store.put(package, ignore)
    assert (root / NAME).read_bytes() == b"another writer's"
    assert leftovers(root) == []
    store.put(replace(package, name=OTHER_NAME), ignore)
    assert is_linked(package, root / OTHER_NAME)


# --- failures ----------------------------------------------------------------------------------------------


def test_after_an_archive_that_changed_the_right_one_can_be_put(
    store: DirectoryStore, root: Path, package: Package
) -> None:
    file_of(package).write_bytes(CONTENT[::-1])
    with pytest.raises(NotSent, match="changed in the workspace"):
        store.put(package, ignore)
    assert not (root / NAME).exists()
    assert leftovers(root) == []
    assert file_of(package).stat().st_nlink == 1
    file_of(package).write_bytes(CONTENT)
    store.put(package, ignore)
    assert is_linked(package, root / NAME)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_archive_whose_sync_failed_is_not_believed_to_be_on_disk_later(
    code: int, store: DirectoryStore, root: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next sync of the same file may say that all is well."""
    sync = os.fsync

    def sync_but_archive(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), file_of(package).stat()):
            failing(code)()
        sync(descriptor)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", sync_but_archive)
        with pytest.raises(Refused, match=os.strerror(code)):
            store.put(package, ignore)
    assert not (root / NAME).exists()
    assert leftovers(root) == []
    store.put(package, ignore)
    assert not is_linked(package, root / NAME)


def test_a_put_that_is_interrupted_leaves_nothing_and_forgets_no_failure(
    store: DirectoryStore, root: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = threading.enumerate()

    def interrupt(_sent_bytes: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", failing(errno.EIO))
        (root / ".incoming").mkdir(parents=True)
        with pytest.raises(KeyboardInterrupt):
            store.put(package, interrupt)
    assert leftovers(root) == []
    assert threading.enumerate() == threads
    assert file_of(package).stat().st_nlink == 1
    store.put(package, ignore)
    assert not is_linked(package, root / NAME)


def test_what_stays_of_a_put_that_died_is_young_and_no_way_into_the_next_object(
    store: DirectoryStore, root: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the archive's file: the next put shares nothing with it, and no sweep takes it yet."""
    with monkeypatch.context() as dying:
        dying.setattr(os, "unlink", failing(errno.EIO))
        with pytest.raises(KeyboardInterrupt):
            store.put(package, lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    [left] = [path for path in leftovers(root) if file_of(package).samefile(path)]
    assert time.time() - left.stat().st_mtime < 60
    DirectoryStore(root).put(package, ignore)
    assert not is_linked(package, root / NAME)
    assert left.exists()
    os.utime(left, (0, 0))
    DirectoryStore(root).put(package_of(root.parent, b"x", OTHER_NAME), ignore)
    assert not left.exists()
    assert file_of(package).read_bytes() == CONTENT
