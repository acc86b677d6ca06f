"""What it means that Google gave no token: one table from its words to what a person does about it.

Without a token no request is sent, so all of it is NotSent. It must not know a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from exporter.destinations.gcs.errors import EMAIL, on_one_line, reason_of
from exporter.destinations.gcs.tokens import TokenRefused
from exporter.errors import NotSent

if TYPE_CHECKING:
    from collections.abc import Mapping

CREDENTIALS_HINT: Final = (
    "give credentials, or run where Google gives them (workload identity, a service account on the machine,"
    " GOOGLE_APPLICATION_CREDENTIALS)"
)
GIVEN_HINT: Final = (
    "see what lies between here and {host}, and that the credentials are still the customer's own"
)


class Cause(NamedTuple):
    """What words of a token service mean, and what mends it."""

    words: str
    hint: str
    fix: str = ""


CAUSES: Final = (  # the first that fits
    Cause(
        r"short-lived token|reasonable timeframe|iat and exp|issued in the future",
        "set this machine's clock: it differs from Google's",
    ),
    Cause(
        r"Invalid JWT Signature|No key could be detected|Could not deserialize|load PEM|no RSA key",
        "give a new key file: this key was deleted, or is not whole",
        "gcloud iam service-accounts keys create key.json --iam-account={account}",
    ),
    Cause(
        r"SERVICE_DISABLED|has not been used in project",
        "enable the API with which other service accounts are impersonated, in the project of the identity",
        "gcloud services enable iamcredentials.googleapis.com",
    ),
    Cause(
        r"account_disabled|account.* disabled|disabled.* account",
        "enable the service account",
        "gcloud iam service-accounts enable {account}",
    ),
    Cause(r"account not found|Invalid grant: account", "give a new key file: its service account is gone"),
    Cause(
        r"getAccessToken|PERMISSION_DENIED|Unable to acquire impersonated",
        "let the identity before it impersonate {account}{subject}",
        "gcloud iam service-accounts add-iam-policy-binding {account} --member={member} --role={role}",
    ),
    Cause(
        r"attribute condition|unauthorized_client|attribute mapping|mapped attribute",
        "let the provider's attribute condition and mapping accept this program's token",
        "gcloud iam workload-identity-pools providers describe {provider}",
    ),
    Cause(
        r"audience|invalid_target|issuer",
        "let audience and issuer of the token be those that the provider expects, and see that pool and"
        " provider are enabled",
        "gcloud iam workload-identity-pools providers describe {provider}",
    ),
    Cause(
        r"was not found|subject_token|stale to sign-in|expired|No such file"
        r"|Permission denied|Is a directory|^utf-8$",
        "see that subject_token_file holds a fresh token, as the file's credential_source.format says",
    ),
    Cause(
        r"default credentials were not found|metadata|Compute Engine",
        CREDENTIALS_HINT,
    ),
    Cause(r"invalid_grant|invalid_client", "give a new credential file: Google does not accept this one"),
)


def token_refused(error: Exception, bucket: str, info: Mapping[str, Any] | None, account: str) -> NotSent:
    """The error for a put that has no token. ``account`` is the last of the identities on the way."""
    words = _words(error)
    blanks = _blanks(info or {}, account)
    cause = next((one for one in CAUSES if re.search(one.words, words, re.IGNORECASE)), None)
    if cause is None:
        cause = Cause("", CREDENTIALS_HINT if info is None else GIVEN_HINT)
        if info is not None and not _is_said(error):
            words = f"{blanks['host']} answered something that is no token"
    return NotSent(
        f"no access to bucket '{bucket}': {words}",
        hint=cause.hint.format(**blanks),
        fix=cause.fix.format(**blanks),
    )


def _is_said(error: Exception) -> bool:
    """Whether its words are a token service's, or google-auth's; else Python met what it did not expect."""
    from google.auth.exceptions import GoogleAuthError

    return isinstance(error, TokenRefused | GoogleAuthError)


def _words(error: Exception) -> str:
    """What was said, on one line: the first text among what the error carries, which is the summary."""
    text = next((one for one in error.args if isinstance(one, str) and one), None) or reason_of(error)
    return on_one_line(text)


def _blanks(info: Mapping[str, Any], account: str) -> dict[str, str]:
    """What statements are about; what a customer's file says has a form that is checked."""
    known = re.fullmatch(EMAIL, account)
    email = str(info.get("client_email", ""))
    pool = re.fullmatch(
        r"//iam\.googleapis\.com/((projects/[0-9]+/locations/[a-z0-9-]+/workloadIdentityPools/[a-z0-9-]+)/.+)",
        str(info.get("audience", "")),
    )
    # Who comes out of the provider's mapping is not known here, and all of the pool would be too many.
    principal = f"principal://iam.googleapis.com/{pool[2]}/subject/SUBJECT" if pool else ""
    return {
        "host": urlsplit(str(info.get("token_uri") or info.get("token_url") or "")).hostname or "Google",
        "subject": "; SUBJECT is what the provider makes of its token (google.subject)" if pool else "",
        "account": account if known else "EMAIL",
        "provider": pool[1] if pool else "PROVIDER",
        "member": principal or f"serviceAccount:{email if re.fullmatch(EMAIL, email) else 'EMAIL'}",
        "role": "roles/iam.workloadIdentityUser" if principal else "roles/iam.serviceAccountTokenCreator",
    }
