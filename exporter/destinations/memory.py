"""An object store in memory, with faults on demand: for simulations, tests and dry runs.

It keeps the contract of every other store. It must not be given to anybody who expects to find his
records later.
"""

from __future__ import annotations

from enum import StrEnum
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from exporter.destinations.probe import prove_create_only
from exporter.destinations.uploads import opened
from exporter.errors import NotSent, ObjectExists, OutcomeUnknown, Refused
from exporter.model import Package, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.model import Finding


class Fault(StrEnum):
    """What goes wrong with one put, and whether its object lands."""

    NOT_SENT = "not_sent"  # NotSent; never lands
    REFUSED = "refused"  # Refused; never lands
    LOST_REQUEST = "lost_request"  # OutcomeUnknown; never lands
    LOST_ANSWER = "lost_answer"  # OutcomeUnknown; landed, if the name was free
    DELAYED = "delayed"  # OutcomeUnknown; lands at `settle`, if the name is free then


class StoredObject(NamedTuple):
    """What lies under a name."""

    data: bytes
    metadata: Mapping[str, str]


def no_faults(_package: Package) -> Fault | None:
    """A store that always works."""
    return None


class MemoryStore:
    """Objects by name. Safe to use from several threads."""

    max_component_bytes = 1024

    def __init__(
        self, name: str = "memory://", faults: Callable[[Package], Fault | None] = no_faults
    ) -> None:
        self.name = name
        self.endpoint = name.rpartition("@")[2]
        self.objects: dict[str, StoredObject] = {}
        self._faults = faults
        self._delayed: list[tuple[str, StoredObject]] = []
        self._lock = Lock()

    def folds_case(self) -> bool:
        """Whether two names that differ only by case are one."""
        return False

    def put(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """Create the object, or do what the fault for this package says."""
        fault = self._faults(package)
        if fault is Fault.NOT_SENT:
            raise NotSent("the store cannot be reached", hint="a fault on demand")
        if fault is Fault.REFUSED:
            raise Refused("the store refused the object", hint="a fault on demand")
        with opened(package) as file:
            stored = StoredObject(file.read(), dict(package.metadata))
        progress(len(stored.data))
        with self._lock:
            created = self._land(package.name, stored, fault)
        if fault is not None:
            raise OutcomeUnknown("the answer was lost", hint="a fault on demand")
        if not created:
            raise ObjectExists(f"{self.name} already has {package.name}")
        return Receipt(f"{self.name}/{package.name}")

    def settle(self) -> None:
        """Let everything land that is still on its way, oldest first."""
        with self._lock:
            for name, stored in self._delayed:
                self.objects.setdefault(name, stored)
            self._delayed.clear()

    def check(self, probe: str) -> Sequence[Finding]:
        """Create the probe, and prove that it cannot be replaced."""
        return prove_create_only(self, probe)

    def _land(self, name: str, stored: StoredObject, fault: Fault | None) -> bool:
        if fault is Fault.DELAYED:
            self._delayed.append((name, stored))
        elif fault is not Fault.LOST_REQUEST:
            return self.objects.setdefault(name, stored) is stored
        return False
