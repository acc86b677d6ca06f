"""Which credential files of a customer are accepted: known kinds, with known keys and Google's own addresses.

Such a file is hostile input: the libraries that read it run programs, send files of this machine away and
ask any address, as it says. Nothing of a file that is not checked here may reach them. Errors name a key
and never its value, and are raised without their cause where that quotes the file.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exporter.network.guard import Guard

ANYTHING: Final = r"[^\x00]*"
EMAIL: Final = r"[A-Za-z0-9._-]{1,100}@[A-Za-z0-9.-]{1,200}"
KEY: Final = re.compile(r"[A-Za-z0-9_.]{1,40}")
HINT: Final = "use the file as Google made it: a service account key, or workload identity federation"
ADDRESS_HINT: Final = (
    "correct the address to Google's, or make the file anew with gcloud iam workload-identity-pools"
    " create-cred-config or gcloud iam service-accounts keys create"
)
TOKEN_FILE_HINT: Final = (
    "set subject_token_file to the file whose token it may send; the path in it is not used"  # noqa: S105 - advice
)

METADATA: Final = r"http://(169\.254\.169\.254|\[fd00:ec2::254\])/latest/"
AWS_CHECK: Final = r"https://sts\.\{region\}\.amazonaws\.com\?Action=GetCallerIdentity&Version=2011-06-15"

# What each key may be. Those of addresses are kept to even where nobody asks them today.
COMMON: Final = {"type": ANYTHING, "universe_domain": r"googleapis\.com"}
SERVICE_ACCOUNT: Final = COMMON | {
    "project_id": ANYTHING,
    "private_key_id": ANYTHING,
    "private_key": ANYTHING,
    "client_email": EMAIL,
    "client_id": ANYTHING,
    "auth_uri": r"https://accounts\.google\.com/o/oauth2/(v2/)?auth",
    "token_uri": r"https://oauth2\.googleapis\.com/token",
    "auth_provider_x509_cert_url": r"https://www\.googleapis\.com/oauth2/v1/certs",
    "client_x509_cert_url": r"https://www\.googleapis\.com/robot/v1/metadata/x509/[A-Za-z0-9._%-]+",
}
FEDERATION: Final = COMMON | {
    "audience": r"//iam\.googleapis\.com/projects/[0-9]+/locations/[a-z0-9-]+"
    r"/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+",
    "subject_token_type": r"urn:[a-z0-9:_-]+",
    "token_url": r"https://sts(\.[a-z0-9-]+\.rep)?\.googleapis\.com/v1/token",
    "token_info_url": r"https://sts(\.[a-z0-9-]+\.rep)?\.googleapis\.com/v1/introspect",
    "service_account_impersonation_url": r"https://iamcredentials\.googleapis\.com"
    rf"/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken",
}
AWS: Final = {
    "environment_id": "aws1",
    "url": METADATA + r"meta-data/iam/security-credentials/?",
    "region_url": METADATA + r"meta-data/placement/availability-zone",
    "imdsv2_session_token_url": METADATA + r"api/token",
    "regional_cred_verification_url": AWS_CHECK,
}
# Nobody is allowed to name another: what is signed for it would be good at the real one.
WITHOUT_EXCEPTION: Final = {"regional_cred_verification_url"}
NEEDED: Final = {
    "service_account": ("client_email", "private_key", "token_uri"),
    "external_account": ("audience", "subject_token_type", "token_url", "credential_source"),
}


def checked(text: str, subject_token_file: Path | None, guard: Guard) -> Mapping[str, Any]:
    """What a credential file says, if all of it is accepted: the keys that are used, and no others.

    A host that the operator allows by name may stand in for Google's. A federation file sends the token in
    ``subject_token_file`` and in no other file. Raises ConfigError.
    """
    info = _parsed(text)
    kind = info.get("type")
    if kind == "service_account":
        _check_keys(info, SERVICE_ACCOUNT, guard)
    elif kind == "external_account":
        info = _federation(info, subject_token_file, guard)
    else:
        raise ConfigError("the credentials are of a type that is not accepted", hint=HINT)
    for key in NEEDED[kind]:
        if not info.get(key):
            raise ConfigError(f"the credentials have no {key}", hint=HINT)
    return info


def _parsed(text: str) -> dict[str, Any]:
    try:
        info = json.loads(text)
    except (ValueError, RecursionError):  # not chained: it holds the text
        raise ConfigError("the credentials are no JSON", hint=HINT) from None
    if not isinstance(info, dict):
        raise ConfigError("the credentials are no JSON object", hint=HINT)
    return info


def _federation(info: dict[str, Any], subject_token_file: Path | None, guard: Guard) -> dict[str, Any]:
    """The file with the source of its token as it may be."""
    info = dict(info)
    source = info.pop("credential_source", None)
    lifetime = info.pop("service_account_impersonation", None)
    if lifetime is not None:
        _check_lifetime(lifetime)
    _check_keys(info, FEDERATION, guard)
    if not isinstance(source, dict):
        raise ConfigError("the credentials have no credential_source", hint=HINT)
    return info | {"credential_source": _source(source, subject_token_file, guard)}


def _check_lifetime(options: object) -> None:
    """What is asked for is an hour, whatever the file says: no more is given without a change of policy."""
    match options:
        case {"token_lifetime_seconds": int(), **more} if not more:
            return
    raise ConfigError("service_account_impersonation in the credentials is not accepted", hint=HINT)


def _source(source: dict[str, Any], subject_token_file: Path | None, guard: Guard) -> dict[str, Any]:
    if "environment_id" in source:
        _check_keys(source, AWS, guard, "credential_source.")
        if not source.get("url") or not source.get("regional_cred_verification_url"):
            raise ConfigError("credential_source in the credentials is not whole", hint=HINT)
        return source
    for key in source:
        if key not in ("file", "format"):
            raise ConfigError(f"the credentials are refused: {_shown(key, 'credential_source.')}", hint=HINT)
    if subject_token_file is None:
        raise ConfigError(
            "the credentials are refused: credential_source.file would send a file of this machine away",
            hint=TOKEN_FILE_HINT,
        )
    return {"file": str(subject_token_file), "format": _token_format(source.get("format"))}


def _token_format(given: object) -> dict[str, str]:
    match given:
        case None | {"type": "text"}:
            return {"type": "text"}
        case {"type": "json", "subject_token_field_name": str(name), **more} if name and not more:
            return {"type": "json", "subject_token_field_name": name}
    raise ConfigError("credential_source.format in the credentials is not accepted", hint=HINT)


def _check_keys(info: Mapping[str, Any], allowed: Mapping[str, str], guard: Guard, place: str = "") -> None:
    for key, value in info.items():
        if key not in allowed:
            raise ConfigError(f"the credentials are refused: {_shown(key, place)}", hint=HINT)
        if not isinstance(value, str):
            raise ConfigError(f"{place}{key} in the credentials must be text", hint=HINT)
        if not re.fullmatch(allowed[key], value) and not _is_stand_in(key, value, guard):
            raise ConfigError(
                f"the credentials are refused: {place}{key} is not what Google has there", hint=ADDRESS_HINT
            )


def _shown(key: str, place: str) -> str:
    """A key that somebody else chose; one that does not look like a key may be a secret in a wrong place."""
    return f"{place}{key} is not accepted" if KEY.fullmatch(key) else "a key in it is not accepted"


def _is_stand_in(key: str, url: str, guard: Guard) -> bool:
    if not key.endswith(("uri", "url")) or key in WITHOUT_EXCEPTION:
        return False
    try:
        return guard.is_named(url)
    except ConfigError:
        return False
