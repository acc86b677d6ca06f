"""Suites of promises: every implementation of a seam has to keep all of them."""
