"""The ledger: what was begun, planned, attempted and delivered, and the rules that keep it true.

``protocol`` holds the protocol's rules once, ``rules`` opens their transactions, of one export or of
several together, and ``requests`` is what people ask for; ``lanes``, ``history``, ``events``, ``guards`` and
``standing`` are their parts. Behind them ``sqlite``, ``postgres`` and ``memory`` keep the rows: a ``group``
is those of several exports, which ``bulk`` reads and writes at once, and ``mappings`` keeps each format once.
"""
