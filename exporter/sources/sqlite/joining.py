"""Records on time, block by block, with each column joined by SQLite itself.

A value of its own for every field is what takes longest of reading rows. So SQLite joins the values of some
thousand records, column by column, in one statement, and in a thread of its own: while it is at work,
Python is free to encode the block before. Where a format's lines are plain, SQLite makes them itself, and
joins those. Whatever is not plain is left to the next slower way: lines to columns, and columns to those who
read row by row, a piece of the records, or all the rest of them.

It must not decide what belongs to a range, and counts on an index that has the records in their order.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol, cast

from exporter.columns import NumberTimes
from exporter.sources.sqlite.ahead import Ahead
from exporter.sources.sqlite.database import quoted, select
from exporter.sources.sqlite.joined import MARKS, Joined, JoinedBlock, Kind, sure_term, term
from exporter.sources.sqlite.lines import LINE, Drawn, LineBlock, line_term, lines_term
from exporter.sources.sqlite.time import Condition

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from exporter.columns import Layout
    from exporter.interfaces import Block, Template
    from exporter.model import Key, Scalar
    from exporter.sources.sqlite.database import Relation
    from exporter.sources.sqlite.forms import Form
    from exporter.sources.sqlite.lines import LineTerm
    from exporter.sources.sqlite.time import Row, SqlTimes

_COLUMN_BYTES: Final = 2_000_000
"""The most that a joined column may take: SQLite gives up at more, before it has taken the memory."""
_BLOCK_BYTES: Final = 1_500_000
_PIECES_AHEAD: Final = 3
"""So that SQLite need not wait for whoever takes the pieces; each is memory."""
_FEW_ROWS: Final = 32
_TRIES: Final = 4
"""So many pieces in a row that cannot be joined, and the rest is not tried."""
_PRIMARY_CODE: Final = 0xFF
_REFUSALS: Final = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG)
"""What SQLite answers to values that no line can have, and to functions that it was built without."""


class Records(Protocol):
    """What has to be known of the records: a snapshot is one."""

    connection: sqlite3.Connection
    relation: Relation
    times: SqlTimes

    def is_in_order(self, statement: str, values: Mapping[str, object]) -> bool:
        """Whether SQLite need not sort what a statement finds."""
        ...


@dataclass(frozen=True, slots=True)
class Candidates:
    """The records to be read: what they are made of, by name, with its values, and the terms that they meet.

    ``whose`` are the terms without those of time.
    """

    what: Mapping[str, str]
    values: Mapping[str, object]
    condition: Condition
    whose: Condition


@dataclass(frozen=True, slots=True)
class _Place:
    """A record's time as it is stored, and its id."""

    time: Scalar
    id: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some records, up to which, and whether there may be more; without a block they are read row by row."""

    count: int
    last: _Place
    is_final: bool
    block: JoinedBlock | None = None
    odd: tuple[str, ...] = ()
    drawn: Drawn | None = None
    keys: Mapping[str, Joined] = field(default_factory=dict)

    @property
    def can_be_followed(self) -> bool:
        """Whether the next piece may be read before anybody has looked at this one."""
        return not self.is_final and bool(self.block or self.drawn)


_NOTHING: Final = _Piece(0, _Place(0, 0), is_final=True)
_UNREAD: Final = _Piece(0, _Place(0, 0), is_final=False)


class Joining:
    """One reading of candidates. ``is_done`` says afterwards whether it came to the end, ``last`` how far."""

    def __init__(
        self,
        records: Records,
        candidates: Candidates,
        layout: Layout,
        block_rows: int,
        template: Template | None = None,
    ) -> None:
        self.is_done = False
        self.last: Key | None = None
        self._records = records
        self._candidates = candidates
        self._layout = layout
        self._block_rows = self._rows = block_rows
        self._front: _Piece | None = None
        self._form: Form | None = None
        self._tries = self._line_tries = 0
        self._time, self._id = quoted(layout.roles.time), quoted(layout.roles.id)
        self._sure = frozenset(_sure(layout, records.relation))
        self._kinds = {name: _kind(name, layout, records.relation) for name in layout.names}
        self._template = template
        roles = layout.roles
        self._keys = replace(layout, names=(roles.time, roles.id, roles.account), shown=())
        self._line = line_term(template, layout, records.relation, self._sure) if template else None

    def blocks(self, by_rows: Callable[[Condition], Generator[Block]]) -> Generator[Block]:
        """The blocks in their order; ``by_rows`` reads the candidates that meet more terms. To be closed."""
        after: _Place | None = None
        piece = self._read(after)
        with Ahead[_Piece | None](self._records.connection) as ahead:
            while piece is not None and piece.count:
                while piece.can_be_followed and len(ahead) < _PIECES_AHEAD:
                    ahead.start(self._read_on)
                if piece.drawn is not None:
                    piece = self._looked_at(piece, piece.drawn, after, ahead)
                    if piece is None:
                        return
                if piece.block is not None:
                    yield piece.block
                elif self._is_hopeful(piece, after):
                    yield from by_rows(self._piece(after, piece.last))
                else:
                    return
                after = piece.last
                self.last = (self._records.times.python.key(after.time), after.id)
                piece = _NOTHING if piece.is_final else self._after(after, ahead)
            self.is_done = piece is not None

    def _after(self, after: _Place, ahead: Ahead[_Piece | None]) -> _Piece | None:
        """The piece behind a record, which may have been read."""
        while ahead:
            piece = ahead.result()
            if piece is not _UNREAD:
                return piece
        return self._read(after)

    def _read(self, after: _Place | None) -> _Piece | None:
        self._front = self._next(after)
        return self._front

    def _read_on(self) -> _Piece | None:
        """In the thread: the piece behind the last one that was read, unless that one has to do first."""
        front, self._front = self._front, None  # where this fails, nothing is read behind it
        return self._read(front.last) if front is not None and front.can_be_followed else _UNREAD

    # --- Pieces ------------------------------------------------------------------------------------

    def _next(self, after: _Place | None) -> _Piece | None:
        """The records behind one; None where they may not be in the order of the column, or not readable."""
        piece = self._drawn(after, self._line) if self._line is not None else None
        return piece or self._of_columns(after)

    def _of_columns(self, after: _Place | None) -> _Piece | None:
        """The same, with each column joined."""
        try:
            found = self._joined(self._layout.names, after)
        except sqlite3.DataError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_TOOBIG:
                raise
            if self._rows > _FEW_ROWS:
                self._rows //= 8
                return self._of_columns(after)
            roles = self._layout.roles
            found = self._joined((roles.id, roles.time), after)
        if found is None:
            return None
        return self._piece_of(found) if found else _NOTHING

    def _piece_of(self, found: Mapping[str, Joined | None]) -> _Piece | None:
        piece = self._placed(found)
        if piece is None:
            return None
        columns = {name: joined for name, joined in found.items() if joined is not None}
        if len(columns) < len(self._layout.names):
            odd = tuple(name for name, joined in found.items() if joined is None)
            return replace(piece, odd=odd)
        self._go_on(sum(len(joined.data) for joined in columns.values()))
        self._tries = 0
        block = JoinedBlock(self._layout, cast("Form", self._form), piece.count, columns)
        return replace(piece, block=block)

    def _placed(self, found: Mapping[str, Joined | None]) -> _Piece | None:
        """Where the records that were found stand; None where that is not certain."""
        times, ids = found[self._layout.roles.time], found[self._layout.roles.id]
        if times is None or ids is None or not self._is_of_one_form(times):
            return None
        last = _Place(cast("Scalar", times.last()), cast("int", ids.last()))
        is_final = times.count < self._rows
        if not is_final and self._has_misfits(last):
            return None
        return _Piece(times.count, last, is_final)

    def _go_on(self, size_bytes: int) -> None:
        """With so many records that the next block is not too large, if they are like those of this one."""
        self._rows = max(1, min(self._block_rows, self._rows * _BLOCK_BYTES // max(1, size_bytes)))

    def _is_of_one_form(self, times: Joined) -> bool:
        if self._form is None:
            low = self._candidates.condition.values["low"]
            self._form = self._records.times.form_of(times.first(), low)
        return self._form is not None and self._form.holds(times.data, times.count)

    def _has_misfits(self, last: _Place) -> bool:
        """Whether records that come later may sort before the last one."""
        misfits = self._records.times.misfits(cast("Form", self._form), last.time)
        if misfits is None:
            return False
        condition = self._candidates.whose + misfits
        statement = select(self._records.relation.origin, "1", condition.terms, "LIMIT 1")
        return self._records.connection.execute(statement, condition.values).fetchone() is not None

    def _is_hopeful(self, piece: _Piece, after: _Place | None) -> bool:
        """Look at what odd columns hold instead; whether to go on trying, as each try reads a piece twice."""
        self._tries += 1
        condition = self._candidates.condition + self._piece(after, piece.last)
        for name in piece.odd:
            extremes = ", ".join(f"typeof({one}({quoted(name)} COLLATE BINARY))" for one in ("min", "max"))
            kinds = set(self._ask(extremes, {name: self._candidates.what[name]}, condition))
            if kinds == {"integer"}:
                self._kinds[name] = Kind.INTEGER
            elif kinds == {"text"}:
                self._kinds[name] = Kind.JSON if name in self._layout.json_text else Kind.TEXT
        return self._tries < _TRIES

    # --- Lines -------------------------------------------------------------------------------------

    def _drawn(self, after: _Place | None, line: LineTerm) -> _Piece | None:
        """The records behind one as lines; None where there are no such lines."""
        try:
            found = self._joined(self._keys.names, after, line)
        except sqlite3.Error as error:
            if error.sqlite_errorcode & _PRIMARY_CODE not in _REFUSALS:
                raise
            self._refuse_lines()
            return None
        if not found:
            return None if found is None else _NOTHING
        piece, drawn = self._placed(found), found.pop(LINE)
        if piece is None or drawn is None:
            return None
        keys = {name: joined for name, joined in found.items() if joined is not None}
        if len(keys) < len(found) or not line.fits(cast("Form", self._form)):
            self._refuse_lines()
            return None
        self._go_on(len(drawn.data))
        return replace(piece, drawn=Drawn(drawn.data, piece.count, line.json_texts), keys=keys)

    def _looked_at(
        self, piece: _Piece, drawn: Drawn, after: _Place | None, ahead: Ahead[_Piece | None]
    ) -> _Piece | None:
        """The same piece with its lines as a block, or else its columns; None if neither can be had."""
        lines = drawn.lines(cast("Template", self._template))
        if lines is not None:
            self._line_tries = 0
            block = LineBlock(self._keys, cast("Form", self._form), piece.count, piece.keys, lines)
            return replace(piece, block=block)
        ahead.finish()
        self._refuse_lines()
        rows, self._rows = self._rows, piece.count
        again = self._of_columns(after)
        self._rows = rows
        if again is None or again.count != piece.count:
            return None
        return replace(again, is_final=piece.is_final)

    def _refuse_lines(self) -> None:
        """Each try reads a piece twice."""
        self._line_tries += 1
        if self._line_tries == _TRIES:
            self._line = None

    # --- Statements --------------------------------------------------------------------------------

    def _joined(
        self, names: Sequence[str], after: _Place | None, line: LineTerm | None = None
    ) -> dict[str, Joined | None] | None:
        """Each column of the next records, None if odd; no column: no record. None: SQLite has to sort.

        With a line, there are the lines as well, as nobody has looked at them.
        """
        kinds = {name: self._kinds[name] for name in names}
        relation = self._records.relation
        joins = ", ".join(
            sure_term(quoted(name))
            if name in self._sure
            else term(quoted(name), kind, is_certain=name in relation.one_forms - relation.integers)
            for name, kind in kinds.items()
        )
        condition = self._candidates.condition + (Condition() if after is None else self._beyond(after))
        what = {name: self._candidates.what[name] for name in names}
        if line is not None:
            joins += f", {lines_term(quoted(LINE))}"
            what[LINE] = line.sql
        with at_most(self._records.connection, _COLUMN_BYTES):
            row = self._ask(f"count(*), {joins}", what, condition)
        if not row:
            return None
        count = cast("int", row[0])
        fields = cast("Sequence[bytes]", row[1:])
        if not count:
            return {}
        found = {
            name: Joined.of(kind, data, count)
            for (name, kind), data in zip(kinds.items(), fields, strict=line is None)
        }
        return found if line is None else {**found, LINE: Joined(Kind.TEXT, fields[-1], count)}

    def _ask(self, aggregates: str, named: Mapping[str, str], condition: Condition) -> Row:
        """What aggregates give of the next records; nothing where SQLite would have to sort them."""
        what = ", ".join(f"{term_} AS {quoted(name)}" for name, term_ in named.items())
        tail = f"ORDER BY {self._time}, {self._id} LIMIT :rows"
        inner = select(self._records.relation.origin, what, condition.terms, tail)
        # Aggregates take the rows of a subquery as they come, and LIMIT keeps their order.
        statement = select(f"({inner})", aggregates)
        values = {**self._candidates.values, **condition.values, **MARKS, "rows": self._rows}
        if not self._records.is_in_order(statement, values):
            return ()
        return cast("Row", self._records.connection.execute(statement, values).fetchone())

    def _beyond(self, after: _Place) -> Condition:
        """Behind a record, in terms that an index serves."""
        term_ = f"({self._time}, {self._id}) > (:low, :low_id)"
        return Condition((term_,), {"low": after.time, "low_id": after.id})

    def _piece(self, after: _Place | None, last: _Place) -> Condition:
        """Behind one record and up to another."""
        values = {"upto": last.time, "upto_id": last.id}
        upto = Condition((f"({self._time}, {self._id}) <= (:upto, :upto_id)",), values)
        return upto if after is None else self._beyond(after) + upto


def _kind(name: str, layout: Layout, relation: Relation) -> Kind:
    """What a column holds, as far as its declared type says."""
    if name in layout.json_text:
        return Kind.JSON
    is_number = name == layout.roles.id or name in relation.integers
    is_number = is_number or (name == layout.roles.time and isinstance(layout.times, NumberTimes))
    return Kind.INTEGER if is_number else Kind.TEXT


def _sure(layout: Layout, relation: Relation) -> Iterator[str]:
    """Columns of which the terms of a range leave nothing but one kind."""
    roles = layout.roles
    yield roles.id
    if not isinstance(layout.times, NumberTimes):
        yield roles.time  # between two texts there are texts alone
    if relation.one_form and roles.account not in relation.integers:
        yield roles.account


@contextmanager
def at_most(connection: sqlite3.Connection, size_bytes: int) -> Iterator[None]:
    """SQLite makes and reads no larger value in here."""
    before = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, size_bytes)
    try:
        yield
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
