"""Where packages go: the portable object store, and one driver for each kind of storage.

``object_store`` holds the rules that are the same for all; ``s3``, ``gcs``, ``azure``, ``directory`` and
``memory`` are drivers below it, each with settings of its own, which ``registry`` lists. A driver never
imports another driver, nor anything above. ``dry_run`` stands in front of a destination.
"""
