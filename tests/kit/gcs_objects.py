"""The rules of Google Cloud Storage for ``gcs_server``: buckets, permissions, objects, upload sessions.

Held to the documented JSON API, and to the sentences that its users report. No HTTP in here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import RLock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import google_crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EVERYTHING = "*"
KEY = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")
CLASSES = {"STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "MULTI_REGIONAL", "REGIONAL"}
NAME_BYTES = 1024
NO_PRECONDITION = "At least one of the pre-conditions you specified did not hold."
NO_LEGACY_ACL = (
    "Cannot insert legacy ACL for an object when uniform bucket-level access is enabled. "
    "Read more at https://cloud.google.com/storage/docs/uniform-bucket-level-access"
)
KEY_DENIED = (
    "Permission denied on Cloud KMS key. "
    "Please ensure that your Cloud Storage service account has been authorized to use this key."
)


class GoogleError(Exception):
    """What the API answers when it refuses. ``plain``: upload sessions have some errors as text, not JSON."""

    def __init__(
        self, status: int, reason: str, message: str, *, domain: str = "global", header: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.domain = domain
        self.header = header
        self.plain = not reason

    def body(self) -> bytes:
        """As it is sent."""
        if self.plain:
            return self.message.encode()
        where = {"locationType": "header", "location": self.header} if self.header else {}
        detail = {"message": self.message, "domain": self.domain, "reason": self.reason} | where
        return json.dumps(
            {"error": {"code": self.status, "message": self.message, "errors": [detail]}}
        ).encode()


def invalid(message: str) -> GoogleError:
    return GoogleError(400, "invalid", message)


@dataclass(frozen=True)
class Principal:
    """Who asks: the e-mail address of a service account, or nobody; permissions each with a name prefix."""

    email: str = ""
    grants: tuple[tuple[str, str], ...] = ()

    def may(self, permission: str, name: str = "") -> bool:
        """A grant under a prefix is a condition on the object's name: it says nothing about the bucket."""
        return any(
            granted in {EVERYTHING, permission} and name.startswith(prefix) for granted, prefix in self.grants
        )

    def need(self, permission: str, name: str = "") -> None:
        if self.may(permission, name):
            return
        kind = "bucket" if permission in {"storage.objects.list", "storage.buckets.get"} else "object"
        message = (
            f"{self.email or 'Anonymous caller'} does not have {permission} access to the Google Cloud "
            f"Storage {kind}. Permission '{permission}' denied on resource (or it may not exist)."
        )
        if self.email:
            raise GoogleError(403, "forbidden", message)
        raise GoogleError(401, "required", message, header="Authorization")


@dataclass(frozen=True)
class StoredObject:
    """An object as it is kept. ``crc32c`` and ``md5`` are base64, as the API has them."""

    data: bytes = field(repr=False)
    metadata: Mapping[str, str]
    content_type: str
    content_encoding: str
    generation: int
    kms_key: str
    storage_class: str
    crc32c: str
    md5: str
    created: datetime
    held_until: datetime | None

    def resource(self, bucket: str, name: str, address: str) -> dict[str, Any]:
        """What the API says about it; clients follow ``mediaLink`` to read it."""
        path = f"storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        created = _rfc3339(self.created)
        optional = {
            "metadata": dict(self.metadata),
            "contentEncoding": self.content_encoding,
            "kmsKeyName": f"{self.kms_key}/cryptoKeyVersions/1" if self.kms_key else "",
            "retentionExpirationTime": _rfc3339(self.held_until) if self.held_until else "",
        }
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self.generation}",
            "selfLink": f"{address}/{path}",
            "mediaLink": f"{address}/download/{path}?generation={self.generation}&alt=media",
            "name": name,
            "bucket": bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": self.content_type,
            "storageClass": self.storage_class,
            "size": str(len(self.data)),
            "md5Hash": self.md5,
            "crc32c": self.crc32c,
            "etag": base64.b64encode(str(self.generation).encode()).decode(),
            **dict.fromkeys(("timeCreated", "updated", "timeStorageClassUpdated", "timeFinalized"), created),
        } | {key: value for key, value in optional.items() if value}


