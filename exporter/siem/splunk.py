"""Splunk: the Add-on for AWS, and the HTTP Event Collector."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exporter.siem import aws
from exporter.siem.sections import Section, of_conf, of_yaml, one_word, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery

_TIME_FORMATS = {
    "rfc3339": "%Y-%m-%dT%H:%M:%S.%6N",
    "epoch": "%s.%6N",
    "epoch_s": "%s",
    "epoch_ms": "%s%3N",
}


def addon(delivery: Delivery) -> list[Section]:
    """An input of the add-on, how its lines are taken apart, and the wiring."""
    sourcetype = _sourcetype(delivery)
    inputs: dict[str, object] = {
        "aws_account": "<SPLUNK AWS ACCOUNT>",
        "sqs_queue_url": aws.queue_url(delivery),
        "sqs_queue_region": aws.region(delivery),
        "sqs_batch_size": 10,
        "s3_file_decoder": "CustomLogs",
        "using_dlq": 1,
        "sourcetype": sourcetype,
        "index": "<INDEX>",
        "interval": 300,
        "disabled": 0,
    }
    lines = {
        "SHOULD_LINEMERGE": "false",
        "LINE_BREAKER": r"([\r\n]+)",
        "CHARSET": "UTF-8",
        "TRUNCATE": delivery.max_record_bytes,  # Splunk's own is 10,000 bytes
        **_time(delivery),
        **_at_search(delivery),
    }
    return [
        of_conf(
            "inputs.conf",
            "on the heavy forwarder, or the search head of Splunk Cloud, that has the add-on",
            {f"aws_sqs_based_s3://{slug(delivery)}": inputs},
        ),
        of_conf("props.conf", "there as well, and on the search heads", {sourcetype: lines}),
        *aws.wiring(delivery),
    ]


def hec(delivery: Delivery) -> list[Section]:
    """A token, the source type, and the destination that delivers to it."""
    index = one_word(delivery.settings.get("index", "<INDEX>"))
    sourcetype = one_word(delivery.settings.get("sourcetype", _sourcetype(delivery)))
    acknowledged = delivery.settings.get("acknowledge") == "True"
    token = {
        "disabled": 0,
        "token": "<HEC TOKEN>",
        "index": index,
        "indexes": index,
        "sourcetype": sourcetype,
        "useACK": int(acknowledged),
    }
    destination: dict[str, object] = {
        "type": "splunk_hec",
        "url": delivery.settings.get("url", "https://<SPLUNK HOST>"),
        "token": {"file": "<FILE WITH THE TOKEN>"},
        "index": index,
        "sourcetype": sourcetype,
    }
    if acknowledged:
        destination["acknowledge"] = True
    export = {"account": delivery.account, "name": delivery.export, "siem": "splunk-hec"}
    lines = {"TRUNCATE": delivery.max_record_bytes, **_at_search(delivery)}
    return [
        of_conf(
            "inputs.conf",
            "on the instance with the HTTP Event Collector; Splunk Cloud: Settings > Data inputs > HTTP Event"
            " Collector, with the same values",
            {f"http://{slug(delivery)}": token},
        ),
        of_conf("props.conf", "there as well, and on the search heads", {sourcetype: lines}),
        of_yaml(
            "audit-exporter.yaml",
            "the export, on this side: audit-exporter sends the time of each record, and `fields.event_id`,"
            " by which `| dedup event_id` finds what came twice",
            {"exports": [export | {"destination": destination}]},
        ),
    ]


def _sourcetype(delivery: Delivery) -> str:
    """One source type for each format: its fields are the same for every account."""
    return f"audit_exporter:{re.sub('[^a-z0-9]+', '_', delivery.format.lower())}"


def _time(delivery: Delivery) -> dict[str, object]:
    """Where the time of a record stands; if nobody can tell, when it arrived."""
    time = delivery.time
    if time is None:
        return {"DATETIME_CONFIG": "CURRENT", "TZ": "UTC"}
    quote = {"rfc3339": '"', "": '"?'}.get(time.notation, "")
    name = re.escape(time.path[-1])
    # Not after a backslash: there the name is a part of some text.
    prefix = rf'(?<!\\)"{name}":{quote}' if delivery.line == "json" else rf"(?<![\w\\]){name}="
    # As the source has it, Splunk knows the format by itself.
    known = {"TIME_FORMAT": _TIME_FORMATS[time.notation]} if time.notation else {}
    return {
        "TIME_PREFIX": prefix,
        **known,
        "MAX_TIMESTAMP_LOOKAHEAD": 32,
        "TZ": "UTC",  # of a time that names no zone
        "MAX_DAYS_AGO": 10951,  # Splunk's highest: a backfill may be older than its 2,000 days
    }


def _at_search(delivery: Delivery) -> dict[str, object]:
    return {"KV_MODE": "json" if delivery.line == "json" else "auto"}
