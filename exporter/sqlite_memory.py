"""How SQLite takes memory in this process: what source and ledger have in common. It opens no database."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import Final

_MEMSTATUS: Final = 9
"""`SQLITE_CONFIG_MEMSTATUS`, as `sqlite3.h` has it."""


def without_statistics() -> None:
    """Have SQLite keep no account of its memory, for which it takes a lock with every piece of it.

    Reading is a fifth faster so (SQLite's own advice: "Recommended Compile-time Options"), and nobody here
    asks for the account. To be called before anything imports `sqlite3`; later, and with a SQLite that cannot
    be told, all stays as it is.
    """
    module = None if "_sqlite3" in sys.modules or sys.platform != "linux" else find_spec("_sqlite3")
    if module is None or not module.has_location or module.origin is None:
        return
    with suppress(ImportError, OSError, AttributeError):  # without ctypes, or with a SQLite that hides it
        import ctypes

        ctypes.CDLL(module.origin).sqlite3_config(_MEMSTATUS, 0)
