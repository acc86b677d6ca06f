"""`python -m exporter` is `audit-exporter`."""

from exporter.cli import main

main()
