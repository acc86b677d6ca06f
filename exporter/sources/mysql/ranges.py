"""The records of a range as SQL, branch by branch, in one transaction's snapshot.

Each branch is written so that one index serves it, and the others stay out of its way: (account, time, id)
in its order, with no sort, for the records on time; (account, position) for late ones. SQL bounds positions
coarsely; what a seal holds, gaps and all, is decided here for each row. It must not take seals, nor see more
than one snapshot.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from exporter.columns import Layout, RowBlock
from exporter.errors import MissingColumn, SourceError
from exporter.model import Branch
from exporter.sources.derived import require_derived
from exporter.sources.mysql.firsts import is_first
from exporter.sources.mysql.gaps import Extent, Members, coarse, difference, union
from exporter.sources.mysql.relation import literal, require_columns
from exporter.sources.mysql.values import Kind, converted
from exporter.sources.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from datetime import datetime

    from exporter.columns import Roles
    from exporter.model import Range, Scalar, Seal
    from exporter.sources.derived import FirstOf
    from exporter.sources.mysql.connection import Row, Session, Stream
    from exporter.sources.mysql.relation import Column, Relation
    from exporter.sources.mysql.time import SqlTimes

_MOST_RUNS = 50  # of positions in a statement
_NEVER = "FALSE"
_BASIC_PLANE = 0xFFFF


@dataclass(frozen=True, slots=True)
class Selection:
    """The records of one branch of a range: what SQL selects, and which positions of that count."""

    one: Range
    branch: Branch
    terms: Sequence[str]
    order: str
    counts: Callable[[int], bool]


class Snapshot:
    """Records as one transaction sees them."""

    def __init__(
        self,
        session: Session,
        relation: Relation,
        roles: Roles,
        times: SqlTimes,
        derived: Sequence[FirstOf] = (),
    ) -> None:
        require_derived(derived, relation.columns)
        self.derived = {one.name: one for one in derived}
        self.session = session
        self.relation = relation
        self.times = times
        self._roles = roles
        self._account = relation.column(roles.account)
        self._ids = Ids(relation.column(roles.id))

    def called(self, alias: str) -> Self:
        """The same records under another name."""
        relation = self.relation.called(alias)
        times = replace(self.times, column=relation.column(self._roles.time))
        return type(self)(self.session, relation, self._roles, times)

    @property
    def id_order(self) -> str:
        """What ids sort by."""
        return self._ids.order

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the records, and after them the derived ones."""
        return (*self.relation.columns, *self.derived)

    def layout(self, columns: Sequence[str] | None) -> Layout:
        """The columns that were asked for, in the source's order, and those that a block needs itself."""
        there, roles = self.names, self._roles
        if columns is not None:
            require_columns(there, columns, MissingColumn)
        shown = tuple(name for name in there if columns is None or name in columns)
        needed = tuple(name for name in there if name in {*shown, roles.id, roles.time, roles.account})
        json_text = self.relation.json_text | self.derived.keys()
        return Layout(needed, shown, roles, self.times.python, json_text)

    def blocks(self, one: Range, layout: Layout, block_rows: int) -> Generator[RowBlock, None, None]:
        """The records of a range, branch by branch, bounded in number and bytes at a time. To be closed."""
        for selection in self._selections(one):
            yield from self._selected(selection, layout, block_rows)

    def first_on_time(self, account: str, start: datetime, end: datetime, seal: Seal) -> datetime | None:
        """A second, not after that of an account's first record in [start, end) that a seal holds."""
        terms = self.on_time(account, start, end, Extent.of(seal))
        time = self.times.column
        row = self.session.row(self.relation.select(time.shown, terms, f"ORDER BY {time.value} LIMIT 1"))
        return None if row is None else self.times.second(converted(time.kind, row)[0])

    def on_time(self, account: str, start: datetime, end: datetime, sealed: Extent) -> list[str]:
        """An account's records in [start, end) that a seal holds, but for its gaps."""
        # IS TRUE keeps the optimiser from the index on the position: that is a whole history.
        held = f"({self.relation.position.value} <= {sealed.upto}) IS TRUE"
        return [*self.of_account(account), *self.times.between(start, end), held]

    def of_account(self, account: str) -> list[str]:
        """An account's records: a first term for an index, and one for bytes, whatever the collation."""
        column = self._account
        if column.kind is Kind.INTEGER:
            is_canonical = account.removeprefix("-").isdecimal() and str(int(account)) == account
            return [f"{column.value} = {account}" if is_canonical else _NEVER]
        same_bytes = f"{column.bytes} = {literal(account.encode(errors='surrogateescape'))}"
        if not _has_all_letters(account, column.charset):
            return [same_bytes]
        return [f"{column.value} = {literal(account)}", same_bytes]

    def newly_held(self, previous: Extent, sealed: Extent) -> str | None:
        """Positions that a seal holds and the previous one does not, coarsely; None: there is none."""
        beyond = ((previous.upto + 1, sealed.upto),) if sealed.upto > previous.upto else ()
        runs = union(difference(previous.gaps, sealed.gaps), beyond)
        position = self.relation.position.value
        parts = (f"{position} BETWEEN {first} AND {last}" for first, last in coarse(runs, _MOST_RUNS))
        return f"({' OR '.join(parts)})" if runs else None

    # --- Branches ----------------------------------------------------------------------------------

    def _selections(self, one: Range) -> Iterator[Selection]:
        """The branches of a range that its part touches: times lie after all that is unreadable."""
        sealed = Extent.of(one.seal)
        previous = None if one.previous is None else Extent.of(one.previous)
        if previous is not None and (one.after is None or one.after[0] is None):
            yield from self._unreadable(one, previous, sealed)
        if one.last is None or one.last[0] is not None:
            if previous is not None and not self._is_past_late(one):
                yield from self._late(one, previous, sealed)
            terms = self.on_time(one.account, one.window.start, one.window.end, sealed)
            held = Members(sealed)
            terms += self._part(one)
            yield Selection(one, Branch.ON_TIME, terms, self._order, held.__contains__)

    def _unreadable(self, one: Range, previous: Extent, sealed: Extent) -> Iterator[Selection]:
        known = Extent(0) if one.first else previous
        new = self.newly_held(known, sealed)
        if new is None:
            return
        terms = [*self.of_account(one.account), new, f"NOT ({self.times.readable})"]
        if one.after is not None:
            terms.append(self._ids.compared(">", one.after[1]))
        if one.last is not None and one.last[0] is None:
            terms.append(self._ids.compared("<=", one.last[1]))
        yield Selection(one, Branch.UNREADABLE, terms, self._ids.order, _new(known, sealed))

    def _late(self, one: Range, previous: Extent, sealed: Extent) -> Iterator[Selection]:
        new = self.newly_held(previous, sealed)
        if new is None:
            return
        part = [f"({term}) IS TRUE" for term in self._part(one)]
        terms = [*self.of_account(one.account), new, self.times.before(one.window.start), *part]
        yield Selection(one, Branch.LATE, terms, self._order, _new(previous, sealed))

    def _is_past_late(self, one: Range) -> bool:
        """Whether a part begins behind the late records: to find none of them may cost a whole history."""
        after = None if one.after is None else one.after[0]
        return after is not None and self.times.is_from(after, one.window.start)

    @property
    def _order(self) -> str:
        return f"{self.times.column.value}, {self._ids.order}"

    def _part(self, one: Range) -> Iterator[str]:
        """Where a part begins and ends among readable times: each once for an index, and once exactly."""
        time = self.times.column.value
        if one.after is not None and one.after[0] is not None:
            first, beyond = self.times.literal(one.after[0]), self._ids.compared(">", one.after[1])
            yield f"{time} >= {first}"
            yield f"({time} > {first} OR {beyond})"
        if one.last is not None and one.last[0] is not None:
            last, within = self.times.literal(one.last[0]), self._ids.compared("<=", one.last[1])
            yield f"{time} <= {last}"
            yield f"({time} < {last} OR {within})"

    # --- Rows --------------------------------------------------------------------------------------

    def _selected(
        self, selection: Selection, layout: Layout, block_rows: int
    ) -> Generator[RowBlock, None, None]:
        shown = (self._shown(name, selection) for name in layout.names)
        what = ", ".join((*shown, self.relation.position.value))
        statement = self.relation.select(what, selection.terms, f"ORDER BY {selection.order}")
        kinds = [self._kind(name) for name in layout.names]
        time, identifier = layout.position(self._roles.time), layout.position(self._roles.id)
        with closing(_Counted(self.session.stream(statement), selection.counts)) as rows:
            for piece in pieces(rows, block_rows, lambda row: (row[time], row[identifier])):
                yield RowBlock(selection.branch, layout, _converted(kinds, piece))

    def _shown(self, name: str, selection: Selection) -> str:
        if name in self.derived:
            return is_first(self, self.derived[name], selection.one, selection.branch)
        column = self.relation.columns[name]
        return f"LOWER(HEX({column.value}))" if self._ids.is_in_hex(column) else column.shown

    def _kind(self, name: str) -> Kind:
        column = self.relation.columns.get(name)
        return Kind.TEXT if column is None or self._ids.is_in_hex(column) else column.kind


