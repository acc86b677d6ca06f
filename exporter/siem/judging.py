"""What of a delivery a consumer cannot read, and the setting to write instead.

Every warning here is one that the tests see come true: a reader with the consumer's rules loses or garbles
something. It must not know how a consumer is set up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.siem.consumers import Consumer
    from exporter.siem.delivery import Delivery

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,44}")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9._*/-]*")  # what S3 has in a message as it is


@dataclass(frozen=True, slots=True)
class Caution:
    """One thing that the consumer cannot read: a word for it, why, and what to write instead."""

    about: str
    message: str
    instead: str


def cautions(name: str, consumer: Consumer, delivery: Delivery) -> list[Caution]:
    """Everything of the delivery that this consumer would lose or garble."""
    return [
        *_of_place(name, consumer, delivery),
        *(() if delivery.is_events else _of_file(name, consumer, delivery)),
        *_of_record(name, consumer, delivery),
    ]


def _of_place(name: str, consumer: Consumer, delivery: Delivery) -> Iterator[Caution]:
    if delivery.kind not in consumer.destinations:
        wanted = _either(consumer.destinations)
        yield Caution(
            "destination",
            f"{name} reads from {wanted}, and this export delivers to {delivery.kind}",
            f"destination: {{type: {consumer.destinations[0]}, …}}",
        )
    elif delivery.kind == "s3" and not delivery.is_aws and name != "elastic":
        yield Caution(
            "destination",
            f"{name} is told of new objects by Amazon's queues, and this store is not Amazon's",
            "destination: {type: s3, …} without an endpoint_url",
        )


def _of_file(name: str, consumer: Consumer, delivery: Delivery) -> Iterator[Caution]:
    if not consumer.archives:  # it takes events alone
        return
    if delivery.archive not in consumer.archives:
        yield Caution(
            "archive",
            f"{name} reads {_either(consumer.archives)}, and this export writes {delivery.archive}",
            _instead(name, f"archive: {consumer.archives[0]}"),
        )
    is_read = delivery.body == "lines" or delivery.body in consumer.bodies
    if not is_read and delivery.kind not in consumer.json_from:
        wanted = _either(consumer.bodies)
        yield Caution(
            "body",
            f"{name} reads {wanted}, and this export writes {delivery.body}: {consumer.array}",
            _instead(name, f"body: {consumer.bodies[0]}"),
        )
    yield from _of_size_and_key(name, consumer, delivery)


def _of_size_and_key(name: str, consumer: Consumer, delivery: Delivery) -> Iterator[Caution]:
    most, limit = delivery.pace.part_limit_bytes, consumer.part_limit_mb
    if limit and most > limit * 1_000_000:
        yield Caution(
            "part_limit",
            f"{name} reads an object whole into memory, and part_limit lets it hold {most:,} bytes of JSON",
            _instead(name, f"part_limit: {limit}MB"),
        )
    if consumer.plain_keys and not _PLAIN_KEY.fullmatch(delivery.folder):
        yield Caution(
            "prefix",
            f"{name} finds no object with a key that a URL writes otherwise, as below {delivery.folder}",
            "prefix: of ASCII letters, digits and `.-_/` alone",
        )


def _of_record(name: str, consumer: Consumer, delivery: Delivery) -> Iterator[Caution]:
    json_alone = delivery.kind in consumer.json_from
    lines, place = (("json",), f" from {delivery.kind}") if json_alone else (consumer.lines, "")
    if delivery.line not in lines:
        wanted = _either(tuple(line.upper() for line in lines))
        yield Caution(
            "line",
            f"{name} reads {wanted}{place}, and {delivery.format} is {delivery.line.upper()}",
            "format: ocsf",
        )
    limit = consumer.max_record_bytes
    if limit and delivery.max_record_bytes > limit:
        yield Caution(
            "max_record",
            f"{name} loses or cuts records of more than {limit:,} bytes, and max_record lets them through",
            _instead(name, f"max_record: {limit // 1000}kB"),
        )
    oldest, age = consumer.oldest_hours, delivery.pace.age / timedelta(hours=1)
    if oldest and age > oldest and delivery.line == "json" and delivery.time is not None:
        yield Caution(
            "every",
            f"{name} drops records older than {oldest} hours, and every and grace let them become {age:.0f}",
            "every: 4h, and a grace of minutes",
        )
    yield from _of_fields(name, consumer, delivery)


def _of_fields(name: str, consumer: Consumer, delivery: Delivery) -> Iterator[Caution]:
    for field, fates in consumer.fields.items():
        fate = fates.get(delivery.archive, fates.get(""))
        if fate and field in delivery.fields and delivery.line == "json":
            yield Caution(
                "field",
                f"{name} garbles a field named `{field}`: {fate}",
                f"a format of your own that names it otherwise: audit-exporter formats {delivery.format}",
            )
    unplain = [field for field in delivery.fields if not PLAIN.fullmatch(field)]
    if consumer.plain_names and unplain:
        yield Caution(
            "names",
            f"{name} has no columns of such names, and drops the fields: {', '.join(unplain)}",
            f"format: ocsf, or one with plain names: `audit-exporter siem {name}` prints standard with such",
        )


def _instead(name: str, setting: str) -> str:
    """A setting of the export itself, where it wins over `defaults`, as does a `siem` without it there."""
    return f"{setting} in the export itself, or siem: {name} there and no {setting.partition(':')[0]}"


def _either(words: tuple[str, ...]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
