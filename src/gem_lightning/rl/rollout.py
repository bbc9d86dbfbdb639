"""Rollouts: completions of prompts, sampled by the policy itself; the interface that other backends share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from gem_lightning.errors import GemError
from gem_lightning.models.inference.generation import record_seed
from gem_lightning.models.inference.rows import positions
from gem_lightning.rl.logps import Encode, chosen_logps, read_prompts


@dataclass(frozen=True)
class Completions:
    """Completions of some prompts, G of each, the first prompt's first.

    Attributes:
        ids: (prompts * G, T) tokens, padded on the right.
        mask: (prompts * G, T) True where a token was written, the end's token included.
        ended: (prompts * G,) True where the text ended before the limit.
        texts: One each, without special tokens.
        logps: (prompts * G, T) float32 of the written tokens; None where the backend does not report them.
    """

    ids: Tensor
    mask: Tensor
    ended: Tensor
    texts: list[str]
    logps: Tensor | None

    def rows(self, start: int, end: int) -> Completions:
        """Return some of the completions, without columns that none of them fills."""
        width = max(1, int(self.mask[start:end].sum(1).max()))
        cut = [None if part is None else part[start:end, :width] for part in (self.ids, self.mask, self.logps)]
        return Completions(cut[0], cut[1], self.ended[start:end], self.texts[start:end], cut[2])  # type: ignore[arg-type]


class RolloutBackend(Protocol):
    """What samples completions."""

    temperature: float

    def __call__(
        self,
        model: Any,
        processor: Any,
        encode: Encode,
        items: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        synchronous: bool = False,
    ) -> Completions:
        """Sample completions; see :class:`LocalRollout`."""
        ...


class LocalRollout:
    """Samples with the network in training: each prompt is read once, its G completions are written in one batch.

    Args:
        max_new_tokens: Longest completion.
        temperature: Of the policy, in the rollout and in the objective; 0 takes the most likely token.
        prompts: Prompts at a time, with all their completions.

    Raises:
        GemError: A setting that cannot be.
    """

    def __init__(self, max_new_tokens: int = 256, temperature: float = 1.0, prompts: int = 32) -> None:
        if max_new_tokens < 1 or prompts < 1 or temperature < 0:
            raise GemError(
                "expected max_new_tokens and prompts of at least 1 and a temperature of at least 0, got "
                f"{max_new_tokens}, {prompts}, {temperature}"
            )
        self.max_new_tokens, self.temperature, self.prompts = max_new_tokens, temperature, prompts

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        processor: Any,
        encode: Encode,
        items: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        synchronous: bool = False,
    ) -> Completions:
        """Sample ``len(seeds) // len(items)`` completions of each prompt.

        Args:
            model: The network, in evaluation mode.
            processor: Its ``GemProcessor``.
            encode: Makes a batch of prompts.
            items: Prompts as ``GemProcessor.encode`` makes them.
            seeds: One per completion, which depends on its seed alone and not on its batch.
            synchronous: Run as many forward passes as the process whose texts are longest: sharded weights are
                gathered by all processes together.
        """
        group = len(seeds) // len(items)
        parts = [
            self._write(model, processor, encode(items[at : at + self.prompts]), group,
                        seeds[at * group : (at + self.prompts) * group], synchronous)
            for at in range(0, len(items), self.prompts)
        ]  # fmt: skip
        return joined(parts, processor.pad_id)

    def _write(
        self, model: Any, processor: Any, batch: dict[str, Any], group: int, seeds: Sequence[int], synchronous: bool
    ) -> Completions:
        logits, cache, mask = read_prompts(model, batch, group)
        draws = self._draws(seeds).to(logits.device)
        alive = torch.ones(len(seeds), dtype=torch.bool, device=logits.device)
        columns: list[tuple[Tensor, Tensor, Tensor]] = []  # tokens, whether written, log-probabilities
        for step in range(self.max_new_tokens):
            token, logp = sample(logits[:, -1], draws[:, step], self.temperature)
            token = torch.where(alive, token, processor.pad_id)
            columns.append((token, alive, logp))
            alive = alive & (token != processor.tokenizer.eos_token_id)
            if step + 1 == self.max_new_tokens or not _anywhere(alive, synchronous):
                break
            mask = torch.cat([mask, columns[-1][1][:, None].to(mask.dtype)], 1)
            step_inputs = {"input_ids": token[:, None], "position_ids": positions(mask)[:, -1:]}
            out = model(**step_inputs, attention_mask=mask, past_key_values=cache, use_cache=True, return_logits=True)
            logits, cache = out.logits, out.past_key_values
        ids, written, logps = (torch.stack(parts, 1) for parts in zip(*columns, strict=True))
        texts = [text.strip() for text in processor.tokenizer.batch_decode(ids, skip_special_tokens=True)]
        return Completions(ids, written, ~alive, texts, logps)

    def _draws(self, seeds: Sequence[int]) -> Tensor:
        """Draw the uniform numbers, (rows, max_new_tokens), of each row from its own seed."""
        generators = (torch.Generator().manual_seed(seed) for seed in seeds)
        # float64: a float32 near 1 would leave out the last thousandths of a percent of a large vocabulary
        return torch.stack([torch.rand(self.max_new_tokens, generator=g, dtype=torch.float64) for g in generators])


def sample(logits: Tensor, draws: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Sample a token a row by inverting the cumulative distribution; the whole vocabulary stays possible.

    Args:
        logits: (rows, V).
        draws: (rows,) uniform in [0, 1).
        temperature: 0 takes the most likely token.

    Returns:
        Tokens (rows,) and their log-probabilities (rows,) under the distribution that they were drawn from (at
        temperature 0: under that of temperature 1).
    """
    if temperature == 0:
        token = logits.argmax(-1)
    else:
        cumulative = (logits.double() / temperature).softmax(-1).cumsum(-1)
        # scaled by the last sum, which rounding leaves a little below or above 1
        token = torch.searchsorted(cumulative, (draws * cumulative[:, -1])[:, None], right=True)[:, 0]
        token = token.clamp_max(logits.shape[1] - 1)
    return token, chosen_logps(logits[:, None], token[:, None], temperature or 1.0)[:, 0]


