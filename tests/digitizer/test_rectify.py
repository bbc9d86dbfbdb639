"""The field that flattens a page: slips to the next line and noise go, folds stay, tears are counted."""

import numpy as np
import pytest

from gem_lightning.digitizer.rectify import _torn_share, _without_noise, _without_slips

NODES = (160, 200)  # of a letter page, 8 px apart


@pytest.fixture
def bent():
    """A page with a wave of 3 mm, 80 mm long, across and half of it down."""
    x = np.arange(NODES[1]) * 8 / 6
    wave = 3 * np.sin(2 * np.pi * x / 160)
    return np.stack(np.broadcast_arrays(wave[None], 0.5 * wave[None]), -1).repeat(NODES[0], 0).astype(np.float32)


def test_a_slip_is_put_back_and_a_wave_stays(bent):
    slipped = bent.copy()
    slipped[60:66, 80:86, 0] += 1.0  # 8 mm of the page a fine line off
    assert np.abs(_without_slips(slipped) - bent).max() < 0.25
    assert np.abs(_without_slips(bent) - bent).max() < 0.05


def test_noise_goes_and_a_wave_stays(bent):
    noise = np.random.default_rng(0).normal(0, 0.02, bent.shape).astype(np.float32)
    inner = np.s_[12:-12, 12:-12]
    flat = _without_noise(np.zeros_like(bent) + noise)
    assert flat[inner].std() < 0.25 * noise.std()
    assert np.abs(_without_noise(bent) - bent)[inner].max() < 0.05


def test_a_tear_is_counted_and_a_wave_is_not(bent):
    paper = np.ones((NODES[0] * 8, NODES[1] * 8), bool)
    assert _torn_share(bent * 0.5, paper) == 0
    torn = bent * 0.5
    torn[:, 60:64, 0] += np.linspace(0, 1, 4)  # a millimetre within five
    torn[:, 64:, 0] += 1
    assert _torn_share(torn, paper) > 0.012
