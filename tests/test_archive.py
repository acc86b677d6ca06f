"""Archive files as consumers read them, and what is left when one cannot be written."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import stat
import struct
import threading
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import archive
from exporter.archive import ArchiveWriter, TooLargeForZip, content_type, member_suffix, suffix
from tests.kit.archives import Here

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedRandom

    from exporter.model import Content

MEMBER = "audit_acme_20261119T040000Z.json"
LINES = [b'{"n":%d,"text":"a, b"}\n' % n for n in range(1000)]
KINDS = ["zip", "gzip"]
BODIES = ["ndjson", "json_array"]
IN_MEMORY_BYTES = [archive._SMALL_BYTES, 10_000, 0]


class At(Here):
    """Room for a file of this path, whatever it is to be called."""

    def file(self, name: str) -> Path:
        del name
        return self.path


@pytest.fixture(autouse=True, params=IN_MEMORY_BYTES, ids=["at once", "grown", "in a thread"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every promise holds however much is made before a thread and a file take over."""
    monkeypatch.setattr(archive, "_SMALL_BYTES", request.param)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", BODIES)
def test_a_small_archive_is_the_same_file_as_one_made_in_a_thread(
    tmp_path: Path, kind: str, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export whose plan is rendered again by a later release must not look changed."""
    files, contents = [], []
    for small_bytes in IN_MEMORY_BYTES:
        monkeypatch.setattr(archive, "_SMALL_BYTES", small_bytes)
        path = tmp_path / str(small_bytes)
        contents.append(write(path, LINES, kind=kind, body=body))
        files.append(path.read_bytes())
    assert files == [files[0]] * len(files)
    assert contents == [contents[0]] * len(contents)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", BODIES)
def test_a_small_archive_stays_in_memory_and_is_the_same_as_in_a_file(
    tmp_path: Path, kind: str, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no file and no folder: a run makes thousands of them."""
    monkeypatch.setattr(archive, "_SMALL_BYTES", 1 << 20)
    content = write(tmp_path / "file", LINES, kind=kind, body=body)
    room = At(tmp_path / "missing" / "file", content.archive_bytes)
    with ArchiveWriter(room, kind=kind, body=body, member=MEMBER) as writer:
        for line in LINES:
            writer.write(line, 1)
        assert writer.finish(late=2, bad=1) == content
    assert writer.made == (tmp_path / "file").read_bytes()
    assert room.memory_bytes == 0
    assert not room.path.parent.exists()


def test_an_archive_goes_into_a_file_where_it_may_not_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it that no more memory is left, or that it is large: then none is asked for."""
    monkeypatch.setattr(archive, "_SMALL_BYTES", len(b"".join(LINES)))
    content = write(tmp_path / "file", LINES)
    for name, memory_bytes, more in (("little", content.archive_bytes - 1, []), ("large", 1 << 20, LINES)):
        room = At(tmp_path / name, memory_bytes)
        with ArchiveWriter(room, kind="zip", body="ndjson", member=MEMBER) as writer:
            for line in [*LINES, *more]:
                writer.write(line, 1)
            writer.finish(late=0, bad=0)
        assert writer.made == tmp_path / name
        assert read(tmp_path / name, "zip") == b"".join([*LINES, *more])
        assert room.memory_bytes == memory_bytes


def test_a_small_archive_takes_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run makes thousands of them, and a thread costs as much as one."""
    monkeypatch.setattr(archive, "_SMALL_BYTES", len(b"".join(LINES)))
    with ArchiveWriter(At(tmp_path / "file"), kind="zip", body="ndjson", member=MEMBER) as writer:
        before = threading.active_count()
        for line in LINES:
            writer.write(line, 1)
        assert threading.active_count() == before
        writer.write(b"{}\n", 1)
        assert threading.active_count() == before + 1


def write(path: Path, chunks: Iterable[bytes], *, kind: str = "zip", body: str = "ndjson") -> Content:
    with ArchiveWriter(At(path), kind=kind, body=body, member=MEMBER) as writer:
        for chunk in chunks:
            writer.write(chunk, chunk.count(b"\n"))
        return writer.finish(late=2, bad=1)


def write_and_finish(writer: ArchiveWriter, chunk: bytes) -> Content:
    writer.write(chunk, 1)
    return writer.finish(late=0, bad=0)


def read(path: Path, kind: str) -> bytes:
    if kind == "gzip":
        return gzip.decompress(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        return file.read(MEMBER)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lines", [LINES, LINES[:1], []], ids=["many", "one", "none"])
def test_an_ndjson_member_is_the_lines_as_they_came(tmp_path: Path, kind: str, lines: list[bytes]) -> None:
    write(tmp_path / "file", lines, kind=kind)
    assert read(tmp_path / "file", kind) == b"".join(lines)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("chunks", "member"),
    [
        ([], b"[]\n"),
        ([b""], b"[]\n"),
        ([b"{}\n"], b"[\n{}\n]\n"),
        ([b'{"a":1}\n{"a":2}\n', b"", b'{"a":3}\n'], b'[\n{"a":1},\n{"a":2},\n{"a":3}\n]\n'),
    ],
)
def test_a_json_array_has_one_record_per_line(
    tmp_path: Path, kind: str, chunks: list[bytes], member: bytes
) -> None:
    write(tmp_path / "file", chunks, kind=kind, body="json_array")
    assert read(tmp_path / "file", kind) == member


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", BODIES)
def test_the_content_measured_is_that_of_the_file(tmp_path: Path, kind: str, body: str) -> None:
    path = tmp_path / "file"
    content = write(path, [b"".join(LINES[:600]), b"".join(LINES[600:])], kind=kind, body=body)
    member = read(path, kind)
    assert (content.count, content.late, content.bad) == (1000, 2, 1)
    assert content.content_bytes == len(member)
    assert content.content_sha256 == hashlib.sha256(member).hexdigest()
    assert content.archive_bytes == path.stat().st_size
    assert content.archive_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@settings(deadline=None, max_examples=50)
@given(
    cuts=st.lists(st.integers(0, len(LINES)), max_size=20).map(sorted),
    kind=st.sampled_from(KINDS),
    body=st.sampled_from(BODIES),
)
def test_how_lines_are_cut_into_chunks_changes_nothing_in_the_member(
    cuts: list[int], kind: str, body: str
) -> None:
    bounds = zip([0, *cuts], [*cuts, len(LINES)], strict=True)
    chunks = [b"".join(LINES[start:stop]) for start, stop in bounds]
    records = [json.loads(line) for line in LINES]
    with TemporaryDirectory() as folder:
        whole = write(Path(folder) / "whole", [b"".join(LINES)], kind=kind, body=body)
        cut = write(Path(folder) / "cut", chunks, kind=kind, body=body)
        member = read(Path(folder) / "cut", kind)
    assert cut.content_sha256 == whole.content_sha256
    assert records == (
        json.loads(member) if body == "json_array" else list(map(json.loads, member.splitlines()))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_chunks_give_the_same_bytes(tmp_path: Path, kind: str) -> None:
    assert write(tmp_path / "one", LINES, kind=kind) == write(tmp_path / "two", LINES, kind=kind)


def test_the_local_header_of_a_zip_tells_everything(tmp_path: Path) -> None:
    content = write(tmp_path / "file", LINES)
    data = (tmp_path / "file").read_bytes()
    fields = struct.unpack("<4s5H3I2H", data[:30])
    crc32 = zlib.crc32(b"".join(LINES))
    deflated_bytes = data.index(b"PK\1\2") - 30 - len(MEMBER)
    no_flags, deflate, midnight, first_of_1980, no_extra = 0, 8, 0, 0x21, 0
    assert fields == (
        *(b"PK\3\4", 20, no_flags, deflate, midnight, first_of_1980),
        *(crc32, deflated_bytes, content.content_bytes, len(MEMBER), no_extra),
    )
    assert data[30 : 30 + len(MEMBER)] == MEMBER.encode()


def test_a_zip_has_one_plain_member_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "file", LINES)
    with zipfile.ZipFile(tmp_path / "file") as file:
        (member,) = file.infolist()
        assert (file.comment, member.comment, member.extra) == (b"", b"", b"")
    assert member.filename == MEMBER
    assert member.date_time == (1980, 1, 1, 0, 0, 0)
    assert member.external_attr >> 16 == stat.S_IFREG | 0o644
    assert member.create_version == member.extract_version == 20
    assert (member.header_offset, member.internal_attr, member.flag_bits) == (0, 0, 0)


def test_a_gzip_header_holds_no_time_and_no_name(tmp_path: Path) -> None:
    write(tmp_path / "file", LINES, kind="gzip")
    assert (tmp_path / "file").read_bytes()[:10] == b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"


def test_each_kind_of_archive_has_its_suffix_and_media_type() -> None:
    assert [suffix(kind) for kind in KINDS] == [".zip", ".jsonl.gz"]
    assert [content_type(kind) for kind in KINDS] == ["application/zip", "application/x-ndjson"]


def test_an_array_is_not_called_json_lines() -> None:
    """A reader of JSON lines goes by the name, and would take each bracket and comma for a record."""
    assert [suffix(kind, "json_array") for kind in KINDS] == [".zip", ".json.gz"]
    assert [content_type(kind, "json_array") for kind in KINDS] == ["application/zip", "application/json"]


def test_lines_of_text_are_stored_as_they_come_and_never_called_json(tmp_path: Path) -> None:
    """A reader goes by the name, and would give up at the first line."""
    write(tmp_path / "file", [b"CEF:0|a\n", b"CEF:0|b\n"], kind="gzip", body="lines")
    assert read(tmp_path / "file", "gzip") == b"CEF:0|a\nCEF:0|b\n"
    assert [suffix(kind, "lines") for kind in KINDS] == [".zip", ".log.gz"]
    assert [content_type(kind, "lines") for kind in KINDS] == ["application/zip", "text/plain"]
    assert [member_suffix(body) for body in (*BODIES, "lines")] == [".json", ".json", ".log"]


def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    write(tmp_path / "file", LINES)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_zip_takes_what_its_32_bit_sizes_can_tell_and_refuses_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_ZIP_MAX_BYTES", len(b"".join(LINES)))
    write(tmp_path / "fits", LINES)
    with pytest.raises(TooLargeForZip, match="do not fit"):
        write(tmp_path / "file", [*LINES, b"\n"])
    assert not (tmp_path / "file").exists()


def test_a_zip_whose_deflated_bytes_are_too_many_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_ZIP_MAX_BYTES", 80)
    with pytest.raises(TooLargeForZip, match="do not fit"):
        write(tmp_path / "file", [os.urandom(70)])


@contextmanager
def nothing_left() -> Iterator[None]:
    """No thread and no file descriptor more than before."""
    threads, descriptors = threading.enumerate(), sorted(Path("/proc/self/fd").iterdir())
    yield
    assert threading.enumerate() == threads
    assert sorted(Path("/proc/self/fd").iterdir()) == descriptors


@contextmanager
def small_files() -> Iterator[None]:
    """The operating system refuses to let any file grow beyond 64 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunks", [2, 40], ids=["seen by finish", "seen by write"])
def test_a_file_that_may_not_grow_is_an_error_that_leaves_nothing(
    tmp_path: Path, kind: str, chunks: int
) -> None:
    with small_files(), nothing_left(), pytest.raises(OSError, match="File too large"):
        write(tmp_path / "file", [os.urandom(50_000)] * chunks, kind=kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [10, 1_000_000], ids=["when the file is completed", "on the way"])
def test_a_full_disk_is_an_error_that_leaves_nothing(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> BufferedRandom:
        path.touch()
        return Path("/dev/full").open("r+b")

    monkeypatch.setattr(archive, "_create", full)
    with nothing_left(), pytest.raises(OSError, match="No space left"):
        write(tmp_path / "file", [os.urandom(size)])
    assert list(tmp_path.iterdir()) == []


def test_a_chunk_that_failed_spoils_the_archive_even_if_there_is_room_again(tmp_path: Path) -> None:
    with ArchiveWriter(At(tmp_path / "file"), kind="zip", body="ndjson", member=MEMBER) as writer:
        with small_files(), pytest.raises(OSError, match="File too large"):
            write_and_finish(writer, os.urandom(200_000))
        with pytest.raises(OSError, match="File too large"):
            write_and_finish(writer, LINES[0])


def test_a_file_that_exists_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"another run's")
    with nothing_left(), pytest.raises(FileExistsError):
        write(tmp_path / "file", LINES)
    assert (tmp_path / "file").read_bytes() == b"another run's"


def test_a_missing_folder_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    with nothing_left(), pytest.raises(FileNotFoundError):
        write(tmp_path / "missing" / "file", LINES)


def test_an_error_of_the_caller_removes_the_file_and_comes_through(tmp_path: Path) -> None:
    def fail() -> Iterator[bytes]:
        yield from LINES
        raise ZeroDivisionError

    with nothing_left(), pytest.raises(ZeroDivisionError):
        write(tmp_path / "file", fail())
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_was_never_finished_is_removed(tmp_path: Path) -> None:
    with ArchiveWriter(At(tmp_path / "file"), kind="zip", body="ndjson", member=MEMBER) as writer:
        writer.write(LINES[0], 1)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_archive_leaves_no_thread_and_no_open_file(tmp_path: Path) -> None:
    with nothing_left():
        write(tmp_path / "file", LINES)


@pytest.mark.parametrize(
    ("queued_bytes", "most"),
    [(archive._QUEUED_BYTES, archive._QUEUED_CHUNKS), (3 * len(LINES[0]), archive._LARGE_CHUNKS)],
    ids=["small chunks", "large chunks"],
)
def test_an_encoder_waits_for_a_slow_compressor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queued_bytes: int, most: int
) -> None:
    """So memory stays bounded: a few chunks wait, however large they are, and some more if they are small."""
    monkeypatch.setattr(archive, "_SMALL_BYTES", 0)
    monkeypatch.setattr(archive, "_QUEUED_BYTES", queued_bytes)
    written, compressed, backlog = 0, 0, 0
    encoder_done = threading.Event()
    shape = archive._Ndjson.add

    def slow(body: archive._Ndjson, lines: bytes) -> bytes:
        nonlocal compressed, backlog
        encoder_done.wait(timeout=0.2 if not compressed else 0)  # an encoder that never waits is done by then
        backlog = max(backlog, written - compressed)
        compressed += 1
        return shape(body, lines)

    monkeypatch.setattr(archive._Ndjson, "add", slow)
    with ArchiveWriter(At(tmp_path / "file"), kind="zip", body="ndjson", member=MEMBER) as writer:
        for line in LINES:
            writer.write(line, 1)
            written += 1
        encoder_done.set()
        writer.finish(late=0, bad=0)
    assert compressed == len(LINES)
    assert backlog <= most + 1
