"""From blocks to one archive: where a part ends, what becomes of bad records, and what is never delivered."""

from __future__ import annotations

import base64
import hashlib
import json
import resource
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import archive
from exporter.columns import Layout, Roles, RowBlock, TextTimes
from exporter.encoding import KEPT_BYTES
from exporter.errors import WorkspaceError, WrongAccount
from exporter.formats import compile_format
from exporter.formats.compiled import bad_form
from exporter.model import LEADING_BYTES, QUARANTINE_BYTES, QUARANTINE_RECORDS, BadRecord, Branch, Rendering
from exporter.rendering import WHOLE_BYTES, BadRecords, Renderer
from exporter.workspace import MEMORY_BYTES, Workspace
from tests.kit import reference
from tests.kit.archives import Here, bytes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from io import BufferedRandom

    from exporter.model import Content, Key
    from exporter.rendering import Rendered

MEMBER: Final = "audit_acme_20261119T040000Z.json"
NAMES: Final = ("id", "time", "account", "text")
NAN: Final = float("nan")

Row = tuple[Any, str, str, Any]


def row(number: int, text: object = "x", second: int = 0, account: str = "acme") -> Row:
    """A record; its key is its second and its number."""
    return (number, f"2026-11-19T04:00:{second:02}Z", account, text)


def block(rows: Sequence[Row], branch: Branch = Branch.ON_TIME) -> RowBlock:
    layout = Layout(NAMES, NAMES, Roles("id", "time", "account"), TextTimes())
    return RowBlock(branch, layout, rows)


def line(one: Row) -> bytes:
    """What a good record has to become."""
    return reference.line((name, reference.json_of(value)) for name, value in zip(NAMES, one, strict=True))


def render(
    folder: Path, blocks: Iterable[RowBlock], *, limit: int | None = None, longest: int = 4_000_000
) -> Rendered:
    rendering = Rendering("native", None, max_record_bytes=longest)
    return Renderer(compile_format(rendering), rendering, "acme", limit).render(blocks, Here(folder), MEMBER)


def member(rendered: Rendered) -> bytes:
    with zipfile.ZipFile(BytesIO(bytes_of(rendered.body))) as file:
        return file.read(MEMBER)


def bad_of(one: bytes) -> dict[str, Any]:
    """The bad form that this line has to be, and nothing else."""
    record = json.loads(one)
    assert list(record) == ["bad_record"]
    assert list(record["bad_record"]) == ["id", "reason", "length", "leading_bytes"]
    form: dict[str, Any] = record["bad_record"]
    return form


# --- one whole range ---------------------------------------------------------------------------------


def test_a_range_becomes_one_archive_with_every_record_in_order(tmp_path: Path) -> None:
    """What comes in blocks of all branches goes out as lines, counted by branch."""
    late = [row(1), row(2)]
    on_time = [row(number, second=5) for number in (3, 4, 5)]
    rendered = render(tmp_path, [block(late, Branch.LATE), block(on_time[:1]), block(on_time[1:])])
    assert member(rendered) == b"".join(map(line, late + on_time))
    content = rendered.content
    assert (content.count, content.late, content.bad) == (5, 2, 0)
    assert rendered.final
    assert rendered.last_key == ("2026-11-19 04:00:05.000000000", 5)
    assert list(rendered.bad) == []
    assert list(tmp_path.iterdir()) == [rendered.body]


def test_an_empty_range_is_whole_and_has_no_last_key(tmp_path: Path) -> None:
    rendered = render(tmp_path, [], limit=1)
    assert (rendered.content.count, rendered.final, rendered.last_key) == (0, True, None)


def test_blocks_are_taken_one_by_one(tmp_path: Path) -> None:
    """A block is asked for only when the one before it has been encoded: memory holds no window."""
    lines: list[bytes] = []
    encoded = compile_format(Rendering("native", None))

    class Watched:
        columns: Sequence[str] | None = None
        chosen, bad_line, template = encoded.chosen, encoded.bad_line, encoded.template

        def encode(self, one: Any) -> tuple[bytes, Mapping[str, int]]:  # noqa: ANN401 - whatever block
            lines.append(encoded.encode(one)[0])
            return lines[-1], {}

    def blocks() -> Iterator[RowBlock]:
        for number in range(5):
            assert len(lines) == number
            yield block([row(number)])

    Renderer(Watched(), Rendering("native", None), "acme", None).render(blocks(), Here(tmp_path), MEMBER)
    assert len(lines) == 5


