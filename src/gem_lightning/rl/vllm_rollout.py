"""Rollouts by vLLM: it writes with the policy's language model from embeddings that the policy's towers make."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gem_lightning.errors import CheckpointError, GemError
from gem_lightning.models.inference.vllm import LLM
from gem_lightning.models.lora import base_name, plain_name
from gem_lightning.rl.logps import Encode
from gem_lightning.rl.rollout import Completions

_LANGUAGE_MODEL, _HEAD = "model.language_model.", "lm_head."


class VllmRollout:
    """Samples with vLLM on the device of the training process; its weights follow the policy's before each rollout.

    The log-probabilities of the completions are computed by the network itself where the objective needs them: vLLM's
    kernels round differently.

    Args:
        folder: What ``gem-lightning export vllm`` wrote of the model that training starts from.
        max_new_tokens: Longest completion.
        temperature: Of the policy.
        options: For ``vllm.LLM``, such as ``gpu_memory_utilization``; the network in training needs the rest.

    Raises:
        GemError: vLLM is not installed.
        CheckpointError: The folder is no export.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        max_new_tokens: int = 256,
        temperature: float = 1.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not (Path(folder) / LLM / "config.json").is_file():
            raise CheckpointError(
                f"expected {LLM}/ in {folder}, got none; write it with: gem-lightning export vllm MODEL -o {folder}"
            )
        self.folder, self.options = Path(folder), dict(options or {})
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self._engine: Any = None

    def __call__(
        self,
        model: Any,
        processor: Any,
        encode: Encode,
        items: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        synchronous: bool = False,
    ) -> Completions:
        """Sample ``len(seeds) // len(items)`` completions of each prompt; see ``LocalRollout``.

        Raises:
            GemError: The policy's weights are sharded, so that no process has them whole.
        """
        if synchronous:
            raise GemError(
                "expected whole weights on each process for rollouts by vLLM, got sharded ones; strategy=ddp"
            )
        vllm, engine = self._start()
        with torch.no_grad(), plain_weights(model) as weights:
            engine.apply_model(lambda served: served.load_weights(weights))
        group = len(seeds) // len(items)
        requests = [{"prompt_embeds": embeddings(model, encode([item]))} for item in items]
        # vLLM derives the seed of each of the n texts from the request's own
        parameters = [
            vllm.SamplingParams(n=group, temperature=self.temperature, max_tokens=self.max_new_tokens,
                                seed=seeds[at * group] % 2**63)
            for at in range(len(items))
        ]  # fmt: skip
        answers = [text for answer in engine.generate(requests, parameters) for text in answer.outputs]
        device = next(model.parameters()).device
        rows = [torch.as_tensor(list(text.token_ids), dtype=torch.long) for text in answers]
        ids = pad_sequence(rows, batch_first=True, padding_value=processor.pad_id).to(device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = torch.arange(ids.shape[1], device=device)[None] < lengths[:, None]
        ended = torch.tensor([text.finish_reason == "stop" for text in answers], device=device)
        texts = [text.strip() for text in processor.tokenizer.batch_decode(rows, skip_special_tokens=True)]
        return Completions(ids, mask, ended, texts, None)

    def _start(self) -> tuple[Any, Any]:
        """Import vLLM and start its engine once, in this process, so that it can take weights by reference."""
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            import vllm
        except ImportError:
            raise GemError("expected vLLM, got none; pip install vllm on a machine with a GPU") from None
        if self._engine is None:
            self._engine = vllm.LLM(model=str(self.folder / LLM), enable_prompt_embeds=True, **self.options)
        return vllm, self._engine


@contextmanager
def plain_weights(model: Any) -> Iterator[list[tuple[str, Tensor]]]:
    """Yield the weights of a policy's language model and head under their plain names, adapters merged meanwhile."""
    adapted = hasattr(model, "peft_config")
    if adapted:
        model.merge_adapter()
    try:
        found = []
        for full, tensor in model.state_dict().items():
            name = base_name(full).replace(".modules_to_save.default", "")
            if plain_name(full) is None or ".lora_" in name:
                continue
            if name.startswith(_LANGUAGE_MODEL):
                found.append((f"model.{name.removeprefix(_LANGUAGE_MODEL)}", tensor.detach()))
            elif name.startswith(_HEAD):
                found.append((name, tensor.detach()))
        yield found
    finally:
        if adapted:
            model.unmerge_adapter()


@torch.no_grad()
def embeddings(model: Any, batch: Mapping[str, Any]) -> Tensor:
    """Return the fused embeddings (S, H) of one prompt on the CPU, as vLLM's requests hold them."""
    data = {name: batch.get(name) for name in ("ecg_values", "pixel_values", "image_sizes")}
    return model.embed_inputs(batch["input_ids"], **data)[0].cpu()
