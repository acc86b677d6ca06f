"""Names that say that what stands beside them is a secret: `newPassword`, `X-Api-Key`, `webhook_secret`.

It knows names and what their values have to look like, and no text around them. It must not take a name for a
secret's that only sounds like one (`NextToken`, `sort_key`, `password_changed`).
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import Final

MASK: Final = "[masked]"
LONGEST: Final = 64
"""So many characters at a name's end decide; no name of a secret needs more."""

ENDINGS: Final = (
    *("token", "secret", "password", "passwd", "passphrase", "pwd", "key", "signature", "sig"),
    *("authorization", "cookie"),
)
"""What the names of secrets end in, in lower case."""

SCHEMES: Final = (
    "(?:bearer|basic|splunk|token|apikey|api-key|digest|negotiate|oauth|hawk|signature|aws4-hmac-sha256)"
)
"""What stands before the credentials in a header, as a pattern."""


class Kind(Enum):
    """What of a name's values is a secret."""

    PLAIN = "whatever it is"
    SIGNATURE = "what no word looks like"
    LONG = "what is as long as a key"
    AUTHORIZATION = "what is not plain words"
    COOKIE = "names and values"


_OF_TOKENS = (
    "access|refresh|id|auth|api|bearer|session|security|oauth2?|csrf|xsrf|reset|verification|confirmation"
    "|activation|invite|invitation|login|device|deploy|deployment|webhook|signing|secret|private|bot|user|app"
    "|client|service|registration|runner|scim|sso|mfa|otp|magic|remember(?:_me)?"
)
_OF_KEYS = "api|secret|access|private|signing|encryption|master|subscription"
_KINDS: Final = (
    (re.compile(".*(?:password|passwd|passphrase|pwd|secret)", re.DOTALL), Kind.PLAIN),
    (re.compile(f"(?:x_)?token|(?:.*_)?x?(?:{_OF_TOKENS})_?token", re.DOTALL), Kind.PLAIN),
    (re.compile(f"(?:.*_)?(?:x|aws)?(?:{_OF_KEYS})_?key", re.DOTALL), Kind.PLAIN),
    (re.compile("(?:.*_)?account_?key", re.DOTALL), Kind.LONG),
    (re.compile("sig|signature|x_(?:amz|goog)_signature"), Kind.SIGNATURE),
    (re.compile("(?:.*_)?authorization", re.DOTALL), Kind.AUTHORIZATION),
    (re.compile("(?:set_)?cookie"), Kind.COOKIE),
)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_NO_SECRETS: Final = frozenset(("", MASK, "true", "false", "null", "none", "yes", "no", "on", "off"))
_SIGNATURE: Final = re.compile(r"(?=[^0-9]*[0-9])\S{6,}|\S{20,}")
_LONG: Final = re.compile(r"\S{16,}")
_PROSE: Final = re.compile(
    rf"(?:(?i:{SCHEMES})\s++[A-Za-z]?[a-z]{{2,7}}|[A-Za-z]?[a-z]{{2,15}})(?:\s[a-z]{{1,15}})*+"
)


@lru_cache(maxsize=4096)
def _kind_of(name: str) -> Kind | None:
    if not name.lower().endswith(ENDINGS):
        return None
    plain = _HUMP.sub("_", name).replace("-", "_").lower().lstrip("_")
    return next((kind for form, kind in _KINDS if form.fullmatch(plain)), None)


def kind_of(name: str) -> Kind | None:
    """What of its values is a secret; None for a name that says nothing of the kind."""
    return _kind_of(name[-LONGEST:])


def is_secret(value: str, kind: Kind) -> bool:
    """Whether a value of such a name is one, and not masked yet."""
    if value.lower() in _NO_SECRETS:
        return False
    if kind is Kind.SIGNATURE:
        return _SIGNATURE.fullmatch(value) is not None
    if kind is Kind.LONG:
        return _LONG.fullmatch(value) is not None
    if kind is Kind.AUTHORIZATION:
        return not _is_harmless(value)
    return kind is Kind.PLAIN or "=" in value


def _is_harmless(value: str) -> bool:
    """`granted`, `Basic plan`, and credentials that are masked already."""
    return value.endswith(f" {MASK}") or _PROSE.fullmatch(value) is not None
