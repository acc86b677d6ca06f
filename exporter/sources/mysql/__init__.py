"""The MariaDB source, and MySQL's by the same driver: ids with the gaps that may still be filled.

``source`` is the source. ``options`` and ``connection`` reach the server, ``errors`` says what went wrong
there, ``relation``, ``time`` and ``values`` what is read. ``seal`` is the rule and its proof, over ``gaps``
(pure) and ``positions`` (what the rule asks of a table); ``ranges`` is the records as SQL, ``firsts`` the
derived columns. ``check`` asks ``privileges``, ``indexes`` and ``records``; ``prepare`` is `source prepare`.
"""

from exporter.sources.mysql.options import MysqlOptions
from exporter.sources.mysql.source import MysqlSource

__all__ = ["MysqlOptions", "MysqlSource"]
