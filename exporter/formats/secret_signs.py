"""Where in a column's text a secret may be: one pass over all of it, for all forms at once.

A sign is what every secret of some form has, however deep it lies in JSON in a text in JSON. What has none is
passed over, so none may be missing here that `secret_forms` would mask; one too many costs time alone.
It must not decide what a secret is.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import hyperscan

from exporter.formats.secret_names import ENDINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPACE: Final = r"(?:\\+[nrt]|[ \t\r\n])*"
_WORD: Final = "[A-Za-z0-9_-]"
_SIGNS: Final = (
    rf"(?i:{'|'.join(ENDINGS)})(?:\\*[\"'])?{_SPACE}[:=]",
    "gh[pousr]_[A-Za-z0-9]",
    "github_pat_[A-Za-z0-9]",
    "gl(?:pat|rt|dt|ptt|cbt)-",
    "xapp-[0-9]",
    "xox[abeoprs]-",
    "[sr]k_(?:live|test)_",
    f"sk-{_WORD}{{20}}",
    f"pypi-{_WORD}{{16}}",
    "GOCSPX-",
    "whsec_",
    "npm_[A-Za-z0-9]{30}",
    "hf_[A-Za-z0-9]{30}",
    "shp(?:at|ca|pa|ss)_",
    "do[opr]_v1_",
    "AIza",
    "A[KS]IA",
    r"SG\.[A-Za-z0-9_-]",
    r"ya29\.",
    r"hvs\.",
    "eyJ",
    "-----BEGIN ",
    "[Bb]earer ",
    r"hooks\.slack\.com",
    r":\\*/\\*/[^\s/@\"'<>]*@",  # the password of a URL
    # A character that is spelt out, so that no other sign is to be seen.
    r"\\u00(?:[2-7]|0[9aAdD])",
)


class _Scanner(threading.local):
    """The signs made ready for one thread: its room to work in cannot be shared."""

    def __init__(self) -> None:
        self.database = hyperscan.Database()
        self.database.compile(expressions=["|".join(f"(?:{sign})" for sign in _SIGNS).encode()], ids=[0])


_SCANNER: Final = _Scanner()


def places(text: bytes) -> Sequence[int]:
    """The last byte of each sign, in order; some more than once."""
    found: list[int] = []

    def note(_id: int, _start: int, end: int, _flags: int, _context: object) -> None:
        found.append(end - 1)

    _SCANNER.database.scan(text, match_event_handler=note)
    return sorted(found)
