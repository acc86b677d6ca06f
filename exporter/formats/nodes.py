"""The kinds of compiled expressions: each gives a fragment for every record of a block, column by column.

No Python code runs per record, but for what a list comprehension is. They must not know what a line is: how
the members of a record are written is told by a `Style`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from exporter.formats.conversions import NULL, TIMES, converted
from exporter.formats.weaving import each_woven, woven
from exporter.fragments import Same, Strings, has_null, picked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exporter.formats.weaving import Part
    from exporter.interfaces import Block

Writing: TypeAlias = "Callable[[Sequence[bytes]], Sequence[bytes]]"


class View(Protocol):
    """The records that an expression is worked out for: those of a block, or some of them."""

    count: int
    sequence: int
    """The number of the delivery."""
    names: Sequence[str]
    """Every column that the block has."""

    def column(self, name: str, conversions: tuple[str, ...]) -> Sequence[bytes]:
        """A column's values, converted."""
        ...

    def of(self, node: Node) -> Sequence[bytes]:
        """What an expression gives, worked out once."""
        ...


class Node(Protocol):
    """A compiled expression."""

    nullable: bool
    """Whether it may be null."""

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record. Raises ValueError when a value has no JSON form."""
        ...

    def parts(self, view: View) -> Sequence[Part]:
        """What the fragments are put together from, to be put together with what is around them."""
        ...

    def certain(self, view: View) -> Sequence[Part] | None:
        """The same if every record here has a value; None if one has none, or may have none."""
        ...


Piece: TypeAlias = "bytes | Node"


# --- Records ---------------------------------------------------------------------------------------


class BlockView:
    """All records of a block."""

    def __init__(self, block: Block, sequence: int = 0) -> None:
        self._columns = block.columns
        self._converted: dict[tuple[str, tuple[str, ...]], Sequence[bytes]] = {}
        self._found: dict[Node, Sequence[bytes]] = {}
        self.count = len(block)
        self.sequence = sequence
        self.names: Sequence[str] = tuple(self._columns)

    def column(self, name: str, conversions: tuple[str, ...]) -> Sequence[bytes]:
        """A column's values, converted once however often they are needed."""
        key = (name, conversions)
        if key not in self._converted:
            self._converted[key] = converted(self._columns[name], conversions)
        return self._converted[key]

    def of(self, node: Node) -> Sequence[bytes]:
        """What an expression gives, worked out once."""
        if node not in self._found:
            self._found[node] = node.fragments(self)
        return self._found[node]


class _Picked:
    """Some records of another view."""

    def __init__(self, view: View, indexes: Sequence[int]) -> None:
        self._view = view
        self._indexes = indexes
        self._found: dict[Node, Sequence[bytes]] = {}
        self.count = len(indexes)
        self.sequence = view.sequence
        self.names = view.names

    def column(self, name: str, conversions: tuple[str, ...]) -> Sequence[bytes]:
        return picked(self._view.column(name, conversions), self._indexes)

    def of(self, node: Node) -> Sequence[bytes]:
        if node not in self._found:
            self._found[node] = node.fragments(self)
        return self._found[node]


def lines_of(view: View, pieces: Sequence[Piece]) -> bytes:
    """The pieces of each record, one record after another."""
    return woven(_parts(view, pieces), view.count)


def _parts(view: View, pieces: Sequence[Piece]) -> Iterator[Part]:
    return chain.from_iterable(_parts_of(piece, view) for piece in pieces)


def _parts_of(piece: Piece, view: View) -> Sequence[Part]:
    return (piece,) if isinstance(piece, bytes) else piece.parts(view)


@dataclass(frozen=True, slots=True)
class Style:
    """How the members of an object or a list are written."""

    opening: bytes
    separator: bytes
    closing: bytes
    nothing: bytes
    """What stands for one whose members were all left out."""
    label: Callable[[str], bytes]
    """What stands before a member's value."""
    written: Writing | None = None
    """How values are written, where that is not the JSON they are."""
    keeps_nulls: bool = False


# --- Expressions -----------------------------------------------------------------------------------


class Expression(ABC):
    """What is compared by identity: it stands for itself in what a view has found."""

    nullable = True

    @abstractmethod
    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""

    def parts(self, view: View) -> Sequence[Part]:
        """Itself, but for what is put together from several."""
        return (self.fragments(view),)

    def certain(self, view: View) -> Sequence[Part] | None:
        """Itself, but for what is put together from several."""
        values = view.of(self)
        return None if has_null(values) else (values,)


class Constant(Expression):
    """The same for every record."""

    def __init__(self, fragment: bytes) -> None:
        self.fragment = fragment
        self.nullable = fragment == NULL

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""
        return Same(self.fragment, view.count)


