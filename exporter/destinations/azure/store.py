"""The driver for Azure Blob Storage: create-only puts, at once or in blocks.

The identity that writes needs `blobs/add/action` on the container, or a SAS with `c`. It must not list,
read or delete, nor try a put twice: only the blocks of a large upload are tried again, because nothing
exists before their list is committed. Blocks need the right to overwrite (`w`, `blobs/write`); without it
a large blob goes in one request.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from exporter.destinations.azure.check import findings
from exporter.destinations.azure.credentials import Credentials
from exporter.destinations.azure.errors import STRANGER_HINT, NoRight
from exporter.destinations.azure.requests import Requests
from exporter.destinations.uploads import (
    DEFAULT_LIMITS,
    RENDER_AGAIN,
    Body,
    Limits,
    changed,
    nothing_landed,
    opened,
)
from exporter.errors import NotSent, OutcomeUnknown, Refused
from exporter.model import Receipt
from exporter.retries import RetryingCaller

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

    from azure.storage.blob import StandardBlobTier

    from exporter.destinations.azure.settings import AzureSettings
    from exporter.model import Finding, Package
    from exporter.network.guard import Guard

BLOCK_TRIES: Final = 4
BLOCKS_TIMEOUT_S: Final = 600
READ_BYTES: Final = 1 << 20


class AzureStore:
    """A container. Its secrets are read before every request. Safe to use from several threads.

    Raises ConfigError for settings that cannot lead to one.
    """

    max_component_bytes = 1024  # Azure limits whole names alone

    def __init__(
        self,
        settings: AzureSettings,
        guard: Guard,
        *,
        limits: Limits = DEFAULT_LIMITS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._now = now
        self._credentials = Credentials(settings, guard, now=now)
        self._requests = Requests(settings, self._credentials, limits)
        self.name = self._requests.store
        self.endpoint = self._credentials.account.url
        self._may_write_blocks = True

    def load(self) -> None:
        """Load the SDK's clients, what makes requests, and what asks for tokens if any are needed."""
        self._requests.load()

    def folds_case(self) -> bool:
        """Whether two names that differ only by case are one."""
        return False

    def check(self, probe: str) -> Sequence[Finding]:
        """Create the probe with the headers of production, and say what about the access deserves a look."""
        return findings(self, probe, self._credentials, self._requests, self._now())

    def put(self, package: Package, progress: Callable[[int], None]) -> Receipt:
        """Create the blob whole, or not at all; exactly one request decides."""
        size = package.content.archive_bytes
        with opened(package) as file:
            if size < self._limits.large_bytes:
                answer = self._put_at_once(package, file, progress)
            else:
                answer = self._put_large(package, file, progress)
        etag, version = str(answer.get("etag") or "").strip('"'), str(answer.get("version_id") or "")
        if not etag:
            raise self._unconfirmed(package)
        return Receipt(f"{self.name}/{package.name}", etag, version)

    def _unconfirmed(self, package: Package) -> OutcomeUnknown:
        """The error for a success that does not say what came of the blob: Azure always does."""
        return OutcomeUnknown(f"{self.name} did not say what it stored as {package.name}", hint=STRANGER_HINT)

    def _put_large(
        self, package: Package, file: BinaryIO, progress: Callable[[int], None]
    ) -> Mapping[str, Any]:
        """In blocks, or at once for whoever may not write blocks: then nothing has landed yet."""
        once = _Once(progress)
        too_large = package.content.archive_bytes > self._limits.at_once_bytes
        if self._may_write_blocks or too_large:
            try:
                ids, md5 = self._put_blocks(package, file, once)
            except NoRight:
                if too_large:
                    raise
                self._may_write_blocks = False
            else:
                return self._commit(package, ids, md5)
        once.begin()
        return self._put_at_once(package, file, once)

    def _put_at_once(
        self, package: Package, file: BinaryIO, progress: Callable[[int], None]
    ) -> Mapping[str, Any]:
        size = package.content.archive_bytes
        body, digests = self._limits.body(file, 0, size, progress), _Digests()
        digests.add(body)
        md5 = digests.checked(package)
        answer = self._requests.send(
            package.name,
            # The SDK would read all of a file into memory: it writes the request, and the body is put in.
            lambda blob: blob.upload_blob(b"", length=size, **self._properties(package, md5)),
            body=body if size else None,  # an empty file would go in chunks, which Azure refuses
            md5=md5,
        )
        stored_md5 = bytes(answer.get("content_md5") or b"")
        if not stored_md5:
            raise self._unconfirmed(package)
        if stored_md5 != md5:
            raise Refused(
                f"{self.name}/{package.name} holds something else than what was sent",
                hint="look at what lies between here and the account, and at the blob itself",
            )
        return answer

    def _put_blocks(
        self, package: Package, file: BinaryIO, progress: Callable[[int], None]
    ) -> tuple[list[str], bytes]:
        """The ids of the blocks in their order, and the MD5 of the whole."""
        attempt = secrets.token_hex(8)  # blocks are shared by name, also between attempts
        again = RetryingCaller(attempts=BLOCK_TRIES, timeout=BLOCKS_TIMEOUT_S)
        digests = _Digests()
        ids: list[str] = []
        with nothing_landed():
            for number, body in enumerate(self._limits.parts(file, package.content.archive_bytes, progress)):
                ids.append(f"{attempt}-{number:05}")
                md5 = digests.of(body)
                again((NotSent, OutcomeUnknown), self._put_block, package.name, ids[-1], body, md5)
        return ids, digests.checked(package)

    def _put_block(self, name: str, block_id: str, body: Body, md5: bytes) -> None:
        length = body.seek(0, io.SEEK_END)
        self._requests.send(
            name,
            lambda blob: blob.stage_block(block_id, b"", length, **self._encryption()),
            body=body,
            md5=md5,
        )

    def _commit(self, package: Package, ids: list[str], md5: bytes) -> Mapping[str, Any]:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        blocks = [BlobBlock(block_id) for block_id in ids]
        return self._requests.send(
            package.name,
            lambda blob: blob.commit_block_list(
                blocks,
                validate_content=True,
                match_condition=MatchConditions.IfMissing,
                **self._properties(package, md5),
            ),
        )

    def _properties(self, package: Package, md5: bytes) -> dict[str, Any]:
        from azure.storage.blob import ContentSettings

        settings = ContentSettings(content_type=package.content_type, content_md5=bytearray(md5))
        metadata = {metadata_name(name): value for name, value in package.metadata.items()}
        tier = {"standard_blob_tier": self._tier()} if self._settings.access_tier else {}
        return {"content_settings": settings, "metadata": metadata} | tier | self._encryption()

    def _encryption(self) -> dict[str, Any]:
        scope = self._settings.encryption_scope
        return {} if scope is None else {"encryption_scope": scope}

    def _tier(self) -> StandardBlobTier:
        from azure.storage.blob import StandardBlobTier

        return StandardBlobTier(self._settings.access_tier)


