"""Database servers as processes of their own: folder, port, user, start and stop.

Nothing here knows which database it is. A server and its folder end with the tests, also when these are
killed: beside each stands a small process that watches whether its parent still lives.
"""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from functools import cache
from itertools import count
from pathlib import Path
from signal import SIGKILL, Signals
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HOST: Final = "127.0.0.1"
DEADLINE_S: Final = 60.0
# Below what any system hands out by itself: the port of a stopped server is still free when it starts again.
PORTS: Final = range(20_000, 32_000)
# A new database is some 300 files: 0.02 s in memory, 0.2 s on a disk.
MEMORY: Final = Path("/dev/shm")
ROOM_BYTES: Final = 8 << 30

# Standard input ends with the parent; a forked sibling may hold it open, so the parent is looked at as well.
ORPHANED: Final = """
import os, select, shutil, subprocess, sys, threading, time
def wait_until_orphaned(parent):
    while os.getppid() == parent and not select.select([0], [], [], 0.5)[0]:
        pass
"""
SUPERVISOR: Final = f"""{ORPHANED}
parent, last_signal, log, user, group, *command = sys.argv[1:]
other = {{"user": user, "group": int(group), "extra_groups": []}} if user else {{}}
with open(log, "ab") as log:
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **other)
def end_with_parent():
    wait_until_orphaned(int(parent))
    server.send_signal(int(last_signal))
threading.Thread(target=end_with_parent, daemon=True).start()
print(server.pid, flush=True)
sys.exit(server.wait() != 0)
"""
REMOVER: Final = f"""{ORPHANED}
wait_until_orphaned(int(sys.argv[1]))
deadline = time.monotonic() + 30
while os.path.exists(sys.argv[2]) and time.monotonic() < deadline:
    shutil.rmtree(sys.argv[2], ignore_errors=True)
    time.sleep(0.05)
"""

_NUMBERS: Final = count(1)


def _beside(script: str, *arguments: object, **how: Any) -> subprocess.Popen[str]:  # noqa: ANN401 - Popen's own
    """A small process that outlives this one for a moment, and that Ctrl-C does not reach."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **how,
    )


@cache
def _folder_of_this_process() -> Path:
    """Where all servers of this process live; short, because the path of a Unix socket has a limit."""
    folder = Path(tempfile.mkdtemp(prefix="db-", dir=_roomy_memory() or _reachable_disk()))
    folder.chmod(0o711)
    remover = _beside(REMOVER, os.getpid(), folder, stdout=subprocess.DEVNULL)
    atexit.register(remover.communicate, "end")
    return folder


def _roomy_memory() -> Path | None:
    """A folder in memory with room for the long proofs, from which programs may run; where there is one."""
    if not (MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK)):
        return None
    state = os.statvfs(MEMORY)
    fits = state.f_bavail * state.f_frsize >= ROOM_BYTES
    return MEMORY if fits and not state.f_flag & os.ST_NOEXEC else None


def _reachable_disk() -> Path:
    usual = Path(tempfile.gettempdir())
    return usual if reachable_by_all(usual) else Path("/tmp")


def new_folder(owner: str = "") -> Path:
    """An empty folder of this process's own, private to `owner` (a system user's name, empty: this one)."""
    folder = _folder_of_this_process() / str(next(_NUMBERS))
    folder.mkdir(mode=0o700)
    own(folder, owner)
    return folder


def own(path: Path, owner: str) -> None:
    """Gives a file or folder to a system user (empty: leaves it)."""
    if owner:
        shutil.chown(path, owner)


def new_server_certificate(folder: Path, owner: str) -> tuple[Path, Path]:
    """A certificate for loopback and its key, both files readable by a server of this owner."""
    from tests.kit.servers import new_certificate  # with it comes an SDK, and most have no use for either

    certificate, _context = new_certificate(folder)
    key = folder / "key.pem"
    key.chmod(0o600)
    own(key, owner)
    return certificate, key


def reachable_by_all(path: Path) -> bool:
    """Whether every user may enter this folder and what is above it."""
    return all(each.stat().st_mode & stat.S_IXOTH for each in (path.resolve(), *path.resolve().parents))


def service_user(*preferred: str) -> str:
    """Who the server runs as: empty for this user; where that is root, the first that exists, else nobody."""
    if os.getuid() != 0:
        return ""
    known = {user.pw_name for user in pwd.getpwall()}
    return next((name for name in preferred if name in known), "nobody")


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def _environment() -> dict[str, str]:
    """Nothing of this user's own settings: a server reads its folder and its command line alone."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def run_tool(command: Sequence[str | Path], folder: Path, user: str = "") -> None:
    """Runs a server's own tool to its end, as the server's user; its output is in the error when it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        user=user or None,
        group=_group(user) if user else None,
        extra_groups=[] if user else None,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed with {done.returncode}:\n{done.stdout}")


def free_port() -> int:
    """A loopback port on which nobody listens."""
    for _ in range(100):
        port = PORTS.start + secrets.randbelow(len(PORTS))  # `random` may be seeded alike in all workers
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port among {PORTS.start}-{PORTS.stop}")


def wait_until(what: str, holds: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Asks again and again until it holds.

    Raises:
        TimeoutError: it did not, within the deadline.
    """
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"after {deadline_s:.0f} s still not: {what}")
        time.sleep(0.01)


class Server:
    """A server program that can be started and stopped; what it prints is in `log`."""

    def __init__(self, command: Sequence[str | Path], folder: Path, user: str, last_signal: Signals) -> None:
        self.log = folder / "log"
        self._command = [str(part) for part in command]
        self._folder = folder
        self._user = user
        self._last_signal = last_signal
        self._supervisor: subprocess.Popen[str] | None = None
        self._pid = 0

    @property
    def runs(self) -> bool:
        return self._supervisor is not None and self._supervisor.poll() is None

    def start(self, answers: Callable[[], bool]) -> None:
        """Starts it, and returns once it answers.

        Raises:
            RuntimeError: it ended instead; the end of its log is in the message.
        """
        self._supervisor = _beside(
            SUPERVISOR,
            os.getpid(),
            int(self._last_signal),
            self.log,
            self._user,
            _group(self._user) if self._user else "",
            *self._command,
            stdout=subprocess.PIPE,
            cwd=self._folder,
            env=_environment(),
        )
        assert self._supervisor.stdout is not None
        self._pid = int(self._supervisor.stdout.readline() or 0)
        wait_until(f"{self._command[0]} answers", lambda: self._ended() or answers())

    def _ended(self) -> bool:
        if not self.runs:
            raise RuntimeError(f"{self._command[0]} ended:\n{self.log.read_text(errors='replace')[-3000:]}")
        return False

    def stop(self, how: Signals) -> None:
        """Ends it by this signal and waits for that; one that has ended already is left alone.

        Raises:
            TimeoutError: it still runs after the deadline; it has been killed then.
        """
        if self._supervisor is None:
            return
        try:
            if self.runs:
                os.kill(self._pid, how)
            wait_until(f"{self._command[0]} has ended", lambda: not self.runs)
        finally:
            if self.runs:
                os.kill(self._pid, SIGKILL)
            self._supervisor.communicate()
            self._supervisor = None

    def remove(self) -> None:
        """Ends it if it runs, and removes its folder."""
        self.stop(self._last_signal)
        shutil.rmtree(self._folder)
