"""Columns of JSON in the forms that cost least to write: without their quotes, or one value for all records.

Pure. To put quotes around every value of a column, and to split what came of it, would cost more than to
read, look over and write the column without. Whoever does not know of these forms meets plain sequences; who
does asks for `type(…)`: `isinstance` takes ten times as long for what is an abstract sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Final, final, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

NULL: Final = b"null"
QUOTE: Final = b'"'


@final
class Strings(Sequence[bytes]):
    """A column of JSON strings, none of them null: ``inside`` the quotes, escaped, with no raw line feed.

    For whoever does not know of it, it is the sequence of the strings, quotes included. ``joined`` is what
    is inside, joined by line feeds. ``end`` is what all of them end in, the quote included. Without
    ``has_words`` no value is anybody's text: times, addresses, and the like.
    """

    def __init__(
        self,
        inside: Sequence[bytes],
        joined: bytes | None = None,
        *,
        end: bytes = QUOTE,
        has_words: bool = True,
    ) -> None:
        self.inside = inside
        self.end = end
        self.has_words = has_words
        self._joined = joined

    @property
    def joined(self) -> bytes:
        """What is inside, one value a line, without the last line feed."""
        if self._joined is None:
            self._joined = b"\n".join(self.inside)
        return self._joined

    @cached_property
    def _quoted(self) -> list[bytes]:
        return self._whole(self.inside)

    def _whole(self, inside: Sequence[bytes]) -> list[bytes]:
        form = QUOTE + b"%b" + self.end
        return [form % one for one in inside]

    def __len__(self) -> int:
        return len(self.inside)

    def pick(self, indexes: Sequence[int]) -> Strings:
        """Some of them."""
        inside = self.inside
        some = [inside[index] for index in indexes]
        return Strings(some, end=self.end, has_words=self.has_words)

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
class Figures(list[bytes]):
    """A column of numbers, truth values and nulls: no text at all."""


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
    return type(fragments) is not Strings and fragments.count(NULL) > 0


def joined(fragments: Sequence[bytes]) -> bytes:
    """A column's values, one a line; of ``Strings`` what is inside their quotes."""
    return fragments.joined if type(fragments) is Strings else b"\n".join(fragments)


def picked(fragments: Sequence[bytes], indexes: Sequence[int]) -> Sequence[bytes]:
    """Some of a column's values."""
    if type(fragments) is Strings:
        return fragments.pick(indexes)
    if type(fragments) is Same:
        return Same(fragments.value, len(indexes))
    return [fragments[index] for index in indexes]
