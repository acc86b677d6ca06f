"""The SQLite source: ids are given under the write lock, so the highest one is a seal.

``source`` is the source; ``database`` opens the file, ``snapshot`` holds seals and ranges of one transaction,
``rows`` their rows, ``firsts`` derived columns, ``time`` what its text and numbers mean as times; ``check``
is what `check` says.
"""

from exporter.sources.sqlite.source import SqliteSource

__all__ = ["SqliteSource"]
