"""Huffman codes of SCP-ECG (EN 1064, annex C), decoded by a table of the next sixteen bits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gem_lightning.errors import EcgReadError

#: (bits of the prefix, bits in all, value, prefix with its first bit lowest).
Code = tuple[int, int, int, int]
#: Table C.1 of the standard's annex.
DEFAULT: tuple[Code, ...] = (
    (1, 1, 0, 0),
    # the default code of EN 1064 has a prefix of n + 1 ones, then the sign
    *((n + 2, n + 2, sign * n, (1 << n) - 1 | (sign < 0) << (n + 1)) for n in range(1, 9) for sign in (1, -1)),
    (10, 18, 0, 511),  # escapes: a value of 8 or of 16 bits follows the prefix of nine or ten ones
    (10, 26, 0, 1023),
)
_LOOK = 16  # bits of the table: every prefix of the default table fits
_MAX_CODE = 32  # bits of prefix and raw value together; the default table needs 26


def check_table(codes: list[Code]) -> tuple[Code, ...]:
    """The table, if the first sixteen bits distinguish its codes.

    Raises:
        EcgReadError: An impossible code length.
    """
    if not codes or any(prefix > _LOOK or not 1 <= prefix <= total <= _MAX_CODE for prefix, total, *_ in codes):
        raise EcgReadError(
            f"expected Huffman codes of at most {_MAX_CODE} bits, got impossible code lengths; the file is damaged"
        )
    return tuple(codes)


@lru_cache(maxsize=8)
def _lookup(table: tuple[Code, ...]) -> tuple[list[int], list[int], list[int]]:
    """For each value of the next sixteen bits: bits of the whole code (0: none fits), its value, raw bits in it."""
    bits, values, raws = ([0] * (1 << _LOOK) for _ in range(3))
    for prefix, total, value, code in sorted(table, key=lambda entry: -entry[0]):  # a shorter prefix wins
        first = int(f"{code & ((1 << prefix) - 1):0{prefix}b}"[::-1], 2) << (_LOOK - prefix)
        span = slice(first, first + (1 << (_LOOK - prefix)))
        count = 1 << (_LOOK - prefix)
        bits[span], values[span], raws[span] = [total] * count, [value] * count, [total - prefix] * count
    return bits, values, raws


def decode(data: bytes, samples: int, table: tuple[Code, ...]) -> np.ndarray:
    """Decoded values, at most ``samples``: fewer where the bytes end."""
    lengths, values, raws = _lookup(table)
    windows, words = _windows(data)
    out: list[int] = []
    at, end = 0, 8 * len(data)
    while len(out) < samples and at < end:
        window = windows[at]
        length = lengths[window]
        if not length:
            raise EcgReadError(f"expected {samples} samples of a lead, got {len(out)}; the file is damaged")
        at += length
        if at > end:
            break
        raw = raws[window]
        if raw:
            value = int(words[at - raw]) >> (32 - raw)
            out.append(value - (value >> (raw - 1) << raw))  # two's complement
        else:
            out.append(values[window])
    return np.array(out, dtype=np.int64)


def _windows(data: bytes) -> tuple[list[int], np.ndarray]:
    """The sixteen and the 32 bits that begin at each bit of ``data``."""
    padded = np.frombuffer(data + bytes(8), np.uint8).astype(np.uint64)
    n = len(data)
    wide = (
        padded[:n] << 32
        | padded[1 : n + 1] << 24
        | padded[2 : n + 2] << 16
        | padded[3 : n + 3] << 8
        | padded[4 : n + 4]
    )
    shifts = np.arange(8, 0, -1, dtype=np.uint64)  # 40 bits: 8 shifts of a 32-bit word
    words = ((wide[:, None] >> shifts) & np.uint64(0xFFFFFFFF)).ravel().astype(np.uint32)
    return (words >> np.uint32(32 - _LOOK)).tolist(), words
