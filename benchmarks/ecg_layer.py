"""Speed of the ecg layer on one thread, and how often quality() sees exchanged electrodes.

    python benchmarks/ecg_layer.py [LUDB_FOLDER]

LUDB_FOLDER (optional) holds LUDB's header and signal files; its counts are microvolts.
"""

import pathlib
import sys
import tempfile
import time

import numpy as np

from gem_lightning.ecg import DIAGNOSES, quality, read_ecg, simulate, write_wfdb
from gem_lightning.ecg.leads import swap_electrodes


def best_ms(call, repeats: int = 30) -> float:
    """Least process time of one call, ms."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times) * 1000


def swaps(records: list) -> str:
    found = {}
    for name in ("LA-RA", "RA-LL"):
        seen = [any(name in r for r in quality(swap_electrodes(record, name)).reasons) for record in records]
        found[name] = f"{sum(seen)}/{len(seen)}"
    false = sum(any(r.startswith("swapped") for r in quality(record).reasons) for record in records)
    return f"seen {found}, false alarms {false}/{len(records)}"


def main() -> None:
    from pydicom.examples import get_path

    slowest = max((best_ms(lambda code=code: simulate(code, seed=1, snr_db=20), 8), code) for code in DIAGNOSES)
    print(f"simulate, slowest diagnosis ({slowest[1]}): {slowest[0]:.1f} ms")
    record = simulate(seed=1, snr_db=20).record
    print(f"quality: {best_ms(lambda: quality(record)):.1f} ms")
    with tempfile.TemporaryDirectory() as folder:
        path = write_wfdb(record, pathlib.Path(folder) / "rec")
        print(f"read_ecg, WFDB 10 s 500 Hz: {best_ms(lambda: read_ecg(path)):.1f} ms")
        print(f"read_ecg, WFDB, contract gem: {best_ms(lambda: read_ecg(path, contract='gem')):.1f} ms")
    print(f"read_ecg, DICOM 10 s 1000 Hz: {best_ms(lambda: read_ecg(get_path('waveform')), 8):.1f} ms")
    simulated = [simulate(code, seed=seed, snr_db=25).record for code in DIAGNOSES for seed in range(6)]
    print(f"exchanged electrodes, simulated, all diagnoses: {swaps(simulated)}")
    if len(sys.argv) > 1:
        headers = sorted(pathlib.Path(sys.argv[1]).glob("*.hea"))
        real = [read_ecg(path) for path in headers]
        counts = [np.fromfile(path.with_suffix(".dat"), "<i2").reshape(-1, 12).T for path in headers]
        real = [record.with_signal(row / 1000.0) for record, row in zip(real, counts)]
        print(f"exchanged electrodes, LUDB: {swaps(real)}")
        verdicts = [quality(record).verdict for record in real]
        print({verdict: verdicts.count(verdict) for verdict in ("usable", "care", "unusable")})


if __name__ == "__main__":
    main()
