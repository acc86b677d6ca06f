"""Object stores as a destination: the rules that hold for every driver, once, above all of them.

Here are the place of an account's names, what metadata may be, the body of an upload and the probe of
`check`. It must not know a vendor, translate an error, or try anything twice.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol, cast

from exporter.errors import ConfigError, DeliveryError, NotSent, ObjectExists, Refused
from exporter.interfaces import ObjectStore
from exporter.keys import account_folder, normal_prefix, object_name
from exporter.model import Content, Finding, Level, Package, Stamp
from exporter.notation.strict import Strict
from exporter.notation.values import Prefix  # noqa: TC001 - pydantic reads the annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from exporter.model import Receipt
    from exporter.network.guard import Guard

MAX_METADATA_BYTES = 2048  # S3's limit, the lowest of all stores
RENDER_AGAIN = "leave the workspace to this program alone; the next run renders the archive again"
PROBE = Path(__file__).with_name("probe.txt")  # a file that is there: `check` needs no room to write
PROBE_FOLDER = ".audit-exporter-check"  # outside `audit/`, where nothing but records lives
NOT_THE_STORE = "see what answers there: it says so of a name that nobody ever had"
LONGEST_STAMP = Stamp(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), 9999)
LONGEST_SUFFIX = ".jsonl.gz"


class Driver(ObjectStore, Protocol):
    """An object store, with what it asks of names."""

    endpoint: str
    """The server that it shares with other stores, which hang when it does; else its own name."""

    max_component_bytes: int
    """How long the part of a name between two slashes may be."""

    def folds_case(self) -> bool:
        """Whether two names that differ only by case are one; raises ConfigError if it cannot tell."""
        ...


class ObjectStoreSettings(Strict, ABC):
    """What a configuration says of a place in an object store, whatever the kind."""

    type: str
    prefix: Prefix = ""
    """What every object's name begins with."""

    @abstractmethod
    def open(self, guard: Guard) -> Driver:
        """The driver for the store, without its prefix; it opens no connection. Raises ConfigError.

        The driver lets ``guard`` see every address that a customer chose, here and before each request.
        """


