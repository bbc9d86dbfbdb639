"""The digitiser on pages drawn from patients it was not trained on, and how often it fails without saying so.

    python benchmarks/digitize.py --ludb FOLDER [--pages 20] [--presets clean scan photo hard] [--layouts 3x4+1 ...]
        [--seed 5] [--weights trace.safetensors]

A page a patient, in layouts, styles, papers and resolutions in turn. SNR of a lead: power of the signal shown over that
of the error, without any shift in time; the median offset is reported apart. A page counts by its median lead. Silently
wrong: a lead below 0 dB on a page that was read with a mean trust above one half.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from gem_lightning.digitizer import DigitizedEcg, digitize, network
from gem_lightning.ecg import LEADS, EcgRecord
from gem_lightning.features import measure
from gem_lightning.render import EcgRenderer, RenderedEcg
from gem_lightning.sources.marked import LudbMarks

LAYOUTS = ("3x4+1", "3x4", "6x2", "12x1", "3x4+3", "6x2+1", "cabrera-3x4", "cabrera-6x2", "cabrera-12x1", "3x4+1")
STYLES = ("red", "pink", "blue", "green", "grey", "dotted", "bw")
QUANTITIES = {"heart_rate_bpm": 1.0, "qrs_ms": 10.0, "qt_ms": 15.0, "pr_ms": 15.0}  # tolerances of the issue


@dataclass
class Page:
    """One page's scores: dB and offset (mV) of each lead, and what was read."""

    snr: dict[str, float]
    offset: dict[str, float]
    layout: bool
    mapping_mm: float
    trust: np.ndarray
    error: np.ndarray
    near: dict[str, bool]
    seconds: float
    refused: str | None


def drawn(record: EcgRecord, k: int, preset: str, layouts: tuple[str, ...], seed: int) -> RenderedEcg:
    """Page k: everything in turn, the resolution at random."""
    rng = np.random.default_rng([seed, k])
    return EcgRenderer(
        layout=layouts[k % len(layouts)],
        dpi=float(np.exp(rng.uniform(np.log(110), np.log(200)))),
        style=STYLES[k % len(STYLES)],
        artifacts=preset,
        page={"paper": ("letter", "a4")[k % 2]},
    )(record, seed=1000 * seed + k)


def score(page: RenderedEcg, record: EcgRecord, layout: str) -> Page:
    """Digitise a page and compare with what it was drawn from."""
    begun = time.perf_counter()
    found = digitize(page.image)
    seconds = time.perf_counter() - begun
    if found.record is None:
        return Page({}, {}, False, np.nan, np.zeros(0), np.zeros(0), {}, seconds, found.refused)
    flat = page.geometry.flat or page.geometry
    snr, offset, shown = {}, {}, np.full(record.signal.shape, np.nan, np.float32)
    trusts, errors = [], []
    for trace in sorted(flat.traces, key=lambda t: t.t1 - t.t0):
        lead = LEADS.index(trace.lead.removeprefix("-"))
        start, stop = (int(t * record.fs) for t in (trace.t0, trace.t1))
        read, truth = (s[lead, start:stop] for s in (found.record.signal, record.signal))
        shown[lead, start:stop] = truth
        length = min(len(read), len(truth))
        read, truth, trust = read[:length], truth[:length], found.trust[lead, start : start + length]
        ok = np.isfinite(read)
        if ok.mean() < 0.5:
            snr[LEADS[lead]] = -20.0
            continue
        error = (read - truth)[ok]
        offset[LEADS[lead]] = float(np.median(error))
        error = error - offset[LEADS[lead]]
        snr[LEADS[lead]] = float(10 * np.log10(truth.var() / (np.mean(error**2) + 1e-12)))
        trusts.append(trust[ok][::10]), errors.append(np.abs(error[::10]))
    near = _near(found.record, EcgRecord(shown, record.fs, LEADS))
    right = found.layout == layout or found.layout.replace("-", "") == layout.replace("-", "")
    place = _mapping_error(found, flat, page)
    return Page(snr, offset, right, place, np.concatenate(trusts), np.concatenate(errors), near, seconds, None)


