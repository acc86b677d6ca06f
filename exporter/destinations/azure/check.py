"""What `check` says of a container: whether a delivery would succeed, and what deserves a look.

It writes the probe as a delivery is written; only then it looks whether the same credentials could do
more than that. It must not touch anything but the probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.destinations.azure.sas import Sas
from exporter.destinations.probe import prove_create_only
from exporter.errors import DeliveryError, ObjectExists
from exporter.model import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from exporter.destinations.azure.credentials import Credentials
    from exporter.destinations.azure.requests import Requests
    from exporter.interfaces import ObjectStore

# What to do about too many rights, and the name of the statement.
ROLE_WAY_OUT: Final = (
    "give a role with blobs/add/action alone, then take away the roles that give more",
    "narrower_role",
)
SAS_WAY_OUT: Final = ("let the stored policy, or a new SAS, give `c` alone", "sas")


def findings(
    store: ObjectStore, probe: str, credentials: Credentials, requests: Requests, now: datetime
) -> list[Finding]:
    """Every finding about the container: the proof, or why there is none, and warnings."""
    proof = prove_create_only(store, probe)
    sas = _sas(credentials)
    if any(finding.level is Level.ERROR for finding in proof):
        if not _readable(credentials):
            return proof
        faults = [] if sas is None else list(sas.faults(store.name, now, requests.fixes.sas))
        return _in_the_way(store, credentials) or faults or proof
    if sas is not None:
        encrypted = credentials.account.url.startswith("https:")
        found = [*proof, *sas.warnings(store.name, now, requests.fixes, encrypted=encrypted)]
        return found if sas.permissions else [*found, *_more_rights(store, probe, requests, SAS_WAY_OUT)]
    if credentials.way == "key":
        return [*proof, _all_powerful(store, requests)]
    return [*proof, *_more_rights(store, probe, requests, ROLE_WAY_OUT)]


def _readable(credentials: Credentials) -> bool:
    """Whether a key or SAS is there and whole; if not, the way to the account is not what matters."""
    if credentials.way not in {"key", "sas"}:
        return True
    try:
        credentials.grant(credentials.session())
    except DeliveryError:
        return False
    return True


def _in_the_way(store: ObjectStore, credentials: Credentials) -> list[Finding]:
    """What keeps a request from reaching the account, if that is the cause."""
    from exporter.network.diagnosis import obstacle

    found = obstacle(credentials.account.url, credentials.guard, ca_file=credentials.ca_file)
    return [Finding(store.name, Level.ERROR, found.message, found.hint, found.fix)] if found else []


def _sas(credentials: Credentials) -> Sas | None:
    if credentials.way != "sas":
        return None
    try:
        return Sas.read(credentials.grant(credentials.session()).sas or "")
    except DeliveryError:  # the proof says so
        return None


def _all_powerful(store: ObjectStore, requests: Requests) -> Finding:
    return Finding(
        store.name,
        Level.WARNING,
        "an account key can do everything in the storage account, also delete what was delivered",
        "give a SAS with the permission `c` for this container, or an identity",
        requests.fixes.sas,
    )


def _more_rights(
    store: ObjectStore, probe: str, requests: Requests, way_out: tuple[str, str]
) -> Iterator[Finding]:
    """What the credentials may do besides creating, tried on the probe; deleting it comes last."""
    tries: dict[str, Callable[[], object]] = {
        "read": lambda: requests.send(probe, lambda blob: blob.get_blob_properties()),
        "list": lambda: requests.look(
            probe, lambda all_: next(all_.list_blob_names(name_starts_with=probe), None)
        ),
        "delete": lambda: requests.send(probe, lambda blob: blob.delete_blob()),
    }
    may = []
    for right, attempt in tries.items():
        try:
            attempt()
        except ObjectExists:  # and nobody may delete it
            yield _kept(store)
        except DeliveryError:  # as it should be
            continue
        else:
            may.append(right)
    if may:
        hint, fix = way_out
        yield Finding(
            store.name,
            Level.WARNING,
            f"more rights than needed: it may also {', '.join(may)}",
            hint,
            str(getattr(requests.fixes, fix)),
        )


def _kept(store: ObjectStore) -> Finding:
    return Finding(
        store.name,
        Level.WARNING,
        "the container is immutable: what `check` writes stays until the retention ends",
        "run `check` rarely; deliveries are not affected",
    )
