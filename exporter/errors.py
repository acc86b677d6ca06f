"""Everything that can go wrong, each with a hint that a person can act on.

::

    ExporterError
    ├── ConfigError          the configuration or an argument is wrong            exit 2
    ├── SourceError          the source cannot be read; nothing could run         exit 20
    │   ├── SourceBusy       locked or unreachable for now: the next run tries again
    │   └── SourceChanged    another database, an older copy, or reused ids: `ledger accept-source`
    ├── LedgerError          the ledger cannot be used; nothing could run         exit 20
    │   └── LedgerMissing    `run` never creates one: an empty ledger would skip history
    ├── Conflict             another process moved this export first; read again and go on
    ├── Defect               a fault of this program, met by one export           exit 10
    ├── WorkerLost           a process of the run died; what others do goes on    exit 10
    ├── ExportError          one export cannot go on; the others do               exit 10
    │   ├── NameTaken        another export already delivers under the same names
    │   ├── Stopped          a person has to decide (a foreign object): `resume`
    │   ├── WrongAccount     a row of another account came up in this export's range
    │   ├── MissingColumn    its format asks for a column that the source does not have
    │   ├── Unreadable       the source fails at its records, and at nobody else's
    │   └── WorkspaceError   no room, or no right to write, for the archive
    └── DeliveryError        one attempt did not succeed                          exit 10
        ├── ObjectExists     the store has an object of that name: ours or foreign, the ledger decides
        ├── NotSent          failed before the first byte of the request: cannot have landed
        ├── Refused          a definite no (403, no bucket, disk full): cannot have landed
        ├── Interrupted      this process has to end; what was accepted of the events stays accepted
        └── OutcomeUnknown   timeout, reset, 5xx: may have landed; never planned again

Libraries raise these and never exit; ``cli`` turns them into an exit status.
"""

from __future__ import annotations


class ExporterError(Exception):
    """A failure with one sentence that says what is wrong, and one that says what to do next.

    ``fix`` is what `check` adds to them: text to copy as it is, such as a policy or a command.
    """

    exit_status = 10

    def __init__(self, message: str, *, hint: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fix = fix


class ConfigError(ExporterError):
    """The configuration or a command-line argument is wrong; the message names file, key and value."""

    exit_status = 2


class SourceError(ExporterError):
    """The source cannot be read as configured; no export of it can go on."""

    exit_status = 20


class SourceBusy(SourceError):
    """The source is locked or unreachable for now; reading the same range later is safe."""


class SourceChanged(SourceError):
    """The source is not the one that the seals in the ledger were taken from, or it went back."""


class LedgerError(ExporterError):
    """The ledger cannot be used."""

    exit_status = 20


class LedgerMissing(LedgerError):
    """There is no ledger at the configured place."""


class Conflict(ExporterError):
    """The export's row changed since it was read: somebody else acted first."""


class Defect(ExporterError):
    """A fault of this program. Its cause, with the traceback, is for the log."""

    @classmethod
    def of(cls, cause: Exception) -> Defect:
        """What one export met, without the details that may hold a customer's data."""
        defect = cls(
            f"internal error: {type(cause).__name__}",
            hint="please report it with the traceback in the log; nothing was lost, the next run tries again",
        )
        defect.__cause__ = cause
        return defect


class WorkerLost(ExporterError):
    """A process of this run ended before its work did."""


class ExportError(ExporterError):
    """One export cannot go on; every other one does."""


class NameTaken(ExportError):
    """Another export already delivers under the same object names, or the same events."""


class Stopped(ExportError):
    """The export waits for a person's decision."""


class WrongAccount(ExportError):
    """The source handed over a row of another account: a hard stop, nothing was delivered."""


class MissingColumn(ExportError):
    """The source has no column of a name that the export's format asks for."""


class Unreadable(ExportError):
    """The source answers with an error that its records cause, such as a value that it cannot convert."""


class WorkspaceError(ExportError):
    """The archive could not be written to the workspace."""


class DeliveryError(ExporterError):
    """One attempt at a delivery did not succeed.

    ``wait_s`` is how long the destination asks to be left alone, in seconds; 0 where it asks for nothing.
    """

    def __init__(self, message: str, *, hint: str = "", fix: str = "", wait_s: float = 0.0) -> None:
        super().__init__(message, hint=hint, fix=fix)
        self.wait_s = wait_s


class ObjectExists(DeliveryError):
    """The store already has an object under this name."""


class NotSent(DeliveryError):
    """The attempt failed before the first byte of its request was sent: it cannot have landed."""


class Refused(DeliveryError):
    """The destination gave a definite no: the attempt cannot have landed."""


class Interrupted(DeliveryError):
    """The delivery was left where it was, between two batches, because the process has to end."""


class OutcomeUnknown(DeliveryError):
    """Nobody can tell whether the attempt landed."""
