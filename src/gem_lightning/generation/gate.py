"""Quality gate: conditions that a text must meet to become training data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from gem_lightning.errors import DataError
from gem_lightning.features.schema import EcgFeatures, Finding

# Phrases by which a text reveals a source other than the tracing.
_SOURCES = re.compile(
    r"\b(?:(?:the|this|provided|given|supplied|attached|clinical|cardiolog\w+|machine|device|confirmed)\s+)+"
    r"(?:report|diagnos[ie]s given|measurements? (?:list|table|provided|given)|machine measurements?|data provided)\b"
    r"|\b(?:according to|based on|as (?:stated|noted|given) in|consistent with) the (?:\w+ )?(?:report|measurements)\b"
    r"|\bmachine[- ](?:read|generated|measure\w*)|\bas reported\b"
    r"|\bprovided (?:data|measurements?|findings|diagnosis)\b"
    r"|\bconfirmed diagnosis\b|\blisted (?:findings|measurements)\b",
    re.IGNORECASE,
)
# Numbers that are names rather than measurements.
_NAMES = re.compile(
    r"\b12[- ]lead|\bV[1-6](?:\s*[-–—]\s*V?[1-6])?|\b10[- ]?(?:s|sec|second)s?\b|\b25 ?mm/s|\b10 ?mm/mV"
    r"|\bbeats? (?:no\. )?\d+(?:(?:, and |, | and | to |[-–])\d+)*"
    r"|\b\d+(?:st|nd|rd|th)\b|\b[1-3]:1\b|\bST ?J?[+ ]?(?:40|60|80)\b|\bJ ?\+ ?\d+|^\s*\d+[.)]\s",
    re.IGNORECASE | re.MULTILINE,
)
_PREMATURE = re.compile(
    r"\bbeats? (\d+(?:(?:, and |, | and )\d+)*) (?:is|are|was|were) (?:an? )?premature", re.IGNORECASE
)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:[.,]\d+)?")


@dataclass(frozen=True)
class Problem:
    """Reason for rejecting a text.

    Args:
        category: Category, for counts.
        message: Explanation for the teacher LLM, which is prompted to correct it.
        finding: Code of the finding concerned, or None.
    """

    category: str
    message: str
    finding: str | None = None


@dataclass(frozen=True)
class GateResult:
    """Result of the gate.

    Attributes:
        problems: Empty when the text is accepted.
        claims: Number of claims by verdict.
        contradictions: What the clinician's report states and the tracing does not show: quote, measured value, reason.
    """

    problems: tuple[Problem, ...]
    claims: dict[str, int] = field(default_factory=dict)
    contradictions: tuple[dict[str, str], ...] = ()

    @property
    def accepted(self) -> bool:
        """Return whether there are no problems."""
        return not self.problems


@dataclass(frozen=True)
class Gate:
    """Accepts a text whose numbers and findings are all supported by the record.

    Args:
        max_words: Maximum length, words; 10 % more is tolerated, since models count words poorly.
        min_claims: Minimum number of supported claims.
        all_numbers: Reject numbers that no claim covers: a number that cannot be verified may be invented.
        report_rules: A clinician's report takes precedence over the measurement: its findings must be stated, are
            accepted although the measurement disagrees, and no other diagnosis may be added.
        report_contradictions: What the report states and the tracing does not show: ``list`` it with the sample, or
            ``reject`` the sample.

    Raises:
        DataError: A limit that is not an int of 0 or more, or an unknown choice.
    """

    max_words: int = 300
    min_claims: int = 3
    all_numbers: bool = True
    report_rules: bool = True
    report_contradictions: str = "list"

    def __post_init__(self) -> None:
        for name in ("max_words", "min_claims"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise DataError(f"expected gate.{name} as an int of 0 or more, got {value!r}")
        if self.report_contradictions not in ("list", "reject"):
            raise DataError(f"expected gate.report_contradictions=list or reject, got {self.report_contradictions!r}")

    def check(
        self, text: str, features: EcgFeatures, findings: Sequence[Finding] | None = None, report: str | None = None
    ) -> GateResult:
        """Check one text.

        Args:
            text: Text of the teacher LLM.
            features: Measurements of the record.
            findings: Findings of the record; the numbers of their criteria may be quoted. None computes them.
            report: The clinician's report, or None.
        """
        from gem_lightning.claims.verify import verify

        if findings is None:
            from gem_lightning.features import findings as find

            findings = find(features)
        checked = verify(text, features, findings=findings)
        given = report if self.report_rules else None
        reported, stated = report_codes(given), _report_meanings(given)
        problems = list(self._form(text))
        claims = {"supported": 0, "contradicted": 0, "unverifiable": 0}
        listed: dict[str, dict[str, str]] = {}
        covered = []
        for verdict in checked.verdicts:
            claims[verdict.verdict] += 1
            covered.append(verdict.claim.span)
            found = verdict.claim
            if found.meaning in stated or (found.finding in reported and not found.negated):
                if verdict.verdict == "contradicted":
                    quote = _quote(found, text)
                    listed.setdefault(quote, _contradiction(verdict, quote))
                continue
            problem = _problem(verdict, reported, text)
            if problem is not None:
                problems.append(problem)
        if self.report_contradictions == "reject":
            problems += [Problem("contradicted report", f"{c['statement']!r}: {c['reason']}") for c in listed.values()]
        problems += _omitted(checked.verdicts, reported)
        problems += _wrong_beats(text, features)
        if self.all_numbers:
            problems += _loose_numbers(text, covered, findings, _numbers(given or ""))
        if claims["supported"] < self.min_claims:
            message = f"It quotes {claims['supported']} measured facts; at least {self.min_claims} are required."
            problems.append(Problem("too few claims", message))
        return GateResult(tuple(problems), claims, tuple(listed.values()))

    def _form(self, text: str) -> Iterator[Problem]:
        count = len(text.split())
        if count > 1.1 * self.max_words:
            yield Problem("too long", f"It has {count} words; at most {self.max_words} are allowed.")
        found = _SOURCES.search(text)
        if found:
            yield Problem("names its sources", f"It contains {found.group()!r}: write from the tracing alone.")


def _quote(claim: Any, text: str) -> str:
    return " ".join(text[slice(*claim.span)].split())


def _contradiction(verdict: Any, quote: str) -> dict[str, str]:
    measured = "" if verdict.measured is None else str(verdict.measured)
    return {"statement": quote, "measured": measured, "reason": verdict.reason}


def _problem(verdict: Any, reported: frozenset[str], text: str) -> Problem | None:
    """Return the problem of one claim, or None."""
    claim = verdict.claim
    quote = _quote(claim, text)
    if claim.finding is not None and claim.kind == "finding" and claim.finding in reported:
        if claim.negated and not claim.uncertain:
            return Problem("denies the report", f"{quote!r}: {claim.finding.replace('_', ' ')} is present.")
        return None
    if verdict.verdict == "supported":
        return None
    if verdict.verdict == "contradicted":
        stated = verdict.measured is None or "measured" in verdict.reason
        measured = "" if stated else f" Measured: {verdict.measured}."
        category = "contradicted finding" if claim.kind == "finding" else "contradicted number"
        return Problem(
            category, f"{quote!r} is not what the tracing shows.{measured} {verdict.reason}".strip(), claim.finding
        )
    if claim.kind == "finding" and claim.negated:
        return None  # an absence that cannot be measured is not contradicted either
    category = "finding without support" if claim.kind == "finding" else "number that cannot be checked"
    return Problem(category, f"{quote!r} has no measured support: leave it out.", claim.finding)


def _omitted(verdicts: Sequence[Any], reported: frozenset[str]) -> Iterator[Problem]:
    stated = {v.claim.finding for v in verdicts if v.claim.kind == "finding" and not v.claim.negated}
    for code in sorted(reported - stated):
        yield Problem("leaves out the diagnosis", f"It does not state: {code.replace('_', ' ')}.")


def _wrong_beats(text: str, features: EcgFeatures) -> Iterator[Problem]:
    """Yield a problem for each beat called premature that is not."""
    classes = list(features.beats.beat_class)
    for match in _PREMATURE.finditer(text):
        for number in map(int, re.findall(r"\d+", match.group(1))):
            if not 1 <= number <= len(classes) or not str(classes[number - 1]).startswith("premature"):
                yield Problem("contradicted number", f"Beat {number} in {match.group()!r} is not premature.")


def _loose_numbers(
    text: str, covered: Sequence[tuple[int, int]], findings: Sequence[Any], reported: frozenset[float]
) -> Iterator[Problem]:
    """Yield a problem for each number outside every claim that is no name, in no criterion and not in the report."""
    quotable = reported.union(*(_numbers(finding.threshold) for finding in findings))
    loose = [m for m in _NUMBER.finditer(text) if not _inside(m, covered) and _value(m.group()) not in quotable]
    named = [match.span() for match in _NAMES.finditer(text)] if loose else []
    for match in loose:
        if not _inside(match, named):
            around = " ".join(text[max(0, match.start() - 30) : match.end() + 20].split())
            yield Problem("number that cannot be checked", f"The number {match.group()} in {around!r}: leave it out.")


def _inside(match: re.Match[str], spans: Sequence[tuple[int, int]]) -> bool:
    begin, stop = match.span()
    return any(start <= begin and stop <= end for start, end in spans)


@cache
def _numbers(threshold: str) -> frozenset[float]:
    """Return the numbers of a criterion; cached, since there are few criteria."""
    return frozenset(map(_value, _NUMBER.findall(threshold)))


def _value(number: str) -> float:
    return abs(float(number.replace(",", ".").replace("−", "-")))


def report_codes(report: str | None) -> frozenset[str]:
    """Return the findings that a report states as present, as far as the lexicon knows them."""
    if not report:
        return frozenset()
    from gem_lightning.claims.extract import extract

    claims = (c for c in extract(_cleaned(report)) if c.kind == "finding" and not c.negated and not c.uncertain)
    return frozenset(c.finding for c in claims if c.finding is not None)


@lru_cache(maxsize=64)
def _cleaned(report: str) -> str:
    """Return the report as its texts hold it; cached, since each sample of a record asks for it."""
    from gem_lightning.composition.reported import report_text

    return report_text(report)


def _report_meanings(report: str | None) -> frozenset[Any]:
    """Return the claims of a report without their places."""
    if not report:
        return frozenset()
    from gem_lightning.claims.extract import extract

    return frozenset(claim.meaning for claim in extract(_cleaned(report)))


def problem_rows(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Return problems as JSON-ready rows."""
    return [{"category": p.category, "message": p.message} for p in problems]


def agreeing(findings: Sequence[Finding], reported: frozenset[str] | None) -> tuple[Finding, ...]:
    """Return the findings that may be stated: where a report names any, no other abnormal ones."""
    if not reported:
        return tuple(findings)
    return tuple(f for f in findings if f.code in reported or not f.abnormal)
