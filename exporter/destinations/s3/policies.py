"""What the owners of bucket, role and key write for this program to do its work and nothing more, to copy.

Statements are made from settings and names alone. It must not ask AWS anything, nor hold a secret: an
external id is a placeholder here.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.destinations.probe import PROBE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.destinations.s3.settings import S3Settings

EXTERNAL_ID = "EXTERNAL_ID"
"""Stands for the external id of an export, which is a secret."""
NOBODY = "THE_ARN_OF_THIS_PROGRAM"
"""Stands for an identity of AWS that could not be asked for."""
NO_USER = "THE_USER_OF_THIS_PROGRAM"
"""Stands for one of another store, which has no way to ask for it."""
KMS_ACTIONS = ("kms:GenerateDataKey", "kms:Decrypt")  # the second is for uploads in parts


class Document(NamedTuple):
    """A policy, or a statement to add to one, and where it belongs."""

    title: str
    body: dict[str, Any]


def text_of(*documents: Document) -> str:
    """The documents as text to copy; above each of several, a line says where it belongs."""
    if len(documents) == 1:
        return json.dumps(documents[0].body, indent=2)
    return "\n".join(f"{title}\n{json.dumps(body, indent=2)}" for title, body in documents)


def nobody(settings: S3Settings) -> str:
    """The principal of whoever could not be asked for; others than Amazon write users as Ceph does."""
    return NOBODY if settings.is_aws else f"arn:aws:iam:::user/{NO_USER}"


def named(writer: str) -> str:
    """The identity in words."""
    return "this program" if NOBODY in writer or NO_USER in writer else writer


def what_stands_for(text: str) -> str:
    """The end of a hint: what a person has to write for the names that are none, if the text has one."""
    if NOBODY in text:
        return f"; for {NOBODY} write the Arn that `aws sts get-caller-identity` says where this program runs"
    if NO_USER in text:
        return f"; for {NO_USER} write the name of the user who is to write, as the store has it"
    return ""


def prefix_of(name: str) -> str:
    """What an object's name has before the folder that this program writes: the destination's prefix."""
    parts = name.split("/")
    below = 2 if PROBE_FOLDER in parts[-2:-1] else 3  # `<folder>/<token>`, and `audit/<account>/<file>`
    return "".join(f"{part}/" for part in parts[:-below])


def objects(settings: S3Settings, name: str) -> str:
    """The ARN of all objects that are written beside ``name``."""
    prefix = prefix_of(name)
    if settings.is_aws:  # others do not know the spellings for characters that mean more in a policy
        prefix = re.sub(r"[*?]|\$(?=\{)", r"${\g<0>}", prefix)
    return f"arn:{settings.partition}:s3:::{settings.bucket}/{prefix}*"


def of_writer(settings: S3Settings, name: str, writer: str) -> Document:
    """The least that the identity which writes needs."""
    statements = [_allow(_put_actions(settings), resource=objects(settings, name))]
    if settings.kms_key:
        statements.append(_allow(KMS_ACTIONS, resource=settings.kms_key))
    return Document(f"identity policy of {named(writer)}:", _whole(*statements))


def of_bucket(settings: S3Settings, name: str, writer: str) -> Document:
    """What a bucket's policy adds, so that an identity of another account may write."""
    statement = _allow(_put_actions(settings), principal=writer, resource=objects(settings, name))
    return Document(
        f"statement to add to the list `Statement` of the bucket policy of {settings.bucket}:", statement
    )


def of_endpoint(settings: S3Settings, name: str, writer: str) -> Document:
    """What the policy of a VPC endpoint adds; one for S3 names nobody but in a condition."""
    statement = _allow(_put_actions(settings), principal=writer, resource=objects(settings, name))
    statement |= {"Principal": "*", "Condition": {"ArnEquals": {"aws:PrincipalArn": writer}}}
    return Document("statement to add to the list `Statement` of the VPC endpoint's policy:", statement)


def of_key(key: str, writer: str) -> Document:
    """What a key's policy adds; there, `*` is the key itself."""
    statement = _allow(KMS_ACTIONS, principal=writer, resource="*")
    return Document(f"statement to add to the list `Statement` of the key policy of {key}:", statement)


def of_key_user(key: str, writer: str) -> Document:
    """What the identity which writes with a key needs besides."""
    statement = _allow(KMS_ACTIONS, resource=key)
    return Document(f"identity policy of {named(writer)}:", _whole(statement))


def of_trust(role: str, caller: str, *, external_id: bool) -> Document:
    """The trust policy with which ``caller`` can assume ``role``, and with the external id alone."""
    statement = _allow(["sts:AssumeRole"], principal=caller)
    if external_id:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}
    return Document(f"trust policy of {role}:", _whole(statement))


def of_caller(role: str, caller: str) -> Document:
    """What the identity that assumes ``role`` needs."""
    return Document(f"identity policy of {named(caller)}:", _whole(_allow(["sts:AssumeRole"], resource=role)))


def _put_actions(settings: S3Settings) -> Sequence[str]:
    return ["s3:PutObject", *(["s3:PutObjectAcl"] if settings.acl else [])]


def _allow(actions: Sequence[str], *, principal: str = "", resource: str = "") -> dict[str, Any]:
    statement: dict[str, Any] = {"Sid": "AuditExporter", "Effect": "Allow"}
    if principal:
        statement["Principal"] = {"AWS": principal}
    statement["Action"] = actions[0] if len(actions) == 1 else list(actions)
    if resource:
        statement["Resource"] = resource
    return statement


def _whole(*statements: dict[str, Any]) -> dict[str, Any]:
    """A policy; its statements have no id, which would have to be unique."""
    bare = [{key: value for key, value in one.items() if key != "Sid"} for one in statements]
    return {"Version": "2012-10-17", "Statement": bare}
