"""Datadog: the S3 trigger of its Forwarder, and what a pipeline makes of the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.siem import aws
from exporter.siem.sections import Section, of_json, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery


def datadog(delivery: Delivery) -> list[Section]:
    """The bucket's trigger, the right to call, the Forwarder's right to read, and a pipeline."""
    forwarder = "<FORWARDER ARN>"
    permission = {
        "StatementId": slug(delivery),
        "Action": "lambda:InvokeFunction",
        "Principal": "s3.amazonaws.com",
        "FunctionName": forwarder,
        "SourceArn": f"arn:{aws.partition(delivery)}:s3:::{aws.bucket(delivery)}",
        "SourceAccount": aws.ACCOUNT,
    }
    return [
        of_json(
            "lambda-permission.json",
            "for `aws lambda add-permission --cli-input-json file://lambda-permission.json`, first",
            permission,
        ),
        aws.notification(delivery, {"LambdaFunctionArn": forwarder}),
        aws.reader_policy(delivery, queue=False),
        of_json(
            "pipeline.json", "the body of POST /api/v1/logs/config/pipelines of Datadog", _pipeline(delivery)
        ),
    ]


def _pipeline(delivery: Delivery) -> dict[str, Any]:
    """Which logs are ours, by their bucket and key, and which field has their time."""
    processors: list[dict[str, Any]] = []
    time = delivery.time
    # What is no JSON has no attributes; a time without a zone is UTC to Datadog.
    if delivery.line == "json" and time is not None and time.notation in {"rfc3339", "epoch_ms", ""}:
        field = ".".join(time.path)
        processors.append({"type": "date-remapper", "is_enabled": True, "sources": [field]})
    query = f'@aws.s3.bucket:"{aws.bucket(delivery)}" @aws.s3.key:{_glob(delivery.folder)}*'
    return {
        "name": slug(delivery),
        "is_enabled": True,
        "filter": {"query": query},
        "processors": processors,
    }


def _glob(text: str) -> str:
    """Text in a query of Datadog, where most signs mean something."""
    return "".join(one if one.isalnum() or one == "_" else "?" for one in text)
