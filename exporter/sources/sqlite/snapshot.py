"""The records of a SQLite database as one read transaction sees them: seals, and the rows of a range.

A position is the id, which SQLite gives out under the write lock: what has an id below the highest
visible one is visible itself, or never will be. It must not look at more than one snapshot, nor keep one.

Its limit: SQLite gives a database no identity, so a seal knows its own by one record. Where retention has
deleted that record, or every record before the seal, another database in its place goes unnoticed as long
as its ids reach as far.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from exporter.columns import Layout, NumberTimes, Roles, RowBlock
from exporter.errors import MissingColumn, SourceChanged, SourceError
from exporter.model import Branch
from exporter.sources.derived import require_derived
from exporter.sources.pieces import pieces
from exporter.sources.sqlite.database import Relation, quoted, require_columns, select
from exporter.sources.sqlite.firsts import is_first
from exporter.sources.sqlite.joining import Candidates, Joining
from exporter.sources.sqlite.readable import are_all_readable
from exporter.sources.sqlite.rows import RowsById
from exporter.sources.sqlite.time import Condition, Row, SqlTimes

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from datetime import datetime

    from exporter.interfaces import Block, Template
    from exporter.model import Key, Range, Seal
    from exporter.sources.derived import FirstOf
    from exporter.sources.pieces import Rows

_ACCEPT = "to go on with this database: audit-exporter ledger accept-source --from TIME"
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+(e[+-][0-9]+)?)?")
_USE_AUTOINCREMENT = "declare the id INTEGER PRIMARY KEY AUTOINCREMENT, so that ids are never used again; "


@dataclass(frozen=True, slots=True)
class Selection:
    """The records of one branch of a range, and the SQL that they are sorted by."""

    one: Range
    branch: Branch
    condition: Condition
    order: str


class Snapshot:
    """Records on one connection inside one read transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        relation: Relation,
        roles: Roles,
        times: SqlTimes,
        derived: Sequence[FirstOf] = (),
    ) -> None:
        require_derived(derived, relation.names)
        self.connection = connection
        self.relation = relation
        self.times = times
        self.derived: Mapping[str, FirstOf] = {one.name: one for one in derived}
        self._roles = roles
        self._in_order: dict[str, bool] = {}
        self._id, self._time, self._account = quoted(roles.id), quoted(roles.time), quoted(roles.account)

    # --- Seals -------------------------------------------------------------------------------------

    def seal(self) -> Seal:
        """The highest id ever visible, and a fingerprint of the record that has it, or the next lower one."""
        horizon = self.horizon()
        anchor = self._anchor("<=", horizon)
        return {
            "kind": "sqlite",
            "id": horizon,
            "anchor_id": None if anchor is None else cast("int", anchor[0]),
            "anchor": None if anchor is None else _fingerprint(anchor),
        }

    def horizon(self) -> int:
        """The highest id that was ever given out, as far as the database knows."""
        row = self.connection.execute(self.select(f"max({self._id})", Condition())).fetchone()
        highest = 0 if row[0] is None else row[0]
        if not isinstance(highest, int):
            raise SourceError(
                f"the ids of the records are no integers: {str(highest)[:40]!r}",
                hint="columns.id must name an integer that grows as records appear",
            )
        if not self.relation.autoincrement:
            return highest
        given = self.connection.execute(
            "SELECT max(seq) FROM sqlite_sequence WHERE name = ?", (self.relation.table,)
        ).fetchone()
        return max(highest, given[0] or 0)

    def require(self, seal: Seal) -> None:
        """Raise SourceChanged unless this is the database of the seal and has reached it."""
        if objection := self.objection(seal):
            raise objection

    def objection(self, seal: Seal) -> SourceChanged | None:
        """What speaks against reading a range with this seal."""
        if seal.get("kind") != "sqlite":
            return SourceChanged("the seal was not taken from a SQLite database", hint=_ACCEPT)
        sealed, horizon, anchor_id = _id_of(seal), self.horizon(), seal["anchor_id"]
        if horizon < sealed:
            message = (
                f"the source went back from id {sealed} to {horizon}: was it restored from an older copy?"
            )
            return SourceChanged(message, hint=_ACCEPT)
        if anchor_id is None:
            return None
        anchor = self._anchor("=", cast("int", anchor_id))
        if anchor is None:
            # With AUTOINCREMENT nothing can take the id again: the vendor only deletes what is old.
            return None if self.relation.autoincrement else _gone(anchor_id)
        if _fingerprint(anchor) != seal["anchor"]:
            return SourceChanged(
                f"the record {anchor_id} is not the one that was sealed: "
                "ids were used again, or this is another database",
                hint=_ACCEPT,
            )
        return None

    def _anchor(self, comparison: str, identifier: int) -> Row | None:
        what = ", ".join(
            (
                self._id,
                *(f"typeof({one}), CAST({one} AS BLOB)" for one in (self._time, self._account)),
            )
        )
        condition = Condition((f"{self._id} {comparison} :id",), {"id": identifier})
        return self.row(what, condition, f"ORDER BY {self._id} DESC LIMIT 1")

    # --- Records -----------------------------------------------------------------------------------

    def select(self, what: str, condition: Condition, tail: str = "") -> str:
        """A statement over the records."""
        return select(self.relation.origin, what, condition.terms, tail)

    def row(self, what: str, condition: Condition, tail: str = "") -> Row | None:
        """The first row of a statement."""
        cursor = self.connection.execute(self.select(what, condition, tail), condition.values)
        return cast("Row | None", cursor.fetchone())

    def row_of(self, account: str, what: str, condition: Condition, tail: str = "") -> Row | None:
        """The first row about one account's records."""
        return self.row(what, self.of_account(account) + condition, tail)

    def of_account(self, account: str) -> Condition:
        """An account's records: the first term for an index, the second for bytes, whatever the collation."""
        if self.relation.one_form or _NUMBER.fullmatch(account) is None:
            return Condition((f"{self._account} = :account",)) + self._same_bytes(account)
        # Without a type the number 42 does not equal the text '42'. Two values cost the index's order.
        either = Condition((f"{self._account} IN (:account, CAST(:account AS NUMERIC))",))
        return either + self._same_bytes(account)

    def new_of_account(self, account: str, previous: int | None, sealed: int) -> Condition:
        """An account's records with ``previous < id <= sealed``, by account and id or else by id alone."""
        # Without an index that ends in the id, walking the new ids beats walking an account's history.
        is_by_id = self.relation.table is not None and not self.relation.by_account and previous is not None
        whose = self._same_bytes(account) if is_by_id else self.of_account(account)
        if previous is not None:
            whose += Condition((f"{self._id} > :previous",), {"previous": previous})
        return whose + Condition((f"{self._id} <= :seal",), {"seal": sealed})

    def visible_at(self, seal: Seal) -> Condition:
        """What a seal holds, in a term that leaves the index on time to be used."""
        return Condition((f"+{self._id} <= :seal",), {"seal": _id_of(seal)})

    def _same_bytes(self, account: str) -> Condition:
        term = f"CAST({self._account} AS BLOB) = CAST(:account AS BLOB)"
        return Condition((term,), {"account": account})

    # --- Ranges ------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the records, and after them the derived ones."""
        return (*self.relation.names, *self.derived)

    def layout(self, columns: Sequence[str] | None) -> Layout:
        """The columns that were asked for, in the source's order, and those that a block needs itself."""
        names = self.names
        if columns is not None:
            require_columns(names, columns, MissingColumn)
        roles = self._roles
        shown = tuple(name for name in names if columns is None or name in columns)
        needed = tuple(name for name in names if name in {*shown, roles.id, roles.time, roles.account})
        # A derived value is the JSON that it stands for: SQLite has no booleans.
        return Layout(needed, shown, roles, self.times.python, self.relation.json_text | self.derived.keys())

    def blocks(
        self, one: Range, layout: Layout, block_rows: int, template: Template | None = None
    ) -> Generator[Block, None, None]:
        """The records of a range, branch by branch, bounded in number and bytes at a time. To be closed."""
        for selection in self._earlier(one):
            if selection.branch is Branch.UNREADABLE and self._is_plain(one):
                continue
            yield from self._selected(selection, layout, block_rows)
        if one.last is None or one.last[0] is not None:
            yield from self._on_time(one, layout, block_rows, template)

    def first_on_time(self, account: str, start: datetime, end: datetime, seal: Seal) -> datetime | None:
        """The second of an account's first record in [start, end) that the seal holds."""
        lookup = partial(self.row_of, account)
        return self.times.first_second(lookup, start, end, self.visible_at(seal))

    def on_time(self, one: Range) -> Selection | None:
        """The branch that nearly every record goes through."""
        found = self.times.on_time(partial(self.row_of, one.account), *self._seconds(one))
        if found is None:
            return None
        condition = self.of_account(one.account) + self.visible_at(one.seal) + found[0] + self._part(one)
        return Selection(one, Branch.ON_TIME, condition, f"{found[1]}, {self._id}")

    def _earlier(self, one: Range) -> Iterator[Selection]:
        """The other branches that a range's part touches: times lie after all that is unreadable."""
        if one.previous is not None and (one.after is None or one.after[0] is None):
            yield self._unreadable(one)
        if one.previous is not None and (one.last is None or one.last[0] is not None):
            yield self._late(one, _id_of(one.previous))

    def _on_time(
        self, one: Range, layout: Layout, block_rows: int, template: Template | None
    ) -> Generator[Block, None, None]:
        """Joined by SQLite as far as that can be; from there on as all else is read."""
        rest = Condition()
        plain = self._in_index_order(one)
        if plain is not None:

            def by_rows(more: Condition) -> Generator[Block, None, None]:
                return self._selected(replace(plain, condition=plain.condition + more), layout, block_rows)

            whose = self.of_account(one.account) + self.visible_at(one.seal)
            candidates = Candidates(*self._what(plain, layout), plain.condition, whose)
            joining = Joining(self, candidates, layout, block_rows, template)
            with closing(joining.blocks(by_rows)) as blocks:
                yield from blocks
            if joining.is_done:
                return
            if joining.last is not None:
                rest = self._beyond(Branch.ON_TIME, joining.last, "joined")
        selection = self.on_time(one)
        if selection is not None:
            condition = selection.condition + rest
            yield from self._selected(replace(selection, condition=condition), layout, block_rows)

    def _in_index_order(self, one: Range) -> Selection | None:
        """Records on time as the index has them, unless they are known to sort otherwise."""
        if self.relation.table is None or not self.relation.is_utf8:
            return None
        found = self.times.in_index_order(partial(self.row_of, one.account), *self._seconds(one))
        if found is None:
            return None
        condition = self.of_account(one.account) + self.visible_at(one.seal) + found + self._part(one)
        return Selection(one, Branch.ON_TIME, condition, f"{self._time}, {self._id}")

    def _seconds(self, one: Range) -> tuple[datetime, datetime]:
        after, last = (None if key is None else key[0] for key in (one.after, one.last))
        return self.times.seconds_of_part(one.window.start, one.window.end, after, last)

    def _new(self, one: Range) -> Condition:
        """The records of which those that are unreadable belong to a range."""
        previous = None if one.first or one.previous is None else _id_of(one.previous)
        return self.new_of_account(one.account, previous, _id_of(one.seal))

    def _is_plain(self, one: Range) -> bool:
        """Whether it is plain that no record of a range is unreadable."""
        if self.relation.table is None or isinstance(self.times.python, NumberTimes):
            return False
        all_of_it = self.of_account(one.account) + self.visible_at(one.seal)
        if one.first and are_all_readable(self, self._roles, all_of_it, by_time=True):
            return True
        # In the order of ids, or else SQLite goes through everybody's records rather than sort these.
        is_by_id = self.relation.by_account or not one.first
        return is_by_id and are_all_readable(self, self._roles, self._new(one))

    def _unreadable(self, one: Range) -> Selection:
        new = self._new(one)
        condition = new + Condition((f"NOT {self.times.readable}",))
        if one.after is not None:
            condition += self._beyond(Branch.UNREADABLE, one.after, "after")
        if one.last is not None and one.last[0] is None:
            condition += Condition((f"{self._id} <= :last_id",), {"last_id": one.last[1]})
        return Selection(one, Branch.UNREADABLE, condition, self._id)

    def _late(self, one: Range, previous: int) -> Selection:
        new = self.new_of_account(one.account, previous, _id_of(one.seal))
        condition = new + self.times.before(one.window.start) + self._part(one)
        return Selection(one, Branch.LATE, condition, f"{self.times.value}, {self._id}")

    def _part(self, one: Range) -> Condition:
        """Where a part begins and ends among the records that have a time."""
        condition = Condition()
        if one.after is not None and one.after[0] is not None:
            condition += self._beyond(Branch.ON_TIME, one.after, "after")
        if one.last is not None:
            term = f"({self.times.value}, {self._id}) <= (:last_time, :last_id)"
            condition += Condition((term,), {"last_time": one.last[0], "last_id": one.last[1]})
        return condition

    def _beyond(self, branch: Branch, key: Key, name: str) -> Condition:
        """Only what sorts after a key of the same branch."""
        time, identifier = key
        if branch is Branch.UNREADABLE:
            return Condition((f"{self._id} > :{name}_id",), {f"{name}_id": identifier})
        term = f"({self.times.value}, {self._id}) > (:{name}_time, :{name}_id)"
        return Condition((term,), {f"{name}_time": time, f"{name}_id": identifier})

    def _selected(
        self, selection: Selection, layout: Layout, block_rows: int
    ) -> Generator[RowBlock, None, None]:
        """Strictly at first; from the first text that is not UTF-8 on, in a way that fails for it alone."""
        last: Key | None = None
        try:
            with closing(self._fetched(selection, layout, block_rows)) as blocks:
                for block in blocks:
                    yield block
                    last = block.key(len(block) - 1)
        except sqlite3.OperationalError as error:
            if hasattr(
                error, "sqlite_errorcode"
            ):  # SQLite's own; what the Python driver cannot decode has none
                raise
        else:
            return
        condition = selection.condition
        if last is not None:
            condition += self._beyond(selection.branch, last, "resumed")
        self.connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        yield from self._fetched(replace(selection, condition=condition), layout, block_rows)

    def _fetched(
        self, selection: Selection, layout: Layout, block_rows: int
    ) -> Generator[RowBlock, None, None]:
        def block_of(rows: Sequence[Row]) -> RowBlock:
            return RowBlock(selection.branch, layout, rows)

        with closing(self._rows(selection, layout)) as rows:
            for piece in pieces(rows, block_rows, lambda row: block_of([row]).key(0)):
                yield block_of(piece)

    def _rows(self, selection: Selection, layout: Layout) -> Rows:
        """Whole rows only where an index has them in order, which is nearly always; else by sorted ids."""
        terms, own = self._what(selection, layout)
        what = ", ".join(terms.values())
        values = {**selection.condition.values, **own}
        tail = f"ORDER BY {selection.order}"
        statement = self.select(what, selection.condition, tail)
        is_main = selection.branch is Branch.ON_TIME  # the others are not worth the question
        if self.relation.table is None or (is_main and self.is_in_order(statement, values)):
            return self.connection.execute(statement, values)
        ids = self.connection.execute(self.select(self._id, selection.condition, tail), values)
        return RowsById(ids, self.select(what, Condition((f"{self._id} = :row_id",))), own)

    def _what(self, selection: Selection, layout: Layout) -> tuple[Mapping[str, str], Mapping[str, object]]:
        """What a row is made of, by name, and the values that this takes."""
        terms: dict[str, str] = {name: quoted(name) for name in layout.names}
        values: dict[str, object] = {}
        for name in terms.keys() & self.derived.keys():
            terms[name], more = is_first(
                self, self._roles, self.derived[name], selection.one, selection.branch
            )
            values |= more
        return terms, values

    def is_in_order(self, statement: str, values: Mapping[str, object]) -> bool:
        """Whether SQLite need not sort what it finds, as it says itself."""
        if statement not in self._in_order:
            plan = self.connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
            self._in_order[statement] = not any("TEMP B-TREE" in detail for *_, detail in plan.fetchall())
        return self._in_order[statement]


def _id_of(seal: Mapping[str, object]) -> int:
    return cast("int", seal["id"])


def _fingerprint(anchor: Row) -> str:
    """A hash of a record's id, time and account, types included."""
    return hashlib.sha256(repr(anchor).encode()).hexdigest()


def _gone(anchor_id: object) -> SourceChanged:
    return SourceChanged(
        f"the record {anchor_id}, the newest one that was sealed, is gone, and its id may be used again",
        hint=_USE_AUTOINCREMENT + _ACCEPT,
    )
