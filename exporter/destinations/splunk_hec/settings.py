"""What a configuration says of a Splunk HTTP Event Collector."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, WithJsonSchema

from exporter.destinations.events import EventSettings
from exporter.destinations.splunk_hec.address import base_of
from exporter.errors import ConfigError
from exporter.notation.secret import Secret  # noqa: TC001 - pydantic reads the annotations
from exporter.notation.values import Bytes, FilePath, Text, must_be, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from exporter.interfaces import Destination
    from exporter.model import Json
    from exporter.network.guard import Guard

MOST_BATCH_BYTES: Final = 64_000_000
OURS: Final = ("event_id", "sequence")
OF_FORMATS: Final = frozenset({"host", "source", "sourcetype", "index"})


def _checked_url(url: str) -> str:
    try:
        base_of(url)
    except ConfigError as error:  # its message begins with the key, which stands in front of ours
        raise ValueError(f"{error.message.removeprefix('url ')}; {error.hint}") from None
    return url


def _checked_index(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_][a-z0-9_-]*", name):
        message = f"{shown(name)} is no name of an index: it has lower-case letters, digits, `_` and `-`"
        raise ValueError(message)
    return name


def _checked_batch(size: int) -> int:
    if not 1 <= size <= MOST_BATCH_BYTES:
        message = f"{size} bytes are not between 1B and {MOST_BATCH_BYTES // 10**6}MB"
        raise ValueError(message)
    return size


def _checked_fields(value: object) -> dict[str, str | int | float]:
    if isinstance(value, dict):
        return {_checked_field(name): _checked_constant(name, one) for name, one in value.items()}
    raise ValueError(must_be("a mapping", value))


def _checked_field(name: object) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.:-]*", name):
        message = f"has the key {shown(str(name))}: a field's name begins with a letter and has no spaces"
        raise ValueError(message)
    if name in OURS:
        message = f"has the key '{name}', which this program fills in itself"
        raise ValueError(message)
    return name


def _checked_constant(name: str, value: object) -> str | int | float:
    """Splunk refuses whole events for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    message = f"has under '{name}' what is neither text nor a number, and Splunk takes no other fields"
    raise ValueError(message)


Address = Annotated[Text, AfterValidator(_checked_url)]
Index = Annotated[Text, AfterValidator(_checked_index)]
Batch = Annotated[Bytes, AfterValidator(_checked_batch)]
Constants = Annotated[
    dict[str, str | int | float],
    BeforeValidator(_checked_fields),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number"]}}),
]


class SplunkHecSettings(EventSettings):
    """A Splunk HTTP Event Collector."""

    type: Literal["splunk_hec"]
    url: Address
    """A host, with a port if it is not 443, with or without `https://` and `/services/collector`."""
    token: Secret
    """The collector's token."""
    auth: Literal["header", "basic"] = "header"
    """How the token is sent: as Splunk's own header, or as the password of basic authentication."""
    index: Index | None = None
    """Where events go; without it, where the format says, else the token's default."""
    source: Text | None = None
    """Their `source`; without it, the format's, else the token's."""
    sourcetype: Text | None = None
    """Their `sourcetype`; without it, the format's, else the token's."""
    host: Text | None = None
    """Their `host`; without it, the format's, else the collector's own."""
    fields: Constants = Field(default_factory=dict)
    """Further indexed fields, the same for every event: text or numbers."""
    gzip: bool = True
    """Whether requests are compressed."""
    acknowledge: bool = False
    """Whether to wait until indexers have each batch; the token needs indexer acknowledgement for it."""
    batch: Annotated[Batch, Field(json_schema_extra={"default": "900kB"})] = 900_000
    """How much goes out in one request, before compression; Splunk Cloud takes 1 MB."""
    ca_file: FilePath | None = None
    """Certificates to trust beside the system's, as a PEM file."""
    _by_record: frozenset[str] = PrivateAttr(default=frozenset())

    def __hash__(self) -> int:
        """Of what most often differs: constants have no hash."""
        return hash((self.url, self.token, self.index, self.source, self.sourcetype, self.host))

    @property
    def batch_bytes(self) -> int:
        """How many bytes of events go out at once."""
        return self.batch

    def envelope(self) -> Mapping[str, Json]:
        """What is around each record: all keys that Splunk knows, and no other."""
        constants: dict[str, Json] = {
            name: f"={value}" if isinstance(value, str) else value for name, value in self.fields.items()
        }
        return {
            "time": "time | epoch",
            "host": _text(self.host),
            "source": _text(self.source),
            "sourcetype": _text(self.sourcetype),
            "index": _text(self.index),
            "event": "$event",
            "fields": {"event_id": "id | text", "sequence": "$sequence", **constants},
        }

    @property
    def by_record(self) -> frozenset[str]:
        """Which keys of the envelope each record fills in for itself."""
        return self._by_record

    def as_delivered(self, envelope: Mapping[str, Json], by_record: frozenset[str]) -> Self:
        """The same with the texts that a format's envelope gives to all events."""
        texts = {key: text for key, text in envelope.items() if key in OF_FORMATS and isinstance(text, str)}
        if not texts and not by_record & OF_FORMATS:
            return self
        copy = self.model_copy(update=texts)
        copy._by_record = by_record & OF_FORMATS  # noqa: SLF001 - a copy of ourselves
        return copy

    def open(self, guard: Guard) -> Destination:
        """The destination. Raises ConfigError."""
        from exporter.destinations.splunk_hec.destination import SplunkHecDestination

        return SplunkHecDestination(self, guard)


def _text(text: str | None) -> Json:
    return None if text is None else f"={text}"
