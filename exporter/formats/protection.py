"""What becomes of a column's values before they leave: dropped, masked, truncated, or a pseudonym.

It works at the column, so that no field of any format sees more. It must not show a key, or a value that it
is there to hide: one that cannot be read is masked.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections import Counter
from dataclasses import replace
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ConfigError, ExportError
from exporter.formats.masking import MaskedColumn
from exporter.formats.selection import NULL, column_of, readable, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from exporter.formats.settings import ProtectSettings
    from exporter.interfaces import Block, Column
    from exporter.model import Branch, Json, Key, Occasion, Rendering

ORIGINAL: Final = "\0"
"""In front of a column's name: its values as they are. No database has such a name."""

MASKED: Final = b'"[masked]"'
SHORTEST_KEY_BYTES: Final = 16
_LABEL: Final = b"audit-exporter pseudonyms\0"
_PSEUDONYM_BYTES: Final = 16
_KEPT_OF_IPV4, _KEPT_OF_IPV6 = 24, 48
_BETWEEN: Final = re.compile(r"[\s,:]*")


# --- Keys --------------------------------------------------------------------------------------------------


def account_key(key: str, account: str) -> bytes:
    """The account's own key. Raises ConfigError for one that is too short, without showing it."""
    secret = key.encode(errors="surrogatepass")
    if len(secret) < SHORTEST_KEY_BYTES:
        message = f"protect.key: is {len(secret)} bytes long, and needs {SHORTEST_KEY_BYTES} or more"
        raise ConfigError(message, hint="make one with: openssl rand -hex 32")
    return hmac.digest(secret, _LABEL + account.encode(errors="surrogatepass"), "sha256")


def key_id(key: bytes) -> str:
    """What tells an account's keys apart, and says nothing about them."""
    return hashlib.sha256(key).hexdigest()[:16]


def require_key(rendering: Rendering, occasion: Occasion) -> None:
    """Raise ExportError unless the key is the one that the plan's pseudonyms are made with."""
    if not rendering.key_id:
        return
    if occasion.key is None or not hmac.compare_digest(key_id(occasion.key), rendering.key_id):
        raise ExportError(
            f"its plan has pseudonyms of another key (id {rendering.key_id}) than protect.key now gives",
            hint="put the earlier key back until this is delivered, then change it; if it is lost,"
            " `audit-exporter resume EXPORT` has an open plan made anew, unless it may have landed already",
        )


# --- Values ------------------------------------------------------------------------------------------------


