"""What is said beside a setup: what holds of each export with this consumer, and of this one alone.

A note warns of nothing that is lost as things are: that is for ``judging``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.siem import azure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.siem.consumers import Consumer
    from exporter.siem.delivery import Delivery

_SEVERAL: Final = (
    "S3 refuses notifications whose prefixes and suffixes overlap, of queues and functions alike: where this"
    " export has several readers, let the bucket tell one SNS topic, and subscribe to it each reader's queue"
    " (with raw message delivery; its policy then names the topic) or Datadog's function."
)
_ZONES_UNTOLD: Final = ("qradar", "secops")
"""Those whose setup has no place to say what a time without a zone means."""


def notes(name: str, consumer: Consumer, delivery: Delivery) -> Sequence[str]:
    """Everything worth knowing of this consumer and this export."""
    return (*consumer.notes, *_of_export(name, delivery))


def _of_export(name: str, delivery: Delivery) -> Iterator[str]:
    if delivery.kind == "s3" and delivery.is_aws:
        yield _SEVERAL
    time = delivery.time
    if name in _ZONES_UNTOLD and time is not None and not time.notation:
        yield (
            f"`{'.'.join(time.path)}` is as the source has it, and UTC where it names no zone: the parser of"
            f" these records in {name} has to say so."
        )
    if name == "elastic" and delivery.kind == "azure" and azure.elsewhere(delivery):
        yield (
            "Filebeat asks the public cloud for its token, unless AZURE_AUTHORITY_HOST in its environment"
            " names another, such as https://login.microsoftonline.us/."
        )
