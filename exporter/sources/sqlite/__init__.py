"""The SQLite source: ids are given under the write lock, so the highest one is a seal.

``source`` is the source; ``database`` opens the file, ``snapshot`` holds seals and ranges of one transaction,
``rows`` their rows. ``joining`` has SQLite join the columns of records on time, as blocks of ``joined``,
whose times have one of the ``forms``, or make whole ``lines`` of them, at which ``looks`` are taken, calls
``ahead``; ``readable`` looks at all times of new records at once. ``firsts`` are derived columns, ``time`` is
what text and numbers mean as times; ``check`` is what `check` says.
"""

from exporter.sources.sqlite.source import SqliteSource

__all__ = ["SqliteSource"]
