"""A ledger that several processes open, in each database that can keep one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit import ledgers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.ledger.storage import Storage
    from tests.kit.ledgers import Opens


@pytest.fixture(params=[ledgers.sqlite, ledgers.postgres], ids=lambda make: make.__name__)
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opens]:
    """Opens the same ledger, as another process would."""
    opened: list[Storage] = []
    opens_one: Opens = request.param(tmp_path)

    def opens() -> Storage:
        opened.append(opens_one())
        return opened[-1]

    yield opens
    for storage in opened:
        storage.close()
