"""A consumer's setup for one export: which module writes it, and what is said beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from exporter.siem import datadog, elastic, logscale, qradar, secops, sentinel, splunk, wazuh
from exporter.siem.consumers import CONSUMERS
from exporter.siem.judging import cautions
from exporter.siem.notes import notes
from exporter.siem.sections import placeholders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.siem.consumers import Siem
    from exporter.siem.delivery import Delivery
    from exporter.siem.judging import Caution
    from exporter.siem.sections import Section

WRITERS: Final[Mapping[Siem, Callable[[Delivery], list[Section]]]] = {
    "splunk-addon": splunk.addon,
    "splunk-hec": splunk.hec,
    "qradar": qradar.qradar,
    "sentinel-aws": sentinel.from_s3,
    "sentinel-azure": sentinel.from_azure,
    "elastic": elastic.elastic,
    "wazuh": wazuh.wazuh,
    "secops": secops.secops,
    "logscale": logscale.logscale,
    "datadog": datadog.datadog,
}


@dataclass(frozen=True, slots=True)
class Pack:
    """What a customer needs to read one export with one consumer."""

    title: str
    finds: str
    cautions: Sequence[Caution]
    notes: Sequence[str]
    sections: Sequence[Section]
    placeholders: Mapping[str, str]


def pack_of(name: Siem, delivery: Delivery) -> Pack:
    """The pack of one consumer for one export."""
    consumer = CONSUMERS[name]
    sections = WRITERS[name](replace(delivery, reader=name))
    return Pack(
        title=consumer.title,
        finds=consumer.finds,
        cautions=cautions(name, consumer, delivery),
        notes=notes(name, consumer, delivery),
        sections=sections,
        placeholders=placeholders(sections),
    )