def _truncated(text: str) -> bytes:
    """The network of an address as an address; `[masked]` for what is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return MASKED
    return b'"%b"' % str(_network_of(address)).encode()


def _network_of(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return ip_network((int(address), _KEPT_OF_IPV4), strict=False).network_address
    if address.ipv4_mapped is not None:
        network = _network_of(address.ipv4_mapped)
        return IPv6Address(f"::ffff:{network}")
    return ip_network((int(address), _KEPT_OF_IPV6), strict=False).network_address


def _pseudonym(key: bytes, text: str) -> bytes:
    """The same 32 digits for the same text and key."""
    digest = hmac.digest(key, text.encode(errors="surrogatepass"), "sha256")
    return b'"%b"' % digest[:_PSEUDONYM_BYTES].hex().encode()


def _changes(how: str, key: bytes | None) -> Callable[[bytes], bytes]:
    """What one way does to a JSON string."""
    if how == "truncate":
        return lambda value: _truncated(text_of(value))
    if how == "pseudonymise" and key is not None:
        return lambda value: _pseudonym(key, text_of(value))
    return lambda _: MASKED


class _ProtectedColumn:
    """A column with other values: strings, whatever they were, and null where there was none."""

    def __init__(
        self,
        block: Block,
        name: str,
        change: Callable[[bytes], bytes],
        note: Callable[[Sequence[bytes]], None],
    ) -> None:
        self._block = block
        self._name = name
        self._change = change
        self._note = note

    def strings(self) -> Sequence[bytes]:
        """Each value, changed."""
        return self._strings

    json = strings

    @cached_property
    def _strings(self) -> Sequence[bytes]:
        values = readable(self._block, self._name)
        changed: dict[bytes | None, bytes] = {None: MASKED, NULL: NULL}
        changed |= {
            value: self._change(value) for value in set(values) if value is not None and value != NULL
        }
        fragments = [changed[value] for value in values]
        self._note(fragments)
        return fragments

    def instants(self) -> Sequence[bytes]:
        """There are none: the time is not protected."""
        raise ValueError("the time is unreadable")


class _DroppedColumn(_ProtectedColumn):
    """A column as if nobody filled it; what was there is counted."""

    def strings(self) -> Sequence[bytes]:
        """Nothing but null."""
        return [NULL] * len(super().strings())

    json = strings


# --- Blocks ------------------------------------------------------------------------------------------------


class Protection:
    """What a plan says of its columns' values; ``there`` are those that the source has, None: all.

    ``shows`` says which columns a format that gives every one gives.
    """

    def __init__(
        self, rendering: Rendering, occasion: Occasion | None, shows: Callable[[str], bool] | None
    ) -> None:
        there, key = (None, None) if occasion is None else (occasion.columns, occasion.key)
        self.ways = {name: how for name, how in rendering.protected.items() if there is None or name in there}
        self.changes = {name: _changes(how, key) for name, how in self.ways.items()}
        self.masks_secrets = rendering.mask_secrets
        self._shows = shows
        self.is_needed = bool(self.ways or rendering.mask_secrets or shows)

    def shows(self, column: str) -> bool:
        """Whether a format that gives every column gives this one."""
        return self.ways.get(column) != "drop" and (self._shows is None or self._shows(column))

    def view(self, block: Block) -> ProtectedBlock:
        """A block as formats may see it."""
        return ProtectedBlock(block, self, range(len(block)), {})


class ProtectedBlock:
    """A block with protected values. It counts those that a format takes, each once.

    ``rows`` are its records' places in the first block, for which ``taken`` counts.
    """

    def __init__(
        self, block: Block, protection: Protection, rows: Sequence[int], taken: dict[str, set[int]]
    ) -> None:
        self._block = block
        self._protection = protection
        self._rows = rows
        self._taken = taken
        self.columns: Mapping[str, Column] = _Columns(self, block.columns)

    @property
    def branch(self) -> Branch:
        """The branch that all these records belong to."""
        return self._block.branch

    def __len__(self) -> int:
        """How many records."""
        return len(self._block)

    def key(self, index: int) -> Key:
        """The key of one record."""
        return self._block.key(index)

    def id(self, index: int) -> str:
        """The id of one record."""
        return self._block.id(index)

    def slice(self, start: int, stop: int) -> ProtectedBlock:
        """A part of this block."""
        return ProtectedBlock(
            self._block.slice(start, stop), self._protection, self._rows[start:stop], self._taken
        )

    def pick(self, indexes: Sequence[int]) -> ProtectedBlock:
        """Some records of this block, in its order."""
        rows = [self._rows[index] for index in indexes]
        return ProtectedBlock(self._block.pick(indexes), self._protection, rows, self._taken)

    def belongs_to(self, account: str) -> bool:
        """Whether every record is of this account."""
        return self._block.belongs_to(account)

    def raw(self, index: int) -> bytes:
        """What was read of one record."""
        return self._block.raw(index)

    def column(self, name: str) -> Column:
        """A column as formats may see it, or as it is if asked for so."""
        if name.startswith(ORIGINAL):
            return self._block.columns[name.removeprefix(ORIGINAL)]
        how = self._protection.ways.get(name)
        if how is None:
            plain = self._block.columns[name]
            if not self._protection.masks_secrets:
                return plain
            return MaskedColumn(plain, name, self._block.id, lambda found: self._take("secrets", name, found))
        kind = _DroppedColumn if how == "drop" else _ProtectedColumn
        change = self._protection.changes[name]
        return kind(self._block, name, change, lambda values: self._take_all(f"{name} {how}", name, values))

    def _take_all(self, label: str, name: str, values: Sequence[bytes]) -> None:
        self._take(label, name, [index for index, value in enumerate(values) if value != NULL])

    def _take(self, label: str, name: str, indexes: Sequence[int]) -> None:
        if indexes:
            taken = self._taken.setdefault(f"{label}\0{name}", set())
            taken.update(self._rows[index] for index in indexes)

    def count_dropped(self) -> None:
        """Count what is dropped from a format that gives every column, and so never asks for these."""
        for name, how in self._protection.ways.items():
            if how == "drop":
                self.columns[name].strings()

    def counts(self) -> Mapping[str, int]:
        """How many values were protected, by what was done."""
        counts: Counter[str] = Counter()
        for label, rows in self._taken.items():
            counts[label.partition("\0")[0]] += len(rows)
        return counts

    def shown(self, names: Mapping[str, object]) -> list[str]:
        """Of these columns those that a format gives which gives every one."""
        return [name for name in names if self._protection.shows(name)]


class _Columns(dict[str, "Column"]):
    """The columns that are given by a format that gives every one; others are there for who asks."""

    def __init__(self, block: ProtectedBlock, names: Mapping[str, object]) -> None:
        super().__init__((name, block.column(name)) for name in block.shown(names))
        self._block = block

    def __missing__(self, name: str) -> Column:
        self[name] = column = self._block.column(name)
        return column


# --- What goes out of a record that has no line ------------------------------------------------------------


def shown_of(raw: bytes, shows: Callable[[str], bool]) -> bytes:
    """A record in its readable form without the columns that are not to be shown.

    Of a form that was cut off, as much as can be read; what is no such form, such as a line, as it is.
    """
    if not raw.startswith(b"{"):
        return raw
    members = list(_members(raw.decode(errors="surrogateescape")))
    shown = [f"{json.dumps(name)}: {value}" for name, value in members if shows(name)]
    return raw if len(shown) == len(members) else f"{{{', '.join(shown)}}}".encode(errors="surrogateescape")


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Each member's name and the text of its value; of the last one, if it was cut off, what there is."""
    read, at = json.JSONDecoder().raw_decode, 1
    while True:
        try:
            name, end = read(text, at)
        except (ValueError, IndexError):  # the end
            return
        start = _past(text, end)
        try:
            _, at = read(text, start)
        except (ValueError, IndexError, RecursionError):
            yield str(name), text[start:]
            return
        yield str(name), text[start:at]
        at = _past(text, at)


