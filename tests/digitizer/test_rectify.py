"""The field that flattens a page: lines are followed over folds, noise goes, tears are counted."""

import numpy as np
import pytest

from gem_lightning.digitizer.rectify import PX_PER_MM, _phase_shift, _torn_share, _unwrapped, _without_noise

NODES = (160, 200)  # of a letter page, 8 px apart


@pytest.fixture
def bent():
    """A page with a wave of 3 mm, 80 mm long, across and half of it down."""
    x = np.arange(NODES[1]) * 8 / 6
    wave = 3 * np.sin(2 * np.pi * x / 160)
    return np.stack(np.broadcast_arrays(wave[None], 0.5 * wave[None]), -1).repeat(NODES[0], 0).astype(np.float32)


def test_a_phase_of_many_turns_is_unwrapped_around_what_is_not_seen(bent):
    true = 2 * np.pi * bent[..., 0]  # of fine lines: a turn a millimetre
    weight = np.ones(NODES)
    weight[40:80, 90:120] = 0.0  # a hand, a flash
    rng = np.random.default_rng(0)
    phase = np.where(weight > 0, true, rng.uniform(-np.pi, np.pi, NODES))
    found = _unwrapped(np.angle(np.exp(1j * phase)), weight)
    turns = (found - true)[weight > 0] / (2 * np.pi)
    assert np.ptp(turns) < 1e-6
    assert turns[0] == pytest.approx(round(turns[0]), abs=1e-6)


@pytest.mark.parametrize("spacing", [5.0, 1.0])
def test_lines_displaced_by_more_than_half_of_their_distance_are_followed(spacing):
    x = (np.arange(1200) + 0.5) / PX_PER_MM
    wave = 0.6 * spacing * np.sin(2 * np.pi * x / 120)  # within 30 mm to either side
    lines = -np.cos(2 * np.pi * (x - wave) / spacing)[None].repeat(900, 0).astype(np.float32)
    shift, *_ = _phase_shift(lines, np.zeros(2), spacing, 5.0)
    inner = np.s_[12:-12, 12:-12]
    expected = np.interp((np.arange(shift.shape[1]) + 0.5) * 8 / PX_PER_MM, x, wave)[None].repeat(len(shift), 0)
    off = (shift[..., 0] - expected)[inner]
    assert np.abs(off - np.median(off)).max() < 0.1 * spacing


def test_no_line_no_shift():
    noise = np.random.default_rng(0).normal(size=(900, 1200)).astype(np.float32)
    shift, _, seen = _phase_shift(noise, np.zeros(2), 1.0, 8.0)
    assert np.median(np.abs(shift)) < 0.05  # mm
    assert (seen > 0.5).mean() < 0.05


def test_noise_goes_and_a_wave_stays(bent):
    noise = np.random.default_rng(0).normal(0, 0.02, bent.shape).astype(np.float32)
    inner = np.s_[12:-12, 12:-12]
    flat = _without_noise(np.zeros_like(bent) + noise)
    assert flat[inner].std() < 0.25 * noise.std()
    assert np.abs(_without_noise(bent) - bent)[inner].max() < 0.05


def test_a_tear_is_counted_and_a_wave_is_not(bent):
    paper = np.ones(NODES, bool)
    assert _torn_share(bent * 0.5, paper) == 0
    torn = bent * 0.5
    torn[:, 60:64, 0] += np.linspace(0, 1, 4)  # a millimetre within five
    torn[:, 64:, 0] += 1
    assert _torn_share(torn, paper) > 0.01
