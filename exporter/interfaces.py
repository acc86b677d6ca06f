"""The seams of the product: what a source, a format, a destination, a store and a ledger promise.

Not in any seam: retries, logging, limits, credentials. Those are wrappers and drivers, put together
in ``wiring``.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from datetime import datetime

    from exporter.model import (
        BadRecord,
        Batch,
        Branch,
        Finding,
        Key,
        Keys,
        Occasion,
        Package,
        Range,
        Receipt,
        Rendering,
        Seal,
    )


class Column(Protocol):
    """One column of a block as JSON text, one fragment for each row, in row order.

    Fragments are UTF-8 and hold no raw line feed, so that a record stays on one line.
    Raises ValueError when a value cannot be rendered.
    """

    def json(self) -> Sequence[bytes]:
        """Each value as the JSON it is: number, string, boolean, null, or a JSON column's own text."""
        ...

    def strings(self) -> Sequence[bytes]:
        """Each value as a JSON string, or null: what a field with one fixed type needs."""
        ...

    def instants(self) -> Sequence[bytes]:
        """Each value as an RFC 3339 UTC time in a JSON string. For the time column alone."""
        ...


class Block(Protocol):
    """Some neighbouring records of one branch of one range, column-wise, in range order."""

    @property
    def branch(self) -> Branch:
        """The branch that all these records belong to."""
        ...

    @property
    def columns(self) -> Mapping[str, Column]:
        """The columns that were asked for, by their names in the source, in the source's order."""
        ...

    @property
    def is_portable(self) -> bool:
        """Whether another process may encode it, as to pickle it takes far less than to encode it."""
        ...

    def __len__(self) -> int:
        """How many records."""
        ...

    def key(self, index: int) -> Key:
        """The key of one record. Two neighbours may have equal keys; blocks end between different ones."""
        ...

    def keys(self) -> Keys:
        """What ``key`` says of each record, of all of them at once."""
        ...

    def id(self, index: int) -> str:
        """The id of one record, as the source's users know it."""
        ...

    def slice(self, start: int, stop: int) -> Block:
        """A part of this block."""
        ...

    def pick(self, indexes: Sequence[int]) -> Block:
        """Some records of this block, in its order."""
        ...

    def belongs_to(self, account: str) -> bool:
        """Whether every record's account equals this one, byte by byte."""
        ...

    def raw(self, index: int) -> bytes:
        """What was read of one record, in some readable form. Never fails, whatever it holds."""
        ...


class Way(Enum):
    """Which of a column's forms stands in a line."""

    JSON = "json"
    STRINGS = "strings"
    INSTANTS = "instants"


class Member(NamedTuple):
    """A name of a line, which stands in JSON as it is, and the column whose values it has."""

    name: str
    column: str
    way: Way


class Template(Protocol):
    """How a format's lines look, each a JSON object of plain columns; equal ones make equal lines."""

    def members(self, columns: Sequence[str]) -> Sequence[Member] | None:
        """All of them, nulls included, for a source with these columns; None where lines are not so."""
        ...

    def fits(self, lines: bytes) -> bool:
        """Whether the format would leave lines that were made so as they are; False in doubt."""
        ...


class Lined:
    """A block that has its lines, made after a template and found to fit, in place of its columns.

    No protocol: every block is asked whether it is one, and to look for members takes longer than a record.
    """

    lines: bytes


