import numpy as np
import pytest

from gem_lightning.data import LengthBatchSampler, real_token_share
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


def test_nothing_to_deal():
    with pytest.raises(DataError, match="empty split"):
        LengthBatchSampler(np.zeros(0), 4)
    with pytest.raises(DataError, match="at least 8 samples"):
        LengthBatchSampler(np.ones(7), 4, ranks=2)
