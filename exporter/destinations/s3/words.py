"""What a store says, made fit to be shown: text on one line, not long, and without secrets.

Whoever answers may send anything: other types than text, line breaks that forge a line of a report, or
megabytes. It must not change what an answer means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.notation.secret import without

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_WORDS: Final = 1000
LONGEST_MESSAGE: Final = 2500  # an object's name, which has up to 1,024 bytes, and a vendor's words
SHOWN_END: Final = 200  # of what is too long: the id of a request is there


def on_one_line(text: str) -> str:
    """The text without what moves the cursor."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def shortened(text: str, longest: int) -> str:
    """The text, or its beginning and its end. Secrets must be out of it: half of one is not recognised."""
    return text if len(text) <= longest else f"{text[: longest - SHOWN_END]} … {text[-SHOWN_END:]}"


def fit(text: str, secrets: Iterable[str | None], longest: int = LONGEST_WORDS) -> str:
    """The text as it can be shown."""
    return shortened(on_one_line(without(text, secrets)), longest)


def tidied(error: Exception, secrets: Iterable[str | None]) -> Exception:
    """The error; what its answer says of it is text now, and fit to be shown."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        told, known = response.get("Error"), tuple(secrets)
        said = told.items() if isinstance(told, dict) else ()
        response["Error"] = {name: fit(_text(value), known) for name, value in said}
    return error


def _text(value: object) -> str:
    """A text; where an element of the answer was empty, repeated or had others in it, there is none."""
    return value if isinstance(value, str) else ""
