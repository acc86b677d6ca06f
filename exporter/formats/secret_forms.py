"""API keys, tokens and passwords in known forms and places, and `[masked]` in place of them.

It knows texts and JSON alone. It must not touch what only sounds like one (`the token was revoked`), and
masking twice is masking once.
"""

from __future__ import annotations

import json
import re
from typing import Final

import orjson

from exporter.columns import ValueColumn

MASK: Final = "[masked]"
_SHORTEST = len('"sig=x"')

_PRIVATE_KEY = "[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
_TOKENS: Final = re.compile(
    "|".join(
        # Each begins with a letter, so that `re` passes quickly over all places that begin with another one;
        # what stands before the letter is looked at after it.
        f"{form[0]}(?<![A-Za-z0-9].){form[1:]}"
        for form in (
            "gh[pousr]_[A-Za-z0-9]{20,}",
            "github_pat_[A-Za-z0-9_]{20,}",
            "glpat-[A-Za-z0-9_.-]{16,}",
            "xox[abeoprs]-[A-Za-z0-9-]{10,}",
            "sk_live_[A-Za-z0-9]{10,}",
            "rk_live_[A-Za-z0-9]{10,}",
            "npm_[A-Za-z0-9]{30,}",
            "AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",
            r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
            "sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}",
            r"eyJ[A-Za-z0-9_-]{5,}\.eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*",
        )
    )
    + f"|-----BEGIN {_PRIVATE_KEY}(?:.*?-----END {_PRIVATE_KEY}|.*)",
    re.DOTALL,
)
_AWS_IDS: Final = re.compile(r"A(?<![A-Za-z0-9].)[KS]IA[A-Z0-9]{12}([A-Z0-9]{4})(?![A-Za-z0-9])")
# What `masking` looks for is ASCII, and so is all that is found here: no dotless i, no Kelvin sign for a k.
_SPACE = r"[ \t\r\n]*"
_SCHEMES = "(?:bearer|basic|splunk|token|apikey|api-key|digest|negotiate|aws4-hmac-sha256)"
_AUTHORIZATION: Final = re.compile(
    rf"(authorization[\"']?{_SPACE}[:=]{_SPACE}[\"']?{_SCHEMES}\s+)(?!\[masked\])[^\s\"'\\,;<>]+",
    re.IGNORECASE | re.ASCII,
)
_BEARER: Final = re.compile(r"(\b[Bb]earer )(?=[A-Za-z._~+/-]*[0-9])[A-Za-z0-9._~+/-]{20,}=*")
_URL_PASSWORD: Final = re.compile(r"(:(?:\\*/){2}[^\s/:@\"'<>]*:)(?!\[masked\]@)[^\s/@\"'<>]+(?=@)")

_TOKEN_OF = "access|refresh|id|auth|api|bearer|session|security|oauth|personal[_-]?access"  # noqa: S105 - names of tokens, none of which is one
_KEY_OF = "api|secret|access|secret[_-]?access|private|account|shared[_-]?access"
_NAMES = (
    f"(?:x[_-]?)?(?:(?:{_TOKEN_OF})[_-]?)?token",
    f"(?:[a-z0-9]+[_-])*(?:password|passwd|passphrase|client[_-]?secret|(?:{_KEY_OF})[_-]?key)",
    "secret|authorization|sig|signature|x-(?:amz|goog)-(?:signature|security-token)",
)
_NAME = rf"(?:{'|'.join(_NAMES)})"
_IS_NAME: Final = re.compile(_NAME, re.IGNORECASE | re.ASCII)
_NO_SECRETS = r"(?:\[masked\]|true|false|null|none)"
_PARAMETER: Final = re.compile(
    rf"((?<![A-Za-z0-9_-]){_NAME}=)(?!{_NO_SECRETS}(?![^\s&\"'\\<>;,)\]}}]))(?!{_SCHEMES}\s)"
    rf"[^\s&\"'\\<>;,)\]}}]+",
    re.IGNORECASE | re.ASCII,
)
_MEMBER: Final = re.compile(
    rf"([\"']{_NAME}(\\*[\"']){_SPACE}:{_SPACE}\2)(?!(?:\[masked\])?\2)(.*?)(?<!\\)(?=\2)",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_HINTS: Final = ("token", "secret", "passw", "passphrase", "key", "authorization", "sig")

_STRING = r'"(?:[^"\\]++|\\.)*+"'
_PIECE: Final = re.compile(rf"({_STRING})(\s*:\s*)({_STRING}|-?[0-9][0-9.eE+-]*)?|({_STRING})", re.DOTALL)
"""What is looked at of JSON: a name with its string or number, or a string without a name."""


def is_secret_name(name: str) -> bool:
    """Whether what has this name is a secret, whatever it looks like."""
    return _IS_NAME.fullmatch(name) is not None


def mask_text(text: str) -> str:
    """A text without the secrets in it."""
    if text.lstrip()[:1] in ("{", "[") and _is_json(text):
        return mask_json(text)
    # A secret that is gone may have stood in front of another, and kept it from being seen.
    while (masked := _masked_once(text)) != text:
        text = masked
    return text


def _masked_once(text: str) -> str:
    if ":" in text or "=" in text:
        text = _without_named(text)
    if "@" in text:
        text = _URL_PASSWORD.sub(rf"\1{MASK}", text)
    if "earer " in text:
        text = _BEARER.sub(rf"\1{MASK}", text)
    if "IA" in text:
        text = _AWS_IDS.sub(rf"{MASK}\1", text)
    if "_" in text or "-" in text or "AIza" in text or "SG." in text or "eyJ" in text:
        text = _TOKENS.sub(MASK, text)
    return text


def _without_named(text: str) -> str:
    """A text without the secrets that have a name."""
    plain = text.lower()
    if not any(hint in plain for hint in _HINTS):
        return text
    if ":" in text:
        text = _MEMBER.sub(rf"\1{MASK}", text)
    if "authorization" in plain:
        text = _AUTHORIZATION.sub(rf"\1{MASK}", text)
    if "=" in text:
        text = _PARAMETER.sub(rf"\1{MASK}", text)
    return text


def mask_json(text: str) -> str:
    """JSON without the secrets in it: in its strings' texts, and in members whose name says it."""
    return _PIECE.sub(_masked_piece, text)


def _masked_piece(found: re.Match[str]) -> str:
    name, colon, value, alone = found.groups()
    if alone:
        return _masked_string(alone)
    if value and value != '""' and is_secret_name(_text_of(name)):
        value = f'"{MASK}"'
    elif value and value[0] == '"':
        value = _masked_string(value)
    return f"{_masked_string(name)}{colon}{value or ''}"


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
