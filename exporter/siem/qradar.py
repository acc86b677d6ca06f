"""IBM QRadar: a log source of the Amazon AWS S3 REST API protocol, and what its parser finds in a record."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exporter.siem import aws
from exporter.siem.sections import Section, of_json, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery


def qradar(delivery: Delivery) -> list[Section]:
    """The fields of the log source, as its form has them, where they are in a record, and the wiring."""
    kinds = {"leef": "Universal LEEF", "cef": "Universal CEF"}
    source = {
        "Log Source Type": kinds.get(delivery.line, f"a custom type: {slug(delivery)}"),
        "Protocol Type": "Amazon AWS S3 REST API",
        "Log Source Identifier": slug(delivery),
        "Authentication Method": "Assume IAM Role",
        "Assume Role ARN": aws.role_arn(delivery),
        "S3 Collection Method": "SQS Event Notifications",
        "SQS Queue URL": aws.queue_url(delivery),
        "Region Name": aws.region(delivery),
        "Event Format": "LINEBYLINE",
        "File Pattern": rf".*?{re.escape(delivery.suffix)}",
    }
    listing = {
        "S3 Collection Method": "Use a Specific Prefix",
        "Bucket Name": aws.bucket(delivery),
        "Directory Prefix": delivery.folder,
    }
    about = "the fields of the log source in the QRadar Log Source Management app"
    sections = [
        of_json("log-source.json", about, source),
        of_json(
            "log-source-by-listing.json",
            "in place of the queue: names of one export only ever grow, as a listing needs; the reader then"
            " also needs s3:ListBucket on the bucket",
            listing,
        ),
    ]
    if delivery.line == "json":
        properties = {field: f"/{_pointer(field)}" for field in delivery.fields}
        about = "for the DSM Editor: each property, and its JSON expression"
        sections.append(of_json("properties.json", about, properties))
    return [*sections, *aws.wiring(delivery)]


def _pointer(field: str) -> str:
    """A name as QRadar's JSON expressions have it."""
    return '"' + field.replace('"', '\\"') + '"'
