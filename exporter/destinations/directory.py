"""The driver for a directory: a file appears under its name whole, durable and once, or not at all.

A file is written and synced under ``.incoming`` and then hard-linked to its name: unlike a rename, a
link never replaces. A large archive is linked from the workspace, where nobody could tell that from a
copy. It must not follow a name out of its root, nor delete anything but its own leftovers and probes. A
directory keeps no metadata and no content type.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from itertools import accumulate, count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal, Self

from exporter.destinations.directory_folders import Folders, inode_of, sync
from exporter.destinations.directory_links import Links
from exporter.destinations.object_store import ObjectStoreSettings
from exporter.destinations.probe import prove_create_only
from exporter.destinations.uploads import changed, opened
from exporter.errors import ConfigError, ObjectExists, OutcomeUnknown, Refused
from exporter.model import Finding, Level, Receipt
from exporter.notation.values import FilePath  # noqa: TC001 - pydantic reads the annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from exporter.destinations.object_store import Driver
    from exporter.destinations.uploads import Opened
    from exporter.model import Package
    from exporter.network.guard import Guard

CHUNK_BYTES = 1 << 19  # of an archive that is larger; a put holds two
MAX_COMPONENT_BYTES = 255  # of every file system in use; one that is missing cannot be asked
LEFTOVER_AGE_S = 24 * 3600
LEFTOVERS = "*.part"

NO_LINKS = "use a file system with hard links: without them a file cannot appear whole and only once"
NO_RIGHT = "let the user that runs this program write to the directory"
HINTS = {
    errno.ENOSPC: "free some space on the file system",
    errno.EDQUOT: "raise the quota of the user that runs this program, or free some space",
    errno.EACCES: NO_RIGHT,
    errno.EROFS: "mount the file system for writing",
    errno.ENOTDIR: "a file lies where a folder is needed: move it away",
    errno.EEXIST: "a file lies where a folder is needed: move it away",
    errno.ENAMETOOLONG: "shorten the path, the prefix or the account's name",
    errno.ENOENT: "leave the directory to this program while it runs",
    errno.ELOOP: "a symbolic link in the path leads to itself: remove it",
}
LINK_HINTS = HINTS | {
    errno.EPERM: NO_LINKS,
    errno.EOPNOTSUPP: NO_LINKS,
    errno.ENOSYS: NO_LINKS,
    errno.EMLINK: NO_LINKS,
    errno.EXDEV: "keep the whole directory on one file system: a hard link cannot lead to another",
}


class DirectorySettings(ObjectStoreSettings):
    """A folder, as a destination of its own or one that something else ships."""

    type: Literal["directory"]
    path: FilePath
    """Where it is; made at the first delivery if it is missing."""

    def open(self, guard: Guard) -> Driver:
        """The driver. Raises ConfigError."""
        del guard  # a folder has no address
        return DirectoryStore(self.path)


class DirectoryStore:
    """A directory on a file system with hard links; made at the first put if it is missing.

    Raises ConfigError for a path that cannot lead to one.
    """

    max_component_bytes = MAX_COMPONENT_BYTES

    def __init__(self, path: Path) -> None:
        with _usable(path):
            self._root = _real(path)
        self._incoming = self._root / ".incoming"
        self._folders = Folders(str(self._root))
        self._links = Links()
        self._followed: tuple[int, int] | None = (
            None  # the root that `_leads_out` found no link on the way to
        )
        self._swept = False
        self._mark = 0, ""  # of a process: its id, and what nobody else has
        self._numbers = count()
        self._folds: bool | None = None
        self.name = self.endpoint = f"file://{self._root}"

    def folds_case(self) -> bool:
        """Whether two names that differ only by case are one file here. Leaves nothing behind.

        Looked at once: thousands of exports of one directory ask.
        """
        if self._folds is None:
            self._folds = self._sees_folding()
        return self._folds

    def _sees_folding(self) -> bool:
        with _usable(self._root):
            if (self._root / self._incoming.name.upper()).exists():
                return True
            if self._incoming.exists():
                return False
            with _scratch(self._root) as folder:
                return folder.with_name(folder.name.upper()).exists()

    def put(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """Create the file whole, or not at all; never replace one."""
        temporary, linked = self._temporary(), None
        try:
            with opened(package) as archive, _refusing(package.name):
                folder = self._folder_of(package.name)
                self._sweep_once()
                with self._new_file(temporary) as file:
                    linked = self._linked(package, archive, file)
                    if linked:
                        self._links.prove(package, archive, progress)
                    else:
                        _copy(package, archive, file, progress)
                self._folders.make(folder)
            self._publish(linked or temporary, f"{self._root}/{package.name}", folder)
        finally:
            for leftover in filter(None, (temporary, linked)):
                with suppress(OSError):  # the outcome is decided; what stays is swept a day later
                    os.unlink(leftover)  # noqa: PTH108 - text, as `folders` has it
        return Receipt(f"{self.name}/{package.name}")

    def prepare(self, names: Sequence[str]) -> None:
        """Make the folders of several files, with one sync for neighbours.

        What is left out, because of a link or something wrong, is the put's own matter.
        """
        neighbours: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            folder, _, file = name.rpartition("/")
            around, _, own = folder.rpartition("/")
            if _is_plain([own, file]):
                neighbours[around].append(own)
        for around, folders in neighbours.items():
            with suppress(OSError, Refused):
                place = self._folder_of(f"{around}/any")
                self._folders.make(place)
                self._folders.make_together(place, folders)

    def check(self, probe: str) -> Sequence[Finding]:
        """Create the probe near its place, and prove that it cannot be replaced; leaves nothing behind."""
        try:
            with _scratch((self._root / probe).parent) as folder:
                scratch = DirectoryStore(folder)
                scratch.name = self.name
                return prove_create_only(scratch, probe)
        except OSError as error:
            message = f"the directory {self._root} cannot be used: {error.strerror}"
            return [Finding(self.name, Level.ERROR, message, _hint(error))]

    def _temporary(self) -> str:
        """A name that nobody else takes, on whatever machine; forks have a mark of their own."""
        process_id = os.getpid()
        if self._mark[0] != process_id:
            self._mark = process_id, secrets.token_hex(8)
        return f"{self._incoming}/{self._mark[1]}-{next(self._numbers)}.part"

    def _new_file(self, path: str) -> FileIO:
        """One for whoever may read the directory, and without a buffer: there is a chunk in hand."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        try:
            return FileIO(os.open(path, flags, 0o666), "w")
        except FileNotFoundError:
            self._folders.make(str(self._incoming))
            return FileIO(os.open(path, flags, 0o666), "w")

    def _linked(self, package: Package, archive: Opened, file: FileIO) -> str | None:
        """A name for a large archive itself; None where it has to be copied, and for a small one."""
        if package.content.archive_bytes <= CHUNK_BYTES:
            return None
        name = self._temporary()
        return name if self._links.make(package, archive, file, name) else None

    def _folder_of(self, name: str) -> str:
        """Where the file of this name belongs, inside of the root whatever links there are."""
        *around, own = name.split("/")
        if not _is_plain([*around, own]):
            raise Refused(f"'{name}' is not a name for a file", hint="report this as a defect")
        folders = list(accumulate([str(self._root), *around], "{}/{}".format))
        if self._leads_out(folders):
            raise Refused(
                f"a symbolic link leads {name} out of {self._root}",
                hint="remove the link, or make the directory that it leads to the destination",
            )
        return folders[-1]

    def _leads_out(self, folders: Sequence[str]) -> bool:
        """Whether a link on the way to the last of these leads out of the first of them, the root."""
        root = inode_of(folders[0])
        if root is None or root != self._followed:  # else the way to it is what it was
            if _real(self._root) != self._root:
                return True
            self._followed = root
        has_links = any(map(os.path.islink, folders[1:]))
        return has_links and not _real(Path(folders[-1])).is_relative_to(self._root)

    def _sweep_once(self) -> None:
        """Remove what a crash left behind more than a day ago."""
        if self._swept:
            return
        self._swept = True
        for leftover in self._incoming.glob(LEFTOVERS):
            with suppress(OSError):  # somebody else swept it, or it is not ours to sweep
                if leftover.stat().st_mtime < time.time() - LEFTOVER_AGE_S:
                    leftover.unlink()

    def _publish(self, temporary: str, target: str, folder: str) -> None:
        created = _link(temporary, target)
        try:
            if created:
                sync(folder)
            else:  # its writer may have died before this, and before what `make` did
                self._folders.sync_up_from(folder)
        except OSError as error:
            raise OutcomeUnknown(
                f"{target} was written, but the disk did not confirm it: {error.strerror}",
                hint="look at the health of the disk",
            ) from error
        if not created:
            raise ObjectExists(f"{target} already exists")


