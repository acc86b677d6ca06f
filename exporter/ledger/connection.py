"""A connection to a ledger's database: what is behind the rows needs no more of it, whichever it is.

Statements are texts of our own with `?` for values, which never get into a text. `column AMONG ?` compares
with several keys at once: one value, so that it is one statement for however many, and an index finds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

AMONG: Final = "AMONG ?"


class Dialect(NamedTuple):
    """What differs between databases. ``error`` is what all errors of the driver are."""

    name: str
    version: tuple[int, ...]
    error: type[Exception]
    keys: Callable[[list[str]], object]


class Connection(Protocol):
    """One connection, for one thread at a time. It begins and ends no transaction of its own."""

    @property
    def dialect(self) -> Dialect:
        """Which database it is."""
        ...

    def execute(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a statement finds, if it finds anything; raises an error of its driver."""
        ...

    def execute_for_each(self, text: str, rows: Sequence[Sequence[Any]]) -> None:
        """A statement that changes something, with the values of each of these rows, one after the other."""
        ...


def keys(connection: Connection, names: Iterable[str]) -> object:
    """The one value for ``AMONG ?``."""
    return connection.dialect.keys(sorted(names))
