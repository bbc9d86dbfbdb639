import numpy as np
import pytest
import wfdb

from gem_lightning.ecg import simulate
from gem_lightning.ecg.recombination.marked import fuse_leads, read_lead_marks, wide_and_early
from gem_lightning.ecg.recombination.values import QUANTITIES, true_values
from gem_lightning.errors import DataError

SYMBOLS = (("p", "P"), ("N", "QRS"), ("t", "T"))


def write_lead(folder, lead, marks):
    """Annotations of one lead as LUDB has them."""
    rows = []
    for symbol, wave in SYMBOLS:
        peak = "R" if wave == "QRS" else wave
        for on, top, off in zip(marks[f"{wave}_on"], marks[peak], marks[f"{wave}_off"]):
            if np.isfinite([on, top, off]).all():
                rows += [(round(on), "("), (round(top), symbol), (round(off), ")")]
    samples, symbols = zip(*sorted(rows))
    wfdb.wrann("one", lead, np.array(samples), list(symbols), write_dir=str(folder))


def test_marks_of_single_leads_become_those_of_the_heart(tmp_path):
    made = simulate("sinus", seed=2)
    names = list("abcdefghijkl")
    for i, name in enumerate(names):
        write_lead(tmp_path, name, {mark: column[i] for mark, column in made.marks.items()})
    fused = fuse_leads(read_lead_marks(tmp_path / "one", names), 500)
    assert len(fused["R"]) == len(made.global_marks["R"])
    for name in ("P_on", "QRS_on", "QRS_off", "T_off"):
        second = np.sort(np.round(made.marks[name]), axis=0)[-2 if name.endswith("off") else 1]
        np.testing.assert_array_equal(fused[name], second)


def test_a_wave_that_three_leads_show_is_none():
    lead = {"P": np.array([[50.0, 60, 70]]), "QRS": np.array([[100.0, 110, 120]]), "T": np.zeros((0, 3))}
    bare = lead | {"P": np.zeros((0, 3))}
    fused = fuse_leads([lead] * 3 + [bare] * 9, 500)
    assert np.isnan(fused["P_on"]).all() and fused["QRS_on"].tolist() == [100.0]
    with pytest.raises(DataError, match="expected QRS complexes"):
        fuse_leads([lead] * 3, 500)


def test_ectopics_are_wide_and_early():
    marks = {"R": np.array([0.0, 400, 650, 1200]), "QRS_on": np.zeros(4), "QRS_off": np.array([45.0, 45, 80, 45])}
    assert wide_and_early(marks).tolist() == ["normal", "normal", "premature_ventricular", "normal"]


def test_values_of_a_simulated_record_are_the_simulator_s():
    made = simulate("rbbb", seed=4)
    value = dict(
        zip(QUANTITIES, true_values(made.clean, made.global_marks, made.beat_class, 500, af=False), strict=True)
    )
    facts = made.parameters
    assert value["rate_bpm"] == pytest.approx(facts["heart_rate"], abs=0.5)
    for name in ("pr_ms", "qrs_ms", "qt_ms"):
        assert value[name] == pytest.approx(facts[name], abs=2)
    assert (value["p"], value["af"], value["pvc"]) == (1, 0, 0)
    axis = np.degrees(np.arctan2(value["axis_sin"], value["axis_cos"]))
    assert axis == pytest.approx(facts["axis_deg"]["QRS"], abs=12)
    for lead in ("II", "V2", "V5"):
        assert value[f"t_{lead}"] == pytest.approx(facts["amplitudes_mv"][lead]["T"], abs=0.03)
        assert value[f"st_{lead}"] == pytest.approx(facts["st_mv"][lead]["J60"], abs=0.03)


def test_unknown_fibrillation_stays_unknown():
    made = simulate("sinus", seed=2)
    value = true_values(made.clean, made.global_marks, made.beat_class, 500, af=None)
    assert np.isnan(value[QUANTITIES.index("af")])
