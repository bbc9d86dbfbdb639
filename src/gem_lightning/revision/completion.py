"""What a text leaves out: measured abnormal and urgent findings, as sentences to add."""

from __future__ import annotations

from gem_lightning.claims.report import ClaimReport, mentions_of
from gem_lightning.composition.conclusion import importance, urgency
from gem_lightning.composition.facts import Facts
from gem_lightning.composition.phrases import Phrases, sentence
from gem_lightning.composition.sections import hedged, leads_of, place


def additions(facts: Facts, report: ClaimReport | None) -> list[str]:
    """Return a sentence for each measured finding that a text leaves out, most urgent first.

    Args:
        facts: Of the record.
        report: On the text; None gives the rhythm with its rate, for a text of which nothing is left.
    """
    if report is None:
        return _rhythm(facts)
    added = []
    phrases = Phrases(0)
    stated = {v.claim.finding for v in report.verdicts if not v.claim.negated}
    mentioned = set(mentions_of(report.verdicts, tuple(facts.stated)))
    if any(s.finding.urgent for s in facts.stated.values()) and "urgent" not in stated:
        added += [s.text for s in urgency(facts, phrases)]
    for code in importance(facts, brief=True):
        found = facts.stated[code]
        if found.finding.abnormal and code not in mentioned | stated and code in facts.table["findings"]:
            leads = leads_of(found)
            where = f" in {place(phrases, leads)}" if leads else ""
            added.append(sentence(hedged(phrases, found, phrases.first(facts.named(code))) + where))
    return added


def _rhythm(facts: Facts) -> list[str]:
    rate, code = facts.number("heart_rate"), facts.rhythm
    if rate is None:
        return ["This recording does not allow a measurement."]
    if code is None or facts.stated[code].uncertain:
        return [f"The ventricular rate is {rate} bpm."]
    return [sentence(f"{Phrases(0).first(facts.named(code))} at {rate} bpm")]
