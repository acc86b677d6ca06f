"""What the answers of Google Cloud Storage mean: one table from its words to ours, with what to do.

What decides is whether the object can have landed; when in doubt, it can. It must not raise, try
anything again or know a secret: whoever raises these errors takes secrets out of them.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.destinations.probe import PROBE_FOLDER
from exporter.errors import DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused

if TYPE_CHECKING:
    from exporter.destinations.gcs.wire import Answer

MOST_WORDS: Final = 400
NOT_ALLOWED: Final = (401, 403, 407)
EMAIL: Final = r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+"

TOKEN: Final = re.compile(r"[A-Za-z0-9_+=-]{40,}(\.[A-Za-z0-9_+=-]+)*")

RIGHT_HINT = (
    "grant roles/storage.objectCreator to the identity that writes: it creates, and cannot read, list or"
    " replace (a condition needs uniform bucket-level access)"
)
RIGHT_FIX = (
    "gcloud storage buckets add-iam-policy-binding gs://{bucket} --member={member}"
    " --role=roles/storage.objectCreator {condition}"
)
KMS_HINT = (
    "let the storage service agent of the bucket's project use the key, and see that the key is enabled and"
    " in the bucket's location"
)
KMS_FIX = (
    "gcloud kms keys add-iam-policy-binding {kms_key} --role=roles/cloudkms.cryptoKeyEncrypterDecrypter"
    ' --member="serviceAccount:service-$(gcloud storage buckets describe gs://{bucket} --raw'
    " --format='value(projectNumber)')@gs-project-accounts.iam.gserviceaccount.com\""
)
BUCKET_HINT = "create the bucket {bucket}, or correct bucket or endpoint_url"
BUCKET_FIX = "gcloud storage buckets create gs://{bucket} --uniform-bucket-level-access"
STRANGER_HINT = (
    "see what lies between here and the store, such as a proxy or a sign-in page: it answered instead"
)
TROUBLE_HINT = "nothing, unless it stays: then see the store's health, and what lies between here and it"
CONNECTION_HINT = "check endpoint_url, ca_file and the network between here and the store"


class Meaning(NamedTuple):
    """What an answer with this status, whose words have this in them, says of the object."""

    status: range
    words: str
    error: type[DeliveryError]
    hint: str = ""
    fix: str = ""


def _only(status: int) -> range:
    return range(status, status + 1)


MEANINGS: Final = (  # the first that fits
    Meaning(_only(412), "", ObjectExists),
    # Whoever may not delete is told so, instead of 412, where an object would be replaced.
    Meaning(_only(403), r"storage\.objects\.delete", ObjectExists),
    Meaning(_only(408), "", OutcomeUnknown, TROUBLE_HINT),
    Meaning(_only(429), "", OutcomeUnknown, "nothing, unless it stays: the store asks for fewer requests"),
    Meaning(_only(403), "rateLimitExceeded", OutcomeUnknown, "nothing, unless it stays"),
    Meaning(range(500, 1000), "", OutcomeUnknown, TROUBLE_HINT),
    Meaning(range(400, 404), r"cloud ?kms|cryptokeys?/", Refused, KMS_HINT, KMS_FIX),
    Meaning(
        _only(403),
        r"organization's policy|vpcServiceControls",
        Refused,
        "let the customer's VPC Service Controls perimeter admit this program's identity and address",
    ),
    Meaning(
        _only(403),
        r"billing account|accountDisabled",
        Refused,
        "have the bucket's project billed: it is suspended",
    ),
    Meaning(
        _only(403),
        r"retention ?policy",
        Refused,
        "choose a prefix without objects under retention: none of them can be replaced",
    ),
    Meaning(
        _only(403),
        r"constraints/[a-z]+\.",
        Refused,
        "write as the customer's organisation demands: it denies this",
    ),
    Meaning(_only(403), "", Refused, RIGHT_HINT, RIGHT_FIX),
    Meaning(
        _only(401),
        "",
        Refused,
        "give other credentials: the store does not accept those, which may have been revoked",
    ),
    Meaning(_only(404), "", Refused, BUCKET_HINT, BUCKET_FIX),
    Meaning(
        _only(400),
        r"crc32c|md5|checksum|hash",
        Refused,
        "look at what lies between here and the store: the bytes changed on their way",
    ),
    Meaning(
        _only(400), r"storage class", Refused, "correct storage_class: the bucket's location does not have it"
    ),
    Meaning(_only(400), r"userProject|requester pays", Refused, "turn requester pays off for the bucket"),
    Meaning(
        _only(400),
        "",
        Refused,
        "correct storage_class, kms_key, bucket or prefix: the store does not take what the settings ask for",
    ),
    Meaning(_only(413), "", Refused, "lower part_limit: the store does not take objects of this size"),
    Meaning(
        range(300, 400),
        "",
        Refused,
        "correct endpoint_url: what answers there sends on to another place, and is not followed",
    ),
)


class Place(NamedTuple):
    """What hints are about."""

    store: str
    bucket: str
    kms_key: str | None
    member: str  # whom to grant a right to, as policies write it; empty if nobody knows


def put_refused(answer: Answer, place: Place, name: str) -> DeliveryError:
    """What an answer that is no success means for the object ``name``."""
    words = words_of(answer)
    meaning = _meaning_of(answer, words)
    blanks = _blanks(place, name, words)
    message = {
        ObjectExists: f"{place.store} already has {name}",
        OutcomeUnknown: f"{place.store} did not say whether it took {name}: {words}",
        Refused: f"{place.store} refused {name}: {words}",
    }[meaning.error]
    return meaning.error(message, hint=meaning.hint.format(**blanks), fix=meaning.fix.format(**blanks))


def _meaning_of(answer: Answer, words: str) -> Meaning:
    """The first that fits; who may write is the store's to say, and no proxy's."""
    if answer.status in NOT_ALLOWED and not isinstance(answer.json().get("error"), dict):
        return Meaning(_only(answer.status), "", Refused, STRANGER_HINT)
    for meaning in MEANINGS:
        if answer.status in meaning.status and re.search(meaning.words, words, re.IGNORECASE):
            return meaning
    definite = answer.status in range(400, 500)
    return Meaning(_only(answer.status), "", Refused if definite else OutcomeUnknown, STRANGER_HINT)


def put_unanswered(error: Exception, place: Place, name: str) -> DeliveryError:
    """What it means for the object ``name`` that a request raised ``error``."""
    reason = reason_of(error)
    if _never_written(error):
        return NotSent(f"{place.store} was not asked to take {name}: {reason}", hint=CONNECTION_HINT)
    return OutcomeUnknown(f"{place.store} did not say whether it took {name}: {reason}", hint=CONNECTION_HINT)


def words_of(answer: Answer) -> str:
    """The vendor's words, on one line and not too long, with the status."""
    error = answer.json().get("error")
    if isinstance(error, dict):
        details = error.get("errors") or [{}]
        reason = details[0].get("reason", "") if isinstance(details[0], dict) else ""
        found = [error.get("status") or reason, error.get("message")]
    elif error is not None:
        found = [error, answer.json().get("error_description")]
    else:
        found = [answer.body[:MOST_WORDS].decode(errors="replace")]
    text = ": ".join(str(word) for word in found if word)
    return f"{on_one_line(text)} (HTTP {answer.status})".strip()


