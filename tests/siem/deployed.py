"""The files in `deploy/siem` are what the program prints: `python -m tests.siem.deployed` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.model import Rendering, flat_mapping
from exporter.siem.consumers import CONSUMERS
from exporter.siem.delivery import Origin, Pace, delivery_of
from exporter.siem.packs import pack_of

if TYPE_CHECKING:
    from exporter.siem.consumers import Siem
    from exporter.siem.delivery import Delivery

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "siem"
STANDARD: Final = {
    "Date": ("rfc3339", "created_at"),
    "Email": ("text", "actor_email"),
    "Action": ("text", "action"),
    "Action ID": ("text", "target_id"),
    "Description": ("text", "summary"),
    "IP Address": ("text", "ip_address"),
    "Event ID": ("text", "id"),
}


def delivery(name: Siem) -> Delivery:
    """An account `acme`, in format `standard` with `siem: NAME`, whose place is all to fill in."""
    consumer = CONSUMERS[name]
    archive = consumer.archives[0] if consumer.archives else "events"
    rendering = Rendering(
        "standard",
        flat_mapping(STANDARD),
        archive=archive,
        max_record_bytes=consumer.max_record_bytes or 4_000_000,
    )
    pace = Pace((consumer.part_limit_mb or 1000) * 1_000_000)
    destination = {"type": consumer.destinations[0]}
    return delivery_of("acme", "acme", destination, rendering, Origin("created_at"), pace)


def files() -> dict[str, str]:
    """Each file, by its path below the folder."""
    return {
        f"{name}/{section.file}": section.text
        for name in CONSUMERS
        for section in pack_of(name, delivery(name)).sections
    }


def written() -> None:
    """Write them all."""
    for name, text in files().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    written()
