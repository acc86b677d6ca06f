"""Whether what S3 says of an object agrees with what was sent: checksum and encryption.

An answer that contradicts is Refused although something landed: the next attempt then finds an object
that is not ours and stops the export, and nobody takes it for delivered. OutcomeUnknown would have the
next attempt find our own object, and be satisfied. It must not ask the store.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from exporter.errors import OutcomeUnknown, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.destinations.s3.settings import S3Settings

LANDED_HINT = "look at {name} in the bucket and keep or delete it, then `resume`: nothing replaces it"
ENCRYPTION_HINT = (
    "use a store that knows `encryption: {asked}`, or leave it out and set the bucket's own default"
)
BETWEEN_HINT = "look at what lies between here and the store, and whether endpoint_url is its S3"


class NotEncrypted(Refused):
    """The store does not encrypt as asked."""


def whole_checksum(sha256: bytes) -> set[str]:
    """What an answer may have as the checksum of an object put at once."""
    return {encoded(sha256)}


def checksum_of_parts(parts: Sequence[bytes], sha256: bytes) -> set[str]:
    """What an answer may have as the checksum of an object put in these parts."""
    over_all = encoded(hashlib.sha256(b"".join(parts)).digest())
    return {f"{over_all}-{len(parts)}", over_all, encoded(sha256)}  # Amazon's, and what others make of it


def encoded(checksum: bytes) -> str:
    """The checksum as S3 writes it."""
    return base64.b64encode(checksum).decode()


def check_has(answer: Mapping[str, Any], wanted: set[str], settings: S3Settings, name: str) -> None:
    """Raise OutcomeUnknown for a success with none of these: S3 did not write it, but some box on the way."""
    if not answer.keys() & wanted:
        raise OutcomeUnknown(
            f"{settings.store_name} did not say whether it took {name}: its answer is not one of S3",
            hint=BETWEEN_HINT,
        )


def check_object(answer: Mapping[str, Any], right: set[str], settings: S3Settings, name: str) -> None:
    """Raise Refused if the answer has a checksum of the object that is not among the right ones."""
    if wrong := _wrong_checksum(answer, right):
        raise Refused(
            f"{settings.store_name} holds something else than what was sent as {name}: {wrong}",
            hint=LANDED_HINT.format(name=name),
        )


def check_part(answer: Mapping[str, Any], sha256: bytes, settings: S3Settings, name: str) -> None:
    """Raise OutcomeUnknown if the answer has another checksum of the part: it can be sent again."""
    check_has(answer, {"ETag"}, settings, name)
    if wrong := _wrong_checksum(answer, whole_checksum(sha256)):
        raise OutcomeUnknown(
            f"{settings.store_name} holds something else than what was sent as a part of {name}: {wrong}",
            hint=BETWEEN_HINT,
        )


def check_encryption(answer: Mapping[str, Any], settings: S3Settings, name: str, *, landed: bool) -> None:
    """Raise NotEncrypted unless the answer says that the encryption asked for is used."""
    told, key = answer.get("ServerSideEncryption"), answer.get("SSEKMSKeyId")
    if settings.sse in (None, told) and (settings.kms_key is None or _is_key(key, settings.kms_key)):
        return
    asked = settings.encryption or "sse-kms"
    how = " ".join(filter(None, (told, key))) or "nothing that it tells of"
    hint = ENCRYPTION_HINT.format(asked=asked)
    raise NotEncrypted(
        f"{settings.store_name} does not encrypt {name} as asked: it answers {asked} with {how}",
        hint=f"{hint}; {LANDED_HINT.format(name=name)}" if landed else hint,
    )


def _wrong_checksum(answer: Mapping[str, Any], right: set[str]) -> str:
    told = answer.get("ChecksumSHA256")
    return f"its SHA-256 is {told}, not {min(right)}" if told and told not in right else ""


def _is_key(told: str | None, asked: str) -> bool:
    """Whether these name one key; compatibles put `arn:aws:kms:` before its name, or leave it out."""
    return told is None or told.endswith(asked) or asked.endswith(told)
