"""How a mistake in a file is put: the way to a key, the key itself, and the one that was meant.

It must not quote a value that could be a secret.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from exporter.notation.values import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.notation.yaml_lines import Loc


def near(word: str, choices: Iterable[str]) -> str:
    """The nearest of the choices; empty if none is near."""
    plain = word[:80].lower().replace("-", "_")
    return next(iter(difflib.get_close_matches(plain, list(choices), n=1)), "")


def did_you_mean(word: str) -> str:
    """A question about it; empty if there is none."""
    return f"did you mean '{word}'?" if word else ""


def key_shown(key: str) -> str:
    """A key as it may stand in a message."""
    return key if re.fullmatch(r"[\w-]{1,80}", key) else shown(key)


def dotted(loc: Loc) -> str:
    """The path to a setting as people write it: exports[3].destination.bucket."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{key_shown(part)}" for part in loc)
    return "".join(parts).removeprefix(".")
