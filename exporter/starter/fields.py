"""What a field of an audit log is for: told by its name, and by the shape of its value.

``NAMES`` is the vocabulary. A name alone is not enough: an address has to be one, a time has to be
readable. Pure; must not read files, and must not choose between two fields: ``records`` does.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Names as `_normal` writes them, the most telling first. `*` stands for any part of one name, `**` for
# any part of the path. A field of something else in the record (a repository's creation time, a
# target's address) is not the record's own and has no place here.
NAMES: Mapping[str, str] = {
    "created_at": """
        eventtime timestamp time createdat published datecreate occurredat eventtimestamp datetime
        creationtime createdtime datecreated createddate created activitydatetime eventdate date ts
        timegenerated loggedat requestreceivedtimestamp *eventtime *timestamp
        """,
    "actor_email": """
        actor.email actor.alternateid actor.user.email actoremail actor user.email useremail
        useridentity.username useridentity.arn authenticationinfo.principalemail
        initiatedby.user.userprincipalname userprincipalname actor.login actor.username actor.name
        actor.displayname actor.user.name actorname actorid actor.id actor.user.id user.username
        user.login user.name user.id username userid user email principal caller authorname
        sender.email pusher.email sender.login pusher.name adminemail useridentity.invokedby
        """,
    "action": """
        action eventname eventtype operationname operation methodname activity activitydisplayname
        activitytype actiontype event verb name type
        """,
    "target_id": """
        target.id targetid entity.id entity.*.id entityid resource.id resources.id resources.arn
        resourceid resourcename resource object.id objectid objectref.name targetresources.id
        target.alternateid target.displayname target.name target repo repository.fullname repository
        repo.name requestparameters.bucketname requestparameters.*arn requestparameters.**id
        parameters.docid parameters.*id parameters.*email parameters.*emailaddress parameters.*name
        entitypath org organization
        """,
    "summary": "summary description displaymessage message msg reason outcome.reason",
    "ip_address": """
        sourceipaddress ipaddress clientip client.ipaddress client.ip actorip sourceip source.ip
        requestmetadata.callerip calleripaddress callerip remoteip remoteaddr clientipaddress srcip
        userip ip sourceips actor.ipaddress actor.ip initiatedby.**.ipaddress **.client.ipaddress
        **.clientip request.**.ip **.source.ip
        """,
}
"""For each column, the paths that may feed it."""

# Around a record's own fields, not a thing with fields of its own.
ENVELOPES = frozenset(
    {"attributes", "audit", "body", "context", "data", "detail", "details", "event", "events", "header", "id"}
    | {"log", "meta", "metadata", "payload", "properties", "protopayload", "record", "records"}
)
MAX_DEPTH = 8

ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?"
    r"(?P<zone> ?(?:[Zz]|UTC|GMT)| ?(?P<sign>[+-])(?P<hours>[01]\d|2[0-3])(?::?(?P<minutes>[0-5]\d))?)?",
    re.ASCII,
)
EPOCH_NUMBER = re.compile(r"\d{1,20}(?:\.\d{1,20})?(?:[eE]\+?\d{1,2})?", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Nobody kept audit logs in 1973: year 1, epoch 0 and the like say that there is no time. The powers
# of ten also tell the units of a number apart, from 1973 to the year 5138.
FIRST_SECOND = 10**8
END_SECOND = 253_402_300_800  # the year 10000, which no four digits hold
UNITS = (
    (10**11, 10**9),
    (10**14, 10**6),
    (10**17, 10**3),
    (10**20, 1),
)  # below the first: times the second, in ns
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def leaves(record: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a record by their paths; of a list its first element alone."""
    found: dict[str, str] = {}
    pending: list[tuple[str, Any, int]] = [("", record, 0)]
    while pending:
        path, value, depth = pending.pop()
        if isinstance(value, str):
            found[path] = value
        elif isinstance(value, dict) and depth < MAX_DEPTH:
            pending.extend(
                (f"{path}.{key}" if path else key, inner, depth + 1) for key, inner in value.items()
            )
        elif isinstance(value, list) and value and depth < MAX_DEPTH:
            pending.append((f"{path}[0]", value[0], depth + 1))
    return found


