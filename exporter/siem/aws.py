"""What a reader of S3 needs in AWS: the bucket's notification, the queue's policy and the reader's own.

Least privilege: a reader receives and deletes the messages of one queue, and gets the objects of one folder.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from exporter.siem.sections import of_json, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery
    from exporter.siem.sections import Section

ACCOUNT = "<AWS ACCOUNT ID>"


def region(delivery: Delivery) -> str:
    """The bucket's region, which is the queue's as well."""
    return delivery.settings.get("region", "<REGION>")


def bucket(delivery: Delivery) -> str:
    """The bucket's name."""
    return delivery.settings.get("bucket", "<BUCKET>")


def partition(delivery: Delivery) -> str:
    """The part of AWS that the region belongs to, as ARNs call it."""
    where = region(delivery)
    return "aws-cn" if where.startswith("cn-") else "aws-us-gov" if where.startswith("us-gov-") else "aws"


def queue_arn(delivery: Delivery) -> str:
    """The queue that the bucket tells of new objects."""
    return f"arn:{partition(delivery)}:sqs:{region(delivery)}:{ACCOUNT}:{slug(delivery)}"


def queue_url(delivery: Delivery) -> str:
    """The same queue, as its readers call it."""
    end = ".cn" if partition(delivery) == "aws-cn" else ""
    return f"https://sqs.{region(delivery)}.amazonaws.com{end}/{ACCOUNT}/{slug(delivery)}"


def role_arn(delivery: Delivery, name: str = "") -> str:
    """The role that the reader assumes."""
    return f"arn:{partition(delivery)}:iam::{ACCOUNT}:role/{name or slug(delivery)}"


def wiring(delivery: Delivery) -> list[Section]:
    """From the bucket to the reader: notification, queue and permission."""
    return [notification(delivery), queue_policy(delivery), reader_policy(delivery)]


def notification(delivery: Delivery, target: dict[str, str] | None = None) -> Section:
    """The bucket's notification, to the queue or to another ``target``."""
    where = target or {"QueueArn": queue_arn(delivery)}
    kind = {"QueueArn": "QueueConfigurations", "LambdaFunctionArn": "LambdaFunctionConfigurations"}
    rules = [
        # docs.aws.amazon.com, notification-how-to-filtering: "+" for a space, the rest percent-encoded.
        {"Name": "prefix", "Value": quote_plus(delivery.folder, safe="/!-_.*'()")},
        {"Name": "suffix", "Value": delivery.suffix},
    ]
    # All kinds of creation: large objects arrive as CompleteMultipartUpload, not as Put.
    rule: dict[str, Any] = {"Id": slug(delivery), **where, "Events": ["s3:ObjectCreated:*"]}
    rule["Filter"] = {"Key": {"FilterRules": rules}}
    return of_json(
        "bucket-notification.json",
        f"for `aws s3api put-bucket-notification-configuration --bucket {bucket(delivery)}"
        " --notification-configuration file://bucket-notification.json`; it replaces what the bucket has, so"
        " add the rules that are there already",
        {kind[next(iter(where))]: [rule]},
    )


def queue_policy(delivery: Delivery) -> Section:
    """Who may write to the queue: this bucket."""
    statement = {
        "Sid": "BucketTellsOfObjects",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn(delivery),
        "Condition": {
            "ArnEquals": {"aws:SourceArn": f"arn:{partition(delivery)}:s3:::{bucket(delivery)}"},
            "StringEquals": {"aws:SourceAccount": ACCOUNT},
        },
    }
    about = (
        f"the access policy of the standard queue `{slug(delivery)}`, which serves this consumer alone and"
        " needs a queue for dead letters, and a visibility timeout longer than an object takes (5 minutes)"
    )
    return of_json("queue-policy.json", about, {"Version": "2012-10-17", "Statement": [statement]})


def reader_policy(delivery: Delivery, *, queue: bool = True, listing: bool = False) -> Section:
    """What the reader may do, and no more: with ``listing``, list the export's folder as well."""
    folder = re.sub(r"[*?]|\$(?=\{)", r"${\g<0>}", delivery.folder)  # these mean more in a policy
    statements: list[dict[str, Any]] = [
        {
            "Sid": "ReadRecords",
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": f"arn:{partition(delivery)}:s3:::{bucket(delivery)}/{folder}*",
        }
    ]
    if listing:
        statements.append(
            {
                "Sid": "ListRecords",
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": f"arn:{partition(delivery)}:s3:::{bucket(delivery)}",
                "Condition": {"StringLike": {"s3:prefix": f"{folder}*"}},
            }
        )
    if queue:
        actions = ["ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility"]
        actions += ["GetQueueAttributes", "GetQueueUrl"]
        statements.append(
            {
                "Sid": "ReceiveMessages",
                "Effect": "Allow",
                "Action": [f"sqs:{action}" for action in actions],
                "Resource": queue_arn(delivery),
            }
        )
    key = delivery.settings.get("kms_key")
    if key and delivery.is_aws:
        statements.append({"Sid": "Decrypt", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": key})
    without = "write or delete" if listing else "list, write or delete"
    return of_json(
        "reader-policy.json",
        f"the policy of whoever reads, such as a role `{slug(delivery)}`: no right to {without}",
        {"Version": "2012-10-17", "Statement": statements},
    )


def trust_policy(principal: dict[str, str], action: str, condition: dict[str, Any] | None) -> Section:
    """Who may assume the reader's role."""
    statement: dict[str, Any] = {"Effect": "Allow", "Principal": principal, "Action": action}
    if condition:
        statement["Condition"] = condition
    about = "the trust policy of the role that has the reader's policy"
    return of_json("trust-policy.json", about, {"Version": "2012-10-17", "Statement": [statement]})