def joined(parts: Sequence[Completions], pad_id: int) -> Completions:
    """Join completions of several batches, padded to the longest."""
    width = max(part.ids.shape[1] for part in parts)

    def wide(tensors: Sequence[Tensor], value: float) -> Tensor:
        pad = torch.nn.functional.pad
        return torch.cat([pad(tensor, (0, width - tensor.shape[1]), value=value) for tensor in tensors])

    logps = [part.logps for part in parts if part.logps is not None]
    return Completions(
        wide([part.ids for part in parts], pad_id),
        wide([part.mask for part in parts], False),
        torch.cat([part.ended for part in parts]),
        [text for part in parts for text in part.texts],
        wide(logps, 0.0) if len(logps) == len(parts) else None,
    )


def rollout_seeds(seed: int, step: int, names: Sequence[object], group: int) -> list[int]:
    """Derive a seed for each completion from the run's seed, the step, its prompt's name and its place in the group.

    No global state takes part: a resumed run, or one on another number of processes, samples the same texts.
    """
    return [record_seed(seed, f"{step}\0{name}\0{k}") for name in names for k in range(group)]


def encoder_of(
    model: Any, processor: Any, complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> Encode:
    """Return what makes the network's inputs of encoded prompts.

    Args:
        model: The network, whose device and dtype they get.
        processor: Its ``GemProcessor``.
        complete: Applied to each batch, for example to add an empty tensor for a modality that it lacks.
    """
    from gem_lightning.models.processing_gem import as_device

    def encode(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        parameter = next(p for p in model.parameters() if p.dtype.is_floating_point)
        batch = dict(as_device(processor.pad(items, "left"), parameter.device, parameter.dtype))
        del batch["labels"]
        return batch if complete is None else complete(batch)

    return encode


def _anywhere(alive: Tensor, synchronous: bool) -> bool:
    """Return whether a text is unfinished, on any process if they must go on together."""
    some = alive.any()
    if synchronous and dist.is_available() and dist.is_initialized():
        count = some.float()
        dist.all_reduce(count, dist.ReduceOp.MAX)
        return bool(count)
    return bool(some)
