"""The PostgreSQL source: the horizon rule, by an xid8 column or by the system column xmin.

``source`` is the source. ``connection`` opens transactions, ``errors`` says what went wrong there,
``relation`` and ``time`` what is read, ``inspector`` whether that has changed. ``seal`` is the rule and its
proof, ``sealing`` takes seals (``append_only``: from whom). ``ranges`` is the records as SQL, ``accounts``
whose they are, ``firsts`` the derived columns; ``together`` reads many ranges at once, ``copy`` and
``values`` make blocks of what comes back. ``check`` asks ``health``, ``privileges``, ``plans``, ``indexes``
and ``records``; ``prepare`` is `source prepare`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.sources.postgres.connection import PostgresOptions

if TYPE_CHECKING:
    from exporter.sources.postgres.source import PostgresSource
else:

    def __getattr__(name: str) -> object:
        """The source, loaded when it is first asked for: the server's clock is read without it."""
        if name != "PostgresSource":
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        from exporter.sources.postgres.source import PostgresSource

        return PostgresSource


__all__ = ["PostgresOptions", "PostgresSource"]
