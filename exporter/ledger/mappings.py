"""The mappings of plans, each kept once: one may have 25 KB, and a year of plans has few different ones.

A mapping is known by the SHA-256 of its JSON text. So it never changes, two processes that keep the same
one agree, and whoever has read it need not read it again. It must not know what a mapping means.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Final

import orjson

from exporter.errors import LedgerError
from exporter.ledger import schema
from exporter.ledger.connection import keys
from exporter.ledger.statements import select

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.ledger.connection import Connection
    from exporter.model import Json

MOST_CACHED: Final = 64

_KEEP: Final = "INSERT INTO mappings (id, value) VALUES (?, ?) ON CONFLICT (id) DO NOTHING"
_MAPPINGS: Final = select(schema.MAPPINGS, "WHERE id AMONG ?")

_cache: OrderedDict[str, Json] = OrderedDict()  # the least recently used first
_lock = Lock()


def keep(connection: Connection, mapping: Json) -> str:
    """The id of a mapping, which the ledger has from this transaction on."""
    text = orjson.dumps(mapping, option=orjson.OPT_SORT_KEYS)
    mapping_id = hashlib.sha256(text).hexdigest()
    # Whatever was read or written before: the file may be another one by now, from a backup.
    connection.execute(_KEEP, [mapping_id, text.decode()])
    return mapping_id


def find(connection: Connection, ids: Iterable[str]) -> Mapping[str, Json]:
    """The mappings of these ids, in one statement at most. Raises LedgerError if one is lost."""
    wanted = set(ids)
    found = _cached(wanted)
    missing = wanted - found.keys()
    return found | _read(connection, missing) if missing else found


def _cached(ids: set[str]) -> dict[str, Json]:
    with _lock:
        found = {one: _cache[one] for one in ids if one in _cache}
        for one in found:
            _cache.move_to_end(one)
    return found


def _read(connection: Connection, ids: set[str]) -> dict[str, Json]:
    rows = _MAPPINGS.rows(connection, keys(connection, ids))
    found: dict[str, Json] = {row["id"]: orjson.loads(row["value"]) for row in rows}
    if lost := ids - found.keys():
        raise LedgerError(
            f"the ledger has plans without their mapping {min(lost)}",
            hint="restore it from a backup, then run: audit-exporter ledger restored",
        )
    with _lock:
        _cache.update(found)
        while len(_cache) > MOST_CACHED:
            _cache.popitem(last=False)
    return found
