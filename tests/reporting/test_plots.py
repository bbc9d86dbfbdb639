"""The image of marks: drawn for any lead set, the same bytes for the same record."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from gem_lightning.ecg.record import EcgRecord
from gem_lightning.ecg.simulation.simulate import simulate
from gem_lightning.features import delineate, measure
from gem_lightning.reporting.plots import headline, plot, svg


def test_every_wave_is_shaded():
    record = simulate("sinus", seed=1).record
    marks = delineate(record)
    figure = plot(record, measure(record, marks), marks, leads=("II", "V5"), columns=1)
    panels = figure.axes
    assert [panel.get_ylabel() for panel in panels] == ["II", "V5"]
    whole = sum(int(np.isfinite(marks.marks[name][1]).sum()) for name in ("P", "R", "T"))
    assert len(panels[0].patches) == whole


def test_svg_is_well_formed_and_repeatable():
    record = simulate("sinus", seed=1, seconds=3).record
    features = measure(record)
    text = svg(record, features)
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert text == svg(record, features)


def test_a_record_without_beats_shows_why():
    record = EcgRecord(np.zeros((12, 2500), np.float32), 500)
    features = measure(record)
    assert headline(features) == features.reason
    plot(record, features)
