"""Azurite as Azure's storage for tests, on a free loopback port, over http and over https.

It runs in a process of its own and ends with the tests, also when they are killed. It enforces SAS
permissions, tokens' audience and lifetime, and MD5; an existing blob is 409. Roles, encryption scopes and
network rules it does not know.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import ContainerClient, ContainerSasPermissions, generate_container_sas

from tests.kit.servers import new_certificate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
MAIN = Path(sys.prefix) / "azurite/node_modules/azurite/dist/src/blob/main.js"
STOP_S = 10
END_WITH_TESTS = 'process.stdin.on("end", () => process.exit()).resume()'

_NUMBERS = count(1)


@dataclass(frozen=True)
class Azurite:
    """A running Azurite, with all rights for its own clients. ``authority`` is the file to trust, if any."""

    origin: str
    authority: Path | None = None
    context: ssl.SSLContext | None = None  # the server's side, for a proxy before it

    @property
    def url(self) -> str:
        """The account's URL."""
        return f"{self.origin}/{ACCOUNT}"

    def container(self, name: str) -> ContainerClient:
        """A client to arrange and to look with."""
        trust: Any = {"connection_verify": str(self.authority)} if self.authority else {}
        return ContainerClient(
            self.url, name, credential={"account_name": ACCOUNT, "account_key": KEY}, retry_total=0, **trust
        )

    def new_container(self) -> str:
        """An empty container that no other test has."""
        name = f"container-{next(_NUMBERS):06}"
        with self.container(name) as client:
            client.create_container()
        return name

    def names(self, container: str) -> set[str]:
        with self.container(container) as client:
            return set(client.list_blob_names())

    def read(self, container: str, name: str) -> bytes:
        with self.container(container) as client:
            return client.download_blob(name).readall()


def sas_of(
    container: str,
    permission: str = "c",
    *,
    expires_in: timedelta = timedelta(days=365),
    protocol: str = "https,http",
    starts_at: datetime | None = None,
) -> str:
    """A SAS for a container, signed with Azurite's key."""
    return generate_container_sas(
        ACCOUNT,
        container,
        account_key=KEY,
        permission=ContainerSasPermissions.from_string(permission),
        expiry=datetime.now(UTC) + expires_in,
        protocol=protocol,
        start=starts_at,
    )


@contextmanager
def azurite_server(*, https: bool = False) -> Iterator[Azurite]:
    """An Azurite of one's own, its blobs in memory."""
    node = which("node", path=f"{Path(sys.executable).parent}") or which("node")
    if node is None or not MAIN.exists():
        pytest.skip("Azurite is not there: `make check` installs it")
    with tempfile.TemporaryDirectory() as folder:
        tls: list[str] = []
        authority, context = new_certificate(Path(folder)) if https else (None, None)
        if authority is not None:
            tls = ["--oauth", "basic", "--cert", str(authority), "--key", f"{folder}/key.pem"]
        guard = Path(folder, "end.js")
        guard.write_text(END_WITH_TESTS)
        command = [node, "--require", str(guard), str(MAIN), "--blobHost", "127.0.0.1", "--blobPort", "0"]
        quiet = ["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
        with subprocess.Popen(
            [*command, *quiet, *tls],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
        ) as process:
            assert process.stdin is not None
            try:
                yield Azurite(_origin(process), authority, context)
            finally:
                process.stdin.close()  # `process` may be a wrapper of node's, whose end would not end node
                process.wait(STOP_S)


@cache
def shared_azurite(*, https: bool = False) -> Azurite:
    """One for all tests of this process; every test takes containers of its own."""
    server = azurite_server(https=https)
    azurite = server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    return azurite


def _origin(process: subprocess.Popen[str]) -> str:
    """Where it listens, as it says itself."""
    assert process.stdout is not None
    for line in process.stdout:
        if " listens on " in line:
            return line.rpartition(" ")[2].strip()
    raise RuntimeError("Azurite did not start")
