"""Google SecOps: a feed for the store that the export delivers to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.siem import aws, azure, gcs
from exporter.siem.sections import Section, of_json, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery

# Never delete: the customer's records are not the feed's to remove. 180 days is the most that a feed takes.
_KEEP = {"sourceDeletionOption": "NEVER", "maxLookbackDays": 180}
READER = "<SECOPS SERVICE ACCOUNT>"


def secops(delivery: Delivery) -> list[Section]:
    """The feed, and the wiring of the cloud that the objects are in."""
    kind, key, settings = _feed(delivery)
    details = {"feedSourceType": kind, "logType": "<LOG TYPE>", key: {**settings, **_KEEP}}
    about = "the body of a `create` request to the feed management API"
    return [
        of_json("feed.json", about, {"displayName": slug(delivery), "details": details}),
        *_wiring(delivery),
    ]


def _feed(delivery: Delivery) -> tuple[str, str, dict[str, Any]]:
    if delivery.kind == "gcs":
        return (
            "GOOGLE_CLOUD_STORAGE_EVENT_DRIVEN",
            "google_cloud_storage_event_driven_settings",
            {
                "bucketUri": f"gs://{gcs.bucket(delivery)}/{delivery.folder}",
                "pubsub_subscription": f"projects/<PROJECT>/subscriptions/{slug(delivery)}",
            },
        )
    if delivery.kind == "azure":
        blob = azure.queue_uri(delivery, f"{azure.container(delivery)}/{delivery.folder}")
        return (
            "AZURE_BLOBSTORE_V2",
            "azureBlobStoreV2Settings",
            {
                "azureUri": blob.replace(".queue.", ".blob.", 1),
                "authentication": {
                    "azure_v2_workload_identity_federation": {
                        "clientID": "<CLIENT ID>",
                        "tenantID": "<TENANT ID>",
                    }
                },
            },
        )
    return (
        "AMAZON_SQS_V2",
        "amazon_sqs_v2_settings",
        {
            "queue": aws.queue_arn(delivery),
            "s3Uri": f"s3://{aws.bucket(delivery)}/{delivery.folder}",
            "authentication": {"aws_iam_role_arn": aws.role_arn(delivery)},
        },
    )


def _wiring(delivery: Delivery) -> list[Section]:
    if delivery.kind == "gcs":
        return gcs.wiring(delivery, READER, topic=True)
    if delivery.kind == "azure":
        return [azure.reader_roles(delivery, "<CLIENT ID>")]
    condition = {"StringEquals": {"accounts.google.com:sub": READER}}
    trust = aws.trust_policy({"Federated": "accounts.google.com"}, "sts:AssumeRoleWithWebIdentity", condition)
    return [trust, *aws.wiring(delivery)]
