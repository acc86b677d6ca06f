"""ADBC into a polars frame, which writes JSON lines: `with_polars URL OUT SELECT`.

Run by the peers' Python.
"""

from __future__ import annotations

import sys

import polars as pl  # type: ignore[import-not-found]  # in the peers' own environment

if __name__ == "__main__":
    url, out, select = sys.argv[1:]
    frame = pl.read_database_uri(select, url, engine="adbc")
    frame.write_ndjson(out, compression="gzip")