def metadata_name(name: str) -> str:
    """What a field of the metadata is called here: Azure takes identifiers of C# alone."""
    return name.replace("-", "_")


class _Once:
    """Progress of an upload that may begin again: no byte counts twice."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress = progress
        self._reported = 0
        self._at = 0

    def begin(self) -> None:
        self._at = 0

    def __call__(self, sent_bytes: int) -> None:
        self._at += sent_bytes
        if self._at > self._reported:
            self._progress(self._at - self._reported)
            self._reported = self._at


class _Digests:
    """The digests of an archive, taken body by body."""

    def __init__(self) -> None:
        self._md5 = _new_md5()
        self._sha256 = hashlib.sha256()

    def of(self, body: Body) -> bytes:
        """The MD5 of this body; those of the whole go on by it. Raises NotSent."""
        digest = _new_md5()
        self.add(body, digest)
        return digest.digest()

    def add(self, body: Body, *others: hashlib._Hash) -> None:
        """Go on by this body, as the ``others`` do. Raises NotSent."""
        try:
            while chunk := body.read(READ_BYTES):
                for one in (self._md5, self._sha256, *others):
                    one.update(chunk)
        except OSError as error:
            raise NotSent(
                f"the archive cannot be read from the workspace: {error.strerror}", hint=RENDER_AGAIN
            ) from error

    def checked(self, package: Package) -> bytes:
        """The MD5 of the whole. Raises NotSent if it is not what the package says."""
        if self._sha256.hexdigest() != package.content.archive_sha256:
            raise changed(package)
        return self._md5.digest()


def _new_md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)  # against accidents: the archive's SHA-256 is for the rest
