"""What waiting costs before anything happens: importing the package, and each entry point's --help.

Beside them, in the same call: importing the whole stack at once, as a program does that is not lazy.
"""

import subprocess
import sys
import time

STACK = "import torch, lightning, transformers, hydra, open_clip"
CASES = {
    "import gem_lightning": ([sys.executable, "-c", "import gem_lightning"], 0.3),
    **{
        f"{name} --help": ([sys.executable, "-m", f"gem_lightning.{name}", "--help"], 1.5)
        for name in ("train", "evaluate", "predict", "generate", "serve", "cli")
    },
}


def seconds(command: list[str], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    bare = seconds([sys.executable, "-c", "pass"])
    stack = seconds([sys.executable, "-c", STACK], repeats=2)
    print(f"bare interpreter {bare:.2f} s; the whole stack imported at once {stack:.1f} s")
    for name, (command, target) in CASES.items():
        took = seconds(command)
        word = "ok" if took <= target else "SLOW"
        print(f"{name:24s} {took:5.2f} s  (target {target} s, {word}; stack / this = {stack / took:.0f}x)")


if __name__ == "__main__":
    main()
