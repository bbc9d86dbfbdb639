"""Bound the work that one file may cost, whatever its header claims."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from gem_lightning.errors import EcgReadError

LIMITS = {
    # Chosen so that any one of them is reached within 2 s and 500 MB on one core of a small server.
    "bytes": 64 * 1024 * 1024,  # of content, unpacked archives included
    "unpacked bytes": 16 * 1024 * 1024,  # of gzip: what compresses is text, which costs several times a binary file
    "channels": 256,  # hospital EEG systems that record ECG alongside have 128
    "samples": 16_000_000,  # of all leads together, after resampling: 44 minutes of 12 leads at 500 Hz
    "table bytes": 32 * 1024 * 1024,  # of CSV, JSON and other text tables
    "table cells": 4_000_000,  # text costs 40 times a binary sample: 11 minutes of 12 leads
    "XML tags": 400_000,  # the largest real aECG at hand has 4,000
    "Huffman-coded samples": 3_000_000,  # 8 minutes of 12 leads; SCP-ECG holds 10 s
    "Huffman codes": 512,  # EN 1064 expects some twenty
}
SECONDS = 10.0
"""Deadline of one call, several times what any limit above allows, so that only a defect or a stalled disk meets it."""


@dataclass
class Budget:
    """What is left of :data:`LIMITS` while one file is read; readers draw on it before they do the work.

    Attributes:
        name: The file's name, for messages.
    """

    name: str
    _spent: dict[str, float] = field(default_factory=dict)
    _deadline: float = field(default_factory=lambda: time.monotonic() + SECONDS)

    def check(self, what: str, amount: float) -> None:
        """Refuse ``amount`` of ``what``, a key of :data:`LIMITS`, where it exceeds the limit.

        Raises:
            EcgReadError: The limit is exceeded, or the deadline has passed.
        """
        if not amount <= LIMITS[what]:
            raise EcgReadError(
                f"expected at most {LIMITS[what]:,} {what}, got {amount:,.0f} in {self.name}; "
                "cut the recording, or correct the header if it is wrong"
            )
        if time.monotonic() > self._deadline:
            raise EcgReadError(f"expected to read {self.name} within {SECONDS:g} s, took longer; cut the recording")

    def spend(self, what: str, amount: float) -> None:
        """As :meth:`check` for the sum over all calls, for example over the members of an archive."""
        self._spent[what] = self._spent.get(what, 0) + amount
        self.check(what, self._spent[what])

    def extend(self, seconds: float) -> None:
        """Allow a reader of bounded work, such as the digitiser, longer than :data:`SECONDS` from now."""
        self._deadline = time.monotonic() + seconds
