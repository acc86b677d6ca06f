"""Indexers that lose what they queued, are replaced or tell out of order: one property of acknowledgement."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.errors import DeliveryError
from tests.kit.archives import file_of
from tests.kit.hec_sending import Acknowledged, Resumed, event, id_of, package_of, poison, sending

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.hec_server import Hec

HAPPENINGS: dict[str, Callable[[Hec], object]] = {
    "nothing": lambda _hec: None,
    "all is indexed": lambda hec: hec.flush(),
    "the first is indexed": lambda hec: hec.flush_first(),
    "the last one's first is indexed": lambda hec: hec.flush_first(-1),
    "one loses its queue": lambda hec: hec.lose(),
    "the last one loses its queue": lambda hec: hec.lose(-1),
    "one is replaced": lambda hec: hec.replace(),
}


@pytest.mark.slow
@settings(max_examples=40)
@given(
    count=st.integers(1, 12),
    bad=st.sets(st.integers(0, 35), max_size=3),
    happenings=st.lists(st.sampled_from(sorted(HAPPENINGS)), max_size=15),
    indexers=st.integers(1, 3),
    cookies=st.booleans(),
)
def test_nothing_is_accepted_that_no_indexer_has(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    bad: set[int],
    happenings: list[str],
    indexers: int,
    *,
    cookies: bool,
) -> None:
    """Whatever indexers lose, and in whatever order they tell; and all arrives once they have recovered."""
    with sending(tmp_path_factory.getbasetemp(), acknowledged=True, indexers=indexers) as running:
        to = Acknowledged(running)
        to.hec.cookies = cookies
        numbers = [range(3 * batch, 3 * batch + 3) for batch in range(count)]
        events = [[poison(one) if one in bad else event(one) for one in batch] for batch in numbers]
        package = package_of(running.folder, *events)
        left = list(happenings)
        journal = Resumed()
        to.hold(lambda _pauses: HAPPENINGS[left.pop(0) if left else "all is indexed"](to.hec))
        for _ in range(len(happenings) + count):
            with suppress(DeliveryError):
                to.destination.deliver(journal.rest_of(package), journal)
            assert set(range(journal.lines)) - bad <= set(to.to.indexed())
        left.clear()  # what has not happened by now, happens to nobody
        to.hec.holding, to.hec.cookies = False, True
        to.destination.deliver(journal.rest_of(package), journal)
        assert journal.lines == 3 * count
        assert journal.refused_ids == [id_of(one) for one in range(3 * count) if one in bad]
        file_of(package).unlink()
