"""The ledger: what was begun, planned, attempted and delivered, and the rules that keep it true.

``protocol`` holds the protocol's rules once, ``rules`` opens their transactions, of one export or of
several together, and ``requests`` is what people ask for; ``lanes``, ``history``, ``events``, ``guards`` and
``standing`` are their parts. Behind them ``sqlite``, ``postgres`` and ``memory`` keep the rows.

The first two speak SQL with their databases' own drivers: on a ``connection`` from a ``pool``, in
``statements`` over the tables of ``schema``, whose columns are of some ``kinds``, and which ``migrations``
makes. ``sql`` is all rows, a ``group`` those of several exports, which ``bulk`` reads and writes at once;
``mappings`` keeps each format once.
"""
