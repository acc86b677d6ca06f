"""Bound trees made into expressions: what does not depend on a record is put together once.

Neighbouring texts become one, equal expressions too, so a block costs what its columns cost.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from exporter.formats.binding import NOTHING
from exporter.formats.conversions import NULL
from exporter.formats.lookups import Match
from exporter.formats.nodes import (
    Column,
    Constant,
    Delivery,
    Expression,
    First,
    Member,
    Reused,
    Settled,
    Sparse,
    Stripped,
    Style,
    Woven,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.formats.nodes import Node, Piece, View, Writing
    from exporter.formats.weaving import Part

Tree = Any  # a bound expression, as `binding` describes it


class _All(Expression):
    """Every column of the source under its own name."""

    nullable = False

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._known: tuple[Sequence[str], Node] = ((), Constant(b"{}"))

    def fragments(self, view: View) -> Sequence[bytes]:
        return self._of(view).fragments(view)

    def parts(self, view: View) -> Sequence[Part]:
        return self._of(view).parts(view)

    def _of(self, view: View) -> Node:
        names, node = self._known  # both at once: another thread may be at work for another source
        if view.names != names:
            columns = [[name, ["column", name]] for name in view.names]
            node = self._compiler.record(["object", columns])
            self._known = view.names, node
        return node


def _json_label(name: str) -> bytes:
    # ASCII alone, so that no name can bring a line separator of Unicode into a line.
    return json.dumps(name).encode() + b":"


def objects(*, keeps_nulls: bool, nothing: bytes = NULL) -> Style:
    """JSON objects; ``nothing`` is one without members."""
    return Style(b"{", b",", b"}", nothing, _json_label, keeps_nulls=keeps_nulls)


def _lists(*, keeps_nulls: bool) -> Style:
    return Style(b"[", b",", b"]", NULL, lambda _: b"", keeps_nulls=keeps_nulls)


class Compiler:
    """Makes expressions of bound trees.

    ``there`` are the columns that the source still has, None for all; others are null. What it met on its
    way is in ``columns``, and in ``needs_all`` whether that is every column. ``event`` is the record in an
    envelope.
    """

    def __init__(
        self,
        shared: Sequence[Tree],
        there: frozenset[str] | None,
        *,
        keeps_nulls: bool,
        writes_json: bool = True,
    ) -> None:
        self._trees = shared
        self._keeps_nulls = keeps_nulls
        self._writes_json = writes_json
        self._there = there
        self._nodes: dict[str, Node] = {}
        self.event: Node | None = None
        self.columns: set[str] = set()
        self.needs_all = False

    def record(self, tree: Tree, style: Style | None = None) -> Node:
        """What makes whole records: nothing is never null here."""
        style = style or objects(keeps_nulls=self._keeps_nulls, nothing=b"{}")
        kind, *rest = tree
        if kind == "object":
            return members([(style.label(name), self.value(item)) for name, item in rest[0]], style)
        if kind == "match":
            branches = [(pattern, self.record(branch, style)) for pattern, branch in rest[1]]
            return Match(self.value(rest[0]), branches, Constant(style.nothing))
        if kind == "shared":
            return self.record(self._trees[rest[0]], style)
        return Constant(style.nothing) if tree == NOTHING else self.value(tree)

    def value(self, tree: Tree) -> Node:
        """An expression; equal ones are one, and worked out once."""
        key = json.dumps(tree)
        if key not in self._nodes:
            self._nodes[key] = self._value(tree)
        return self._nodes[key]

    def _value(self, tree: Tree) -> Node:
        kind, *rest = tree
        makers: dict[str, Callable[..., Node]] = {
            "column": self._column,
            "const": lambda text: Constant(text.encode()),
            "sequence": Delivery,
            "shared": lambda index: self.value(self._trees[index]),
            "first": lambda items: First([self._settled(item) for item in items]),
            "match": self._match,
            "list": self._list,
            "object": self._object,
            "all": self._all,
            "event": self._event,
        }
        return makers[kind](*rest)

    def _match(self, key: Tree, branches: Sequence[tuple[str, Tree]]) -> Node:
        compiled = [(pattern, self.value(branch)) for pattern, branch in branches]
        return Match(self.value(key), compiled, Constant(NULL))

    def _list(self, items: Sequence[Tree]) -> Node:
        return members([(b"", self.value(item)) for item in items], _lists(keeps_nulls=self._keeps_nulls))

    def _object(self, found: Sequence[tuple[str, Tree]]) -> Node:
        style = objects(keeps_nulls=self._keeps_nulls)
        return members([(style.label(name), self.value(item)) for name, item in found], style)

    def _all(self) -> Node:
        self.needs_all = True
        return _All(self)

    def _event(self) -> Node:
        if self.event is None:
            raise ValueError("a mapping has the record in it where there is no envelope")
        return self.event

    def _column(self, name: str | None, *conversions: str) -> Node:
        if name is None or (self._there is not None and name not in self._there):
            return Constant(NULL)
        self.columns.add(name)
        node = Column(name, conversions)
        is_bare = not conversions or conversions[-1] in {"value", "json"}
        if not is_bare or self._keeps_nulls:
            return node
        return Settled(node) if self._writes_json else Stripped(node)

    def _settled(self, tree: Tree) -> Node:
        node = self.value(tree)
        return Settled(node) if self._keeps_nulls and not isinstance(node, Constant) else node


def members(found: Sequence[tuple[bytes, Node]], style: Style) -> Node:
    """An object or a list, of labels and values."""
    if style.keeps_nulls:
        pieces: list[Piece] = []
        for label, node in found:
            pieces += [style.separator if pieces else b"", label, *pieces_of(node)]
        return Woven([style.opening, *pieces, style.closing])
    kept = [(label, node) for label, node in found if not _is_nothing(node)]
    certain = next((index for index, (_, node) in enumerate(kept) if not node.nullable), None)
    if certain is None:
        sparse = [Member(style.separator + label, node, b"", style) for label, node in kept]
        return Sparse(sparse, style) if sparse else Constant(style.nothing)
    pieces = [style.opening]
    for index, (label, node) in enumerate(kept):
        before = style.separator if index > certain else b""
        after = style.separator if index < certain else b""
        if node.nullable:
            pieces.append(Member(before + label, node, after, style))
        else:
            pieces += [before + label, *written(node, style.written), after]
    return Woven([*pieces, style.closing])


def _is_nothing(node: Node) -> bool:
    return isinstance(node, Constant) and node.nullable


def written(node: Node, how: Writing | None) -> Sequence[Piece]:
    """The pieces of a value that a line may write in a way of its own."""
    if how is None:
        return pieces_of(node)
    return how([node.fragment]) if isinstance(node, Constant) else [Written(node, how)]


def pieces_of(node: Node) -> Sequence[Piece]:
    """What a value is put together from, to be put together with what is around it."""
    if isinstance(node, Woven):
        return node.pieces
    if isinstance(node, _All):
        return [node]
    return [node.fragment] if isinstance(node, Constant) else [Reused(node)]
