"""A block as formats may see it: its columns with protected values, which are counted as they are taken.

What becomes of a single value, and which columns it is done to, is said in ``protection``.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Final

from exporter.formats.conversions import Remembered
from exporter.formats.masking import MaskedColumn
from exporter.formats.protection import MASKED, ORIGINAL, changes
from exporter.formats.secret_signs import prepare
from exporter.formats.selection import NULL, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.interfaces import Block, Column
    from exporter.model import Branch, Key, Keys, Occasion, Rendering


_REMEMBERED: Final = 16_384  # some 3 MB


class _ProtectedColumn:
    """A column with other values: strings, whatever they were, and null where there was none."""

    def __init__(
        self,
        block: Block,
        name: str,
        changed: Mapping[bytes, bytes],
        note: Callable[[Sequence[bytes]], None],
    ) -> None:
        self._block = block
        self._name = name
        self._changed = changed
        self._note = note

    def strings(self) -> Sequence[bytes]:
        """Each value, changed."""
        return self._strings

    json = strings

    @cached_property
    def _strings(self) -> Sequence[bytes]:
        values, changed = readable(self._block, self._name), self._changed
        fragments = [MASKED if value is None else changed[value] for value in values]
        self._note(fragments)
        return fragments

    def instants(self) -> Sequence[bytes]:
        """There are none: the time is not protected."""
        raise ValueError("the time is unreadable")


class _DroppedColumn(_ProtectedColumn):
    """A column as if nobody filled it; what was there is counted."""

    def strings(self) -> Sequence[bytes]:
        """Nothing but null."""
        return [NULL] * len(super().strings())

    json = strings


def _changed(change: Callable[[bytes], bytes]) -> Mapping[bytes, bytes]:
    """What becomes of a JSON string or null: the same people and addresses come again and again."""
    return Remembered(lambda value: NULL if value == NULL else change(value), _REMEMBERED)


class Protection:
    """What a plan says of its columns' values; ``there`` are those that the source has, None: all.

    ``shows`` says which columns a format that gives every one gives.
    """

    def __init__(
        self, rendering: Rendering, occasion: Occasion | None, shows: Callable[[str], bool] | None
    ) -> None:
        there, key = (None, None) if occasion is None else (occasion.columns, occasion.key)
        self.ways = {name: how for name, how in rendering.protected.items() if there is None or name in there}
        self.changed = {name: _changed(changes(how, key)) for name, how in self.ways.items()}
        self.masks_secrets = rendering.mask_secrets
        self._shows = shows
        self.is_needed = bool(self.ways or rendering.mask_secrets or shows)
        if self.masks_secrets:
            prepare()

    def shows(self, column: str) -> bool:
        """Whether a format that gives every column gives this one."""
        return self.ways.get(column) != "drop" and (self._shows is None or self._shows(column))

    def view(self, block: Block) -> ProtectedBlock:
        """A block as formats may see it."""
        return ProtectedBlock(block, self, range(len(block)), {})


class _Looks:
    """A block's columns as formats may see them, and which of their values were protected.

    It does not hold what it gives out, so that a block goes as soon as nobody needs it: a circle would stay,
    and many blocks with it, until garbage is collected.
    """

    def __init__(
        self, block: Block, protection: Protection, rows: Sequence[int], taken: dict[str, set[int]]
    ) -> None:
        self.block = block
        self.protection = protection
        self.rows = rows
        self.taken = taken

    def column(self, name: str) -> Column:
        """A column as formats may see it, or as it is if asked for so."""
        if name.startswith(ORIGINAL):
            return self.block.columns[name.removeprefix(ORIGINAL)]
        how = self.protection.ways.get(name)
        if how is None:
            plain = self.block.columns[name]
            if not self.protection.masks_secrets:
                return plain
            return MaskedColumn(plain, name, self.block.id, lambda found: self._take("secrets", name, found))
        kind = _DroppedColumn if how == "drop" else _ProtectedColumn
        changed = self.protection.changed[name]
        return kind(self.block, name, changed, lambda values: self._take_all(f"{name} {how}", name, values))

    def _take_all(self, label: str, name: str, values: Sequence[bytes]) -> None:
        if NULL in values:
            self._take(label, name, [index for index, value in enumerate(values) if value != NULL])
        elif values:
            self._noted(label, name).update(self.rows)

    def _take(self, label: str, name: str, indexes: Sequence[int]) -> None:
        if indexes:
            rows = self.rows
            self._noted(label, name).update([rows[index] for index in indexes])

    def _noted(self, label: str, name: str) -> set[int]:
        return self.taken.setdefault(f"{label}\0{name}", set())


class ProtectedBlock:
    """A block with protected values. It counts those that a format takes, each once.

    ``rows`` are its records' places in the first block, for which ``taken`` counts.
    """

    is_portable = False  # what another process counted would be lost

    def __init__(
        self, block: Block, protection: Protection, rows: Sequence[int], taken: dict[str, set[int]]
    ) -> None:
        self._block = block
        self._looks = _Looks(block, protection, rows, taken)
        self.columns: Mapping[str, Column] = _Columns(self._looks)

    @property
    def branch(self) -> Branch:
        """The branch that all these records belong to."""
        return self._block.branch

    def __len__(self) -> int:
        """How many records."""
        return len(self._block)

    def key(self, index: int) -> Key:
        """The key of one record."""
        return self._block.key(index)

    def keys(self) -> Keys:
        """The keys of all records."""
        return self._block.keys()

    def id(self, index: int) -> str:
        """The id of one record."""
        return self._block.id(index)

    def slice(self, start: int, stop: int) -> ProtectedBlock:
        """A part of this block."""
        return self._some(self._block.slice(start, stop), self._looks.rows[start:stop])

    def pick(self, indexes: Sequence[int]) -> ProtectedBlock:
        """Some records of this block, in its order."""
        return self._some(self._block.pick(indexes), [self._looks.rows[index] for index in indexes])

    def _some(self, block: Block, rows: Sequence[int]) -> ProtectedBlock:
        return ProtectedBlock(block, self._looks.protection, rows, self._looks.taken)

    def belongs_to(self, account: str) -> bool:
        """Whether every record is of this account."""
        return self._block.belongs_to(account)

    def raw(self, index: int) -> bytes:
        """What was read of one record."""
        return self._block.raw(index)

    def count_dropped(self) -> None:
        """Count what is dropped from a format that gives every column, and so never asks for these."""
        for name, how in self._looks.protection.ways.items():
            if how == "drop":
                self.columns[name].strings()

    def counts(self) -> Mapping[str, int]:
        """How many values were protected, by what was done."""
        counts: Counter[str] = Counter()
        for label, rows in self._looks.taken.items():
            counts[label.partition("\0")[0]] += len(rows)
        return counts


class _Columns(dict[str, "Column"]):
    """The columns that are given by a format that gives every one; others are there for who asks."""

    def __init__(self, looks: _Looks) -> None:
        shown = (name for name in looks.block.columns if looks.protection.shows(name))
        super().__init__((name, looks.column(name)) for name in shown)
        self._looks = looks

    def __missing__(self, name: str) -> Column:
        self[name] = column = self._looks.column(name)
        return column
