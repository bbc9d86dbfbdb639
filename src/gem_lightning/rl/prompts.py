"""Prompts to write completions for: their source, data set and collation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from gem_lightning.data.collate import count_items
from gem_lightning.data.datasets import InstructionDataset
from gem_lightning.errors import DataError
from gem_lightning.models.configuration_gem import IGNORE_INDEX
from gem_lightning.rl.facts import Facts, facts_of
from gem_lightning.samples.sample import DEFAULT_QUESTION, InstructionSample

_REMEMBERED = 4096  # records whose facts are kept, about 100 kB each: measuring one takes as long as an answer


class SimulatedPrompts:
    """Questions about simulated ECGs whose truth is known; records are simulated when they are read.

    Args:
        n: Number of ECGs.
        seed: Of the whole source; sources of different seeds share no patient.
        diagnoses: Used in turn.
        question: The human turn, after the ECG's marker.
        answers: Reference answers, one drawn for each sample: texts in which ``{diagnosis}``, ``{heart_rate_bpm:.0f}``
            and other attributes of ``EcgFeatures`` stand for the truth. None asks only.
        ranges: Simulator parameter → (lowest, highest), drawn for each sample.

    Raises:
        DataError: No ECG is asked for.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        diagnoses: Sequence[str] = ("sinus",),
        question: str = DEFAULT_QUESTION,
        answers: Sequence[str] | None = None,
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        if n < 1:
            raise DataError(f"expected at least 1 simulated ECG, got n={n}")
        self.n, self.seed, self.diagnoses, self.question = n, seed, tuple(diagnoses), question
        self.answers = tuple(answers or ())
        self.ranges = {name: (float(low), float(high)) for name, (low, high) in (ranges or {}).items()}

    def samples(self) -> list[InstructionSample]:
        """Return the samples, their records as ``simulate:...`` references."""
        return self._samples

    @cached_property
    def _samples(self) -> list[InstructionSample]:
        return [self._sample(index) for index in range(self.n)]

    def _sample(self, index: int) -> InstructionSample:
        draw = np.random.default_rng([self.seed, index])
        values = "&".join(f"{name}={draw.uniform(*ends):.6g}" for name, ends in self.ranges.items())
        diagnosis = self.diagnoses[index % len(self.diagnoses)]
        # patients of a source are numbered within a million, as in gem_lightning.ecg.simulate_cohort
        ecg = f"simulate:{diagnosis}{'?' * bool(values)}{values}::{self.seed * 1_000_000 + index}"
        sample = InstructionSample(f"simulated-{self.seed}-{index}", self._turns(), ecg)
        if not self.answers:
            return sample
        template = self.answers[int(draw.integers(len(self.answers)))]
        name = diagnosis.replace("_", " ").capitalize()
        answer = template.format_map(vars(facts_of(sample).features) | {"diagnosis": name})
        return InstructionSample(sample.id, [*self._turns(), {"from": "gpt", "value": answer}], ecg)

    def _turns(self) -> list[dict[str, str]]:
        return [{"from": "human", "value": f"<image>\n{self.question}"}]


class PromptDataset(InstructionDataset):
    """Conversations up to their last answer, each with the facts about its record (``facts``)."""

    def _item(self, epoch: int, index: int) -> dict[str, Any]:
        return super()._item(epoch, index) | self.extras(index)

    def encode(self, turns: Sequence[dict[str, str]], ecgs: list[Any], images: list[Any]) -> dict[str, Any]:
        """Encode the turns before the last answer, and the start of an answer."""
        return self.processor.encode(question_of(turns), ecgs, images, self.cut_at, add_generation_prompt=True)

    def extras(self, index: int) -> dict[str, Any]:
        """Return what an item holds besides its prompt."""
        return {"facts": self.facts(index)}

    def facts(self, index: int) -> Facts:
        """Return the facts about a sample's record; they are computed once per process.

        Raises:
            DataError: The sample has no signal.
        """
        known = self.__dict__.setdefault("_known", OrderedDict())
        if index not in known:
            known[index] = facts_of(self.samples[index])
            if len(known) > _REMEMBERED:
                known.popitem(last=False)
        return known[index]


class PairDataset(PromptDataset):
    """Prompts, each with a preferred and a rejected answer as tokens (``answers``)."""

    def extras(self, index: int) -> dict[str, Any]:
        """Return the tokens of both answers.

        Raises:
            DataError: The sample lacks one of them.
        """
        sample = self.samples[index]
        texts = sample.conversations[-1]["value"], sample.metadata.get("rejected")
        if sample.conversations[-1]["from"] != "gpt" or not isinstance(texts[1], str):
            raise DataError(
                f"sample {sample.id!r}: expected an answer and a rejected one ('rejected'), got keys "
                f"{sorted(sample.metadata)}; make pairs with gem_lightning.rl.best_of.BestOf"
            )
        return {"answers": [self._tokens(sample, text) for text in texts]}

    def _tokens(self, sample: InstructionSample, text: str) -> list[int]:
        turns = [*sample.conversations[:-1], {"from": "gpt", "value": text}]
        whole = self.processor.tokenize_conversation(turns, has_ecg=False, has_image=False)
        learnt = [at for at, label in enumerate(whole["labels"]) if label != IGNORE_INDEX]
        first = max(at for at in learnt if at - 1 not in learnt)  # of the last answer
        return whole["input_ids"][first : learnt[-1] + 1]


def question_of(turns: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the turns of a conversation before its last answer."""
    return list(turns[:-1] if turns and turns[-1]["from"] == "gpt" else turns)


class PromptCollator:
    """Keeps prompts as they are: the rollout pads as many as it reads at a time.

    A batch holds ``ids``, ``counts`` (see :func:`gem_lightning.data.collate.count_items`), ``items`` and, where they
    have them, ``facts`` and ``answers``.
    """

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch."""
        apart = ("id", "facts", "answers")
        prompts = [{name: value for name, value in item.items() if name not in apart} for item in items]
        batch: dict[str, Any] = {"ids": [item["id"] for item in items], "items": prompts}
        batch["counts"] = count_items(prompts, sum(len(item["input_ids"]) for item in prompts))
        return batch | {name: [item[name] for item in items] for name in apart[1:] if name in items[0]}
