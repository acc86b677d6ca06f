"""Real processes at a few milliseconds each: a server that forks one for every command line it is given.

``python -m tests.crash.child`` has loaded everything that a command needs; each fork runs
``exporter.cli`` once, as it is, and leaves like any other process. Only when asked to, it watches its
own steps, kills itself at one of them, or has a defect. A line of JSON is a request, another its answer.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.steps import Step

SMALL_PART_BYTES = 256
PRELOADED = (
    "azure.core.pipeline.transport",
    "azure.storage.blob",
    "boto3",
    "exporter.commands.deliver",
    "exporter.commands.manage",
    "exporter.destinations.azure.store",
    "exporter.destinations.directory",
    "exporter.destinations.gcs.store",
    "exporter.destinations.s3.store",
    "exporter.destinations.splunk_hec.destination",
    "exporter.ledger.postgres",
    "exporter.ledger.sqlite",
    "exporter.network.session",
    "exporter.report.run",
    "exporter.sources.sqlite",
    "exporter.telemetry.logs",
    "google.auth",
    "google.oauth2.service_account",
    "google_crc32c",
    "tests.crash.mutants",
    "tests.crash.steps",
)


@dataclass(frozen=True)
class Life:
    """What a process is to do, and at which step it sends itself which signal; ``report`` lists its steps."""

    arguments: tuple[str, ...]
    folder: str
    log: str
    fatal: Step | None = None
    signal: int = signal.SIGKILL
    report: str | None = None
    mutant: str | None = None


class Nursery:
    """The test's end of the server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, life: Life) -> int:
        """The id of a new process. It has to be waited for, also after it was killed."""
        return self._ask({"start": asdict(life)})

    def wait(self, process_id: int) -> int:
        """The exit status; below zero for the signal that ended it, or stopped it for now."""
        return self._ask({"wait": process_id})

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A running server; it ends with the tests, also when they are killed."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AUDIT_EXPORTER"))
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            yield Nursery(process)
        finally:
            process.kill()


def serve() -> None:
    """Answer requests until there are no more."""
    for module in PRELOADED:
        __import__(module)
    from exporter.destinations.s3 import access as s3_access

    s3_access.session().client("s3", region_name="us-east-1")  # parsed once: 100 ms
    gc.freeze()  # a collection in a fork would copy all of this
    for line in sys.stdin:
        request = json.loads(line)
        answer = _start(Life(**request["start"])) if "start" in request else _wait(request["wait"])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _wait(process_id: int) -> int:
    status = os.waitpid(process_id, os.WUNTRACED)[1]
    return -os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def _start(life: Life) -> int:
    process_id = os.fork()
    if process_id:
        return process_id
    status = 70
    try:
        status = _live(life)
    finally:
        os._exit(status)  # not through the server's frames
    raise AssertionError


def _live(life: Life) -> int:
    from exporter import cli
    from tests.crash import mutants
    from tests.crash.steps import Steps

    _redirect(life)
    _limit_parts()
    if life.mutant is not None:
        mutants.MUTANTS[life.mutant]()
    steps = None
    if life.fatal is not None or life.report is not None:
        fatal = None if life.fatal is None else (life.fatal[0], life.fatal[1])  # JSON made it a list
        steps = Steps(Path(life.folder), fatal, life.signal)
        steps.install()
    sys.argv = ["audit-exporter", *life.arguments]
    status = 70
    try:
        cli.main()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if steps is not None:
            steps.end(None if life.report is None else Path(life.report))
    return status


def _redirect(life: Life) -> None:
    """Away from the server's pipes, into a log that a failing test shows."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(life.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)


def _limit_parts() -> None:
    """Uploads in parts from a size on that a test can afford."""
    from exporter.destinations.azure.store import AzureStore
    from exporter.destinations.gcs.store import GcsStore
    from exporter.destinations.s3.store import S3Store
    from exporter.destinations.uploads import Limits

    large, part = 2 * SMALL_PART_BYTES, SMALL_PART_BYTES
    _set_limits(S3Store, Limits(large_bytes=large, part_bytes=part))
    _set_limits(GcsStore, Limits(large_bytes=large, part_bytes=part))
    _set_limits(AzureStore, Limits(large_bytes=large, part_bytes=part))


def _set_limits(store: Any, limits: object) -> None:  # noqa: ANN401 - any driver
    defaults = store.__init__.__kwdefaults__
    assert "limits" in defaults
    defaults["limits"] = limits


if __name__ == "__main__":
    serve()
