"""Embedding speed of the ECG tower against the same network called as the original does: batch 1, float32, no fusion.

    python benchmarks/encoder.py [full]

`full` takes the published size (86 M parameters); without it a tower a tenth as wide, for small machines. The weights
are random: speed does not depend on them. Both ways run interleaved in one process; the ratio is of the best repeats.
On a CPU the process time is taken, on a GPU the wall time between synchronisations.
"""

import sys
import time

import torch

from gem_lightning.models.encoder.transformer import EcgTransformer

REPEATS = 5


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


@torch.inference_mode()
def one_by_one(tower: EcgTransformer, ecg: torch.Tensor) -> None:
    for record in ecg:
        tower.pool(record[None])


@torch.inference_mode()
def in_batches(tower: EcgTransformer, ecg: torch.Tensor, size: int) -> None:
    with torch.autocast(ecg.device.type, torch.bfloat16, enabled=ecg.device.type == "cuda"):
        for part in ecg.split(size):
            tower.pool(part)


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    full = "full" in sys.argv[1:]
    tower = EcgTransformer() if full else EcgTransformer(width=192, layers=6, head_width=32, output_dim=128)
    tower = tower.eval().to(device)
    gpu = device.type == "cuda"
    few, many, size = (64, 4096, 512) if gpu else (8, 16, 8) if full else (32, 128, 32)
    ecg = torch.randn(many, 12, 5000, device=device) * 0.2
    torch.backends.cuda.matmul.allow_tf32 = False
    rates: dict[str, list[float]] = {"one by one": [], "in batches": []}
    for _ in range(REPEATS):
        start = clock(device)
        one_by_one(tower, ecg[:few])
        rates["one by one"].append(few / (clock(device) - start))
        start = clock(device)
        in_batches(tower, ecg, size)
        rates["in batches"].append(many / (clock(device) - start))
    slow, fast = (max(values) for values in rates.values())
    millions = sum(p.numel() for p in tower.parameters()) / 1e6
    print(f"{device.type}, {millions:.1f} M parameters, {torch.get_num_threads()} thread(s)")
    print(f"original's way (batch 1, float32): {slow:.1f} ECGs/s")
    print(f"in batches of {size}{' in bfloat16' if gpu else ''}: {fast:.1f} ECGs/s, ratio {fast / slow:.2f}")


if __name__ == "__main__":
    main()
