"""The filter of an export: which records go out, and which fields of them.

Records are judged by a column's original values, a whole column at a time. It must not lose a record of
which it cannot tell: a value that has no form in JSON fits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

import orjson

from exporter.errors import ConfigError, MissingColumn
from exporter.formats.patterns import pattern_of
from exporter.notation.values import shown
from exporter.notation.wording import did_you_mean, near

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from exporter.formats.settings import FilterSettings
    from exporter.interfaces import Block
    from exporter.model import Json

NULL: Final = b"null"
_REMEMBERED: Final = 10_000
_REMEMBERED_BYTES: Final = 200
"""So many different values of a column are remembered with their verdict, none of them longer than this."""


class Patterns:
    """Patterns that a text fits: one of those that include, if there are any, and none that excludes."""

    def __init__(self, patterns: Iterable[str]) -> None:
        given = tuple(patterns)
        self._include = [pattern_of(one) for one in given if not one.startswith("!")]
        self._exclude = [pattern_of(one[1:]) for one in given if one.startswith("!")]

    def fit(self, text: str) -> bool:
        """Whether this text does."""
        included = not self._include or any(one.fullmatch(text) for one in self._include)
        return included and not any(one.fullmatch(text) for one in self._exclude)


@dataclass(slots=True)
class _Condition:
    """What the values of one column have to be like; None for a column that the source has lost."""

    column: str | None
    patterns: Patterns
    _known: dict[bytes | None, bool] = field(default_factory=lambda: {None: True})

    def verdicts(self, block: Block) -> list[bool]:
        """Whether each record's value fits."""
        if self.column is None:
            return [self.patterns.fit("")] * len(block)
        values, known = readable(block, self.column), self._known
        new = {value: self.patterns.fit(text_of(value)) for value in set(values) - known.keys()}
        known |= new
        verdicts = [known[value] for value in values]
        for value in new:
            if value and len(value) > _REMEMBERED_BYTES:
                del known[value]
        if len(known) > _REMEMBERED:
            self._known = {None: True}
        return verdicts


class Selection:
    """A filter as a plan holds it. ``there``: the columns that the source still has; None: all."""

    def __init__(self, bound: Any, there: Collection[str] | None = None) -> None:  # noqa: ANN401 - read from a ledger
        conditions = bound["where"] if bound else []
        self.columns = sorted({name for name, _ in conditions if there is None or name in there})
        self._conditions = [
            _Condition(name if name in self.columns else None, Patterns(patterns))
            for name, patterns in conditions
        ]
        self._fields = tuple(bound["fields"]) if bound else ()
        self._shown = Patterns(self._fields)

    @property
    def has_fields(self) -> bool:
        """Whether it leaves out columns of a format that gives every one."""
        return bool(self._fields)

    def named(self) -> list[str]:
        """The columns that it speaks of by their whole names."""
        return self.columns + [name.removeprefix("!") for name in self._fields if is_name(name)]

    def shows(self, column: str) -> bool:
        """Whether a format that gives every column gives this one."""
        return self._shown.fit(column)

    def chosen(self, block: Block) -> Sequence[int] | None:
        """Which records go out, None for all."""
        if not self._conditions:
            return None
        verdicts = [condition.verdicts(block) for condition in self._conditions]
        indexes = list(compress(range(len(block)), map(all, zip(*verdicts, strict=True))))
        return None if len(indexes) == len(block) else indexes


def is_name(pattern: str) -> bool:
    """Whether a pattern, excluding or not, can fit a single text alone."""
    return not set("*?|") & set(pattern)


def readable(block: Block, column: str) -> list[bytes | None]:
    """Each value as a JSON string or null; None for one that has no form in JSON, which spoils no other."""
    try:
        return list(block.columns[column].strings())
    except ValueError:
        if len(block) == 1:
            return [None]
    middle = len(block) // 2
    halves = block.slice(0, middle), block.slice(middle, len(block))
    return [value for half in halves for value in readable(half, column)]


def text_of(value: bytes | None) -> str:
    """The text of a JSON string; empty for null."""
    if value is None or value == NULL:
        return ""
    if b"\\" not in value:
        return value[1:-1].decode()
    try:
        text: str = orjson.loads(value)
    except orjson.JSONDecodeError:  # half a surrogate pair
        text = json.loads(value)
    return text


