"""The driver for Azure Blob Storage.

``settings`` is what a configuration says of a container and ``store`` the driver.
"""
