"""Where packages go: the portable object store with one driver for each kind of storage, and events.

``object_store`` holds the rules that are the same for all, ``uploads`` and ``probe`` what drivers are made
of; ``s3``, ``gcs``, ``azure``, ``directory`` and ``memory`` are drivers, each with settings of its own,
which ``registry`` lists. ``events`` is what destinations that take records one batch after another have in
common; ``splunk_hec`` and ``memory_events`` are such. A driver never imports another driver, nor anything
above. ``dry_run`` stands in front of a destination.
"""
