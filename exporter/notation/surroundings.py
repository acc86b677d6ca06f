"""What settings refer to but do not hold: the folder of relative paths and the process's environment.

Settings that others than the operator may have a hand in are confined: they name no variable, and no
file but below one folder. It must not look at the environment; ``reading`` hands it in.
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
        if self.confined and not path.resolve().is_relative_to(self.folder.resolve()):
            message = "names a file outside of `exports_from.folder`"
            raise ValueError(message)
        return path


def surroundings_of(info: ValidationInfo) -> Surroundings:
    """The surroundings of the settings that are being validated."""
    return info.context if isinstance(info.context, Surroundings) else Surroundings()