def on_one_line(text: str) -> str:
    """Printable, not too long, and without what looks like a token: cut off, it could not be recognised."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return TOKEN.sub("***", line)[:MOST_WORDS]


def reason_of(error: BaseException) -> str:
    """Why there was no answer, as the innermost cause says it: the outer ones quote whole addresses."""
    inner: BaseException | None = error
    while inner is not None:
        error = inner
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((one for one in reversed(error.args) if isinstance(one, BaseException)), None)
    return on_one_line(getattr(error, "strerror", None) or str(error)) or type(error).__name__


def _never_written(error: Exception) -> bool:
    """Whether the request could not even be put into words."""
    from requests import exceptions

    before = (
        exceptions.InvalidURL,
        exceptions.InvalidHeader,
        exceptions.MissingSchema,
        exceptions.InvalidSchema,
        UnicodeError,
    )
    return isinstance(error, before)


def _blanks(place: Place, name: str, words: str) -> dict[str, str]:
    said = re.search(rf"(?:^|\s)({EMAIL}|principal(?:Set)?://[\w./-]+) does not have", words)
    member = _member(said[1]) if said else place.member or "serviceAccount:EMAIL"
    return {
        "bucket": place.bucket,
        "member": member,
        "condition": _condition(place.bucket, _prefix_of(name)),
        "kms_key": place.kms_key or "KEY",
    }


def _member(who: str) -> str:
    return who if who.startswith("principal") else f"serviceAccount:{who}"


def _condition(bucket: str, prefix: str) -> str:
    """As narrow as the prefix, written for gcloud and for a shell."""
    if not prefix:
        return "--condition=None"
    inside = f"resource.name.startsWith({json.dumps(f'projects/_/buckets/{bucket}/objects/{prefix}')})"
    between = next(one for one in ",;|~^" if one not in inside)
    marked = "" if between == "," else f"^{between}^"  # gcloud's way to have commas in a value
    return shlex.quote(f"--condition={marked}expression={inside}{between}title=audit-exporter")


def _prefix_of(name: str) -> str:
    """What the names of all objects of a destination begin with, be it a record's name or a probe's."""
    parts = name.split("/")
    behind = 2 if PROBE_FOLDER in parts[-2:] else 3  # audit/ACCOUNT/FILE
    return "".join(f"{part}/" for part in parts[:-behind])
