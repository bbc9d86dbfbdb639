"""Tokens that spell a number out digit by digit, so that a language model copies it rather than computes it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DIGITS = 4  # an RR interval of a slow heart has four
NO_DIGIT = 10  # behind the last digit, and everywhere where there is no number


class NumberTokens(nn.Module):
    """One token a digit, from the left as texts are written: which digit, of which number, at which place.

    One embedding of a digit serves all numbers and places. A language model has to learn ten digits once, and where to
    look: tokens of whole numbers, with weights of their own, took more than five times as many samples.

    Args:
        count: Numbers.
        width: Of a token.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.digit = nn.Parameter(torch.randn(NO_DIGIT + 1, width))
        self.number = nn.Parameter(torch.randn(count, 1, width))
        self.place = nn.Parameter(torch.randn(DIGITS, width))
        self.negative = nn.Parameter(torch.randn(width))
        self.norm = nn.LayerNorm(width)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return (N, count * 4, width) of (N, count) numbers; they are rounded to integers, NaN is none."""
        tokens = self.digit[spell(numbers)] + self.number + self.place  # (N, count, 4, width)
        negative = (numbers < 0).to(tokens.dtype)[..., None, None] * self.negative
        return self.norm(tokens + negative).flatten(1, 2)


@torch.no_grad()
def spell(numbers: Tensor) -> Tensor:
    """Return the digits (..., 4) of numbers (...), from the left, :data:`NO_DIGIT` behind the last; signs are lost."""
    known = torch.isfinite(numbers)
    whole = numbers.float().nan_to_num(posinf=0.0, neginf=0.0).round().abs().clamp(max=10**DIGITS - 1).long()
    powers = 10 ** torch.arange(DIGITS - 1, -1, -1, device=numbers.device)  # of the digits, from the left
    right = whole[..., None] // powers % 10  # leading zeros included
    length = (whole[..., None] >= powers).sum(-1).clamp(min=1)
    place = torch.arange(DIGITS, device=numbers.device) + (DIGITS - length)[..., None]
    left = right.gather(-1, place.clamp(max=DIGITS - 1))
    return torch.where((place < DIGITS) & known[..., None], left, NO_DIGIT)
