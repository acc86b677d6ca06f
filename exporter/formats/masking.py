"""Secrets masked in the columns of a block, at the speed of looking for a few characters.

Hardly any column holds one, so each is first looked over as a whole, for signs that every form of a secret
has and that are quick to find; values with a sign are then read one by one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from exporter.formats.secret_forms import MASK, is_secret_name, mask_json, mask_text, quoted
from exporter.formats.selection import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.interfaces import Column


_ENDS: Final = (
    *("token", "secret", "password", "passwd", "passphrase", "authorization", "sig", "signature"),
    *("[iets]key", "[iets][_-]key"),  # of an api, private, account or access key
)
"""What the names of secrets end in. Each ending has one length, as looking back needs it."""


def _behind(*endings: str) -> str:
    """Right behind one of these."""
    return "|".join(f"(?<={ending})" for ending in endings)


def _behind_name(quote: str, sign: str) -> str:
    """Right behind the name of a secret, so many characters that may be a quote, and a sign."""
    last = "(?<=(?i:[aikorsu][eiorsw][degnty])%s)"  # of their last three letters: most names end here
    return f"{last % (quote + sign)}(?:{_behind(*(f'(?i:{end}){quote}{sign}' for end in _ENDS))})"


_BACKSLASHED: Final = "|".join(_behind_name(rf"\\{{{depth}}}[\"']", ":") for depth in (1, 3, 7))
_COLON: Final = "|".join(
    (
        _behind_name("[\"']", ":"),
        rf"(?<=\\[\"']:)(?:{_BACKSLASHED})",  # in JSON that is a text of JSON
        r"(?<=[\"']\s:)",
        "(?<=(?i:authorization):)",
        r"(?:\\*/){2}[^\s\"'@/]*@",  # the password of a URL
    )
)
_SIGNS: Final = tuple(
    (sign[:1].encode(), re.compile(sign.encode()))
    for sign in (
        # Each begins with one byte, which `in` and `re` find in next to no time.
        f"_(?:{_behind('gh[pousr]_', 'github_pat_', '[sr]k_live_', 'npm_')})",
        f"-(?<=[tkabeoprs]-)(?:{_behind('glpat-', 'xox[abeoprs]-', 'sk-')})",
        "I(?:(?<=A[KS]I)A|(?<=AI)za)",
        "J(?<=eyJ)",
        r"G(?<=SG)\.",
        "B(?:(?=earer )|(?<=-B)EGIN )",
        "b(?=earer )",
        f"=(?:{_behind_name('', '=')})",
        f":(?:{_COLON})",
    )
)


class MaskedColumn:
    """A column without secrets; a value that is its record's id stays as it is.

    ``note`` is told which of the values, by their indexes, had one.
    """

    def __init__(
        self, column: Column, name: str, id_of: Callable[[int], str], note: Callable[[list[int]], None]
    ) -> None:
        self._column = column
        self._is_secret = is_secret_name(name)
        self._id_of = id_of
        self._note = note

    def json(self) -> Sequence[bytes]:
        """Each value as the JSON it is."""
        return self._masked(self._column.json())

    def strings(self) -> Sequence[bytes]:
        """Each value as a JSON string, or null."""
        return self._masked(self._column.strings())

    def instants(self) -> Sequence[bytes]:
        """Each value as a time, in which there is no secret."""
        return self._column.instants()

    def _masked(self, fragments: Sequence[bytes]) -> Sequence[bytes]:
        suspects = range(len(fragments)) if self._is_secret else suspicious(fragments)
        changed = {index: masked(fragments[index], is_secret=self._is_secret) for index in suspects}
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
    places = sorted(found.start() for gate, sign in _SIGNS if gate in text for found in sign.finditer(text))
    indexes: dict[int, None] = {}
    index = end = 0
    for place in places:
        index += text.count(b"\n", end, place)
        indexes[index] = None
        end = place
    return list(indexes)


def masked(fragment: bytes, *, is_secret: bool = False) -> bytes:
    """A JSON value without the secrets in it; a text or a number that is one itself becomes `[masked]`."""
    if is_secret and fragment != b'""' and fragment[:1] in b'"-0123456789':
        return quoted(MASK)
    if fragment[:1] != b'"':
        text = fragment.decode(errors="surrogateescape")
        return mask_json(text).encode(errors="surrogateescape")
    text = text_of(fragment)
    changed = mask_text(text)
    return fragment if changed == text else quoted(changed)


def _plain(fragment: bytes) -> str:
    return text_of(fragment) if fragment[:1] == b'"' else fragment.decode(errors="surrogateescape")


def masked_bytes(raw: bytes) -> bytes:
    """Bytes in whatever form without the secrets in them that can be told."""
    text = raw.decode(errors="surrogateescape")
    changed = mask_text(text)
    return raw if changed == text else changed.encode(errors="surrogateescape")
