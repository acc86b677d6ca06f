"""ClickHouse within Python, reading PostgreSQL: `with_chdb HOST:PORT DATABASE OUT WHERE`.

Run by the peers' Python.
"""

from __future__ import annotations

import sys

import chdb  # type: ignore[import-not-found]  # in the peers' own environment

COLUMNS = (
    "id, created_at, account_id, actor_email, action, target_id, summary, ip_address, details, export_xid"
)

if __name__ == "__main__":
    place, database, out, where = sys.argv[1:]
    chdb.query(
        f"SELECT {COLUMNS} FROM postgresql('{place}', '{database}', 'audit_log', 'postgres', '')"
        f" WHERE {where} ORDER BY created_at, id INTO OUTFILE '{out}' TRUNCATE FORMAT JSONEachRow"
    )