def require(names: Iterable[str], columns: Collection[str]) -> None:
    """Raise MissingColumn for the first of these names that is no column."""
    for name in names:
        if name not in columns:
            meant = did_you_mean(_nearest(name, columns)) or f"it has {', '.join(columns)}"
            raise MissingColumn(
                f"the source has no column {name!r}", hint=f"correct the filter or protect; {meant}"
            )


def _nearest(name: str, names: Iterable[str]) -> str:
    by_plain = {one.lower().replace("-", "_"): one for one in names}
    return by_plain.get(near(name, by_plain), "")


# --- Binding: from settings to what a plan holds ----------------------------------------------------------


def bind_filter(
    settings: FilterSettings, roles: Mapping[str, str | None], mapping: Json
) -> tuple[Json, Json]:
    """The filter, bound to the source's columns, and the mapping with the fields that go out.

    Raises ConfigError for a field that the format does not have. Fields of a format that gives every column
    are the source's to know: they stay in the filter.
    """
    by_column = {"action": settings.actions} if settings.actions else {}
    where: list[Json] = [
        [column_of(name, roles), list(patterns)]
        for name, patterns in (*by_column.items(), *settings.where.items())
    ]
    fields: list[Json] = []
    if settings.fields and _gives_all(mapping):
        fields += settings.fields
    elif settings.fields:
        mapping = _with_fields(mapping, settings.fields)
    return ({"where": where, "fields": fields} if where or fields else None), mapping


def column_of(name: str, roles: Mapping[str, str | None]) -> str:
    """The column that a name means: that of a role, else the one of this name."""
    return roles.get(name) or name


def _gives_all(mapping: Any) -> bool:  # noqa: ANN401 - as `formats` writes it
    return mapping is None or mapping["fields"] == ["all"]


def _with_fields(mapping: Any, patterns: Sequence[str]) -> Json:  # noqa: ANN401 - as above
    top = _Top(mapping.get("shared") or [], Patterns(patterns).fit)
    known = list(dict.fromkeys(top.names(mapping["fields"])))
    plain = {name.lower() for name in known}
    for pattern in patterns:
        name = pattern.removeprefix("!")
        if is_name(name) and name.lower() not in plain:
            meant = did_you_mean(_nearest(name, known)) or f"there are {', '.join(known)}"
            raise ConfigError(f"filter.fields: {shown(name)} is no field of the format", hint=meant)
    if not any(map(top.fits, known)):
        raise ConfigError("filter.fields leaves no field", hint=f"the format's fields are {', '.join(known)}")
    return {**mapping, "fields": top.kept(mapping["fields"])}


@dataclass(frozen=True, slots=True)
class _Top:
    """The fields at the top of a line, of whichever branch."""

    shared: Sequence[Any]
    fits: Callable[[str], bool]

    def names(self, tree: Any) -> Iterator[str]:  # noqa: ANN401 - trees
        """What they are called."""
        match tree:
            case ["object", pairs]:
                yield from (name for name, _ in pairs)
            case ["const", text] if isinstance(value := json.loads(text), dict):
                yield from value
            case ["first", choices]:
                for choice in choices:
                    yield from self.names(choice)
            case ["match", _, branches]:
                for _, branch in branches:
                    yield from self.names(branch)
            case ["shared", index]:
                yield from self.names(self.shared[index])

    def kept(self, tree: Any) -> Json:  # noqa: ANN401 - trees
        """Those of them that fit."""
        match tree:
            case ["object", pairs]:
                return ["object", [[name, value] for name, value in pairs if self.fits(name)]]
            case ["const", text] if isinstance(value := json.loads(text), dict):
                return ["const", json.dumps({name: one for name, one in value.items() if self.fits(name)})]
            case ["first", choices]:
                return ["first", [self.kept(choice) for choice in choices]]
            case ["match", subject, branches]:
                return ["match", subject, [[pattern, self.kept(branch)] for pattern, branch in branches]]
            case ["shared", index]:
                return self.kept(self.shared[index])
        return tree  # type: ignore[no-any-return]  # JSON, as all of it
