"""Progress of a run: items done, rate, time left."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """Progress of a run; ``str(progress)`` is a line for the terminal.

    Args:
        total: Items of this run's part.
        skipped: Items finished by earlier runs.
    """

    total: int
    skipped: int = 0
    done: int = 0
    broken: int = 0
    rows: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Return the items per second of this run."""
        # 1e-9 s: the first record may end within the clock's step
        return self.done / max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Return the time left at the current rate, s; None before the first item."""
        return (self.total - self.skipped - self.done) / self.rate if self.done else None

    def __str__(self) -> str:
        finished = self.skipped + self.done
        left = "?" if self.seconds_left is None else duration(self.seconds_left)
        share = 100 * finished / max(self.total, 1)
        return f"{finished:,}/{self.total:,} ({share:.1f} %) · {self.rate:.1f}/s · {self.broken:,} broken · {left} left"


def duration(seconds: float) -> str:
    """Format seconds: ``42 s``, ``3 min 05 s``, ``5 h 12 min``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def show_progress() -> Callable[[Progress], None]:
    """Return a callback that updates a line on a terminal, or logs one every ten seconds elsewhere."""
    terminal = sys.stderr.isatty()
    every_s = 1.0 if terminal else 10.0
    last = [0.0]

    def show(progress: Progress) -> None:
        ended = progress.skipped + progress.done >= progress.total
        if not ended and time.monotonic() - last[0] < every_s:
            return
        last[0] = time.monotonic()
        if terminal:
            sys.stderr.write(f"\r\033[K{progress}" + ("\n" if ended else ""))
            sys.stderr.flush()
        else:
            logger.info("%s", progress)

    return show
