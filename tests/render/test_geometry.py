"""Millimetres: pulses, steps, windows and the way back from pixels to millivolts."""

from __future__ import annotations

import numpy as np
import pytest

from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.errors import RenderError
from gem_lightning.render import EcgRenderer, RenderWarning
from gem_lightning.render.layout import catalogue

LAYOUTS = tuple(catalogue()["layouts"])
SIZES = ((336, 435), (850, 1100), (1700, 2200))


def darkness(image: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """Ink (H, W) of 0 to 1 of an image on paper without ink."""
    paper = paper.astype(float)
    return np.clip((paper - image).sum(-1) / np.maximum(paper.sum(-1), 1), 0, 1)


def ink_of(layout, size, record, **more):
    """Ink of the traces alone, and the geometry."""
    page = {"color": (0, 0, 0), "names": False, "pulses": False, "separators": False, "footer": ""}
    renderer = EcgRenderer(layout, size=size, style="none", page=page, **more)
    drawn = renderer(record)
    return darkness(drawn.image, np.full(drawn.image.shape, 255)), drawn.geometry


def digitise(ink, geometry, trace, fs):
    """Millivolts of a strip, sampled back at ``fs``: the pen's breadth taken off the ink's upper and lower edge.

    Of a peak thinner than the pen only the outer edge knows the height, of a valley only the lower one.
    """
    ppm, pen = geometry.px_per_mm, geometry.line_px / 2
    x0, x1 = trace.x0, trace.x0 + (trace.t1 - trace.t0) * geometry.speed * ppm
    columns = np.arange(int(np.ceil(x0)), int(x1))
    top, bottom = max(0, int(trace.box[1])), int(trace.box[3])
    band = ink[top:bottom, columns]
    rows = np.arange(top, bottom)[:, None]
    middle = (band * (rows + 0.5)).sum(0) / np.maximum(band.sum(0), 1e-9)
    upper = middle - (band * np.clip(middle - rows, 0, 1)).sum(0)
    lower = middle + (band * np.clip(rows + 1 - middle, 0, 1)).sum(0)
    reach = np.arange(-int(pen), int(pen) + 1)
    disc = np.sqrt(pen**2 - reach**2)
    around = np.clip(np.arange(columns.size)[:, None] + reach, 0, columns.size - 1)
    high, low = (upper[around] + disc).max(1), (lower[around] - disc).min(1)
    base = np.median(middle)
    y = np.where(np.abs(high - low) < 0.5, (high + low) / 2, np.where((high + low) / 2 < base, high, low))
    volts = (trace.baseline_y - y) / (trace.gain * ppm)
    at = trace.t0 + (columns + 0.5 - x0) / (geometry.speed * ppm)
    return np.interp(np.arange(trace.t0, trace.t1 - 1 / fs, 1 / fs), at, volts)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pulse_is_ten_by_five_millimetres(layout, size, record):
    renderer = EcgRenderer(
        layout, size=size, style="none", page={"color": (0, 0, 0), "names": False, "separators": False, "footer": ""}
    )
    drawn = renderer(EcgRecord(np.where(np.arange(5000) < 4999, np.nan, 0.0) * np.ones((12, 1)), 500))
    ink, geometry = darkness(drawn.image, np.full(drawn.image.shape, 255)), drawn.geometry
    assert len(geometry.pulses) == len(renderer.scene.pulses)
    for x0, y0, x1, y1 in geometry.pulses:
        assert (x1 - x0, y1 - y0) == pytest.approx((5 * geometry.px_per_mm, 10 * geometry.px_per_mm))
        patch = ink[int(y0) - 3 : int(y1) + 4, int(x0) - 3 : int(x1) + 4]
        half = renderer.line_px / 2
        rows = np.nonzero(patch.max(1) > 0.25)[0] + int(y0) - 3
        assert rows[0] == pytest.approx(y0 - half, abs=1)
        assert rows[-1] + 1 == pytest.approx(y1 + half, abs=1)
        wall = ink[int((y0 + y1) / 2), int(x0) - 3 : int(x1) + 4]
        columns = np.nonzero(wall > 0.25)[0] + int(x0) - 3
        assert columns[0] == pytest.approx(x0 - half, abs=1)
        assert columns[-1] + 1 == pytest.approx(x1 + half, abs=1)


@pytest.mark.parametrize("gain", [5, 10, 20])
@pytest.mark.parametrize("size", SIZES)
def test_a_millivolt_step_has_its_millimetres(size, gain):
    step = np.zeros((12, 5000), np.float32)
    step[:, 2500:] = 1.0
    ink, geometry = ink_of("single", size, EcgRecord(step, 500), gain=gain)
    trace = geometry.traces[0]
    volts = digitise(ink, geometry, trace, 500)
    rise = np.median(volts[2600:4900]) - np.median(volts[100:2400])
    assert rise * gain == pytest.approx(gain, abs=0.1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lead_order_and_window(layout, ramps):
    """Each strip must show its own lead at its own time better than any other lead or time."""
    ink, geometry = ink_of(layout, (1700, 2200), ramps)
    for trace in geometry.traces:
        volts = digitise(ink, geometry, trace, 500)
        k = round(trace.t0 * 500)
        sign = -1 if trace.lead.startswith("-") else 1
        errors = {lead: np.median(np.abs(volts - sign * ramps.lead(lead)[k : k + volts.size])) for lead in LEADS}
        assert min(errors, key=errors.get) == trace.lead.removeprefix("-"), (trace, errors)
        assert errors[trace.lead.removeprefix("-")] < 0.005
    shown = [t.lead.removeprefix("-") for t in geometry.traces]
    if not layout.startswith(("single", "rhythm")):
        assert set(shown) == set(LEADS)


def test_usual_orders():
    def columns(layout):
        return [t.lead for t in EcgRenderer(layout)._traces(np.zeros(20))]

    assert columns("3x4")[:4] == ["I", "aVR", "V1", "V4"]
    assert columns("6x2")[:2] == ["I", "V1"]
    assert columns("12x1") == list(LEADS)
    assert columns("cabrera-12x1")[:6] == ["aVL", "I", "-aVR", "II", "aVF", "III"]
    assert columns("3x4+1")[-1] == "II"


@pytest.mark.parametrize(("low_pass", "least"), [(None, 18.5), (25, 24.0)])
def test_digitise_back(record, low_pass, least):
    signal = record.signal.astype(float)
    if low_pass:
        from scipy.signal import butter, sosfiltfilt

        signal = sosfiltfilt(butter(4, low_pass, fs=500, output="sos"), signal)
    shown = EcgRecord(signal, 500)
    ink, geometry = ink_of("3x4+1", (1700, 2200), shown)
    ratios = []
    for trace in geometry.traces:
        volts = digitise(ink, geometry, trace, 500)
        k = round(trace.t0 * 500)
        truth = shown.lead(trace.lead)[k : k + volts.size]
        ratios.append(10 * np.log10((truth**2).sum() / ((volts - truth) ** 2).sum()))
    assert np.mean(ratios) >= least


@pytest.mark.parametrize("speed", [12.5, 25, 50])
@pytest.mark.parametrize("paper", ["letter", "a4", "fit", (400, 300)])
@pytest.mark.filterwarnings("ignore::gem_lightning.render.RenderWarning")
def test_every_layout_lies_on_its_paper(speed, paper):
    for layout in LAYOUTS:
        renderer = EcgRenderer(layout, dpi=40, speed=speed, page={"paper": paper})
        width, height = renderer.scene.page
        for slot in renderer.scene.slots:
            assert slot.x > 0
            assert slot.x + (slot.t1 - slot.t0) * speed <= width
            assert 10 < slot.baseline < height - 5
        for x, _, _ in renderer.scene.pulses:
            assert x > 1.5
        for text in renderer._printed_plate()[2]:
            assert text.x0 >= 0
            assert text.x1 <= renderer.size[1]


def test_paper_too_narrow_is_said():
    with pytest.warns(RenderWarning, match=r"holds 5 of 10 s"):
        renderer = EcgRenderer(speed=50)
    assert renderer.scene.seconds == 5
    assert EcgRenderer(speed=50, page={"paper": "fit"}).scene.seconds == 10


def test_half_gain_precordials(record):
    drawn = EcgRenderer("3x4", page={"half_gain_precordials": True})(record)
    assert {t.gain for t in drawn.geometry.traces if t.lead.startswith("V")} == {5}
    assert {t.gain for t in drawn.geometry.traces if not t.lead.startswith("V")} == {10}
    assert any("half gain" in t.text for t in drawn.geometry.texts)


def test_short_records_leave_blank_and_long_ones_take_the_excerpt(record):
    short = EcgRecord(record.signal[:, :1500], 500)
    ink, geometry = ink_of("single", (850, 1100), short)
    trace = geometry.traces[0]
    end = trace.x0 + 3 * 25 * geometry.px_per_mm
    assert ink[:, int(end) + 3 :].sum() == 0
    assert ink[:, : int(end)].sum() > 0
    long = EcgRecord(np.concatenate([np.zeros_like(record.signal), record.signal], axis=1), 500)
    late = EcgRenderer("single", size=(850, 1100), page={"start": 10})(long)
    assert np.array_equal(late.image, EcgRenderer("single", size=(850, 1100))(record).image)
    assert (late.geometry.traces[0].t0, late.geometry.traces[0].t1) == (10, 20)


def test_nan_leaves_a_gap(record):
    signal = record.signal.copy()
    signal[1, 2000:2500] = np.nan
    ink, geometry = ink_of("single", (850, 1100), EcgRecord(signal, 500))
    per_second = 25 * geometry.px_per_mm
    x0 = geometry.traces[0].x0
    assert ink[:, int(x0 + 4 * per_second) + 3 : int(x0 + 5 * per_second) - 3].sum() == 0
    assert ink[:, int(x0 + 3 * per_second) : int(x0 + 3.9 * per_second)].sum() > 0


def test_tall_traces_stay_on_the_page(record):
    signal = record.signal.copy()
    signal[1, 1000], signal[6, 2000] = 50, -50
    with pytest.warns(RenderWarning, match="clipped at its edge in II;"):
        drawn = EcgRenderer(size=(850, 1100))(EcgRecord(signal, 500))
    assert {t.lead for t in drawn.geometry.traces if t.clipped} == {"II"}  # the V1 spike lies outside V1's window
    assert np.isclose(drawn.geometry.px_per_mm, 850 / 215.9)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"size": (0, 0)}, "size"),
        ({"size": (8, 100)}, "size"),
        ({"gain": -10}, "gain"),
        ({"gain": 0}, "gain"),
        ({"speed": float("nan")}, "speed"),
        ({"page": {"seconds": -1}}, "seconds"),
        ({"dpi": 0}, "dpi"),
        ({"dpi": 10000}, "pixels"),
        ({"size": (336, 435), "dpi": 200}, "leave out size or dpi"),
        ({"layout": "5x5"}, "3x4"),
        ({"layout": {"rows": [["V7"]]}}, "V7"),
        ({"layout": {"rows": []}}, "at least one lead"),
        ({"style": "purple"}, "red"),
        ({"style": {"papier": [1, 2, 3]}}, "papier"),
        ({"page": {"paper": "a9"}}, "letter"),
        ({"page": {"paper": (30, 30)}}, "fit"),
        ({"artifacts": "terrible"}, "photo"),
        ({"artifacts": {"rust": [1, 0, 1]}}, "rust"),
        ({"artifacts": {"noise": [2, 0, 1]}}, "probability"),
    ],
)
def test_nonsense_is_refused_in_words(arguments, says):
    with pytest.raises(RenderError, match=says):
        EcgRenderer(**arguments)


