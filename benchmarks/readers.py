"""Time to read one recording, ours against the independent readers that are installed, in one run.

``python benchmarks/readers.py [../shared/data]``: one row a format, median processor time of one thread. Comparisons
with ecgdatakit and sierraecg need ``pip install ecgdatakit sierraecg``; rows of absent libraries are left out.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from gem_lightning.ecg import read_ecg, simulate
from gem_lightning.ecg.writers import write_ecg

ROUNDS = 30


def median_ms(read: Callable[[], object]) -> float:
    """Median processor time of a call, ms, after one that is not counted."""
    read()
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        read()
        times.append((time.process_time() - start) * 1000)
    return statistics.median(times)


def others(kind: str, path: Path) -> dict[str, Callable[[], object]]:
    """Independent readers of a format that are installed."""
    found: dict[str, Callable[[], object]] = {}
    if kind == "wfdb":
        import wfdb

        found["wfdb.rdsamp"] = lambda: wfdb.rdsamp(str(path.with_suffix("")))
    if kind == "edf":
        import pyedflib

        found["pyedflib"] = lambda: pyedflib.highlevel.read_edf(str(path))
    if kind == "csv":
        import pandas as pd

        found["pandas.read_csv"] = lambda: pd.read_csv(path).to_numpy(np.float32)
    if kind == "dicom":
        import pydicom

        found["pydicom"] = lambda: pydicom.dcmread(path).waveform_array(0)
    if kind == "sierra" and importlib.util.find_spec("sierraecg"):
        import sierraecg

        found["sierraecg"] = lambda: sierraecg.read_file(str(path))
    if importlib.util.find_spec("ecgdatakit") and kind in ("scp", "aecg", "muse", "sierra", "dicom", "edf"):
        import ecgdatakit

        found["ecgdatakit"] = lambda: ecgdatakit.FileParser().parse(str(path))
    return found


def main() -> None:
    """Print the table."""
    shared = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("../shared/data")
    record = simulate("sinus", seed=0, snr_db=30).record
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: write_ecg(record, Path(folder) / f"x.{end}", kind) for kind, end in (
            ("wfdb", "hea"), ("edf", "edf"), ("dicom", "dcm"), ("csv", "csv"), ("parquet", "parquet"))}  # fmt: skip
        for kind, name in (("scp", "scp/ecgtoolkit_Example.scp"), ("aecg", "aecg/ecgtoolkit_Example.xml"),
                           ("sierra", "sierra/129DYPRG.XML")):  # fmt: skip
            if (shared / "formats" / name).exists():
                files[kind] = shared / "formats" / name
        print(f"{'format':10} {'ours, ms':>9}   others, ms (times ours)")
        for kind, path in files.items():
            contract = "gem" if kind == "wfdb" else "clean"  # as the library: no resampling
            ours = median_ms(partial(read_ecg, path, contract=contract))
            rows = []
            for name, read in others(kind, path).items():
                try:
                    theirs = median_ms(read)
                except Exception as error:
                    rows.append(f"{name} failed ({type(error).__name__})")
                else:
                    rows.append(f"{name} {theirs:.2f} ({theirs / ours:.2f}x)")
            print(f"{kind:10} {ours:9.2f}   {'; '.join(rows)}")


if __name__ == "__main__":
    main()
