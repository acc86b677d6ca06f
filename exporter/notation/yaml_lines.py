"""YAML read into plain values that know their lines, so that every mistake can be named by its place.

It must not know what a setting means, and nothing it says may quote what could be a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from exporter.errors import ConfigError
from exporter.notation.values import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Loc: TypeAlias = tuple[str | int, ...]
"""The keys and indexes that lead to a setting."""

_Event: TypeAlias = Any  # PyYAML's stubs know half of what its events have
_MAX_DEPTH = 30
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?")
_TAGS = {None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_YAML_IN_WORDS = {
    "mapping values are not allowed in this context": "a ':' is not allowed here; correct the indentation, "
    "or put the text in quotes",
    "found character that cannot start any token": "text cannot begin with this character; put it in quotes, "
    "and indent with spaces alone",
}


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands where the file has no usable value, such as under a key given twice; no setting accepts it."""

    sentence: str


class Map(dict[str, Any]):
    """A mapping that knows the line of each of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str | int, int] = {}

    def put(self, key: str, value: object, line: int) -> None:
        """Set a key that stands in this line."""
        self[key] = value
        self.lines[key] = line


class List(list[Any]):
    """A list that knows the line of each of its items."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str | int, int] = {}


def line_of(content: object, loc: Loc) -> int:
    """The line of a setting, or of the innermost thing around it that the file has; 0 if none is known."""
    line = 0 if content is None else 1
    for part in loc:
        if not isinstance(content, Map | List) or part not in content.lines:
            break
        line, content = content.lines[part], content[part]  # type: ignore[index]  # the part fits
    return line


def read_yaml(file: Path, hint: str) -> object:
    """The content of a YAML file as plain values; raises ConfigError with this hint, which quotes nothing."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", hint=hint) from error
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise ConfigError(f"{shown(str(file))} is no name of a file", hint=hint) from error
    try:
        return _Reader(raw.decode("utf-8-sig")).document()
    except UnicodeDecodeError as error:
        line, problem = 1 + raw.count(b"\n", 0, error.start), "not UTF-8 text"
    except yaml.reader.ReaderError as error:
        line, problem = 1 + raw.count(b"\n", 0, error.position), "a control character is not allowed"
    except yaml.MarkedYAMLError as error:
        line = 1 + error.problem_mark.line if error.problem_mark else 1
        problem = _YAML_IN_WORDS.get(str(error.problem), str(error.problem))
        if error.context_mark and error.context_mark.line + 1 < line:
            problem += f" (in what begins in line {error.context_mark.line + 1})"
    raise ConfigError(f"{file}, line {line}: {problem}", hint=hint)  # not chained: it could quote a secret


class _Reader:
    """Builds values from YAML's events: several times faster than its nodes, and deep nesting is harmless.

    Plain text is a number, true, false or null only where JSON would say so: NO stays a country.
    """

    def __init__(self, text: str) -> None:
        # Without `yaml.parse`, which asks about each event before it gets it: an eighth of the time.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self._next: Callable[[], _Event] = loader.get_event
        self._anchors: dict[str | None, object] = {}

    def document(self) -> object:
        """The one document of the text; an empty text is a mapping that says nothing."""
        self._next()
        if isinstance(self._next(), yaml.StreamEndEvent):
            return Map()
        value = self._value(self._next(), 0)
        self._next()
        if not isinstance(end := self._next(), yaml.StreamEndEvent):
            raise yaml.MarkedYAMLError(problem="a second document begins", problem_mark=end.start_mark)
        return Map() if value is None else value

    def _value(self, event: _Event, depth: int) -> object:
        if isinstance(event, yaml.AliasEvent):
            return self._anchors.get(event.anchor, Broken("stands for an anchor that nothing above it has"))
        if depth > _MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deep", problem_mark=event.start_mark)
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event.value) if event.implicit[0] else event.value
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(depth + 1)
        else:
            value = self._sequence(depth + 1)
        if event.tag not in _TAGS:
            value = Broken("has a YAML tag; write it without")
        if event.anchor:
            self._anchors[event.anchor] = value
        return value

    def _sequence(self, depth: int) -> List:
        items = List()
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.lines[len(items)] = event.start_mark.line + 1
            items.append(self._value(event, depth))
        return items

    def _mapping(self, depth: int) -> Map:
        found = Map()
        bases: list[tuple[object, int]] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = event.value if isinstance(event, yaml.ScalarEvent) else self._value(event, depth)
            value = self._value(self._next(), depth)
            if key == "<<":
                bases.append((value, line))
            elif not isinstance(key, str):
                found.put("?", Broken("a key must be text"), line)
            elif key in found:
                found.put(key, Broken(f"given twice, first in line {found.lines[key]}"), line)
            else:
                found.put(key, value, line)
        for base, line in bases:
            _merge(found, base, line)
        return found


def _merge(into: Map, base: object, line: int) -> None:
    """YAML's `<<`: the keys of one or several mappings, as far as they are not given here."""
    for mapping in base if isinstance(base, List) else [base]:
        if not isinstance(mapping, Map):
            into.put("<<", Broken("must name a mapping"), line)
            continue
        for key in mapping.keys() - into.keys():
            into.put(key, mapping[key], mapping.lines[key])


def _scalar(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if match := _NUMBER.fullmatch(text):
        return float(text) if match[2] else int(text)
    return text
