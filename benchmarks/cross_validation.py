"""Patient-wise choice of the delineator's constants, and how well it does on patients that it was not made on.

    python benchmarks/cross_validation.py LUDB_FOLDER QTDB_FOLDER [--patients 50] [--folds 5]

Patients of LUDB, of QTDB and of the simulator are dealt out over the folds. For each fold every constant takes the
value of its grid that serves the other folds best, one after the other, by one loss over the three sources, each error
as a share of its bar. The fold is then measured with these values, so no patient takes part in his own choice.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module

import numpy as np

from delineation import expert as ludb_expert
from delineation import load, match
from gem_lightning.ecg import LEADS, EcgRecord, simulate
from gem_lightning.features import delineate, measure
from measurements import score_record

Errors = dict[str, np.ndarray]  # errors in ms; of ``P``: 0 for a wave found, 1 for a missed or false one
BARS = {
    "LUDB PR": 8, "LUDB QRS": 11, "LUDB QT": 14, "LUDB P": 0.03,
    "QTDB QRS_off": 14, "QTDB T_off": 32, "QTDB P": 0.1,
    "simulated PR": 8, "simulated QRS": 4, "simulated QT": 8,
}  # fmt: skip
INTERVALS = {"PR": ("P_on", "QRS_on"), "QRS": ("QRS_on", "QRS_off"), "QT": ("QRS_on", "T_off")}
ROOM = "gem_lightning.features.delineation."
GRID = {  # the value in use first: it is taken where others serve as well
    (ROOM + "average", "BIAS_ON"): (0.4, -0.6, 1.4),
    (ROOM + "average", "BIAS_OFF"): (-2.1, -3.1, -1.1),
    (ROOM + "average", "SLOW_MV"): (0.05, 0.025, 0.1),
    (ROOM + "average", "FURTHER"): (12, 8, 16),
    (ROOM + "average", "REST_OFF"): (1.5, 1.0, 2.0),
    (ROOM + "qrs", "BIAS_ON"): (-0.3, -1.3, 0.7),
    (ROOM + "qrs", "BIAS_OFF"): (-4.4, -5.4, -3.4),
    (ROOM + "qrs", "PULL_OFF"): (0.86, 0.6, 1.0),
    (ROOM + "t_wave", "BIAS_OFF"): (-4, -6, -2),
    (ROOM + "t_wave", "FOOT"): (0.1, 0.0, 0.2),
    (ROOM + "p_wave", "BIAS_ON"): (0, -1, 1),
    (ROOM + "p_wave", "REPEATS"): (0.55, 0.5, 0.6),
    ("gem_lightning.features.delineate", "LEFT_OUT.T_off"): (0.8, 0.5, 1.0),
    ("gem_lightning.features.delineate", "P_EARLIER_MS"): (2.0, 0.0, 4.0),
}
Choice = dict[tuple[str, str], float]


@contextmanager
def constants(choice: Choice) -> Iterator[None]:
    """Set constants for a while; ``NAME.key`` is an entry of a dictionary."""
    before = {place: _swap(place, value) for place, value in choice.items()}
    try:
        yield
    finally:
        for place, value in before.items():
            _swap(place, value)


def _swap(place: tuple[str, str], value: float) -> float:
    """Set one constant and return its value before."""
    import_module(place[0])
    module, (name, _, key) = sys.modules[place[0]], place[1].partition(".")  # a function may hide the module's name
    holder = getattr(module, name) if key else vars(module)
    before, holder[key or name] = holder[key or name], value
    return before


def second_extremes(truth: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Return experts' intervals, ms: second earliest onset to second latest offset over leads, median over beats."""
    rows: dict[str, list[float]] = {name: [] for name in INTERVALS}
    for peak in truth[1]["R"]:
        edge = {}
        reach = {"P": (-210, -10), "QRS": (-60, 60), "T": (20, 330)}  # samples of 2 ms around the R peak
        for wave, (low, high) in reach.items():
            for end in ("on", "off"):
                every = np.concatenate([lead[f"{wave}_{end}"] for lead in truth]) - peak
                near = np.sort(every[(every > low - 60) & (every < high + 60)] if wave == "QRS" else
                               every[(every > low) & (every < high)])  # fmt: skip
                edge[f"{wave}_{end}"] = near[1 if end == "on" else -2] if len(near) >= 4 else np.nan
        for name, (start, stop) in INTERVALS.items():
            rows[name].append(2 * (edge[stop] - edge[start]))
    return {name: float(np.nanmedian(v)) if np.isfinite(v).any() else np.nan for name, v in rows.items()}


@cache
def marked(folder: pathlib.Path, name: str) -> tuple[EcgRecord, list[dict[str, np.ndarray]], dict[str, float]]:
    """Return a LUDB record, the experts' marks by lead and their intervals."""
    truth = [ludb_expert(str(folder / "data" / name), lead) for lead in LEADS]
    return load(folder, name), truth, second_extremes(truth)


