"""Formats as a person uses them: named in a configuration, and found again in what was delivered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from tests.kit.command_line import START, Vendor

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    """Two accounts with a record each, of which the second is delivered in the usual way."""
    made = Vendor(tmp_path)
    for account in ("acme", "globex"):
        made.insert(account, START, 'a "text"')
    return made


def start(vendor: Vendor, **settings: object) -> None:
    vendor.export("acme", **settings)
    vendor.export("globex")
    vendor.start()


def of(vendor: Vendor, account: str) -> dict[str, bytes]:
    """What an account was delivered, by the names of files."""
    return {
        name.rpartition("/")[2]: data for name, data in vendor.objects().items() if f"/{account}/" in name
    }


def test_a_format_of_ones_own_is_a_file_beside_the_configuration(vendor: Vendor) -> None:
    """With its parameters as the export has them."""
    (vendor.folder / "mine.yaml").write_text(
        "parameters: {vendor: x}\n"
        "fields: {who: {mail: email}, said: summary, by: $vendor, at: time | epoch_s}"
    )
    start(vendor, format={"file": "mine.yaml", "with": {"vendor": "Acme"}})
    assert vendor("run").status == 0
    (data,) = of(vendor, "acme").values()
    assert json.loads(data) == {
        "who": {"mail": "ada@acme.example"},
        "said": 'a "text"',
        "by": "Acme",
        "at": int(START.timestamp()),
    }


@pytest.mark.parametrize(("archive", "suffix"), [("zip", ".zip"), ("gzip", ".log.gz")])
def test_lines_of_text_are_delivered_under_a_name_that_says_so(
    vendor: Vendor, archive: str, suffix: str
) -> None:
    start(vendor, format="cef", archive=archive)
    assert vendor("run").status == 0
    ((name, data),) = of(vendor, "acme").items()
    assert name.endswith(suffix)
    assert data.startswith(b"CEF:0|audit-exporter|audit-exporter|")
    assert data.count(b"\n") == 1
    if archive == "zip":
        (path,) = vendor.out.glob(f"**/{name}")
        assert ZipFile(path).namelist() == [name.replace(".zip", ".log")]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"format": "mine.yaml"}, "mine.yaml, line 1: fields.a: 'rfc339' is no conversion; did you mean"),
        ({"format": "none.yaml"}, "none.yaml cannot be read: No such file or directory"),
        (
            {"format": {"name": "cef", "with": {"vendr": "x"}}},
            "format.with: 'vendr' is no parameter of format 'cef'; did you mean 'vendor'?",
        ),
        ({"format": "leef", "body": "json_array"}, "body: 'json_array' is for records in JSON, and this"),
    ],
)  # fmt: skip
def test_a_wrong_format_is_the_exports_trouble_alone(
    vendor: Vendor, settings: dict[str, object], said: str
) -> None:
    """It is set aside with the mistake; all others are delivered."""
    (vendor.folder / "mine.yaml").write_text("fields: {a: time | rfc339}")
    start(vendor, **settings)
    answer = vendor("run")
    assert answer.status == 10
    assert said in answer.out
    assert not of(vendor, "acme")
    assert len(of(vendor, "globex")) == 1


def test_a_name_that_is_neither_role_nor_column_is_named_with_the_nearest(vendor: Vendor) -> None:
    (vendor.folder / "mine.yaml").write_text("fields: {a: actor_mail}")
    start(vendor, format="mine.yaml")
    answer = vendor("run")
    assert answer.status == 10
    assert "the source has no column 'actor_mail'" in answer.out
    assert "did you mean 'actor_email'?" in answer.out
    assert len(of(vendor, "globex")) == 1


def test_a_plan_keeps_the_format_that_it_was_made_with(vendor: Vendor) -> None:
    """What the file says later is for later deliveries: an object that is tried again is the same object."""
    mine = vendor.folder / "mine.yaml"
    mine.write_text("fields: {first: email}")
    vendor.out.mkdir()
    in_the_way = vendor.out / "audit"
    in_the_way.touch()
    start(vendor, format="mine.yaml")
    assert vendor("run").status == 10
    mine.write_text("fields: {second: email}")
    in_the_way.unlink()
    assert vendor("run", "--export", "acme").status == 0
    assert [json.loads(data) for data in of(vendor, "acme").values()] == [{"first": "ada@acme.example"}]
