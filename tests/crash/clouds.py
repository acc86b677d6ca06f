"""Google Cloud Storage and Azure as places where a process delivers, each behind a proxy.

The exporter gets there with the rights that it needs and no others; looking and arranging is done with
all rights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit.azure_stores import account_behind
from tests.kit.azurite import sas_of
from tests.kit.gcs_objects import EVERYTHING, Principal, Upload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.kit.azurite import Azurite
    from tests.kit.gcs_stores import Cloud
    from tests.kit.proxy import Proxy

OWNER = Principal("owner@customer.iam.gserviceaccount.com", ((EVERYTHING, ""),))


class GoogleBucket:
    """A bucket of Google's, with a key for a service account that may create objects in it."""

    def __init__(self, cloud: Cloud) -> None:
        self.proxy = cloud.proxy
        self._storage = cloud.gcs.storage
        self._name = cloud.bucket
        self.settings: Mapping[str, object] = {
            "type": "gcs",
            "bucket": cloud.bucket,
            "endpoint_url": cloud.proxy.url,
            "credentials": cloud.tokens.key_file(),
        }

    def objects(self) -> dict[str, bytes]:
        with self._storage.lock:
            stored = self._storage.buckets[self._name].objects
            return {name: one.data for name, one in stored.items()}

    def reset(self, objects: Mapping[str, bytes]) -> None:
        with self._storage.lock:
            bucket = self._storage.buckets[self._name]
            for name in bucket.objects.keys() - objects.keys():
                self._storage.delete(bucket, name, OWNER)
            for name in objects.keys() - bucket.objects.keys():
                self._storage.create(bucket, Upload(name, {}, {}), OWNER, objects[name], "")


class AzureContainer:
    """A container of Azure's, with a SAS: `c` creates blobs, and `cw` also lets large ones go in blocks."""

    def __init__(self, azurite: Azurite, proxy: Proxy, permission: str = "c") -> None:
        self.proxy = proxy
        self._azurite = azurite
        self._name = azurite.new_container()
        self.settings: Mapping[str, object] = {
            "type": "azure",
            "container": self._name,
            "account_url": account_behind(proxy),
            "sas": sas_of(self._name, permission),
        }

    def objects(self) -> dict[str, bytes]:
        with self._azurite.container(self._name) as client:
            return {name: client.download_blob(name).readall() for name in client.list_blob_names()}

    def reset(self, objects: Mapping[str, bytes]) -> None:
        with self._azurite.container(self._name) as client:
            names = set(client.list_blob_names())
            for name in names - objects.keys():
                client.delete_blob(name)
            for name in objects.keys() - names:
                client.upload_blob(name, objects[name])
