"""What a line looks like: JSON, CEF or LEEF, alone or as the event of an envelope.

Every line stays one line, whatever a value holds, for readers that split at any separator of Unicode too.
Source of the escapes and the limits: ArcSight's Common Event Format, version 25, and IBM's LEEF 2.0.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from exporter.formats.conversions import fragments_of, text_of
from exporter.formats.expressions import objects, pieces_of, written
from exporter.formats.nodes import Expression, Style, Woven

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.formats.expressions import Compiler
    from exporter.formats.nodes import Node, Piece, View, Writing

_LINE_BREAKS = "\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_BREAK = re.compile(f"\r\n|[\r{_LINE_BREAKS}]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_REMARKABLE: Final = {
    # Of a fragment: an escape, what the line escapes, and the controls that JSON has as they are.
    "cef": re.compile(rb"[\\=\x00-\x1f\x7f]|\xc2[\x80-\x9f]"),
    "leef": re.compile(rb"[\\\x00-\x1f\x7f]|\xc2[\x80-\x9f]"),
}
_CONTROLS: Final = bytes([*range(0x20), 0x7F, 0xC2])  # the last begins every control beyond ASCII
_MARKS: Final = {"cef": _CONTROLS + b"\\=", "leef": _CONTROLS + b"\\"}
_CEF_LIMITS: Final = (63, 63, 31, 1023, 512, None)
_LEEF_DELIMITER: Final = b"x09"  # the tab: no value has one here, as LEEF knows no escape


def _cef_value(text: str) -> str:
    r"""An extension's value: `\\`, `\=`, and line breaks as `\n` and `\r`; other controls are spaces."""
    text = text.replace("\\", "\\\\").replace("=", "\\=").replace("\r", "\\r")
    return _CONTROL.sub(" ", re.sub(f"[{_LINE_BREAKS}]", r"\\n", text))


def _leef_value(text: str) -> str:
    """An attribute's value: LEEF has no escapes, so line breaks, tabs and other controls are spaces."""
    return _CONTROL.sub(" ", _BREAK.sub(" ", text))


def _cef_header(text: str, limit: int | None) -> str:
    r"""A field of the header: `\\` and `\|`, and no longer than the limit, its escapes counted."""
    text = _CONTROL.sub(" ", _BREAK.sub(" ", text))[:limit]
    escaped = text.replace("\\", "\\\\").replace("|", "\\|")[:limit]
    backslashes = len(escaped) - len(escaped.rstrip("\\"))
    return escaped[:-1] if backslashes % 2 else escaped


def _leef_header(text: str, _: int | None) -> str:
    """A field of the header, where LEEF has no escape either."""
    return _leef_value(text).replace("|", " ")


_HEADERS: Final[Mapping[str, Callable[[str, int | None], str]]] = {"cef": _cef_header, "leef": _leef_header}


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")  # half of a surrogate pair, spelt out in a column of JSON


def _values(kind: str, plain: Callable[[str], str]) -> Writing:
    """How a column's values are written; most have nothing to escape, and stand in their JSON as they are."""
    found, marks = _REMARKABLE[kind].search, _MARKS[kind]

    def write(fragments: Sequence[bytes]) -> Sequence[bytes]:
        joined = b",".join(fragments)
        if len(joined.translate(None, marks)) == len(joined):
            return [one[1:-1] if one[:1] == b'"' else one for one in fragments]
        return [
            (one[1:-1] if one[:1] == b'"' else one) if found(one) is None else _bytes(plain(text_of(one)))
            for one in fragments
        ]

    return write


def _header(kind: str, limit: int | None) -> Writing:
    """How a field of the header is written."""
    found, plain, longest = _REMARKABLE[kind].search, _HEADERS[kind], limit or sys.maxsize

    def write(fragments: Sequence[bytes]) -> Sequence[bytes]:
        return [
            one[1:-1]
            if one[:1] == b'"' and len(one) <= longest and found(one) is None and b"|" not in one
            else _bytes(plain(text_of(one), limit))
            for one in fragments
        ]

    return write


def _text_style(separator: bytes, values: Writing) -> Style:
    return Style(b"", separator, b"", b"", lambda name: name.encode() + b"=", values)


_STYLES: Final = {
    "cef": _text_style(b" ", _values("cef", _cef_value)),
    "leef": _text_style(b"\t", _values("leef", _leef_value)),
}
_STARTS: Final = {"cef": b"CEF:0|", "leef": b"LEEF:2.0|"}
_ENDS: Final = {"cef": b"", "leef": _LEEF_DELIMITER + b"|"}


def line_of(kind: str, header: Sequence[Any], fields: Any, compiler: Compiler) -> Node:  # noqa: ANN401 - a tree
    """A record's line, without its line feed."""
    if kind == "json":
        return compiler.record(fields)
    pieces: list[Piece] = [_STARTS[kind]]
    for index, tree in enumerate(header):
        limit = _CEF_LIMITS[index] if kind == "cef" else None
        pieces += [*written(compiler.value(tree), _header(kind, limit)), b"|"]
    return Woven([*pieces, _ENDS[kind], *pieces_of(compiler.record(fields, _STYLES[kind]))])


class Quoted(Expression):
    """A line of text as a JSON string: what an envelope takes it as."""

    nullable = False

    def __init__(self, line: Node) -> None:
        self._line = line

    def fragments(self, view: View) -> Sequence[bytes]:
        """One JSON string for each record."""
        return fragments_of([line.decode() for line in self._line.fragments(view)])


def envelope_style() -> Style:
    """An envelope has what has a value, and no more."""
    return objects(keeps_nulls=False, nothing=b"{}")


def bad_trees(kind: str, header: Sequence[Any], record_id: str, reason: str, form: bytes) -> tuple[Any, Any]:
    """Header and fields of the line of a record that has no other: who wrote it, and the form in `msg`."""
    if kind == "json":
        return [], ["const", form.decode()]
    named = [_const("bad_record"), _const("Record that could not be rendered"), ["const", "5"]]
    told = [("externalId", record_id), ("reason", reason), ("msg", form.decode())]
    return [*header[:3], *named][: len(header)], ["object", [[name, _const(text)] for name, text in told]]


def _const(text: str) -> list[str]:
    return ["const", json.dumps(text)]
