"""CrowdStrike Falcon LogScale: an ingest feed from S3 by SQS, and a parser for the records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from exporter.siem import aws
from exporter.siem.sections import Section, of_json, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery

_MUTATION: Final = (
    "mutation ($input: CreateAwsS3SqsIngestFeed!)"
    " { createAwsS3SqsIngestFeed(input: $input) { id name enabled } }"
)
_FORMATS: Final = {"epoch": "seconds", "epoch_s": "seconds", "epoch_ms": "millis"}


def logscale(delivery: Delivery) -> list[Section]:
    """The request that makes the feed, the parser, the role that LogScale assumes, and the wiring."""
    feed = {
        "repositoryName": "<REPOSITORY>",
        "name": slug(delivery),
        "parser": slug(delivery),
        "authentication": {"kind": "IamRole", "roleArn": aws.role_arn(delivery)},
        "sqsUrl": aws.queue_url(delivery),
        "region": aws.region(delivery),
        "enabled": True,
        "preprocessing": {"kind": "SplitNewline"},
        "compression": "Gzip" if delivery.archive == "gzip" else "Auto",
    }
    condition = {"StringEquals": {"sts:ExternalId": "<LOGSCALE EXTERNAL ID>"}}
    return [
        Section(
            "parser.txt",
            f"the script of the parser `{slug(delivery)}`, to make first",
            "text",
            _parser(delivery),
        ),
        of_json(
            "feed.json",
            "the body of POST <your LogScale>/graphql",
            {"query": _MUTATION, "variables": {"input": feed}},
        ),
        aws.trust_policy({"AWS": "<LOGSCALE ROLE>"}, "sts:AssumeRole", condition),
        *aws.wiring(delivery),
    ]


def _parser(delivery: Delivery) -> str:
    """The record's fields and its own time."""
    steps = ["parseJson()" if delivery.line == "json" else "kvParse()"]
    time = delivery.time
    if delivery.line == "json" and time is not None and time.notation:
        field = json.dumps(".".join(time.path))
        if time.notation == "rfc3339":
            steps.append(f"parseTimestamp(\"yyyy-MM-dd'T'HH:mm:ss[.SSSSSSSSS][.SSSSSS]X\", field={field})")
        else:
            steps.append(f'parseTimestamp("{_FORMATS[time.notation]}", field={field})')
    return "\n| ".join(steps) + "\n"