def _is_plain(parts: Iterable[str]) -> bool:
    """Whether each of these leads from a folder to something in it."""
    return {"", ".", ".."}.isdisjoint(parts)


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """What the file system says against this path is a mistake in the configuration."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"the directory {path} cannot be used: {error.strerror}", hint=_hint(error)
        ) from error
    except ValueError as error:  # a null character, or half of a surrogate pair
        raise ConfigError(
            f"the directory {str(path)!r} cannot be used: {error}",
            hint="write the path in printable characters",
        ) from error


def _real(path: Path) -> Path:
    """The path without symbolic links, whether or not it is there. Raises OSError, also for a loop."""
    if any(len(os.fsencode(part)) > MAX_COMPONENT_BYTES for part in path.parts):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    with suppress(FileNotFoundError):
        path.stat()  # `realpath` passes over what is wrong with a path
    return Path(os.path.realpath(path))


def _copy(package: Package, archive: Opened, file: FileIO, progress: Callable[[int], None]) -> None:
    """Write the archive and sync it. Raises NotSent if it is a file that changed."""
    if package.content.archive_bytes > CHUNK_BYTES:
        _copy_large(package, archive, file, progress)
        return
    body = package.body if isinstance(package.body, bytes) else archive.read(CHUNK_BYTES + 1)
    if body is not package.body and hashlib.sha256(body).hexdigest() != package.content.archive_sha256:
        raise changed(package)
    _write(file, memoryview(body))
    progress(len(body))
    os.fsync(file.fileno())


def _copy_large(package: Package, archive: Opened, file: FileIO, progress: Callable[[int], None]) -> None:
    """The same, proven by what is in the new file, which is hashed while more is written and synced."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with _Proof(file) as proof:
        while count := archive.readinto(buffer):
            _write(file, buffer[:count])
            proof.add(count)
            progress(count)
        os.fsync(file.fileno())
        if proof.sha256() != package.content.archive_sha256:
            raise changed(package)


