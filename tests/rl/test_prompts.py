"""Prompts end where an answer begins; sources and pairs hold what they promise."""

import numpy as np
import pytest

from gem_lightning.data.mixture import Mixture
from gem_lightning.errors import DataError
from gem_lightning.models.configuration_gem import IGNORE_INDEX
from gem_lightning.rl.best_of import BestOf, best_samples
from gem_lightning.rl.prompts import PairDataset, PromptCollator, SimulatedPrompts
from gem_lightning.rl.rewards import Format, Reward
from gem_lightning.rl.rollout import LocalRollout
from gem_lightning.samples.io import read_samples
from gem_lightning.samples.sample import InstructionSample


def test_answers_state_the_truth(prompts):
    for sample, low in zip(prompts.samples(), (50, 50, 50)):
        rate = int(sample.answer.split()[1])
        assert low <= rate <= 110 and sample.record.simulated
    assert len({sample.answer for sample in prompts.samples()}) > 1
    again = SimulatedPrompts(3, 4, question="Rate?", ranges={"heart_rate": (50, 110)})
    assert [s.ecg for s in again.samples()] == [s.ecg for s in prompts.samples()]
    assert not again.samples()[0].answer
    assert not {s.ecg for s in SimulatedPrompts(3, 5).samples()} & {s.ecg for s in SimulatedPrompts(3, 4).samples()}
    with pytest.raises(DataError, match="at least 1"):
        SimulatedPrompts(0, 1)


def test_a_prompt_is_the_conversation_up_to_its_answer(tiny_gem, dataset, prompts):
    item, sample = dataset[0], prompts.samples()[0]
    whole = tiny_gem.processor.encode(sample.conversations, [sample.read_record()])
    assert item["input_ids"] == whole["input_ids"][: len(item["input_ids"])]
    assert set(item["labels"]) == {IGNORE_INDEX}
    answer = tiny_gem.processor.tokenizer.decode(whole["input_ids"][len(item["input_ids"]) :], skip_special_tokens=True)
    assert answer.strip() == sample.answer
    assert np.array_equal(item["ecg_values"], whole["ecg_values"])
    assert item["facts"].truth is not None and dataset[0]["facts"] is item["facts"]


def test_a_batch_keeps_its_prompts(dataset):
    batch = PromptCollator()([dataset[0], dataset[2]])
    assert batch["ids"] == ["simulated-4-0", "simulated-4-2"]
    assert batch["counts"]["samples"] == 2 and batch["counts"]["ecgs"] == 2
    assert len(batch["facts"]) == 2 and "facts" not in batch["items"][0] and "answers" not in batch


def test_pairs_are_tokens_of_both_answers(tiny_gem):
    turns = [{"from": "human", "value": "<image>\nRate?"}, {"from": "gpt", "value": "Rate 60 bpm."}]
    sample = InstructionSample("a", turns, "simulate:sinus::1", metadata={"rejected": "Rate 99 bpm."})
    item = PairDataset(Mixture([sample]), tiny_gem.processor)[0]
    tokenizer = tiny_gem.processor.tokenizer
    assert [tokenizer.decode(ids).strip() for ids in item["answers"]] == ["Rate 60 bpm.</s>", "Rate 99 bpm.</s>"]
    whole = tiny_gem.processor.encode(turns, [sample.read_record()])
    assert item["input_ids"] + item["answers"][0] == whole["input_ids"]
    with pytest.raises(DataError, match="a rejected one"):
        PairDataset(Mixture([InstructionSample("b", turns, "simulate:sinus::1")]), tiny_gem.processor)[0]


class WithoutA:
    """Fewer letters a are better."""

    weight = 1.0

    def __call__(self, written):
        return -float(written.text.count("a"))


def test_the_best_is_kept_and_the_worst_rejected(tiny_gem, dataset):
    vowels = Reward(a=WithoutA())
    found = best_samples(tiny_gem, dataset, vowels, 12, LocalRollout(6), seed=1)
    assert found
    for sample in found:
        assert sample.answer.count("a") < sample.metadata["rejected"].count("a")
        counts = [-sample.answer.count("a"), -sample.metadata["rejected"].count("a")]
        assert sample.metadata["rewards"] == counts


def test_best_of_is_made_once_and_again_for_other_settings(tiny_gem, prompts, tmp_path):
    tiny_gem.save_pretrained(tmp_path / "model")
    vowels = Reward(a=WithoutA())
    source = BestOf(tmp_path, prompts, tmp_path / "model", vowels, 12, LocalRollout(6), seed=1)
    source.prepare()
    made = source.path.stat().st_mtime_ns
    source.prepare()
    assert source.path.stat().st_mtime_ns == made
    rows = list(read_samples(source.path))
    assert rows == list(source.samples()) and {"rejected", "rewards"} <= rows[0].metadata.keys()
    other = BestOf(tmp_path, prompts, tmp_path / "model", vowels, 12, LocalRollout(6), seed=2)
    assert other.path != source.path
    equal = BestOf(tmp_path, prompts, tmp_path / "model", Reward(n=Format("never")), 2, LocalRollout(3))
    with pytest.raises(DataError, match="different rewards"):
        equal.prepare()
    with pytest.raises(DataError, match="at least two"):
        BestOf(tmp_path, prompts, tmp_path, vowels, 1)