@dataclass
class Bucket:
    """A bucket; ``properties`` are those of the API's bucket resource."""

    name: str
    properties: Mapping[str, Any]
    objects: dict[str, StoredObject] = field(default_factory=dict)
    throttled: int = 0

    @property
    def location(self) -> str:
        return str(self.properties.get("location", "US"))

    @property
    def retention(self) -> timedelta:
        policy = self.properties.get("retentionPolicy", {})
        return timedelta(seconds=int(policy.get("retentionPeriod", "0")))

    def get(self, name: str, generation: str = "") -> StoredObject:
        stored = self.objects.get(name)
        if stored is None or generation not in {"", str(stored.generation)}:
            raise GoogleError(404, "notFound", f"No such object: {self.name}/{name}")
        return stored

    def release(self, name: str) -> None:
        """Raises if a retention policy holds the object."""
        until = self.get(name).held_until
        if until is not None and datetime.now(UTC) < until:
            raise GoogleError(
                403,
                "retentionPolicyNotMet",
                f"Object '{self.name}/{name}' is subject to bucket's retention policy or object retention "
                f"and cannot be deleted or overwritten until {until.isoformat()}",
            )

    def slow_down(self, name: str) -> None:
        """Raises as often as a test said that it must."""
        if self.throttled:
            self.throttled -= 1
            raise GoogleError(
                429,
                "rateLimitExceeded",
                f"The object {self.name}/{name} exceeded the rate limit for object mutation operations "
                "(create, update, and delete). Please reduce your request rate.",
                domain="usageLimits",
            )

    def resource(self) -> dict[str, Any]:
        return {
            "kind": "storage#bucket",
            "id": self.name,
            "name": self.name,
            "location": self.location,
            "storageClass": "STANDARD",
        } | dict(self.properties)


@dataclass(frozen=True)
class Upload:
    """What an upload asks for, from its query and its object resource."""

    name: str
    query: Mapping[str, str]
    resource: Mapping[str, Any]
    content_type: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str], resource: Mapping[str, Any], content_type: str) -> Upload:
        names = [source["name"] for source in (query, resource) if source.get("name")]
        if len(set(names)) > 1:
            raise invalid(
                f"Value '{names[1]}' in content does not agree with value '{names[0]}'. This can happen when "
                "a value set through a parameter is inconsistent with a value set in the request."
            )
        if not names:
            raise GoogleError(400, "required", "Required")
        return cls(names[0], query, resource, content_type)

    def setting(self, name: str) -> str:
        """In the resource or in the query."""
        return str(self.query.get(name) or self.resource.get(name) or "")

    def expects(self, existing: StoredObject | None) -> bool:
        """Does the precondition hold? Others than this one are not silently passed over."""
        if any(re.match(r"if[A-Z]", name) for name in self.query.keys() - {"ifGenerationMatch"}):
            raise GoogleError(501, "notImplemented", "This server knows ifGenerationMatch alone.")
        generation = existing.generation if existing else 0
        return _number(self.query, "ifGenerationMatch") in {None, generation}


