"""Answers per second through vLLM beside transformers' own batches, with equal prompts and lengths.

    python benchmarks/vllm_serving.py MODEL --records 256 --batch 32     # a GPU; the CPU wheel of vLLM runs it too

MODEL is a folder of ``save_pretrained``. Greedy texts of a fixed length are compared as well: in float32 they are the
same, in half precision they may part where two tokens are nearly as likely.
"""

from __future__ import annotations

import argparse
import gc
import time
from typing import Any

import torch

from gem_lightning.ecg import simulate
from gem_lightning.models import Gem
from gem_lightning.models.inference.generation import encode_example, generate_encoded
from gem_lightning.models.inference.vllm import vllm_request


def timed(work: Any, warm: Any) -> tuple[Any, float]:
    """Result and seconds of ``work()``, after ``warm()``."""
    warm()
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--dtype", default="bfloat16" if torch.cuda.is_available() else "float32")
    parser.add_argument("--context", type=int, default=2048)
    args = parser.parse_args()

    import vllm

    gem = Gem.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
    records = [simulate(seed=seed).record for seed in range(args.records)]
    examples = [gem.example(gem.prepare(record, None, {}), None) for record in records]
    items = [encode_example(gem.processor, example) for example in examples]
    requests = [vllm_request(gem, record) for record in records]
    length = {"max_new_tokens": args.tokens, "min_new_tokens": args.tokens}

    def own(some: list[Any]) -> list[str]:
        return generate_encoded(gem.model, gem.processor, some, batch_size=args.batch, **length)

    texts, seconds = timed(lambda: own(items), lambda: own(items[:2]))
    gem.model = None  # its memory is vLLM's from here
    gc.collect()
    torch.cuda.empty_cache()

    llm = vllm.LLM(
        model=args.model,
        dtype=args.dtype,
        max_model_len=args.context,
        limit_mm_per_prompt={"ecg": 1, "image": 1},
        enable_prefix_caching=False,  # every record is another
    )
    parameters = vllm.SamplingParams(temperature=0.0, max_tokens=args.tokens, min_tokens=args.tokens)
    answers, other = timed(lambda: llm.generate(requests, parameters), lambda: llm.generate(requests[:2], parameters))
    same = sum(a.outputs[0].text.strip() == text for a, text in zip(answers, texts, strict=True))
    count, tokens = len(records), len(records) * args.tokens
    print(f"transformers, batches of {args.batch}: {tokens / seconds:.0f} tokens/s, {count / seconds:.2f} answers/s")
    print(f"vLLM with the plugin: {tokens / other:.0f} tokens/s, {count / other:.2f} answers/s")
    print(f"ratio {seconds / other:.2f}; equal texts {same} of {count}")


if __name__ == "__main__":
    main()
