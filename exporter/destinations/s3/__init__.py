"""The driver for Amazon S3 and its compatibles.

``settings`` is what a configuration says of a bucket and ``store`` the driver, over ``access`` (who asks),
``clients`` (what is kept open) and ``errors`` (what an answer means, and what a person does about it).
"""