def _past(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


# --- Binding -----------------------------------------------------------------------------------------------


def bind_protection(
    settings: ProtectSettings, roles: Mapping[str, str | None], needed: Collection[str] | None
) -> dict[str, str]:
    """How the values of each column are protected, by the source's names for them. Raises ConfigError.

    ``needed`` are the columns of the format, None for all: of the others, none is kept that is known by its
    role, so that nothing is read for this alone.
    """
    whose = {roles[role]: role for role in ("account", "time", "id")}
    bound: dict[str, str] = {}
    for name, how in settings.columns.items():
        column = column_of(name, roles)
        if column in whose:
            message = f"protect.columns: '{name}' is the source's {whose[column]}, which cannot be protected"
            raise ConfigError(message, hint="every reader of the records needs it as it is")
        if bound.setdefault(column, how) != how:
            message = f"protect.columns: '{name}' and another name of column '{column}' say different things"
            raise ConfigError(message, hint="say one thing of each column")
        if needed is not None and roles.get(name) and column not in needed:
            del bound[column]
    return bound


def for_lookups(rendering: Rendering, occasion: Occasion | None) -> tuple[Json, Occasion | None]:
    """A plan's mapping whose lookups see the values as they are, and an occasion that has these columns.

    `$match` decides by what was there, not by its mask. A dropped column is as if nobody filled it, for
    lookups too.
    """
    mapping: Any = rendering.mapping
    hidden = frozenset(name for name, how in rendering.protected.items() if how != "drop")
    if mapping is None or not hidden:
        return mapping, occasion
    if occasion is not None and occasion.columns is not None:
        originals = {ORIGINAL + name for name in occasion.columns}
        occasion = replace(occasion, columns=occasion.columns | originals)
    return _Lookups(hidden, mapping.get("shared") or []).outside(mapping), occasion


class _Lookups:
    """A bound format with other columns in what its lookups decide by."""

    def __init__(self, hidden: frozenset[str], shared: list[Any]) -> None:
        self._hidden = hidden
        self._shared = shared

    def outside(self, tree: Any) -> Any:  # noqa: ANN401 - trees
        """A tree, its lookups changed."""
        match tree:
            case ["match", subject, branches]:
                return ["match", self.inside(subject), self.outside(branches)]
            case dict():
                return {key: self.outside(value) for key, value in tree.items()}
            case list():
                return [self.outside(one) for one in tree]
        return tree

    def inside(self, tree: Any) -> Any:  # noqa: ANN401 - trees
        """What a lookup decides by: every column as it is.

        But whether something is an address is asked of what goes out, which stands in a field for one.
        """
        match tree:
            case ["column", str(name), *conversions] if name in self._hidden and "ip" not in conversions:
                return ["column", ORIGINAL + name, *conversions]
            case ["shared", int(index)]:
                return self.inside(self._shared[index])
            case list():
                return [self.inside(one) for one in tree]
        return tree
