"""What a collector refuses waits in the ledger, is listed, and is sent again by a command."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from exporter.commands.manage import _resent
from exporter.errors import NotSent
from exporter.resending import Resent
from tests.kit.command_line import START, Vendor
from tests.kit.hec_server import hec_server, says

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.command_line import Answer
    from tests.kit.hec_server import Hec

TOO_LARGE = "x" * 3_000


@pytest.fixture
def hec() -> Iterator[Hec]:
    with hec_server() as hec:
        yield hec


@pytest.fixture
def vendor(tmp_path: Path, hec: Hec) -> Vendor:
    """Three records, of which the second is larger than the collector takes."""
    vendor = Vendor(tmp_path)
    destination = {"type": "splunk_hec", "url": hec.url, "token": hec.new_token("main"), "batch": "700B"}
    vendor.export("acme", format="native", destination=destination)
    vendor.export("globex")
    for number, summary in enumerate(("first", TOO_LARGE, "third")):
        vendor.insert("acme", START + timedelta(minutes=number), summary)
    hec.max_bytes = 1_500
    vendor.start()
    return vendor


def lines(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 0
    return [json.loads(line) for line in answer.out.splitlines()]


def ids(hec: Hec) -> list[str]:
    return [str(event.fields["event_id"]) for event in hec.events()]


def test_a_refused_event_is_listed_and_sent_again(vendor: Vendor, hec: Hec) -> None:
    """It holds up nobody, waits with all that was sent, and is taken once its collector lets it in."""
    assert vendor("run").status == 0
    assert ids(hec) == ["1", "3"]
    (waiting,) = lines(vendor("ledger", "bad-records", "--export", "acme"))
    assert (waiting["sequence"], waiting["id"], waiting["kind"], waiting["resent_at"]) == (
        1,
        "2",
        "refused",
        None,
    )
    assert json.loads(waiting["body"])["event"]["summary"] == TOO_LARGE
    assert lines(vendor("ledger", "bad-records", "--export", "acme", "--seq", "1")) == [waiting]

    again = vendor("resend", "--export", "acme")
    assert again.status == 10
    assert "1 event of acme was refused again; see it with" in again.out.replace("\n", " ")
    assert "audit-exporter ledger bad-records --export acme" in again.out.replace("\n", " ")

    hec.max_bytes = None
    taken = vendor("resend", "--export", "acme", "--json")
    assert (taken.status, json.loads(taken.out)) == (0, {"export": "acme", "sent": 1, "refused": 0})
    assert ids(hec) == ["1", "3", "2"]
    assert lines(vendor("ledger", "bad-records", "--export", "acme")) == []
    (kept,) = lines(vendor("ledger", "bad-records", "--export", "acme", "--seq", "1"))
    assert kept["resent_at"] is not None
    assert vendor("resend", "--export", "acme").status == 0
    assert ids(hec) == ["1", "3", "2"]


def test_a_run_speaks_of_events_as_deliveries(vendor: Vendor) -> None:
    """Events are no objects and have no name; the log says in how many batches they went instead."""
    dry = vendor("run", "--dry-run", "--export", "acme")
    heading, row, total = dry.out.splitlines()
    assert (heading.split()[0], row.split("  ")[0]) == ("Delivery", "acme, delivery 1")
    assert total == "1 delivery with 3 records would be delivered."
    answer = vendor("run", "--export", "acme")
    heading, row, total = answer.out.splitlines()[:3]
    assert heading.split() == ["Export", "Deliveries", "Records", "Late", "Bad", "Bytes"]
    assert row.split()[:3] == ["acme", "1", "3"]
    assert total == "1 delivery with 3 records delivered."
    (said,) = answer.events("delivered")
    assert "object" not in said
    assert (said["batches"], said["refused"], said["records"]) == (3, 1, 3)


def test_a_run_of_events_and_objects_counts_both_in_one_word(vendor: Vendor) -> None:
    """Objects are deliveries, too, and keep their names."""
    vendor.insert("globex", START)
    answer = vendor("run")
    heading, *rows, total, _ = answer.out.splitlines()
    assert heading.split() == ["Export", "Deliveries", "Records", "Late", "Bad", "Bytes", "Last", "object"]
    assert [row.split()[0] for row in rows] == ["acme", "globex"]
    assert rows[1].endswith(".zip")
    assert total == "2 deliveries with 4 records delivered."
    assert ["object" in line for line in answer.events("delivered")].count(True) == 1


def test_a_collector_that_takes_nothing_leaves_the_quarantine_as_it_was(vendor: Vendor, hec: Hec) -> None:
    """The answer says why, to a program as well; the events wait."""
    vendor("run")
    hec.script = lambda _request: says(4)
    failed = vendor("resend", "--export", "acme", "--seq", "1", "--json")
    answer = json.loads(failed.out)
    assert (failed.status, answer["sent"], answer["refused"]) == (10, 0, 0)
    assert answer["error"]
    plain = vendor("resend", "--export", "acme")
    assert (plain.status, plain.out) == (10, "")  # the error says it all
    assert len(lines(vendor("ledger", "bad-records", "--export", "acme"))) == 1


@pytest.mark.parametrize(
    ("export", "said"), [("globex", "delivers objects"), ("unknown", "no export 'unknown'")]
)
def test_a_resend_of_what_has_no_events_says_so(vendor: Vendor, export: str, said: str) -> None:
    answer = vendor("resend", "--export", export)
    assert answer.status == 2
    assert said in answer.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("came", "said"),
    [
        (Resent(), "Nothing of acme waits to be sent again."),
        (Resent(1), "1 refused event of acme is in now."),
        (Resent(2), "2 refused events of acme are in now."),
        (Resent(1, 2), "1 refused event of acme is in now. 2 events were refused again; see them with: "),
        (Resent(0, 1), "1 event of acme was refused again; see it with: "),
        (Resent(failure=NotSent("no")), ""),
    ],
)
def test_a_resend_says_what_came_of_it(came: Resent, said: str) -> None:
    assert _resent("acme", came).startswith(said)
    assert bool(_resent("acme", came)) == bool(said)
