"""A program that has encoders: it says which, and renders a range with them for each line that it is given.

Its argument says what is unusual about it: ``slow`` encoders are not through before it is dead, ``closed``
are its standard streams, ``ignoring`` is it of the end of its children.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, TextIO

from exporter import encoders as module
from exporter.encoders import Encoders
from exporter.formats import compile_format
from tests.kit import encoding as kit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.interfaces import Block, Format
    from exporter.model import Occasion, Rendering

PARENT = os.getpid()
SOME = 6
"""After so many blocks, each encoder has some."""


def slow_format(rendering: Rendering, occasion: Occasion | None = None) -> Format:
    """One with which an encoder is busy until its parent is dead."""
    form = compile_format(rendering, occasion)
    encode = form.encode

    def wait(block: Block) -> tuple[bytes, Mapping[str, int]]:
        while os.getpid() != PARENT and os.getppid() == PARENT:
            time.sleep(0.01)
        return encode(block)

    form.encode = wait  # type: ignore[method-assign]
    return form


def watched(blocks: list[Block], out: TextIO) -> Iterator[Block]:
    """Says when some of them are on their way."""
    for number, block in enumerate(blocks):
        if number == SOME:
            out.write("begun\n")
        yield block


def main(mode: str) -> None:
    module.ALONE_BYTES = -1  # type: ignore[misc]
    module.ALONE_SHARE = -1  # type: ignore[misc]
    if mode == "ignoring":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    lines = os.fdopen(os.dup(0))
    out = os.fdopen(os.dup(1), "w", buffering=1)
    if mode == "closed":
        os.closerange(0, 3)
        for name in ("stdin", "stdout", "stderr"):  # as Python has it where they are closed from the start
            setattr(sys, name, None)
            setattr(sys, f"__{name}__", None)
    with Encoders(2, slow_format if mode == "slow" else compile_format) as encoders:
        for number in (signal.SIGINT, signal.SIGTERM):  # from here on: what they do about these is theirs
            signal.signal(number, lambda *_: None)
        out.write(" ".join(str(one.process_id) for one in kit.processes(encoders)) + "\n")
        for _ in lines:
            blocks = kit.some_blocks(20)
            given = watched(blocks, out) if mode == "slow" else blocks
            found, elsewhere = kit.shared(encoders, kit.PLAIN, given)
            out.write("right\n" if found == kit.alone(kit.PLAIN, blocks) and elsewhere else "wrong\n")
    out.write(f"{encoders.losses}\n")


if __name__ == "__main__":
    main(sys.argv[1])