def test_missing_and_unknown_leads(record):
    three = EcgRecord(record.signal[:3], 500, ("I", "II", "III"))
    with pytest.raises(RenderError, match="lacks aVR"):
        EcgRenderer()(three)
    assert EcgRenderer({"rows": [["I"], ["II"], ["III"]]}, size=(300, 400))(three).image.shape == (300, 400, 3)
    with pytest.raises(RenderError, match="only NaN"):
        EcgRenderer()(EcgRecord(np.full((12, 100), np.nan), 500))
    blank = record.signal.copy()
    blank[4] = np.nan
    with pytest.warns(RenderWarning, match="aVL"):
        EcgRenderer()(EcgRecord(blank, 500))


def test_leads_are_found_by_name_not_by_row(record):
    order = np.random.default_rng(0).permutation(12)
    mixed = EcgRecord(record.signal[order], 500, tuple(LEADS[k] for k in order))
    assert np.array_equal(EcgRenderer()(mixed).image, EcgRenderer()(record).image)


def test_texts_and_header_print_no_identifier(record):
    named = EcgRecord(record.signal, 500, meta={"name": "Doe", "age": 61, "patient_id": "77"})
    texts = [t.text for t in EcgRenderer(page={"header": "{age} y {sex}"})(named).geometry.texts]
    assert "61 y " in texts
    assert not any("Doe" in t or "77" in t for t in [*texts, *(t.text for t in EcgRenderer()(named).geometry.texts)])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_label_and_pulse_lies_inside_the_square(layout, record):
    geometry = EcgRenderer(layout, size=(336, 336))(record).geometry
    leads = [t for t in geometry.texts if t.text.removeprefix("-") in LEADS]
    assert len(leads) == len(geometry.traces)
    for x0, y0, x1, y1 in [*geometry.pulses, *(t[1:] for t in leads)]:
        assert 0 <= x0 < x1 <= 336
        assert 0 <= y0 < y1 <= 336
