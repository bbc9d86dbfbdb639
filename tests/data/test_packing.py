"""Packed rows: the same loss and gradients, little padding, an order that is a function of its seed."""

import numpy as np
import pytest
import torch

from gem_lightning.data import (
    GemCollator,
    InstructionDataset,
    Mixture,
    ModalityDropout,
    PackBatchSampler,
    PackingCollator,
    SimulatedCohort,
    token_lengths,
)
from gem_lightning.data.datasets import swap_markers
from gem_lightning.data.packing import pack_lengths
from gem_lightning.errors import DataError
from gem_lightning.render import EcgRenderer


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    made = SimulatedCohort(tmp_path_factory.mktemp("cohort"), n=12, seed=4, workers=1)
    made.prepare()
    return made


def dataset(cohort, gem, **options):
    return InstructionDataset(Mixture(cohort), gem.processor, EcgRenderer(size=(112, 112)), **options)


@pytest.fixture(scope="module")
def lengths():
    """Tokens as in training a 7B on the published data: 677 of ECG and image, and texts of 100 to 900."""
    return (677 + np.random.default_rng(0).gamma(4, 100, 4000).clip(60, 1500)).astype(int)


def learn(model, batch):
    model.zero_grad()
    inputs = {name: value for name, value in batch.items() if name not in ("ids", "counts")}
    loss = model(**inputs, return_logits=False).loss
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_packed_rows_have_the_loss_and_gradients_of_padded_ones(cohort, tiny_gem):
    items = [dataset(cohort, tiny_gem)[i] for i in range(7)]
    padded, packed = GemCollator(tiny_gem.processor)(items), PackingCollator(tiny_gem.processor, 512)(items)
    assert packed["input_ids"].shape[1] == 512 and packed["input_ids"].shape[0] < 7
    assert packed["counts"]["tokens"] == padded["counts"]["tokens"] == int(padded["attention_mask"].sum())
    loss, gradients = learn(tiny_gem.model, padded)
    again, others = learn(tiny_gem.model, packed)
    assert again == pytest.approx(loss, rel=1e-5)
    assert gradients.keys() == others.keys()
    for name, value in gradients.items():
        assert torch.allclose(others[name], value, atol=1e-5 * float(value.abs().max()) + 1e-9), name
    tiny_gem.model.zero_grad()


def test_a_stranger_in_the_row_changes_nothing(cohort, tiny_gem):
    items = [dataset(cohort, tiny_gem)[i] for i in range(3)]
    collate = PackingCollator(tiny_gem.processor, 512)
    with torch.no_grad():
        states = []
        for row in (items[:2], [items[0], items[2]]):
            batch = {n: v for n, v in collate(row).items() if n not in ("ids", "counts", "labels")}
            hidden = tiny_gem.model.model(**batch, use_cache=False).last_hidden_state
            states.append(hidden[0, : len(items[0]["input_ids"])])
    assert torch.allclose(*states, atol=1e-5)


def test_every_sample_is_dealt_and_hardly_anything_is_padding(lengths):
    sampler = PackBatchSampler(lengths, 1, 8192, seed=3)
    batches = sampler.batches(0)
    assert len(batches) == len(sampler)
    seen = np.concatenate(batches)
    assert len(np.unique(seen)) == len(seen) >= 0.995 * len(lengths)
    assert all(lengths[batch].sum() <= 8192 for batch in batches)
    assert sum(lengths[batch].sum() for batch in batches) / (8192 * len(batches)) >= 0.97


def test_order_is_a_function_of_seed_and_epoch_and_ranks_share_it(lengths):
    one, two = PackBatchSampler(lengths, 2, 4096, seed=5), PackBatchSampler(lengths, 2, 4096, seed=5)
    assert all(np.array_equal(a, b) for a, b in zip(one.batches(1), two.batches(1), strict=True))
    assert not np.array_equal(one.batches(1)[0], one.batches(2)[0])
    assert len(one.batches(7)) == len(one)
    ranks = [PackBatchSampler(lengths, 2, 4096, seed=5, rank=r, ranks=2) for r in range(2)]
    dealt = [np.concatenate(rank.batches(0)) for rank in ranks]
    assert len(ranks[0]) == len(ranks[1]) and not set(dealt[0]) & set(dealt[1])


def test_packs_never_overflow_and_are_few():
    draw = np.random.default_rng(1)
    for _ in range(50):
        sizes = draw.integers(1, 100, int(draw.integers(1, 60)))
        packs = pack_lengths(sizes, 100)
        assert sorted(np.concatenate(packs)) == list(range(len(sizes)))
        assert all(sizes[pack].sum() <= 100 for pack in packs)
        assert len(packs) <= 1.5 * np.ceil(sizes.sum() / 100) + 1


