"""Where packages go: the portable object store, and one driver for each kind of storage.

``object_store`` may be imported by drivers; a driver never imports another driver, nor anything above.
The driver for S3 is ``s3``; ``s3_access``, ``s3_clients``, ``s3_errors`` and ``s3_options`` are parts of it.
"""
