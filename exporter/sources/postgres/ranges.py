"""The records of a range as SQL, branch by branch, in one transaction's snapshot.

Each branch is written so that one index serves it, and the others stay out of its way: (account, time, id)
in its order, with no sort, for the records on time; (account, position) for late ones. Values go into SQL
as literals, because COPY takes no parameters; psycopg quotes names and values, a query is the vendor's own.
It must not take seals, nor see more than one snapshot.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from exporter.errors import MissingColumn
from exporter.model import Branch
from exporter.sources.derived import require_derived
from exporter.sources.postgres.accounts import Accounts
from exporter.sources.postgres.copy import CopyColumn, CopyLayout, blocks
from exporter.sources.postgres.firsts import is_first
from exporter.sources.postgres.relation import BYTEWISE, Column, Relation, require_columns
from exporter.sources.postgres.seal import newly_visible, visible_at
from exporter.sources.postgres.time import SqlTimes, literal_of
from exporter.sources.postgres.values import Kind

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from datetime import datetime

    from exporter.columns import Roles
    from exporter.model import Key, Range, Scalar, Seal
    from exporter.sources.derived import FirstOf
    from exporter.sources.postgres.connection import Session
    from exporter.sources.postgres.copy import CopyBlock

_NEVER = sql.SQL("FALSE")


@dataclass(frozen=True, slots=True)
class Selection:
    """The records of one branch of a range, whosever they are, and what they are sorted by."""

    branch: Branch
    terms: Sequence[sql.Composable]
    order: str


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
        self._id = relation.column(roles.id)
        self.accounts = Accounts(relation.column(roles.account))
        self._sorts = True

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of the records, and after them the derived ones."""
        return (*self.relation.columns, *self.derived)

    def layout(self, columns: Sequence[str] | None) -> CopyLayout:
        """The columns that were asked for, in the source's order, and those that a block needs itself."""
        there, roles = self.names, self._roles
        if columns is not None:
            require_columns(there, columns, MissingColumn)
        shown = tuple(name for name in there if columns is None or name in columns)
        needed = tuple(name for name in there if name in {*shown, roles.id, roles.time, roles.account})
        return CopyLayout(
            columns=tuple(CopyColumn(name, self._kind(name)) for name in needed),
            shown=shown,
            roles=roles,
            times=self.times.numbers,
            valid_utf8=self.session.valid_utf8,
        )

    def blocks(self, one: Range, layout: CopyLayout, block_rows: int) -> Generator[CopyBlock, None, None]:
        """The records of a range, branch by branch, bounded in number and bytes at a time. To be closed."""
        for branch, select in self.statements(one, layout):
            with closing(self.session.copy(select, block_rows)) as pieces:
                yield from blocks(pieces, branch, layout)

    def statements(self, one: Range, layout: CopyLayout) -> Iterator[tuple[Branch, sql.Composed]]:
        """What each branch of a range is read by; its settings are in force when it comes."""
        whose = self.accounts.of(one.account)
        for selection in self.selections(one):
            yield selection.branch, self._statement(selection, one, layout, whose)

    def of_each(
        self, accounts: Sequence[str], selection: Selection, one: Range, layout: CopyLayout
    ) -> sql.Composed:
        """What a branch of a range is read by for one account after the other; its settings are in force.

        A sub-select with an order stays as it is, and one that looks at the row beside it is done for each
        row in turn: so the order is that of the accounts, and each one's own within.
        """
        select = self._statement(selection, one, layout, self.accounts.of_asked())
        asked = self.accounts.asked(accounts)
        return sql.SQL("SELECT found.* FROM {} CROSS JOIN LATERAL ({}) AS found").format(asked, select)

    def _statement(
        self, selection: Selection, one: Range, layout: CopyLayout, whose: Sequence[sql.Composable]
    ) -> sql.Composed:
        self._let_it_sort(selection.branch is not Branch.ON_TIME)
        what = sql.SQL(", ").join(
            [self._shown(column.name, one, selection.branch, whose) for column in layout.columns]
        )
        select = self.relation.select(what, [*whose, *selection.terms])
        return select + sql.SQL("ORDER BY ") + self._order(selection)

    def on_time(self, start: datetime, end: datetime, seal: Seal) -> list[sql.Composable]:
        """Records in [start, end) that a seal holds."""
        # IS TRUE keeps the planner from the index on the position: that is a whole history.
        visible = sql.SQL("({}) IS TRUE").format(visible_at(self.session.moment, seal))
        return [*self.times.between(start, end), visible]

    def first_on_time(self, account: str, start: datetime, end: datetime, seal: Seal) -> datetime | None:
        """The second of an account's first record in [start, end) that a seal holds."""
        time = self.times.column.value
        terms = [*self.of_account(account), *self.on_time(start, end, seal)]
        select = self.relation.select(sql.SQL("{}::text").format(time), terms)
        row = self.session.row(select + sql.SQL("ORDER BY {} LIMIT 1").format(time))
        return None if row is None else self.times.second(str(row[0]).encode())

    def of_account(self, account: str) -> list[sql.Composable]:
        """An account's records."""
        return self.accounts.of(account)

    def selections(self, one: Range) -> Iterator[Selection]:
        """The branches of a range that its part touches: times lie after all that is unreadable."""
        if one.previous is not None and (one.after is None or one.after[0] is None):
            yield self._unreadable(one, one.previous)
        if one.last is None or one.last[0] is not None:
            if one.previous is not None and not self._is_past_late(one):
                yield self._late(one, one.previous)
            terms = self.on_time(one.window.start, one.window.end, one.seal)
            yield Selection(Branch.ON_TIME, [*terms, *self._part(one)], "time")

    def _unreadable(self, one: Range, previous: Seal) -> Selection:
        moment = self.session.moment
        new = [visible_at(moment, one.seal)] if one.first else newly_visible(moment, previous, one.seal)
        terms = [*new, self.times.unreadable]
        if one.after is not None:
            terms.append(self._compared_id(">", one.after[1]))
        if one.last is not None and one.last[0] is None:
            terms.append(self._compared_id("<=", one.last[1]))
        return Selection(Branch.UNREADABLE, terms, "id")

    def _late(self, one: Range, previous: Seal) -> Selection:
        new = newly_visible(self.session.moment, previous, one.seal)
        # IS TRUE keeps the planner from the index on the time: that is a whole history, too.
        before = [*self.times.before(one.window.start), *self._part(one)]
        dated = sql.SQL("({}) IS TRUE").format(sql.SQL(" AND ").join(before))
        return Selection(Branch.LATE, [*new, dated], "time")

    def _is_past_late(self, one: Range) -> bool:
        """Whether a part begins behind the late records: to find none of them may cost a whole history."""
        after = None if one.after is None else one.after[0]
        return after is not None and self.times.is_from(after, one.window.start)

    def _part(self, one: Range) -> Iterator[sql.Composable]:
        """Where a part begins and ends among the records that have a time."""
        if one.after is not None and one.after[0] is not None:
            yield self._compared_key(">", one.after)
        if one.last is not None:
            yield self._compared_key("<=", one.last)

    def _compared_key(self, comparison: str, key: Key) -> sql.Composable:
        time, identifier = key
        if time is None:
            return _NEVER if comparison == "<=" else sql.SQL("TRUE")
        return sql.SQL("({time}, {id}) {comparison} ({key_time}, {key_id})").format(
            time=self.times.column.value,
            id=self.id_order,
            comparison=sql.SQL(comparison),
            key_time=self.times.literal(time),
            key_id=self._id_literal(identifier),
        )

    def _compared_id(self, comparison: str, identifier: Scalar) -> sql.Composable:
        return sql.SQL("{} {} {}").format(self.id_order, sql.SQL(comparison), self._id_literal(identifier))

    def _order(self, selection: Selection) -> sql.Composable:
        if selection.order == "id":
            return self.id_order
        return sql.SQL("{}, {}").format(self.times.column.value, self.id_order)

    @property
    def id_order(self) -> sql.Composable:
        """Ids sort as numbers, as uuids or, whatever else they are, as the bytes of their text."""
        return self._id.value if _is_value(self._id) else self._id.text

    def _id_literal(self, identifier: Scalar) -> sql.Composable:
        if _is_value(self._id):
            return literal_of(self._id, identifier)
        return sql.SQL("{}{}").format(sql.Literal(str(identifier)), BYTEWISE)

    def _let_it_sort(self, sorts: bool) -> None:  # noqa: FBT001 - as the setting
        """An index that has the order is to be used: a sort would read everything before the first row."""
        table = self.relation.table
        if table is not None and table.in_order and sorts != self._sorts:
            self.session.connection.execute(f"SET LOCAL enable_sort = {'on' if sorts else 'off'}")
            self._sorts = sorts

    def _shown(
        self, name: str, one: Range, branch: Branch, whose: Sequence[sql.Composable]
    ) -> sql.Composable:
        if name in self.derived:
            return is_first(self, self.derived[name], one, branch, whose)
        column = self.relation.columns[name]
        shown = sql.SQL("{}::text").format(column.value) if self._is_cast(column) else column.shown
        if column.name != self._roles.id or column.required:
            return shown
        # No part of a range can begin or end at NULL: rather no record than one that goes missing.
        failing = sql.SQL("1 / ({} IS NOT NULL)::int").format(column.value)
        if column.kind not in (Kind.INTEGER, Kind.NUMBER):
            return sql.SQL("coalesce({}::text, ({})::text)").format(shown, failing)
        return sql.SQL("coalesce({}, {})").format(shown, failing)

    def _kind(self, name: str) -> Kind:
        if name in self.derived:
            return Kind.BOOLEAN
        column = self.relation.columns[name]
        return Kind.TEXT if self._is_cast(column) else column.kind

    def _is_cast(self, column: Column) -> bool:
        """Whether an id or account is compared by its text, which need not be what COPY writes (inet)."""
        has_role = column.name in (self._roles.id, self._roles.account)
        return has_role and not column.is_text and not _is_value(column)


def _is_value(column: Column) -> bool:
    return column.kind in (Kind.INTEGER, Kind.NUMBER) or column.is_uuid
