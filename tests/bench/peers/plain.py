"""The script that is written first: fetch everything, json, zipfile. `plain URL OUT SELECT`."""

from __future__ import annotations

import json
import sys
import zipfile

import psycopg

if __name__ == "__main__":
    url, out, select = sys.argv[1:]
    with psycopg.connect(url) as connection:
        cursor = connection.execute(select)
        names = [column.name for column in cursor.description or ()]
        rows = cursor.fetchall()
    text = "".join(
        f"{json.dumps(dict(zip(names, row, strict=True)), default=str, ensure_ascii=False)}\n" for row in rows
    )
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("audit.json", text)