# --- parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_block", [1, 2, 4])
def test_a_part_is_full_exactly_at_its_limit(tmp_path: Path, per_block: int) -> None:
    """What just fits is in; one byte less of room, and the last record waits for the next part."""
    rows = [row(number) for number in range(4)]
    blocks = [block(rows[start : start + per_block]) for start in range(0, 4, per_block)]
    size = len(b"".join(map(line, rows)))
    for limit, count in ((size + 1, 4), (size, 4), (size - 1, 3), (size - len(line(rows[3])), 3)):
        folder = tmp_path / f"{limit}-{count}"
        folder.mkdir()
        rendered = render(folder, blocks, limit=limit)
        assert (rendered.content.count, rendered.final) == (count, count == 4)
        assert rendered.content.content_bytes <= limit
        assert rendered.last_key == block(rows).key(count - 1)


def test_a_part_that_is_full_at_a_blocks_end_is_not_the_last(tmp_path: Path) -> None:
    """Whether there is more is known only from the next block, and counts."""
    first, second = row(1), row(2)
    rendered = render(tmp_path, [block([first]), block([second])], limit=len(line(first)))
    assert (rendered.content.count, rendered.final) == (1, False)


def test_a_part_has_one_key_even_if_that_is_too_much(tmp_path: Path) -> None:
    """Records of one key stay together, in a part of their own when they exceed its limit."""
    rows = [row(1, "first"), row(1, "second"), row(1, "third"), row(2)]
    rendered = render(tmp_path, [block(rows)], limit=10)
    assert member(rendered) == b"".join(map(line, rows[:3]))
    assert (rendered.last_key, rendered.final) == (block(rows).key(0), False)


def test_a_part_ends_before_a_key_of_which_not_all_records_fit(tmp_path: Path) -> None:
    rows = [row(1), row(2, "first"), row(2, "second"), row(3)]
    room = len(b"".join(map(line, rows[:2])))
    rendered = render(tmp_path, [block(rows)], limit=room)
    assert member(rendered) == line(rows[0])
    assert (rendered.last_key, rendered.final) == (block(rows).key(0), False)


def test_a_part_without_a_limit_takes_everything(tmp_path: Path) -> None:
    """A plan's range is rendered again whole, whatever the limit has become since."""
    rows = [row(number) for number in range(2000)]
    rendered = render(tmp_path, [block(rows[:999]), block(rows[999:])], limit=None)
    assert (rendered.content.count, rendered.final) == (2000, True)


values = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.integers() | st.just(NAN)


@st.composite
def ranges(draw: st.DrawFn) -> list[RowBlock]:
    """Blocks in key order, some records with equal keys, some unrenderable; cut between different keys."""
    steps = draw(st.lists(st.tuples(st.integers(0, 2), values), max_size=25))
    number, rows = 0, []
    for step, value in steps:
        number += step
        rows.append(row(number, value))
    groups = [list(group) for _, group in groupby(rows, key=lambda one: one[0])]
    blocks: list[list[Row]] = []
    for group in groups:
        joins: bool = draw(st.booleans())
        if blocks and joins:
            blocks[-1] += group
        else:
            blocks.append(group)
    return [block(rows) for rows in blocks]


def after(blocks: Iterable[RowBlock], key: Key) -> list[RowBlock]:
    """The blocks again, from behind a key on, as a source answers the range of the next part."""
    left = [[one for index, one in enumerate(each._rows) if each.key(index) > key] for each in blocks]
    return [block(rows) for rows in left if rows]  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(ranges(), st.integers(1, 600))
def test_parts_join_to_the_whole_and_keep_their_limit(blocks: list[RowBlock], limit: int) -> None:
    """Lines and bad records of the parts are those of the whole; a part over the limit has a single key."""
    joined, bad, sizes = b"", [], []
    with TemporaryDirectory() as name:
        folder = Path(name)
        whole = render(_new(folder), blocks)
        left, final = blocks, False
        while not final:
            part = render(_new(folder), left, limit=limit)
            joined += member(part)
            bad += list(part.bad)
            sizes.append(part.content.count)
            assert part.content.content_bytes <= limit or len({*_keys(left)[: part.content.count]}) == 1
            final = part.final
            if part.last_key is not None:
                assert part.last_key == _keys(left)[part.content.count - 1]
                left = after(left, part.last_key)
        assert left == []
        assert joined == member(whole)
        assert bad == list(whole.bad)
        assert all(sizes) or blocks == []


