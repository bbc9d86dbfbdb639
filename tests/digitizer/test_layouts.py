"""Layouts are told apart by the relations of leads alone."""

import numpy as np
import pytest

from gem_lightning.digitizer.layouts import CROSSED, chosen, rank_layouts, row_count, strips_of
from gem_lightning.ecg import simulate
from gem_lightning.render.layout import catalogue

PROVABLE = [n for n in catalogue()["layouts"] if n not in ("4x3", "single", "rhythm-2", "rhythm-3")]


def rows_of(record, name, noise_mm=0.05, seed=0):
    """Rows of a page in mm: the leads of each row one after the other, with what tracing adds."""
    strips, columns = strips_of(name), 1500
    found = np.zeros((row_count(name), columns))
    at = np.arange(columns) / columns * record.samples
    for strip in strips:
        a, b = int(strip.start * columns), int(strip.stop * columns)
        sign = -1 if strip.lead.startswith("-") else 1
        found[strip.row, a:b] = sign * 10 * record.lead(strip.lead.removeprefix("-"))[at[a:b].astype(int)]
    return found + np.random.default_rng(seed).normal(0, noise_mm, found.shape)


@pytest.mark.parametrize("diagnosis", ["sinus", "lbbb", "atrial_fibrillation", "st_elevation", "low_voltage"])
@pytest.mark.parametrize("name", PROVABLE)
def test_the_right_layout_is_proved(name, diagnosis):
    rows = rows_of(simulate(diagnosis, seed=3).record, name)
    best = chosen(rank_layouts(rows))
    assert best is not None
    assert best.name == name


def test_crossing_complexes_do_not_hide_the_layout():
    rows = rows_of(simulate("sinus", seed=3).record, "12x1")
    crossing = np.random.default_rng(1).random(rows.shape[1]) < 0.1
    rows[4, crossing], rows[5, crossing] = rows[5, crossing] + 20, rows[4, crossing] - 20
    best = chosen(rank_layouts(rows))
    assert best is not None and best.name == "12x1"
    assert best.crossed and best.left_over < CROSSED


def test_swapped_or_foreign_rows_prove_nothing():
    rows = rows_of(simulate("sinus", seed=1).record, "12x1")
    assert chosen(rank_layouts(rows[[0, 3, 2, 1, 4, 5, 6, 7, 8, 9, 10, 11]])) is None
    assert chosen(rank_layouts(rows[[6, 10, 8]])) is None
    assert chosen(rank_layouts(np.random.default_rng(0).normal(0, 3, (4, 1500)))) is None


def test_where_no_relation_can_be_tested_nothing_is_chosen():
    rows = rows_of(simulate("sinus", seed=1).record, "rhythm-2")
    (only,) = rank_layouts(rows)
    assert only.left_over is None
    assert chosen([only]) is None
