"""Secrets: given by reference or as text, revealed on demand, and never shown.

It must not read a secret before it is needed, and no error of it may quote one.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, quote_plus, unquote

from pydantic_core import core_schema

from exporter.errors import ConfigError
from exporter.notation.surroundings import surroundings_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo

SHORTEST: Final = 8
"""So long is a secret that can be told from words; below are test servers' keys, such as `test`."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A value that is never shown: the text itself, or the environment variable or file that holds it."""

    text: str
    kind: Literal["text", "env", "file"] = "text"
    environ: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def reveal(self) -> str:
        """The value, read anew at every call, so that a rotated secret is used at once.

        One line break at the end is no part of it. Raises ConfigError, which names the reference alone.
        """
        if self.kind == "file":
            return self._from_file().removesuffix("\n").removesuffix("\r")
        if self.kind == "text":
            return self.text
        if value := self.environ.get(self.text):
            return value.removesuffix("\n").removesuffix("\r")
        raise ConfigError(
            f"the environment variable {self.text} is not set, or empty",
            hint="set it where audit-exporter runs, or correct `{env: …}` in the configuration",
        )

    def _from_file(self) -> str:
        hint = "mount it where audit-exporter runs, or correct `{file: …}` in the configuration"
        try:
            return Path(self.text).read_text(encoding="utf-8-sig")  # some editors put a mark in front
        except OSError as error:
            raise ConfigError(
                f"the secret file {self.text} cannot be read: {error.strerror}", hint=hint
            ) from error
        except UnicodeDecodeError:  # not chained: it quotes the bytes
            raise ConfigError(f"the secret file {self.text} is not UTF-8 text", hint=hint) from None

    @classmethod
    def _parse(cls, value: object, info: ValidationInfo) -> Secret:
        around = surroundings_of(info)
        match value:
            case Secret():
                return value
            case str() if value:
                return cls(value)
            case {"env": str(), **more} if around.confined and not more:
                message = "names a variable, which a row may not: put a file below `exports_from.folder`"
                raise ValueError(message)
            case {"env": str(name), **more} if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and not more:
                return cls(name, "env", around.environ)
            case {"file": str(path), **more} if path and not more:
                return cls(str(around.path(path)), "file")
        message = "must be text, {env: NAME} or {file: PATH}"
        raise ValueError(message)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        del source, handler
        return core_schema.with_info_plain_validator_function(
            cls._parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        del schema, handler
        text = {"type": "string", "minLength": 1}
        references = (
            {"type": "object", "properties": {key: text}, "required": [key], "additionalProperties": False}
            for key in ("env", "file")
        )
        return {"anyOf": [text, *references]}


def without(text: str, secrets: Iterable[str | None]) -> str:
    """A text from outside with *** for each of these secrets, in any spelling that it may repeat them in.

    A secret below 8 characters stays: any word may hold it. Of one with several lines, each counts.
    """
    whole = [secret for secret in secrets if secret]
    pieces = {piece.strip() for secret in whole for piece in (secret, *secret.splitlines())}
    found = {spelling for piece in pieces if len(piece) >= SHORTEST for spelling in _spellings(piece)}
    for spelling in sorted(found, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return text


def _spellings(secret: str) -> Iterator[str]:
    """As it is, and as URLs, JSON and base64 have it, or would have it if it is in a URL's spelling."""
    for spelling in {secret, unquote(secret)} - {""}:
        quoted = (quote(spelling), quote(spelling, safe=""), quote_plus(spelling))
        yield from (spelling, *quoted)
        yield from (re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), one) for one in quoted)
        yield json.dumps(spelling)[1:-1]
        yield base64.b64encode(spelling.encode()).decode()


def revealed(secret: Secret | None) -> str | None:
    """The value, if there is a secret. Raises ConfigError as `reveal` does."""
    return None if secret is None else secret.reveal()
