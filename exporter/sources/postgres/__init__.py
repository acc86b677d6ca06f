"""The PostgreSQL source: the horizon rule, by an xid8 column or by the system column xmin.

``source`` is the source. ``connection`` opens transactions, ``errors`` says what went wrong there,
``relation`` and ``time`` what is read, ``inspector`` whether that has changed. ``seal`` is the rule and its
proof, ``sealing`` takes seals (``append_only``: from whom). ``ranges`` is the records as SQL, ``accounts``
whose they are, ``firsts`` the derived columns; ``together`` reads many ranges at once, ``copy`` and
``values`` make blocks of what comes back. ``check`` asks ``health``, ``privileges``, ``plans``, ``indexes``
and ``records``; ``prepare`` is `source prepare`.
"""

from exporter.sources.postgres.connection import PostgresOptions
from exporter.sources.postgres.source import PostgresSource

__all__ = ["PostgresOptions", "PostgresSource"]
