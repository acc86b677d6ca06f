"""The ledger: what was begun, planned, attempted and delivered, and the rules that keep it true.

``rules`` holds the protocol's rules once and ``requests`` what people ask for; ``lanes``, ``history``,
``events`` and ``guards`` are their parts, and ``mappings`` keeps each format once. Behind them ``sqlite``,
``postgres`` and ``memory`` keep the rows.
"""
