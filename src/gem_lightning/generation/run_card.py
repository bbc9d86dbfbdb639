"""The run card: what a run made, refused, paid and was made with."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gem_lightning.jobs import write_atomically

LIBRARIES = ("gem-lightning", "numpy", "scipy", "wfdb", "opencv-python-headless", "jinja2", "openai", "transformers")


def counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What became of the samples of a run: accepted by kind, split and attempt, rejected by reason, claims."""
    accepted: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    attempts: Counter[int] = Counter()
    claims: Counter[str] = Counter()
    rejected = 0
    for row in rows:
        if row["status"] == "accepted":
            sample = row["sample"]
            accepted[row["kind"]] += 1
            splits[sample["split"]] += 1
            attempts[sample["attempt"]] += 1
            claims.update(sample["claims"])
        else:
            rejected += 1
            reasons.update({problem["category"] for problem in row["problems"]})
    total = sum(accepted.values())
    return {
        "samples": total,
        "samples_by_kind": dict(accepted.most_common()),
        "samples_by_split": dict(splits.most_common()),
        "rejected": rejected,
        "accept_rate": round(total / (total + rejected), 4) if total + rejected else None,
        "reject_reasons": dict(reasons.most_common()),
        "attempts": {str(n): count for n, count in sorted(attempts.items())},
        "claims": dict(claims),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape the data."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def words(card: Mapping[str, Any]) -> str:
    """The run card for people, as Markdown."""
    source = card.get("source") or {}
    lines = ["# Run card", "", "| | |", "|---|---|"]
    lines.append(f"| source | {source.get('name')} ({source.get('licence')}) {source.get('home')} |")
    teacher = card.get("teacher")
    lines.append(f"| teacher | {teacher} |")
    names = ("records", "records_broken", "records_unfinished", "samples", "rejected", "accept_rate", "stopped")
    lines += [f"| {name.replace('_', ' ')} | {card[name]} |" for name in names if card.get(name) is not None]
    ledger = card.get("ledger")
    if ledger:
        paid = f"{ledger['answers']} answers, {ledger['prompt_tokens']} + {ledger['completion_tokens']} tokens"
        lines.append(f"| paid | {paid}, {ledger['cost']:.4f} USD |")
    for name in ("samples_by_kind", "samples_by_split", "reject_reasons", "broken_reasons", "claims", "versions"):
        if card.get(name):
            values = "; ".join(f"{key}: {value}" for key, value in card[name].items())
            lines.append(f"| {name.replace('_', ' ')} | {values} |")
    return "\n".join(lines) + "\n"


def note_teacher(out: str | os.PathLike[str], part: int, parts: int, facts: Mapping[str, Any]) -> None:
    """Keep what one part's teacher says of itself until the parts are merged.

    A run that only finds everything done has not loaded its model: what an earlier one said of it stays.
    """
    path = Path(out, f"teacher-{part}of{parts}.json")
    known = json.loads(path.read_text()) if path.is_file() else {}
    known.pop("stopped", None)
    write_atomically(path, json.dumps(known | dict(facts)).encode())


def teacher_facts(out: str | os.PathLike[str]) -> dict[str, Any]:
    """Facts of the parts' teachers as one: ledgers add up."""
    facts: dict[str, Any] = {}
    for path in sorted(Path(out).glob("teacher-*of*.json")):
        part = json.loads(path.read_text())
        ledger, added = facts.get("ledger"), part.pop("ledger", None)
        facts |= part
        if added and ledger:
            added = {k: v + ledger[k] if isinstance(v, int | float) else v or ledger[k] for k, v in added.items()}
        if added:
            facts["ledger"] = added
    return facts