class ObjectStoreDestination:
    """A place in an object store: everything is written under one prefix."""

    def __init__(self, store: Driver, prefix: str) -> None:
        self.store = store.name
        self.endpoint = store.endpoint
        self.prefix = normal_prefix(prefix)
        self._driver = store

    def claim(self, account: str) -> str:
        """The one place of this account's names; raises ConfigError if they cannot exist here."""
        try:
            longest = object_name(self.prefix, account, LONGEST_STAMP, LONGEST_SUFFIX)
        except ValueError as error:
            message, _, hint = str(error).rpartition("; ")
            raise ConfigError(message, hint=hint) from error
        limit = self._driver.max_component_bytes
        for part in longest.split("/"):
            if len(part.encode()) > limit:
                raise ConfigError(
                    f"{self.store} cannot hold names as long as '{part}': {len(part.encode())} bytes,"
                    f" and it takes {limit}",
                    hint="shorten the account's name, or the prefix",
                )
        claim = f"{self.store}/{account_folder(self.prefix, account).removesuffix('/')}"
        return claim.casefold() if self._driver.folds_case() else claim

    def deliver(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """One try. Raises DeliveryError: ObjectExists, NotSent, Refused or OutcomeUnknown."""
        _check_metadata(package.metadata)
        return self._driver.put(package, progress)

    def check(self) -> Sequence[Finding]:
        """Write a real object next to the records, as far as that can prove that a delivery would succeed."""
        return self._driver.check(f"{self.prefix}{PROBE_FOLDER}/{secrets.token_hex(8)}")


def _check_metadata(metadata: Mapping[str, str]) -> None:
    text = "".join([*metadata, *metadata.values()])
    if not (text.isascii() and text.isprintable()):
        raise Refused("the object's metadata is not printable ASCII", hint="report this as a defect")
    if len(text) > MAX_METADATA_BYTES:
        raise Refused(
            f"the object's metadata is {len(text)} bytes, and stores take {MAX_METADATA_BYTES}",
            hint="report this as a defect",
        )


# --- What drivers are made of --------------------------------------------------------------------


@contextmanager
def opened(package: Package) -> Iterator[BinaryIO]:
    """The package's archive, for reading. Raises NotSent if it is gone."""
    try:
        file = package.path.open("rb")
    except OSError as error:
        raise NotSent(
            f"the archive {package.path.name} cannot be read from the workspace: {error.strerror}",
            hint=RENDER_AGAIN,
        ) from error
    with file:
        yield file


def changed(package: Package) -> NotSent:
    """The error for an archive that is not what its package says."""
    return NotSent(f"the archive {package.path.name} changed in the workspace", hint=RENDER_AGAIN)


class Body(io.RawIOBase):
    """``length`` bytes of a file from ``start`` on, as the body of a request.

    A client may read it before it sends it (to sign it), and again when it tries again. Only what is
    read after ``sending`` counts as progress, and no byte counts twice. An upload that is not through
    ``limit_s`` after it began ends with TimeoutError, however lively a slow connection seems.
    """

    def __init__(
        self, file: BinaryIO, start: int, length: int, *, limit_s: float, progress: Callable[[int], None]
    ) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._length = length
        self._limit_s = limit_s
        self._progress = progress
        self._at = 0
        self._reported = 0
        self._deadline: float | None = None

    def sending(self) -> None:
        """From here on, what is read goes over the wire."""
        self._deadline = time.monotonic() + self._limit_s

    def stream(self) -> IO[bytes]:
        """The body from its first byte, not yet being sent, typed as what clients take."""
        self._at = 0
        self._deadline = None
        return cast("IO[bytes]", self)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place in the body, not in the file."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        return self._at

    def tell(self) -> int:
        """The place in the body."""
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. Raises TimeoutError when the time for sending is over."""
        left = self._length - self._at
        self._file.seek(self._start + self._at)
        data = self._file.read(left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        if self._deadline is not None:
            self._count(self._deadline)
        return data

    def _count(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the upload was not through after {self._limit_s:.0f} s")
        if self._at > self._reported:
            self._progress(self._at - self._reported)
            self._reported = self._at


def prove_create_only(store: ObjectStore, probe: str) -> list[Finding]:
    """Create the object ``probe`` the way a delivery does, and again: the second put must be refused."""
    package = probe_package(probe)
    try:
        store.put(package, unwatched)
    except DeliveryError as error:
        return [_failed_probe(store, error)]
    return [_second_put(store, package)]


def _second_put(store: ObjectStore, package: Package) -> Finding:
    try:
        store.put(package, unwatched)
    except ObjectExists:
        return Finding(store.name, Level.OK, f"created {package.name}, and was refused a second time")
    except DeliveryError as error:
        return _failed_probe(store, error)
    return Finding(
        store.name,
        Level.ERROR,
        f"the store ignores If-None-Match: a second put replaced {package.name}",
        "use a store with conditional writes: here, two runs at once could replace what was delivered",
    )


def _failed_probe(store: ObjectStore, error: DeliveryError) -> Finding:
    """A finding names its store as its subject; an error, which has none, does it in its message."""
    message = error.message.removeprefix(f"{store.name} ")
    hint = NOT_THE_STORE if isinstance(error, ObjectExists) else error.hint  # of a name that is new
    return Finding(store.name, Level.ERROR, message, hint, error.fix)


def probe_package(name: str) -> Package:
    """A small object under this name, for a driver to prove something with."""
    data = PROBE.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    content = Content(
        count=0,
        late=0,
        bad=0,
        content_bytes=len(data),
        content_sha256=digest,
        archive_bytes=len(data),
        archive_sha256=digest,
    )
    return Package(PROBE, name, content, "text/plain", {"audit-exporter": "check"})


def unwatched(_sent_bytes: int) -> None:
    """Progress that nobody looks at."""
