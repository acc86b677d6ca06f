"""Blocks of every kind that sources hand over, and ranges that encoders and their parent share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

from exporter.columns import SEPARATOR, Layout, Roles, RowBlock, TextTimes
from exporter.encoders import Task
from exporter.encoding import Encoding, one_by_one
from exporter.formats import compile_format
from exporter.formats.protection import account_key, key_id
from exporter.model import Branch, Occasion, Rendering
from exporter.sources.postgres.copy import CopyBlock, CopyColumn, CopyLayout
from exporter.sources.postgres.values import Kind
from exporter.sources.sqlite import joined
from exporter.sources.sqlite.forms import TextForm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter.encoders import Encoders, _Process
    from exporter.encoding import Encoded, Lines
    from exporter.interfaces import Block

    Row = tuple[int, str, str, Any, str | None]
    """Id, time, account, action and e-mail address."""

    Found = list[tuple[Block, list[int] | None, Lines]]
    """Blocks, which of their records go out, and the lines of these."""

NAMES: Final = ("id", "time", "account", "action", "email")
ROLES: Final = Roles("id", "time", "account")
TIME: Final = "2026-11-19T04:00:00.000000Z"
NAN: Final = float("nan")
KEY: Final = account_key("0123456789abcdef", "acme")
END: Final = datetime(2026, 11, 20, tzinfo=UTC)
SECRET: Final = "keep gh" + "p_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"

PLAIN: Final = Task(Rendering("native", None, max_record_bytes=10_000_000), Occasion(1, END), "acme")
HARD: Final = Task(
    Rendering(
        "native",
        None,
        max_record_bytes=400,
        chosen={"where": [["action", ["keep*"]]], "fields": []},
        protected={"email": "pseudonymise"},
        key_id=key_id(KEY),
        mask_secrets=True,
    ),
    Occasion(1, END, None, KEY),
    "acme",
)
"""With all that may become of a record."""


def row(number: int, action: object = "keep", email: str | None = "ada", account: str = "acme") -> Row:
    return (number, TIME, account, action, email)


def row_block(rows: Sequence[Row], branch: Branch = Branch.ON_TIME) -> RowBlock:
    """As drivers give rows; the value NAN cannot be rendered."""
    return RowBlock(branch, Layout(NAMES, NAMES, ROLES, TextTimes()), rows)


class AtHome(RowBlock):
    """One that no other process is given."""

    is_portable = False


def at_home(rows: Sequence[Row]) -> AtHome:
    return AtHome(Branch.ON_TIME, Layout(NAMES, NAMES, ROLES, TextTimes()), rows)


class Unreadable(RowBlock):
    """One that can be written for another process, which then cannot read it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _unreadable, ()


def _unreadable() -> NoReturn:
    raise MemoryError


def unreadable(rows: Sequence[Row]) -> Unreadable:
    return Unreadable(Branch.ON_TIME, Layout(NAMES, NAMES, ROLES, TextTimes()), rows)


def copy_block(rows: Sequence[Row]) -> CopyBlock:
    r"""As COPY gives rows; for NAN there is a text that is no UTF-8."""
    kinds = (Kind.INTEGER, Kind.TIMESTAMPTZ, Kind.TEXT, Kind.TEXT, Kind.TEXT)
    columns = tuple(CopyColumn(name, kind) for name, kind in zip(NAMES, kinds, strict=True))
    layout = CopyLayout(columns, NAMES, ROLES, valid_utf8=False)
    return CopyBlock(Branch.ON_TIME, layout, [b"\t".join(map(_copied, one)) + b"\n" for one in rows])


def _copied(value: object) -> bytes:
    if value is None:
        return rb"\N"
    if value == TIME:
        return b"2026-11-19 04:00:00+00"
    return b"\xff" if isinstance(value, float) else str(value).encode()


def joined_block(rows: Sequence[Row]) -> joined.JoinedBlock:
    """As SQLite joins columns; NAN is a text like others."""
    form = TextForm.of(TIME.encode())
    assert form is not None
    columns = {}
    for name, values in zip(NAMES, zip(*rows, strict=True), strict=True):
        data = SEPARATOR.join(joined.NULL if one is None else str(one).encode() for one in values)
        kind = joined.Kind.INTEGER if name == "id" else joined.Kind.TEXT
        made = joined.Joined.of(kind, data, len(rows))
        assert made is not None
        columns[name] = made
    return joined.JoinedBlock(Layout(NAMES, NAMES, ROLES, TextTimes()), form, len(rows), columns)


def some_blocks(count: int, first: int = 0) -> list[Block]:
    """Portable ones of ten good records each."""
    return [row_block([row(10 * (first + one) + index) for index in range(10)]) for one in range(count)]


class Counted(Encoding):
    """An encoding that counts what this process itself has encoded."""

    def __init__(self, task: Task) -> None:
        super().__init__(compile_format(task.rendering, task.occasion), task.rendering, task.account)
        self.here = 0

    def encode(self, block: Block) -> Encoded:
        self.here += 1
        return super().encode(block)


def alone(task: Task, blocks: Iterable[Block]) -> Found:
    """What has to come of them."""
    return listed(one_by_one(Counted(task), blocks))


def shared(encoders: Encoders, task: Task, blocks: Iterable[Block]) -> tuple[Found, int]:
    """What came of them, and how many of them were encoded by other processes."""
    encoding = Counted(task)
    found = listed(encoders.encode(task, encoding, blocks))
    return found, len(found) - encoding.here


def listed(pairs: Iterable[tuple[Block, Encoded]]) -> Found:
    """In a form that can be compared; a block equals nothing but itself."""
    return [
        (block, None if encoded.chosen is None else list(encoded.chosen), encoded.lines)
        for block, encoded in pairs
    ]


def given(encoders: Encoders) -> int:
    """How many blocks its processes have been given so far."""
    return sum(process.given for process in encoders._processes)


def processes(encoders: Encoders) -> Iterator[_Process]:
    return iter(encoders._processes)
