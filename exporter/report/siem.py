"""Which SIEMs there are, and the setup of one: what to heed, then files to copy, then what to fill in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.report.console import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from exporter.siem.consumers import Consumer, Siem
    from exporter.siem.delivery import Delivery
    from exporter.siem.packs import Pack

NEXT = "\nNext: audit-exporter siem NAME [--export NAME]; `siem: NAME` in an export chooses what NAME reads."


def show_consumers(out: Console, consumers: Mapping[Siem, Consumer]) -> None:
    """What each consumer reads, and from where."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("Name", "Consumer", "From", "Archive", "Body", "Longest record"):
        table.add_column(heading, overflow="fold")
    for name, one in consumers.items():
        limit = f"{one.max_record_bytes:,}" if one.max_record_bytes else ""
        lists = (", ".join(words) for words in (one.destinations, one.archives, one.bodies))
        table.add_row(name, one.title, *lists, limit)
    out.print(table)
    out.print(NEXT)


def show_pack(out: Console, name: str, delivery: Delivery, pack: Pack) -> None:
    """Everything of a pack, each file under a line with its name."""
    from rich.text import Text

    what = "events" if delivery.is_events else f"{delivery.folder}*{delivery.suffix}"
    out.print(f"[bold]{shown(pack.title)}[/bold] for export {shown(delivery.export)}: {shown(what)}")
    out.print(f"It finds records by {shown(pack.finds)}.")
    for caution in pack.cautions:
        out.print(f"\n[yellow]WARNING[/yellow] {shown(caution.message)}")
        out.print(f"        write instead: {shown(caution.instead)}")
    for note in pack.notes:
        out.print(f"\nNote: {shown(note)}")
    for section in pack.sections:
        out.print(f"\n[bold]--- {shown(section.file)}[/bold]: {shown(section.about)}")
        # Not as markup: `:key:` would become a picture.
        out.print(Text.from_markup(shown(section.text.rstrip("\n")), emoji=False))
    if pack.placeholders:
        out.print("\n[bold]--- To fill in[/bold]")
    for placeholder, meaning in pack.placeholders.items():
        out.print(f"{shown(f'<{placeholder}>')}: {shown(meaning)}")
    if pack.cautions:
        out.print(
            "\nThe files above are for the export as it is, unless they say so: ask again when it is changed."
        )
    else:
        out.print(f"\nThis export is as {name} reads it.")
