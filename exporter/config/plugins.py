"""Keeps pydantic from loading plugins: a plugin is told every value that a setting has, secrets among them.

It also has all installed packages looked through for some, which a run with nothing due would wait for. It
has to be imported before any model is made, and does nothing else.
"""

import os

os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
