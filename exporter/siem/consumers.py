"""The SIEMs that there are, and what each can read: data, and nothing else.

Facts come from the vendors' documentation and sources, and from what was seen with the real programs; those
that need it have their source beside them. It must not import anything: the configuration reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Siem = Literal[
    "splunk-addon",
    "splunk-hec",
    "qradar",
    "sentinel-aws",
    "sentinel-azure",
    "elastic",
    "wazuh",
    "secops",
    "logscale",
    "datadog",
]
"""By the name that a configuration and the command line have for it."""

_DROPPED: Final = (
    "Datadog drops logs that say they are older than 18 hours: the records of a backfill or a replay arrive"
    " only while the pipeline's date remapper is off, with the time of their arrival."
)
ANY_LINE: Final = ("json", "cef", "leef")


@dataclass(frozen=True, slots=True)
class Consumer:
    """What one consumer reads. The first of ``archives`` and ``bodies`` is what `siem: NAME` chooses.

    ``destinations`` are the types it reads from. ``max_record_bytes`` is the longest line that arrives whole;
    None where this program knows of no limit, or the configuration that it prints sets one. ``fields`` are
    names at the top of a record that it garbles, and what becomes of them, by the archive where that matters
    (else by the empty text). ``plain_names`` says that names are of ASCII letters, digits and `_` alone, and
    ``plain_keys`` that it finds no object whose key is written otherwise in a URL. ``part_limit_mb`` is how
    much JSON of one object fits into its memory, where it reads the whole. ``oldest_hours`` is the age above
    which it drops a record that says its time. From the destinations ``json_from`` it takes JSON alone:
    values one after another, or an array of them.
    """

    title: str
    destinations: tuple[str, ...]
    finds: str
    archives: tuple[str, ...] = ("gzip",)
    bodies: tuple[str, ...] = ("ndjson",)
    lines: tuple[str, ...] = ANY_LINE
    json_from: tuple[str, ...] = ()
    max_record_bytes: int | None = None
    part_limit_mb: int | None = None
    oldest_hours: int | None = None
    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    plain_names: bool = False
    plain_keys: bool = False
    array: str = "it takes each line of an array for a record, brackets and commas and all"
    notes: tuple[str, ...] = ()


SQS: Final = "S3 notifications in an SQS queue, in any order"
_REPLACED: Final = (
    "A TimeGenerated of more than 2 days ago, as in a backfill or a replay, is replaced by the time of"
    " arrival: a record's own time stays in its own column."
)

CONSUMERS: Final[Mapping[Siem, Consumer]] = {
    "splunk-addon": Consumer(
        "Splunk Add-on for AWS (SQS-based S3)",
        ("s3",),
        SQS,
        archives=("zip", "gzip"),
        notes=("It collects nothing that was delivered before the notification: replay delivers it again.",),
    ),
    "splunk-hec": Consumer(
        "Splunk HTTP Event Collector",
        ("splunk_hec",),
        "events that this program sends to it; there are no files",
        archives=(),
        bodies=(),
        lines=("json",),
    ),
    "qradar": Consumer(
        "IBM QRadar (Amazon AWS S3 REST API)",
        ("s3",),
        "S3 notifications in an SQS queue, or a listing: then names have to grow, as ours do",
        notes=("IBM documents gzip, and says nothing of zip or of JSON arrays.",),
    ),
    "sentinel-aws": Consumer(
        "Microsoft Sentinel, from S3",
        ("s3",),
        SQS,
        lines=("json",),
        plain_names=True,
        notes=("The name of the role has to begin with `OIDC_`: Sentinel assumes no other.", _REPLACED),
    ),
    "sentinel-azure": Consumer(
        "Microsoft Sentinel, from Azure Blob Storage",
        ("azure",),
        "Event Grid events in a storage queue, in any order",
        lines=("json",),
        plain_names=True,
        notes=(
            "It is said to read nothing of an account without hierarchical namespace (Azure-Sentinel 14313).",
            _REPLACED,
        ),
    ),
    "elastic": Consumer(
        "Elastic (Filebeat or Elastic Agent)",
        ("s3", "gcs", "azure"),
        "S3 notifications in an SQS queue; polling of Azure, Google Cloud Storage and other stores",
        lines=("json", "cef"),
        # x-pack/filebeat/input/gcs and azureblobstorage: job.go opens an array at the root, and types.go has
        # no content type of text.
        json_from=("gcs", "azure"),
        array="it takes a whole array for one event",
    ),
    "wazuh": Consumer(
        "Wazuh (aws-s3 subscriber)",
        ("s3",),
        "S3 notifications in an SQS queue; its bucket types want other folders, and cannot read ours",
        archives=("zip", "gzip"),
        lines=("json",),
        # A message is cut at 65,535 bytes, with Wazuh's own part and a space after each colon and comma.
        max_record_bytes=60_000,
        part_limit_mb=100,  # it makes objects of all records, then messages: some ten times the JSON
        # wodles/aws/subscribers/s3_log_handler.py: `.jsonl.gz` goes through _process_jsonl, others do not.
        fields={
            "detail": {"zip": "an object there takes the place of the record, anything else ends the module"},
            "source": {"zip": "it becomes `custom`"},
            "log_info": {"": "it takes the place of what Wazuh says of the file"},
            "full_log": {"": "the record is taken for plain text, and left out"},
        },
        # wodles/aws/subscribers/sqs_message_processor.py takes a key as the message has it, encoded.
        plain_keys=True,
        array="it falls back to plain text, and leaves the records out",
        notes=(
            "A field without a value is left out, or, before issue 29228 was fixed, is the last record's.",
            "Text beyond ASCII counts three times: Wazuh sends it on as \\u escapes.",
        ),
    ),
    "secops": Consumer(
        "Google SecOps (feeds)",
        ("gcs", "s3", "azure"),
        "polling, or Pub/Sub and SQS notifications; no file twice",
        max_record_bytes=4_000_000,
    ),
    "logscale": Consumer("CrowdStrike Falcon LogScale (S3 ingest feed)", ("s3",), SQS),
    "datadog": Consumer(
        "Datadog Forwarder",
        ("s3",),
        "an S3 trigger of its Lambda function",
        # logs_monitoring/logs: DatadogBatcher(512 * 1000, …) drops what is longer, with tags and quotes: a
        # record goes as text inside JSON, where each of its own quotes takes two bytes.
        max_record_bytes=250_000,
        # Text, lines and events of it at once, in the 1,024 MB and 120 seconds that the Forwarder comes with.
        part_limit_mb=32,
        # docs.datadoghq.com, log date remapper: logs may be "up to 18 hours in the past".
        oldest_hours=18,
        notes=(_DROPPED,),
    ),
}


def settings_of(name: object) -> dict[str, str]:
    """What `siem: NAME` stands for, as a configuration writes it; nothing for an unknown name."""
    consumer = next((one for known, one in CONSUMERS.items() if known == name), None)
    if consumer is None or not consumer.archives:
        return {}
    chosen: dict[str, str] = {"archive": consumer.archives[0], "body": consumer.bodies[0]}
    if consumer.max_record_bytes:
        chosen["max_record"] = f"{consumer.max_record_bytes // 1000}kB"
    if consumer.part_limit_mb:
        chosen["part_limit"] = f"{consumer.part_limit_mb}MB"
    return chosen


def filled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with what their `siem` stands for; what they say themselves wins."""
    return {**settings_of(settings.get("siem")), **settings}
