"""audit-exporter delivers a vendor's audit records into its customers' own storage.

The road a record takes, and the module where each step lives::

    schedule -> ledger -> sources -> formats -> archive -> ledger (plan) -> destinations -> ledger (commit)

``pipeline`` goes that road for one object, rendering its lines into a ``workspace``; or, for a destination
of events, for some ``batches`` of them, of which it keeps a ``journal``. Either is one of the ``packages``;
``resending`` repeats events that were refused. ``runner`` and ``turns`` do it for many exports at once, in
``places`` that these share, and say in an ``outcome`` what came of it.

Around them are the ``config`` that a person writes (in a ``notation``), the ``commands`` that a person
types, what ``report`` and ``telemetry`` answer, the ``starter`` that makes a first folder, and ``siem``,
which knows what each consumer can read and how it is set up.

Imports run one way, and ``tests/test_imports.py`` holds them to it::

    cli -> commands -> wiring, report, telemetry, starter -> runner, turns, places, outcome -> pipeline
    pipeline -> rendering, packages, workspace, journal, ledger (its rules alone) -> interfaces -> model
    wiring -> config, pipeline and every driver: the only module that knows one by name
    sources, formats, destinations, ledger -> interfaces, model, errors, columns (never each other)
    config -> the settings of every destination and format -> notation -> errors
    destinations -> network (which addresses may be talked to)
    sources, ledger -> libpq (how a PostgreSQL server is reached)
    schedule, keys, archive, batches, columns -> model (pure: no clock, no network, no configuration)
"""

__version__ = "0.1.0"