def _near(read: EcgRecord, shown: EcgRecord) -> dict[str, bool]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, theirs = measure(read).to_dict(), measure(shown).to_dict()
    both = [name for name in QUANTITIES if theirs.get(name) is not None]
    return {n: mine.get(n) is not None and abs(mine[n] - theirs[n]) <= QUANTITIES[n] for n in both}


def _mapping_error(found: DigitizedEcg, flat: object, page: RenderedEcg) -> float:
    """95th percentile over the rows of how far points of known time and 0 mV lie from their places, mm."""
    mapping, away = found.mapping, []
    assert mapping is not None
    for trace in flat.traces:
        times = np.linspace(trace.t0, trace.t1, 12)[1:-1]
        true = np.stack([trace.x0 + (times - trace.t0) * flat.speed * flat.px_per_mm,
                         np.full(len(times), trace.baseline_y)], -1)  # fmt: skip
        true = page.geometry.to_image(true)
        ours = [
            mapping.flat.to_image(np.stack([mapping.x0 + times * mapping.px_per_s, np.full(len(times), base)], -1))
            for base in mapping.baselines
        ]
        away.append(min((np.linalg.norm(one - true, axis=1) for one in ours), key=np.median) / mapping.flat.px_per_mm)
    return float(np.percentile(np.concatenate(away), 95))


def auc(trust: np.ndarray, wrong: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(wrong, -trust)) if 0 < wrong.sum() < len(wrong) else float("nan")


def line(preset: str, pages: list[Page]) -> str:
    read = [page for page in pages if page.refused is None]
    if not read:
        return f"| {preset} | {len(pages)} | all refused |"
    median = [float(np.median(list(page.snr.values()))) for page in read]
    silent = [min(page.snr.values()) < 0 and page.trust[page.trust > 0].mean() > 0.5 for page in read]
    wrong = np.concatenate([page.error for page in read]) > 0.1
    near = {n: np.mean([page.near[n] for page in read if n in page.near]) for n in QUANTITIES}
    offsets = [abs(v) for page in read for v in page.offset.values()]
    cells = [
        preset, len(pages), f"{np.median(median):.1f}", f"{np.percentile(median, 10):.1f}",
        f"{100 * (1 - len(read) / len(pages)):.0f} %", f"{100 * np.sum(silent) / len(pages):.0f} %",
        f"{100 * np.mean([page.layout for page in read]):.0f} %",
        f"{np.median([page.mapping_mm for page in read]):.2f}", f"{np.median(offsets):.3f}",
        f"{auc(np.concatenate([page.trust for page in read]), wrong):.2f}",
        " ".join(f"{100 * v:.0f}" for v in near.values()),
        f"{np.mean([page.seconds for page in pages]):.1f}",
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ludb", type=Path, required=True, help="folder of LUDB; its held-out patients are drawn")
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--presets", nargs="+", default=["clean", "scan", "photo", "hard"])
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS))
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--weights", type=Path, help="other weights than the packaged ones")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if args.weights is not None:
        weights = network.read_weights(args.weights.read_bytes())
        network.load_weights = lambda: weights
    records = [marked.record for marked in LudbMarks(args.ludb, split="held_out")]
    print("| pages | n | dB | p10 | refused | silently wrong | layout | mapping p95, mm | offset, mV | trust AUC | "
          f"{' '.join(QUANTITIES)} within, % | s a page |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    layouts = tuple(args.layouts)
    for preset in args.presets:
        pages = []
        for k in range(args.pages):
            record = records[k % len(records)]
            layout = layouts[k % len(layouts)]
            pages.append(score(drawn(record, k, preset, layouts, args.seed), record, layout))
            if pages[-1].refused:
                print(f"<!-- {preset} {k} {layout}: {pages[-1].refused} -->", flush=True)
            elif min(pages[-1].snr.values()) < 0:
                bad = " ".join(f"{n} {v:.0f}" for n, v in pages[-1].snr.items() if v < 0)
                print(f"<!-- {preset} {k} {layout}: {bad} dB, trust {pages[-1].trust.mean():.2f} -->", flush=True)
        print(line(preset, pages), flush=True)


if __name__ == "__main__":
    main()
