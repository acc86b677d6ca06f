"""The driver for Azure Blob Storage.

``settings`` is what a configuration says of a container and ``store`` the driver, over ``account`` (where
it is), ``credentials`` (who asks), ``requests`` (one at a time, sent once) and ``errors`` (what an answer
means). ``check`` adds what ``sas`` reads in a shared access signature; ``fixes`` are the statements that
both print.
"""
