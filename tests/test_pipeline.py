"""What the pipeline promises besides the protocol, seen through the command line."""

from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING

import pytest
import stamina

from exporter.errors import SourceBusy
from exporter.reading import READINGS
from exporter.sources.sqlite import SqliteSource
from tests.kit.command_line import DAY, START, TODAY, Vendor, rfc3339
from tests.kit.servers import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, shared_moto

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from exporter.interfaces import Block
    from exporter.model import Range


class Unsteady(SqliteSource):
    """A source whose connection is lost behind the first block, as often as is left in ``losses``."""

    losses = 0

    def read(
        self, ranges: Sequence[Range], columns: Sequence[str] | None
    ) -> Generator[tuple[int, Block], None, None]:
        for found in super().read(ranges, columns):
            yield found
            if Unsteady.losses:
                Unsteady.losses -= 1
                raise SourceBusy("the connection was lost", hint="the next run tries again")


@pytest.fixture
def unsteady(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    """A vendor with two exports, records for both and such a source; tries follow without pauses."""
    monkeypatch.setattr("exporter.sources.sqlite.SqliteSource", Unsteady)
    vendor = Vendor(tmp_path)
    for account in ("acme", "globex"):
        vendor.export(account)
        vendor.insert(account, START, "first")
    vendor.start()
    with stamina.set_testing(True, attempts=READINGS, cap=True):
        yield vendor
    Unsteady.losses = 0


def test_a_connection_lost_in_mid_read_is_read_again(unsteady: Vendor) -> None:
    """The same range is rendered again in the same run, and comes once."""
    Unsteady.losses = READINGS - 1
    assert unsteady("run").status == 0
    assert Unsteady.losses == 0
    assert unsteady.event_ids() == ["1", "2"]
    unsteady.assert_nothing_half_made()


def test_a_source_that_stays_lost_ends_the_run(unsteady: Vendor) -> None:
    """After a few tries nothing could run; nothing half-made is left, and the next run goes on."""
    Unsteady.losses = 100
    answer = unsteady("run")
    assert answer.status == 20
    assert "the connection was lost" in answer.err
    assert unsteady.objects() == {}
    unsteady.assert_nothing_half_made()
    Unsteady.losses = 0
    assert unsteady("run").status == 0
    assert unsteady.event_ids() == ["1", "2"]


def test_as_of_decides_what_is_due_and_not_where_an_export_begins(tmp_path: Path) -> None:
    """A new export begins at the present boundary, whatever moment a run takes for now."""
    vendor = Vendor(tmp_path)
    del vendor.settings["defaults"]["start"]
    vendor.export("acme")
    vendor.insert("acme", TODAY - 300 * DAY)
    vendor.start()
    assert vendor("run", "--as-of", rfc3339(TODAY - 299 * DAY)).status == 0
    assert vendor.row("acme")["watermark"][:10] == f"{TODAY:%Y-%m-%d}"


def test_an_open_plan_is_finished_although_its_column_is_gone(tmp_path: Path) -> None:
    """What may have landed keeps its range and name; a lost column is null in it, and nobody waits for it."""
    vendor = Vendor(tmp_path)
    vendor.export("acme")
    vendor.export("globex", destination={"type": "directory", "path": "elsewhere"})
    vendor.start()
    for account in ("acme", "globex"):
        for moment in (START, START + DAY):
            vendor.insert(account, moment, "what happened")
    vendor.out.mkdir()
    (vendor.out / "audit").write_text("a file where the folder should be")
    assert vendor("run").status == 10
    assert vendor.row("acme")["open_plan"]
    vendor.execute("ALTER TABLE audit_log RENAME COLUMN summary TO what")
    vendor.settings["source"]["columns"]["description"] = "what"
    (vendor.out / "audit").unlink()
    assert vendor("run", "--export", "acme").status == 0
    assert [record["Description"] for record in vendor.records()] == [None, "what happened"]
    assert vendor("run").status == 0


def test_a_missing_column_is_said_by_name_and_nothing_is_delivered(tmp_path: Path) -> None:
    """A mapping that names a column the source does not have fails that export alone, with a hint."""
    vendor = Vendor(tmp_path)
    vendor.settings["source"]["columns"]["ip_address"] = "ip_adress"
    vendor.export("acme")
    vendor.export("globex", format="native", destination={"type": "directory", "path": "elsewhere"})
    for account in ("acme", "globex"):
        vendor.insert(account, START)
    vendor.start()
    answer = vendor("run")
    assert answer.status == 10
    assert "Not delivered: acme: the source has no column 'ip_adress'" in answer.out
    assert "'ip_address'" in answer.out
    assert vendor.objects() == {}
    assert len(list((tmp_path / "elsewhere").rglob("*.zip"))) == 1


def test_an_object_says_what_it_is_in_its_metadata(tmp_path: Path) -> None:
    """Whoever finds it, without the ledger: whose, which one, how many records, which bytes and format."""
    moto = shared_moto()
    bucket = moto.new_bucket()
    vendor = Vendor(tmp_path)
    keys = {"access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY}
    place = {"type": "s3", "bucket": bucket, "region": REGION, "endpoint_url": moto.url, "path_style": True}
    vendor.export("acme", name="acme-é", format="native", archive="gzip", destination=place | keys)
    vendor.insert("acme", START)
    vendor.start()
    assert vendor("run").status == 0
    (name,) = (
        one["Key"] for one in moto.s3().list_objects_v2(Bucket=bucket)["Contents"] if "/audit_" in one["Key"]
    )
    found = moto.s3().get_object(Bucket=bucket, Key=name)
    said = found["Metadata"]
    assert len(said.pop("audit-plan")) >= 16
    assert said == {
        "audit-export": "acme-_C3_A9",
        "audit-sequence": "1",
        "audit-window": f"{START:%Y%m%dT%H%M%SZ}-{START + DAY:%Y%m%dT%H%M%SZ}",
        "audit-records": "1",
        "audit-late-records": "0",
        "audit-bad-records": "0",
        "audit-repeats": "no",
        "audit-content-sha256": hashlib.sha256(gzip.decompress(found["Body"].read())).hexdigest(),
        "audit-format": "native/1",
    }
