import numpy as np
import pytest

from gem_lightning.data import LengthBatchSampler, real_token_share
from gem_lightning.data.batching import EpochOrder
from gem_lightning.errors import DataError


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(20, 400, 1003)


def test_every_sample_once_an_epoch(lengths):
    sampler = LengthBatchSampler(lengths, 16)
    seen = np.concatenate(sampler.batches(epoch=3))
    assert sorted(seen) == list(range(len(lengths)))


def test_order_is_a_function_of_seed_and_epoch(lengths):
    one, two = LengthBatchSampler(lengths, 16, seed=5), LengthBatchSampler(lengths, 16, seed=5)
    one.set_epoch(2)
    two.set_epoch(2)
    assert list(one) == list(two)
    two.set_epoch(3)
    assert list(one) != list(two)
    assert list(LengthBatchSampler(lengths, 16, seed=6)) != list(LengthBatchSampler(lengths, 16, seed=5))


def test_ranks_share_the_epoch_without_overlap_and_in_step(lengths):
    ranks = [LengthBatchSampler(lengths, 8, rank=r, ranks=3, seed=1) for r in range(3)]
    parts = [np.concatenate(s.batches(0)) for s in ranks]
    assert len({len(p) for p in parts}) == 1
    assert len(np.unique(np.concatenate(parts))) == sum(len(p) for p in parts)
    for together in zip(*(s.batches(0) for s in ranks)):
        spread = np.ptp(lengths[np.concatenate(together)])
        assert spread < np.ptp(lengths) / 2


def test_start_at_skips_once(lengths):
    sampler = LengthBatchSampler(lengths, 16, seed=1)
    whole = list(sampler)
    sampler.start_at(7)
    assert list(sampler) == whole[7:]
    assert list(sampler) == whole


def test_similar_lengths_waste_little(lengths):
    sampler = LengthBatchSampler(lengths, 16, window=50)
    grouped = real_token_share(lengths, sampler.batches(0))
    plain = real_token_share(lengths, np.array_split(np.random.default_rng(1).permutation(len(lengths)), 63))
    assert grouped > 0.95 > plain


def test_without_shuffle_file_order(lengths):
    sampler = LengthBatchSampler(lengths, 100, shuffle=False)
    assert np.array_equal(np.concatenate(sampler.batches(0)), np.arange(1003))
    assert len(sampler) == 11


def test_parts_are_dealt_by_weight_and_evenly():
    order = EpochOrder([10, 300], weights=[3, 0.5], seed=4)
    epochs = [order(e) for e in range(2)]
    counts = np.bincount(np.concatenate(epochs), minlength=310)
    assert [len(e) for e in epochs] == [len(order)] * 2 == [180, 180]
    assert np.array_equal(np.bincount(epochs[0], minlength=310)[:10], np.full(10, 3))
    assert np.all(counts[10:] == 1)  # two halves make a whole
    assert np.ptp(np.flatnonzero(epochs[0] < 10)) > 90  # mixed, not one after another
    assert not np.array_equal(*epochs)
    with pytest.raises(DataError, match="above 0"):
        EpochOrder([1], weights=[0])


def test_samples_in_chunks_come_from_few_chunks_at_a_time(lengths):
    ends = np.append(np.arange(20, 1003, 20), 1003)
    order = EpochOrder([1003], chunks=[ends], seed=2)
    assert sorted(order(0)) == list(range(1003))
    touched = [np.unique(np.searchsorted(ends, order(0)[i : i + 50], side="right")) for i in range(0, 1000, 50)]
    assert max(map(len, touched)) <= 16
    sampler = LengthBatchSampler(lengths, 8, window=5, order=order)
    assert sorted(np.concatenate(sampler.batches(1))) == list(range(1003))
    touched = [np.unique(np.searchsorted(ends, batch, side="right")) for batch in sampler.batches(0)]
    assert max(map(len, touched)) <= 8
    assert abs(np.corrcoef(np.arange(1003), order(0))[0, 1]) < 0.5


def test_nothing_to_deal():
    with pytest.raises(DataError, match="empty split"):
        LengthBatchSampler(np.zeros(0), 4)
    with pytest.raises(DataError, match="at least 8 samples"):
        LengthBatchSampler(np.ones(7), 4, ranks=2)
