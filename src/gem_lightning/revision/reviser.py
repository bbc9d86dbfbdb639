"""Decide on each sentence of a growing text: kept, flagged, sampled again, restated or dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.report import CONTRADICTED, SUPPORTED, UNVERIFIABLE, ClaimReport, Verdict
from gem_lightning.claims.verify import verify
from gem_lightning.composition.facts import Facts
from gem_lightning.composition.instrument import refers_to_instrument, without_instrument
from gem_lightning.features.schema import EcgFeatures, Finding
from gem_lightning.revision.completion import additions
from gem_lightning.revision.edit import ADD, DROP, FLAG, GUIDE, KEEP, MEASUREMENT, RESAMPLE, RESTATE, Edit
from gem_lightning.revision.grammar import faults
from gem_lightning.revision.options import VerifyOptions
from gem_lightning.revision.restate import CONCLUDES, Restater
from gem_lightning.revision.segments import frame
from gem_lightning.revision.topics import topic

_UNDER_PACING = ("atrial_fibrillation", "atrial_flutter")
_ACTED_ON = ("not_urgent", "normal_ecg")  # a reader of these looks no further
_OF_RHYTHM = ("rhythm", "pr", "conduction", "axis")  # topics that are decided for a known rhythm only
#: Writes another sentence in place of the last: its number → the sentence and its tokens.
Retry = Callable[[int], tuple[str, int]]


class Reviser:
    """Holds one text to the measurements of its record.

    A sentence is verified together with the text before it, so that it means what it means in its place. What was
    accepted is free of contradictions, and a sentence that would bring one into it is not accepted: the text stays free
    of contradictions as it grows (unless ``on_fail`` is ``flag``).

    Args:
        features: Measurements of the record.
        found: Its findings.
        options: ``tries``, ``on_fail`` and ``complete``.
        question: What the text answers: findings and measurements that it names are added where the text has none.

    Attributes:
        text: What has been accepted, with its white space.
        edits: One per sentence.
        instrument_shown: Whether the question came with an instrument's reading.
        is_guided: Whether numbers of the last sentence were held to the measurement while it was written.
    """

    def __init__(
        self, features: EcgFeatures, found: Sequence[Finding], options: VerifyOptions, question: str = ""
    ) -> None:
        self.features, self.found, self.options = features, found, options
        self.question, self.instrument_shown = without_instrument(question)
        self.facts = Facts(features, found)
        self.text = ""
        self.edits: list[Edit] = []
        self.is_guided: Callable[[], bool] = bool
        self._claims: list[Claim] = []
        self._report = ClaimReport([])  # of the text verified last: a sentence that is kept is not verified twice
        self._concludes_at: int | None = None
        self._restater = Restater(self.facts)

    def __call__(self, draft: str, tokens: int = 0, retry: Retry | None = None) -> Edit:
        """Decide on the next sentence.

        Args:
            draft: The sentence with its white space.
            tokens: Tokens that the model wrote for it.
            retry: Samples another sentence.
        """
        report = self._verify(draft)
        own = self._own(report)
        edit = Edit(draft, draft, KEEP, verdicts=own, tokens=tokens)
        wrong = self._wrong(report) or self._untenable(own)
        if wrong:
            names = {v.claim for v in wrong}
            own = tuple(replace(v, verdict=CONTRADICTED) if v.claim in names else v for v in own)
            edit = replace(edit, verdicts=own)
            edit = self._replace(replace(edit, reason=_reasons(wrong)), retry)
        elif not self.instrument_shown and refers_to_instrument(draft):
            edit = self._left_out(replace(edit, reason="no instrument's reading was shown"))
        elif own and self._is_repeated(draft):
            edit = self._left_out(replace(edit, reason="stated before"))
        elif wording := faults(draft, last=False):
            edit = self._replace(replace(edit, reason=f"hard to read: {', '.join(wording)}"), retry)
        elif unsure := [v for v in own if v.verdict == UNVERIFIABLE]:
            edit = replace(edit, action=FLAG, reason=_reasons(unsure))
        if self.is_guided() and edit.kept:
            why = "; ".join(filter(None, ("numbers held to the measurement", edit.reason)))
            edit = replace(edit, action=GUIDE, source=MEASUREMENT, reason=why)
        self._accept(edit)
        return edit

    def finish(self) -> list[Edit]:
        """Add what was asked and ``complete`` asks for; a text of which nothing is left gets the measured rhythm."""
        added = []
        if self.question or self.options.complete:
            report = verify(self.text.strip(), self.features, findings=self.found)
            added += self._restater.unanswered(self.question, report)
            if self.options.complete:
                added += [text for text in additions(self.facts, report) if text not in added]
        if not self.text.strip() and not added and any(edit.draft.strip() for edit in self.edits):
            added += additions(self.facts, None)
        edits = []
        for text in added:
            gap = "" if not self.text or self.text[-1].isspace() else " "
            report = self._verify(gap + text)
            if self._wrong(report):
                continue
            edit = Edit("", gap + text, ADD, MEASUREMENT, self._own(report), "measured, and not in the text")
            self._accept(edit)
            edits.append(edit)
        return edits

    def addition(self, edit: Edit) -> str:
        """Return what the last edit adds to the text, which begins without white space."""
        return edit.text if self.text.strip() != edit.text.strip() else edit.text.lstrip()

    def is_sound(self, sentence: str) -> bool:
        """Whether a sentence may stand next: verified in its place, and as well written as the grammar check knows."""
        report = self._verify(sentence)
        return not (self._wrong(report) or self._untenable(self._own(report)) or faults(sentence))

    # -- one sentence --------------------------------------------------------------------------------------------------

    def _replace(self, edit: Edit, retry: Retry | None) -> Edit:
        """Find what stands in place of a contradicted sentence."""
        if self.options.on_fail == "flag" and not self.options.tries:
            return replace(edit, action=FLAG)
        for k in range(self.options.tries if retry is not None else 0):
            assert retry is not None
            text, tokens = retry(k)
            edit = replace(edit, tokens=edit.tokens + tokens)
            if text.strip() and self.is_sound(text):
                return replace(edit, text=text, action=RESAMPLE)
        restated = self._restated(edit) if self.options.on_fail == "restate" else None
        if restated is not None:
            return replace(edit, text=restated, action=RESTATE, source=MEASUREMENT)
        return self._left_out(edit)

    def _left_out(self, edit: Edit) -> Edit:
        """Drop a sentence; where nothing may change, flag it."""
        if self.options.on_fail == "flag":
            return replace(edit, action=FLAG)
        # a list keeps its line breaks, or the next item would stand in the line before
        return replace(edit, text=frame(edit.draft)[2], action=DROP)

    def _is_repeated(self, draft: str) -> bool:
        """Whether the same sentence stands in the text, or in its conclusion, already."""
        start = self._concludes_at or 0
        places = accumulate((len(edit.text) for edit in self.edits), initial=0)
        return any(
            place >= start and frame(edit.text)[1].lower() == frame(draft)[1].lower()
            for place, edit in zip(places, self.edits)
        )

    def _restated(self, edit: Edit) -> str | None:
        head, body, tail = frame(edit.draft)
        verdicts = [_moved(v, -len(head)) for v in edit.verdicts if v.claim.span[0] >= len(head)]
        stated = self._claims if self._concludes_at is None else self._stated_since(self._concludes_at)
        for text in self._restater.candidates(body, verdicts, stated, self._concludes_at is not None):
            whole = head + text + tail
            # nothing may stand as measured that the measurement leaves open
            sure = all(v.verdict == SUPPORTED for v in self._own(self._verify(whole)))
            if text.strip() and text != body and sure and self.is_sound(whole):
                return whole
        return None

    def _untenable(self, own: Sequence[Verdict]) -> list[Verdict]:
        """Claims that no measurement contradicts and that still must not stand.

        "No urgent finding" or "normal ECG" where that is not established: a reader could act on it. A finding or a PR
        interval that a certain rhythm leaves no room for ("sinus bradycardia" in a complete heart block, an axis under
        pacing). With ``complete`` the denial of what was measured as possible, which would stand next to it.
        """
        open_claims = [v for v in own if v.verdict == UNVERIFIABLE and not v.claim.uncertain]
        found = [v for v in open_claims if v.claim.finding in _ACTED_ON and not v.claim.negated]
        if self.options.complete:
            stated = self.facts.stated
            denied = [v for v in open_claims if v.claim.negated and v.claim.finding in stated]
            found += [v for v in denied if stated[str(v.claim.finding)].finding.abnormal]
        return found + self._displaced(own, [v for v in open_claims if not v.claim.negated])

    def _displaced(self, own: Sequence[Verdict], open_claims: Sequence[Verdict]) -> list[Verdict]:
        """Claims that a rhythm measured for certain leaves no room for.

        What a pacemaker hides stays open: fibrillation and flutter go on under ventricular pacing.
        """
        code = self.facts.rhythm
        if code is None or self.facts.stated[code].uncertain:
            return []
        named = code in {v.claim.finding for v in own if not v.claim.negated}
        hidden = _UNDER_PACING if code == "paced_rhythm" else ()
        found = []
        for verdict in open_claims:
            claim = verdict.claim
            other = claim.kind == "finding" and topic(claim) in _OF_RHYTHM and claim.finding not in hidden
            without_p = claim.kind == "pr" and claim.beat is None and not self.facts.p_expected
            if (other and not named and "in the presence of" in verdict.reason) or (
                without_p and not verdict.reason.startswith("borderline")
            ):
                found.append(verdict)
        return found

    def _verify(self, sentence: str) -> ClaimReport:
        """Verify the text so far with a sentence behind it."""
        text = self.text + sentence
        if self._report.text != text or not text:
            self._report = verify(text, self.features, findings=self.found)
        return self._report

    def _own(self, report: ClaimReport) -> tuple[Verdict, ...]:
        """The verdicts on the last sentence, spans relative to it."""
        start = len(self.text)
        return tuple(_moved(v, -start) for v in report.verdicts if v.claim.span[1] > start)

    def _wrong(self, report: ClaimReport) -> list[Verdict]:
        """What a sentence brings into the text: every contradiction that the text had not before it."""
        known = {v.claim.meaning for edit in self.edits for v in edit.verdicts if edit.action == FLAG}
        start = len(self.text)
        return [
            v
            for v in report.verdicts
            if v.verdict == CONTRADICTED and (v.claim.span[1] > start or v.claim.meaning not in known)
        ]

    def _accept(self, edit: Edit) -> None:
        if CONCLUDES.match(frame(edit.draft)[1]):
            self._concludes_at = len(self.text)
        self.edits.append(edit)
        self.text += edit.text
        self._claims = [v.claim for v in self._verify("").verdicts]

    def _stated_since(self, start: int) -> list[Claim]:
        return [claim for claim in self._claims if claim.span[0] >= start]


def _moved(verdict: Verdict, by: int) -> Verdict:
    start, end = verdict.claim.span
    return replace(verdict, claim=verdict.claim._replace(span=(max(0, start + by), end + by)))


def _reasons(verdicts: Sequence[Verdict]) -> str:
    return "; ".join(dict.fromkeys(f"{_name(v.claim)}: {v.reason}" for v in verdicts))


def _name(claim: Claim) -> str:
    return f"{'no ' if claim.negated else ''}{claim.finding or claim.kind}".replace("_", " ")
