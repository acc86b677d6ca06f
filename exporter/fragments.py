"""JSON strings as a column holds most of them: what is inside the quotes, which whoever writes a line adds.

Pure. To put quotes around every value of a column, and to split what came of it, would cost more than to
read, look over and write the column without.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from collections.abc import Iterator


class Strings(Sequence[bytes]):
    """A column of JSON strings, none of them null: ``inside`` the quotes, escaped, with no raw line feed.

    For whoever does not know of it, it is the sequence of the strings, quotes included. ``joined`` is what
    is inside, joined by line feeds.
    """

    def __init__(self, inside: Sequence[bytes], joined: bytes | None = None) -> None:
        self.inside = inside
        self._joined = joined

    @property
    def joined(self) -> bytes:
        """What is inside, one value a line, without the last line feed."""
        if self._joined is None:
            self._joined = b"\n".join(self.inside)
        return self._joined

    @cached_property
    def _quoted(self) -> list[bytes]:
        return [b'"%b"' % one for one in self.inside]

    def __len__(self) -> int:
        return len(self.inside)

    def pick(self, indexes: Sequence[int]) -> Strings:
        """Some of them."""
        return Strings([self.inside[index] for index in indexes])

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
            return [b'"%b"' % one for one in self.inside[index]]
        return b'"%b"' % self.inside[index]


def joined(fragments: Sequence[bytes]) -> bytes:
    """A column's values, one a line; of ``Strings`` what is inside their quotes."""
    return fragments.joined if isinstance(fragments, Strings) else b"\n".join(fragments)


def picked(fragments: Sequence[bytes], indexes: Sequence[int]) -> Sequence[bytes]:
    """Some of a column's values."""
    if isinstance(fragments, Strings):
        return fragments.pick(indexes)
    return [fragments[index] for index in indexes]
