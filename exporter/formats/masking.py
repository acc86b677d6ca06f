"""Secrets masked in the columns of a block, at the speed of looking for a few characters.

Hardly any column holds one, so each is first looked over as a whole, for signs that every form of a secret
has; values with a sign are then read one by one.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from exporter.formats.secret_names import MASK, Kind, is_secret, kind_of
from exporter.formats.secret_signs import places
from exporter.formats.selection import text_of
from exporter.fragments import Same, has_words, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.interfaces import Column


class MaskedColumn:
    """A column without secrets; a value that is its record's id stays as it is. It is looked at once.

    ``note`` is told which of the values, by their indexes, had one.
    """

    def __init__(
        self, column: Column, name: str, id_of: Callable[[int], str], note: Callable[[list[int]], None]
    ) -> None:
        self._column = column
        self._kind = kind_of(name)
        self._id_of = id_of
        self._note = note

    def json(self) -> Sequence[bytes]:
        """Each value as the JSON it is."""
        return self._json

    def strings(self) -> Sequence[bytes]:
        """Each value as a JSON string, or null."""
        return self._strings

    def instants(self) -> Sequence[bytes]:
        """Each value as a time, in which there is no secret."""
        return self._column.instants()

    @cached_property
    def _json(self) -> Sequence[bytes]:
        return self._masked(self._column.json())

    @cached_property
    def _strings(self) -> Sequence[bytes]:
        return self._masked(self._column.strings())

    def _masked(self, fragments: Sequence[bytes]) -> Sequence[bytes]:
        suspects = range(len(fragments)) if self._kind else suspicious(fragments)
        changed = {index: masked(fragments[index], self._kind) for index in suspects}
        changed = {
            index: new for index, new in changed.items() if self._is_to_change(index, fragments[index], new)
        }
        if not changed:
            return fragments
        self._note(list(changed))
        return [changed.get(index, fragment) for index, fragment in enumerate(fragments)]

    def _is_to_change(self, index: int, old: bytes, new: bytes) -> bool:
        return old != new and _plain(old) != self._id_of(index)


def suspicious(fragments: Sequence[bytes]) -> list[int]:
    """Which values have a sign of a secret, by their indexes."""
    if type(fragments) is Same:
        return list(range(len(fragments))) if places(fragments.value) else []
    if not has_words(fragments):
        return []
    text = joined(fragments)
    indexes: dict[int, None] = {}
    index = end = 0
    for place in places(text):
        index += text.count(b"\n", end, place)
        indexes[index] = None
        end = place
    return list(indexes)


def masked(fragment: bytes, kind: Kind | None = None) -> bytes:
    """A JSON value without the secrets in it; ``kind`` is what its column's name says of it.

    A text or a number that is one itself becomes `[masked]`; a list or an object keeps its form.
    """
    from exporter.formats.secret_forms import mask_text, quoted  # most runs meet nothing that looks like one

    if fragment[:1] != b'"':
        return _masked_json(fragment, is_all=kind is Kind.PLAIN)
    text = text_of(fragment)
    if kind and is_secret(text, kind):
        return quoted(MASK)
    changed = mask_text(text)
    if kind and is_secret(changed, kind):  # now that a secret in it has gone
        return quoted(MASK)
    return fragment if changed == text else quoted(changed)


def _masked_json(fragment: bytes, *, is_all: bool) -> bytes:
    from exporter.formats.secret_forms import mask_json

    text = fragment.decode(errors="surrogateescape")
    return mask_json(text, is_all=is_all).encode(errors="surrogateescape")


def _plain(fragment: bytes) -> str:
    return text_of(fragment) if fragment[:1] == b'"' else fragment.decode(errors="surrogateescape")


def masked_bytes(raw: bytes) -> bytes:
    """Bytes in whatever form without the secrets in them that can be told."""
    from exporter.formats.secret_forms import mask_text

    text = raw.decode(errors="surrogateescape")
    changed = mask_text(text)
    return raw if changed == text else changed.encode(errors="surrogateescape")
