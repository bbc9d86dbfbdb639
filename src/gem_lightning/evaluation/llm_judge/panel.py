"""Texts through several judges: calibrated first, each with figures of its own, and how far they agree."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from gem_lightning.errors import GemError
from gem_lightning.evaluation.llm_judge.judge import Asks, Calibration, Judge, JudgeCase, agreement, calibrate
from gem_lightning.jobs import write_atomically
from gem_lightning.reporting.evaluation import EvaluationReport, number, with_interval
from gem_lightning.reporting.html import Table


def run_judges(
    clients: Sequence[Asks],
    scheme: str,
    cases: Sequence[JudgeCase],
    out: str | os.PathLike[str],
    prompt_files: Mapping[str, str] | None = None,
    groups: Mapping[str, Hashable] | None = None,
    draws: int = 1000,
    unbelieved: bool = False,
) -> dict[str, Any]:
    """Judge every case by every judge.

    Args:
        clients: The judges' models.
        scheme: A name of :data:`gem_lightning.evaluation.llm_judge.judge.SCHEMES`.
        cases: Texts with what is known.
        out: Folder for ``judgements-*.jsonl``, one file a judge.
        prompt_files: Prompt by scheme instead of ours.
        groups: Patient of each id.
        draws: Bootstrap draws.
        unbelieved: Also pay for and report judges that fail the panel (marked as such).

    Returns:
        ``judges``: label to figures, each with ``calibration`` (and without figures where it failed);
        ``agreement``: Krippendorff's alpha by criterion, with two or more judges.

    Raises:
        GemError: A judge stopped early (its budget); what was paid is kept and the next run goes on.
    """
    results: dict[str, Any] = {}
    for client in clients:
        judge = Judge(client, scheme, (prompt_files or {}).get(scheme))
        trust = calibrate(judge)
        results[judge.label] = {"judge": judge.label, "calibration": _plain(trust)}
        if not trust.believed and not unbelieved:
            continue
        found = judge.judge(cases)
        _write(pathlib.Path(out) / f"judgements-{scheme}-{judge.slug}.jsonl", judge, found.answers, found.errors)
        if found.stopped:
            raise GemError(f"{judge.label} stopped early: {found.stopped}; what was paid is kept, run again to go on")
        answers = {case.id: found.answers.get(case.id, "") for case in cases}
        results[judge.label] |= judge.score(answers, groups=groups, draws=draws)
        results[judge.label]["ledger"] = client.ledger.to_dict()
    scored = [result for result in results.values() if "means" in result]
    return {"judges": results, "agreement": agreement(scored) if len(scored) > 1 else None}


def _plain(trust: Calibration) -> dict[str, Any]:
    checks = [{"text": t, "expected": e, "share": s, "passed": p} for t, e, s, p in trust.checks]
    return {"believed": trust.believed, "share": trust.share, "checks": checks}


def _write(path: pathlib.Path, judge: Judge, answers: dict[str, str], errors: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": name, "judge": judge.label, "answer": text, **({"error": errors[name]} if name in errors else {})}
        for name, text in answers.items()
    ]
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def add_judges(report: EvaluationReport, title: str, judged: dict[str, Any], published: Sequence[Table] = ()) -> None:
    """One column a judge, never a mean over judges; then their panels and agreement."""
    judges = {label: found for label, found in judged["judges"].items() if "means" in found}
    names = list(dict.fromkeys(name for found in judges.values() for name in found["means"]))
    rows = [[name, *(with_interval(found["intervals"].get(name)) for found in judges.values())] for name in names]
    for word in ("complete", "unreadable"):
        count = {label: found[word] if word == "complete" else len(found[word]) for label, found in judges.items()}
        rows.append([f"answers {word}", *(f"{count[label]} of {judges[label]['n']}" for label in judges)])
    note = "95 % bootstrap intervals. Figures of different judges or prompts do not compare."
    report.tables.append(Table(title, ["Criterion", *judges], rows, note))
    report.tables += published
    rows = [
        [
            label,
            f"{sum(c['passed'] for c in found['calibration']['checks'])} of {len(found['calibration']['checks'])}",
            "yes" if found["calibration"]["believed"] else "no: not used" if "means" not in found else "no",
            ", ".join(c["text"] for c in found["calibration"]["checks"] if not c["passed"])[:160] or "–",
        ]
        for label, found in judged["judges"].items()
    ]
    header = ["Judge", "Checks passed", "Believed", "Failed on"]
    report.tables.append(Table(f"{title}: panel of planted texts", header, rows))
    if judged["agreement"]:
        rows = [[name, number(alpha, 2)] for name, alpha in judged["agreement"].items()]
        note = "Krippendorff's alpha, interval level: 1 is perfect agreement, 0 is chance."
        report.tables.append(Table(f"{title}: agreement of the judges", ["Criterion", "Alpha"], rows, note))
