"""The peers as methods: what each is started with, and how its output is read."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench import data, folders, records
from tests.bench.methods import Method
from tests.bench.places import program, python_of_peers, sling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.places import World
    from tests.bench.records import Record

ROOT: Final = Path(__file__).parents[2]
PEERS: Final = Path(__file__).parent / "peers"
ALL: Final = ", ".join([*data.COLUMNS, "export_xid"])
WINDOW: Final = (
    f"account_id = '{data.BIG}' AND created_at >= '{data.START:%Y-%m-%dT%H:%M:%S.%fZ}'"
    f" AND created_at < '{data.END:%Y-%m-%dT%H:%M:%S.%fZ}'"
)
ORDER: Final = " ORDER BY created_at, id"
SELECT: Final = f"SELECT {ALL} FROM audit_log WHERE {WINDOW}"
INDEX_ORDER: Final = {"PGOPTIONS": "-c max_parallel_workers_per_gather=0 -c enable_sort=off -c jit=off"}
SLOW: Final = 3
"""How often a peer is run that takes several times as long as ours."""

SLOWEST: Final = 2
"""How often one that takes ten times as long."""


def of_postgres(world: World) -> list[Method]:
    """One account with many records, every column."""
    out = world.folder / "peer"
    return [
        _psql(world, "psql row_to_json | igzip -1", "", "igzip -1"),
        _psql(world, "psql row_to_json | igzip -1, in index order", ORDER, "igzip -1", index_order=True),
        _raw(world),
        _psql(world, "psql row_to_json | gzip", "", "gzip"),
        _zipped(world),
        _with_adbc(world, out),
        _with_chdb(world, out),
        streaming(world, "native"),
        _with_sling(world, out),
        _plain(world, out),
    ]


def _shell(command: str) -> Callable[[], list[str]]:
    return lambda: ["bash", "-o", "pipefail", "-c", command]


def _copy(world: World, query: str) -> str:
    statement = shlex.quote(f"COPY ({query}) TO STDOUT")
    return f"{program('psql')} -qX {shlex.quote(world.url)} -c {statement}"


def _psql(world: World, name: str, order: str, compress: str, *, index_order: bool = False) -> Method:
    tool, *options = compress.split()
    out = world.folder / "psql.gz"
    source = _copy(world, f"SELECT row_to_json(r) FROM ({SELECT}{order}) r")
    command = f"{source} | {program(tool)} {' '.join(options)} > {shlex.quote(str(out))}"
    return Method(
        name,
        _shell(command),
        output=lambda: records.from_copy(records.lines_of_gzip(out)),
        env=INDEX_ORDER if index_order else {},
        runs=SLOW if tool == "gzip" else None,
        note="" if order else "in no order",
    )


def _zipped(world: World) -> Method:
    folder = world.folder / "psql"
    source = _copy(world, f"SELECT row_to_json(r) FROM ({SELECT}) r")
    out = shlex.quote(str(folder / "audit.zip"))
    return Method(
        "psql row_to_json | zip",
        _shell(f"{source} | {program('zip')} -q {out} -"),
        prepare=lambda: folders.anew(folder),
        output=lambda: records.from_copy(records.lines_of_zips(folder)),
        runs=SLOW,
        note="in no order",
    )


def _raw(world: World) -> Method:
    command = f"{_copy(world, SELECT + ORDER)} > /dev/null"
    note = "no JSON, no compression, no file: the least a reader can take"
    return Method("psql, raw text to nowhere", _shell(command), env=INDEX_ORDER, note=note)


def _with_adbc(world: World, out: Path) -> Method:
    select = (
        SELECT.replace("ip_address", "ip_address::text").replace("export_xid", "export_xid::text") + ORDER
    )
    script = [python_of_peers(world), str(PEERS / "with_polars.py"), world.url, f"{out}.gz", select]
    return Method(
        "ADBC, polars",
        lambda: script,
        output=lambda: records.from_json(records.lines_of_gzip(Path(f"{out}.gz"))),
        note="JSON columns as text",
    )


def _with_chdb(world: World, out: Path) -> Method:
    place = f"{world.postgres.host}:{world.postgres.port}"
    where = WINDOW.replace("T", " ").replace("Z'", "'")
    file = out.with_suffix(".json.gz")
    script = [python_of_peers(world), str(PEERS / "with_chdb.py"), place, "postgres", str(file), where]
    return Method(
        "chdb",
        lambda: script,
        output=lambda: records.from_json(records.lines_of_gzip(file)),
        note="JSON columns as text",
    )


def _with_sling(world: World, out: Path) -> Method:
    home = world.folder / "sling"
    file = out.with_suffix(".jsonl.gz")
    select = SELECT.replace("export_xid", "export_xid::text") + ORDER
    options = "{format: jsonlines, compression: gzip, file_max_bytes: 0}"
    command = [sling(world), "run", "--src-conn", "SOURCE", "--src-stream", select]
    target = ["--tgt-object", f"file://{file}", "--tgt-options", options]
    return Method(
        "sling",
        lambda: [*command, *target],
        output=lambda: records.from_json(records.lines_of_gzip(file)),
        env={
            "SOURCE": f"{world.url}?sslmode=disable",
            "SLING_HOME_DIR": str(home),
            "SLING_DISABLE_TELEMETRY": "true",
        },
        runs=SLOWEST,
    )


def _script(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"tests.bench.peers.{name}", *arguments]


def _plain(world: World, out: Path) -> Method:
    folder = out.with_name("plain")
    command = _script("plain", world.url, str(folder / "audit.zip"), SELECT + ORDER)
    return Method(
        "psycopg fetchall, json, zipfile",
        lambda: command,
        prepare=lambda: folders.anew(folder),
        output=lambda: _zips(folder),
        env={"PYTHONPATH": str(ROOT)},
        runs=SLOWEST,
    )


def streaming(world: World, form: str) -> Method:
    """SQLAlchemy, orjson and zipfile, in a format."""
    folder = world.folder / f"streaming-{form}"
    command = _script("streaming", world.url, str(folder / "audit.zip"), SELECT + ORDER, form)
    return Method(
        "SQLAlchemy, orjson, zipfile",
        lambda: command,
        prepare=lambda: folders.anew(folder),
        output=lambda: _zips(folder),
        env={"PYTHONPATH": str(ROOT)},
        runs=SLOWEST,
    )


def _zips(folder: Path) -> Iterator[Record]:
    return records.from_json(records.lines_of_zips(folder))


def each(world: World, s3: Callable[[], str] | None = None) -> Method:
    """A connection, a zip and an object for each account; with ``s3``, to the server at that address."""
    folder = world.folder / "each"
    select = SELECT.replace(f"'{data.BIG}'", "%s") + ORDER
    accounts = world.folder / "accounts.txt"
    accounts.write_text("\n".join(world.small_accounts()), encoding="utf-8")
    command = _script("each", world.url, str(folder), select, str(accounts))
    return Method(
        "a connection each: psycopg, orjson, zipfile",
        lambda: [*command, s3()] if s3 else command,
        prepare=lambda: folders.anew(folder),
        output=None if s3 else lambda: _zips(folder),
        env={"PYTHONPATH": str(ROOT)},
        runs=SLOWEST,
        note="the server keeps nothing" if s3 else "",
    )


def of_sqlite(world: World) -> list[Method]:
    """One account with many records of a SQLite file."""
    database, out = shlex.quote(str(world.sqlite)), world.folder / "sqlite.gz"
    sqlite, file = program("sqlite3"), shlex.quote(str(out))
    pairs = ", ".join(f"'{name}', {_json(name)}" for name in data.COLUMNS)
    made = f"SELECT json_object({pairs}) FROM audit_log WHERE {WINDOW}{ORDER}"
    plain = f"SELECT {', '.join(data.COLUMNS)} FROM audit_log WHERE {WINDOW}{ORDER}"
    lines = f"{sqlite} -readonly {database} {shlex.quote(made)} | {program('igzip')} -1 > {file}"
    array = f"{sqlite} -readonly -json {database} {shlex.quote(plain)} | {program('gzip')} > {file}"
    return [
        Method(
            "sqlite3 json_object | igzip -1",
            _shell(lines),
            output=lambda: records.from_json(records.lines_of_gzip(out)),
        ),
        Method(
            "sqlite3 .mode json | gzip",
            _shell(array),
            output=lambda: records.from_array(records.lines_of_gzip(out)),
            runs=SLOW,
            note="JSON columns as text",
        ),
    ]


def _json(column: str) -> str:
    return f"json({column})" if column == "details" else column
