"""What a plain script writes for each record, so that it says the same as ours in `standard` and `ocsf`.

Written by hand from the formats' documentation, for the actions of the benchmark's data alone: a lookup by
action, and no masking of secrets, which ours does besides. Rows are in the order of ``data.COLUMNS``, with
times as text or as datetimes.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from typing import Any, Final

KEY: Final = "a key of the benchmark, which protects nothing"
FILTERED: Final = "campaign."
"""Records whose action begins so are left out."""

_LABEL: Final = b"audit-exporter pseudonyms\0"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OTHER: Final = 99

# action: class, category, activity, and where the record's target goes
_CLASSES: Final[dict[str, tuple[int, int, int, str]]] = {
    "login": (3002, 3, 1, "service"),
    "export.started": (6003, 6, 2, "resources"),
    "role.granted": (3005, 3, 1, "user"),
    "api_key.created": (3004, 3, 1, "entity"),
    "user.left": (6003, 6, 99, "resources"),
}
_keys: dict[str, bytes] = {}


def _time(value: Any) -> datetime:  # noqa: ANN401 - whatever the driver gave
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _pseudonym(account: str, text: str) -> str:
    key = _keys.get(account)
    if key is None:
        key = _keys[account] = hmac.digest(KEY.encode(), _LABEL + account.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256")[:16].hex()


def standard(row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row of any driver
    """The mission's six fields and the event's id."""
    number, time, _account, email, action, target, summary, address = row[:8]
    return {
        "Date": f"{_time(time):%Y-%m-%dT%H:%M:%S.%fZ}",
        "Email": email,
        "Action": action,
        "Action ID": target,
        "Description": summary,
        "IP Address": None if address is None else str(address),
        "Event ID": str(number),
    }


def ocsf(row: Any) -> dict[str, Any] | None:  # noqa: ANN401 - a row of any driver
    """An OCSF event, with the person as a pseudonym; None for a record that the filter leaves out."""
    number, time, account, email, action, target, summary, address = row[:8]
    if action.startswith(FILTERED):
        return None
    kind, category, activity, place = _CLASSES[action]
    moment = _time(time)
    person = {"name": _pseudonym(account, email)}
    event: dict[str, Any] = {
        "class_uid": kind,
        "category_uid": category,
        "activity_id": activity,
        "type_uid": kind * 100 + activity,
        "time": _epoch_ms(moment),
        "severity_id": 1,
        "message": summary,
        "metadata": {
            "version": "1.8.0",
            "product": {"name": "audit-exporter", "vendor_name": "audit-exporter"},
            "tenant_uid": account,
            "uid": str(number),
            "original_time": f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}",
        },
        "actor": {"user": person},
        "src_endpoint": {"ip": str(address), "name": str(address)},
    }
    if activity == _OTHER:
        event["activity_name"] = action
    event.update(_PLACES[place](target, action, person, summary))
    return event


def _epoch_ms(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _service(_target: str | None, _action: str, person: dict[str, str], _summary: str) -> dict[str, Any]:
    return {"user": person, "service": {"name": "audit-exporter"}}


def _user(target: str | None, _action: str, person: dict[str, str], summary: str) -> dict[str, Any]:
    return {"user": {"uid": target} if target else person, "privileges": [summary]}


def _entity(target: str | None, action: str, _person: dict[str, str], _summary: str) -> dict[str, Any]:
    return {"entity": {"uid": target} if target else {"name": action}}


def _resources(target: str | None, action: str, _person: dict[str, str], _summary: str) -> dict[str, Any]:
    operation = {"api": {"operation": action}}
    return operation | {"resources": [{"uid": target}]} if target else operation


_PLACES: Final = {"service": _service, "user": _user, "entity": _entity, "resources": _resources}
