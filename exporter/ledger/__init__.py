"""The ledger: what was begun, planned, attempted and delivered, and the rules that keep it true.

``rules`` holds the protocol's rules once; ``sql`` and ``memory`` keep the rows behind it.
"""
