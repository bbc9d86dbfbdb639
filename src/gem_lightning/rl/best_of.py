"""Rejection sampling: the best of several completions by their reward becomes an answer to train on."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from gem_lightning.data.mixture import Mixture
from gem_lightning.errors import DataError
from gem_lightning.models.fusion import keep_tower_outputs
from gem_lightning.rl.prompts import PromptDataset, question_of
from gem_lightning.rl.rewards import Reward
from gem_lightning.rl.rollout import LocalRollout, encoder_of, rollout_seeds
from gem_lightning.samples.io import SampleFile, write_samples
from gem_lightning.samples.sample import InstructionSample

logger = logging.getLogger(__name__)


class BestOf:
    """Samples whose answer is the best of ``n`` completions of a model, and ``rejected`` the worst.

    A source of ``data.train``: made once, when the data of a run are prepared. A prompt whose completions all have the
    same reward teaches nothing and is left out.

    Args:
        folder: Where the samples are kept.
        prompts: What :func:`gem_lightning.data.mixture.open_samples` opens; the last answers are not read.
        model: Folder of the model that writes.
        reward: Ranks the completions.
        n: Completions of each prompt.
        rollout: How they are sampled.
        renderer: Draws the records for a model that reads images; None shows the stored images.
        seed: Of the sampling.

    Raises:
        DataError: Fewer than two completions.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        prompts: Any,
        model: str | os.PathLike[str],
        reward: Reward,
        n: int = 16,
        rollout: LocalRollout | None = None,
        renderer: Any = None,
        seed: int = 0,
    ) -> None:
        if n < 2:
            raise DataError(f"expected at least two completions to choose from, got n={n}")
        self.folder, self.prompts, self.model = Path(folder), prompts, Path(model)
        self.reward, self.n, self.renderer, self.seed = reward, n, renderer, seed
        self.rollout = LocalRollout() if rollout is None else rollout

    @cached_property
    def path(self) -> Path:
        """The samples' JSON Lines file; its name changes with its prompts, its settings and the model's files."""
        weights = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(self.model.glob("*.safetensors"))]
        asked = [(sample.id, sample.ecg, sample.conversations) for sample in self._mixture]
        terms = {name: vars(term) for name, term in self.reward.terms.items()}
        key = repr((str(self.model), weights, asked, terms, self.n, vars(self.rollout), self.seed))
        return self.folder / f"best-of-{self.n}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.jsonl"

    def prepare(self) -> None:
        """Write the samples unless they are there; of several processes one writes and the others wait."""
        from filelock import FileLock

        if hasattr(self.prompts, "prepare"):
            self.prompts.prepare()
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            if not self.path.exists():
                self._make()

    def samples(self) -> SampleFile:
        """Return the samples; :meth:`prepare` comes first."""
        return SampleFile(self.path)

    @cached_property
    def _mixture(self) -> Mixture:
        return Mixture(self.prompts, draw="always" if self.renderer is not None else "never")

    def _make(self) -> None:
        from gem_lightning.models.gem import Gem

        gem = Gem.from_pretrained(self.model)
        dataset = PromptDataset(self._mixture, gem.processor, self.renderer, gem.processor.contract, seed=self.seed)
        kept = best_samples(gem, dataset, self.reward, self.n, self.rollout, self.seed)
        if not kept:
            raise DataError(f"expected completions of different rewards, got {self.n} equal ones of each prompt")
        logger.info("best of %d: %d of %d prompts teach something; %s", self.n, len(kept), len(dataset), self.path)
        write_samples(kept, self.path)


@keep_tower_outputs()
def best_samples(
    gem: Any, dataset: PromptDataset, reward: Reward, n: int, rollout: LocalRollout, seed: int = 0
) -> list[InstructionSample]:
    """Answer each prompt ``n`` times and keep the best and the worst answer.

    Args:
        gem: A ``Gem``.
        dataset: Its prompts.
        reward: Ranks the completions.
        n: Completions of each.
        rollout: How they are sampled.
        seed: Of the sampling.

    Returns:
        Samples with the best answer, ``rejected`` and both ``rewards`` in ``metadata``; without those whose completions
        have equal rewards.
    """
    gem.model.eval()
    kept = []
    for at in range(0, len(dataset), rollout.prompts):
        items = [dataset[row] for row in range(at, min(at + rollout.prompts, len(dataset)))]
        seeds = rollout_seeds(seed, 0, [item["id"] for item in items], n)
        done = rollout(gem.model, gem.processor, encoder_of(gem.model, gem.processor), items, seeds)
        scores = reward(done.texts, done.mask.sum(1).tolist(), done.ended.tolist(), [item["facts"] for item in items])
        for row in range(len(items)):
            group = range(row * n, (row + 1) * n)
            best, worst = (choose(group, key=lambda k: scores[k].total) for choose in (max, min))
            if scores[best].total > scores[worst].total:
                rewards = [scores[best].total, scores[worst].total]
                kept.append(_answered(dataset.samples[at + row], done.texts[best], done.texts[worst], rewards))
    return kept


def _answered(sample: InstructionSample, best: str, worst: str, rewards: list[float]) -> InstructionSample:
    turns = [*question_of(sample.conversations), {"from": "gpt", "value": best}]
    return replace(sample, conversations=turns, metadata=sample.metadata | {"rejected": worst, "rewards": rewards})
