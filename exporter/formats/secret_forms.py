"""API keys, tokens and passwords in known forms and places, and `[masked]` in place of them.

It knows texts and JSON alone. It must not touch what only sounds like one (`the token was revoked`), and
masking twice is masking once. No text takes longer than its length says: a form that has to be looked at as a
whole is found as a whole, and judged then.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Final

import orjson

from exporter.columns import ValueColumn
from exporter.formats.secret_names import ENDINGS, MASK, Kind, is_secret, kind_of
from exporter.formats.secret_places import without_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SHORTEST = len('"sig=x"')
_PASSES = 16  # each may uncover what stood behind a secret; who builds more of them means no good

_PRIVATE_KEY = "[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
_TOKENS: Final = re.compile(
    "|".join(
        # Each begins with a letter, so that `re` passes quickly over all places that begin with another one;
        # what stands before the letter is looked at after it.
        f"{form[0]}(?<![A-Za-z0-9].){form[1:]}"
        for form in (
            "gh[pousr]_[A-Za-z0-9]{20,}",
            "github_pat_[A-Za-z0-9_]{20,}",
            "gl(?:pat|rt|dt|ptt|cbt)-[A-Za-z0-9_.-]{16,}",
            "xapp-[0-9]-[A-Za-z0-9-]{10,}",
            "sk_(?:live|test)_[A-Za-z0-9]{10,}",
            "rk_(?:live|test)_[A-Za-z0-9]{10,}",
            "whsec_[A-Za-z0-9+/=_-]{16,}",
            "npm_[A-Za-z0-9]{30,}",
            "hf_[A-Za-z0-9]{30,}",
            "shp(?:at|ca|pa|ss)_[A-Za-z0-9]{20,}",
            "do[opr]_v1_[A-Za-z0-9]{20,}",
            "AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",
            r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
            r"ya29\.[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]++)*+",
            r"hvs\.[A-Za-z0-9_-]{20,}",
        )
    )
    + f"|-----BEGIN {_PRIVATE_KEY}(?:.*?-----END {_PRIVATE_KEY}|.*)",
    re.DOTALL,
)
_BEGINNINGS: Final = ("_", "-", "AIza", "SG.", "ya29.", "hvs.")
_AWS_IDS: Final = re.compile(r"A(?<![A-Za-z0-9].)[KS]IA[A-Z0-9]{12}([A-Z0-9]{4})(?![A-Za-z0-9])")
_BEARER: Final = re.compile(r"(\b[Bb]earer )(?=[A-Za-z._~+/-]*[0-9])[A-Za-z0-9._~+/-]{20,}=*")
_URL_PASSWORD: Final = re.compile(r"(:(?:\\*+/){2}[^\s/:@\"'<>]*+:)(?!\[masked\]@)[^\s/@\"'<>]++(?=@)")
_WEBHOOK: Final = re.compile(r"(hooks\.slack\.com(?:\\*+/)[a-z]++(?:\\*+/))[A-Za-z0-9_+/\\-]{16,}")

_DIGIT: Final = re.compile("[0-9]")
_RANDOM: Final = re.compile("(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{10,}")
_MIXED: Final = re.compile("(?=[^0-9]*[0-9])(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])")
_PARTS_OF_JWE: Final = 5
_LONG_PART: Final = 16


def _is_random(run: str) -> bool:
    """Whether a part between its hyphens is what no word is."""
    return any(map(_RANDOM.fullmatch, re.split("[_-]", run)))


def _is_web_token(run: str) -> bool:
    """A JWT, of which the first two parts are JSON in base64, or a JWE, of which the first of five is."""
    first, second, *others = [*run.split("."), ""]
    if len(first) >= len("eyJ_____") <= len(second) and second.startswith("eyJ"):
        return True
    return len(others) == _PARTS_OF_JWE - 1 and len(first) >= _LONG_PART


_JUDGED: Final[tuple[tuple[str, re.Pattern[str], Callable[[str], object]], ...]] = tuple(
    (beginning, re.compile(f"{form[0]}(?<![A-Za-z0-9].){form[1:]}"), is_one)
    for beginning, form, is_one in (
        ("xox", "xox[abeoprs]-[A-Za-z0-9-]{10,}", _DIGIT.search),
        ("sk-", "sk-[A-Za-z0-9_-]{20,}", _is_random),
        ("pypi-", "pypi-[A-Za-z0-9_-]{16,}", _MIXED.match),
        ("GOCSPX-", "GOCSPX-[A-Za-z0-9_-]{20,}", _MIXED.match),
        ("eyJ", r"eyJ[A-Za-z0-9_-]*+(?:\.{1,2}[A-Za-z0-9_-]++)*+", _is_web_token),
    )
)
"""Runs of characters of which not every one is a secret, found whole."""

_STRING = r'"(?:[^"\\]++|\\.)*+"'
_PIECE: Final = re.compile(rf"({_STRING})(?:(\s*+:\s*+)({_STRING}|-?[0-9][0-9.eE+-]*+)?+)?+", re.DOTALL)
"""What is looked at of JSON: a name with its string or number, or a string without a name."""
_OPENING: Final = re.compile(rf"({_STRING})(\s*+:\s*+(?=[\[{{]))?+", re.DOTALL)
_TOKEN: Final = re.compile(rf"{_STRING}|[\[\]{{}}]", re.DOTALL)
_LEAF: Final = re.compile(rf"({_STRING})(\s*+:)?+|-?[0-9][0-9.eE+-]*+", re.DOTALL)
_IS_OPENED: Final = re.compile(rf"(?:{'|'.join(ENDINGS)})\"\s*+:\s*+[\[{{]", re.IGNORECASE | re.ASCII)


def mask_text(text: str) -> str:
    """A text without the secrets in it."""
    if text.lstrip()[:1] in ("{", "[") and _is_json(text):
        return mask_json(text)
    # A secret that is gone may have stood in front of another, and kept it from being seen.
    for _ in range(_PASSES):
        masked = _masked_once(text)
        if masked == text:
            return text
        text = masked
    return MASK


def _judged(is_one: Callable[[str], object], found: re.Match[str]) -> str:
    return MASK if is_one(found[0]) else found[0]


def _masked_once(text: str) -> str:
    if ":" in text or "=" in text:
        text = _without_places(text)
    if "earer " in text:
        text = _BEARER.sub(rf"\1{MASK}", text)
    if "IA" in text:
        text = _AWS_IDS.sub(rf"{MASK}\1", text)
    for beginning, form, is_one in _JUDGED:
        if beginning in text:
            text = form.sub(partial(_judged, is_one), text)
    if any(beginning in text for beginning in _BEGINNINGS):
        text = _TOKENS.sub(MASK, text)
    return text


def _without_places(text: str) -> str:
    """A text without the secrets that stand where one does."""
    plain = text.lower()
    if any(ending in plain for ending in ENDINGS):
        text = without_named(text)
    if "@" in text:
        text = _URL_PASSWORD.sub(rf"\1{MASK}", text)
    if "hooks.slack.com" in text:
        text = _WEBHOOK.sub(rf"\1{MASK}", text)
    return text


def mask_json(text: str, *, is_all: bool = False) -> str:
    """JSON without the secrets in it: in its strings' texts, and in members whose name says it.

    ``is_all``: it belongs to such a name, and every text and number in it is a secret.
    """
    if is_all:
        return _LEAF.sub(_masked_leaf, text)
    pieces: list[str] = []
    done = 0
    for start, end in _held_by_secrets(text):
        pieces += [_PIECE.sub(_masked_piece, text[done:start]), _LEAF.sub(_masked_leaf, text[start:end])]
        done = end
    return "".join([*pieces, _PIECE.sub(_masked_piece, text[done:])])


def _held_by_secrets(text: str) -> Iterator[tuple[int, int]]:
    """Where lists and objects are whose name says that they hold secrets."""
    if "\\u" not in text and _IS_OPENED.search(text) is None:
        return
    end = 0
    for found in _OPENING.finditer(text):
        if found[2] and found.start() >= end and kind_of(_text_of(found[1])) is Kind.PLAIN:
            end = _closed(text, found.end())
            yield found.end(), end


def _closed(text: str, start: int) -> int:
    """Where what is opened here is closed."""
    depth = 0
    for found in _TOKEN.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return len(text)


def _masked_leaf(found: re.Match[str]) -> str:
    """A text or a number that is a secret for what it stands in; names are names there, too."""
    text, colon = found.groups()
    if colon:
        return f"{_masked_string(text)}{colon}"
    return f'"{MASK}"' if text is None or is_secret(_text_of(text), Kind.PLAIN) else text


def _masked_piece(found: re.Match[str]) -> str:
    name, colon, value = found.groups()
    if not value:
        return f"{_masked_string(name)}{colon or ''}"
    kind = kind_of(_text_of(name))
    if kind and (is_secret(_text_of(value), kind) if value[0] == '"' else kind is Kind.PLAIN):
        value = f'"{MASK}"'
    elif value[0] == '"':
        value = _masked_string(value)
        if kind and is_secret(_text_of(value), kind):  # now that a secret in it has gone
            value = f'"{MASK}"'
    return f"{_masked_string(name)}{colon}{value}"


def _masked_string(literal: str) -> str:
    if len(literal) < _SHORTEST:
        return literal
    text = _text_of(literal)
    masked = mask_text(text)
    return literal if masked == text else quoted(masked).decode()


def quoted(text: str) -> bytes:
    """A text as JSON has it here, on one line."""
    try:
        (fragment,) = ValueColumn([text]).strings()
    except ValueError:  # half a surrogate pair, which some JSON spells out
        return json.dumps(text).encode()
    return fragment


def _text_of(literal: str) -> str:
    if "\\" not in literal:
        return literal[1:-1]
    text: str = json.loads(literal, strict=False)
    return text


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except ValueError:
        return False
    return True
