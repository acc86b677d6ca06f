"""The driver for Azure Blob Storage.

``settings`` is what a configuration says of a container and ``store`` the driver, over ``account`` (where
it is), ``credentials`` (who asks), ``requests`` (one at a time, sent once) and ``errors`` (what an answer
means). ``sas`` tells whether a shared access signature is whole, and what is in it for ``check`` to say;
``fixes`` are the statements that errors and findings print.
"""
