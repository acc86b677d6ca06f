"""Killing real processes at every step they take, and what has to be true after a rerun.

``child`` runs the command line and dies where it is told to, at one of the ``steps``; ``mutants`` breaks the
product on purpose; ``world`` is where it all happens, and ``promises`` judges it. Nothing of this is
known to the product.
"""
