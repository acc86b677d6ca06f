"""What a configuration may say: strict, frozen models.

They are the one description of the file: reading, the JSON Schema for editors and the "did you mean"
of a mistyped key all come from them. They must not read files, or look at the process's environment.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from exporter.destinations.registry import Destination  # noqa: TC001 - pydantic reads the annotations
from exporter.formats.settings import FilterSettings, Format, FormatChoice, ProtectSettings
from exporter.notation.secret import Secret  # noqa: TC001 - as above
from exporter.notation.strict import Strict
from exporter.notation.values import (
    GIB,
    AllowedHost,
    Bytes,
    Duration,
    FilePath,
    Name,
    Text,
    Time,
    Zone,
    shown,
    up_to,
)
from exporter.schedule import check_every
from exporter.siem.consumers import Siem, filled

_SIGNS_OF_A_PATTERN = frozenset("*?|")


def _checked_every(every: timedelta) -> timedelta:
    check_every(every)
    return every


def _checked_grace(grace: timedelta) -> timedelta:
    if grace > timedelta(hours=24):
        message = "must not be longer than 24h"
        raise ValueError(message)
    return grace


def _exact_actions(actions: tuple[str, ...]) -> tuple[str, ...]:
    for action in actions:
        wrong = "looks like a pattern of `filter`" if _is_pattern(action) else "begins or ends with a space"
        if _is_pattern(action) or action != action.strip():
            message = f"{shown(action)} {wrong}; list exact actions, which are compared byte by byte"
            raise ValueError(message)
    return actions


def _is_pattern(action: str) -> bool:
    return action.startswith("!") or not _SIGNS_OF_A_PATTERN.isdisjoint(action)


def _schema_default(text: str) -> Any:  # noqa: ANN401 (what `Field` returns)
    """A default as people write it: pydantic would put PT4H into the schema."""
    return Field(json_schema_extra={"default": text})


class Columns(Strict):
    """The source's column for each role."""

    id: Text
    time: Text
    account: Text
    commit: Text | None = None
    """In what order records become visible: PostgreSQL's `xid8`, MariaDB's AUTO_INCREMENT if not `id`."""
    email: Text | None = None
    action: Text | None = None
    action_id: Text | None = None
    description: Text | None = None
    ip_address: Text | None = None
    user_id: Text | None = None
    """From here on, what single formats have a place for: `audit-exporter formats NAME` shows which."""
    user_name: Text | None = None
    user_agent: Text | None = None
    outcome: Text | None = None
    severity: Text | None = None
    application: Text | None = None
    protocol: Text | None = None
    provider: Text | None = None
    workspace: Text | None = None
    city: Text | None = None
    region: Text | None = None
    country: Text | None = None
    device: Text | None = None
    browser: Text | None = None
    browser_version: Text | None = None
    first_login: Text | None = None
    """A column, or one of `derived`, that says true of a user's first login."""
    project: Text | None = None
    issue: Text | None = None
    level: Text | None = None
    release: Text | None = None
    environment: Text | None = None
    transaction: Text | None = None
    url: Text | None = None
    exception_type: Text | None = None
    exception_value: Text | None = None
    tags: Text | None = None
    details: Text | None = None
    """The rest of the record, as JSON."""


class DerivedSettings(Strict):
    """A column that the source works out under the seal: whether a record is a first one."""

    first_of: Text
    """True for the first record, with one of these actions, of each value of this column in its account."""
    actions: Annotated[tuple[Text, ...], Field(strict=False, min_length=1), AfterValidator(_exact_actions)]
    """Exactly as the source has them, byte by byte: `Login` is not `login`, and there are no patterns, unlike
    in `filter.actions`. Other records have null, and so has one without a readable time."""


