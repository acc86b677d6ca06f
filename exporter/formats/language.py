"""The mapping language as people write it: a file in, the tree of its expressions out, every mistake named.

A tree has the bound form that `binding` describes, but for names: its columns are roles still, and
`["parameter", name, conversion, …]` stands for what an export may change. It must not know a configuration.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ConfigError
from exporter.formats.conversions import CONVERSIONS
from exporter.notation.values import must_be, shown
from exporter.notation.wording import did_you_mean, dotted, key_shown, near
from exporter.notation.yaml_lines import Broken, line_of, read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from exporter.model import Json
    from exporter.notation.yaml_lines import Loc

HINT: Final = "correct the format; `audit-exporter formats NAME` prints one that is right"

HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "json": (),
    "cef": ("vendor", "product", "version", "class id", "name", "severity"),
    "leef": ("vendor", "product", "version", "event id"),
}
"""The kinds of lines, and what each has before its fields."""

ENVELOPE: Final = ("host", "source", "sourcetype", "index")
"""What of an envelope is a format's to fill."""

_KEYS: Final = ("about", "line", "nulls", "unfilled", "parameters", "envelope", "header", "fields")
_OPERATORS: Final = ("$match", "$first", "$const")
_SPECIAL: Final = {"sequence": "the number of the delivery", "all": "every column", "event": "the record"}
_TRUTHS: Final = dict.fromkeys(("yes", "on", "true"), "true") | dict.fromkeys(("no", "off", "false"), "false")
_NUMBER: Final = re.compile(r"[+-]?[0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_PARAMETER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY_OF_TEXT: Final = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Language:
    """A format as its file has it: names are still roles, and parameters have their defaults."""

    about: str
    line: str
    nulls: str
    parameters: Mapping[str, str]
    envelope: Mapping[str, list[Json]]
    header: Sequence[list[Json]]
    fields: list[Json]
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of parameters that name them, all the values that they may have."""
    unfilled: str = "column"
    """What a role is that `source.columns` does not fill: a column of that name, or nothing."""


@dataclass(slots=True)
class _Reader:
    """Makes expressions, and gathers what is wrong with them."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    special: tuple[str, ...] = ("sequence", "all")
    mistakes: list[tuple[Loc, str]] = field(default_factory=list)

    def wrong(self, loc: Loc, sentence: str) -> list[Json]:
        """Note a mistake; what stands in for the expression is never used."""
        self.mistakes.append((loc, sentence))
        return ["const", "null"]

    def expression(self, value: object, loc: Loc) -> list[Json]:
        """One expression, whatever kind it is of."""
        if isinstance(value, Broken):
            return self.wrong(loc, value.sentence)
        if isinstance(value, str):
            return self._text(value, loc)
        if isinstance(value, list):
            return ["list", [self.expression(item, (*loc, index)) for index, item in enumerate(value)]]
        if not isinstance(value, dict):
            return self._const(value, loc)
        operators = [key for key in value if key.startswith("$")]
        return self._operator(operators[0], value, loc) if operators else self._object(value, loc)

    def _object(self, value: Mapping[str, object], loc: Loc) -> list[Json]:
        return ["object", [[name, self.expression(item, (*loc, name))] for name, item in value.items()]]

    def _text(self, text: str, loc: Loc) -> list[Json]:
        if text.startswith("="):
            return ["const", json.dumps(text[1:])]
        name, *conversions = (part.strip() for part in text.split("|"))
        if not name:
            return self.wrong(loc, "has no name; write a role or a column, or = before a text")
        if not conversions and (meant := _meant_otherwise(name)):
            return self.wrong(loc, f"{shown(name)} would be a column of this name; write {meant}")
        for conversion in conversions:
            self._known(loc, "conversion", conversion, CONVERSIONS)
        return self._special(name[1:], conversions, loc) if name[0] == "$" else ["column", name, *conversions]

    def _special(self, name: str, conversions: list[str], loc: Loc) -> list[Json]:
        """What a `$` stands before."""
        if name in self.parameters:
            return ["parameter", name, *conversions]
        if name not in self.special:
            known = [f"${one}" for one in (*self.parameters, *self.special)]
            return self._known(loc, "parameter", f"${name}", known)
        if conversions:
            return self.wrong(loc, f"'${name}' is {_SPECIAL[name]}, and takes no conversion")
        return [name]

    def _operator(self, operator: str, value: Mapping[str, object], loc: Loc) -> list[Json]:
        others = [key for key in value if key != operator]
        if operator == "$match":
            return self._match(value, others, loc)
        if operator not in _OPERATORS:
            return self._known((*loc, operator), "operator", operator, _OPERATORS)
        if others:
            return self.wrong((*loc, others[0]), f"stands beside '{operator}', which stands alone")
        held = value[operator]
        if operator == "$const":
            return self._const(held, (*loc, operator))
        if not isinstance(held, list) or not held:
            sentence = "needs an expression or more" if held == [] else must_be("a list of expressions", held)
            return self.wrong((*loc, operator), sentence)
        return ["first", [self.expression(item, (*loc, operator, index)) for index, item in enumerate(held)]]

    def _const(self, held: object, loc: Loc) -> list[Json]:
        for place, broken in _broken(held, loc):
            self.wrong(place, broken.sentence)
        return ["const", json.dumps(held, default=repr)]

    def _match(self, value: Mapping[str, object], patterns: list[str], loc: Loc) -> list[Json]:
        key = self.expression(value["$match"], (*loc, "$match"))
        if not patterns:
            self.wrong(loc, "has no pattern; write some below '$match', such as \"*login*\": 1")
        for pattern in patterns:
            if pattern.startswith("$"):
                self.wrong((*loc, pattern), "is no pattern; the one that all else fits is '*'")
        branches: list[Json] = [
            [pattern, self.expression(value[pattern], (*loc, pattern))] for pattern in patterns
        ]
        return ["match", key, branches]

    def _known(self, loc: Loc, what: str, word: str, choices: Iterable[str]) -> list[Json]:
        """Say so if a word is none of the choices."""
        known = list(choices)
        if word in known:
            return []
        others = ", ".join(known) or "none"
        meant = did_you_mean(near(word, known)) or f"there are {others}"
        return self.wrong(loc, f"{shown(word)} is no {what}; {meant}")


def _meant_otherwise(name: str) -> str:
    """What to write in place of a name that is hardly meant as one; a column is meant by `NAME | json`."""
    if _NUMBER.fullmatch(name):
        return f"={name} for the text itself; a number here has 18 digits or fewer, and no exponent"
    truth = _TRUTHS.get(name.lower())
    return f"{truth} for the JSON, or ={name} for the text itself" if truth else ""


def _broken(value: object, loc: Loc) -> Iterable[tuple[Loc, Broken]]:
    if isinstance(value, Broken):
        yield loc, value
    items: Iterable[tuple[Any, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for part, item in items:
        yield from _broken(item, (*loc, part))


def read_envelope(values: Mapping[str, Json]) -> dict[str, list[Json] | None]:
    """What a destination puts around each record; None is a format's to fill. Raises ConfigError."""
    reader = _Reader(special=("event", "sequence"))
    found = {
        name: None if value is None else reader.expression(value, (name,)) for name, value in values.items()
    }
    if reader.mistakes:
        lines = [f"{dotted(loc)}: {sentence}" for loc, sentence in reader.mistakes]
        raise ConfigError("\n".join(lines), hint=HINT)
    return found


def read_format(file: Path) -> Language:
    """The format that a file describes; raises ConfigError with every mistake in it, one on a line."""
    content = read_yaml(file, HINT)
    parts = _Parts(content if isinstance(content, dict) else {})
    if not isinstance(content, dict):
        parts.reader.wrong((), must_be("a mapping", content))
    language = parts.language()
    if not parts.reader.mistakes:
        return language
    found = ((line_of(content, loc), loc, sentence) for loc, sentence in parts.reader.mistakes)
    lines = sorted(found, key=lambda mistake: mistake[0])
    said = (
        ": ".join(filter(None, (f"{file}, line {line}" if line else str(file), dotted(loc), sentence)))
        for line, loc, sentence in lines
    )
    raise ConfigError("\n".join(said), hint=HINT)


class _Parts:
    """What stands at the top of a file."""

    def __init__(self, content: Mapping[str, object]) -> None:
        self._content = content
        self.reader = _Reader()

    def language(self) -> Language:
        """All of it, right or wrong."""
        for key in self._content:
            if key not in _KEYS:
                meant = did_you_mean(near(key, _KEYS)) or f"valid keys are {', '.join(_KEYS)}"
                self.reader.wrong((key,), f"unknown key; {meant}")
        line = self._choice("line", HEADERS)
        self.reader.parameters = self._parameters()
        return Language(
            about=self._about(),
            line=line,
            nulls=self._choice("nulls", ("keep", "omit")),
            parameters=self.reader.parameters,
            envelope=self._envelope(),
            header=self._header(line),
            fields=self._fields(line),
            unfilled=self._choice("unfilled", ("column", "nothing")),
            choices={name: value for name, value in self._offered() if isinstance(value, list)},
        )

    def _choice(self, key: str, choices: Iterable[str]) -> str:
        known = list(choices)
        value = self._content.get(key, known[0])
        if isinstance(value, Broken):
            self.reader.wrong((key,), value.sentence)
        elif not isinstance(value, str):
            self.reader.wrong((key,), must_be(" or ".join(f"'{one}'" for one in known), value))
        elif value not in known:
            meant = did_you_mean(near(value, known)) or f"there are {', '.join(known)}"
            self.reader.wrong((key,), f"{shown(value)} is none of them; {meant}")
        else:
            return value
        return known[0]

    def _about(self) -> str:
        about = self._content.get("about", "")
        if isinstance(about, str):
            return about
        self.reader.wrong(("about",), about.sentence if isinstance(about, Broken) else must_be("text", about))
        return ""

    def _mapping(self, key: str) -> Mapping[str, object]:
        value = self._content.get(key, {})
        if isinstance(value, dict):
            return value
        sentence = value.sentence if isinstance(value, Broken) else must_be("a mapping", value)
        self.reader.wrong((key,), sentence)
        return {}

    def _offered(self) -> Iterable[tuple[str, object]]:
        """What may be chosen of each parameter: one text by default, or a list of which the first is it."""
        offered = self._content.get("parameters")
        return offered.items() if isinstance(offered, dict) else ()

    def _parameters(self) -> dict[str, str]:
        found = {}
        self._mapping("parameters")  # says so if it is none
        for name, value in self._offered():
            loc = ("parameters", name)
            if isinstance(value, Broken):
                self.reader.wrong(loc, value.sentence)
            elif not _PARAMETER.fullmatch(name) or name in _SPECIAL:
                self.reader.wrong(loc, f"{key_shown(name)} cannot be a parameter's name; choose another word")
            elif isinstance(value, list):
                if not value or not all(isinstance(one, str) for one in value):
                    self.reader.wrong(loc, "must list texts, of which the first is the default")
                found[name] = str(next(iter(value), ""))
            elif not isinstance(value, str):
                self.reader.wrong(loc, must_be("text", value))
            else:
                found[name] = value
        return found

    def _envelope(self) -> dict[str, list[Json]]:
        found: dict[str, list[Json]] = {}
        for name, value in self._mapping("envelope").items():
            if name not in ENVELOPE:
                meant = did_you_mean(near(name, ENVELOPE)) or f"a format fills {', '.join(ENVELOPE)}"
                self.reader.wrong(("envelope", name), f"unknown key; {meant}")
            found[name] = self.reader.expression(value, ("envelope", name))
        return found

    def _header(self, line: str) -> list[list[Json]]:
        wanted = HEADERS[line]
        header = self._content.get("header", [])
        if not isinstance(header, list) or len(header) != len(wanted):
            what = f"a list of {len(wanted)}: {', '.join(wanted)}" if wanted else "left out: lines are JSON"
            found = f"; it has {len(header)}" if isinstance(header, list) else ""
            self.reader.wrong(("header",) if header else (), f"`header` must be {what}{found}")
            return []
        return [self.reader.expression(item, ("header", index)) for index, item in enumerate(header)]

    def _fields(self, line: str) -> list[Json]:
        if "fields" not in self._content:
            return self.reader.wrong((), "`fields` is missing")
        fields = self._content["fields"]
        if not isinstance(fields, dict) and fields != "$all":
            broken = fields.sentence if isinstance(fields, Broken) else must_be("a mapping or $all", fields)
            return self.reader.wrong(("fields",), broken)
        if not fields:
            return self.reader.wrong(("fields",), "is empty, and would leave nothing of a record")
        tree = self.reader.expression(fields, ("fields",))
        sentence = "a JSON object" if line == "json" else "flat: names, and one value each"
        _check_records(
            tree, self._one_kind(line), lambda: self.reader.wrong(("fields",), f"must be {sentence}")
        )
        return tree

    def _one_kind(self, line: str) -> Callable[[Any], bool]:
        return _is_object if line == "json" else self._is_flat

    def _is_flat(self, tree: Any) -> bool:  # noqa: ANN401 - part of a tree
        """Whether an expression gives fields of a text line; says so of names that cannot be there."""
        if tree[0] != "object":
            return False
        for name, _ in tree[1]:
            if not _KEY_OF_TEXT.fullmatch(name):
                self.reader.wrong(
                    ("fields", name), "a field here has letters, digits, '_', '-' and '.' alone"
                )
        return all(_is_value(value) for _, value in tree[1])


def _check_records(tree: Any, is_right: Callable[[Any], bool], say: Callable[[], object]) -> None:  # noqa: ANN401
    """See to it that whatever branch is taken makes a record."""
    if tree[0] == "match":
        for _, branch in tree[2]:
            _check_records(branch, is_right, say)
    elif not is_right(tree):
        say()


def _is_object(tree: Any) -> bool:  # noqa: ANN401 - part of a tree
    return tree[0] in ("object", "all") or (tree[0] == "const" and tree[1].startswith("{"))


def _is_value(tree: Any) -> bool:  # noqa: ANN401 - part of a tree
    """Whether an expression gives one value, whichever branch is taken."""
    if tree[0] == "match":
        return all(_is_value(branch) for _, branch in tree[2])
    if tree[0] == "first":
        return all(map(_is_value, tree[1]))
    return tree[0] not in ("object", "list", "all")
