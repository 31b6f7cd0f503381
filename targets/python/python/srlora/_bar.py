"""The bar that is drawn where nobody has given a callback: on stderr, if that is a terminal, and nowhere else."""

import shutil
import sys
import time
from typing import Optional, TextIO

from .types import Event

_REDRAW_EVERY = 0.1
"""Seconds between two pictures of it."""


class Bar:
    """One line that is drawn over and over, and taken away at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._phase = ""
        self._done = 0
        self._total = 0
        self._told = ""
        self._begin = 0.0
        self._drawn = 0.0
        self._is_shown = False

    def __call__(self, event: Event) -> None:
        if event["event"] == "begin":
            self.clear()
            self._phase, self._total, self._done, self._told = event["phase"], event["total"], 0, ""
            self._begin = time.monotonic()
        elif event["event"] == "advance":
            self._done = event["done"]
        elif event["event"] == "step":
            self._done += 1
            self._told = f"  loss {event['loss']:.3f}  accuracy {100 * event['accuracy']:.0f} %"
        elif event["event"] == "end":
            self.clear()
            return
        elif event["event"] == "note":
            self.clear()
            self._stream.write(event["text"] + "\n")
            self._stream.flush()
            return
        else:
            return
        now = time.monotonic()
        if now - self._drawn >= _REDRAW_EVERY or self._done == self._total:
            self._drawn = now
            self._draw(now)

    def _draw(self, now: float) -> None:
        total = max(self._total, self._done, 1)
        left = (now - self._begin) / self._done * (total - self._done) if self._done else 0.0
        head = f"{self._phase:>16} {self._done}/{self._total} ["
        tail = f"]{self._told}  {left:.0f} s left"
        width = max(shutil.get_terminal_size().columns - len(head) - len(tail) - 1, 4)
        full = width * self._done // total
        self._stream.write("\r\x1b[K" + head + "=" * full + " " * (width - full) + tail)
        self._stream.flush()
        self._is_shown = True

    def clear(self) -> None:
        """Takes it away, so that others can write; the next event draws it again."""
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._is_shown = False


def on_terminal() -> Optional[Bar]:
    """A bar, where stderr is a terminal."""
    stream = sys.stderr
    # A program without a terminal may have no stderr at all.
    return Bar(stream) if stream is not None and stream.isatty() else None
