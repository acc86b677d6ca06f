"""What `check` says of a bucket: whether a delivery would succeed, what is in its way, and what is too much.

The real write decides. A right beyond creating is a warning: what this program cannot do, nobody can
make it do. It must not change anything but its own probe.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote, urlencode

from exporter.destinations.probe import prove_create_only
from exporter.errors import DeliveryError
from exporter.interfaces import ObjectStore
from exporter.model import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.destinations.gcs.settings import GcsSettings
    from exporter.destinations.gcs.wire import Answer
    from exporter.network.guard import Guard

TOO_MUCH: Final = {
    "storage.objects.delete": "replace or delete",
    "storage.objects.get": "read",
    "storage.objects.list": "list",
}
NARROWER_HINT: Final = "grant roles/storage.objectCreator alone, and take back whatever gives more"
NARROWER_FIX: Final = "gcloud storage buckets get-iam-policy gs://{bucket}"


class Store(ObjectStore, Protocol):
    """A bucket, with where and how it is asked."""

    endpoint: str

    def request(
        self, name: str, method: str, path: str, *, headers: Mapping[str, str], expected: tuple[int, ...]
    ) -> Answer:
        """One request about an object. Raises DeliveryError."""
        ...


def findings_of(store: Store, probe: str, settings: GcsSettings, guard: Guard) -> Sequence[Finding]:
    """What there is to say, the outcome of the real write first."""
    findings = prove_create_only(store, probe)
    if findings[-1].level is Level.ERROR:
        return _with_cause(findings, store, settings, guard)
    return [*findings, *_rights(store, probe, settings.bucket)]


def _with_cause(
    findings: list[Finding], store: Store, settings: GcsSettings, guard: Guard
) -> Sequence[Finding]:
    """What is wrong with the way to the store, if that is it; else what the write met."""
    from exporter.network.diagnosis import obstacle

    found = obstacle(store.endpoint, guard, ca_file=settings.ca_file)
    if found is None:
        return findings
    return [Finding(store.name, Level.ERROR, found.message, found.hint, found.fix)]


def _rights(store: Store, probe: str, bucket: str) -> Iterator[Finding]:
    """A warning for what the identity may do and need not."""
    # A right under a condition, such as a prefix, is none on the bucket: it shows on the probe alone.
    held = _told(store, probe, bucket) or _tried(store, probe, bucket)
    if found := [words for right, words in TOO_MUCH.items() if right in held]:
        yield Finding(
            store.name,
            Level.WARNING,
            f"more rights than needed: this program can also {', '.join(found)} objects",
            NARROWER_HINT,
            NARROWER_FIX.format(bucket=bucket),
        )


def _told(store: Store, probe: str, bucket: str) -> set[str]:
    """Those of the rights that the bucket says are held, which anybody may ask."""
    query = urlencode([("permissions", right) for right in TOO_MUCH])
    path = f"{_path(bucket)}/iam/testPermissions?{query}"
    try:
        answer = store.request(probe, "GET", path, headers={}, expected=(HTTPStatus.OK,))
    except DeliveryError:  # the write has decided already; this only asks for warnings
        return set()
    told = answer.json().get("permissions")
    return {right for right in TOO_MUCH if right in told} if isinstance(told, list) else set()


def _tried(store: Store, probe: str, bucket: str) -> set[str]:
    """Those of the rights that show when they are used, on the probe alone."""
    theirs = f"{_path(bucket)}/o/{quote(probe, safe='')}"
    tries = {
        "storage.objects.get": ("GET", theirs),
        "storage.objects.list": (
            "GET",
            f"{_path(bucket)}/o?{urlencode({'prefix': probe, 'maxResults': 1})}",
        ),
        "storage.objects.delete": ("DELETE", theirs),
    }
    return {right for right, (method, path) in tries.items() if _succeeds(store, probe, method, path)}


def _succeeds(store: Store, probe: str, method: str, path: str) -> bool:
    try:
        store.request(probe, method, path, headers={}, expected=(HTTPStatus.OK, HTTPStatus.NO_CONTENT))
    except DeliveryError:  # a right that is not held is what should be
        return False
    return True


def _path(bucket: str) -> str:
    return f"/storage/v1/b/{quote(bucket, safe='')}"
