"""Where packages go: the portable object store, and one driver for each kind of storage.

``object_store`` holds the rules that are the same for all, ``uploads`` and ``probe`` what drivers are made
of; ``s3``, ``gcs``, ``azure``, ``directory`` and ``memory`` are drivers, each with settings of its own,
which ``registry`` lists. A driver never imports another driver, nor anything above. ``dry_run`` stands in
front of a destination.
"""