class Storage:
    """All buckets, objects, keys, principals and sessions; safe from many threads, each change atomic."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.buckets: dict[str, Bucket] = {}
        self.principals: dict[str, Principal] = {"": Principal()}
        self.keys: dict[str, bool] = {}
        self._generations = self._new_generations()

    def caller(self, token: str) -> Principal:
        """Raises 401 for a token that nobody was given; no token is everybody."""
        if token not in self.principals:
            raise GoogleError(401, "authError", "Invalid Credentials", header="Authorization")
        return self.principals[token]

    def bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise GoogleError(404, "notFound", "The specified bucket does not exist.")
        return self.buckets[name]

    def admit(self, bucket: Bucket, upload: Upload, principal: Principal) -> None:
        """Raises unless an upload may begin: everything but its bytes."""
        with self.lock:
            principal.need("storage.objects.create", upload.name)
            _check_name(upload.name)
            self._check_settings(bucket, upload)
            existing = bucket.objects.get(upload.name)
            if not upload.expects(existing):
                raise GoogleError(412, "conditionNotMet", NO_PRECONDITION, header="If-Match")
            if existing is not None:
                principal.need("storage.objects.delete", upload.name)
                bucket.release(upload.name)

    def create(
        self, bucket: Bucket, upload: Upload, principal: Principal, data: bytes, hashes: str
    ) -> StoredObject:
        """The new object. ``hashes``: the request's `x-goog-hash`."""
        with self.lock:
            bucket.slow_down(upload.name)
            self.admit(bucket, upload, principal)
            crc32c, md5 = crc32c_of(data), base64.b64encode(hashlib.md5(data).digest()).decode()
            _check_hashes(_wanted(upload.resource, hashes), {"crc32c": crc32c, "md5": md5})
            now = datetime.now(UTC)
            bucket.objects[upload.name] = StoredObject(
                data,
                upload.resource.get("metadata", {}),
                upload.content_type or "application/octet-stream",
                upload.setting("contentEncoding"),
                next(self._generations),
                self._key(bucket, upload),
                upload.setting("storageClass") or bucket.properties.get("storageClass", "STANDARD"),
                crc32c,
                md5,
                now,
                now + bucket.retention if bucket.retention else None,
            )
            return bucket.objects[upload.name]

    def delete(self, bucket: Bucket, name: str, principal: Principal) -> None:
        with self.lock:
            principal.need("storage.objects.delete", name)
            bucket.release(name)
            del bucket.objects[name]

    def _check_settings(self, bucket: Bucket, upload: Upload) -> None:
        uniform = bucket.properties.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {})
        if uniform.get("enabled") and (upload.query.get("predefinedAcl") or upload.resource.get("acl")):
            raise invalid(NO_LEGACY_ACL)
        if upload.setting("storageClass") not in CLASSES | {""}:
            raise invalid("Invalid argument.")
        key = self._key(bucket, upload)
        if key:
            self._check_key(bucket, key)

    @staticmethod
    def _key(bucket: Bucket, upload: Upload) -> str:
        default = bucket.properties.get("encryption", {}).get("defaultKmsKeyName", "")
        return upload.setting("kmsKeyName") or str(default)

    def _check_key(self, bucket: Bucket, key: str) -> None:
        match = KEY.fullmatch(key)
        if match is None:
            raise GoogleError(400, "cloudKmsBadKey", "Bad Cloud KMS key.")
        if match[1].upper() != bucket.location.upper():
            raise invalid(
                f"Cloud KMS region '{match[1]}' not available for use with GCS region '{bucket.location}'."
            )
        if key not in self.keys:
            raise GoogleError(403, "forbidden", KEY_DENIED)
        if not self.keys[key]:
            message = "Cloud KMS key is disabled, destroyed, or scheduled to be destroyed."
            raise GoogleError(400, "cloudKmsDisabledKey", message)

    @staticmethod
    def _new_generations() -> Iterator[int]:
        return count(time.time_ns() // 1000)


def crc32c_of(data: bytes) -> str:
    """Base64, as the API has it."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def _check_name(name: str) -> None:
    size = len(name.encode())
    if size > NAME_BYTES:
        raise invalid(f"The maximum object length is 1024 characters, but got a name with {size} characters")
    if re.search(r"[\r\n]", name) or name in {".", ".."} or name.startswith(".well-known/acme-challenge/"):
        raise invalid("Disallowed unicode characters present in object name")


def _wanted(resource: Mapping[str, Any], hashes: str) -> dict[str, str]:
    pairs = (pair.strip().partition("=") for pair in hashes.split(",") if pair.strip())
    stated = {"crc32c": resource.get("crc32c"), "md5": resource.get("md5Hash")}
    return {name: str(value) for name, value in stated.items() if value} | {
        name: value for name, _, value in pairs
    }


def _check_hashes(wanted: Mapping[str, str], found: Mapping[str, str]) -> None:
    titles = {"crc32c": "CRC32C", "md5": "MD5 hash"}
    for kind, value in wanted.items():
        if kind not in titles:
            raise invalid("Invalid Value")
        if value != found[kind]:
            title = titles[kind]
            raise invalid(f'Provided {title} "{value}" doesn\'t match calculated {title} "{found[kind]}".')


def _number(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", query[name]):
        raise invalid(f"Invalid unsigned long value: '{query[name]}'")
    return int(query[name])


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
