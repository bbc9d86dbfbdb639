"""Hold numbers to the measurement while a model writes them."""

from __future__ import annotations

import math
import re
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import LogitsProcessor

from gem_lightning.claims.extract import extract
from gem_lightning.claims.tolerance import default_tolerance
from gem_lightning.claims.verify import readings
from gem_lightning.composition.facts import Facts
from gem_lightning.models.verified.number_tokens import NumberTokens
from gem_lightning.revision.segments import segments
from gem_lightning.revision.topics import topic

#: Half a tolerance: a number at the tolerance's edge is as often beyond it, for the measurement errs too.
SHARE = 0.5
#: Kinds of the whole record, each with a value that any reader takes for it where the record has none.
_WHOLE = {"heart_rate": 72, "rr": 830, "pr": 160, "qrs": 95, "qt": 390, "qtc": 410, "p_duration": 110, "axis_qrs": 45,
          "axis_p": 50, "axis_t": 40}  # fmt: skip
_IN_MS = ("rr", "pr", "qrs", "qt", "qtc", "p_duration")
_PROBE_MV = 0.37  # a voltage that every lead and wave may have, to ask which one a sentence is about
_TOKENS: WeakKeyDictionary[Any, NumberTokens] = WeakKeyDictionary()


class GuidedNumbers(LogitsProcessor):
    """Where a model is about to write a number of a known quantity, admits only numbers near the measurement.

    What quantity a number would measure is asked of the parser that reads claims: the sentence so far, with a number
    put behind it, is read. Numbers that measure nothing, or whose quantity comes after them, are left to the model. For
    one answer; the model decodes one row.

    Args:
        tokenizer: Of the model.
        facts: Of the record.
        prompt: Length of the prompt, tokens.

    Attributes:
        changed: How many tokens are not the model's own choice.
    """

    def __init__(self, tokenizer: Any, facts: Facts, prompt: int) -> None:
        self.tokenizer, self.prompt = tokenizer, prompt
        self.quantities = Quantities(facts)
        if tokenizer not in _TOKENS:
            _TOKENS[tokenizer] = NumberTokens(tokenizer)
        self.tokens = _TOKENS[tokenizer]
        self.changed = 0
        self._targets: frozenset[str] = frozenset()
        self._start = 0
        self._ids: list[int] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Mask tokens of ``scores`` (1, V) that would lead away from the measurement."""
        before, self._ids = self._ids, input_ids[0, self.prompt :].tolist()
        if self._ids[:-1] != before:  # another beginning of the answer: no number is open
            self._targets = frozenset()
        answer = self.tokenizer.decode(self._ids, skip_special_tokens=True)
        top = int(scores[0].argmax())
        if self._targets and not self._open(answer):
            self._targets = frozenset()
        if not self._targets:
            self._begin(answer, top)
        if not self._targets:
            return scores
        written = answer[self._start :].lstrip()
        allowed = self.tokens.allowed(written, self._targets, self.tokens.spaced(top) if not written else None)
        if not allowed.any():  # the tokenizer cannot write any of these numbers
            self._targets = frozenset()
            return scores
        mask = torch.as_tensor(allowed, device=scores.device)
        if len(mask) < scores.shape[1]:  # rows of the head beyond the tokenizer
            mask = torch.cat([mask, mask.new_zeros(scores.shape[1] - len(mask))])
        held = scores.masked_fill(~mask[None, : scores.shape[1]], -torch.inf)
        if not bool(mask[top]):
            self.changed += 1
        return held

    def _open(self, answer: str) -> bool:
        """Whether the number that was begun may still go on."""
        written = answer[self._start :].lstrip()
        stopped = written.removesuffix(".")  # a full stop may still turn into a decimal point
        return not written or stopped in self._targets or any(t.startswith(written) for t in self._targets)

    def _begin(self, answer: str, top: int) -> None:
        """Look what the number would measure that the model is about to begin."""
        if not self.tokens.begins(top) or (answer[-2:-1].isdigit() and answer[-1:] in (".", ",")):
            return
        if answer[-1:].isalnum() and not self.tokens.spaced(top):  # V2, or more digits of a number
            return
        signed = answer[-1:] in ("-", "−") and not answer[-2:-1].isalnum()
        start = len(answer) - signed
        pieces = segments(answer[:start])
        sentence = pieces[-1] if pieces else ""
        targets = self.quantities.targets(sentence, answer)
        if any("." not in t for t in targets):  # in ms, or in seconds where the model is about to write a fraction
            fraction = self.tokens.literal.get(top, "").lstrip()[:1] in ("0", ".")
            targets = frozenset(t for t in targets if ("." in t) == fraction) or targets
        if signed:
            targets = frozenset(t for t in targets if t.startswith(answer[-1:]))
        self._targets, self._start = targets, start


def _is_rate(text: str) -> bool:
    """Whether a number right behind the text is a rate: it stands behind the name of a rhythm ("sinus rhythm at")."""
    last = [c for c in extract(text) if c.finding and topic(c) == "rhythm"]
    return bool(last) and re.fullmatch(r"(?: at|,)? ?", text[last[-1].span[1] :]) is not None


class Quantities:
    """The numbers that may stand at the end of a sentence so far.

    Args:
        facts: Of the record.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.values = {kind: value for kind in _WHOLE if (value := facts.number(kind)) is not None}
        self._probes = _WHOLE | self.values

    def targets(self, sentence: str, answer: str = "") -> frozenset[str]:
        """Return how the number may be written; empty where its quantity is unknown or was not measured.

        Args:
            sentence: What stands before the number.
            answer: The whole answer so far, whose unit of voltages the number shares.
        """
        text = sentence.rstrip(" ") + ("" if sentence[-1:] in "(/" else " ")
        if not text.strip():
            return frozenset()
        kinds = [kind for kind in _WHOLE if self._reads(text, kind)]
        if not kinds and _is_rate(text):
            kinds = ["heart_rate"]
        if kinds:
            return self._whole(kinds[0]) if len(kinds) == 1 and kinds[0] in self.values else frozenset()
        return self._voltage(text, " mm" if " mm" in answer and "mV" not in answer else " mV")

    def _reads(self, text: str, kind: str) -> bool:
        """Whether the value of a kind, put behind the text without a unit, is read as that kind."""
        value = abs(self._probes[kind])
        last = [c for c in extract(f"{text}{value}") if c.span[1] > len(text) and c.value is not None]
        return any(c.kind == kind and abs(abs(c.value or 0.0) - value) < 1e-6 for c in last)

    def _whole(self, kind: str) -> frozenset[str]:
        value = float(self.values[kind])
        reach = SHARE * default_tolerance(kind, value, self.facts.features.rr_ms).value
        numbers = range(math.ceil(value - reach), math.floor(value + reach) + 1)
        found = {sign + str(abs(n)) for n in numbers for sign in (("−", "-") if n < 0 else ("",))}
        if kind in _IN_MS:  # in seconds
            found |= {f"{n / 1000:.{digits}f}" for n in numbers for digits in (2, 3)
                      if abs(round(n / 1000, digits) * 1000 - value) <= reach}  # fmt: skip
        return frozenset(found)

    def _voltage(self, text: str, unit: str) -> frozenset[str]:
        scale = 10.0 if unit == " mm" else 1.0
        probe = f"{_PROBE_MV * scale:g}"
        claims = [c for c in extract(f"{text}{probe}{unit}.") if c.value is not None and c.span[1] > len(text)]
        if len(claims) != 1 or claims[0].unit != "mV" or len(claims[0].leads) != 1:
            return frozenset()
        claim = claims[0]
        sign = 1.0 if (claim.value or 0.0) > 0 else -1.0  # "depression of 1 mm" is a level of −0.1 mV
        (reading, *_) = readings(self.facts.features, claim)
        if reading.value is None:
            return frozenset()
        value = reading.value * sign
        if sign < 0 and value < 0:  # nothing is depressed there
            return frozenset()
        reach = SHARE * default_tolerance(claim.kind, reading.value).value
        digits = 1 if unit == " mm" else 2
        step = 10.0**-digits
        first = math.ceil((value - reach) * scale / step - 1e-9)
        last = math.floor((value + reach) * scale / step + 1e-9)
        numbers = [n * step for n in range(first, last + 1)]
        signs = {True: ("−", "-"), False: ("",)}
        return frozenset(s + f"{abs(n):.{digits}f}" for n in numbers for s in signs[n < -step / 2])