class Delivery(Expression):
    """The number of the delivery."""

    nullable = False

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""
        return Same(b"%d" % view.sequence, view.count)


_CERTAIN: Final = frozenset({("instant",), *(("instant", name) for name in TIMES)})
"""What never gives null: the time column as a time. What may follow, need not take that."""


class Column(Expression):
    """A column's values, converted."""

    def __init__(self, name: str, conversions: tuple[str, ...]) -> None:
        self.name = name
        self._conversions = conversions
        self.nullable = conversions not in _CERTAIN

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""
        return view.column(self.name, self._conversions)


class Settled(Expression):
    """The same values, of which null looks like nothing else: a column of JSON may have spaces around it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""
        values = self._node.fragments(view)
        if type(values) is Strings:
            return values
        return [NULL if one[:1] in b" n" and one.strip() == NULL else one for one in values]


class Stripped(Expression):
    """The same values without the spaces that a column of JSON may have around them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""
        values = self._node.fragments(view)
        return values if type(values) is Strings else list(map(bytes.strip, values))


class Woven(Expression):
    """Pieces put together, record by record."""

    nullable = False

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = _merged(pieces)

    def fragments(self, view: View) -> Sequence[bytes]:
        """The pieces of each, joined."""
        if len(self.pieces) == 1 and not isinstance(self.pieces[0], bytes):
            return self.pieces[0].fragments(view)
        return each_woven(self.parts(view), view.count)

    def parts(self, view: View) -> Sequence[Part]:
        """Those of its pieces."""
        return list(_parts(view, self.pieces))


class Member(Expression):
    """A member that is left out where it has no value."""

    nullable = False

    def __init__(self, before: bytes, node: Node, after: bytes, style: Style) -> None:
        self._around = before, after
        self._node = node
        self._written = style.written

    def parts(self, view: View) -> Sequence[Part]:
        """Where every record has a value, what is around it stands in every record as well."""
        if self._written is not None:
            return (self.fragments(view),)
        before, after = self._around
        found = self._node.certain(view)
        if found is not None:
            return (before, *found, after)
        nothing = view.of(self._node).count(NULL) == view.count
        return () if nothing else (self.fragments(view),)

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""
        before, after = self._around
        values = view.of(self._node)
        if self._written is None:
            return [b"" if one == NULL else before + one + after for one in values]
        texts = self._written(values)
        return [
            b"" if one == NULL else before + text + after for one, text in zip(values, texts, strict=True)
        ]


class Sparse(Expression):
    """Members of which every one may be left out; with none of them, it is left out itself."""

    def __init__(self, members: Sequence[Piece], style: Style) -> None:
        self._members = Woven(members)
        self._style = style
        self.nullable = style.nothing == NULL

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""
        style, skipped = self._style, len(self._style.separator)
        certain = self.certain(view)
        if certain is not None:
            return each_woven(certain, view.count)
        return [
            style.opening + one[skipped:] + style.closing if one else style.nothing
            for one in self._members.fragments(view)
        ]

    def certain(self, view: View) -> Sequence[Part] | None:
        """Its members, if the first one that is there at all is there in every record."""
        style, members = self._style, iter(self._members.pieces)
        for first in members:
            parts = _parts_of(first, view)
            if parts:
                label, *others = parts
                if not isinstance(label, bytes):
                    return None
                opening = style.opening + label[len(style.separator) :]
                return [opening, *others, *_parts(view, [*members]), style.closing]
        return None


class Written(Expression):
    """Values as a line writes them."""

    nullable = False

    def __init__(self, node: Node, written: Writing) -> None:
        self._node = node
        self._written = written

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""
        return self._written(view.of(self._node))


class First(Expression):
    """The first that is not null."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self.nullable = all(node.nullable for node in nodes)

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""
        first, *others = self._nodes
        values = view.of(first)
        if type(values) is Strings or (type(values) is Same and values.value != NULL):
            return values
        found = list(values)
        for node in others:
            missing = [index for index, one in enumerate(found) if one == NULL]
            if not missing:
                break
            put(node, view, missing, found)
        return found


def put(node: Node, view: View, indexes: Sequence[int], found: list[bytes]) -> None:
    """Work an expression out for some of the records, and put what it gives in their places."""
    for index, one in zip(indexes, _Picked(view, indexes).of(node), strict=True):
        found[index] = one


class Reused(Expression):
    """The value of an expression that may stand in other places, too."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.nullable = node.nullable

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""
        return view.of(self._node)

    def certain(self, view: View) -> Sequence[Part] | None:
        """What the expression says."""
        return self._node.certain(view)


def _merged(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """The same with neighbouring texts as one."""
    merged: list[Piece] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if isinstance(piece, bytes) and isinstance(last, bytes):
            merged[-1] = last + piece
        elif piece != b"":
            merged.append(piece)
    return merged
