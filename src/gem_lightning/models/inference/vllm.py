"""Serve a GEM with vLLM, in one of two ways.

Embeddings: ours makes the prompt's embeddings, vLLM reads them in place of tokens (``LLM(enable_prompt_embeds=True)``,
a request ``{"prompt_embeds": (S, H)}``) and writes. A GEM is exported in two folders for that: ``llm``, a plain
language model with its head and tokenizer, and ``front``, the towers, projectors and embedding table: a GEM whose
language model has no layers. Plugin: vLLM runs the whole GEM (``vllm_plugin``), and a request holds the data.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForCausalLM

from gem_lightning.errors import CheckpointError, GemError
from gem_lightning.jobs.files import open_weights
from gem_lightning.models.gem import Gem, RecordLike
from gem_lightning.models.inference.generation import encode_example
from gem_lightning.models.modeling_gem import GemForConditionalGeneration
from gem_lightning.models.processing_gem import GemProcessor, as_device

LLM, FRONT = "llm", "front"


def export_vllm(gem: Gem, folder: str | os.PathLike[str]) -> Path:
    """Write ``folder/llm`` and ``folder/front``.

    Args:
        gem: A model with whole weights: merge adapters and dequantise first.
        folder: Where to; made if it does not exist.

    Returns:
        The folder.

    Raises:
        CheckpointError: The language model holds weights that its plain form does not know.
    """
    folder = Path(folder)
    model = gem.model
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(model.config.text_config, dtype=model.dtype)
    state = {f"model.{name}": value for name, value in model.model.language_model.state_dict().items()}
    _fill(plain, state | {"lm_head.weight": model.lm_head.weight})
    if model.config.tie_word_embeddings:
        plain.tie_weights()
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder / LLM)
    gem.processor.tokenizer.save_pretrained(folder / LLM)
    open_weights(folder / LLM)

    front = _front(model)
    front.save_pretrained(folder / FRONT)
    gem.processor.save_pretrained(folder / FRONT)
    return folder


def without_layers(config: Any) -> Any:
    """Return a copy of a ``GemConfig`` whose language model has no layers."""
    config = copy.deepcopy(config)
    config.text_config.num_hidden_layers = 0
    if getattr(config.text_config, "layer_types", None):
        config.text_config.layer_types = []
    return config


def _front(model: Any) -> GemForConditionalGeneration:
    """The same network without the language model's layers; its head is its embedding table and is not saved."""
    config = without_layers(model.config)
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = True
    with torch.device("meta"):
        front = GemForConditionalGeneration(config).to(model.dtype)
    layers = "model.language_model.layers."
    _fill(front, {name: value for name, value in model.state_dict().items() if not name.startswith(layers)})
    front.tie_weights()
    return front


def marks(processor: GemProcessor) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Return the ids that mark an ECG and an image in a request, and the placeholders that take their tokens' places.

    All lie in the vocabulary, as vLLM demands; no text holds them in a row.
    """
    tokenizer, pad = processor.tokenizer, processor.pad_id
    other = next(i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id, 0, 1) if i is not None and i != pad)
    return {"ecg": [pad, other], "image": [pad, pad]}, {"ecg": other, "image": pad}


def vllm_request(gem: Gem, record: RecordLike, question: str | None = None) -> dict[str, Any]:
    """Make a request for ``vllm.LLM(model=FOLDER)``, where vLLM runs the whole GEM by its plugin.

    Args:
        gem: For its processor and renderer; its weights are not used.
        record: A record or file.
        question: None requests an interpretation.

    Returns:
        ``prompt_token_ids`` and ``multi_modal_data``, for ``LLM.generate``.
    """
    example = gem.example(gem.prepare(record, None, {}), question)
    item = encode_example(gem.processor, example)
    mark, _ = marks(gem.processor)
    config = gem.model.config
    names = {config.ecg_token_id: "ecg", config.image_token_id: "image"}
    ids: list[int] = []
    for token, run in groupby(item["input_ids"]):
        ids += mark[names[token]] if token in names else list(run)
    data: dict[str, Any] = {}
    if "record" in example:
        data["ecg"] = [gem.processor.ecg_values(example["record"])]
    if "image" in example:
        data["image"] = [Image.fromarray(example["image"])]
    return {"prompt_token_ids": ids, "multi_modal_data": data}


def register_plugin() -> None:
    """Make a GEM's architecture known to vLLM, which calls this in each of its processes."""
    from vllm import ModelRegistry

    place = "gem_lightning.models.inference.vllm_plugin:GemForVllm"
    ModelRegistry.register_model("GemForConditionalGeneration", place)


