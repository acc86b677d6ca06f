"""A format bound to the columns of a source: what a plan keeps of it, and later versions read.

The bound form is JSON, of lists, because a ledger sorts the keys of objects::

    {"line", "nulls", "header": [EXPR…], "fields": EXPR, "shared": [EXPR…],
     "envelope": [[name, EXPR]…] | null}

    EXPR = ["column", column | null, conversion, …]     conversions as `conversions` names them
         | ["const", JSON text] | ["sequence"] | ["all"] | ["event"]
         | ["object", [[name, EXPR]…]] | ["list", [EXPR…]]
         | ["match", EXPR, [[pattern, EXPR]…]] | ["first", [EXPR…]]
         | ["shared", index]                            of `shared`, which says once what is needed often

It must not read a file or a configuration.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from exporter.formats.conversions import TIMES, converted_text, text_of
from exporter.formats.patterns import pattern_of
from exporter.notation.wording import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.formats.language import Language
    from exporter.model import Json
    from exporter.notation.yaml_lines import Loc

Tree = Any  # an expression, or a part of one: lists in lists
NOTHING: Final = ["const", "null"]

_WORTH_SHARING = 200  # characters of JSON


class Binder:
    """Puts columns in place of roles, and texts in place of parameters."""

    def __init__(self, roles: Mapping[str, str | None], parameters: Mapping[str, str]) -> None:
        self._roles = roles
        self._parameters = parameters

    def bound(self, language: Language, envelope: Mapping[str, Tree | None] | None) -> dict[str, Json]:
        """The whole format; in an envelope, its own entries take the places that are left open there."""
        header = [self.expression(tree) for tree in language.header]
        fields = self.expression(language.fields)
        around = None
        if envelope is not None:
            filled = {
                name: language.envelope.get(name) if own is None else own for name, own in envelope.items()
            }
            around = [[name, self.expression(tree)] for name, tree in filled.items() if tree is not None]
        shared = _Shared()
        shared.count([header, fields, around])
        return {
            "line": language.line,
            "nulls": language.nulls,
            "header": shared.expression(header),
            "fields": shared.expression(fields),
            "envelope": shared.expression(around),
            "shared": shared.found,
        }

    def expression(self, tree: Tree) -> Tree:
        """One expression, without what is decided already."""
        kind, *rest = tree
        if kind == "column":
            return self._column(*rest)
        if kind == "parameter":
            return ["const", converted_text(self._parameters[rest[0]], rest[1:]).decode()]
        if kind == "object":
            return [kind, [[name, self.expression(value)] for name, value in rest[0]]]
        if kind == "list":
            return [kind, [self.expression(item) for item in rest[0]]]
        if kind == "first":
            return self._first([self.expression(item) for item in rest[0]])
        return self._match(*rest) if kind == "match" else tree

    def _column(self, role: str, *conversions: str) -> Tree:
        column = self._roles.get(role, role)
        if column is None:
            return NOTHING
        if column == self._roles.get("time") and conversions and conversions[0] in TIMES:
            # The time column knows its own moments, whatever the source writes them as.
            rest = conversions[1:] if conversions[0] == "rfc3339" else conversions
            return ["column", column, "instant", *rest]
        return ["column", column, *conversions]

    @staticmethod
    def _first(items: Sequence[Tree]) -> Tree:
        """Without what is null for certain, and what comes behind the first that never is."""
        kept: list[Tree] = []
        for item in items:
            if item != NOTHING:
                kept.append(item)
            if item[0] == "const" and item != NOTHING:
                break
        return NOTHING if not kept else kept[0] if len(kept) == 1 else ["first", kept]

    def _match(self, key: Tree, branches: Sequence[tuple[str, Tree]]) -> Tree:
        key = self.expression(key)
        if key[0] != "const":
            return ["match", key, [[pattern, self.expression(branch)] for pattern, branch in branches]]
        text = text_of(key[1].encode())
        fitting = (branch for pattern, branch in branches if pattern_of(pattern).fullmatch(text))
        return self.expression(next(fitting, NOTHING))


def fields_with(mapping: Any, column: str) -> list[str]:  # noqa: ANN401 - a bound mapping
    """Where a bound format asks for a column, each place by its keys: `fields.actor.user.email`."""
    shared = mapping.get("shared") or []
    envelope = mapping.get("envelope") or []
    roots: list[tuple[Loc, Tree]] = [
        (("header", index), tree) for index, tree in enumerate(mapping.get("header") or [])
    ]
    roots += [(("fields",), mapping["fields"]), *((("envelope", name), tree) for name, tree in envelope)]
    places = (place for loc, tree in roots for place in _places(tree, column, loc, shared))
    return list(dict.fromkeys(map(dotted, places)))


def _places(tree: Tree, column: str, loc: Loc, shared: Sequence[Tree]) -> Iterator[Loc]:
    kind, *rest = tree
    inside: list[tuple[Loc, Tree]] = []
    if kind == "column" and rest[0] == column:
        yield loc
    elif kind == "object":
        inside = [((*loc, name), item) for name, item in rest[0]]
    elif kind == "list":
        inside = [((*loc, index), item) for index, item in enumerate(rest[0])]
    elif kind == "first":
        inside = [(loc, item) for item in rest[0]]
    elif kind == "match":
        inside = [(loc, rest[0]), *((loc, branch) for _, branch in rest[1])]
    elif kind == "shared":
        inside = [(loc, shared[rest[0]])]
    for place, item in inside:
        yield from _places(item, column, place, shared)


class _Shared:
    """Finds what stands in a tree several times, and puts it aside."""

    def __init__(self) -> None:
        self.found: list[Tree] = []
        self._counts: Counter[str] = Counter()
        self._places: dict[str, int] = {}

    def count(self, tree: Tree) -> None:
        """Look at every lookup of a tree."""
        if not isinstance(tree, list):
            return
        if (key := _key(tree)) is not None:
            self._counts[key] += 1
            if self._counts[key] > 1:
                return  # what is in it stands there once, wherever it is used
        for part in tree:
            self.count(part)

    def expression(self, tree: Tree) -> Tree:
        """The same tree with references to what is put aside."""
        if not isinstance(tree, list):
            return tree
        key = _key(tree)
        if key is None or self._counts[key] < 2:  # noqa: PLR2004 - that is, stands here alone
            return [self.expression(part) for part in tree]
        if key not in self._places:
            whole = [self.expression(part) for part in tree]
            self._places[key] = len(self.found)
            self.found.append(whole)
        return ["shared", self._places[key]]


def _key(tree: list[Tree]) -> str | None:
    """What tells a lookup from every other; None for what is none, or small."""
    if len(tree) != len(("match", "key", "branches")) or tree[0] != "match" or not isinstance(tree[2], list):
        return None
    key = json.dumps(tree)
    return key if len(key) > _WORTH_SHARING and not _shows_a_column(tree[2]) else None


def _shows_a_column(tree: Tree) -> bool:
    """Whether a column's value gets out, and is not only looked up: those may be protected, where they do."""
    if not isinstance(tree, list):
        return False
    parts = tree[2] if tree[:1] == ["match"] else tree
    return tree[:1] == ["column"] or any(map(_shows_a_column, parts))
