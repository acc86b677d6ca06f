"""What settings refer to but do not hold: the folder of relative paths and the process's environment.

Settings that others than the operator may have a hand in are confined: they name no variable, and no
file but below one folder. It must not look at the environment; ``reading`` hands it in.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationInfo

_LONGEST_BYTES: Final = 4096  # Linux's PATH_MAX


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What settings refer to: the folder of relative paths, and the environment of `{env: NAME}`.

    ``confined`` settings stay in the folder and have no environment; without a folder, they name no file.
    """

    folder: Path | None = Path()
    environ: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    confined: bool = False

    def path(self, value: str) -> Path:
        """The path that a setting names. Raises ValueError for one that it may not name."""
        if self.folder is None:
            message = "names a file, which a row may only below a folder: set `exports_from.folder`"
            raise ValueError(message)
        path = self.folder / value
        if not _can_be(path):
            message = "is no path that this system could have"
            raise ValueError(message)
        if self.confined and not _real(path).is_relative_to(self.folder.resolve()):
            message = "names a file outside of `exports_from.folder`"
            raise ValueError(message)
        return path


def _can_be(path: Path) -> bool:
    """Whether a file may have this name: not with half of a surrogate pair or a NUL, nor without an end."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return b"\0" not in name and len(name) < _LONGEST_BYTES


def _real(path: Path) -> Path:
    """Where it leads. Raises ValueError for links that lead nowhere."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        message = "names a file through links that lead nowhere"
        raise ValueError(message) from error


def surroundings_of(info: ValidationInfo) -> Surroundings:
    """The surroundings of the settings that are being validated."""
    return info.context if isinstance(info.context, Surroundings) else Surroundings()
