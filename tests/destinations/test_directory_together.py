"""Several files for one directory: their folders share a sync, and each file is as safe as one alone."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from exporter.destinations.directory import DirectoryStore
from exporter.destinations.object_store import ObjectStoreDestination
from exporter.errors import Refused
from tests.contracts.object_store import ignore, package_of
from tests.destinations.test_directory import Disk, failing, leftovers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ACCOUNTS = ("acme", "globex", "initech")
NAMES = tuple(f"vendor/audit/{account}/first.zip" for account in ACCOUNTS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    assert tmp_path.is_dir()  # which is none of the steps
    return Disk(monkeypatch)


def synced(disk: Disk, root: Path) -> list[Path]:
    """Everything below the root that was synced since the last question; around `.incoming` the root is."""
    return [path for path in disk.of("sync") if path != root]


def put(store: DirectoryStore, folder: Path, names: Sequence[str] = NAMES) -> None:
    for name in names:
        store.put(package_of(folder, name.encode(), name), ignore)


def test_folders_that_are_neighbours_share_a_sync(
    disk: Disk, store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    """The sync comes after the last of them was made, and before the first file has its name."""
    store.prepare(NAMES)
    audit = root / "vendor/audit"
    made = [place for place, step in enumerate(disk.steps) if step[0] == "make" and step[1].parent == audit]
    assert {disk.steps[place][1] for place in made} == {audit / account for account in ACCOUNTS}
    assert disk.steps[made[-1] + 1 :] == [("sync", audit)]
    disk.steps.clear()
    put(store, tmp_path)
    assert synced(disk, root) == [audit / account for account in ACCOUNTS]
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*.zip")) == sorted(NAMES)


def test_folders_that_somebody_else_made_are_synced_together_once_in_a_process(
    disk: Disk, store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    """Whoever made them may have died before that."""
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    disk.steps.clear()
    store.prepare(NAMES)
    assert disk.of("sync").count(root / "vendor/audit") == 1
    assert root / "vendor" in disk.of("sync")
    disk.steps.clear()
    store.prepare(NAMES)
    assert disk.steps == []
    put(store, tmp_path)
    assert synced(disk, root) == [root / "vendor/audit" / account for account in ACCOUNTS]


def test_a_folder_that_is_another_one_since_it_was_prepared_is_synced_again(
    disk: Disk, store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    store.prepare(NAMES)
    (root / NAMES[0]).parent.rename(tmp_path / "gone")
    (tmp_path / "other").rename((root / NAMES[0]).parent)
    disk.steps.clear()
    put(store, tmp_path, NAMES[:1])
    assert synced(disk, root) == [root / "vendor/audit", root / "vendor/audit/acme"]


def test_folders_whose_sync_failed_are_none_for_a_file_yet(
    store: DirectoryStore, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, tmp_path, NAMES[:1])
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", failing(errno.EIO))
        store.prepare(NAMES)
    disk = Disk(monkeypatch)
    put(store, tmp_path, NAMES[1:2])
    assert disk.of("sync") == [root / "vendor/audit", root / "vendor/audit/globex"]


@pytest.mark.parametrize("where", ["vendor", "vendor/audit", "vendor/audit/globex"])
def test_nothing_is_made_behind_a_link_that_leads_out(
    where: str, store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    """Each put says so of its own file; neighbours of a link are none the worse for it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / where).parent.mkdir(parents=True)
    (root / where).symlink_to(outside)
    store.prepare(NAMES)
    with pytest.raises(Refused, match=r"leads .* out of"):
        put(store, tmp_path, NAMES[1:2])
    assert list(outside.iterdir()) == []
    if where == "vendor/audit/globex":
        put(store, tmp_path, (NAMES[0], NAMES[2]))


def test_a_link_that_stays_inside_is_the_puts_own_matter(
    store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    (root / "large-disk").mkdir(parents=True)
    (root / "vendor/audit").mkdir(parents=True)
    (root / "vendor/audit/globex").symlink_to(root / "large-disk")
    store.prepare(NAMES)
    put(store, tmp_path)
    assert (root / "large-disk/first.zip").read_bytes() == NAMES[1].encode()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_is_in_the_way_is_said_by_each_put(
    code: int, store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "mkdir", failing(code))
    store.prepare(NAMES)
    for name in NAMES:
        with pytest.raises(Refused, match=os.strerror(code)):
            put(store, tmp_path, [name])


def test_a_file_in_place_of_a_folder_concerns_nobody_else(
    store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    (root / "vendor/audit").mkdir(parents=True)
    (root / "vendor/audit/globex").write_bytes(b"a file")
    store.prepare(NAMES)
    put(store, tmp_path, (NAMES[0], NAMES[2]))
    with pytest.raises(Refused) as caught:
        put(store, tmp_path, NAMES[1:2])
    assert "move it away" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["../x/y.zip", "/x/y.zip", "a//y.zip", "a/../x.zip", "../../x.zip", "x.zip", ""]
)
def test_names_that_are_paths_lead_to_no_folder(name: str, store: DirectoryStore, tmp_path: Path) -> None:
    before = set(tmp_path.parent.rglob("*"))
    store.prepare([name, name])
    assert set(tmp_path.parent.rglob("*")) == before


def test_a_destination_passes_names_on_to_a_driver_that_can_prepare(
    store: DirectoryStore, root: Path
) -> None:
    ObjectStoreDestination(store, "vendor").prepare(NAMES)
    assert {path.name for path in (root / "vendor/audit").iterdir()} == set(ACCOUNTS)


def test_the_place_for_files_in_the_making_is_made_again(
    store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    put(store, tmp_path, NAMES[:1])
    (root / ".incoming").rmdir()
    put(store, tmp_path, NAMES[1:])
    assert leftovers(root) == []


def test_a_fork_takes_names_of_its_own_for_files_in_the_making(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It inherits where its parent is, as do all others."""
    put(store, tmp_path, NAMES[:1])
    here, parent = os.getpid(), store._mark
    names = set()
    for process_id in (here + 1, here + 2):
        store._mark = parent
        monkeypatch.setattr(os, "getpid", lambda process_id=process_id: process_id)
        names.add(store._temporary().split("/")[-1].split("-")[0])
    assert len(names | {parent[1]}) == 3
