"""The writer storm: many writers as ugly as real applications, and exporters that must lose nothing of it.

``records`` are what ``writers`` write, each through a ``sessions.Session`` of a database (``postgres``,
``mariadb``, ``sqlite``: a small class each; ``scenes`` has their servers). Meanwhile ``exporting`` runs the
real command line, often two at a time and often killed, or one of the ``mutants`` of it, and ``naive``
readers do what most tools do. ``verdict`` then compares every delivered file with the table, with its own
eyes, and ``report`` says it; ``storm`` is the order of it all. Nothing of this is known to the product, and
nothing of the product judges it.
"""
