"""What objects are called: ``[prefix/]audit/<account>/audit_<account>_<timestamp>[_NNNN]<suffix>``.

The names of one export only ever grow, byte by byte, whatever their suffixes, because consumers
remember the last key and look no further back. Two accounts never share a name, and a name is safe
on every store: outside the prefix it holds ASCII letters, digits, ``-``, ``_``, ``/`` and single dots.

Pure: text in, text out. What cannot be in a name is a ValueError of one sentence: what is wrong, a
semicolon, what to do. It must not know which names are taken; the ledger does.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from exporter.model import Stamp

if TYPE_CHECKING:
    from datetime import datetime

MAX_KEY_BYTES = 1024
"""The longest key that every object store takes."""

_LAST_NUMBER = 9999  # _10000 would sort before _9999
_UNSAFE = re.compile(rb"[^A-Za-z0-9.-]|(?<![A-Za-z0-9-])\.|\.(?![A-Za-z0-9-])")
_SUFFIX = re.compile(r"\.(zip|(jsonl|json|log)\.gz)$")


def encode_account(account: str) -> str:
    """An account as it stands in object names; different accounts stay different.

    ASCII letters, digits and ``-`` stay as they are, and so does a dot between two of these; every
    other UTF-8 byte becomes ``_XX``. Raises ValueError if the account is empty or is not Unicode text.
    """
    if not account:
        raise ValueError("the account is empty; give the account its id in the source")
    try:
        raw = account.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the account {account!r} is not Unicode text; write it in UTF-8") from error
    return _UNSAFE.sub(lambda byte: b"_%02X" % byte[0][0], raw).decode("ascii")


def normal_prefix(prefix: str) -> str:
    """A prefix as names begin with it: empty, or ending in one slash.

    Raises ValueError for what a store would refuse, or would silently turn into another path.
    """
    segments = prefix.removesuffix("/").split("/") if prefix else []
    if any(segment in ("", ".") or ".." in segment for segment in segments):
        raise _bad_prefix(prefix, "has an empty segment, a segment '.', or '..'")
    if "\\" in prefix or not prefix.isprintable():
        raise _bad_prefix(prefix, "holds a backslash or a character that cannot be printed")
    return "".join(f"{segment}/" for segment in segments)


def _bad_prefix(prefix: str, wrong: str) -> ValueError:
    remedy = "write the prefix as plain folder names, such as vendor or logs/vendor"
    return ValueError(f"the prefix {prefix!r} {wrong}; {remedy}")


def account_folder(prefix: str, account: str) -> str:
    """Where all objects of an account lie; nothing but records lives there. Ends in a slash."""
    return f"{normal_prefix(prefix)}audit/{encode_account(account)}/"


def object_name(prefix: str, account: str, stamp: Stamp, suffix: str) -> str:
    """The full key of an object; ``suffix`` is ``.zip``, ``.jsonl.gz``, ``.json.gz`` or ``.log.gz``.

    Raises ValueError if the prefix or the account cannot be in a key, or make it too long.
    """
    number = f"_{stamp.number:04}" if stamp.number > 1 else ""
    file_name = f"audit_{encode_account(account)}_{_timestamp(stamp.time)}{number}{suffix}"
    name = account_folder(prefix, account) + file_name
    length = len(name.encode())
    if length > MAX_KEY_BYTES:
        raise ValueError(
            f"the object name for account {account!r} has {length} bytes, and stores take {MAX_KEY_BYTES};"
            " shorten the destination's prefix, or the account, which is in the name twice"
        )
    return name


def member_name(object_name: str, suffix: str = ".json") -> str:
    """What the file inside the archive of this name is called."""
    return _SUFFIX.sub(suffix, object_name.rpartition("/")[2])


def next_stamp(wanted: datetime, previous: Stamp | None) -> Stamp:
    """The stamp for an export's next object: the second of ``wanted``, or the next after ``previous``.

    It is later than ``wanted`` only if ``previous`` was, or after 9,999 objects within one second.
    """
    time = wanted.replace(microsecond=0)  # downward: no name lies in the future
    if previous is None or previous.time < time:
        return Stamp(time)
    if previous.number < _LAST_NUMBER:
        return Stamp(previous.time, previous.number + 1)
    return Stamp(previous.time + timedelta(seconds=1))


def _timestamp(time: datetime) -> str:
    return f"{time.year:04}{time:%m%dT%H%M%SZ}"  # %Y does not pad the year on every platform
