"""What takes objects and events in place of a customer's storage: see ``sink`` and ``hec_sink``."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Objects:
    """A plain S3 that is started anew for each run: it refuses a name that it has had."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def anew(self) -> str:
        """The address of one that has no object yet."""
        self.end()
        command = [sys.executable, "-m", "tests.bench.sink"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None or not (address := self._process.stdout.readline().strip()):
            raise SystemExit("tests.bench.sink did not start")
        return address

    def end(self) -> None:
        """End the one that runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None


@contextmanager
def objects() -> Iterator[Objects]:
    """One that ends with the context."""
    server = Objects()
    try:
        yield server
    finally:
        server.end()


def destination(address: str) -> str:
    """What a configuration says of it."""
    return (
        f'{{type: s3, bucket: bench, region: us-east-1, endpoint_url: "{address}", path_style: true,'
        " access_key_id: bench, secret_access_key: bench}"
    )
