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
_FRACTIONS: Final = "".join(f"[.{'S' * digits}]" for digits in range(9, 0, -1))
_FORMATS: Final = {
    "epoch": "seconds",
    "epoch_s": "seconds",
    "epoch_ms": "millis",
    "rfc3339": "yyyy-MM-dd'T'HH:mm:ss[.SSSSSSSSS][.SSSSSS]X",
    "": f"yyyy-MM-dd['T'][' ']HH:mm:ss{_FRACTIONS}[XXX][X]",
}
_PARSERS: Final = {
    "json": ("parseJson()", ""),
    "cef": ("parseCEF()", "cef.ext."),
    "leef": ("parseLEEF(parsetime=false)", "leef.ext."),
}
"""What takes a line apart, and what it puts before the names of fields."""


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
    step, before = _PARSERS[delivery.line]
    steps = [step]
    time = delivery.time
    if time is not None:
        field = json.dumps(before + ".".join(time.path), ensure_ascii=False)
        zone = "" if time.notation else ', timezone="UTC"'
        steps.append(f'parseTimestamp("{_FORMATS[time.notation]}"{zone}, field={field})')
    return "\n| ".join(steps) + "\n"
