"""What happens when a test is left out: a line says so, and where everything has to be there, it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WHOLE_MODULE = 'import pytest\npytest.skip("a lamp: buy one", allow_module_level=True)\n'
ONE_TEST = 'import pytest\ndef test_light() -> None:\n    pytest.skip("a lamp: buy one")\n'
ANOTHER = "def test_nothing() -> None:\n    pass\n"


@pytest.mark.parametrize("left_out", [WHOLE_MODULE, ONE_TEST], ids=["module", "test"])
@pytest.mark.parametrize(("environment", "status"), [({}, 0), ({"CI": "true"}, 1)], ids=["here", "CI"])
@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_what_is_left_out_is_said_and_fails_in_ci(
    tmp_path: Path, left_out: str, environment: dict[str, str], status: int, workers: list[str]
) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_light.py").write_text(left_out)
    (tmp_path / "test_another.py").write_text(ANOTHER)
    environ = {name: value for name, value in os.environ.items() if name != "CI"} | environment
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *workers, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout
    assert "left out, 1: a lamp: buy one (test_light.py)\n" in done.stdout