def test_lengths_are_exact_and_kept(cohort, tiny_gem, tmp_path):
    samples = dataset(cohort, tiny_gem)
    counted = token_lengths(samples, tmp_path)
    assert counted.tolist() == [len(samples[i]["input_ids"]) for i in range(len(samples))]
    (file,) = tmp_path.iterdir()
    np.save(file, counted + 1)
    assert np.array_equal(token_lengths(samples, tmp_path), counted + 1)
    shorter = dataset(cohort, tiny_gem, max_length=60)
    assert token_lengths(shorter, tmp_path).max() == 60


def simulated_lengths(count):
    """Tokens of interpretations of simulated ECGs at a 7B's sizes: nearly alike, eight of them just above 8,192."""
    return np.random.default_rng(1).normal(1036, 50, count).clip(890, 1230).astype(int)


@pytest.mark.parametrize("count", [40, 120, 200, 1000])
def test_real_tokens_in_small_epochs_too(count):
    lengths = simulated_lengths(count)
    sampler = PackBatchSampler(lengths, 1, 8192, seed=3)
    dealt = [np.concatenate(sampler.batches(epoch)) for epoch in range(6)]
    for indices in dealt:
        assert lengths[indices].sum() / (8192 * len(sampler)) >= 0.97
        assert len(np.unique(indices)) >= 0.9 * count
    assert len(np.unique(np.concatenate(dealt))) == count  # what an epoch leaves out is dealt in another


def test_what_cannot_be_packed_is_said(lengths, cohort, tiny_gem):
    with pytest.raises(DataError, match="pack_to"):
        PackBatchSampler(lengths, 1, 1000)
    with pytest.raises(DataError, match="lower batch_size"):
        PackBatchSampler(lengths[:4], 8, 8192)
    with pytest.raises(DataError, match="simulated-4-0"):
        PackingCollator(tiny_gem.processor, 16)([dataset(cohort, tiny_gem)[0]])


def test_modalities_are_left_out_as_often_as_asked(cohort, tiny_gem):
    samples = dataset(cohort, tiny_gem, modalities=ModalityDropout(dropout=0.5, interleave=0.5))
    items = [samples[(epoch, i)] for epoch in range(25) for i in range(12)]
    ecg = np.array(["ecg_values" in item for item in items])
    image = np.array(["pixel_values" in item for item in items])
    assert (ecg | image).all()
    assert 0.4 < (ecg & image).mean() < 0.6
    assert abs(ecg.mean() - image.mean()) < 0.12
    config = tiny_gem.model.config
    first = [
        item["input_ids"].index(config.image_token_id) < item["input_ids"].index(config.ecg_token_id)
        for item, both in zip(items, ecg & image)
        if both
    ]
    assert 0.35 < np.mean(first) < 0.65
    again = [samples[(epoch, i)]["input_ids"] for epoch in range(25) for i in range(12)]
    assert again == [item["input_ids"] for item in items]


def test_answers_do_not_depend_on_what_is_left_out(cohort, tiny_gem):
    whole = dataset(cohort, tiny_gem)[0]
    samples = dataset(cohort, tiny_gem, modalities=ModalityDropout(dropout=1.0))
    for epoch in range(4):
        item = samples[(epoch, 0)]
        assert [label for label in item["labels"] if label >= 0] == [label for label in whole["labels"] if label >= 0]
        assert len(item["input_ids"]) < len(whole["input_ids"])


def test_markers_change_places():
    def swapped(text):
        return swap_markers([{"from": "human", "value": text}])[0]["value"]

    assert swapped("<image>\nRate?") == "<image><ecg>\nRate?"
    assert swapped("<ecg>\n<image>\nRate?") == "<image>\n<ecg>\nRate?"
    assert swapped("<image><ecg> Rate?") == "<ecg><image> Rate?"
    with pytest.raises(DataError, match="chances"):
        ModalityDropout(dropout=1.5)


def test_later_epochs_deal_hardly_a_sample_twice(lengths):
    sampler = PackBatchSampler(lengths, 1, 8192, seed=3)
    for epoch in (1, 2, 3):
        seen = np.concatenate(sampler.batches(epoch))
        assert len(np.unique(seen)) >= 0.99 * len(lengths) and len(seen) - len(np.unique(seen)) <= 0.01 * len(lengths)
