"""What settings refer to but do not hold: the folder of relative paths and the process's environment.

It must not look at either; ``reading`` hands both in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationInfo


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What settings refer to: the folder of relative paths, and the environment of `{env: NAME}`."""

    folder: Path = Path()
    environ: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)


def surroundings_of(info: ValidationInfo) -> Surroundings:
    """The surroundings of the settings that are being validated."""
    return info.context if isinstance(info.context, Surroundings) else Surroundings()
