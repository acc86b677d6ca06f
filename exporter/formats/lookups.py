"""Lookups: which of several expressions a record takes, by the text of a key.

It must not be slow where keys are all different, such as ids: most lookups of these ask for their presence.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

from exporter.formats.conversions import NULL, Remembered, text_of
from exporter.formats.nodes import Constant, Expression, put
from exporter.formats.patterns import pattern_of
from exporter.fragments import QUOTE, Same, Strings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.formats.nodes import Node, View

_LENGTH: Final = re.compile(r"(\?*\*)?")  # of a pattern: so many characters or more
_ABSENT: Final = frozenset({NULL, b'""'})
_SPACE: Final = ord(" ")  # a column of JSON may have some around a value


class Match(Expression):
    """A lookup: which branch a record takes is looked up by its key, and remembered for equal ones."""

    def __init__(self, key: Node, branches: Sequence[tuple[str, Node]], nothing: Node) -> None:
        patterns = [pattern for pattern, _ in branches]
        self._key = key
        self._patterns = list(map(pattern_of, patterns))
        self._short = _shorter_than(patterns)
        self._branches = [*(node for _, node in branches), *(() if "*" in patterns else (nothing,))]
        self.nullable = any(node.nullable for node in self._branches)
        self._constants = [node.fragment if isinstance(node, Constant) else NULL for node in self._branches]
        self._taken = Remembered(self._branch_of)
        self._taken_inside = Remembered(lambda inside: self._branch_of(QUOTE + inside + QUOTE))
        self._others = [
            (index, node) for index, node in enumerate(self._branches) if not isinstance(node, Constant)
        ]

    def _branch_of(self, key: bytes) -> int:
        text = text_of(key)
        fitting = (index for index, one in enumerate(self._patterns) if one.fullmatch(text))
        return next(fitting, len(self._patterns))

    def _branches_of(self, keys: Sequence[bytes]) -> Sequence[int]:
        taken, short = self._taken, self._short
        if type(keys) is Same:
            return [taken[keys.value]] * len(keys)
        if not short:
            if type(keys) is Strings and keys.end == QUOTE:
                return list(map(self._taken_inside.__getitem__, keys.inside))
            return list(map(taken.__getitem__, keys))
        absent, present = taken[NULL], taken[b'"x"']
        if (
            type(keys) is Strings
            and keys
            and (short == sys.maxsize or len(max(keys.inside, key=len)) + 2 < short)
        ):
            return [present if one else absent for one in keys.inside]
        return [
            absent
            if one in _ABSENT
            else present
            if len(one) < short and one[0] != _SPACE != one[-1]
            else taken[one]
            for one in keys
        ]

    def fragments(self, view: View) -> Sequence[bytes]:
        """One for each record."""
        taken, constants = self._branches_of(view.of(self._key)), self._constants
        if taken and taken.count(taken[0]) == len(taken):
            node = self._branches[taken[0]]
            return Same(node.fragment, len(taken)) if isinstance(node, Constant) else view.of(node)
        found = [constants[branch] for branch in taken]
        for branch, node in self._others:
            if branch in taken:
                put(node, view, [index for index, one in enumerate(taken) if one == branch], found)
        return found


def _shorter_than(patterns: Sequence[str]) -> int:
    """Of patterns that ask for a text's length alone: below how many bytes all but the empty one are alike.

    Zero for other patterns. No text has more characters than its JSON has bytes.
    """
    if not all(map(_LENGTH.fullmatch, patterns)):
        return 0
    return min((pattern.count("?") for pattern in patterns if pattern.count("?") > 1), default=sys.maxsize)
