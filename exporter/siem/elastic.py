"""Elastic: Filebeat's inputs for S3, Azure Blob Storage and Google Cloud Storage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from exporter.siem import aws, azure, gcs
from exporter.siem.sections import Section, of_yaml, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery

_LAYOUTS: Final = {
    "rfc3339": ["2006-01-02T15:04:05.999999999Z07:00"],
    "": [
        f"2006-01-02{between}15:04:05.999999999{zone}" for between in "T " for zone in ("Z07:00", "Z07", "")
    ],
    "epoch": ["UNIX"],
    "epoch_s": ["UNIX"],
    "epoch_ms": ["UNIX_MS"],
}
READER: Final = "filebeat@<PROJECT>.iam.gserviceaccount.com"


def elastic(delivery: Delivery) -> list[Section]:
    """filebeat.yml, and the wiring of the cloud that the objects are in."""
    filebeat = {
        "filebeat.inputs": [
            {
                **_input(delivery),
                # The content type is JSON's, so that `parsers` have no say: each record comes as `message`.
                "processors": [*_decode(delivery), *_moment(delivery)],
            }
        ],
        "output.elasticsearch": {
            "hosts": ["<ELASTICSEARCH>"],
            "api_key": "<API KEY>",
            "index": f"logs-audit_exporter.{slug(delivery).replace('-', '_')}-default",
        },
        "setup.template.enabled": False,  # those of `logs-*-*` fit: a data stream with the fields of ECS
        "setup.ilm.enabled": False,
    }
    about = "the whole file, or its input to add to yours"
    return [of_yaml("filebeat.yml", about, filebeat), *_wiring(delivery)]


def _input(delivery: Delivery) -> dict[str, Any]:
    """The input for the export's kind of store; `ours` is by the names of our objects."""
    ours = [{"regex": f"^{re.escape(delivery.folder)}.*{re.escape(delivery.suffix)}$"}]
    if delivery.kind == "gcs":
        return {
            "type": "gcs",
            "id": slug(delivery),
            "project_id": "<PROJECT>",
            "auth.credentials_file.path": "<KEY FILE>",
            "buckets": [
                {"name": gcs.bucket(delivery), "max_workers": 3, "poll": True, "poll_interval": "5m"}
            ],
            "file_selectors": ours,
        }
    if delivery.kind == "azure":
        secrets = {
            "client_id": "<CLIENT ID>",
            "client_secret": "<CLIENT SECRET>",
            "tenant_id": "<TENANT ID>",
        }
        return {
            "type": "azure-blob-storage",
            "id": slug(delivery),
            "account_name": azure.storage_account(delivery),
            **({"storage_url": azure.elsewhere(delivery)} if azure.elsewhere(delivery) else {}),
            "auth.oauth2": secrets,
            "containers": [
                {"name": azure.container(delivery), "max_workers": 3, "poll": True, "poll_interval": "5m"}
            ],
            "file_selectors": ours,
        }
    if not delivery.is_aws:
        return {
            "type": "aws-s3",
            "id": slug(delivery),
            "non_aws_bucket_name": aws.bucket(delivery),
            "endpoint": delivery.settings.get("endpoint_url", ""),
            "region": aws.region(delivery),
            **({"path_style": True} if delivery.settings.get("path_style") == "True" else {}),
            "access_key_id": "<ACCESS KEY ID>",
            "secret_access_key": "<SECRET ACCESS KEY>",
            "bucket_list_prefix": delivery.folder,
            "bucket_list_interval": "300s",
            "number_of_workers": 5,
            "file_selectors": ours,
        }
    return {
        "type": "aws-s3",
        "id": slug(delivery),
        "queue_url": aws.queue_url(delivery),
        "region": aws.region(delivery),
        "role_arn": aws.role_arn(delivery),
        "file_selectors": ours,
    }


def _decode(delivery: Delivery) -> list[dict[str, Any]]:
    """The record's fields at the top for ECS, and below a name of their own for every other format."""
    if delivery.line == "cef":
        return [{"decode_cef": {"field": "message", "ecs": True}}]
    target = "" if delivery.format == "ecs" else "audit"
    options = {"fields": ["message"], "target": target, "overwrite_keys": True, "add_error_key": True}
    # Depth 1 is the record, with all that is nested in it; deeper, texts that are JSON would become objects.
    return [{"decode_json_fields": {**options, "max_depth": 1}}]


def _moment(delivery: Delivery) -> list[dict[str, Any]]:
    """`@timestamp` from the record's own time; of ECS, it is there already."""
    time = delivery.time
    if time is None or delivery.line != "json" or delivery.format == "ecs" or time.notation not in _LAYOUTS:
        return []
    options: dict[str, Any] = {
        "field": ".".join(("audit", *time.path)),
        "layouts": _LAYOUTS[time.notation],
        "timezone": "UTC",
        "ignore_missing": True,
    }
    if not time.notation:
        options["ignore_failure"] = True
    return [{"timestamp": options}]


def _wiring(delivery: Delivery) -> list[Section]:
    if delivery.kind == "gcs":
        return gcs.wiring(delivery, READER, topic=False)
    if delivery.kind == "azure":
        return [azure.reader_roles(delivery, "<CLIENT ID>")]
    if delivery.is_aws:
        return aws.wiring(delivery)
    return [aws.reader_policy(delivery, queue=False, listing=True)]
