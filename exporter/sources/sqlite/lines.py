"""Whole lines of records, made by SQLite itself: one text for a block, at which Python takes one look.

SQLite's `json_object` writes what a line is but for columns of JSON, whose own texts stand between
separators in it until they are found to be JSON. The bytes have to be those that orjson writes, whatever
SQLite's version is. So the look proves that nothing is in the lines of which SQLite may have an opinion of
its own: they are taken as they are, or not at all. It must not repair a line.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from exporter.columns import SEPARATOR, NumberTimes, json_texts
from exporter.interfaces import Lined, Way
from exporter.sources.sqlite.database import quoted
from exporter.sources.sqlite.forms import TextForm
from exporter.sources.sqlite.joined import JoinedBlock
from exporter.sources.sqlite.looks import LARGE_BYTES, are_as_they_stand, is_remarkable, were_as_they_stand

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.columns import Layout
    from exporter.interfaces import Member, Template
    from exporter.sources.sqlite.database import Relation
    from exporter.sources.sqlite.forms import Form
    from exporter.sources.sqlite.joined import Joined

_ODD_TEXT: Final = "char(1)"
"""Stands for a value that SQLite may write in a way of its own; a control character is in no line."""
LINE: Final = "line of the template"
"""What a line is called where it is worked out; a column of this name has none."""
_SEPARATOR: Final = SEPARATOR.decode()
_TAKES_BLOBS: Final = sqlite3.sqlite_version_info >= (3, 45)
"""From here on `json_object` takes some blobs for JSON; before, it refuses them all."""

_BETWEEN: Final = b',"%b",' % os.urandom(16).hex().encode()
_WHITESPACE: Final = (b"\n", b"\r", b"\t")


@dataclass(frozen=True, slots=True)
class LineTerm:
    """The SQL of a line: a text for each record, with so many texts of JSON columns between separators.

    ``as_instants``: times stand in it as they are stored, where instants are asked for.
    """

    sql: str
    json_texts: int
    as_instants: bool

    def fits(self, form: Form) -> bool:
        """Whether times of this form may stand as they are."""
        return not self.as_instants or (isinstance(form, TextForm) and form.is_usual)


def line_term(
    template: Template, layout: Layout, relation: Relation, sure: frozenset[str]
) -> LineTerm | None:
    """What makes a line of a row of ``relation``; None where SQLite cannot make it of the columns.

    ``sure`` are columns that hold integers alone or texts alone, and no NULL.
    """
    members = template.members(layout.shown)
    if not members or LINE in layout.names:
        return None
    if not {one.column for one in members} <= relation.stored.intersection(layout.shown):
        return None
    as_instants = any(one.way is Way.INSTANTS for one in members)
    if as_instants and isinstance(layout.times, NumberTimes):
        return None
    if any(one.way is Way.INSTANTS and one.column != layout.roles.time for one in members):
        return None
    raw = [one.way is Way.JSON and one.column in layout.json_text for one in members]
    terms = _terms(list(zip(members, raw, strict=True)), _Values(layout, relation, sure))
    return LineTerm("||".join(terms), sum(raw), as_instants)


def lines_term(line: str) -> str:
    """What joins the lines of a subquery."""
    return f"CAST(group_concat({line}, '\n') AS BLOB)"  # a function would be called for every line


def _terms(members: Sequence[tuple[Member, bool]], values: _Values) -> Iterator[str]:
    """What is put together: the members up to each column of JSON, its text, and those behind the last."""
    pairs: list[str] = []
    before = ""
    for member, is_raw in members:
        if not is_raw:
            pairs += [_literal(member.name), values.value(member)]
            continue
        yield from _inside(pairs, before)
        before = "," if pairs else before or "{"
        yield _literal(f'{before}"{member.name}":{_SEPARATOR}')
        yield values.json_text(member.column)
        pairs, before = [], f"{_SEPARATOR},"
    if pairs:
        yield from _inside(pairs, before, is_last=True)
    else:
        yield _literal(_SEPARATOR + "}")


def _inside(pairs: Sequence[str], before: str, *, is_last: bool = False) -> Iterator[str]:
    """Members behind what stands before, without the braces of others: no value begins or ends in one."""
    if not pairs:
        return
    made = f"json_object({', '.join(pairs)})"
    if before:
        yield _literal(before)
        made = f"ltrim({made}, '{{')"
    yield made if is_last else f"rtrim({made}, '}}')"


@dataclass(frozen=True, slots=True)
class _Values:
    """Columns as `json_object` takes them."""

    layout: Layout
    relation: Relation
    sure: frozenset[str]

    def value(self, member: Member) -> str:
        """A text, an integer or NULL; whatever else there is, is odd."""
        column = quoted(member.column)
        is_text = member.column in self.relation.one_forms - self.relation.integers
        if member.column == self.layout.roles.id:
            return f"CAST({column} AS TEXT)" if member.way is Way.STRINGS else column
        if member.column in self.sure or (is_text and not _TAKES_BLOBS):
            return column
        integer = f"CAST({column} AS TEXT)" if member.way is Way.STRINGS else column
        return (
            f"CASE typeof({column}) WHEN 'text' THEN {column} WHEN 'null' THEN NULL"
            f" WHEN 'integer' THEN {integer} ELSE {_ODD_TEXT} END"
        )

    def json_text(self, name: str) -> str:
        """The text of a column of JSON; what is no text is no UTF-8 either."""
        column = quoted(name)
        is_text = f"typeof({column}) = 'text'"
        return f"CASE WHEN {is_text} THEN {column} WHEN {column} IS NULL THEN 'null' ELSE :odd_mark END"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Drawn:
    """The lines of some records as SQLite made them, joined by line feeds, before anybody looked at them."""

    data: bytes
    count: int
    json_texts: int

    def lines(self, template: Template) -> bytes | None:
        """The lines, each with its line feed; None where they may be others than those of the format."""
        without = self.data.replace(SEPARATOR, b"")
        if len(self.data) - len(without) != 2 * self.json_texts * self.count:
            return None
        is_large = len(self.data) >= LARGE_BYTES
        lines: bytes | None = without
        if not (is_large and are_as_they_stand(self.data)):
            lines = self._with_json()
            if is_large and lines == without:
                were_as_they_stand()
        if lines is None:
            return None
        lines += b"\n"
        return lines if template.fits(lines) else None

    def _with_json(self) -> bytes | None:
        """The same by a look at every text of JSON."""
        parts = self.data.split(SEPARATOR)
        texts = parts[1::2]
        # What is escaped in a text of JSON, and its line feeds, are no matter of SQLite's.
        if is_remarkable(self.data) and (not texts or is_remarkable(b"".join(parts[::2]))):
            return None
        if texts and not _stand_as_they_are(texts):
            try:
                parts[1::2] = json_texts(SEPARATOR.join(texts))
            except ValueError:
                return None
        return b"".join(parts)


def _stand_as_they_are(texts: Sequence[bytes]) -> bool:
    """Whether all are JSON, and as a line has it; False where that is not certain."""
    # As in `columns`: between any two stands a text that none of them can hold.
    joined = _BETWEEN.join(texts)
    if not joined.isascii() or any(white in joined for white in _WHITESPACE):
        return False
    try:
        values = orjson.loads(b"[%b]" % joined)
    except orjson.JSONDecodeError:
        return False
    between = _BETWEEN[2:-2].decode()
    return len(values) == 2 * len(texts) - 1 and values[1::2].count(between) == len(texts) - 1


class LineBlock(JoinedBlock, Lined):
    """A block that has its lines, and keys, and no columns."""

    is_portable = False  # nothing is left to do for another process

    def __init__(
        self, layout: Layout, form: Form, count: int, joined: Mapping[str, Joined], lines: bytes
    ) -> None:
        super().__init__(layout, form, count, joined)
        self.lines = lines

    def pick(self, indexes: Sequence[int]) -> LineBlock:
        """Some records of this block, in its order."""
        lines = self.lines.split(b"\n")
        some = b"".join([lines[index] + b"\n" for index in indexes])
        picked = {name: joined.picked(indexes) for name, joined in self._joined.items()}
        return LineBlock(self._layout, self._form, len(indexes), picked, some)

    def raw(self, index: int) -> bytes:
        """The line of one record."""
        return self.lines.split(b"\n")[index]
