"""Why a certificate is not trusted, in words for a person: by whom it is signed, until when, for which names.

It must not decide about trust: OpenSSL did, and this says what it meant. The texts of a certificate are
whatever a stranger wrote there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from exporter.errors import NotSent

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from cryptography.x509 import Certificate, Name

LONGEST_TEXT: Final = 80
MOST_NAMES: Final = 5
OTHER_HINT: Final = "let whoever runs the host replace the certificate"


class Verdict(IntEnum):
    """What OpenSSL has against a certificate (x509_vfy.h)."""

    NO_ISSUER = 2
    BAD_SIGNATURE = 7  # by an authority of the same name, such as one with a new key
    NOT_YET_VALID = 9
    EXPIRED = 10
    SELF_SIGNED = 18
    SELF_SIGNED_IN_CHAIN = 19
    NO_LOCAL_ISSUER = 20
    NO_CHAIN = 21
    WRONG_NAME = 62
    WRONG_ADDRESS = 64


def untrusted(
    error: ssl.SSLCertVerificationError, certificate: Certificate | None, host: str, *, has_ca_file: bool
) -> NotSent:
    """The error in words. Without the certificate, in OpenSSL's."""
    code = error.verify_code
    if certificate is not None and code in (Verdict.EXPIRED, Verdict.NOT_YET_VALID):
        return _out_of_date(certificate, host)
    if certificate is not None and code in (Verdict.WRONG_NAME, Verdict.WRONG_ADDRESS):
        return _for_others(certificate, host)
    if certificate is not None and code in set(Verdict):
        return _of_a_stranger(certificate, host, has_ca_file=has_ca_file)
    return NotSent(f"the certificate of {host} is not trusted: {error.verify_message}", hint=OTHER_HINT)


def _out_of_date(certificate: Certificate, host: str) -> NotSent:
    now = datetime.now(UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end < now:
        said = f"the certificate of {host} expired on {end:%Y-%m-%d %H:%M} UTC"
    elif begin > now:
        said = f"the certificate of {host} is valid only from {begin:%Y-%m-%d %H:%M} UTC on"
    else:
        said = f"a certificate that the one of {host} depends on is out of date"
    return NotSent(
        said,
        hint="let whoever runs the host renew it; if it is not out of date, this machine's clock is wrong:"
        f" it says {now:%Y-%m-%d %H:%M} UTC",
    )


def _for_others(certificate: Certificate, host: str) -> NotSent:
    names = _names(certificate)
    shown = ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")
    return NotSent(
        f"the certificate is for {shown or 'no name at all'}, not for {host}",
        hint=f"use a name that the certificate is for, or let it be made for {host} too",
    )


def _of_a_stranger(certificate: Certificate, host: str, *, has_ca_file: bool) -> NotSent:
    signer = _signer(certificate.issuer)
    nobody = "neither this machine nor ca_file trusts" if has_ca_file else "this machine does not trust"
    return NotSent(
        f"the certificate of {host} is signed by '{signer}', which {nobody}",
        hint=f"set ca_file to a file with the certificate of '{signer}'; if that is a public authority,"
        " let the server send its whole chain",
    )


def _signer(name: Name) -> str:
    from cryptography.x509.oid import NameOID

    for part in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(part):
            return _shown(str(attribute.value))
    return _shown(name.rfc4514_string())


def _names(certificate: Certificate) -> Sequence[str]:
    from cryptography.x509 import DNSName, ExtensionNotFound, IPAddress, SubjectAlternativeName

    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, ValueError):  # ValueError: an extension that cannot be read
        return []
    return [_shown(str(name.value)) for name in names if isinstance(name, DNSName | IPAddress)]


def _shown(text: str) -> str:
    """Nothing of a stranger's text moves the cursor, or fills the screen."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return printable if len(printable) <= LONGEST_TEXT else f"{printable[:LONGEST_TEXT]}…"
