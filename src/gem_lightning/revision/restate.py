"""Restate a contradicted sentence from the measurement, in the sentence's own place and style.

Three ways, from the smallest change to the largest: other numbers and names in the same sentence; the composer's
statements on the same topics, in the wording nearest to the sentence; the denial of what is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import cached_property

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.report import CONTRADICTED, SUPPORTED, ClaimReport, Verdict
from gem_lightning.composition.compose import statements_of
from gem_lightning.composition.conclusion import urgency
from gem_lightning.composition.facts import Facts, Statement
from gem_lightning.composition.phrases import Phrases, sentence
from gem_lightning.composition.sections import axis_code, hedged
from gem_lightning.revision.completion import additions
from gem_lightning.revision.grammar import faults
from gem_lightning.revision.topics import answers, asked, siblings, topic

#: Wordings that are compared with a sentence: enough that each phrase of the composer occurs.
_SEEDS = range(6)
_STYLES = ("interpretation", "report")
_NUMBER = re.compile(r"[−-]?(?:\d+(?:\.\d+)?|\.\d+)")
#: Written number over canonical value: the same unit, mm for mV, s for ms, depression written without its sign.
_SCALES = (1.0, 0.1, 1000.0, -1.0, -0.1)
#: The heading that opens a text's conclusion.
CONCLUDES = re.compile(
    r"[\W_]*(?:final |overall |clinical )?(?:conclusion|impression|summary|assessment|interpretation|diagnosis)s?"
    r"[*_]*\s*:[\s*_]*",
    re.IGNORECASE,
)
#: A sentence that leans on the one before it: a cause or a reason, which no other diagnosis can stand in for.
_LEANS = re.compile(r"(?:these|this|it|they|those|by definition)\b|.*\b(?:secondary|due) to\b", re.IGNORECASE)
_HEDGE = re.compile(r"\b(?:suspected|possible|probable|likely)\s+$", re.IGNORECASE)
_WHOLE = ("heart_rate", "rr", "pr", "qrs", "qt", "qtc", "jt", "p_duration", "axis_qrs", "axis_p", "axis_t")
_DENIED = ("left_atrial_enlargement", "right_atrial_enlargement", "lvh", "rvh", "st_elevation", "st_depression",
           "t_inversion", "pathological_q", "pac", "pvc", "low_voltage", "lbbb", "rbbb", "lafb", "lpfb",
           "long_qtc", "av_block_1", "early_repolarization")  # fmt: skip


class Restater:
    """Restates sentences about one record.

    Args:
        facts: Numbers and findings of the record.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def candidates(
        self, body: str, verdicts: Sequence[Verdict], stated: Sequence[Claim], concluding: bool
    ) -> Iterator[str]:
        """Yield sentences that could stand in place of ``body``, the best first; the caller verifies each.

        Args:
            body: The sentence without white space around it.
            verdicts: On its claims, spans relative to it; some are contradicted.
            stated: Claims of the text before it.
            concluding: It belongs to the text's conclusion.
        """
        leans = _LEANS.match(body) is not None
        # a garbled sentence with a right number in it is still garbled
        changed = None if faults(body, last=False) else self._replaced(body, verdicts, names=not leans)
        if changed is not None:
            yield changed
        if leans:
            yield from (text for text in self._composed(body, verdicts, stated) if _LEANS.match(text))
            return
        heading = CONCLUDES.match(body)
        if heading or concluding:
            yield from self._concluded(body, stated, heading.group() if heading else "")
        else:
            yield from self._composed(body, verdicts, stated)
        yield from self._denied(verdicts, stated)

    def unanswered(self, question: str, report: ClaimReport) -> list[str]:
        """Return a measured sentence for each subject of a question that a text says nothing about.

        Args:
            question: The question.
            report: On the text.
        """
        stated = [verdict.claim for verdict in report.verdicts]
        added = []
        for subject in asked(question):
            if topic(subject) == "summary" and not self.facts.holds("normal_ecg"):
                added += additions(self.facts, report)  # what is not normal
            elif not any(answers(claim, subject) for claim in stated):
                text, claims = self._measured_about(subject)
                added += [text] if text else []
                stated += claims
        return added

    def _measured_about(self, subject: Claim) -> tuple[str, Sequence[Claim]]:
        """What the composer states about a question's subject, else its finding, its denial, or that it is open."""
        code, names = str(subject.finding), {"mi": ["myocardial infarction"], **self.facts.table["findings"]}
        if topic(subject) == "urgency":
            urgent = urgency(self.facts, Phrases(0))
            return " ".join(s.text for s in urgent), [claim for s in urgent for claim in s.claims]
        if topic(subject) == "summary":
            return "Normal ECG.", [subject]
        for statement in self._pools[0]:
            if any(answers(claim, subject) for claim in statement.claims) and not _LEANS.match(statement.text):
                return statement.text, statement.claims
        # of an infarct anywhere, where it is
        stated = [c for c in self.facts.stated if c in names and answers(Claim("finding", finding=c), subject)]
        if stated:
            return sentence(", ".join(hedged(Phrases(0), self.facts.stated[c], names[c][0]) for c in stated)), [subject]
        asked_for = [code] if code in names else [c for c in siblings(code) if c in _DENIED and c in names]
        denied, left_open = (
            " or ".join(names[c][0] for c in asked_for if self.facts.missing(c) is missing) for missing in (True, False)
        )
        what = "sign of " if code == "mi" else ""  # no ECG excludes an infarct
        sentences = [sentence(f"no {what}{denied}")] if denied else []
        sentences += [f"The measurements leave open whether there is {left_open}."] if left_open else []
        return " ".join(sentences), [subject]

    # -- the same sentence with other numbers and names ----------------------------------------------------------------

    def _replaced(self, body: str, verdicts: Sequence[Verdict], names: bool) -> str | None:
        """Replace each number or name that is not supported; None where one of them has no counterpart."""
        changes: dict[tuple[int, int], str] = {}
        for verdict in verdicts:
            if verdict.verdict == SUPPORTED:  # what is restated holds nothing of the model's that was not confirmed
                continue
            named = verdict.claim.kind == "finding"
            change = (self._name(body, verdict) if names else None) if named else self._number(body, verdict)
            if change is None or changes.get(change[0], change[1]) != change[1]:
                return None
            if any(a < change[0][1] and change[0][0] < b for a, b in changes if (a, b) != change[0]):
                return None
            changes[change[0]] = change[1]
        for (start, end), new in sorted(changes.items(), reverse=True):
            body = body[:start] + new + body[end:]
        return body

    def _number(self, body: str, verdict: Verdict) -> tuple[tuple[int, int], str] | None:
        """The place of a claim's number and the measured one, written alike."""
        claim = verdict.claim
        measured = self._measured(verdict)
        if claim.value is None or claim.negated or measured is None:
            return None
        start, end = claim.span
        for match in _NUMBER.finditer(body, start, end):
            text = match.group().replace("−", "-")
            if body[match.start() - 1 : match.start()].isalpha():  # V2, T1: no number of a quantity
                continue
            for scale in _SCALES:
                if abs(float(text) * scale - claim.value) < 1e-6:
                    value = measured / scale
                    if "-" not in text and value < 0 and not claim.kind.startswith("axis"):
                        continue  # "depression of −0.3 mm" is no elevation of 0.3 mm
                    return match.span(), _written(value, match.group())
        return None

    def _measured(self, verdict: Verdict) -> float | None:
        claim = verdict.claim
        if claim.kind in _WHOLE and not claim.leads and claim.beat is None:
            return self.facts.number(claim.kind)
        one_place = len(claim.leads) == 1 or claim.kind == "voltage_sum" or claim.beat is not None
        return float(verdict.measured) if one_place and isinstance(verdict.measured, int | float) else None

    def _name(self, body: str, verdict: Verdict) -> tuple[tuple[int, int], str] | None:
        """The place of a finding's name and the name of what was measured instead."""
        claim = verdict.claim
        other = self._counterpart(str(claim.finding))
        if other is None or claim.negated or claim.leads or claim.beat is not None:
            return None
        stated = self.facts.stated[other]
        if stated.leads and topic(claim) in ("st", "t", "q"):
            return None
        phrases, names = Phrases(0), self.facts.table["findings"][self.facts.named(other)]
        if not _HEDGE.search(body[: claim.span[0]]):  # the sentence's own hedge stays
            names = [hedged(phrases, stated, name) for name in names]
        old = body[slice(*claim.span)]
        abbreviated = old.isupper()
        name = next((n for n in names if n.isupper() == abbreviated), names[0])
        if old[:1].isupper() and not abbreviated:
            name = name[:1].upper() + name[1:]
        return claim.span, name

    def _counterpart(self, code: str) -> str | None:
        """The measured finding of the same topic that a text may name."""
        if topic(Claim("finding", finding=code)) == "rhythm":
            found: str | None = self.facts.rhythm
        elif topic(Claim("finding", finding=code)) == "axis":
            found = axis_code(self.facts)
        else:
            found = next((other for other in siblings(code) if other in self.facts and other != code), None)
        return (
            found if found and found != code and found in self.facts.table["findings"] and found in self.facts else None
        )

    # -- the composer's statements -------------------------------------------------------------------------------------

    @cached_property
    def _pools(self) -> tuple[list[Statement], list[list[Statement]]]:
        """Statements of the body in many wordings, and the conclusions, each in order."""
        body: dict[str, Statement] = {}
        conclusions = []
        for style in _STYLES:
            for seed in _SEEDS:
                written = [s for s in statements_of(self.facts, seed, style) if s.text]
                start = next((i for i, s in enumerate(written) if CONCLUDES.match(s.text)), len(written))
                body |= {s.text: s for s in written[:start] if s.claims}
                conclusions.append([s for s in written[start:] if s.claims])
        return list(body.values()), conclusions

    def _composed(self, body: str, verdicts: Sequence[Verdict], stated: Sequence[Claim]) -> Iterator[str]:
        """Statements that cover the topics of a sentence, each in the wording nearest to it."""
        topics = list(dict.fromkeys(topic(v.claim) for v in verdicts))
        wrong = {topic(v.claim) for v in verdicts if v.verdict == CONTRADICTED}
        if "urgency" in wrong:
            yield " ".join(s.text for s in urgency(self.facts, Phrases(0)))
        known = {claim.meaning for claim in stated}
        chosen: list[str] = []
        covered: set[str] = set()
        for subject in topics:
            if subject in covered:
                continue
            fitting = [s for s in self._pools[0] if subject in {topic(c) for c in s.claims}]
            fitting = [s for s in fitting if not {c.meaning for c in s.claims} <= known]
            if not fitting:
                continue
            best = max(fitting, key=lambda s: _fit(s, body, verdicts, topics))
            chosen.append(best.text)
            covered |= {topic(c) for c in best.claims}
            known |= {c.meaning for c in best.claims}
        rest = {topic(v.claim) for v in verdicts} - wrong
        if chosen and (wrong & covered or rest & covered):  # what cannot be measured is left out
            yield " ".join(chosen)
            if len(chosen) > 1:
                yield from chosen

    def _concluded(self, body: str, stated: Sequence[Claim], heading: str) -> Iterator[str]:
        """The next diagnosis that the conclusion has not named."""
        known = {None, *(claim.finding for claim in stated if not claim.negated)}
        pool = self._pools[1]
        if heading:
            firsts = sorted((c[0].text for c in pool if c), key=lambda text: -_alike(text, body))
            for first in firsts[:1]:
                rest = CONCLUDES.sub("", first, count=1)
                yield heading + rest
        nexts = [s.text for c in pool for s in c[1:] if not {x.finding for x in s.claims} <= known]
        if not heading:
            yield from dict.fromkeys(nexts[:1])

    def _denied(self, verdicts: Sequence[Verdict], stated: Sequence[Claim]) -> Iterator[str]:
        """The denial of what a sentence states and the measurement excludes."""
        known = {claim.finding for claim in stated}
        wrong = [v.claim for v in verdicts if v.verdict == CONTRADICTED and v.claim.kind == "finding"]
        codes = [str(c.finding) for c in wrong if not c.negated and str(c.finding) in _DENIED]
        named = [code for code in dict.fromkeys(codes) if code not in known and self.facts.missing(code)]
        if named:
            names = [self.facts.table["findings"][code][0] for code in named]
            yield sentence(f"no {' or '.join(names)}")


def _fit(statement: Statement, body: str, verdicts: Sequence[Verdict], topics: Sequence[str]) -> float:
    """How well a measured statement stands in for a sentence: the same subject, then wording, then nothing more."""
    wrong = {v.claim.finding or v.claim.kind for v in verdicts if v.verdict == CONTRADICTED}
    same = bool(wrong & {c.finding or c.kind for c in statement.claims})
    extra = len({topic(c) for c in statement.claims} - {*topics})
    return same + _alike(statement.text, body) - 0.1 * extra  # a further topic weighs a tenth of the wording (ours)


def _written(value: float, like: str) -> str:
    """Write a number with the decimals and the minus sign of another."""
    decimals = len(like.partition(".")[2])
    text = f"{abs(value):.{decimals}f}"
    minus = "−" if "−" in like or "-" not in like else "-"
    return (minus if value < 0 and float(text) else "") + text


def _alike(one: str, two: str) -> float:
    """Likeness of two wordings in [0, 1], numbers left out."""
    a, b = (re.sub(r"[\d.−-]+", "0", text.lower()).split() for text in (one, two))
    return SequenceMatcher(None, a, b, autojunk=False).ratio()
