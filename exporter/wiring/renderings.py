"""Configuration to rendering: format, filter and protection, bound to the columns of the source."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from exporter.destinations.events import EventSettings
from exporter.errors import ConfigError
from exporter.formats import compile_format, library
from exporter.formats.binding import fields_with
from exporter.model import EVENTS, Rendering

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from exporter.config import Config, ExportSettings, Secret
    from exporter.model import Json


def rendering_of(config: Config, export: ExportSettings) -> Rendering:
    """What the settings of an export make of its records. Raises ConfigError."""
    roles, destination = vars(config.source.columns), export.destination
    events = destination if isinstance(destination, EventSettings) else None
    name, mapping = library.bind(export.format, roles, events.envelope() if events else None)
    chosen, mapping = _chosen(export, roles, mapping)
    unprotected = Rendering(
        format=name,
        mapping=mapping,
        archive=EVENTS if events else export.archive,
        body=library.body_of(mapping, export.body),
        max_record_bytes=export.max_record,
        batch_bytes=events.batch_bytes if events else 0,
        chosen=chosen,
        mask_secrets=export.protect.secrets,
    )
    if not export.protect.columns:
        return unprotected
    from exporter.formats.protection import bind_protection, key_id

    protected = bind_protection(export.protect, roles, compile_format(unprotected).columns)
    key = key_of(export) if "pseudonymise" in protected.values() else None
    return replace(unprotected, protected=protected, key_id=key_id(key()) if key else "")


def _chosen(export: ExportSettings, roles: Mapping[str, str | None], mapping: Json) -> tuple[Json, Json]:
    """The filter and the mapping that it leaves; most exports have none, and nothing is loaded for it."""
    settings = export.filter
    if not (settings.actions or settings.where or settings.fields):
        return None, mapping
    from exporter.formats.selection import bind_filter

    return bind_filter(settings, roles, mapping)


def reads(export: ExportSettings, role: str) -> bool:
    """Whether the format of an export makes something of a role, be there a column for it or not."""
    return role in library.roles_in(export.format)


NAMED: Final = 3
"""As many fields of a format are named that ask for what is not there."""


def correction(rendering: Rendering, missing: Collection[str]) -> str:
    """What to do about columns that an export asks for and the source does not have."""
    chosen: Any = rendering.chosen or {"where": [], "fields": []}
    asking = {
        "filter": {name for name, _ in chosen["where"]},
        "filter.fields": {name.removeprefix("!") for name in chosen["fields"]},
        "protect.columns": rendering.protected.keys(),
    }
    wrong = [setting for setting, names in asking.items() if names & set(missing)]
    by_settings = {name for setting in wrong for name in asking[setting]}
    if set(missing) <= by_settings:
        return f"correct {' and '.join(wrong)} of the export, or source.columns"
    places = [place for name in missing for place in _places(rendering, name)]
    if not places:
        return " or ".join(["correct source.columns", *wrong]) + ", or choose another format"
    fields = ", ".join(places[:NAMED]) + (" …" if len(places) > NAMED else "")
    settings = " or ".join(["source.columns", *wrong])
    return f"correct {settings}, or {fields} of format {rendering.format} (=text is the text itself)"


def _places(rendering: Rendering, column: str) -> list[str]:
    return [] if rendering.mapping is None else fields_with(rendering.mapping, column)


def key_of(export: ExportSettings) -> Callable[[], bytes] | None:
    """What reveals the account's own key for pseudonyms, anew at each call; None if it has none."""
    key = export.protect.key
    return None if key is None else partial(_own_key, key, export)


def _own_key(key: Secret, export: ExportSettings) -> bytes:
    from exporter.formats.protection import account_key

    try:
        return account_key(key.reveal(), export.account)
    except ConfigError as error:
        said = error.message.removeprefix("protect.key: ")
        raise ConfigError(f"protect.key of export '{export.name}': {said}", hint=error.hint) from error