class TlsSettings(Strict):
    """How a database connection is encrypted, and whom it trusts."""

    mode: Literal["disable", "require", "verify-ca", "verify-full"] = "verify-full"
    """`require` encrypts without asking who answers; `verify-full` also compares the host's name."""
    ca_file: FilePath | None = None
    """The authority to trust, as a PEM file; without it, the system's own."""
    cert_file: FilePath | None = None
    """This client's certificate, where the server asks for one."""
    key_file: FilePath | None = None

    @model_validator(mode="after")
    def _whole_certificate(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            message = "needs both `cert_file` and `key_file`, or neither"
            raise ValueError(message)
        return self


class SourceSettings(Strict):
    """The database where audit records live: a table or a query, and which column means what."""

    url: Secret
    """`sqlite:///FILE`, `postgresql://USER@HOST/DATABASE` or `mysql://USER@HOST/DATABASE`."""
    password: Secret | None = None
    """The password, where it is not in the URL."""
    admin_url: Secret | None = None
    """For `source prepare --apply` alone: the URL of a role that may change the table."""
    tls: TlsSettings | None = None
    """Without it the driver decides, as the URL says; `check` tells whether the connection is encrypted."""
    table: Text | None = None
    """A table or a view, with its schema if need be."""
    query: Text | None = None
    """Instead of a table: a SELECT that gives the columns below."""
    columns: Columns
    """Which of its columns are `id`, `time` and `account`, and which a format's fields come from."""
    derived: dict[Text, DerivedSettings] = Field(default_factory=dict)
    """Further columns by name: `first_login: {first_of: user_id, actions: [login]}`."""
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    """For a time column of numbers: what one of them counts, since 1970."""
    append_only: bool = False
    """PostgreSQL without `columns.commit`: your word that no record is ever updated."""
    seal_wait: Annotated[Duration, _schema_default("10s")] = timedelta(seconds=10)
    """How long a window waits for transactions that are still running; what they add comes late."""
    statement_timeout: Annotated[Duration, _schema_default("30m")] = timedelta(minutes=30)
    """How long one statement may take: a window's records are one."""
    lock_timeout: Annotated[Duration, _schema_default("10s")] = timedelta(seconds=10)
    """How long to wait for a table that somebody else has locked."""
    longest_statement: Annotated[Duration, _schema_default("1h")] = timedelta(hours=1)
    """MariaDB without the PROCESS privilege: no statement that inserts takes longer than this."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.table is None) == (self.query is None):
            message = "needs either `table` or `query`" + (", not both" if self.table else "")
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _actions_to_derive_from(self) -> Self:
        if self.derived and self.columns.action is None:
            message = f"derived.{next(iter(self.derived))} goes by `columns.action`, which is not set"
            raise ValueError(message)
        return self


class LedgerSettings(Strict):
    """The database of the exports, watermarks, plans and attempts."""

    url: Secret
    """`sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`."""
    password: Secret | None = None
    """The password, where it is not in the URL."""
    tls: TlsSettings | None = None


class DefaultSettings(Strict):
    """What `defaults:` may give to every export that does not say otherwise."""

    every: Annotated[Duration, AfterValidator(_checked_every), _schema_default("4h")] = timedelta(hours=4)
    """How long a window is: a whole part of a day, from 1s to 24h (1d)."""
    grace: Annotated[Duration, AfterValidator(_checked_grace), _schema_default("60s")] = timedelta(seconds=60)
    """How long after its end a window is read, up to 24h."""
    timezone: Zone = "UTC"
    """In whose midnight the windows of a day begin."""
    format: Annotated[Format, _schema_default("standard")] = FormatChoice.model_construct(
        name="standard"
    )  # as it stands: to judge it takes a schema of its own
    """How a record is written: `standard`, `native`, `ocsf`, … or a file of your own."""
    filter: FilterSettings = Field(default_factory=FilterSettings)
    """Which records, and which of their fields, go out; without it, all."""
    protect: ProtectSettings = Field(default_factory=ProtectSettings)
    """Which columns' values are dropped, masked, truncated or pseudonymised before they leave."""
    siem: Siem | None = None
    """What reads it: chooses `archive`, `body`, `max_record` and `part_limit`, where these say nothing."""
    archive: Literal["zip", "gzip"] = "zip"
    """What an object is: a `zip` with one file in it, or that file as `gzip`."""
    body: Literal["ndjson", "json_array"] = "ndjson"
    """What is in the file: `ndjson`, one record on a line, or one `json_array` of them all."""
    start: Time | None = None
    """Where a new export begins; without it, at the last boundary before it is first seen."""
    part_limit: Annotated[Bytes, up_to(3 * GIB), _schema_default("1GiB")] = GIB
    """Bytes of JSON after which a window goes on in a further object, up to 3GiB."""
    max_record: Annotated[Bytes, up_to(GIB), _schema_default("4MB")] = 4_000_000
    """Bytes of JSON above which a record goes out as a bad one, up to 1GiB."""

    @model_validator(mode="before")
    @classmethod
    def _as_its_reader_wants(cls, settings: object) -> object:
        return filled(settings) if isinstance(settings, dict) else settings


class ExportSettings(DefaultSettings):
    """One account's records to one destination."""

    account: Text
    name: Name = Field(default_factory=lambda known: known["account"], validate_default=True)
    """The export's own name for good; the account, unless the account has several exports."""
    destination: Destination


class NetworkSettings(Strict):
    """Which addresses this program may talk to, beyond the public ones over https."""

    allow: tuple[AllowedHost, ...] = Field(default=(), strict=False)
    """Hosts that exports may name although they are private, or spoken to over http: `minio.internal`,
    `10.0.0.5:9000`, `*.example.com`; of a whole domain, none may lead to this machine or its cloud."""


class ExportsFrom(Strict):
    """Where further exports come from: files beside this one, or rows of the source."""

    files: Annotated[
        tuple[Text, ...],
        BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
        Field(strict=False),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = ()
    """Files beside this one, each with an export or a list of them: `exports.d/*.yaml`."""
    query: Text | None = None
    """A SELECT on the source whose first column is the settings of one export, as JSON."""
    folder: FilePath | None = None
    """Where the files lie that a row may name, such as its secrets: no others, and no variable."""


class FileSettings(Strict):
    """A configuration file without its exports, which are looked at one by one."""

    source: SourceSettings
    ledger: LedgerSettings
    defaults: DefaultSettings = Field(default_factory=DefaultSettings)
    exports: list[object] = Field(default_factory=list)
    exports_from: ExportsFrom = Field(default_factory=ExportsFrom)
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    workspace: FilePath | None = None
    """Where archives are written before they are delivered; the system's folder for it by default."""

    @model_validator(mode="after")
    def _some_exports(self) -> Self:
        if not (self.exports or self.exports_from.files or self.exports_from.query):
            message = "there is no export: list them under `exports`, or say `exports_from`"
            raise ValueError(message)
        return self


class _WholeFile(FileSettings):
    """The configuration of audit-exporter."""

    exports: list[ExportSettings] = Field(default_factory=list)  # type: ignore[assignment]  # the schema alone, never an instance


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the whole file, for editors."""
    from exporter.notation.described import Described  # which reads source files, and no run needs it

    schema = _WholeFile.model_json_schema(schema_generator=Described)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "audit-exporter"}
