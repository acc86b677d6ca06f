"""Columns in the forms that cost least to write: one value a line, without quotes, or one for all records.

Pure. To put quotes around every value of a column, and to split what came of it, would cost more than to
read, look over and write the column without. Whoever does not know of these forms meets plain sequences; who
does asks for `type(…)`: `isinstance` takes ten times as long for what is an abstract sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Final, Self, final, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

NULL: Final = b"null"
QUOTE: Final = b'"'


class Values(Sequence[bytes]):
    """A column of values, ``listed`` or ``joined`` by line feeds: made of one, and the other when asked for.

    No value has a raw line feed. For whoever does not know of it, it is the sequence of the values.
    """

    def __init__(
        self, listed: list[bytes] | None = None, *, joined: bytes | None = None, count: int | None = None
    ) -> None:
        self._listed = [] if listed is None and joined is None else listed
        self._joined = joined
        self._count = len(listed or ()) if count is None else count

    @classmethod
    def of_lines(cls, joined: bytes, count: int) -> Self:
        """So many values, one a line, without the last line feed; at least one."""
        return cls(joined=joined, count=count)

    @classmethod
    def like(cls, values: Values) -> Self:
        """The values of another column."""
        return cls(values._listed, joined=values._joined, count=values._count)

    @property
    def listed(self) -> list[bytes]:
        """The values, not to be changed."""
        if self._listed is None:
            self._listed = self.joined.split(b"\n")
        return self._listed

    @property
    def joined(self) -> bytes:
        """The values, one a line, without the last line feed."""
        if self._joined is None:
            self._joined = b"\n".join(self.listed)
        return self._joined

    def pick(self, indexes: Sequence[int]) -> Self:
        """Some of them."""
        listed = self.listed
        return type(self)([listed[index] for index in indexes])

    def only(self) -> bytes | None:
        """The value that all have; None if they differ, or there is none."""
        if not self._count:
            return None
        if self._joined is None:
            first = self.listed[0]
            is_same = self.listed[-1] == first and self.listed.count(first) == self._count
            return first if is_same else None
        first = self._joined.partition(b"\n")[0]
        if len(self._joined) + 1 != (len(first) + 1) * self._count or not self._joined.endswith(first):
            return None
        return first if self._joined + b"\n" == (first + b"\n") * self._count else None

    def has(self, value: bytes) -> bool:
        """Whether it is one of them."""
        if self._joined is None:
            return value in self.listed
        may_have = self._count > 0 and value in self._joined
        return may_have and b"\n%b\n" % value in b"\n%b\n" % self._joined

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment] # as lists have it

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.listed)

    def count(self, value: object) -> int:
        """How many are this one."""
        return self.listed.count(value)  # type: ignore[arg-type] # as lists have it

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        return self.listed[index]


@final
class Figures(Values):
    """A column of numbers, truth values and nulls: no text at all."""


@final
class Strings(Sequence[bytes]):
    """A column of JSON strings, none of them null: ``values`` are what is inside the quotes, escaped.

    For whoever does not know of it, it is the sequence of the strings, quotes included. ``end`` is what all
    of them end in, the quote included. Without ``has_words`` no value is anybody's text: times, addresses,
    and the like.
    """

    def __init__(self, inside: Values | list[bytes], *, end: bytes = QUOTE, has_words: bool = True) -> None:
        self.values = inside if isinstance(inside, Values) else Values(inside)
        self.end = end
        self.has_words = has_words

    @property
    def inside(self) -> list[bytes]:
        """What is inside, not to be changed."""
        return self.values.listed

    @cached_property
    def _quoted(self) -> list[bytes]:
        return self._whole(self.inside)

    def _whole(self, inside: Sequence[bytes]) -> list[bytes]:
        form = QUOTE + b"%b" + self.end
        return [form % one for one in inside]

    def __len__(self) -> int:
        return len(self.values)

    def pick(self, indexes: Sequence[int]) -> Strings:
        """Some of them."""
        return Strings(self.values.pick(indexes), end=self.end, has_words=self.has_words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment] # as lists have it

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._quoted)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return self._whole(self.inside[index])
        return QUOTE + self.inside[index] + self.end


@final
class Same(Sequence[bytes]):
    """A column that has the same ``value`` in each of ``count`` records."""

    def __init__(self, value: bytes, count: int) -> None:
        self.value = value
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment] # as lists have it

    def __iter__(self) -> Iterator[bytes]:
        return repeat(self.value, self._count)

    def count(self, value: object) -> int:
        """All of them, or none."""
        return self._count if value == self.value else 0

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self.value] * len(range(self._count)[index])
        range(self._count)[index]  # IndexError behind the last one
        return self.value


def has_words(fragments: Sequence[bytes]) -> bool:
    """Whether a text that somebody wrote may be in a column."""
    return fragments.has_words if type(fragments) is Strings else type(fragments) is not Figures


def has_null(fragments: Sequence[bytes]) -> bool:
    """Whether one of a column's values is null, if none has spaces around it."""
    if type(fragments) is Strings:
        return False
    if type(fragments) is Values or type(fragments) is Figures:
        return fragments.has(NULL)
    return fragments.count(NULL) > 0


def joined(fragments: Sequence[bytes]) -> bytes:
    """A column's values, one a line; of ``Strings`` what is inside their quotes."""
    if type(fragments) is Strings:
        return fragments.values.joined
    if type(fragments) is Values or type(fragments) is Figures:
        return fragments.joined
    return b"\n".join(fragments)


def picked(fragments: Sequence[bytes], indexes: Sequence[int]) -> Sequence[bytes]:
    """Some of a column's values."""
    if type(fragments) is Strings or type(fragments) is Values or type(fragments) is Figures:
        return fragments.pick(indexes)
    if type(fragments) is Same:
        return Same(fragments.value, len(indexes))
    return [fragments[index] for index in indexes]