def _fill(network: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    wanted = network.state_dict().keys()
    lost = sorted(state.keys() - wanted)
    if lost:
        raise CheckpointError(f"expected plain weights, got {lost[:4]} ({len(lost)} in all); merge adapters first")
    network.load_state_dict({name: value.detach() for name, value in state.items()}, strict=True, assign=True)


class VllmWriter:
    """Writes answers with vLLM; takes the place of ``generate_encoded`` in a cohort run.

    Args:
        folder: What :func:`export_vllm` wrote.
        device: Of the front; None means the GPU if there is one.
        **options: For ``vllm.LLM``, such as ``tensor_parallel_size`` and ``gpu_memory_utilization``.

    Attributes:
        front: A ``Gem`` that makes embeddings and writes nothing.

    Raises:
        GemError: vLLM is not installed.
        CheckpointError: The folder is none that :func:`export_vllm` wrote.
    """

    def __init__(self, folder: str | os.PathLike[str], device: Any = None, **options: Any) -> None:
        try:
            import vllm
        except ImportError:
            raise GemError("expected vLLM, got none; pip install vllm on a machine with a GPU") from None
        folder = Path(folder)
        if not all((folder / part / "config.json").is_file() for part in (LLM, FRONT)):
            raise CheckpointError(
                f"expected {LLM}/ and {FRONT}/ in {folder}, got none; write them with: gem-lightning export vllm MODEL "
                f"-o {folder}"
            )
        self.front = Gem.from_pretrained(folder / FRONT, device=device)
        self._parameters = vllm.SamplingParams
        self._llm = vllm.LLM(model=str(folder / LLM), enable_prompt_embeds=True, **options)

    def __call__(
        self,
        items: Sequence[Mapping[str, Any]],
        max_new_tokens: int = 512,
        batch_size: int = 8,
        seeds: Sequence[int] | None = None,
        **settings: Any,
    ) -> list[str]:
        """Answer encoded examples, greedily unless ``settings`` hold a ``temperature``; vLLM batches them itself.

        Args:
            items: As :func:`~gem_lightning.models.inference.generation.encode_example` makes them.
            max_new_tokens: Longest answer.
            batch_size: Not used.
            seeds: One per item.
            **settings: For ``vllm.SamplingParams``.
        """
        requests = [{"prompt_embeds": prompt_embeddings(self.front, item)} for item in items]
        own: list[Any] = list(seeds) if seeds is not None else [None] * len(items)
        parameters = [
            self._parameters(**{"temperature": 0.0, "max_tokens": max_new_tokens, "seed": seed, **settings})
            for seed in own
        ]
        return [answer.outputs[0].text.strip() for answer in self._llm.generate(requests, parameters)]


@torch.inference_mode()
def prompt_embeddings(front: Gem, item: Mapping[str, Any]) -> torch.Tensor:
    """Fused embeddings (S, H) of an encoded example, on the CPU, as vLLM's requests hold them."""
    model = front.model
    batch = as_device(front.processor.pad([item]), model.device, model.dtype)
    data = {name: batch.get(name) for name in ("ecg_values", "pixel_values", "image_sizes")}
    return model.embed_inputs(batch["input_ids"], **data)[0].cpu()
