"""Whether two outputs hold the same records: each record in one canonical form, and a sum over all of them.

The sum does not depend on the order. Before comparing, only spelling is evened out: the offset and the
fraction of a time, `/32` after an address, a JSON column that was written as text. `export_xid`, which the
database counts by itself, has to be there but is not compared.
"""

from __future__ import annotations

import gzip
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import orjson

from tests.bench import data
from tests.bench.peers import mappings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

Record = dict[str, Any]
CANONICAL_TIME: Final = len("2026-11-01T00:00:00.000000Z")
_TIMES: Final = frozenset({"created_at", "Date"})


@dataclass(slots=True)
class Sum:
    """How many records, and the sum of their hashes."""

    count: int = 0
    total: int = 0

    def add(self, record: Record) -> None:
        """Count one more record, as it was read."""
        canonical = orjson.dumps(_canonical(record), option=orjson.OPT_SORT_KEYS)
        self.count += 1
        self.total = (self.total + int.from_bytes(blake2b(canonical, digest_size=8).digest())) % 2**64


def sum_of(records: Iterable[Record]) -> Sum:
    """All of them."""
    found = Sum()
    for record in records:
        found.add(record)
    return found


def _canonical(record: Record) -> Record:
    even = {name: _even(name, value) for name, value in record.items()}
    even.pop("export_xid", None)
    return even


def _even(name: str, value: object) -> object:
    if name in _TIMES and isinstance(value, str):
        return _moment(value)
    if name == "details" and isinstance(value, str):
        return orjson.loads(value)
    if name == "ip_address" and isinstance(value, str):
        return value.removesuffix("/32")
    return value


def _moment(text: str) -> str:
    if len(text) == CANONICAL_TIME and text[-1] == "Z" and text[10] == "T":
        return text
    moment = datetime.fromisoformat(text)
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{aware:%Y-%m-%dT%H:%M:%S.%fZ}"


# --- What should be there, made from the generator and not from any database -------------------------------


def native(row: data.Row) -> Record:
    """A record under its own columns' names."""
    return dict(zip(data.COLUMNS, row, strict=True))


FORMATS: Final[dict[str, Callable[[data.Row], Record | None]]] = {
    "native": native,
    "standard": mappings.standard,
    "ocsf": mappings.ocsf,
}


@cache
def expected(form: str, big: int) -> Sum:
    """What every output of the large account has to hold."""
    made = map(FORMATS[form], data.records(data.BIG, big, 1))
    return sum_of(record for record in made if record is not None)


@cache
def expected_of_many(big: int, accounts: int, each: int) -> Sum:
    """What every output of all the small accounts together has to hold, under the columns' names."""
    names = map(data.small_account, range(accounts))
    rows = (data.records(name, each, 1 + big + number * each) for number, name in enumerate(names))
    return sum_of(map(native, chain.from_iterable(rows)))


# --- Outputs ---------------------------------------------------------------------------------------------


def lines_of_zips(folder: Path) -> Iterator[bytes]:
    """The lines of every member of every zip below a folder."""
    for path in sorted(folder.rglob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    yield from member


def lines_of_gzip(path: Path) -> Iterator[bytes]:
    """The lines of one compressed file."""
    with gzip.open(path) as file:
        yield from file


def from_json(lines: Iterable[bytes]) -> Iterator[Record]:
    """One record on each line."""
    return map(orjson.loads, lines)


def from_copy(lines: Iterable[bytes]) -> Iterator[Record]:
    """The same, after COPY's text format doubled every backslash."""
    return (orjson.loads(line.replace(b"\\\\", b"\\")) for line in lines)


def from_array(lines: Iterable[bytes]) -> Iterator[Record]:
    """A JSON array with one record on each line."""
    return (orjson.loads(line.strip().lstrip(b"[").rstrip(b",]")) for line in lines)
