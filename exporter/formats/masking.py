"""Secrets masked in the columns of a block, at the speed of looking for a few characters.

Hardly any column holds one, so each is first looked over as a whole, for signs that every form of a secret
has and that are quick to find; values with a sign are then read one by one.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.formats.secret_forms import mask_json, mask_text, quoted
from exporter.formats.secret_names import MASK, Kind, is_secret, kind_of
from exporter.formats.selection import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from exporter.interfaces import Column


class _Sign(NamedTuple):
    """What every secret of some form has. Its pattern begins with a literal, which `re` finds fast.

    It has ``byte``, and one of each of ``others``: a text without them is known in next to no time, and most
    texts never come before `re`.
    """

    byte: bytes
    others: tuple[bytes, ...]
    pattern: re.Pattern[bytes]

    def places(self, text: bytes) -> Iterable[int]:
        """Where it is."""
        if self.byte in text and all(any(byte in text for byte in some) for some in self.others):
            return (found.start() for found in self.pattern.finditer(text))
        return ()


def _sign(pattern: str, byte: str, *others: str) -> _Sign:
    return _Sign(byte.encode(), tuple(some.encode() for some in others), re.compile(pattern.encode()))


def _behind(*endings: str) -> str:
    """Right behind one of these."""
    return "|".join(f"(?<={ending})" for ending in endings)


_ENDS: Final = (
    *("token", "secret", "password", "passwd", "passphrase", "pwd", "sig", "signature"),
    *("authorization", "cookie", "[iegnrst]key", "[iegnrst][_-]key"),  # of an api, an account and so on
)
"""What the names of secrets end in. Each ending has one length, as looking back needs it."""

_LAST: Final = "[aikoprsuAIKOPRSU][eiorswEIORSW][degntyDEGNTY]"
"""Their last three letters; most names end otherwise."""

_NAMED: Final = "kKsSzZwW"
"""One of these is in the name of every secret."""


def _behind_name(after: str) -> str:
    """Right behind the name of a secret and what comes after it."""
    return f"(?<={_LAST}{after})(?:{_behind(*(f'(?i:{end}){after}' for end in _ENDS))})"


def _behind_any_name(mark: str) -> str:
    """Right behind a name, in quotes of whatever depth or none, and this mark; or white space before it."""
    backslashed = (
        *(_behind_name(rf"\\{{{depth}}}[\"']{mark}") for depth in range(1, 8)),
        rf"(?<=\\{{8}}[\"']{mark})",  # JSON in a text, in JSON in a text, and so on
    )
    unusual = rf"(?<=\\.{mark})(?:(?<=[nrt]{mark})|{'|'.join(backslashed)})|(?<=[\"' nrtdegyDEGNTY] {mark})"
    quoted_name = _behind_name(rf"[\"']{mark}")
    return f"{_behind_name(mark)}|{quoted_name}|{unusual}"


_WITH_HYPHEN: Final = (
    "gl(?:rt|dt)-",
    "gl(?:pat|ptt|cbt)-",
    "xox[abeoprs]-",
    "xapp-",
    "sk-",
    "pypi-",
    "GOCSPX-",
)
_WITH_LINE: Final = (
    *("gh[pousr]_", "github_pat_", "[sr]k_(?:live|test)_", "npm_", "whsec_", "hf_", "shp(?:at|ca|pa|ss)_"),
    "do[opr]_v1_",
)
_SIGNS: Final = (
    _sign(f"_(?<=[acefmoprstu1]_)(?:{_behind(*_WITH_LINE)})", "_", "hkmd"),
    _sign(f"-(?:(?<=[abeikoprstX]-)(?:{_behind(*_WITH_HYPHEN)})|(?=BEGIN ))", "-", "lxkpGB"),
    _sign("I(?:(?<=A[KS]I)A|(?<=AI)za)", "I", "A", "KSz"),
    _sign("J(?<=eyJ)", "J", "y", "."),
    _sign(r"G(?<=SG)\.", "G", "S", "."),
    _sign(r"y(?=a29\.)", "y", "9", "."),
    _sign(r"v(?<=hv)s\.", "v", "h", "."),
    _sign("earer ", " ", "bB", "r"),
    _sign(r"/(?<=[:\\]/)\\*/[^\s\"'@/]*@", "@", "/", ":"),  # the password of a URL
    _sign(r"k(?=\.com\\*/)(?<=hooks\.slack)", "k", "/"),
    *(_sign(f"{mark}(?:{_behind_any_name(mark)})", mark, _NAMED) for mark in ":="),
    _sign("\t", "\t"),  # which may stand before a colon, as a space does
    _sign("\r", "\r"),
    # A character that is spelt out, so that no other sign is to be seen.
    _sign(r"\\u00(?:[2-7]|0[9aAdD])", "\\", "u", "0"),
)


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
    text = b"\n".join(fragments)
    places = sorted(place for sign in _SIGNS for place in sign.places(text))
    indexes: dict[int, None] = {}
    index = end = 0
    for place in places:
        index += text.count(b"\n", end, place)
        indexes[index] = None
        end = place
    return list(indexes)


def masked(fragment: bytes, kind: Kind | None = None) -> bytes:
    """A JSON value without the secrets in it; ``kind`` is what its column's name says of it.

    A text or a number that is one itself becomes `[masked]`; a list or an object keeps its form.
    """
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
    text = fragment.decode(errors="surrogateescape")
    return mask_json(text, is_all=is_all).encode(errors="surrogateescape")


def _plain(fragment: bytes) -> str:
    return text_of(fragment) if fragment[:1] == b'"' else fragment.decode(errors="surrogateescape")


def masked_bytes(raw: bytes) -> bytes:
    """Bytes in whatever form without the secrets in them that can be told."""
    text = raw.decode(errors="surrogateescape")
    changed = mask_text(text)
    return raw if changed == text else changed.encode(errors="surrogateescape")
