"""The driver for Google Cloud Storage.

``settings`` is what a configuration says of a bucket and ``store`` the driver.
"""
