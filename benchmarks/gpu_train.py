"""Training a 7B with random weights on one CUDA device: full fine-tuning, LoRA and QLoRA beside the device's ceilings.

Weights are drawn on the device, so no checkpoint is needed. A step is forward, backward, clipping and update on samples
of 101 ECG, 576 image and 400 text tokens. MFU is counted FLOPs over the device's published peak, and beside it over
the rate of a large matrix product measured here.

    python benchmarks/gpu_train.py --full                        # CUDA; add --compile, --recompute selective
    python benchmarks/gpu_train.py                               # tiny sizes, any device
"""

from __future__ import annotations

import argparse
import gc
import json
import pathlib
import statistics
import sys
import tempfile
import time

import torch
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

from gem_lightning.lit.callbacks.throughput import device_peak
from gem_lightning.lit.optim import set_trainable
from gem_lightning.models import build_gem, build_processor, tiny_tokenizer
from gem_lightning.models.compute import Kernels
from gem_lightning.models.planning.flops import FlopCounter
from helpers_sizes import FULL, TINY

FROZEN = ["model.ecg_tower.*", "model.vision_tower.*"]
TEXT, ANSWER = 400, 300  # tokens of a sample's text, and of these its answer


def timed(work, device, times):
    """Median seconds of ``work()`` after three calls to warm up."""
    spent = []
    for number in range(times + 3):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        if number >= 3:
            spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def ceilings(device, size):
    """FLOP/s of a square bf16 matrix product, and bytes/s read and written by a copy."""
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = timed(lambda: one @ other, device, 10)
    source = torch.empty(size * size * 4, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), device, 10)
    return {"matmul_tflops": 2e-12 * size**3 / product, "copy_gb_per_s": 2e-9 * source.numel() / copy}


def network(kind, sizes, device, args):
    """A network with random weights, ready to train, and its optimiser.

    The 4-bit one goes through a folder: random weights in bfloat16, saved, then quantised as they are loaded.
    """
    options = {"kernels": Kernels(compile=args.compile), "gradient_checkpointing": args.recompute}
    lora = {"r": args.rank, "lora_alpha": 2 * args.rank}
    with torch.device(device):
        dtype = args.weights if kind == "full" else "bfloat16"
        model = build_gem(**sizes, dtype=dtype, lora=lora if kind == "lora" else None, **options)
    model = model.to(device)
    if kind == "qlora":
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            build_processor(tiny_tokenizer(), sizes).save_pretrained(folder)
            del model
            gc.collect()
            model = build_gem(checkpoint=folder, quantization="nf4", dtype="bfloat16", lora=lora, **options)
    set_trainable(model, [f"*{pattern}" for pattern in FROZEN])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if kind == "qlora" or args.optimizer == "adamw8bit":
        import bitsandbytes

        return model, bitsandbytes.optim.PagedAdamW8bit(trained, lr=1e-5)
    return model, torch.optim.AdamW(trained, lr=1e-5, fused=device == "cuda")


def batch_of(config, samples, device):
    """Samples of one length, and the counts that their FLOPs follow from."""
    ecgs, images = config.ecg_tokens, config.tile_tokens
    text = torch.randint(3, config.text_config.vocab_size, (samples, TEXT))
    places = [torch.full((samples, ecgs), config.ecg_token_id), torch.full((samples, images), config.image_token_id)]
    ids = torch.cat([*places, text], dim=1)
    labels = ids.clone()
    labels[:, :-ANSWER] = -100
    side, length = config.vision_config.image_size, ids.shape[1]
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "ecg_values": torch.randn(samples, config.ecg_config.leads, config.ecg_config.samples),
        "pixel_values": torch.randn(samples, 3, side, side),
    }
    counts = {"tokens": ids.numel(), "squares": samples * length**2, "labels": samples * ANSWER}
    return {key: value.to(device) for key, value in batch.items()}, counts | {"ecgs": samples, "tiles": samples}


def measure(kind, sizes, device, args):
    """Tokens a second, FLOP/s and peak memory of one way to train."""
    torch.manual_seed(0)
    model, optimizer = network(kind, sizes, device, args)
    model.train()
    batch, counts = batch_of(model.config, args.samples, device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    losses = []

    def step():
        with torch.autocast(device, torch.bfloat16):
            loss = model(**batch, return_logits=False).loss
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(step, device, args.steps)
    if not all(bool(torch.isfinite(loss)) for loss in losses):
        raise SystemExit(f"{kind}: a loss is not finite")
    found = {
        "kind": kind,
        "samples_per_s": args.samples / seconds,
        "tokens_per_s": counts["tokens"] / seconds,
        "tflops": FlopCounter(model).count(counts).total / seconds / 1e12,
        "trained_parameters": sum(parameter.numel() for parameter in trained),
    }
    if device == "cuda":
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="the 7B's sizes; needs CUDA")
    parser.add_argument("--kinds", nargs="+", default=["full", "lora", "qlora"])
    parser.add_argument("--samples", type=int, default=None, help="a step; 8 with --full, else 2")
    parser.add_argument("--steps", type=int, default=None, help="that are timed; 20 with --full, else 2")
    parser.add_argument("--weights", default="float32", help="of full fine-tuning: float32 or bfloat16")
    parser.add_argument("--optimizer", choices=["adamw", "adamw8bit"], default="adamw")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--recompute", default=False, help="true, selective, or every n-th layer")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args(arguments)
    args.samples, args.steps = args.samples or (8 if args.full else 2), args.steps or (20 if args.full else 2)
    args.recompute = {"true": True}.get(args.recompute, args.recompute)
    args.recompute = int(args.recompute) if str(args.recompute).isdigit() else args.recompute
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.full and device == "cpu":
        raise SystemExit("expected a CUDA device for --full, got none; leave --full out for tiny sizes")
    roof = ceilings(device, 8192 if args.full else 256)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    peak = device_peak(torch.device(device))[0] if device == "cuda" else None
    print(json.dumps({"device": name, **{key: round(value, 3) for key, value in roof.items()}}))
    rows = []
    for kind in args.kinds:
        _free(device)  # here, where no error's traceback holds the network that did not fit
        try:
            found = measure(kind, FULL if args.full else TINY, device, args)
        except torch.OutOfMemoryError as error:  # the other kinds may fit all the same
            said = str(error).split(". ")[0]
            rows.append({"kind": kind, "out_of_memory": f"{said}; fewer --samples, or --recompute selective"})
            print(json.dumps(rows[-1]))
            continue
        found["of_matmul_ceiling"] = found["tflops"] / roof["matmul_tflops"]
        if peak is not None:
            found["mfu"] = found["tflops"] * 1e12 / peak
        rows.append(found)
        print(
            json.dumps(
                {key: value if isinstance(value, str | int) else round(value, 4) for key, value in found.items()}
            )
        )
    return rows


def _free(device):
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
