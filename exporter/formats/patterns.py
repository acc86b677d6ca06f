"""Patterns of a person's kind: `*` for anything, `?` for one character, without regard to case.

It must not be slow at any text: actions are written by strangers.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import groupby

_RUN = re.compile(r"\*+")


@lru_cache(maxsize=2048)
def pattern_of(glob: str) -> re.Pattern[str]:
    """What `fullmatch` asks for one pattern; `|` separates alternatives, with spaces around it or without."""
    return re.compile(
        "|".join(_expression(one.strip()) for one in glob.split("|")), re.IGNORECASE | re.DOTALL
    )


def _expression(glob: str) -> str:
    first, *others = _RUN.split(glob)
    if not others:
        return _literal(first)
    *middle, last = others
    # Atomic groups, because the first place that fits is as good as any: nothing is ever tried twice.
    found = "".join(f"(?>.*?{_literal(part)})" for part in middle)
    return f"{_literal(first)}{found}.*{_literal(last)}"


def _literal(part: str) -> str:
    return "".join(
        "." * len(list(run)) if is_any else re.escape("".join(run))
        for is_any, run in groupby(part, lambda character: character == "?")
    )
