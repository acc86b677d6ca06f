"""Collectors of Splunk's that the tests of its destination send to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.hec_sending import Sending, sending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def to(tmp_path: Path) -> Iterator[Sending]:
    """One of the test's own."""
    with sending(tmp_path) as running:
        yield running


@pytest.fixture
def acking(tmp_path: Path) -> Iterator[Sending]:
    """The same with a token that has indexer acknowledgement."""
    with sending(tmp_path, acknowledged=True) as running:
        yield running
