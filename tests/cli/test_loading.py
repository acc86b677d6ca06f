"""What a run in several processes loads for its destinations: once, before there are several.

A vendor's library takes 0.1 to 0.3 s of work to load, which each process would do anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.test_many_destinations import azure, gcs, s3
from tests.kit.command_line import START, Vendor
from tests.kit.hec_server import hec_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

ACCOUNTS: Final = 16
OF_THE_FIRST_ANSWER: Final = {"azure.core.rest._http_response_impl", "azure.core.rest._requests_basic"}
LIBRARIES: Final = {"azure", "boto3", "botocore", "cryptography", "google", "msal", "requests", "urllib3"}

CALL: Final = """
import json, os, pathlib, sys
from exporter.cli import main
folder, before, leave = pathlib.Path(sys.argv.pop(1)), set(), os._exit
def tell(status):
    told = {"before": sorted(before), "since": sorted(sys.modules.keys() - before)}
    (folder / f"{os.getpid()}.json").write_text(json.dumps(told))
    leave(status)
os.register_at_fork(after_in_child=lambda: before.update(sys.modules))
os._exit = tell
main()
"""


@contextmanager
def stored(
    remote: Callable[[], AbstractContextManager[object]],
) -> Iterator[Mapping[str, object]]:
    with remote() as opened:
        yield opened.settings  # type: ignore[attr-defined]


@contextmanager
def hec() -> Iterator[Mapping[str, object]]:
    with hec_server() as server:
        yield {"type": "splunk_hec", "url": server.url, "token": server.new_token(), "index": "main"}


KINDS: Final[Mapping[str, tuple[Callable[[], AbstractContextManager[Mapping[str, object]]], str]]] = {
    "s3": (lambda: stored(s3), "boto3"),
    "gcs": (lambda: stored(gcs), "google"),
    "azure": (lambda: stored(azure), "azure"),
    "splunk_hec": (hec, "requests"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_processes_of_a_run_share_what_was_loaded_before_them(tmp_path: Path, kind: str) -> None:
    """Clients, what makes tokens, and the authorities that are trusted: nothing of them is loaded later."""
    vendor, told = Vendor(tmp_path), tmp_path / "told"
    told.mkdir()
    opened, library = KINDS[kind]
    with opened() as settings:
        for number in range(ACCOUNTS):
            vendor.export(f"a-{number}", destination=dict(settings))
            vendor.insert(f"a-{number}", START)
        vendor.start()
        command = [sys.executable, "-c", CALL, str(told), "run", "--workers", "2", "-c", str(vendor.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    processes = [json.loads(file.read_text(encoding="utf-8")) for file in told.iterdir()]
    assert len(processes) == 4  # two workers, and an encoder of each
    for one in processes:
        assert library in one["before"]
        since = {name for name in one["since"] if name.partition(".")[0] in LIBRARIES}
        assert since - OF_THE_FIRST_ANSWER == set()
