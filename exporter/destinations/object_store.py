"""Object stores as a destination: the rules that hold for every driver, once, above all of them.

Here are the place of an account's names and what metadata may be. What drivers are made of is in
``uploads`` and ``probe``. It must not know a vendor, translate an error, or try anything twice.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from exporter.destinations.probe import PROBE_FOLDER
from exporter.errors import ConfigError, Refused
from exporter.interfaces import Loadable, ObjectStore, Preparable
from exporter.keys import account_folder, normal_prefix, object_name
from exporter.model import Finding, Package, Stamp
from exporter.notation.strict import Strict
from exporter.notation.values import Prefix  # noqa: TC001 - pydantic reads the annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.model import Receipt
    from exporter.network.guard import Guard

MAX_METADATA_BYTES = 2048  # S3's limit, the lowest of all stores
LONGEST_STAMP = Stamp(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), 9999)
LONGEST_SUFFIX = ".jsonl.gz"


class Driver(ObjectStore, Protocol):
    """An object store, with what it asks of names."""

    endpoint: str
    """The server that it shares with other stores, which hang when it does; else its own name."""

    max_component_bytes: int
    """How long the part of a name between two slashes may be."""

    def folds_case(self) -> bool:
        """Whether two names that differ only by case are one; raises ConfigError if it cannot tell."""
        ...


class ObjectStoreSettings(Strict, ABC):
    """What a configuration says of a place in an object store, whatever the kind."""

    type: str
    prefix: Prefix = ""
    """What every object's name begins with."""

    @abstractmethod
    def open(self, guard: Guard) -> Driver:
        """The driver for the store, without its prefix; it opens no connection. Raises ConfigError.

        The driver lets ``guard`` see every address that a customer chose, here and before each request.
        """


class ObjectStoreDestination:
    """A place in an object store: everything is written under one prefix."""

    def __init__(self, store: Driver, prefix: str) -> None:
        self.store = store.name
        self.endpoint = store.endpoint
        self.prefix = normal_prefix(prefix)
        self._driver = store

    def claim(self, account: str) -> str:
        """The one place of this account's names; raises ConfigError if they cannot exist here."""
        try:
            longest = object_name(self.prefix, account, LONGEST_STAMP, LONGEST_SUFFIX)
        except ValueError as error:
            message, _, hint = str(error).rpartition("; ")
            raise ConfigError(message, hint=hint) from error
        limit = self._driver.max_component_bytes
        for part in longest.split("/"):
            if len(part.encode()) > limit:
                raise ConfigError(
                    f"{self.store} cannot hold names as long as '{part}': {len(part.encode())} bytes,"
                    f" and it takes {limit}",
                    hint="shorten the account's name, or the prefix",
                )
        claim = f"{self.store}/{account_folder(self.prefix, account).removesuffix('/')}"
        return claim.casefold() if self._driver.folds_case() else claim

    def deliver(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """One try. Raises DeliveryError: ObjectExists, NotSent, Refused or OutcomeUnknown."""
        _check_metadata(package.metadata)
        return self._driver.put(package, progress)

    def load(self) -> None:
        """What the first delivery would load."""
        if isinstance(self._driver, Loadable):
            self._driver.load()

    def prepare(self, names: Sequence[str]) -> None:
        """What deliveries of these names have in common."""
        if isinstance(self._driver, Preparable):
            self._driver.prepare(names)

    def check(self) -> Sequence[Finding]:
        """Write a real object next to the records, as far as that can prove that a delivery would succeed."""
        return self._driver.check(f"{self.prefix}{PROBE_FOLDER}/{secrets.token_hex(8)}")


def _check_metadata(metadata: Mapping[str, str]) -> None:
    text = "".join([*metadata, *metadata.values()])
    if not (text.isascii() and text.isprintable()):
        raise Refused("the object's metadata is not printable ASCII", hint="report this as a defect")
    if len(text) > MAX_METADATA_BYTES:
        raise Refused(
            f"the object's metadata is {len(text)} bytes, and stores take {MAX_METADATA_BYTES}",
            hint="report this as a defect",
        )
