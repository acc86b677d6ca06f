"""Secrets in texts that have their name beside them: `password=…`, `"token": "…"`, `Authorization: Basic …`.

A text is gone through once, from name to name: what is masked is never looked at again, so that no text takes
longer than its length says. What stands in JSON is told by `secret_forms`, as far as it is JSON.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.formats.secret_names import ENDINGS, LONGEST, MASK, SCHEMES, Kind, is_secret, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is looked for is ASCII, and so is all that is found: no dotless i, no Kelvin sign for a k.
_FLAGS = re.IGNORECASE | re.ASCII
_SPACE = r"[ \t\r\n]*+"
_QUOTE = r"(\\*+[\"'])?+"
_PLACE: Final = re.compile(rf"(?:{'|'.join(ENDINGS)}){_QUOTE}({_SPACE})([:=])({_SPACE}){_QUOTE}", _FLAGS)
_BACKWARDS: Final = re.compile(r"[A-Za-z0-9_-]*+", re.ASCII)
_BARE: Final = re.compile(r"(?!=)(?:\[masked\]|[^\s&\"'\\<>;,)\]}])++")
_NUMBER: Final = re.compile(r"-?[0-9][0-9.eE+-]*+")
_ENDS: Final = {quote: re.compile(rf"(?<!\\)(\\*+){quote}") for quote in "\"'"}
_BRACKET: Final = re.compile(r"[\[\]{}]")
_HEADER: Final = re.compile("x-.*|(?:private|auth)-token|api-?key", _FLAGS)

_TEXT = r"[^\s,;\"'\\<>]"
_PAIR = rf"[a-z0-9_-]++[ \t]*+=[ \t]*+(?:\\*+\"[^\"\\]*+\\*+\"|(?:{_TEXT}|;)*+)"
_CREDENTIALS: Final = re.compile(
    rf"((?:digest|oauth|hawk|signature|aws4-hmac-sha256)\s++)({_PAIR}(?:[ \t]*+,[ \t]*+{_PAIR})*+)"
    rf"|({SCHEMES}\s++)({_TEXT}++)",
    _FLAGS,
)
_CRUMB = r"[^\s=;,\"'\\]++=(?:\"[^\s\"\\;,]++\"|[^\s;,\"'\\]*+)"
_COOKIES: Final = re.compile(rf"{_CRUMB}(?:;[ \t]*+{_CRUMB})*+")


class _Value(NamedTuple):
    """Where a value stands, and what takes its place."""

    start: int
    end: int
    mask: str = MASK


def without_named(text: str) -> str:
    """A text without the secrets that have a name."""
    pieces: list[str] = []
    done = 0
    for value in _secrets(text):
        pieces += [text[done : value.start], value.mask]
        done = value.end
    return "".join([*pieces, text[done:]]) if pieces else text


def _secrets(text: str) -> Iterator[_Value]:
    done = 0
    for found in _PLACE.finditer(text):
        if found.start() < done:
            continue  # in what is masked
        name = _name_of(text, found)
        kind = kind_of(name)
        value = kind and _value_at(text, found, name, kind)
        if value:
            done = value.end
            yield value


def _name_of(text: str, found: re.Match[str]) -> str:
    """The whole name, of which the end is found."""
    end = found.start(1) if found[1] else found.start(2)
    backwards = _BACKWARDS.match(text[max(0, end - LONGEST) : end][::-1])
    return backwards.group()[::-1] if backwards else ""


def _value_at(text: str, found: re.Match[str], name: str, kind: Kind) -> _Value | None:
    closing, before, mark, after, opening = found.groups()
    start = found.end()
    if opening:
        return _judged(text, start, _end_of_quoted(text, start, opening), kind)
    if kind is Kind.AUTHORIZATION:
        return _credentials(text, start)
    if closing:
        return _member(text, start, closing) if mark == ":" and kind is Kind.PLAIN else None
    if mark == ":":
        return _in_header(text, start, name, kind)
    if "\n" in before + after or (after and not before):
        return None  # an empty value, and something else
    return _parameter(text, start, kind)


def _judged(text: str, start: int, end: int, kind: Kind) -> _Value | None:
    return _Value(start, end) if is_secret(text[start:end], kind) else None


def _end_of_quoted(text: str, start: int, opening: str) -> int:
    """Where a quoted text ends, in whatever depth of texts in texts; the end of all if it was cut off.

    With every depth, a backslash is two, and a quote has one more before it.
    """
    depth = len(opening) - 1
    for found in _ENDS[opening[-1]].finditer(text, start):
        if len(found[1]) % (2 * depth + 2) == depth:
            return found.end() - len(opening)
    return len(text)


def _member(text: str, start: int, quote: str) -> _Value | None:
    """A number, a list or an object beside a name in quotes; what was cut off is masked to its end."""
    if number := _NUMBER.match(text, start):
        return _Value(start, number.end(), f"{quote}{MASK}{quote}")
    if text[start : start + 1] not in ("[", "{") or text[start : start + 2] in ("[]", "{}"):
        return None
    depth = 0
    for bracket in _BRACKET.finditer(text, start):
        depth += 1 if bracket[0] in "[{" else -1
        if depth == 0:
            return _Value(start, bracket.end(), f"{quote}{MASK}{quote}")
    return _Value(start, len(text), f"{quote}{MASK}{quote}")


def _parameter(text: str, start: int, kind: Kind) -> _Value | None:
    if scheme := _CREDENTIALS.match(text, start):
        return _judged_credentials(text, scheme)
    found = _BARE.match(text, start)
    return _judged(text, start, found.end(), kind) if found else None


def _in_header(text: str, start: int, name: str, kind: Kind) -> _Value | None:
    """A header's value; other names have a colon in prose, too."""
    if kind is Kind.COOKIE:
        found = _COOKIES.match(text, start)
        return _Value(start, found.end()) if found else None
    if not _HEADER.fullmatch(name) or not (found := _BARE.match(text, start)):
        return None
    return _judged(text, start, found.end(), Kind.SIGNATURE)


def _credentials(text: str, start: int) -> _Value | None:
    if scheme := _CREDENTIALS.match(text, start):
        return _judged_credentials(text, scheme)
    found = _BARE.match(text, start)
    return _judged(text, start, found.end(), Kind.SIGNATURE) if found else None


def _judged_credentials(text: str, found: re.Match[str]) -> _Value | None:
    start, end = found.span(2) if found[2] else found.span(4)
    return _judged(text, start, end, Kind.AUTHORIZATION)
