"""What a reader of Google Cloud Storage needs there: notifications on a topic, and the reader's rights."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from exporter.siem.sections import Section, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery


def bucket(delivery: Delivery) -> str:
    """The bucket's name."""
    return delivery.settings.get("bucket", "<BUCKET>")


def wiring(delivery: Delivery, reader: str, *, topic: bool) -> list[Section]:
    """The reader's right to read, and with ``topic`` a subscription that tells it of new objects."""
    name = slug(delivery)
    prefix = f"projects/_/buckets/{bucket(delivery)}/objects/{delivery.folder}"
    condition = f'expression=resource.name.startsWith("{prefix}"),title={name}'
    member = f"serviceAccount:{reader}"
    grant = ["gcloud", "storage", "buckets", "add-iam-policy-binding", f"gs://{bucket(delivery)}"]
    grant += [f"--member={member}", "--role=roles/storage.objectViewer", f"--condition={condition}"]
    commands = [grant]
    if topic:
        notify = ["gcloud", "storage", "buckets", "notifications", "create", f"gs://{bucket(delivery)}"]
        notify += [f"--topic={name}", "--event-types=OBJECT_FINALIZE", "--payload-format=json"]
        notify += [f"--object-prefix={delivery.folder}"]
        subscriber = ["gcloud", "pubsub", "subscriptions", "add-iam-policy-binding", name]
        subscriber += [f"--member={member}", "--role=roles/pubsub.subscriber"]
        commands += [
            ["gcloud", "pubsub", "topics", "create", name],
            ["gcloud", "pubsub", "subscriptions", "create", name, f"--topic={name}", "--ack-deadline=600"],
            notify,
            subscriber,
        ]
    text = "".join(f"{shlex.join(command)}\n" for command in commands)
    about = "for whoever owns the bucket, whose access has to be uniform: conditions need that"
    return [Section("google-cloud.sh", about, "sh", text)]
