"""Signs of secrets are made ready once, beside other work, whoever looks for them then."""

from __future__ import annotations

import subprocess
import sys

import pytest

IN_THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from exporter.formats import secret_signs
made = []
make = secret_signs._made
secret_signs._made = lambda: (made.append(1), make())[1]
with ThreadPoolExecutor(8) as threads:
    found = list(threads.map(secret_signs.places, [b"token: x"] * 64))
assert found == [[5]] * 64, found
assert made == [1], made
"""

IN_A_FORK = """
import os, signal, sys
from exporter.formats import secret_signs
secret_signs.prepare()
if os.fork() == 0:
    signal.alarm(20)  # what was under way in the other process would never be done in this one
    os._exit(0 if secret_signs.places(b"token: x") == [5] else 1)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert secret_signs.places(b"token: x") == [5]
"""


@pytest.mark.parametrize("script", [IN_THREADS, IN_A_FORK], ids=["threads", "fork"])
def test_what_one_has_made_ready_serves_all(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
