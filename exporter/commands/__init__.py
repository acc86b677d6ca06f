"""What the command line's commands do, imported by ``cli`` when one is called and not before.

Each answers an exit status; what it prints comes from ``report`` and ``telemetry``.
"""
