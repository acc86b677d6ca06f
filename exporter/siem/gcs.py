"""What a reader of Google Cloud Storage needs there: notifications on a topic, and the reader's rights."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from exporter.siem.sections import Section, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery


def bucket(delivery: Delivery) -> str:
    """The bucket's name."""
    return delivery.settings.get("bucket", "<BUCKET>")


def wiring(delivery: Delivery, reader: str, *, topic: bool) -> list[Section]:
    """The reader's right to read; with ``topic`` a subscription tells it of new objects, without it lists."""
    name = slug(delivery)
    member = f"serviceAccount:{reader}"
    grant = ["gcloud", "storage", "buckets", "add-iam-policy-binding", f"gs://{bucket(delivery)}"]
    grant += [f"--member={member}", "--role=roles/storage.objectViewer"]
    commands = [[*grant, f"--condition={_condition(delivery, name, lists=not topic)}"]]
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
    if not topic:
        about += "; the reader gets the objects of this folder, and may list the names of the whole bucket"
    return [Section("google-cloud.sh", about, "sh", text)]


def _condition(delivery: Delivery, title: str, *, lists: bool) -> str:
    """The objects of the folder; for a reader that lists, the bucket too, which that is a right on."""
    whole = f"projects/_/buckets/{bucket(delivery)}"
    folder = json.dumps(f"{whole}/objects/{delivery.folder}", ensure_ascii=False)
    expression = f"resource.name.startsWith({folder})"
    if lists:
        expression += f' || resource.name == "{whole}"'
    # gcloud parts a condition at its commas, unless `^` names another sign.
    apart = "," if "," not in expression else next(sign for sign in "~#%@" if sign not in expression)
    mark = "" if apart == "," else f"^{apart}^"
    return f"{mark}expression={expression}{apart}title={title}"
