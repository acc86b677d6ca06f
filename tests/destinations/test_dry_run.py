"""A dry run takes everything, tells the journal as a delivery does, and asks nobody."""

from __future__ import annotations

from dataclasses import replace

from exporter.destinations.dry_run import DryRunDestination
from tests.kit.hec_sending import Sending, event, package_of


def test_the_journal_hears_of_every_batch_and_nobody_is_sent_one(to: Sending) -> None:
    package = package_of(to.folder, [event(0), event(1)], [event(2)])
    receipt = DryRunDestination(to.destination()).deliver(package, to.journal)
    assert to.journal.batches == list(package.batches)
    assert to.journal.bytes_told == package.content.archive_bytes
    assert receipt.location == to.destination().store
    assert to.hec.seen == []


def test_of_an_object_all_bytes_are_told_at_once(to: Sending) -> None:
    package = replace(package_of(to.folder, [event(0)]), batches=(), name="audit/a.zip")
    receipt = DryRunDestination(to.destination()).deliver(package, to.journal)
    assert to.journal.batches == []
    assert to.journal.bytes_told == package.content.archive_bytes
    assert receipt.location.endswith("/audit/a.zip")


def test_check_is_the_destination_s_own(to: Sending) -> None:
    DryRunDestination(to.destination()).check()
    assert len(to.hec.requests()) == 1