def _new(folder: Path) -> Path:
    path = folder / str(len(list(folder.iterdir())))
    path.mkdir()
    return path


def _keys(blocks: Iterable[RowBlock]) -> list[Key]:
    return [one.key(index) for one in blocks for index in range(len(one))]


# --- bad records -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_a_record_that_cannot_be_rendered_spoils_no_other(good: list[bool]) -> None:
    """Wherever it stands in its block, it goes out in bad form in its place, and all others as they are."""
    rows = [row(number, "fine" if fine else NAN) for number, fine in enumerate(good)]
    with TemporaryDirectory() as name:
        rendered = render(Path(name), [block(rows)])
        lines = member(rendered).splitlines(keepends=True)
        bad = list(rendered.bad)
    assert rendered.content.count == len(rows)
    assert rendered.content.bad == good.count(False)
    for number, fine in enumerate(good):
        if fine:
            assert lines[number] == line(rows[number])
        else:
            assert bad_of(lines[number])["id"] == str(number)
    assert [record.id for record in bad] == [str(number) for number, fine in enumerate(good) if not fine]


def test_a_bad_record_goes_out_with_reason_length_and_leading_bytes(tmp_path: Path) -> None:
    """The form that always renders, and the record whole beside it."""
    rows = [row(1), row(2, NAN), row(3)]
    raw = block(rows).raw(1)
    rendered = render(tmp_path, [block(rows)])
    assert bad_of(member(rendered).splitlines()[1]) == {
        "id": "2",
        "reason": "nan has no JSON form",
        "length": len(raw),
        "leading_bytes": base64.b64encode(raw).decode(),
    }
    assert list(rendered.bad) == [BadRecord("2", "nan has no JSON form", len(raw), raw)]
    assert list(rendered.bad) == list(rendered.bad)


def test_a_record_is_as_long_as_the_limit_or_bad(tmp_path: Path) -> None:
    """Up to the limit a record is as good as any; one byte more, and its line goes out in bad form."""
    rows = [row(1), row(2, "y" * 300), row(3, "z" * 301), row(4)]
    longest = len(line(rows[1])) - 1
    rendered = render(tmp_path, [block(rows)], longest=longest)
    lines = member(rendered).splitlines(keepends=True)
    assert [lines[0], lines[1], lines[3]] == [line(rows[0]), line(rows[1]), line(rows[3])]
    whole = line(rows[2])[:-1]
    assert bad_of(lines[2]) == {
        "id": "3",
        "reason": f"longer than {longest} bytes",
        "length": len(whole),
        "leading_bytes": base64.b64encode(whole).decode(),
    }
    assert list(rendered.bad) == [BadRecord("3", f"longer than {longest} bytes", len(whole), whole)]


@pytest.mark.parametrize("over", [0, 1], ids=["kept whole", "one byte more"])
def test_a_bad_record_is_kept_whole_up_to_a_megabyte(tmp_path: Path, over: int) -> None:
    """Its length is told in full; its line shows the leading bytes alone."""
    empty = len(line(row(1, ""))) - 1
    long = row(1, "y" * (KEPT_BYTES - empty + over))
    rendered = render(tmp_path, [block([long])], longest=100)
    (record,) = rendered.bad
    whole = line(long)[:-1]
    assert (record.length, record.body) == (1_000_000 + over, whole[:1_000_000])
    leading = base64.b64decode(bad_of(member(rendered))["leading_bytes"])
    assert leading == whole[:LEADING_BYTES] == whole[:1024]


def test_records_without_a_readable_time_go_out_in_bad_form_first(tmp_path: Path) -> None:
    """They have no place in time, so their key is their id alone; they are bad, not late."""
    unreadable = [(1, "yesterday", "acme", "x"), (2, None, "acme", NAN)]
    blocks = [block(unreadable, Branch.UNREADABLE), block([row(3)])]  # type: ignore[arg-type]
    rendered = render(tmp_path, blocks)
    lines = member(rendered).splitlines(keepends=True)
    assert [bad_of(one)["reason"] for one in lines[:2]] == ["its time cannot be read"] * 2
    assert lines[2] == line(row(3))
    assert [record.body for record in rendered.bad] == [blocks[0].raw(0), blocks[0].raw(1)]
    content = rendered.content
    assert (content.count, content.late, content.bad) == (3, 0, 2)


