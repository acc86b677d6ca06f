"""audit-exporter delivers a vendor's audit records into its customers' own storage.

The road a record takes, and the module where each step lives::

    schedule -> ledger -> sources -> formats -> archive -> ledger (plan) -> destinations -> ledger (commit)

``pipeline`` goes that road for a group of exports at once, a step each: ``beginning`` says where they stand,
``reading`` renders their ranges from one reading of the source, each into a folder of the ``workspace``, or
into memory while it is small (``encoding`` makes its lines, in ``encoders`` beside it once it is large), and
``delivering`` tells the ledger of the attempts at their objects and what came of these; ``steps`` are the
values in between. For a destination of events it is some ``batches`` of them, of which it keeps a
``journal``. Either is one of the ``packages``; ``resending`` repeats events that were refused. ``runner``
finds what is due, ``workers`` share it out among processes, and in each ``grouping`` forms the groups that
take ``turns``, in ``places`` that all exports share, by the ``means`` of a run; ``sending`` uploads side by
side, and an ``outcome`` says what came of it all.

Around them are the ``config`` that a person writes (in a ``notation``), the ``commands`` that a person
types, what ``report`` and ``telemetry`` answer, the ``starter`` that makes a first folder, and ``siem``,
which knows what each consumer can read and how it is set up.

Imports run one way, and ``tests/test_imports.py`` holds them to it::

    cli -> commands -> wiring, report, telemetry, starter -> runner -> workers -> turns
    turns -> grouping -> places, outcome, means, sending
    means, sending -> pipeline -> beginning, reading, delivering -> rendering, packages, workspace, journal
    reading -> encoders -> encoding; rendering -> encoding
    pipeline, beginning, delivering, steps -> ledger (its rules alone) -> interfaces -> model
    wiring -> config, pipeline and every driver: the only module that knows one by name
    sources, formats, destinations, ledger -> interfaces, model, errors, columns (never each other)
    config -> the settings of every destination and format -> notation -> errors
    destinations -> network (which addresses may be talked to)
    sources, ledger -> libpq (how a PostgreSQL server is reached)
    reading, destinations, ledger -> retries (stamina, without a word of its own)
    wiring -> sqlite_memory (how SQLite takes memory, in sources and ledger alike)
    schedule, keys, archive, batches, columns -> model (pure: no clock, no network, no configuration)
    sources, formats -> bulk (rows into columns, columns into lines) -> _bulk (the same in C)
    columns, formats, bulk -> fragments (of JSON)
"""

__version__ = "0.1.0"
