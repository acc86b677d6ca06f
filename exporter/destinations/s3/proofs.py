"""What a store other than Amazon's has to prove before it is trusted: that it never replaces an object.

Proved with a small object of a fixed name, once in a process, because compatible stores have gaps: Ceph
ignores If-None-Match in buckets with versions, and everywhere when it completes an upload in parts. It
must not be asked about Amazon's own, nor try a delivery.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from exporter.destinations.probe import PROBE_FOLDER, probe_package
from exporter.destinations.s3.answers import NotEncrypted
from exporter.destinations.s3.errors import lacks_feature
from exporter.destinations.s3.policies import prefix_of
from exporter.errors import NotSent, ObjectExists, OutcomeUnknown, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.model import Package

REPLACES_HINT = (
    "use a bucket without versions and Object Lock, or a store with conditional writes: here, two runs at"
    " once could replace what was delivered"
)

_CREATES_ONCE: set[str] = set()
"""The names of stores that were seen to refuse a second put."""
_COMPLETES_ONCE: dict[str, bool] = {}
"""By the name of a store, whether it refuses to complete an upload on a name that is taken."""


class Proofs:
    """What the store of this name proves, by two ways to put a small object."""

    def __init__(
        self, store: str, at_once: Callable[[Package], object], in_parts: Callable[[Package], object]
    ) -> None:
        self._store = store
        self._at_once = at_once
        self._in_parts = in_parts

    def must_create_once(self, name: str) -> None:
        """Raise Refused for a store that replaces objects, where ``name`` is to be created.

        What may be repaired is asked anew by the next attempt. Raises NotSent if the store does not say,
        and what it refuses the small object with.
        """
        if self._store in _CREATES_ONCE:
            return
        probe = f"{prefix_of(name)}{PROBE_FOLDER}/once"
        try:
            if not self._creates_once(probe):
                raise Refused(
                    f"{self._store} ignores If-None-Match: a second put replaced {probe}", hint=REPLACES_HINT
                )
        except OutcomeUnknown as error:
            raise NotSent(
                f"nothing is sent before it is known whether it would replace an object: {error.message}",
                hint=error.hint,
                fix=error.fix,
            ) from error.__cause__  # which says more to `check`
        _CREATES_ONCE.add(self._store)

    def completes_once_beside(self, name: str) -> bool:
        """Whether objects beside ``name`` may go in parts. Raises as `completes_once` does."""
        if self._store not in _COMPLETES_ONCE:
            probe = f"{prefix_of(name)}{PROBE_FOLDER}/parts"
            _COMPLETES_ONCE[self._store] = self.completes_once(probe)
        return _COMPLETES_ONCE[self._store]

    def completes_once(self, probe: str) -> bool:
        """Whether this store refuses to complete an upload in parts on a name that is taken.

        Some compatibles do not look at If-None-Match there, others know no uploads in parts. Raises NotSent
        if the store does not say, and Refused if it does not encrypt as asked.
        """
        package = probe_package(probe)
        try:
            with suppress(ObjectExists):
                self._at_once(package)
            self._in_parts(package)
        except ObjectExists:
            return True
        except NotEncrypted:  # nor would the object that is to follow be
            raise
        except (NotSent, OutcomeUnknown) as error:
            if not lacks_feature(error):
                raise NotSent(
                    f"it is not known whether large objects would be safe here: {error.message}",
                    hint=error.hint,
                ) from error
        except Refused:
            return False
        return False

    def _creates_once(self, probe: str) -> bool:
        """Whether one of two puts is refused: the first, where an earlier process has made the object."""
        package = probe_package(probe)
        for _ in range(2):
            try:
                self._at_once(package)
            except ObjectExists:
                return True
        return False
