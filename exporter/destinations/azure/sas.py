"""What a shared access signature says about itself, and what about it deserves a warning.

It must not show the signature, nor ask anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from exporter.model import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WARN_DAYS: Final = (1, 7, 14, 30)
RIGHTS: Final = {
    "r": "read",
    "w": "overwrite",
    "d": "delete",
    "x": "delete versions",
    "y": "delete for good",
    "l": "list",
    "t": "tag",
    "f": "find by tags",
    "m": "move",
    "e": "run",
    "o": "change owners",
    "p": "change permissions",
    "i": "change retention",
    "a": "append",
    "u": "update",
}
_CONTAINER: Final = "c"


@dataclass(frozen=True, slots=True)
class Sas:
    """The readable fields of a SAS; empty where it does not say, as with a stored access policy."""

    permissions: str
    resource: str
    services: str
    resource_types: str
    starts_at: datetime | None
    expires_at: datetime | None
    protocols: str
    addresses: str
    policy: str

    @classmethod
    def read(cls, text: str) -> Sas:
        """The fields, as far as they can be read."""
        fields = {name: values[0] for name, values in parse_qs(text).items()}
        return cls(
            permissions=fields.get("sp", ""),
            resource=fields.get("sr", ""),
            services=fields.get("ss", ""),
            resource_types=fields.get("srt", ""),
            starts_at=_time(fields, "st"),
            expires_at=_time(fields, "se"),
            protocols=fields.get("spr", ""),
            addresses=fields.get("sip", ""),
            policy=fields.get("si", ""),
        )

    def faults(self, store: str, now: datetime, fix: str) -> Iterator[Finding]:
        """Why it cannot serve, as far as it says so itself."""
        hint = "give a new SAS in `sas`; it is used with the next request"
        if self.expires_at is not None and self.expires_at <= now:
            yield Finding(store, Level.ERROR, f"the SAS expired on {_shown(self.expires_at)}", hint, fix)
        if self.starts_at is not None and self.starts_at > now:
            yield Finding(
                store,
                Level.ERROR,
                f"the SAS is not valid before {_shown(self.starts_at)}",
                "wait, or " + hint,
                fix,
            )
        if self.permissions and not set(self.permissions) & set("cw"):
            yield Finding(store, Level.ERROR, "the SAS has no permission to create blobs (c)", hint, fix)
        if self.resource and self.resource != _CONTAINER:
            yield Finding(store, Level.ERROR, "the SAS is not for a whole container", hint, fix)
        if "b" not in (self.services or "b") or "o" not in (self.resource_types or "o"):
            yield Finding(store, Level.ERROR, "the SAS is not for the objects of the blob service", hint, fix)

    def warnings(self, store: str, now: datetime, fix: str, *, encrypted: bool) -> Iterator[Finding]:
        """What works today and deserves a look; ``encrypted``: whether the account is asked over https."""
        if (expiry := self._about_to_expire(store, now, fix)) is not None:
            yield expiry
        more = [right for letter, right in RIGHTS.items() if letter in self.permissions]
        if more:
            message = f"the SAS grants more than is needed: it may also {', '.join(more)}"
            yield Finding(store, Level.WARNING, message, "give a SAS with the permission `c` alone", fix)
        if self.services:
            message = "the SAS is for the whole storage account, not for this container alone"
            yield Finding(store, Level.WARNING, message, "give a SAS of the container", fix)
        if encrypted and self.protocols != "https":
            message = "the SAS may also be used without encryption"
            yield Finding(store, Level.WARNING, message, "give a SAS for https only", fix)
        if self.addresses:
            message = f"the SAS serves from the addresses {self.addresses} alone"
            yield Finding(
                store, Level.WARNING, message, "give another before this program's address changes", fix
            )

    def _about_to_expire(self, store: str, now: datetime, fix: str) -> Finding | None:
        if self.expires_at is None:
            if self.policy:
                return None
            return Finding(store, Level.WARNING, "the SAS does not say when it expires", "give another", fix)
        left = self.expires_at - now
        within = next((days for days in WARN_DAYS if left <= timedelta(days=days)), None)
        if within is None:
            return None
        days = f"{within} days" if within > 1 else "1 day"
        message = f"the SAS expires within {days}, on {_shown(self.expires_at)}"
        return Finding(store, Level.WARNING, message, "give a new one in `sas` before that", fix)


def _time(fields: Mapping[str, str], name: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(fields.get(name, ""))
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