def ludb(folder: pathlib.Path, name: str) -> Errors:
    """Return the errors of one LUDB record."""
    record, truth, theirs = marked(folder, name)
    marks = delineate(record)
    features = measure(record, marks)
    out = {f"LUDB {k}": _difference(getattr(features, f"{k.lower()}_ms"), theirs[k]) for k in INTERVALS}
    wrong = right = 0
    for lead, found in zip(truth, marks.marks["P"]):
        every = np.concatenate(list(lead.values()))
        found = np.sort(found[np.isfinite(found)])
        error, hit = match(lead["P"], found)
        right += len(error)
        wrong += len(lead["P"]) - len(error)
        if len(every):
            wrong += int((~hit & (found >= every.min()) & (found <= every.max())).sum())
    return out | {"LUDB P": np.repeat([0.0, 1.0], [right, wrong])}


def qtdb(path: pathlib.Path) -> Errors:
    """Return the errors of one QTDB record."""
    rows = score_record(str(path.with_suffix("")))
    marks, hits, false = rows["P"]
    out = {f"QTDB {name}": rows[name][1] for name in ("QRS_off", "T_off")}
    return out | {"QTDB P": np.repeat([0.0, 1.0], [len(hits), marks - len(hits) + false])}


def patient(seed: int) -> Errors:
    """Return the errors of one simulated patient, without noise and at 20 dB."""
    out: dict[str, list[np.ndarray]] = {f"simulated {name}": [] for name in INTERVALS}
    for snr_db in (None, 20):
        sim = simulate("sinus", seed=seed, snr_db=snr_db)
        features = measure(sim.record)
        for name, rows in out.items():
            field = f"{name.split()[1].lower()}_ms"
            rows.append(_difference(getattr(features, field), sim.parameters[field]))
    return {name: np.concatenate(rows) for name, rows in out.items()}


def _difference(ours: float | None, theirs: float) -> np.ndarray:
    """Return our value less theirs as an array, empty where one is unknown."""
    return np.array([ours - theirs]) if ours is not None and np.isfinite(theirs) else np.zeros(0)


def pooled(rows: Iterable[Errors]) -> Errors:
    """Return the errors of several patients together, by name."""
    out: dict[str, list[np.ndarray]] = {name: [] for name in BARS}
    for row in rows:
        for name, error in row.items():
            out[name].append(error)
    return {name: np.concatenate(e) if e else np.zeros(0) for name, e in out.items()}


def loss(rows: Iterable[Errors]) -> float:
    """Return the mean over :data:`BARS` of the squared error as a share of its bar; of P waves, of their share."""
    total = []
    for name, error in pooled(rows).items():
        if len(error):
            size = error.mean() if name.endswith(" P") else np.sqrt(np.mean(np.square(error)))
            total.append((size / BARS[name]) ** 2)
    return float(np.mean(total))


def choose(patients: list[Callable[[], Errors]], fold: np.ndarray) -> list[Choice]:
    """Return for each fold the values that serve the others best, one constant after the other.

    Several constants can correct one bias: each is chosen with those before it at the value that the fold has chosen.
    """
    measured: dict[tuple[tuple[tuple[str, str], float], ...], list[Errors]] = {}

    def run(choice: Choice) -> list[Errors]:
        """Measure all patients, once for every choice."""
        key = tuple(choice.items())
        if key not in measured:
            with constants(choice):
                measured[key] = [errors() for errors in patients]
        return measured[key]

    chosen: list[Choice] = [{} for _ in range(fold.max() + 1)]
    for place, grid in GRID.items():
        for k, choice in enumerate(chosen):
            others = np.flatnonzero(fold != k)
            scores = {value: loss([run(choice | {place: value})[i] for i in others]) for value in grid}
            choice[place] = min(scores, key=scores.__getitem__)
        print(f"{place[0].rsplit('.', 1)[1]}.{place[1]}: {[c[place] for c in chosen]} of {grid}", flush=True)
    return chosen


def table(label: str, errors: Errors) -> None:
    """Print bias and SD, and the share of P waves missed or false."""
    parts = []
    for name, e in errors.items():
        wrong = name.endswith(" P")
        parts.append(f"{name} {100 * e.mean():.2f} % wrong" if wrong else f"{name} {e.mean():.1f} ± {e.std():.1f}")
    print(f"{label}: " + ", ".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ludb", type=pathlib.Path)
    parser.add_argument("qtdb", type=pathlib.Path)
    parser.add_argument("--patients", type=int, default=50, help="simulated patients")
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args()
    names = sorted({p.stem for p in (args.ludb / "data").glob("*.hea")}, key=int)
    paths = sorted(args.qtdb.glob("*.hea"))
    patients: list[Callable[[], Errors]] = [lambda n=n: ludb(args.ludb, n) for n in names]
    patients += [lambda p=p: qtdb(p) for p in paths]
    patients += [lambda s=s: patient(s) for s in range(args.patients)]
    sizes = (len(names), len(paths), args.patients)
    fold = np.concatenate([np.arange(size) % args.folds for size in sizes])
    in_use = [errors() for errors in patients]
    table("constants in use", pooled(in_use))
    held_out: list[Errors] = []
    for k, choice in enumerate(choose(patients, fold)):
        with constants(choice):
            held_out += [patients[i]() for i in np.flatnonzero(fold == k)]
    table(f"held-out patients of {args.folds} folds", pooled(held_out))
    print(f"loss: in use {loss(in_use):.3f}, held out {loss(held_out):.3f}")


if __name__ == "__main__":
    main()
