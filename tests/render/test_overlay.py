"""Marks over a drawn page: where the waves are, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest

from gem_lightning.ecg import simulate
from gem_lightning.features import delineate
from gem_lightning.render import EcgRenderer, render_with_marks
from gem_lightning.render.overlay import WAVE_COLORS


@pytest.fixture(scope="module")
def case():
    ecg = simulate("sinus", seed=3, snr_db=30)
    return ecg, delineate(ecg.record)


@pytest.mark.parametrize("artifacts", [None, "scan"])
def test_dots_lie_on_the_peaks_also_through_a_camera(case, artifacts):
    ecg, marks = case
    renderer = EcgRenderer("3x4+1", size=(1275, 1650), artifacts=artifacts)
    drawn = render_with_marks(ecg.record, marks, renderer, seed=4)
    plain = renderer(ecg.record, seed=4)
    assert drawn.image.shape == plain.image.shape and not np.array_equal(drawn.image, plain.image)
    seen = 0
    for index, trace in enumerate(drawn.geometry.traces):
        row = marks.leads.index(trace.lead)
        for wave, mark in (("P", "P"), ("QRS", "R"), ("T", "T")):
            at = marks.marks[mark][row] / marks.fs
            at = at[np.isfinite(at) & (at > trace.t0 + 0.1) & (at < trace.t1 - 0.1)]
            peaks = ecg.record.lead(trace.lead)[np.rint(at * ecg.record.fs).astype(int)]
            for x, y in np.rint(drawn.geometry.locate(index, at, peaks) - 0.5).astype(int):
                assert np.abs(drawn.image[y, x].astype(int) - WAVE_COLORS[wave]).max() < 12, (trace.lead, wave)
                seen += 1
    assert seen > 100


def test_what_is_not_marked_stays_as_it_is(case):
    ecg, marks = case
    renderer = EcgRenderer("12x1", size=(1275, 1650))
    nowhere = {name: np.full_like(values, np.nan) for name, values in marks.marks.items()}
    whole = {name: np.full_like(values, np.nan) for name, values in marks.global_marks.items()}
    without = replace(marks, marks=nowhere, global_marks=whole)
    plain = renderer(ecg.record)
    assert np.array_equal(render_with_marks(ecg.record, without, renderer).image, plain.image)
    bars = render_with_marks(ecg.record, replace(marks, marks=nowhere), renderer).image
    changed = np.flatnonzero((bars != plain.image).any((1, 2)))  # PR and QT: under the lowest strip alone
    assert changed.size and changed.min() > plain.geometry.traces[-1].baseline_y
