"""Where packages go: the portable object store, and one driver for each kind of storage.

``object_store`` may be imported by drivers; a driver never imports another driver, nor anything above.
"""
