"""Whose records: one account's, or in turn those of several that a statement asks for.

An account is its text, byte by byte, whatever the column's type and collation. It opens no statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from psycopg import sql

from exporter.sources.postgres.time import literal_of
from exporter.sources.postgres.values import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.sources.postgres.relation import Column

_INT8: Final = range(-(2**63), 2**63)
_INT8_LENGTH: Final = len(str(-(2**63)))
_NEVER: Final = sql.SQL("FALSE")
_ASKED, _ASKED_TEXT = sql.SQL("asked.account"), sql.SQL("asked.text")


class Accounts:
    """The account column, and how its values are asked for."""

    def __init__(self, column: Column) -> None:
        self._column = column

    def of(self, account: str) -> list[sql.Composable]:
        """An account's records: a first term for an index, and one for bytes, whatever the collation."""
        if not self.may_have(account):
            return [_NEVER]
        if self._is_exact:
            return [_equal(self._column.value, literal_of(self._column, account))]
        return self._terms(sql.Literal(account), sql.Literal(account))

    def of_asked(self) -> list[sql.Composable]:
        """The same of the account whose turn it is: a row of `asked`."""
        if self._is_exact:
            return [_equal(self._column.value, _ASKED)]
        return self._terms(_ASKED, _ASKED_TEXT)

    def asked(self, accounts: Sequence[str]) -> sql.Composable:
        """Accounts that the column may have as rows, in this order: `asked`, to be selected from."""
        values = sql.SQL(", ").join([sql.Literal(account) for account in accounts])
        return sql.SQL("unnest(ARRAY[{}]::{}[], ARRAY[{}]::text[]) AS asked (account, text)").format(
            values, sql.SQL(self._type), values
        )

    def may_have(self, account: str) -> bool:
        """Whether a value of the column could be this account."""
        if not _is_storable(account):
            return False
        if self._column.kind is Kind.INTEGER:
            return _is_int8(account)
        return _is_uuid(account) if self._column.is_uuid else True

    @property
    def _is_exact(self) -> bool:
        """Whether equal values have equal texts."""
        return self._column.kind is Kind.INTEGER or self._column.is_uuid

    @property
    def _type(self) -> str:
        """What a value is compared as: the column's own type, so that an index serves."""
        if self._column.kind is Kind.INTEGER:
            return "int8"
        if self._column.is_padded:
            return "bpchar"  # `character` would be of one
        return self._column.type if self._column.is_text or self._column.is_uuid else "text"

    def _terms(self, value: sql.Composable, text: sql.Composable) -> list[sql.Composable]:
        same_bytes = _equal(self._column.text, text)
        return [_equal(self._column.value, value), same_bytes] if self._column.is_text else [same_bytes]


def _is_storable(text: str) -> bool:
    """No text in a database holds a zero byte, or half a character."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _is_int8(account: str) -> bool:
    """Whether it is the one text of a number that the widest integer holds."""
    is_short = len(account) <= _INT8_LENGTH and account.removeprefix("-").isdecimal()
    return is_short and str(int(account)) == account and int(account) in _INT8


def _is_uuid(account: str) -> bool:
    try:
        return str(UUID(account)) == account
    except ValueError:
        return False


def _equal(left: sql.Composable, right: sql.Composable) -> sql.Composable:
    return sql.SQL("{} = {}").format(left, right)
