"""audit-exporter delivers a vendor's audit records into its customers' own storage.

The road a record takes, and the module where each step lives::

    schedule -> ledger -> source -> formats -> archive -> ledger (plan) -> destination -> ledger (commit)

Imports run one way, and ``tests/test_imports.py`` holds them to it::

    cli -> wiring, runner -> pipeline -> interfaces -> model, errors
    sources, formats, destinations, ledger -> interfaces, model, errors, columns (never each other)
    schedule, keys, archive, columns -> model, errors (pure: no clock, no network, no configuration)
"""

__version__ = "0.1.0"
