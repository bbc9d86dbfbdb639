"""Rendering: ours beside one matplotlib drawing of the same figure, and with a camera's flaws.

python benchmarks/render.py [--loader FOLDER]   (FOLDER of WFDB records for the loader's rate)

Processor time of one thread, the least of several runs. Matplotlib draws the same lines with whole arrays into an Agg
canvas: what a careful user would write. ecg_plot and pmecg are timed too where they are installed.
"""

import argparse
import importlib
import os
import time

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np

from gem_lightning.ecg import simulate
from gem_lightning.ecg.record import LEADS
from gem_lightning.render import EcgRenderer

SIZES = ((1700, 2200), (850, 1100), (336, 435))
BARS = {(1700, 2200): 12.0, (850, 1100): 5.0, (336, 435): 2.0}  # ms, 12x1, clean


def least(function, repeats):
    """Least processor time of a call, ms."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times) * 1e3


def matplotlib_drawing(record, size):
    """The 12x1 page by matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dpi = size[1] / (279.4 / 25.4)
    figure = Figure(figsize=(size[1] / dpi, size[0] / dpi), dpi=dpi)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 279.4), ylim=(215.9, 0))
    axes.axis("off")
    for pitch, color, width in ((1, "#fddeda", 0.34), (5, "#fa9691", 0.62)):
        axes.hlines(np.arange(0, 216, pitch), 0, 279.4, color=color, linewidth=width)
        axes.vlines(np.arange(0, 280, pitch), 0, 215.9, color=color, linewidth=width)
    x = 25 + np.arange(record.samples) / record.fs * 25
    for k, lead in enumerate(LEADS):
        baseline = 25 + 15 * k
        axes.plot(x, baseline - 10 * record.lead(lead), color="#141418", linewidth=0.75)
        axes.plot([17, 18, 18, 23, 23, 24], baseline - 10 * np.array([0, 0, 1, 1, 0, 0]), color="k", linewidth=0.75)
        axes.text(4, baseline, lead, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def other_libraries(record):
    """Milliseconds of ecg_plot and pmecg, where installed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name in ("ecg_plot", "pmecg"):
        try:
            library = importlib.import_module(name)
        except ImportError:
            print(f"{name:12s} is not installed")
            continue

        def draw(library=library, name=name):
            if name == "ecg_plot":
                library.plot(record.signal, sample_rate=record.fs, columns=1)
            else:
                library.ECGPlotter().plot(record.signal.T, sampling_frequency=record.fs)
            pyplot.gcf().canvas.draw()
            pyplot.close("all")

        print(f"{name:12s} {least(draw, 2):8.0f} ms (its own size)")


def loader_rate(folder, seconds=10.0):
    """Pictures a second of one core: WFDB records read, drawn with preset scan at 435 x 336, by a DataLoader."""
    from pathlib import Path

    from torch.utils.data import DataLoader

    from gem_lightning.ecg import read_ecg

    paths = sorted(Path(folder).rglob("*.hea"))
    records = [read_ecg(path) for path in paths]
    renderer = EcgRenderer(size=(336, 435), artifacts="scan")

    class Pictures:
        def __init__(self, read):
            self.read = read

        def __len__(self):
            return 100_000

        def __getitem__(self, k):
            record = read_ecg(paths[k % len(paths)]) if self.read else records[k % len(records)]
            return renderer(record, (0, 0, k)).image

    for read in (False, True):
        start, count = time.process_time(), 0
        for batch in DataLoader(Pictures(read), batch_size=32):
            count += len(batch)
            if time.process_time() - start > seconds:
                break
        name = "WFDB file read each time" if read else f"{len(records)} real records in memory"
        print(f"DataLoader, scan, 435x336, {name}: {count / (time.process_time() - start):.0f} images/s a core")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loader", help="folder of WFDB records")
    arguments = parser.parse_args()
    record = simulate("sinus", seed=0).record
    print(f"{'12x1, clean':12s} {'ours':>9s} {'buffer':>9s} {'bar':>6s} {'matplotlib':>11s} {'ratio':>7s}")
    for size in SIZES:
        renderer = EcgRenderer("12x1", size=size)
        buffer = np.empty((*size, 3), np.uint8)
        ours, reused = least(lambda r=renderer: r(record), 20), least(lambda r=renderer, b=buffer: r(record, out=b), 20)
        theirs = least(lambda s=size: matplotlib_drawing(record, s), 3)
        label = f"{size[1]}x{size[0]}"
        print(f"{label:12s} {ours:6.2f} ms {reused:6.2f} ms {BARS[size]:6g} {theirs:8.0f} ms {theirs / ours:6.0f}x")
    for preset in ("scan", "photo", "hard"):
        renderer = EcgRenderer(size=(336, 435), artifacts=preset)
        times = [least(lambda r=renderer, k=k: r(record, k), 4) for k in range(24)]
        print(f"3x4+1, 435x336, {preset:5s}: mean {np.mean(times):.2f} ms, longest of 24 {max(times):.2f} ms")
    other_libraries(record)
    if arguments.loader:
        loader_rate(arguments.loader)


if __name__ == "__main__":
    main()
