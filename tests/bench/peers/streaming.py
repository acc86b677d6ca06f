"""The careful script: SQLAlchemy, a server-side cursor, orjson, zipfile.

`streaming URL OUT SELECT FORMAT`.
"""

from __future__ import annotations

import sys
import zipfile
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy

from tests.bench.peers import mappings

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 1_000

if __name__ == "__main__":
    url, out, select, form = sys.argv[1:]
    mapped: Callable[[Any], dict[str, Any] | None] | None = {
        "native": None,
        "standard": mappings.standard,
        "ocsf": mappings.ocsf,
    }[form]
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        found = connection.execution_options(yield_per=ROWS).execute(sqlalchemy.text(select))
        with archive.open("audit.json", "w", force_zip64=True) as member:
            for rows in found.partitions(ROWS):
                if mapped is None:
                    made: Any = (row._mapping for row in rows)
                    lines = [orjson.dumps(dict(one), default=str) for one in made]
                else:
                    lines = [orjson.dumps(one) for one in map(mapped, rows) if one is not None]
                if lines:
                    member.write(b"\n".join(lines) + b"\n")
