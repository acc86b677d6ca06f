"""Exports to every kind of destination, as their readers meet them, and what is printed for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.model import EVENTS, Rendering, flat_mapping
from exporter.siem.delivery import Delivery, Origin, delivery_of
from exporter.siem.packs import pack_of

if TYPE_CHECKING:
    from exporter.siem.consumers import Siem

S3 = {"type": "s3", "bucket": "acme-audit", "prefix": "vendor", "region": "eu-central-1"}
KEY = "arn:aws:kms:eu-central-1:111122223333:key/0d9f"
GCS = {"type": "gcs", "bucket": "acme-audit", "prefix": "vendor"}
AZURE = {"type": "azure", "account_url": "https://acme.blob.core.windows.net", "container": "audit"}
HEC = {"type": "splunk_hec", "url": "https://splunk.example:8088", "index": "audit", "acknowledge": True}
ELSEWHERE = {"type": "s3", "bucket": "b", "endpoint_url": "https://minio.example", "is_aws": False}
DIRECTORY = {"type": "directory", "path": "/out"}
DESTINATIONS: list[dict[str, Any]] = [S3, GCS, AZURE, HEC, ELSEWHERE, DIRECTORY]
TIME_MS = ["column", "created_at", "epoch_ms"]
MAPPINGS: dict[str, Any] = {
    "standard": flat_mapping({"Date": ("instant", "created_at"), "Action ID": ("string", None)}),
    "ocsf": {
        "line": "json",
        "nulls": "omit",
        "fields": [
            "match",
            ["column", "action", "text"],
            [
                ["*login*", ["object", [["time", TIME_MS], ["class_uid", ["const", "3002"]]]]],
                ["*", ["object", [["actor", ["object", [["user", ["column", "email", "text"]]]]]]]],
            ],
        ],
    },
    "cef": {"line": "cef", "nulls": "omit", "fields": ["object", [["rt", TIME_MS]]]},
    "leef": {"line": "leef", "nulls": "keep", "fields": ["object", [["devTime", TIME_MS]]]},
    "native": None,
}  # fmt: skip


def delivery(
    destination: dict[str, Any], form: str = "standard", archive: str = "gzip", **names: str
) -> Delivery:
    rendering = Rendering(form, MAPPINGS[form], archive=EVENTS if destination is HEC else archive)
    export, account = names.get("export", "acme"), names.get("account", "acme")
    return delivery_of(export, account, destination, rendering, Origin("created_at", ["id", "created_at"]))


def files(name: Siem, found: Delivery) -> dict[str, Any]:
    return {one.file: one.text for one in pack_of(name, found).sections}
