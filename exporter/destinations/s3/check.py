"""What `check` finds out about a bucket: whether a delivery would succeed, why not, and what is too much.

The probe is written with the headers of production and the right to write alone. Everything else is asked
for to be refused: what succeeds is a right that nobody needs, and a warning. It must not write anywhere
but beside the probe, nor take for granted what no answer proved.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from exporter.destinations.probe import probe_package, prove_create_only, unwatched
from exporter.destinations.s3 import policies
from exporter.destinations.s3.advice import text_in
from exporter.destinations.s3.causes import (
    CLOCK_FIX,
    CLOCK_HINT,
    Case,
    account_of,
    answer_to,
    clock_words,
    explained,
)
from exporter.destinations.s3.errors import sdk_errors
from exporter.errors import DeliveryError
from exporter.interfaces import ObjectStore
from exporter.model import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from exporter.destinations.s3.access import Access
    from exporter.destinations.s3.settings import S3Settings
    from exporter.model import Package, Receipt
    from exporter.network.guard import Guard


class Store(ObjectStore, Protocol):
    """A bucket, with what can be asked of its large objects."""

    def completes_once(self, probe: str) -> bool:
        """Whether it refuses to complete an upload in parts on a name that is taken. Raises NotSent."""
        ...

    def in_parts(self) -> ObjectStore:
        """The same bucket, written in parts whatever the size."""
        ...


def check(store: Store, access: Access, settings: S3Settings, guard: Guard, probe: str) -> list[Finding]:
    """What there is to say of the bucket; an error is among it if a delivery would not succeed."""
    witness = _Witness(store)
    found = prove_create_only(witness, probe)
    case = Case(settings, access, guard, probe)
    if found[-1].level is not Level.ERROR:
        about_whose = _whose(case, store.name)
        return [
            *found,
            *about_whose,
            *_parts(case, store),
            *_large(case, store),
            *_warnings(case, store.name),
        ]
    if witness.error is not None:
        found[-1] = explained(found[-1], witness.error, case)
    return found


class _Witness:
    """The store, and the error of its last put: what is behind it says more than its words."""

    def __init__(self, store: Store) -> None:
        self.name = store.name
        self.error: DeliveryError | None = None
        self._store = store

    def put(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """What the store does."""
        self.error = None
        try:
            return self._store.put(package, progress)
        except DeliveryError as error:
            self.error = error
            raise

    def check(self, probe: str) -> list[Finding]:
        """The probe alone."""
        return prove_create_only(self, probe)


def _parts(case: Case, store: Store) -> Iterator[Finding]:
    """Whether large objects are as safe as small ones, where that is not known of the store."""
    if case.settings.is_aws:
        return
    try:
        if store.completes_once(case.probe):
            return
    except DeliveryError as error:
        yield Finding(store.name, Level.WARNING, error.message, error.hint, error.fix)
        return
    yield Finding(
        store.name,
        Level.WARNING,
        "uploads in parts are not safe here: the store has none, or lets their completion replace an object",
        "nothing has to be done: each archive goes in one piece, and part_limit keeps it below 5,000 MiB",
    )


def _large(case: Case, store: Store) -> Iterator[Finding]:
    """Whether large objects can be written: a key is asked for more when parts are put together.

    On Amazon's S3 in any case, because a bucket can have a key of its own. The object stays where there is
    no right to delete it.
    """
    if not (case.settings.is_aws or case.settings.sse == "aws:kms"):
        return
    name = f"{case.probe}-parts"
    try:
        store.in_parts().put(probe_package(name), unwatched)
    except DeliveryError as error:
        message = f"small objects can be written, and large ones cannot: {error.message}"
        yield explained(Finding(store.name, Level.ERROR, message, error.hint, error.fix), error, case)
    else:
        answer_to(lambda client: client.delete_object(**{**case.place, "Key": name}), case)


def _whose(case: Case, subject: str) -> Iterator[Finding]:
    """What other stores than Amazon's make of whose the bucket is, and whose the objects in it are."""
    settings = case.settings
    if settings.is_aws:
        return
    if settings.bucket_owner and _ignores_owner(case, settings.bucket_owner):
        yield Finding(
            subject,
            Level.WARNING,
            "the store does not look at bucket_owner: it takes what is written, whoever owns the bucket",
            "leave bucket_owner out, and have whoever runs the store say whose the bucket is",
        )
    if settings.acl is None and case.has_acls and not case.is_own_bucket:
        yield Finding(
            subject,
            Level.WARNING,
            "if the bucket is another user's, its owner may not be able to read what is written here",
            "set acl: bucket-owner-full-control; nothing has to be done where the store knows no ACLs",
            "acl: bucket-owner-full-control",
        )