@lru_cache(maxsize=4096)
def names(path: str) -> Mapping[str, float]:
    """The columns that a path may feed, each with how well the name fits, at most 1."""
    normal = _normal(path)
    ranks = ((column, _rank(patterns, normal)) for column, patterns in _PATTERNS.items())
    return {column: 0.9**rank for column, rank in ranks if rank is not None}


def shape(text: str) -> str | None:
    """The column that a value is for whatever its name: a date with a clock, an e-mail or IP address."""
    text = text.strip()
    if ISO.fullmatch(text) and instant(text):
        return "created_at"
    if EMAIL.fullmatch(text):
        return "actor_email"
    return "ip_address" if _address(text) else None


def read(column: str, text: str) -> tuple[str, float] | None:
    """A field's value as its column keeps it, with how well its shape fits; None if it does not."""
    text = text.strip()
    return _SHAPES[column](storable(text)) if text else None


def storable(text: str) -> str:
    r"""A text that UTF-8 can hold: half of a surrogate pair stays as the ``\udXXX`` it was written as."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def instant(text: str) -> str | None:
    """A time as canonical UTC text, or None. Takes ISO 8601 and seconds to nanoseconds since 1970.

    Six digits after the point, nine if there is anything in them; no offset means UTC.
    """
    nanoseconds = _from_iso(text)
    if nanoseconds is None:
        nanoseconds = _from_number(text)
    if nanoseconds is None or not FIRST_SECOND <= nanoseconds // 10**9 < END_SECOND:
        return None
    seconds, fraction = divmod(nanoseconds, 10**9)
    digits = f"{fraction:09d}".removesuffix("000")
    return f"{EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{digits}Z"


def is_zoneless(text: str) -> bool:
    """Whether a time is written as a date and a clock without saying in which zone."""
    match = ISO.fullmatch(text.strip())
    return match is not None and match["zone"] is None


def _from_iso(text: str) -> int | None:
    match = ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(group) for group in match.groups()[:6])
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    ahead = timedelta(hours=int(match["hours"] or 0), minutes=int(match["minutes"] or 0))
    seconds = (local - EPOCH + (ahead if match["sign"] == "-" else -ahead)) // timedelta(seconds=1)
    return seconds * 10**9 + int((match[7] or "").ljust(9, "0"))


def _from_number(text: str) -> int | None:
    if not EPOCH_NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    return next((int(number * factor) for limit, factor in UNITS if number < limit), None)


def _time(text: str) -> tuple[str, float] | None:
    time = instant(text)
    return None if time is None else (time, 1.0)


def _address(text: str) -> tuple[str, float] | None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return None
    return text, 1.0


def _actor(text: str) -> tuple[str, float]:
    return text, 1.0 if EMAIL.fullmatch(text) else 0.5


def _action(text: str) -> tuple[str, float]:
    return text, 0.5 if any(character.isspace() for character in text) else 1.0


def _any_text(text: str) -> tuple[str, float]:
    return text, 1.0


def _normal(path: str) -> str:
    """A path without spelling: lower case, no separators inside names, no indexes, no envelopes."""
    steps = [re.sub(r"\[0\]|[^a-z0-9]", "", step) for step in path.lower().split(".")]
    while len(steps) > 1 and steps[0] in ENVELOPES:
        del steps[0]
    return ".".join(steps)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^.]*"))


def _rank(patterns: tuple[re.Pattern[str], ...], normal: str) -> int | None:
    return next((rank for rank, pattern in enumerate(patterns) if pattern.fullmatch(normal)), None)


_PATTERNS = {column: tuple(map(_compiled, patterns.split())) for column, patterns in NAMES.items()}
_SHAPES: Mapping[str, Callable[[str], tuple[str, float] | None]] = {
    "created_at": _time,
    "actor_email": _actor,
    "action": _action,
    "target_id": _any_text,
    "summary": _any_text,
    "ip_address": _address,
}