class Ids:
    """The id column in SQL: integers, text in the order of its bytes, or bytes, which go out in hex."""

    def __init__(self, column: Column) -> None:
        if column.kind not in (Kind.INTEGER, Kind.TEXT, Kind.BYTES):
            message = f"the id column {column.name!r} holds values of the kind {column.kind.value}"
            raise SourceError(message, hint="columns.id must name a column of integers, text or bytes")
        self._column = column
        # Byte order is the same in all versions and for good; that of a collation is not.
        self._is_plain = column.kind is not Kind.TEXT or column.in_byte_order
        self.order = column.value if self._is_plain else column.bytes

    def is_in_hex(self, column: Column) -> bool:
        """Whether a column is the id, and its bytes go out in hexadecimal digits."""
        return column.name == self._column.name and column.kind is Kind.BYTES

    def compared(self, comparison: str, identifier: Scalar) -> str:
        """Where records stand to the id of a key."""
        return f"{self.order} {comparison} {self._literal(identifier)}"

    def _literal(self, identifier: Scalar) -> str:
        if self._column.kind is Kind.INTEGER:
            return str(int(identifier))
        if self._column.kind is Kind.BYTES:
            return literal(bytes.fromhex(str(identifier)))
        text = str(identifier)
        return literal(text) if self._is_plain else literal(text.encode(errors="surrogateescape"))