class _Proof:
    """The hash of a file in the making, by a thread of its own that reads what is written."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._end = 0
        self._digest = hashlib.sha256()
        self._buffer = memoryview(bytearray(CHUNK_BYTES))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="proof")
        self._added: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def add(self, count: int) -> None:
        """So many more bytes are in the file, a chunk at most."""
        self._added.append(self._thread.submit(self._read, self._end, count))
        self._end += count

    def sha256(self) -> str:
        """In hexadecimal, of all that was added. Raises OSError."""
        for added in self._added:
            added.result()
        return self._digest.hexdigest()

    def _read(self, start: int, count: int) -> None:
        while found := os.preadv(self._file.fileno(), [self._buffer[:count]], start):
            self._digest.update(self._buffer[:found])
            start, count = start + found, count - found


def _write(file: FileIO, data: memoryview) -> None:
    """All of it, however little the system takes at once."""
    while data:
        data = data[file.write(data) :]


def _link(temporary: str, target: str) -> bool:
    """Whether the name was free. Raises Refused or OutcomeUnknown."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        # NFS repeats a link whose answer was lost, and then reports our own file.
        return os.path.samestat(os.lstat(temporary), os.lstat(target))
    except OSError as error:
        kind = Refused if error.errno in LINK_HINTS else OutcomeUnknown
        raise kind(f"cannot create {target}: {error.strerror}", hint=_hint(error, LINK_HINTS)) from error
    return True


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Before the link, whatever the file system says is a definite no."""
    try:
        yield
    except OSError as error:
        raise Refused(f"cannot write {name}: {error.strerror}", hint=_hint(error)) from error


def _hint(error: OSError, hints: dict[int, str] = HINTS) -> str:
    return hints.get(error.errno or 0, "look at the health of the file system")


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A folder for a moment, in this place or, as long as there is none, where it would be made."""
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    with TemporaryDirectory(prefix=".audit-exporter-", dir=there) as folder:
        yield Path(folder)
