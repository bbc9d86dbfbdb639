"""Figures of docs/grounding_data.md: python benchmarks/generate.py [rate] [flight] [gate] [validate] [--n 1000]

Rates are of process time of one core, so that a shared machine does not change them much.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from gem_lightning.ecg import simulate, write_wfdb
from gem_lightning.generation.pipeline import Pipeline
from gem_lightning.generation.run import RunOptions, finish_samples, open_samples_job, run_samples
from gem_lightning.generation.teachers import OpenAITeacher
from gem_lightning.generation.validate import DataValidator
from gem_lightning.grounding import compose
from gem_lightning.render import EcgRenderer
from gem_lightning.samples.io import InstructionSample, write_samples
from gem_lightning.sources.base import RecordFiles, Simulated

STYLES = ("interpretation", "report", "brief", "teaching")
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*-lead)")


def files(folder: Path, n: int) -> RecordFiles:
    """n simulated records as WFDB files: every diagnosis in turn, 20-30 dB."""
    (folder / "records").mkdir(parents=True)
    for i, record in enumerate(Simulated(n=n, seed=10_000).records()):
        made = simulate(record.codes[0], seed=10_000 + i, snr_db=20 + i % 11)
        write_wfdb(made.record, folder / "records" / f"r{i:05d}")
    return RecordFiles(str(folder / "records"), prefix="records")


def rate(folder: Path, n: int) -> None:
    """Reading, features, text and verification of WFDB records with the composer."""
    source = files(folder, n)
    pipeline, items = Pipeline(paths=source.paths), [r.to_item() for r in source.records()]
    for item in items[:10]:
        pipeline(item)
    best, accepted, claims = float("inf"), 0, Counter()
    for _ in range(3):
        start, rows = time.process_time(), []
        for item in items:
            rows += pipeline(item)
        best = min(best, (time.process_time() - start) / n)
    for row in rows:
        if row["status"] == "accepted":
            accepted += 1
            claims.update(row["sample"]["claims"])
    decided = claims["supported"] + claims["contradicted"]
    print(f"compose: {1 / best:.1f} records/s a core ({1e3 * best:.1f} ms), {accepted}/{n} accepted, "
          f"claim precision {claims['supported'] / max(decided, 1):.4f} of {decided}")  # fmt: skip


def flight(folder: Path, n: int) -> None:
    """32 requests in flight against a server that takes 1 s, wall clock, whole pipeline."""
    from helpers_llm_server import LoopbackLLM

    def reply(request: dict, number: int) -> str:
        found = dict(re.findall(r"(heart_rate_bpm|qrs_ms|qt_ms): (\d+)", request["messages"][1]["content"]))
        heart, qrs, qt = (found.get(name) for name in ("heart_rate_bpm", "qrs_ms", "qt_ms"))
        return f"The heart rate is {heart} bpm, the QRS duration {qrs} ms and the QT interval {qt} ms."

    source = Simulated(n=n, seed=5, diagnoses=["sinus"], snr_db=28)
    seen: list[float] = []
    with LoopbackLLM(lambda r, k: (seen.append(time.monotonic()), reply(r, k))[1], latency=1.0) as server:
        teacher = OpenAITeacher("m", base_url=server.base_url, concurrency=32)
        folder_ = open_samples_job(source, folder / "flight")
        run_samples(folder_, Pipeline(out=str(folder / "flight"), measurements=False), teacher, RunOptions(workers=2))
        most = server.most_in_flight
    card = finish_samples(folder / "flight")
    seconds = seen[-1] + 1.0 - seen[0]
    print(f"teacher: {n / seconds:.1f} records/s with {most} in flight at 1 s ({card['samples']} accepted)")


def invent(text: str, share: float, rng: random.Random) -> tuple[str, int]:
    """The text with a share of its measured numbers changed by 30-80 %; and how many."""
    from gem_lightning.generation.gate import _NAMES

    named = [match.span() for match in _NAMES.finditer(text)]
    parts, last, count = [], 0, 0
    for match in NUMBER.finditer(text):
        if any(a <= match.start() < b for a, b in named) or rng.random() >= share:
            continue
        digits = len(match.group().partition(".")[2])
        new = f"{float(match.group()) * (1 + rng.choice((-1, 1)) * rng.uniform(0.3, 0.8)):.{digits}f}"
        if float(new) != float(match.group()):
            parts += [text[last : match.start()], new]
            last, count = match.end(), count + 1
    return "".join(parts) + text[last:], count


def gate(folder: Path, n: int) -> None:
    """A teacher that invents 20 % of its numbers: how many inventions reach accepted texts."""
    pipeline, rng = Pipeline(), random.Random(0)
    invented = through = clean = asked = 0
    for i, record in enumerate(Simulated(n=n, seed=30_000, snr_db=25).records()):
        prepared = pipeline.prepare(record.to_item())
        if prepared.features.reason is not None:
            continue
        text = compose(prepared.features, prepared.findings, i, STYLES[i % len(STYLES)])
        asked += 1
        clean += pipeline.gate.check(text, prepared.features, prepared.findings).accepted
        worse, count = invent(text, 0.2, rng)
        invented += count
        if count and pipeline.gate.check(worse, prepared.features, prepared.findings).accepted:
            through += count
            print("  let through:", worse)
    print(f"gate: {through} of {invented} inventions accepted ({100 * through / max(invented, 1):.2f} %); "
          f"{clean}/{asked} honest texts accepted at the first attempt")  # fmt: skip


def validate(folder: Path, n: int) -> None:
    """n sound samples, and n of each fault."""
    source = files(folder, n)
    pipeline = Pipeline(paths=source.paths, out=str(folder), renderer=EcgRenderer(size=(336, 435)), measurements=False)
    rows = [row for r in source.records() for row in pipeline(r.to_item()) if row["status"] == "accepted"]
    sound = [InstructionSample.from_dict(row["sample"]) for row in rows]
    paths = {"records": str(folder / "records"), "images": str(folder / "images")}

    def look(samples: list[InstructionSample], texts: bool = True, images: bool = True) -> Counter:
        kept = samples if images else [replace(s, image=None) for s in samples]
        write_samples(kept, folder / "data.jsonl")
        found = DataValidator(str(folder / "data.jsonl"), paths, texts=texts).validate(workers=0)
        return Counter({kind: len({f["id"] for f in found.faults if f["kind"] == kind}) for kind in found.counts()})

    alarms = look(sound)
    print(f"validate: {len(sound)} sound samples, false alarms {dict(alarms)} "
          f"({100 * sum(alarms.values()) / len(sound):.2f} %)", flush=True)  # fmt: skip
    for kind, (samples, texts, images) in faults(folder, sound).items():
        found = look(samples, texts, images)
        print(f"  {kind:18} {found[kind]}/{len(sound)} found", flush=True)


def faults(folder: Path, sound: list[InstructionSample]):
    """Fault → samples, with n that have it; and whether texts and pictures are looked at."""
    n = len(sound)

    def said(sample: InstructionSample, text: str) -> InstructionSample:
        return replace(sample, conversations=[sample.conversations[0], {"from": "gpt", "value": text}])

    def patient(sample: InstructionSample, split: str, name: str) -> InstructionSample:
        return replace(sample, metadata=sample.metadata | {"split": split, "patient": name})

    def copies(name: str, change) -> list[InstructionSample]:
        rng, extra = np.random.default_rng(0), []
        for i, sample in enumerate(sound):
            record = sample.mapped({"records": str(folder / "records")}).record.read()
            write_wfdb(record.with_signal(change(record.signal, rng)), folder / "records" / f"{name}{i:05d}")
            extra.append(replace(sample, id=f"{name}{i}", ecg=f"records/{name}{i:05d}", image=None))
        return extra

    for i, sample in enumerate(sound):
        bad = folder / "images" / f"cut{i}.png"
        data = (folder / sample.image).read_bytes()
        bad.write_bytes(data[: len(data) * (20 + i % 75) // 100])
        stem = folder / "records" / Path(sample.ecg).stem
        cut = folder / "records" / f"cut{i:05d}"
        cut.with_suffix(".hea").write_text(stem.with_suffix(".hea").read_text().replace(stem.name, cut.name))
        cut.with_suffix(".dat").write_bytes(stem.with_suffix(".dat").read_bytes()[: 1000 + i])
    wrong = (" The QRS duration is 260 ms.", " The PR interval measures 420 ms.", " The heart rate is 231 bpm.",
             " The QT interval is 690 ms.")  # fmt: skip
    swapped = [replace(s, image=sound[(i + 1) % n].image) for i, s in enumerate(sound)]
    noisy = copies("near", lambda x, rng: (x * 1.07 + rng.normal(0, 0.01, x.shape)).astype(np.float32))
    exact = copies("same", lambda x, rng: x)
    return {
        "missing_record": ([replace(s, ecg=f"records/none{i}") for i, s in enumerate(sound)], False, False),
        "corrupt_record": ([replace(s, ecg=f"records/cut{i:05d}") for i, s in enumerate(sound)], False, False),
        "missing_image": ([replace(s, image=f"images/none{i}.png") for i, s in enumerate(sound)], False, True),
        "corrupt_image": ([replace(s, image=f"images/cut{i}.png") for i, s in enumerate(sound)], False, True),
        "image_mismatch": (swapped, False, True),
        "contradicted": ([said(s, s.answer + wrong[i % 4]) for i, s in enumerate(sound)], True, False),
        "malformed": ([said(s, "") for s in sound], False, False),
        "duplicate_id": ([*sound, *(said(s, f"{s.answer} So.") for s in sound)], False, False),
        "duplicate": ([*sound, *(replace(s, id=f"again-{s.id}") for s in sound)], False, False),
        "near_duplicate": ([*sound, *noisy], False, False),
        "duplicate_signal": ([*sound, *exact], False, False),
        "leak_record": ([*(patient(s, "train", f"a{s.id}") for s in sound),
                         *(patient(s, "test", f"b{s.id}") for s in exact)], False, False),
        "leak_patient": ([patient(s, "val" if i % 2 else "train", f"p{i // 2}")
                          for i, s in enumerate([s for one in sound for s in (one, one)])], False, False),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["rate", "flight", "gate", "validate"])
    parser.add_argument("--n", type=int, default=1000)
    asked = parser.parse_args()
    tasks = {"rate": rate, "flight": flight, "gate": gate, "validate": validate}
    for name in asked.what:
        folder = Path(tempfile.mkdtemp(prefix="generate"))
        try:
            tasks[name](folder, asked.n)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