class _Counted:
    """The rows of a statement whose position, the last value, counts."""

    def __init__(self, rows: Stream, counts: Callable[[int], bool]) -> None:
        self._rows = rows
        self._counts = counts

    def fetchmany(self, size: int, /) -> list[Row]:
        """The next of them, none at the end."""
        while rows := self._rows.fetchmany(size):
            if counted := [row for row in rows if self._counts(int(row[-1] or 0))]:
                return counted
        return []

    def close(self) -> None:
        """End the statement."""
        self._rows.close()


def _new(previous: Extent, sealed: Extent) -> Callable[[int], bool]:
    """Whether a position is held by one seal and not by the previous one."""
    held, held_before = Members(sealed), Members(previous)
    return lambda position: position in held and position not in held_before


def _converted(kinds: Sequence[Kind], rows: Sequence[Row]) -> list[tuple[object, ...]]:
    """Rows of values, column by column; the position at the end falls away."""
    columns = list(zip(*rows, strict=True))
    return list(zip(*map(converted, kinds, columns), strict=True))


def _has_all_letters(text: str, charset: str | None) -> bool:
    """Whether a text can be compared with a column of this character set: else the server refuses to."""
    if text.isascii():
        return True
    if charset in ("utf8", "utf8mb3", "ucs2"):
        return all(ord(letter) <= _BASIC_PLANE for letter in text)
    return charset == "utf8mb4"