def test_a_part_that_ends_among_unreadable_times_ends_at_an_id(tmp_path: Path) -> None:
    blocks = [block([(number, "?", "acme", "x") for number in (1, 2, 3)], Branch.UNREADABLE)]
    size = len(member(render(_new(tmp_path), blocks))) // 3
    rendered = render(_new(tmp_path), blocks, limit=2 * size)
    assert (rendered.last_key, rendered.final, rendered.content.bad) == ((None, 2), False, 2)
    assert [record.id for record in rendered.bad] == ["1", "2"]


def test_late_records_count_only_as_far_as_they_are_in_the_part(tmp_path: Path) -> None:
    blocks = [block([row(1), row(2), row(3)], Branch.LATE), block([row(4, second=5)])]
    rendered = render(tmp_path, blocks, limit=len(line(row(1))) * 2)
    assert (rendered.content.count, rendered.content.late) == (2, 2)


def _keep(folder: Path, records: Iterable[BadRecord]) -> BadRecords:
    with BadRecords(Here(folder)) as bad:
        for record in records:
            bad.add(record)
    return bad


def test_the_quarantine_keeps_as_many_records_as_it_has_room_for(tmp_path: Path) -> None:
    """However many there are, and all of them are counted; the archive has the leading bytes of each."""
    bad = _keep(tmp_path, (BadRecord(str(number), "", 1, b"x") for number in range(QUARANTINE_RECORDS + 5)))
    assert bad.count == QUARANTINE_RECORDS + 5
    assert [record.id for record in bad] == [str(number) for number in range(QUARANTINE_RECORDS)]


def test_the_quarantine_keeps_leading_bytes_where_it_has_no_room_for_more(tmp_path: Path) -> None:
    """The first ones whole, then leading bytes, then whatever still fits: never more than its size in all."""
    long = b"y" * KEPT_BYTES
    wholes = WHOLE_BYTES // KEPT_BYTES
    big = [BadRecord(str(number), "", len(long), long) for number in range(QUARANTINE_RECORDS - 1)]
    bad = _keep(tmp_path, [*big, BadRecord("small", "", 5, b"small")])
    kept = [record.body for record in bad]
    assert kept == [long] * wholes + [long[:1024]] * (QUARANTINE_RECORDS - 1 - wholes) + [b"small"]
    assert sum(map(len, kept)) <= QUARANTINE_BYTES


def test_the_quarantine_takes_an_id_that_is_not_utf_8(tmp_path: Path) -> None:
    """Half a surrogate pair, which is how such bytes come, is spelt out: no database takes it as it is."""
    (record,) = render(tmp_path, [block([("\udcff", *row(1, NAN)[1:])])]).bad
    assert record.id == "\\udcff"


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters()), st.text(st.characters()), st.binary(max_size=3000))
def test_the_bad_form_always_renders(record_id: str, reason: str, body: bytes) -> None:
    """Whatever a record holds, in ASCII and on one line, also half of a surrogate pair in its id."""
    encoded = bad_form(BadRecord(record_id, reason, len(body), body))
    assert encoded.decode("ascii").splitlines() == [encoded.decode("ascii")]
    form = bad_of(encoded)
    assert (form["id"], form["reason"], form["length"]) == (record_id, reason, len(body))
    assert base64.b64decode(form["leading_bytes"]) == body[:1024]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.builds(BadRecord, st.text(), st.text(), st.integers(0, 2**40), st.binary()), max_size=5))
def test_bad_records_are_kept_as_they_are(records: list[BadRecord]) -> None:
    """Beside the archive they wait for the ledger, whole, in order, readable more than once."""
    with TemporaryDirectory() as name:
        bad = _keep(Path(name), records)
        assert (list(bad), list(bad), bad.count) == (records, records, len(records))


