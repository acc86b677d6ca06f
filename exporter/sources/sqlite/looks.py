r"""Looks at the lines of a block that SQLite made: at all of them at once, not record by record.

What a look finds nothing in is what orjson would have written; in doubt it finds something. It must not
know of what records the lines are.
"""

from __future__ import annotations

import re
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from exporter.columns import SEPARATOR

if TYPE_CHECKING:
    from hyperscan import Database

LARGE_BYTES: Final = 16_384
"""A larger text is worth loading Hyperscan for, which looks a hundred times as fast."""

_MORE: Final = rb"[\x80-\xbf]"
_REMARKABLE: Final = b"|".join(
    (
        # Controls, but for the separator, and for line feeds between objects.
        rb"[\x00-\x09\x0b-\x1e]|\n[^{]|[^}]\n",
        # Escapes that other versions may write otherwise: behind an even number of backslashes.
        rb"(?:^|[^\\])(?:\\\\)*\\[^\"\\bfnrt]",
        # U+2028, U+2029 and U+0085, at which some readers split lines.
        rb"\xe2\x80[\xa8\xa9]|\xc2\x85",
        # What is no UTF-8: bytes that it has not, too few behind a first one, and too many.
        rb"[\xc0\xc1\xf5-\xff]|[\xc2-\xdf\xe1-\xec\xee\xef\xf1-\xf3][^\x80-\xbf]",
        rb"\xe0[^\xa0-\xbf]|\xed[^\x80-\x9f]|\xf0[^\x90-\xbf]|\xf4[^\x80-\x8f]",
        rb"[\xe0-\xf4]%b[^\x80-\xbf]|[\xf0-\xf4]%b{2}[^\x80-\xbf]" % (_MORE, _MORE),
        rb"(?:^|[\x00-\x7f]|[\xc2-\xdf]%b|[\xe0-\xef]%b{2}|[\xf0-\xf4]%b{3})%b" % ((_MORE,) * 4),
    )
)
"""What is in no line that may be taken as it is; of one that ends in a brace."""

_WELL_FORMED: Final = rb"\A(?:%b)*\z" % b"|".join(
    (
        rb"[\x00-\x7f]|[\xc3-\xdf]%b|\xe0[\xa0-\xbf]%b|\xed[\x80-\x9f]%b" % ((_MORE,) * 3),
        rb"[\xe1\xe3-\xec\xee\xef]%b{2}|\xf0[\x90-\xbf]%b{2}|\xf4[\x80-\x8f]%b{2}" % ((_MORE,) * 3),
        rb"[\xf1-\xf3]%b{3}" % _MORE,
        # As above, but for U+0085, U+2028 and U+2029.
        rb"\xc2[\x80-\x84\x86-\xbf]|\xe2(?:[\x81-\xbf]%b|\x80[\x80-\xa7\xaa-\xbf])" % _MORE,
    )
)
"""A whole text without what is remarkable beyond ASCII: told in a quarter of the time."""

_UNREMARKABLE: Final = rb"(?:[^\x00-\x1f\\]|\\[\"\\bfnrt]|\}\n\{)*"
_STRING: Final = rb"\"(?:[^\x00-\x1f\"\\]|\\(?:[\"\\/bfnrt]|u[0-9A-Fa-f]{4}))*\""
_NUMBER: Final = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_SCALAR: Final = rb"%b|%b|true|false|null" % (_STRING, _NUMBER)
_SHALLOW, _DEEP = 1, 3
"""How deep lists and objects may lie in each other; the deeper, the longer it takes to make ready for it."""
_OBJECTS: Final = 2
"""The same where texts are objects alone."""
_MANY_MISSES: Final = 50


class _Sight(threading.local):
    """What a thread looks with, ready once it was needed: the room that a scan works in cannot be shared."""

    def __init__(self) -> None:
        self._scanners: dict[bytes, Database] = {}
        self.misses = 0

    def finds(self, expression: bytes, text: bytes) -> bool:
        """Whether the expression is found in a text."""
        found: list[int] = []
        self._scanner(expression).scan(text, match_event_handler=lambda *_: found.append(1))
        return bool(found)

    def _scanner(self, expression: bytes) -> Database:
        if expression not in self._scanners:
            import hyperscan

            scanner = self._scanners[expression] = hyperscan.Database()
            scanner.compile(expressions=[expression], ids=[0], flags=hyperscan.HS_FLAG_SINGLEMATCH)
        return self._scanners[expression]


_SIGHT: Final = _Sight()


def is_remarkable(text: bytes) -> bool:
    """Whether lines, or what is in them beside texts of JSON, may be others than orjson's."""
    if len(text) < LARGE_BYTES:
        return re.search(_REMARKABLE, text) is not None
    return _SIGHT.finds(_REMARKABLE, text)


def are_as_they_stand(text: bytes) -> bool:
    """Whether nothing in lines is remarkable, and what stands between two separators is JSON on one line.

    False where that is not certain: texts of JSON may lie deeper than is looked, or have other spaces.
    """
    if not text.isascii() and not _SIGHT.finds(_WELL_FORMED, text):
        return False
    return _SIGHT.finds(_expression(text), text)


def were_as_they_stand() -> None:
    """Told of lines for which that was not certain, and yet was so: after many, looks go deeper."""
    _SIGHT.misses += 1


def _expression(text: bytes) -> bytes:
    """The one that is most likely to be found."""
    if _SIGHT.misses >= _MANY_MISSES:
        return _lines(_DEEP)
    first = text.find(SEPARATOR) + 1
    # Mostly they are objects: to look for nothing else takes two thirds of the time.
    are_objects = text[first : first + 1] in {b"{", b"n"}
    return _lines(_OBJECTS, are_objects=True) if are_objects else _lines(_SHALLOW)


@lru_cache(maxsize=3)
def _lines(depth: int, *, are_objects: bool = False) -> bytes:
    """A whole text of lines; as JSON has it, but for spaces that hardly anybody writes."""
    json = _SCALAR
    for _ in range(depth):
        member = rb"%b: ?(?:%b)" % (_STRING, json)
        one_object = rb"\{(?:%b(?:, ?%b)*)?\}" % (member, member)
        json_list = rb"\[(?:(?:%b)(?:, ?(?:%b))*)?\]" % (json, json)
        json = rb"%b|%b|%b" % (_SCALAR, one_object, json_list)
    if are_objects:
        json = rb"null|%b" % one_object
    return rb"\A%b(?:%b(?:%b)%b%b)*\z" % (_UNREMARKABLE, SEPARATOR, json, SEPARATOR, _UNREMARKABLE)
