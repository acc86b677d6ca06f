"""The proof that a store creates objects, and never replaces one: what `check` writes.

A real object, written as a delivery is, outside `audit/`. It must not need any right but to create.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.errors import DeliveryError, ObjectExists
from exporter.model import Content, Finding, Level, Package

if TYPE_CHECKING:
    from exporter.interfaces import ObjectStore

PROBE: Final = Path(__file__).with_name("probe.txt")
PROBE_FOLDER: Final = ".audit-exporter-check"  # outside `audit/`, where nothing but records lives
NOT_THE_STORE: Final = "see what answers there: it says so of a name that nobody ever had"


def prove_create_only(store: ObjectStore, probe: str) -> list[Finding]:
    """Create the object ``probe`` the way a delivery does, and again: the second put must be refused."""
    package = probe_package(probe)
    try:
        store.put(package, unwatched)
    except DeliveryError as error:
        return [_failed_probe(store, error)]
    return [_second_put(store, package)]


def _second_put(store: ObjectStore, package: Package) -> Finding:
    try:
        store.put(package, unwatched)
    except ObjectExists:
        return Finding(store.name, Level.OK, f"created {package.name}, and was refused a second time")
    except DeliveryError as error:
        return _failed_probe(store, error)
    return Finding(
        store.name,
        Level.ERROR,
        f"the store ignores If-None-Match: a second put replaced {package.name}",
        "use a store with conditional writes: here, two runs at once could replace what was delivered",
    )


def _failed_probe(store: ObjectStore, error: DeliveryError) -> Finding:
    """A finding names its store as its subject; an error, which has none, does it in its message."""
    message = error.message.removeprefix(f"{store.name} ")
    hint = NOT_THE_STORE if isinstance(error, ObjectExists) else error.hint  # of a name that is new
    return Finding(store.name, Level.ERROR, message, hint, error.fix)


def probe_package(name: str) -> Package:
    """A small object under this name, for a driver to prove something with."""
    data = PROBE.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    content = Content(
        count=0,
        late=0,
        bad=0,
        content_bytes=len(data),
        content_sha256=digest,
        archive_bytes=len(data),
        archive_sha256=digest,
    )
    return Package(data, name, content, "text/plain", {"audit-exporter": "check"})


def unwatched(_sent_bytes: int) -> None:
    """Progress that nobody looks at."""
