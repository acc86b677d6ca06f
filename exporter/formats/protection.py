"""What becomes of a column's values before they leave: dropped, masked, truncated, or a pseudonym.

It works at the column, so that no field of any format sees more. It must not show a key, or a value that it
is there to hide: one that cannot be read is masked.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ConfigError, ExportError
from exporter.formats.conversions import IPV4
from exporter.formats.selection import column_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from exporter.formats.settings import ProtectSettings
    from exporter.model import Json, Occasion, Rendering

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


def _truncated(value: bytes) -> bytes:
    """The network of an address as an address; `[masked]` for what is none."""
    if IPV4.fullmatch(value):
        return value[: value.rindex(b".")] + b'.0"'
    try:
        address = ip_address(text_of(value))
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


def changes(how: str, key: bytes | None) -> Callable[[bytes], bytes]:
    """What one way does to a JSON string."""
    if how == "truncate":
        return _truncated
    if how == "pseudonymise" and key is not None:
        return lambda value: _pseudonym(key, text_of(value))
    return lambda _: MASKED


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
