"""The record of what verification did to each sentence of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gem_lightning.claims.report import Verdict
from gem_lightning.errors import GemError

KEEP, FLAG, GUIDE, RESAMPLE, RESTATE, DROP, ADD = "keep", "flag", "guide", "resample", "restate", "drop", "add"
_NAMES = {
    KEEP: "kept",
    FLAG: "flagged",
    GUIDE: "numbers held to the measurement",
    RESAMPLE: "written again",
    RESTATE: "restated from the measurement",
    DROP: "dropped",
    ADD: "added from the measurement",
}
MODEL, MEASUREMENT = "model", "measurement"


@dataclass(frozen=True)
class Edit:
    """What became of one sentence.

    Attributes:
        draft: The model's sentence with the white space around it; empty for an added one.
        text: What stands in its place; empty for a dropped one.
        action: ``keep``, ``flag`` (kept, but contradicted or open), ``guide`` (numbers were held to the measurement),
            ``resample`` (another sentence of the model), ``restate``, ``drop`` or ``add``.
        source: Who wrote ``text``: ``model`` or ``measurement``.
        verdicts: On the claims of ``draft`` (of ``text`` where there is no draft); spans are relative to that sentence.
        reason: Why it was not simply kept.
        tokens: Tokens that the model wrote for it, sentences that were discarded included.
        start: Place of ``text``, without the white space around it, in the final text.
    """

    draft: str
    text: str
    action: str = KEEP
    source: str = MODEL
    verdicts: tuple[Verdict, ...] = ()
    reason: str = ""
    tokens: int = 0
    start: int = 0

    @property
    def kept(self) -> bool:
        """Whether the model's own sentence stands unchanged."""
        return self.action in (KEEP, FLAG)

    @property
    def line(self) -> str:
        """What was done and why, in one line."""
        draft, text = self.draft.strip(), self.text.strip()
        change = f"“{draft}” → “{text}”" if draft and text and draft != text else f"“{draft or text}”"
        return f"{_NAMES[self.action]}: {change}" + (f"; {self.reason}" if self.reason else "")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Edit:
        """Rebuild an edit from :meth:`to_dict`; the verdicts on the draft are left out.

        Raises:
            GemError: The values are those of no edit.
        """
        names = ("draft", "text", "action", "source", "reason")
        try:
            draft, text, action, source, reason = (str(values[name]) for name in names)
        except (KeyError, TypeError):
            raise GemError(f"expected an edit with {', '.join(names)}, got something else") from None
        if action not in _NAMES or source not in (MODEL, MEASUREMENT):
            raise GemError(f"expected an action of {', '.join(_NAMES)}, got {action[:40]!r} of {source[:40]!r}")
        return cls(draft, text, action, source, reason=reason)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "draft": self.draft,
            "text": self.text,
            "action": self.action,
            "source": self.source,
            "reason": self.reason,
            "tokens": self.tokens,
            "start": self.start,
            "verdicts": [
                {"claim": v.claim.to_dict(), "verdict": v.verdict, "measured": v.measured, "reason": v.reason}
                for v in self.verdicts
            ],
        }


@dataclass(frozen=True)
class Revision:
    """A text and how it came about.

    Attributes:
        text: The final text.
        edits: One per sentence, in order.
        tokens: Tokens that the model wrote, those of discarded sentences and texts included; 0 where not counted.
    """

    text: str
    edits: tuple[Edit, ...] = ()
    tokens: int = 0

    @classmethod
    def of(cls, text: str, edits: Sequence[Edit]) -> Revision:
        """Put a text and its edits together.

        Raises:
            GemError: The text is not that of the edits.
        """
        if edits and "".join(edit.text for edit in edits).strip() != text.strip():
            raise GemError("expected the text of the edits, one after the other, got another; leave the edits out")
        return cls(text.strip(), placed(edits, text.strip()) if edits and text.strip() else ())

    @property
    def draft(self) -> str:
        """The model's own sentences, one after the other."""
        return "".join(edit.draft for edit in self.edits).strip() if self.edits else self.text

    @property
    def kept_share(self) -> float:
        """See :func:`kept_share`."""
        return kept_share(self.edits)


def kept_share(edits: Sequence[Edit]) -> float:
    """Return the share of the model's own sentences that stand unchanged; 1 where there are none."""
    drafts = [edit for edit in edits if edit.draft.strip()]
    return sum(edit.kept for edit in drafts) / len(drafts) if drafts else 1.0


def placed(edits: Sequence[Edit], text: str) -> tuple[Edit, ...]:
    """Set the place of every edit in ``text``, which is the edits' texts joined and stripped."""
    full = "".join(edit.text for edit in edits)
    found, position = [], -full.index(text)
    for edit in edits:
        lead = len(edit.text) - len(edit.text.lstrip())
        found.append(replace(edit, start=min(max(0, position + lead), len(text))))
        position += len(edit.text)
    return tuple(found)
