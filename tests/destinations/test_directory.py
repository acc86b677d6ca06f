"""The directory store: a file appears whole, durable and once, and every failure says what to do."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING

import pytest

from exporter.destinations import directory
from exporter.destinations.directory import DirectoryStore
from exporter.errors import (
    ConfigError,
    DeliveryError,
    NotSent,
    ObjectExists,
    OutcomeUnknown,
    Refused,
)
from tests.contracts.object_store import NAME, ignore, package_of
from tests.kit.archives import file_of
from tests.kit.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system on which nobody can tell whether a link would do."""
    monkeypatch.delattr(os, "listxattr")


@pytest.fixture(params=["linked", "copied"])
def either_way(request: pytest.FixtureRequest) -> None:
    """How a large archive comes into the directory."""
    if request.param == "copied":
        request.getfixturevalue("copying")


def failing(code: int) -> Callable[..., None]:
    def fail(*_args: object, **_more: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def leftovers(root: Path) -> list[Path]:
    return list((root / ".incoming").glob("*"))


def test_two_spellings_of_a_directory_are_one_store(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    spelled = DirectoryStore(tmp_path / "link" / ".." / "real")
    assert spelled.name == DirectoryStore(tmp_path / "link").name == f"file://{tmp_path}/real"


def test_making_a_store_touches_nothing(store: DirectoryStore, root: Path) -> None:
    assert store.name.endswith("/out")
    assert not root.exists()


def test_others_can_read_what_was_delivered(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store.put(package_of(tmp_path, b"x"), ignore)
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / NAME).stat().st_mode) == 0o644


class Disk:
    """What reaches the disk, in order: a folder made, a file or folder synced, a file linked to its name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, Path]] = []
        self._make, self._sync, self._link = os.mkdir, os.fsync, os.link
        monkeypatch.setattr(os, "mkdir", self.mkdir)
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "link", self.link)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._make(path, mode)
        self.steps.append(("make", Path(path)))

    def fsync(self, descriptor: int) -> None:
        self.steps.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        self._sync(descriptor)

    def link(self, source: str, target: str) -> None:
        self._link(source, target)
        self.steps.append(("link", Path(target)))

    def of(self, what: str) -> list[Path]:
        """Everything that this was done to since the last question, but for what goes through `.incoming`."""
        found = [path for step, path in self.steps if step == what and path.suffix != ".part"]
        return [path for path in found if path.name != ".incoming"]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    assert tmp_path.is_dir()  # which is none of the steps
    return Disk(monkeypatch)


def test_file_and_folders_are_on_disk_before_the_put_returns(
    disk: Disk, store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    """The file before it has its name; each folder around a new name after that, and before the put's end."""
    store.put(package_of(tmp_path, b"x"), ignore)
    link = disk.steps.index(("link", root / NAME))
    assert any(step == "sync" and path.suffix == ".part" for step, path in disk.steps[:link])
    made = [place for place, (step, _) in enumerate(disk.steps) if step == "make"]
    assert {disk.steps[place][1] for place in made} == {
        *(root, root / ".incoming", root / "vendor", root / "vendor/audit", root / "vendor/audit/acme")
    }
    for place in made:
        assert ("sync", disk.steps[place][1].parent) in disk.steps[place:link]
    assert disk.steps[link + 1 :] == [("sync", (root / NAME).parent)]


def test_a_process_syncs_a_folder_again_only_for_what_is_new_in_it(
    disk: Disk, store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    store.put(package_of(tmp_path, b"x"), ignore)
    disk.steps.clear()
    store.put(package_of(tmp_path, b"y", "vendor/audit/acme/second.zip"), ignore)
    assert disk.of("sync") == [root / "vendor/audit/acme"]
    disk.steps.clear()
    store.put(package_of(tmp_path, b"z", "vendor/audit/globex/first.zip"), ignore)
    assert disk.of("sync") == [root / "vendor/audit", root / "vendor/audit/globex"]


def test_folders_that_are_there_already_are_synced_once_in_a_process(
    disk: Disk, root: Path, tmp_path: Path
) -> None:
    """Whoever made them may have died before that."""
    (root / NAME).parent.mkdir(parents=True)
    store = DirectoryStore(root)
    disk.steps.clear()
    store.put(package_of(tmp_path, b"x"), ignore)
    link = disk.steps.index(("link", root / NAME))
    assert {root, root / "vendor", root / "vendor/audit"} <= {path for _, path in disk.steps[:link]}
    disk.steps.clear()
    store.put(package_of(tmp_path, b"y", "vendor/audit/acme/second.zip"), ignore)
    assert disk.of("sync") == [root / "vendor/audit/acme"]


def test_a_folder_that_is_another_one_now_is_synced_again(
    disk: Disk, store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    store.put(package_of(tmp_path, b"x"), ignore)
    (root / NAME).parent.rename(tmp_path / "gone")
    other.rename((root / NAME).parent)
    disk.steps.clear()
    store.put(package_of(tmp_path, b"x"), ignore)
    assert disk.of("sync") == [root / "vendor/audit", root / "vendor/audit/acme"]


def test_a_folder_whose_name_did_not_reach_the_disk_is_no_place_for_a_file_yet(
    store: DirectoryStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is a definite no, and does not count as a sync."""
    store.put(package_of(tmp_path, b"x"), ignore)
    sync = os.fsync

    def sync_but_one(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == root / "vendor/audit":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    for _ in range(2):
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", sync_but_one)
            with pytest.raises(Refused, match=os.strerror(errno.EIO)):
                store.put(package_of(tmp_path, b"y", "vendor/audit/globex/first.zip"), ignore)
        assert not (root / "vendor/audit/globex/first.zip").exists()
    disk = Disk(monkeypatch)
    store.put(package_of(tmp_path, b"y", "vendor/audit/globex/first.zip"), ignore)
    assert disk.of("sync") == [root / "vendor/audit", root / "vendor/audit/globex"]


def test_one_sync_serves_all_folders_that_were_made_before_it_began(
    store: DirectoryStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of accounts get their first object in one run; but a sync that goes on serves no newcomer."""
    store.put(package_of(tmp_path, b"x"), ignore)
    audit, names = root / "vendor/audit", [f"{number}" for number in range(6)]
    asking = AskingThreads(store._folders._begun)
    monkeypatch.setattr(store._folders, "_begun", asking)
    disk = Disk(monkeypatch)
    sync = os.fsync

    def sync_slowly(descriptor: int) -> None:
        sync(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").readlink() == audit:
            wait_until("every thread waits for a sync", lambda: len(asking.threads) == len(names))

    def put(name: str) -> None:
        store.put(package_of(tmp_path, name.encode(), f"vendor/audit/{name}/x.zip"), ignore)

    monkeypatch.setattr(os, "fsync", sync_slowly)
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(put, names))
    places = [place for place, step in enumerate(disk.steps) if step == ("sync", audit)]
    made = [place for place, (step, _) in enumerate(disk.steps) if step == "make"]
    assert len(places) == 2
    assert len(made) == len(names)
    assert max(made) < places[1]


class AskingThreads(Counter[str]):
    """The syncs that have begun, and which threads asked for them."""

    def __init__(self, begun: Counter[str]) -> None:
        super().__init__(begun)
        self.threads: set[int] = set()

    def __getitem__(self, folder: str) -> int:
        self.threads.add(get_ident())
        return super().__getitem__(folder)


def test_a_directory_that_is_led_elsewhere_later_is_not_followed(
    store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    store.put(package_of(tmp_path, b"x"), ignore)
    (tmp_path / "elsewhere").mkdir()
    root.rename(tmp_path / "kept")
    root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match=r"leads .* out of"):
        store.put(package_of(tmp_path, b"x"), ignore)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_directory_that_is_not_there_yet_is_not_made_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    store = DirectoryStore(tmp_path / "shared" / "out")
    (tmp_path / "shared").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match=r"leads .* out of"):
        store.put(package_of(tmp_path, b"x"), ignore)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_that_stays_inside_of_the_directory_is_followed(
    store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    (root / "large-disk").mkdir(parents=True)
    (root / "vendor").symlink_to(root / "large-disk")
    store.put(package_of(tmp_path, b"x"), ignore)
    assert (root / "large-disk" / "audit/acme" / Path(NAME).name).read_bytes() == b"x"


def test_an_object_that_exists_is_made_durable_too(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer may have died between link and sync, and its plan is about to be called delivered."""
    store.put(package_of(tmp_path, b"x"), ignore)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with pytest.raises(ObjectExists):
        store.put(package_of(tmp_path, b"x"), ignore)
    assert len(synced) == 1 + 4


def test_when_the_disk_does_not_confirm_the_link_nobody_can_tell(
    store: DirectoryStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_and_break(source: Path, target: Path) -> None:
        link(source, target)
        monkeypatch.setattr(os, "fsync", failing(errno.EIO))

    monkeypatch.setattr(os, "link", link_and_break)
    with pytest.raises(OutcomeUnknown, match="did not confirm") as caught:
        store.put(package_of(tmp_path, b"x"), ignore)
    assert caught.value.hint
    assert leftovers(root) == []


def test_a_file_system_without_sync_for_folders_is_taken_as_it_is(
    store: DirectoryStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def sync_files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_files_only)
    store.put(package_of(tmp_path, b"x"), ignore)
    assert (root / NAME).read_bytes() == b"x"


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "let the user that runs this program write"),
        (errno.EROFS, "mount the file system for writing"),
        (errno.EIO, "health of the file system"),
    ],
)
def test_what_fails_before_the_link_is_a_definite_no_and_leaves_nothing(
    code: int, hint: str, store: DirectoryStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".incoming").mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(Refused, match=os.strerror(code)) as caught:
        store.put(package_of(tmp_path, b"x"), ignore)
    assert hint in caught.value.hint
    assert not (root / NAME).exists()
    assert leftovers(root) == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_a_file_system_without_hard_links_is_refused_with_that_reason(
    code: int, store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(code))
    with pytest.raises(Refused) as caught:
        store.put(package_of(tmp_path, b"x"), ignore)
    assert "hard links" in caught.value.hint


def test_an_account_folder_on_another_file_system_is_refused_with_that_reason(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EXDEV))
    with pytest.raises(Refused) as caught:
        store.put(package_of(tmp_path, b"x"), ignore)
    assert "one file system" in caught.value.hint


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_link_that_breaks_off_may_have_landed(
    code: int, store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(code))
    with pytest.raises(OutcomeUnknown):
        store.put(package_of(tmp_path, b"x"), ignore)


def test_a_link_that_nfs_made_twice_is_ours(
    store: DirectoryStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    store.put(package_of(tmp_path, b"x"), ignore)
    assert (root / NAME).read_bytes() == b"x"


def test_a_file_in_place_of_the_directory_is_not_an_existing_object(root: Path, tmp_path: Path) -> None:
    root.write_bytes(b"a file")
    with pytest.raises(Refused) as caught:
        DirectoryStore(root).put(package_of(tmp_path, b"x"), ignore)
    assert "move it away" in caught.value.hint


def test_a_file_in_place_of_an_account_folder_is_not_an_existing_object(
    store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    (root / "vendor" / "audit").mkdir(parents=True)
    (root / "vendor" / "audit" / "acme").write_bytes(b"a file")
    with pytest.raises(Refused) as caught:
        store.put(package_of(tmp_path, b"x"), ignore)
    assert "move it away" in caught.value.hint


def test_a_name_that_is_too_long_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        store.put(package_of(tmp_path, b"x", f"audit/acme/{'x' * 300}.zip"), ignore)
    assert "shorten" in caught.value.hint


def test_a_link_that_leads_out_of_the_directory_is_not_followed(
    store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "vendor").mkdir(parents=True)
    (root / "vendor" / "audit").symlink_to(outside)
    with pytest.raises(Refused, match=r"leads .* out of"):
        store.put(package_of(tmp_path, b"x"), ignore)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["../x.zip", "/x.zip", "audit//x.zip", "audit/../../x.zip", "audit/./x.zip"])
def test_a_name_that_is_a_path_is_not_followed(
    name: str, store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="not a name for a file"):
        store.put(package_of(tmp_path, b"x", name), ignore)
    assert not root.exists()


def test_an_archive_that_changed_in_the_workspace_does_not_land(
    store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    package = package_of(tmp_path, b"as rendered")
    file_of(package).write_bytes(b"as tampered")
    with pytest.raises(NotSent, match="changed in the workspace"):
        store.put(package, ignore)
    assert not (root / NAME).exists()
    assert leftovers(root) == []


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("size", [directory.CHUNK_BYTES, directory.CHUNK_BYTES + 1, 3_500_000])
def test_an_archive_of_any_size_lands_as_it_is(
    store: DirectoryStore, root: Path, tmp_path: Path, size: int
) -> None:
    """And all of it counts as progress, once."""
    content, told = os.urandom(size), list[int]()
    store.put(package_of(tmp_path, content), told.append)
    assert (root / NAME).read_bytes() == content
    assert sum(told) == size


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("at", [0, directory.CHUNK_BYTES + 1, -1])
def test_a_large_archive_that_changed_in_the_workspace_does_not_land(
    store: DirectoryStore, root: Path, tmp_path: Path, at: int
) -> None:
    content = bytearray(os.urandom(3 * directory.CHUNK_BYTES))
    package = package_of(tmp_path, bytes(content))
    content[at] ^= 1
    file_of(package).write_bytes(content)
    with pytest.raises(NotSent, match="changed in the workspace"):
        store.put(package, ignore)
    assert not (root / NAME).exists()
    assert leftovers(root) == []


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("more", [-1, 1])
def test_a_large_archive_that_is_longer_or_shorter_does_not_land(
    store: DirectoryStore, root: Path, tmp_path: Path, more: int
) -> None:
    content = os.urandom(3 * directory.CHUNK_BYTES)
    package = package_of(tmp_path, content)
    file_of(package).write_bytes(content + b"x" if more > 0 else content[:more])
    with pytest.raises(NotSent, match="changed in the workspace"):
        store.put(package, ignore)
    assert not (root / NAME).exists()


@pytest.mark.usefixtures("copying")
def test_a_large_file_is_proven_by_what_is_in_it(
    store: DirectoryStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read from the workspace may be right, and what was written wrong."""
    monkeypatch.setattr(directory, "_write", lambda file, data: file.write(bytes(len(data))))
    with pytest.raises(NotSent):
        store.put(package_of(tmp_path, os.urandom(2 * directory.CHUNK_BYTES)), ignore)
    assert not (root / NAME).exists()


@pytest.mark.usefixtures("copying")
def test_a_disk_that_fills_up_under_a_large_archive_leaves_nothing(
    store: DirectoryStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file, and no thread that goes on."""
    threads = threading.enumerate()

    def fill(_file: object, _data: object) -> None:
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room.pop()

    room = [1, 2]
    monkeypatch.setattr(directory, "_write", fill)
    with pytest.raises(Refused, match="No space left"):
        store.put(package_of(tmp_path, os.urandom(5 * directory.CHUNK_BYTES)), ignore)
    assert leftovers(root) == []
    assert threading.enumerate() == threads


def test_what_a_crash_left_behind_goes_after_a_day(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    incoming = root / ".incoming"
    incoming.mkdir(parents=True)
    for name, age_s in (("old.part", 25 * 3600), ("new.part", 3600), ("old.txt", 25 * 3600)):
        (incoming / name).write_bytes(b"x")
        os.utime(incoming / name, (time.time() - age_s,) * 2)
    store.put(package_of(tmp_path, b"x"), ignore)
    assert {path.name for path in leftovers(root)} == {"new.part", "old.txt"}


def test_leftovers_are_looked_for_once(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    """A folder with many of them does not slow down every put."""
    store.put(package_of(tmp_path, b"x"), ignore)
    leftover = root / ".incoming" / "old.part"
    leftover.write_bytes(b"x")
    os.utime(leftover, (0, 0))
    store.put(package_of(tmp_path, b"x", "audit/other"), ignore)
    assert leftovers(root) == [leftover]


def test_an_interrupted_put_leaves_nothing(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    def interrupt(_sent_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put(package_of(tmp_path, b"x"), interrupt)
    assert leftovers(root) == []


def test_a_directory_that_cannot_be_made_has_no_claims(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        DirectoryStore(tmp_path / "file" / "out").folds_case()
    assert caught.value.hint


def loop(folder: Path) -> Path:
    (folder / "one").symlink_to(folder / "two")
    (folder / "two").symlink_to(folder / "one")
    return folder / "one"


def under_a_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"x")
    return folder / "file" / "out"


@pytest.mark.parametrize(
    ("path_in", "hint"),
    [
        (loop, "symbolic link"),
        (lambda folder: loop(folder) / "out", "symbolic link"),
        (lambda folder: folder / ("x" * 256), "shorten the path"),
        (lambda folder: folder / ("é" * 128), "shorten the path"),
        (lambda folder: folder / "missing" / ("x" * 256) / "out", "shorten the path"),
        (lambda folder: folder / "/".join(["x" * 250] * 20), "shorten the path"),
        (lambda folder: folder / "a\0b", "printable"),
        (lambda folder: folder / "a\ud800b", "printable"),
        (under_a_file, "move it away"),
    ],
)
def test_a_path_that_cannot_lead_to_a_directory_is_a_mistake_in_the_configuration(
    path_in: Callable[[Path], Path], hint: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        DirectoryStore(path_in(tmp_path))
    assert hint in caught.value.hint
    assert caught.value.message.encode()  # it can be shown


@contextmanager
def without_special_rights() -> Iterator[None]:
    """As a user whom the mode of a folder can shut out, which it cannot do to root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["", "out", "out/further"])
def test_a_folder_that_cannot_be_looked_into_is_a_mistake_in_the_configuration(
    name: str, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    try:
        with without_special_rights(), pytest.raises(ConfigError, match="Permission denied") as caught:
            DirectoryStore(closed / name).folds_case()
    finally:
        closed.chmod(0o700)
    assert "let the user that runs this program" in caught.value.hint


def test_a_directory_that_is_shut_later_has_no_claims(store: DirectoryStore, root: Path) -> None:
    root.mkdir(mode=0)
    try:
        with without_special_rights(), pytest.raises(ConfigError, match="Permission denied") as caught:
            store.folds_case()
    finally:
        root.chmod(0o700)
    assert "let the user that runs this program" in caught.value.hint


def test_how_the_directory_treats_case_is_tried_out_once(store: DirectoryStore, disk: Disk) -> None:
    """Thousands of exports of one directory ask at the start of a run."""
    answers = {store.folds_case() for _ in range(3)}
    assert len(answers) == 1
    assert len(disk.of("make")) == 1


def test_a_link_in_the_directory_that_leads_to_itself_is_refused(
    store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    root.mkdir()
    (root / "vendor").symlink_to(root / "vendor")
    with pytest.raises(Refused) as caught:
        store.put(package_of(tmp_path, b"x"), ignore)
    assert "symbolic link" in caught.value.hint
    assert leftovers(root) == []


def test_check_leaves_no_probe_behind(store: DirectoryStore, root: Path) -> None:
    store.check(".audit-exporter-check/1")
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_the_cause_stays_with_the_error(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    root.write_bytes(b"a file")
    with pytest.raises(DeliveryError) as caught:
        store.put(package_of(tmp_path, b"x"), ignore)
    assert isinstance(caught.value.__cause__, OSError)
