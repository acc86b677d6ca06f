"""What all tests share: in CI nothing may be left out, elsewhere one line says what was."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import settings

# A busy machine is no reason to fail; the rest is as Hypothesis has it here, or in CI.
settings.register_profile("audit-exporter", settings(), deadline=None)
settings.load_profile("audit-exporter")

OUTSIDE = ("AWS_", "AUDIT_EXPORTER", "AZURE_", "CLOUDSDK_", "GCE_", "GCLOUD_", "GOOGLE_", "PG", "STORAGE_")
_left_out: Counter[str] = Counter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`make proof` asks for the proofs by their mark; nobody else gets them."""
    if "proof" in config.getoption("-m"):
        return
    proofs = [item for item in items if item.get_closest_marker("proof")]
    if proofs:
        config.hook.pytest_deselected(items=proofs)
        items[:] = [item for item in items if item not in proofs]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _count(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A module may be left out as a whole."""
    _count(report)


def _count(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _left_out[f"{reason.removeprefix('Skipped: ')} ({report.nodeid.partition('::')[0]})"] += 1


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test is a failure where everything has to be there."""
    if _left_out and os.environ.get("CI") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason, number in _left_out.items():
        terminalreporter.write_line(f"left out, {number}: {reason}")


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own configuration, cloud profile or PG variables have no say in a test."""
    for name in [name for name in os.environ if name.startswith(OUTSIDE)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
