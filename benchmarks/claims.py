"""Reading and judging text: speed, truth of composed texts, alterations caught, garbage.

Run: ``python benchmarks/claims.py [--seeds 4] [--trials 2000] [--ludb FOLDER]``; times are CPU seconds of one core, the
best of three. The sentences of ``tests/claims`` give the extraction figures.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import re
import time
from collections import Counter

from gem_lightning.claims.extract import sentence_cache
from gem_lightning.claims.perturb import alter
from gem_lightning.composition.compose import STYLES
from gem_lightning.ecg import DIAGNOSES, read_ecg, simulate
from gem_lightning.features import EcgFeatures, Finding, findings, measure
from gem_lightning.grounding import Claim, compose, compose_with_claims, extract, verify

SENTENCES = pathlib.Path(__file__).parent.parent / "tests" / "claims"
Case = tuple[EcgFeatures, list[Finding]]


def records(seeds: int, ludb: pathlib.Path | None) -> list[Case]:
    measured = [measure(simulate(name, seed=seed, snr_db=25).record) for name in DIAGNOSES for seed in range(seeds)]
    paths = sorted(ludb.glob("**/*.hea")) if ludb else []
    measured += [measure(read_ecg(path)) for path in paths]
    print(f"{len(DIAGNOSES) * seeds} simulated and {len(paths)} LUDB records")
    return [(features, findings(features)) for features in measured]


def meaning(claim: Claim) -> tuple:
    return (*claim.meaning[:5], frozenset(claim.leads), *claim.meaning[6:])


def sentences() -> None:
    """F1 of extraction on the hand-written sentences."""
    for name in ("sentences", "sentences_untouched"):
        right = wrong = missed = 0
        rows = [json.loads(line) for line in (SENTENCES / f"{name}.jsonl").read_text("utf-8").splitlines()]
        for row in rows:
            claims = [Claim(**{**fields, "leads": tuple(fields.get("leads", ()))}) for fields in row["claims"]]
            want, got = Counter(map(meaning, claims)), Counter(map(meaning, extract(row["text"])))
            right += sum((want & got).values())
            wrong += sum((got - want).values())
            missed += sum((want - got).values())
        score = 2 * right / (2 * right + wrong + missed)
        print(f"{name}: {len(rows)} sentences, {right + missed} claims, F1 {score:.4f}")


def long_texts(cases: list[Case], count: int, rng: random.Random) -> list[str]:
    """Composed texts of about 200 words, each from other records, seeds and styles."""
    texts = []
    for k in range(count):
        words: list[str] = []
        while len(words) < 200:
            features, found = rng.choice(cases)
            words += compose(features, found, rng.randrange(10**6), STYLES[k % 4]).split()
        texts.append(" ".join(words[:200]))
    return texts


def written_texts(count: int, rng: random.Random) -> list[str]:
    """Hand-written sentences in random order with other numbers, about 200 words each."""
    lines = (SENTENCES / "sentences.jsonl").read_text("utf-8").splitlines()
    known = [json.loads(line)["text"].rstrip(".") + "." for line in lines]
    texts = []
    for _ in range(count):
        words: list[str] = []
        while len(words) < 200:
            other = re.sub(r"\b\d{2,3}\b", lambda m: str(int(m.group()) + rng.randrange(10)), rng.choice(known))
            words += other.split()
        texts.append(" ".join(words[:200]))
    return texts


def seconds(work, texts: list[str], forget: bool) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for text in texts:
            if forget:
                sentence_cache.cache_clear()
            work(text)
        best = min(best, time.process_time() - start)
    return best


def speed(cases: list[Case]) -> None:
    rng = random.Random(0)
    for name, texts in (("composed", long_texts(cases, 400, rng)), ("hand-written", written_texts(400, rng))):
        claims = sum(len(extract(text)) for text in texts)
        warm = len(texts) / seconds(extract, texts, forget=False)
        cold = 100 / seconds(extract, texts[:100], forget=True)
        print(
            f"{name}, 200 words: {warm:,.0f} texts/s with sentence forms seen before, {cold:,.0f} texts/s with none; "
            f"{claims / len(texts):.0f} claims a text (bar: 2,000)"
        )
    features, found = cases[0]
    texts = [compose(features, found, k, "report") for k in range(200)]
    judged = 200 / seconds(lambda text: verify(text, features, findings=found), texts, forget=False)
    print(f"verify, report style: {judged:,.0f} texts/s")


def round_trip(cases: list[Case]) -> None:
    texts = lost = supported = contradicted = conflicted = 0
    for k, (features, found) in enumerate(cases):
        for style in STYLES:
            told = compose_with_claims(features, found, k, style)
            report = verify(told.text, features, findings=found)
            texts += 1
            lost += Counter(map(meaning, told.claims)) != Counter(map(meaning, extract(told.text)))
            supported += report.count("supported")
            contradicted += report.count("contradicted")
            conflicted += bool(report.conflicts)
    print(
        f"compose: {texts} texts, {lost} not read back whole, claim precision "
        f"{supported / (supported + contradicted):.4f} of {supported + contradicted}, {conflicted} conflicts inside"
    )


def alterations(cases: list[Case], trials: int) -> None:
    rng = random.Random(1)
    false = tried = caught = 0
    ways: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    k = 0
    while tried < trials and k < 3 * trials:
        k += 1
        features, found = rng.choice(cases)
        text = compose(features, found, k, STYLES[k % 4])
        false += any(v.verdict == "contradicted" for v in verify(text, features, findings=found).verdicts)
        changed = alter(text, features, found, rng)
        if changed is None:
            continue
        tried += 1
        ways[changed[0]] += 1
        if any(v.verdict == "contradicted" for v in verify(changed[1], features, findings=found).verdicts):
            caught += 1
        else:
            missed[changed[0]] += 1
    print(f"altered: {caught / tried:.2%} of {tried} caught {dict(ways)}, missed {dict(missed)} (bar: 99 %)")
    print(f"unaltered: {false / k:.2%} of {k} with a contradiction (bar: 0.5 %)")


def garbage() -> None:
    rng = random.Random(0)
    junk = {
        "binary": bytes(rng.randrange(256) for _ in range(1_000_000)).decode("latin-1"),
        "1 MB of digits": "1" * 1_000_000,
        "spaced digits": "1 2 3 " * 170_000,
        "nested brackets": "([{" * 170_000 + ")]}" * 170_000,
        "right to left": "تخطيط القلب طبيعي ١٢٠ " * 40_000,
        "one endless sentence": "ST elevation 2 mm in V2 and " * 36_000,
        "conjunctions": "no or and " * 100_000,
    }
    for name, text in junk.items():
        print(f"garbage, {name}: {seconds(extract, [text], forget=True):.2f} s (bar: 1 s)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--ludb", type=pathlib.Path)
    options = parser.parse_args()
    sentences()
    cases = records(options.seeds, options.ludb)
    round_trip(cases)
    alterations(cases, options.trials)
    speed(cases)
    garbage()


if __name__ == "__main__":
    main()
