"""The steps of a process that it can die at: what it asks of the system, the ledger and the store.

A step is a kind, such as "Pipeline.settle/Ledger.together: before COMMIT", and how often that kind came
before: threads may take turns as they like, and still every step has the same name in every run.
It must not change what the process does, other than by ending it.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import re
import signal
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from exporter.destinations.azure.store import AzureStore
from exporter.destinations.directory import DirectoryStore
from exporter.destinations.gcs.resumable import Chunks
from exporter.destinations.gcs.store import GcsStore
from exporter.destinations.s3.store import S3Store
from exporter.ledger.postgres_connection import PostgresConnection
from exporter.ledger.requests import Requests
from exporter.ledger.rules import Ledger, Rules
from exporter.ledger.sqlite_connection import SqliteConnection
from exporter.pipeline import Pipeline
from exporter.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Step = tuple[str, int]
"""A kind of step and which of its occurrences."""

LAST: Step = ("the end", 1)

METHODS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (Pipeline, ("prepare", "attempt", "send", "settle")),
    (Rules, ("begin", "plan", "attempt", "answer", "reach", "judge", "commit", "advance")),
    (Ledger, ("record_run",)),
    (Requests, ("backfill", "replay", "resume", "resent")),
    (DirectoryStore, ("put",)),
    (S3Store, ("put", "_begin", "_upload_part", "_complete")),
    (GcsStore, ("put", "_put_at_once", "_begin")),
    (Chunks, ("_send_chunk", "complete")),
    (AzureStore, ("put", "_put_at_once", "_put_block", "_commit")),
    (Workspace, ("__enter__", "__exit__", "folder")),
)
SYSTEM_CALLS = ("link", "fsync", "mkdir", "unlink", "rmdir")
EVENTS = {"sqlite3.connect", "socket.connect", "http.client.send", "tempfile.mkdtemp", "shutil.rmtree"}
ENDS = ("COMMIT", "ROLLBACK")
LONGEST_TRANSACTION_S = 30
STATEMENT = re.compile(r"\s*(INSERT INTO|UPDATE|SELECT|BEGIN|COMMIT|ROLLBACK|PRAGMA)\s*(\w*)")


class Steps:
    """Counts steps, and sends the process a signal at one of them: SIGKILL, or SIGSTOP for a long sleep."""

    def __init__(self, folder: Path, fatal: Step | None, signal_number: int = signal.SIGKILL) -> None:
        self.counts: Counter[str] = Counter()
        self._folder = f"{folder}/"
        self._fatal = fatal
        self._signal = signal_number
        # Reentrant: a step may come while another one is counted: the collector's.
        self._changed = threading.Condition(threading.RLock())
        self._inside = threading.local()
        self._writing: set[int] = set()  # threads that are in a transaction of the ledger

    def install(self) -> None:
        """Watch everything, from now to the end of the process."""
        for owner, names in METHODS:
            for name in names:
                setattr(owner, name, self._within(f"{owner.__name__}.{name}", getattr(owner, name)))
        Ledger.together = self._within_context("Ledger.together", Ledger.together)  # type: ignore[method-assign]
        for name in SYSTEM_CALLS:
            setattr(os, name, self._around(f"os.{name}", getattr(os, name)))
        answered = http.client.HTTPConnection.getresponse
        http.client.HTTPConnection.getresponse = self._around("an answer", answered)  # type: ignore[method-assign]
        for kind in (SqliteConnection, PostgresConnection):
            for name in ("execute", "execute_for_each"):
                setattr(kind, name, self._telling(getattr(kind, name)))
        sys.addaudithook(self._audit)

    def end(self, report: Path | None) -> None:
        """The last step. Whoever was to die and has not come to its step, as threads had it, dies here."""
        if report is not None:
            report.write_text(json.dumps([*sorted(self.counts.items()), LAST]))
        if self._fatal is not None and self.counts[self._fatal[0]] < self._fatal[1]:
            self._signal_self()

    def take(self, what: str) -> None:
        """One step."""
        self._count("/".join(self._where()) + f": {what}")

    def _count(self, kind: str) -> None:
        with self._changed:
            self.counts[kind] += 1
            if (kind, self.counts[kind]) == self._fatal:
                self._wait_for_others()
                self._signal_self()

    def _wait_for_others(self) -> None:
        """Nobody falls asleep while another thread is in a transaction: then everybody else would wait."""
        if self._signal == signal.SIGSTOP:
            own = threading.get_ident()
            assert self._changed.wait_for(lambda: not self._writing - {own}, timeout=LONGEST_TRANSACTION_S)

    def _note_transaction(self, statement: str, *, begins: bool) -> None:
        if statement.startswith("BEGIN" if begins else ENDS):
            with self._changed:
                (self._writing.add if begins else self._writing.discard)(threading.get_ident())
                self._changed.notify_all()

    def _signal_self(self) -> None:
        # To this thread: one to the process may reach another first, and let this one go on for a while.
        signal.pthread_kill(threading.get_ident(), self._signal)

    def _where(self) -> list[str]:
        where: list[str] = self._inside.__dict__.setdefault("stack", [])
        return where

    def _within(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def stepping(*args: object, **kwargs: object) -> object:
            self._where().append(name)
            try:
                self.take("begins")
                result = call(*args, **kwargs)
                self.take("ends")
                return result
            finally:
                self._where().pop()

        return stepping

    def _within_context(self, name: str, context: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(context)
        @contextmanager
        def stepping(*args: object) -> Iterator[object]:
            self._where().append(name)
            try:
                self.take("begins")
                with context(*args) as value:
                    yield value
                self.take("ends")
            finally:
                self._where().pop()

        return stepping

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def stepping(*args: object, **kwargs: object) -> object:
            self.take(f"before {name}")
            result = call(*args, **kwargs)
            self.take(f"after {name}")
            return result

        return stepping

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event in EVENTS:
            self.take(event)
        elif event == "open" and str(args[0]).startswith(self._folder):
            self.take("open to write" if args[2] & (os.O_WRONLY | os.O_RDWR) else "open to read")

    def _telling(self, tell: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(tell)
        def stepping(connection: object, statement: str, *values: object) -> object:
            self.take(f"before {_shortened(statement)}")
            self._note_transaction(statement, begins=True)
            found = tell(connection, statement, *values)
            self._note_transaction(statement, begins=False)
            self.take(f"after {_shortened(statement)}")
            return found

        return stepping


def _shortened(statement: str) -> str:
    found = STATEMENT.match(statement)
    if found is None:
        return statement
    return found[1] if found[1] == "SELECT" else f"{found[1]} {found[2]}".strip()
