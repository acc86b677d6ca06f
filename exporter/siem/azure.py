"""What a reader of Azure Blob Storage needs in Azure: the events of new blobs, and its rights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exporter.siem.sections import Section, of_json, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery

_GROUP = "/subscriptions/<SUBSCRIPTION ID>/resourceGroups/<RESOURCE GROUP>/providers"


def storage_account(delivery: Delivery) -> str:
    """The storage account's name, which an account's URL begins with."""
    host = urlsplit(delivery.settings.get("account_url", "")).hostname or ""
    return host.partition(".")[0] or "<STORAGE ACCOUNT>"


def container(delivery: Delivery) -> str:
    """The container's name."""
    return delivery.settings.get("container", "<CONTAINER>")


def elsewhere(delivery: Delivery) -> str:
    """The account's address where that is not in Azure's public cloud; else nothing."""
    url = delivery.settings.get("account_url", "")
    is_public = (urlsplit(url).hostname or "").endswith(".blob.core.windows.net")
    return "" if is_public or not url else url.rstrip("/") + "/"


def queue_name(delivery: Delivery) -> str:
    """The storage queue of the events."""
    return slug(delivery)


def queue_uri(delivery: Delivery, name: str) -> str:
    """A queue's address, in the cloud that the account is in."""
    host = urlsplit(delivery.settings.get("account_url", "")).hostname or ""
    suffix = re.sub(r"^[^.]+\.blob\.", "", host) if ".blob." in host else "core.windows.net"
    return f"https://{storage_account(delivery)}.queue.{suffix}/{name}"


def event_subscription(delivery: Delivery) -> Section:
    """Which new blobs become messages of the queue."""
    account = f"{_GROUP}/Microsoft.Storage/storageAccounts/{storage_account(delivery)}"
    folder = f"/blobServices/default/containers/{container(delivery)}/blobs/{delivery.folder}"
    properties = {
        "destination": {
            "endpointType": "StorageQueue",
            "properties": {"resourceId": account, "queueName": queue_name(delivery)},
        },
        "filter": {
            "includedEventTypes": ["Microsoft.Storage.BlobCreated"],
            "subjectBeginsWith": folder,
            "subjectEndsWith": delivery.suffix,
            "isSubjectCaseSensitive": True,
        },
        "eventDeliverySchema": "EventGridSchema",
    }
    about = (
        f"the body of PUT https://management.azure.com{account}/providers/Microsoft.EventGrid/"
        f"eventSubscriptions/{slug(delivery)}?api-version=2022-06-15"
    )
    return of_json("event-subscription.json", about, {"properties": properties})


def reader_roles(delivery: Delivery, principal: str, *, queues: bool = False) -> Section:
    """What the reader may do, and no more."""
    account = f"{_GROUP}/Microsoft.Storage/storageAccounts/{storage_account(delivery)}"
    roles = [
        {
            "principal": principal,
            "role": "Storage Blob Data Reader",
            "scope": f"{account}/blobServices/default/containers/{container(delivery)}",
        },
        *(
            {
                "principal": principal,
                "role": "Storage Queue Data Contributor",
                "scope": f"{account}/queueServices/default/queues/{name}",
            }
            for name in ((queue_name(delivery), f"{queue_name(delivery)}-dead") if queues else ())
        ),
    ]
    return of_json(
        "reader-roles.json", "the reader's roles: `az role assignment create`, one for each", roles
    )
