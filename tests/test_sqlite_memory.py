"""SQLite keeps no account of its memory where it was told so in time, and works as ever where not."""

from __future__ import annotations

import subprocess
import sys

import pytest

_TOLD = "sqlite_memory.without_statistics()"
_LOADED = "import sqlite3"
_CODE = """
import ctypes, importlib.util
from exporter import sqlite_memory
{first}
{second}
with sqlite3.connect(":memory:") as connection:
    assert connection.execute("SELECT group_concat(value) FROM json_each('[1, 2]')").fetchone() == ("1,2",)
    library = ctypes.CDLL(importlib.util.find_spec("_sqlite3").origin)
    library.sqlite3_memory_used.restype = ctypes.c_int64
    print(library.sqlite3_memory_used())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is done on Linux alone")
@pytest.mark.parametrize(("first", "second", "counts"), [(_TOLD, _LOADED, False), (_LOADED, _TOLD, True)])
def test_memory_is_not_counted_if_that_is_said_before_sqlite_is_loaded(
    first: str,
    second: str,
    counts: bool,  # noqa: FBT001 - drawn
) -> None:
    """Said too late it changes nothing."""
    code = _CODE.format(first=first, second=second)
    used = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert (int(used) > 0) == counts
