"""What the pipeline promises besides the protocol, seen through the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.command_line import DAY, START, TODAY, Vendor, rfc3339

if TYPE_CHECKING:
    from pathlib import Path


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