class Source(Protocol):
    """The database where audit records live, read with the right to select and no other.

    Every method raises SourceError (SourceBusy, SourceChanged) with a hint. Safe to use from several
    threads: each reading has a connection of its own.
    """

    def now(self) -> datetime:
        """The source's clock."""
        ...

    def identity(self) -> str:
        """Which database this is, in words for a person."""
        ...

    def columns(self) -> Sequence[str]:
        """The names of the columns, in the source's order."""
        ...

    def seal(self, previous: Seal | None = None, due: datetime | None = None) -> Seal:
        """Fix what is visible for good: at least all that was before the call, if it need not wait long.

        What a transaction that is still running adds comes late. With ``due``, the moment from which the
        window could be sealed, a seal that was taken after it, for whatever export, may serve.
        Raises SourceChanged if the source is not the one ``previous`` was taken from or went back.
        """
        ...

    def holds(self, seal: Seal) -> bool:
        """Whether the source is still the one this seal was taken from and has reached it."""
        ...

    def adopt(self, seal: Seal) -> Seal | None:
        """The seal as this source would have taken it, if what is below it is here as well; else None.

        For a person who says that the source was the one of the seal until after the seal was taken.
        """
        ...

    def read(self, ranges: Sequence[Range], columns: Sequence[str] | None) -> Generator[tuple[int, Block]]:
        """Every record of the ranges, as (index of its range, block): same range, same records, always.

        Checks first, on the connection it reads with, that the source holds each range's seal
        (SourceChanged). ``columns`` limits what blocks carry; None is all of them. Several ranges may
        be answered by one ordered scan; each range's blocks come in its order. A column that is not there
        is a MissingColumn. Closing the generator lets go of the source at once.
        """
        ...

    def quiet_until(self, account: str, start: datetime, end: datetime, seal: Seal) -> datetime:
        """A moment in [start, end] before which the account has no record on time from ``start`` on.

        Lets a long catch-up pass over empty windows in one step; ``start`` is always a right answer.
        """
        ...

    def settings(self, query: str) -> Iterable[bytes]:
        """The first column of a query's rows: one export's settings each, JSON; empty where it is no text."""
        ...

    def check(self, accounts: Sequence[str]) -> Sequence[Finding]:
        """Look for what would stop or slow down an export, without changing anything."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class LineSource(Protocol):
    """A source that can make lines itself, and does where that is faster."""

    def read_lines(
        self, ranges: Sequence[Range], columns: Sequence[str] | None, template: Template
    ) -> Generator[tuple[int, Block]]:
        """As ``read``; any of the blocks may be `Lined`, its lines the very bytes that its columns make."""
        ...


class Format(Protocol):
    """Turns blocks into lines; compiled once from the settings of a plan."""

    columns: Sequence[str] | None
    """The source columns it needs; None is all of them."""

    @property
    def template(self) -> Template | None:
        """How its lines look, if they are plain: a block that is `Lined` after it can be encoded."""
        ...

    def chosen(self, block: Block) -> Sequence[int] | None:
        """Which records go out, by their indexes; None is all. Never raises: in doubt, one goes out."""
        ...

    def encode(self, block: Block) -> tuple[bytes, Mapping[str, int]]:
        """One line per record, each followed by a line feed; and how many values were protected, and how.

        Nothing else contains a line feed. ``block`` holds records that were chosen. Raises ValueError when
        any of them cannot be rendered; the caller then goes record by record.
        """
        ...

    def bad_line(self, record: BadRecord) -> bytes:
        """The line, without its line feed, of a record that has no other. Never fails."""
        ...


class ObjectStore(Protocol):
    """A driver for one kind of storage: S3, a directory, memory."""

    name: str
    """Canonical: two spellings of one bucket have one name, two buckets never share one."""

    def put(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """Create the object ``package.name`` whole, or not at all; never replace one. Exactly one try.

        ``progress`` is told how many more bytes are on their way.
        Raises ObjectExists, NotSent, Refused or OutcomeUnknown, as ``errors`` defines them.
        """
        ...

    def check(self, probe: str) -> Sequence[Finding]:
        """Write a real object under ``probe``, with the headers of production and no other right."""
        ...


class Journal(Protocol):
    """Told how a delivery gets on; what it is told of events outlives the process."""

    def __call__(self, size_bytes: int, /) -> None:
        """So many more bytes are on their way."""
        ...

    def ends(self) -> bool:
        """Whether this process has to end: to be asked while waiting, and answered by Interrupted."""
        ...

    def accepted(self, batch: Batch, refused: Sequence[BadRecord] = ()) -> None:
        """Every event up to the end of this batch is in, but for those of this batch that were refused.

        Called for each batch of a package, in order; what was accepted is never sent again. Raises Conflict
        when another process delivers the same events, Interrupted when this one has to end, and Refused for
        more refused events than can be the data's fault: all of them end the delivery.
        """
        ...

    def partly(self, batch: Batch, count: int, refused: Mapping[int, BadRecord]) -> None:
        """The first ``count`` events of this batch are in, but for those that were refused, by their place.

        Called at most once and last of all, for the first batch that was not accepted, when an error ends
        the delivery within it: so much need not be sent again. Raises what `accepted` does, but Interrupted.
        """
        ...


class Destination(Protocol):
    """Where packages go."""

    store: str
    """The store's canonical name, as attempts record it."""

    endpoint: str
    """What hangs when it does: the server that the store shares with others, else the store alone."""

    prefix: str
    """What object names here begin with; empty or ending in a slash."""

    def claim(self, account: str) -> str:
        """The one place of this account's names; raises ConfigError if they cannot exist here."""
        ...

    def deliver(self, package: Package, journal: Journal) -> Receipt:
        """One try. Raises DeliveryError: ObjectExists, NotSent, Refused or OutcomeUnknown.

        A destination of events tells the journal of each batch that is in.
        """
        ...

    def check(self) -> Sequence[Finding]:
        """Prove that a delivery would succeed, as far as that can be proven without one."""
        ...


@runtime_checkable
class Loadable(Protocol):
    """A destination, or a driver, whose first delivery loads a vendor's library."""

    def load(self) -> None:
        """Load it now, once for all of its kind, and speak to nobody.

        Never raises: what is wrong shows, with its meaning, when something is delivered.
        """
        ...


@runtime_checkable
class Preparable(Protocol):
    """A destination, or a driver, for which several deliveries at once are less work than each by itself."""

    def prepare(self, names: Sequence[str]) -> None:
        """Do once what packages of these names will need, each of which is delivered next, or not at all.

        Nothing of a package is there before its delivery. Never raises: what is wrong shows, with its
        meaning, when something is delivered.
        """
        ...


class Clock(Protocol):
    """The local clock."""

    def __call__(self) -> datetime:
        """Now, in UTC."""
        ...


class FormatCompiler(Protocol):
    """Makes a format from the settings stored in a plan."""

    def __call__(self, rendering: Rendering, occasion: Occasion | None = None) -> Format:
        """The format; without an occasion for its columns alone. Raises ExportError for another's key."""
        ...
