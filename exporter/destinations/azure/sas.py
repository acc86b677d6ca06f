"""Whether a shared access signature is whole, what it says about itself, and what of that deserves a warning.

It must not show the signature, nor ask anybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from exporter.errors import ConfigError
from exporter.model import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.destinations.azure.fixes import Fixes

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


_WHOLE_HINT: Final = "give it whole and on one line, as `az storage container generate-sas` prints it"


def checked_sas(text: str) -> str:
    """The SAS without the question mark that the portal puts in front of it.

    What it is not made of, or is not whole, would come to Azure as a request of nobody. Raises ConfigError,
    which quotes nothing of it.
    """
    if "://" in text:
        raise ConfigError("the sas is a whole URL", hint="give what follows the '?' alone")
    sas = text.strip().removeprefix("?")
    if not sas:
        raise ConfigError("the sas is empty", hint=_WHOLE_HINT)
    if not re.fullmatch(r"[A-Za-z0-9%&=+/:.,~_$!*()@;-]+", sas):
        raise ConfigError(
            "the sas has a quote, a space, a '#' or another character that none has",
            hint=f"{_WHOLE_HINT}, without quotes and a byte order mark",
        )
    fields = parse_qs(sas)
    if "sig" not in fields:
        raise ConfigError("the sas has no signature (sig=)", hint=_WHOLE_HINT)
    if "sp" not in fields and "si" not in fields:
        raise ConfigError("the sas says neither rights (sp=) nor a stored policy (si=)", hint=_WHOLE_HINT)
    return sas


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

    def warnings(self, store: str, now: datetime, fixes: Fixes, *, encrypted: bool) -> Iterator[Finding]:
        """What works today and deserves a look; ``encrypted``: whether the account is asked over https."""
        fix = fixes.sas
        if self.policy:
            yield self._as_its_policy_says(store, fixes)
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

    def _as_its_policy_says(self, store: str, fixes: Fixes) -> Finding:
        """Only a reader of the container's settings can see what that is."""
        name = "".join(one if one.isprintable() else "?" for one in self.policy)
        beyond = {"its end": self.expires_at is None, "its rights": not self.permissions}
        left = (
            " and ".join(what for what, is_there in beyond.items() if is_there) or "whether it still serves"
        )
        return Finding(
            store,
            Level.WARNING,
            f"of the SAS, {left} is what the stored policy '{name}' says, which cannot be seen from here",
            "let the container's owner see that the policy gives `c` alone, and does not end soon",
            fixes.policy(name),
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
