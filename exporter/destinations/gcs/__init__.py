"""The driver for Google Cloud Storage.

``settings`` is what a configuration says of a bucket and ``store`` the driver, over ``credentials`` (who
asks), ``customer_file`` (which credential files are accepted), ``tokens`` (what Google's token services
give), ``wire`` (how requests go out), ``resumable`` (large objects, in chunks), ``errors`` (what an answer
means, and what a person does about it) and ``check`` (what else is to be said of a bucket).
"""
