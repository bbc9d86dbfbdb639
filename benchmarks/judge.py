"""How much faster than one at a time a judge is with 32 requests in flight, on a loopback endpoint that takes 1 s.

    python benchmarks/judge.py [--latency 1.0] [--requests 256] [--in-flight 32]

Prints one line: the ratio, the rate, and the overhead of the client a request. The sequential time is the sum of the
endpoint's own latencies, measured on a few requests with one in flight.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

from gem_lightning.evaluation.llm_judge.judge import Judge, JudgeCase
from gem_lightning.llm.client import ChatClient
from helpers_llm_server import LoopbackLLM


def seconds(server: LoopbackLLM, in_flight: int, count: int, tag: str) -> float:
    """Wall-clock time of ``count`` judgements."""
    with tempfile.TemporaryDirectory() as folder:
        client = ChatClient("judge", server.base_url, cache=f"{folder}/answers.jsonl", concurrency=in_flight)
        judge = Judge(client)
        cases = [JudgeCase(f"{tag}{i}", f"{tag}: sinus rhythm at {i} bpm.", "Sinus rhythm.") for i in range(count)]
        start = time.perf_counter()
        answers = judge.judge(cases).answers
        elapsed = time.perf_counter() - start
    assert len(answers) == count
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--in-flight", type=int, default=32)
    args = parser.parse_args()
    with LoopbackLLM(lambda request, n: '{"DiagnosisAccuracy": []}', latency=args.latency) as server:
        seconds(server, 1, 1, "w")  # imports and the first connection are nobody's latency
        one = seconds(server, 1, 4, "s") / 4
        many = seconds(server, args.in_flight, args.requests, "c")
    ratio = one * args.requests / many
    print(
        f"judge: {args.requests} judgements in {many:.2f} s with {args.in_flight} in flight, {one:.3f} s each one at a "
        f"time: {ratio:.1f}x (target 28x)"
    )


if __name__ == "__main__":
    main()
