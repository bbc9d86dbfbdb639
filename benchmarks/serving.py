"""Load on the API: one client, then many; requests a second, answers by status, memory of the server.

python benchmarks/serving.py --clients 32 --seconds 60                  # starts python -m gem_lightning.serve
python benchmarks/serving.py --url http://127.0.0.1:8000 --pid 1234     # a server that runs
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx

from gem_lightning.ecg import simulate, write_ecg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a server that runs; None starts one")
    parser.add_argument("--pid", type=int, help="of that server, for its memory")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url, pid = (args.url, args.pid) if args.url else stack.enter_context(server())
        bodies = records(stack)
        load(url, bodies, 4, 8, pid)  # compilation, caches and threads are not part of the figures
        one, _ = load(url, bodies, 1, max(10, args.seconds / 3), pid)
        many, grown = load(url, bodies, args.clients, args.seconds, pid)
        print(f"{args.clients} clients answer {many / one:.2f} times as many a second as one; memory {grown:+.1%}")
        sizes = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if "batch_size_bucket" in line]
        print(*sizes, sep="\n")
        print(f"first word of a stream after {first_word(url, bodies[0]):.2f} s")


@contextlib.contextmanager
def server() -> Iterator[tuple[str, int]]:
    """A server on a free port, as users start it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "gem_lightning.serve", f"port={port}"], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/healthz")
                break
            time.sleep(0.1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def records(stack: contextlib.ExitStack) -> list[bytes]:
    """DICOM files of different simulated hearts."""
    import tempfile

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    kinds = ("sinus", "atrial_fibrillation", "lbbb", "av_block_1")
    return [write_ecg(simulate(k, seed=i).record, folder / f"{k}.dcm").read_bytes() for i, k in enumerate(kinds)]


def load(url: str, bodies: list[bytes], clients: int, seconds: float, pid: int | None) -> tuple[float, float]:
    """Answers a second of so many clients, and growth of the server's memory after the first third."""
    statuses: Counter[str] = Counter()
    waits: list[float] = []
    end = time.monotonic() + seconds

    def ask(number: int) -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            turn = number
            while time.monotonic() < end:
                begun, turn = time.monotonic(), turn + 1
                try:
                    body = bodies[turn % len(bodies)]
                    answer = client.post("/v1/interpret", files={"files": ("ecg.dcm", body)})
                    statuses[str(answer.status_code)] += 1
                    if answer.status_code == 429:
                        time.sleep(float(answer.headers["retry-after"]))
                except httpx.HTTPError as error:
                    statuses[type(error).__name__] += 1
                waits.append(time.monotonic() - begun)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(clients)]
    begun, used = time.monotonic(), cpu(pid)
    for thread in threads:
        thread.start()
    time.sleep(seconds / 3)
    before = memory(pid)
    for thread in threads:
        thread.join()
    rate = statuses["200"] / (time.monotonic() - begun)
    waits.sort()
    grown = memory(pid) / before - 1 if before else float("nan")
    middle, late = waits[len(waits) // 2], waits[int(0.95 * len(waits))]
    print(f"{clients} clients, {seconds:.0f} s: {rate:.2f} a second, {dict(statuses)}, ", end="")
    each = 1e3 * (cpu(pid) - used) / max(1, statuses["200"])
    print(f"wait {middle:.2f} s (95 %: {late:.2f} s), {each:.0f} ms of CPU each")
    return rate, grown


def memory(pid: int | None) -> float:
    """Resident memory of a process, bytes; 0 where it is not known."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0.0


def cpu(pid: int | None) -> float:
    """CPU time that a server and its workers have used, s; 0 where it is not known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        workers = [child for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(cpu(int(one)) for one in workers)
    except (OSError, ValueError):
        return 0.0


def first_word(url: str, body: bytes) -> float:
    """Seconds until the first text of a stream."""
    begun = time.monotonic()
    files, form = {"files": ("ecg.dcm", body)}, {"stream": "true"}
    with httpx.stream("POST", f"{url}/v1/interpret", files=files, data=form, timeout=60) as answer:
        next(line for line in answer.iter_lines() if line == "event: text")
        return time.monotonic() - begun


if __name__ == "__main__":
    main()
