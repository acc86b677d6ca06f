"""Where in a column's text a secret may be: one pass over all of it, for all forms at once.

A sign is what every secret of some form has, however deep it lies in JSON in a text in JSON. What has none is
passed over, so none may be missing here that `secret_forms` would mask; one too many costs time alone.
It must not decide what a secret is.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Final

from exporter.formats.secret_names import ENDINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperscan import Database, Scratch

_SPACE: Final = r"(?:\\+[nrt]|[ \t\r\n])*"
_ESCAPE: Final = r"\\(?:[bfnrt]|u[0-9A-Fa-f]{4})"
_SIGNS: Final = (
    rf"(?i:{'|'.join(ENDINGS)})(?:\\*[\"'])?{_SPACE}[:=]",
    "gh[pousr]_[A-Za-z0-9]",
    "github_pat_[A-Za-z0-9]",
    "gl(?:pat|rt|dt|ptt|cbt)-",
    "xapp-[0-9]",
    "xox[abeoprs]-",
    "[sr]k_(?:live|test)_",
    rf"(?:^|[^A-Za-z0-9]|{_ESCAPE})sk-",  # not `task-`, `desk-`, `risk-`
    "pypi-",
    "GOCSPX-",
    "whsec_",
    "npm_",
    "hf_",
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


_OF_THREAD: Final = threading.local()
_ready: Future[Database] | None = None
_lock: Final = threading.Lock()


def prepare() -> Future[Database]:
    """Begin to make the signs ready, which takes 25 ms beside whatever else comes before the first look.

    Once, for all threads, and for processes that are forked later: a fork waits until it is done.
    """
    global _ready  # noqa: PLW0603 - there is one for the process
    with _lock:
        if _ready is None:
            thread = ThreadPoolExecutor(1, thread_name_prefix="signs")
            _ready = thread.submit(_made)
            thread.shutdown(wait=False)
            if hasattr(os, "register_at_fork"):  # where there are forks
                os.register_at_fork(before=partial(wait, [_ready]))
        return _ready


def _made() -> Database:
    import hyperscan

    found = hyperscan.Database()
    found.compile(expressions=["|".join(f"(?:{sign})" for sign in _SIGNS).encode()], ids=[0])
    return found


def _scanner() -> tuple[Database, Scratch]:
    """The signs made ready, and the room that a scan works in, which threads cannot share."""
    try:
        found: tuple[Database, Scratch] = _OF_THREAD.scanner
    except AttributeError:
        database = prepare().result()
        from hyperscan import Scratch

        found = _OF_THREAD.scanner = (database, Scratch(database))
    return found


def places(text: bytes) -> Sequence[int]:
    """The last byte of each sign, in order; some more than once."""
    found: list[int] = []

    def note(_id: int, _start: int, end: int, _flags: int, _context: object) -> None:
        found.append(end - 1)

    database, scratch = _scanner()
    database.scan(text, match_event_handler=note, scratch=scratch)
    return sorted(found)
