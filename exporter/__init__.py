"""audit-exporter delivers a vendor's audit records into its customers' own storage.

The road a record takes, and the module where each step lives::

    schedule -> ledger -> sources -> formats -> archive -> ledger (plan) -> destinations -> ledger (commit)

``pipeline`` goes that road for one object, rendering its lines into a ``workspace`` and, of events,
keeping a ``journal``; ``runner`` and ``turns`` go it for many exports at once, in ``places`` that these
share, and say in an ``outcome`` what came of it. Around them are the ``config`` that a person writes (in a
``notation``), the ``commands`` that a person types, what ``report`` and ``telemetry`` answer, and the
``starter`` that makes a first folder.

Imports run one way, and ``tests/test_imports.py`` holds them to it::

    cli -> commands -> wiring, report, telemetry, starter -> runner, turns, places, outcome -> pipeline
    pipeline -> rendering, workspace, journal, ledger (its rules alone) -> interfaces -> model, errors
    wiring -> config, pipeline and every driver: the only module that knows one by name
    sources, formats, destinations, ledger -> interfaces, model, errors, columns (never each other)
    config -> the settings of every destination and format -> notation -> errors
    destinations -> network (which addresses may be talked to)
    sources, ledger -> libpq (how a PostgreSQL server is reached)
    schedule, keys, archive, columns -> model (pure: no clock, no network, no configuration)
"""

__version__ = "0.1.0"