# --- what stops a rendering --------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["ACME", "acme ", "acm\u00e9", "globex", ""])
def test_a_record_of_another_account_is_a_hard_stop(tmp_path: Path, account: str) -> None:
    """Even one, even in the last block, even where a collation calls it equal: nothing is left to deliver."""
    blocks = [block([row(1), row(2)]), block([row(3), row(4, account=account), row(5)])]
    with pytest.raises(WrongAccount, match="another account than 'acme'") as refused:
        render(tmp_path, blocks)
    assert "nothing was delivered" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_record_of_another_account_stops_even_behind_the_parts_end(tmp_path: Path) -> None:
    """A block is looked at as a whole before any of it is written."""
    rows = [row(1), row(2, account="globex")]
    with pytest.raises(WrongAccount):
        render(tmp_path, [block(rows)], limit=len(line(rows[0])))


def test_what_the_source_raises_comes_through_and_nothing_is_left(tmp_path: Path) -> None:
    """Neither of the archive nor of the bad records that were put aside until then."""

    def blocks() -> Iterator[RowBlock]:
        yield block([row(1), row(2, NAN)])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        render(tmp_path, blocks())
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_source_is_not_blamed_on_the_workspace(tmp_path: Path) -> None:
    """A connection that broke is an error of the operating system, too."""

    def blocks() -> Iterator[RowBlock]:
        yield block([row(1)])
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        render(tmp_path, blocks())
    assert list(tmp_path.iterdir()) == []


@contextmanager
def small_files() -> Iterator[None]:
    """The operating system refuses to let any file grow beyond 64 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("what", ["archive", "bad records"])
def test_a_full_workspace_is_an_error_with_a_hint_that_leaves_nothing(tmp_path: Path, what: str) -> None:
    """Neither half an archive nor half of what it could not render."""
    noise = hashlib.shake_256(b"noise").hexdigest(200_000)
    blocks = [block([row(number, noise)]) for number in range(3)]
    longest = 4_000_000 if what == "archive" else 1000
    with small_files(), pytest.raises(WorkspaceError, match="cannot be written: File too large") as full:
        render(tmp_path, blocks, longest=longest)
    assert "ulimit" in full.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_asks_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it shows only as the archive is completed."""

    def full_disk(_: Path) -> BufferedRandom:
        return Path("/dev/full").open("r+b")

    monkeypatch.setattr(archive, "_create", full_disk)
    with pytest.raises(WorkspaceError, match="cannot be written: No space left") as full:
        render(tmp_path, [block([row(1)])])
    assert "room" in full.value.hint


def test_a_missing_workspace_is_an_error_that_says_which(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=f"{tmp_path}/missing/.*: No such file") as refused:
        render(tmp_path / "missing", [block([row(1)])])
    assert "create the workspace folder" in refused.value.hint


def test_an_archive_of_somebody_else_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(b"another run's")
    with pytest.raises(WorkspaceError, match="File exists") as refused:
        render(tmp_path, [block([row(1)])])
    assert "run" in refused.value.hint
    assert (tmp_path / "archive").read_bytes() == b"another run's"


def test_more_than_a_zip_file_can_hold_asks_for_smaller_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_ZIP_MAX_BYTES", 10)
    with pytest.raises(WorkspaceError, match="do not fit into a zip file") as refused:
        render(tmp_path, [block([row(1)])])
    assert "part_limit" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_cannot_be_removed_is_an_error_of_the_workspace_too(tmp_path: Path) -> None:
    """Whatever it was given up for; here, somebody put a folder in its place."""

    def blocks() -> Iterator[RowBlock]:
        yield block([row(1, "x" * 1_000_000)])  # which no longer stays in memory
        (tmp_path / "archive").unlink()
        (tmp_path / "archive").mkdir()
        raise ZeroDivisionError

    with pytest.raises(WorkspaceError, match="cannot be written"):
        render(tmp_path, blocks())


# --- the workspace -----------------------------------------------------------------------------------


def test_a_workspace_leaves_nothing_behind(tmp_path: Path) -> None:
    """What was built in it goes with it, finished or not."""
    with Workspace(tmp_path / "new" / "root") as workspace:
        folders = workspace.folder(), workspace.folder()
        for folder in folders:
            folder.file("archive").open("xb").close()
        assert folders[0].path != folders[1].path
    assert list((tmp_path / "new" / "root").iterdir()) == []


