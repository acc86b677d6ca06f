"""A vendor with one account, and one with many windows that are due."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.kit.command_line import DAY, START, Vendor

if TYPE_CHECKING:
    from pathlib import Path

MANY = 40
"""Windows that are due in the busy fixture."""


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    """One account with two records in each of two windows that are due; the ledger is empty."""
    made = Vendor(tmp_path)
    made.export("acme")
    for moment in (START, START, START + DAY, START + DAY):
        made.insert("acme", moment)
    made.start()
    return made


@pytest.fixture
def busy(tmp_path: Path) -> Vendor:
    """One account with a record in each of many windows that are due."""
    made = Vendor(tmp_path)
    made.settings["defaults"]["every"] = "1h"
    made.export("acme")
    for hour in range(MANY):
        made.insert("acme", START + hour * timedelta(hours=1))
    made.start()
    return made