def _ignores_owner(case: Case, owner: str) -> bool:
    """Whether a put is refused for the name that is taken alone, whichever account must own the bucket."""
    another = "0" * 12 if owner != "0" * 12 else "1" * 12
    again = {"Bucket": case.settings.bucket, "Key": case.probe, "Body": b"", "IfNoneMatch": "*"}
    answer = answer_to(lambda client: client.put_object(**again, ExpectedBucketOwner=another), case)
    return text_in(answer.get("Error", {}), "Code") == "PreconditionFailed"


def _warnings(case: Case, subject: str) -> Iterator[Finding]:
    answers = _ask_for_more(case)
    granted = [right for right, answer in answers.items() if "Error" not in answer]
    if granted:
        yield _too_much(case, subject, granted)
    words = next(filter(None, map(clock_words, answers.values())), "")
    if words:
        yield Finding(subject, Level.WARNING, words, CLOCK_HINT, CLOCK_FIX)
    yield from _loose_trust(case, subject)


def _too_much(case: Case, subject: str, granted: Sequence[str]) -> Finding:
    own = policies.of_writer(case.settings, case.probe, case.writer)
    fix = policies.text_of(own)
    if case.settings.is_aws or not case.is_own_bucket:
        hint = "take them away: this program only ever creates objects; this is all that it needs"
    else:
        fix = policies.text_of(own, policies.of_bucket(case.settings, case.probe, case.writer))
        hint = "use another user, who has only this: no policy narrows the keys of a bucket's owner, or of a"
        hint += " store's root; this is all that is needed, as the one or the other"
    return Finding(
        subject,
        Level.WARNING,
        f"{policies.named(case.writer)} has more rights here than it needs: {', '.join(granted)}",
        hint + case.notes_on(fix),
        fix,
    )


def _ask_for_more(case: Case) -> Mapping[str, Mapping[str, Any]]:
    """What the store answers, by right, to requests that a right to write alone does not allow.

    The last of them removes the probe where that is allowed. What has no answer is left out.
    """
    probe = {**case.place, "Key": case.probe}
    listing = {**case.place, "Prefix": policies.prefix_of(case.probe), "MaxKeys": 1}
    reading = {"s3:GetObject": lambda client: _read(client.get_object(**probe))}
    requests: dict[str, Callable[[Any], Mapping[str, Any]]] = {
        # Elsewhere, what somebody wrote is often theirs, and theirs to read.
        **(reading if case.settings.is_aws else {}),
        "s3:ListBucket": lambda client: client.list_objects_v2(**listing),
        "s3:DeleteObject": lambda client: client.delete_object(**probe),
    }
    answers = {right: answer_to(ask, case) for right, ask in requests.items()}
    return {right: answer for right, answer in answers.items() if answer}


def _read(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    answer["Body"].close()  # unread, and with its connection: nobody knows how long it is
    return answer


def _loose_trust(case: Case, subject: str) -> Iterator[Finding]:
    """Whether others than this export could have the customer's role assumed."""
    role = case.settings.role_arn
    if role is None:
        return
    if case.settings.external_id is None:
        if account_of(case.caller) in ("", account_of(role)):  # unknown, or the vendor's own
            return
        message = f"{role} is another account's, and no external_id protects it"
        hint = (
            "choose an external id that no other customer has, set external_id to it, and have the customer"
        )
    elif _assumable_without_id(role, case):
        message = f"{role} can also be assumed without the external id"
        hint = "whoever knows the role's name could have you write there in their name: have the customer"
    else:
        return
    hint += f" demand it in the role's trust policy, where {policies.EXTERNAL_ID} stands for it here"
    trust = policies.of_trust(role, case.caller or policies.nobody(case.settings), external_id=True)
    fix = policies.text_of(trust)
    yield Finding(subject, Level.WARNING, message, hint + policies.what_stands_for(fix), fix)


def _assumable_without_id(role: str, case: Case) -> bool:
    with suppress(DeliveryError, *sdk_errors()):
        case.access.assume(role, case.access.caller_keys())
        return True
    return False