def test_a_package_finds_its_folder_empty_and_has_it_alone(tmp_path: Path) -> None:
    """Folders are used again, as making one takes long; never by two at once, never with what was there."""
    with Workspace(tmp_path) as workspace:

        def use(_: int) -> Path:
            folder = workspace.folder()
            folder.file("archive").open("xb").close()
            assert [path.name for path in folder.path.iterdir()] == ["archive"]
            folder.discard()
            return folder.path

        with ThreadPoolExecutor(4) as pool:
            folders = list(pool.map(use, range(200)))
        assert len(set(folders)) == len(folders)
        assert not any(folder.exists() for folder in folders)
        assert len(list(workspace.path.iterdir())) <= 4
        assert workspace.folder().file("archive").parent.stat().st_mode & 0o077 == 0


def test_a_package_without_files_takes_no_folder(tmp_path: Path) -> None:
    """A small archive stays in memory, and there are thousands in a run."""
    with Workspace(tmp_path) as workspace:
        folder = workspace.folder()
        assert folder.keeps(1000)
        assert list(workspace.path.iterdir()) == []
        folder.discard()
        assert list(workspace.path.iterdir()) == []


def test_all_packages_together_keep_no_more_than_the_workspace_has_memory_for(tmp_path: Path) -> None:
    """However many wait for a store that hangs; what one gives back another one may take."""
    with Workspace(tmp_path) as workspace:
        size_bytes = MEMORY_BYTES // 10 + 1
        folders = [workspace.folder() for _ in range(20)]
        with ThreadPoolExecutor(4) as pool:
            kept = list(pool.map(lambda folder: folder.keeps(size_bytes), folders))
        assert kept.count(True) == 9
        next(folder for folder, keeps in zip(folders, kept, strict=True) if not keeps).discard()
        assert not workspace.folder().keeps(size_bytes)
        first = folders[kept.index(True)]
        first.discard()
        first.discard()
        assert workspace.folder().keeps(size_bytes)
        assert not workspace.folder().keeps(size_bytes)


def test_a_folder_that_is_discarded_twice_is_nobody_else_s_by_then(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        first = workspace.folder()
        first.file("archive")
        first.discard()
        second = workspace.folder()
        second.file("archive").touch()
        first.discard()
        assert (second.path / "archive").exists()


def test_an_emptied_folder_that_somebody_cleaned_up_is_made_again(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        emptied = workspace.folder()
        emptied.file("archive")
        emptied.discard()
        for path in workspace.path.iterdir():
            path.rmdir()
        assert workspace.folder().file("archive").parent.is_dir()


def test_what_lies_deeper_in_a_package_s_folder_goes_too(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        folder = workspace.folder()
        (folder.file("within") / "further").mkdir(parents=True)
        folder.discard()
        assert not folder.path.exists()


def test_a_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        workspace.path.rmdir()
        with pytest.raises(WorkspaceError, match=f"{workspace.path} cannot be written") as refused:
            workspace.folder().file("archive")
        assert "`workspace`" in refused.value.hint


def test_a_workspace_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Records of every customer pass through it."""
    with Workspace(tmp_path) as workspace:
        assert workspace.path.stat().st_mode & 0o077 == 0
        assert workspace.folder().file("archive").parent.stat().st_mode & 0o077 == 0


def test_a_workspace_sweeps_up_after_the_dead_and_leaves_the_living_alone(tmp_path: Path) -> None:
    """A folder whose lock nobody holds belongs to a process that was killed."""
    dead = tmp_path / "audit-exporter-dead"
    dead.mkdir()
    (tmp_path / "audit-exporter-dead.lock").touch()
    (dead / "archive").touch()
    others = tmp_path / "somebody-elses"
    others.mkdir()
    with Workspace(tmp_path) as living:
        assert not dead.exists()
        with Workspace(tmp_path):
            assert living.folder().file("archive").parent.exists()
    assert list(tmp_path.iterdir()) == [others]


def test_a_workspace_that_cannot_be_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError) as refused, Workspace(tmp_path / "file" / "root"):
        pass
    assert "`workspace`" in refused.value.hint


def test_a_content_measures_what_was_written(tmp_path: Path) -> None:
    """Count, bytes and hash are those of the member, bad records included."""
    content: Content = render(tmp_path, [block([row(1), row(2, NAN)])]).content
    assert (content.count, content.bad) == (2, 1)
    assert content.content_bytes == len(member(render(_new(tmp_path), [block([row(1), row(2, NAN)])])))
