"""Chamber of pacing: stimuli by beat, and what pacing of the atrium alone leaves to be judged."""

import numpy as np
import pytest

from gem_lightning.claims.report import CONTRADICTED, SUPPORTED
from gem_lightning.claims.verify import verify
from gem_lightning.composition.compose import compose
from gem_lightning.ecg import read_ecg, simulate
from gem_lightning.features import delineate, findings, measure
from gem_lightning.features.criteria import decide
from gem_lightning.features.delineation.filters import remove_spikes
from gem_lightning.features.delineation.stimuli import by_chamber
from helpers_features import make

CHAMBERS = ("ventricle", "atrium", "atrium and ventricle")
NAMES = dict(zip(CHAMBERS, ("paced rhythm", "atrial paced rhythm", "dual chamber paced rhythm")))


def paced(chamber, seed=3, also=(), **options):
    simulated = simulate(("paced_rhythm", *also), seed=seed, chamber=chamber, **options)
    return simulated, measure(simulated.record)


@pytest.mark.parametrize("chamber", CHAMBERS)
def test_chamber_is_found_from_15_db_on(chamber):
    """At least 95 % of the simulated rhythms, with AV delays of 130 to 310 ms; none is a sinus rhythm."""
    found = []
    for seed in range(40):
        options = {} if chamber == "ventricle" else {"pr_ms": 130 + 180 * seed / 39}
        _, features = paced(chamber, 300 + seed, snr_db=(None, 25, 20, 15)[seed % 4], **options)
        decision = decide("paced_rhythm", features)
        found.append(decision.met and decision.evidence["paced_chamber"])
        assert not decide("sinus_rhythm", features).met
    assert found.count(chamber) >= 38
    assert chamber != "ventricle" or "atrium" not in found


def test_sinus_rhythm_has_no_stimuli():
    for seed in range(200):
        record = simulate("sinus", seed=seed, snr_db=(None, 25, 15, 8)[seed % 4]).record
        assert not len(remove_spikes(record.signal, record.fs)[1]), seed


@pytest.mark.parametrize("fs", [250, 500, 1000])
def test_beat_table_holds_the_time_from_each_stimulus(fs):
    simulated, features = paced("atrium and ventricle", fs=fs)
    table = features.beats.whole
    # both stimuli begin 24 ms ahead of their wave; the QRS onset is marked within 10 ms
    assert np.nanmedian(table["ventricular_stimulus_ms"]) == pytest.approx(24, abs=10)
    assert np.nanmedian(table["atrial_stimulus_ms"]) == pytest.approx(simulated.parameters["pr_ms"] + 24, abs=10)
    assert features.pr_ms == pytest.approx(simulated.parameters["pr_ms"], abs=10)
    assert set(features.ranges) <= {"rr_ms", "p_ms", "pr_ms", "qrs_ms", "qt_ms", "jt_ms"}
    alone = paced("atrium", fs=fs)[1].beats
    assert np.isnan(alone.whole["ventricular_stimulus_ms"]).all()
    assert set(alone.beat_class) == {"normal"}


def test_stimuli_are_of_the_chamber_that_their_time_allows():
    onsets, ends = np.array([500.0, 1500.0, 2500.0]), np.array([600.0, 1600.0, 2600.0])
    # at 1000 Hz: 81 ms ahead of the first QRS complex, 80 ms ahead of the second, 40 ms behind the onset of the third
    atrial, ventricular = by_chamber(np.array([419.0, 1420.0, 2540.0]), onsets, ends, 1000.0)
    np.testing.assert_array_equal(atrial, [81, np.nan, np.nan])
    np.testing.assert_array_equal(ventricular, [np.nan, 80, -40])
    # artefacts keep no distance to the beats
    atrial, _ = by_chamber(np.array([400.0, 1150.0, 2290.0]), onsets, ends, 1000.0)
    assert np.isnan(atrial).all()
    atrial, _ = by_chamber(np.array([300.0, 1275.0, 2325.0]), onsets, ends, 1000.0)
    np.testing.assert_array_equal(atrial, [200, 225, 175])
    # what lies before the end of the last QRS complex is of the beat before
    atrial, _ = by_chamber(np.array([590.0]), np.array([500.0, 900.0]), np.array([600.0, 1000.0]), 1000.0)
    assert np.isnan(atrial).all()
    assert [len(column) for column in by_chamber(np.zeros(0), onsets, ends, 1000.0)] == [3, 3]


def test_atrial_pacing_leaves_conduction_and_form_to_be_judged():
    for also, wanted in (("rbbb", "rbbb"), ("lbbb", "lbbb"), ("st_elevation", "mi_inferior"), ("lvh", "lvh")):
        simulated, features = paced("atrium", also=(also,), age=60, snr_db=25)
        assert decide(wanted, features).met, also
        assert wanted in simulated.diagnoses
        assert decide(wanted, paced("ventricle", also=(also,), age=60, snr_db=25)[1]).met is not True, also
    simulated, features = paced("atrium", pr_ms=250)
    assert "av_block_1" in simulated.diagnoses
    assert decide("av_block_1", features).met
    assert decide("normal_axis", features).met
    assert decide("sinus_rhythm", features).met is False
    assert decide("ectopic_atrial_rhythm", features).met is None
    assert decide("sgarbossa", features).met is False
    assert decide("not_urgent", features).met


def test_stimuli_of_the_ventricles_suspend_whatever_the_atria_do():
    for chamber in CHAMBERS[::2]:
        _, features = paced(chamber)
        for code in ("lbbb", "left_axis_deviation", "lvh", "pathological_q", "av_block_1"):
            assert decide(code, features).met is None, (chamber, code)
        assert decide("sinus_rhythm", features).met is (None if chamber == "ventricle" else False)


def test_qrs_width_decides_where_no_stimulus_stands_out():
    def chamber(qrs_ms, atrial=None, ventricular=None):
        features = make(kinds=["paced"] * 5, qrs_ms=qrs_ms)
        for name, times in (("atrial", atrial), ("ventricular", ventricular)):
            features.beats.whole[f"{name}_stimulus_ms"] = np.array(times or [np.nan] * 5, float)
        return decide("paced_rhythm", features).evidence["paced_chamber"]

    assert (chamber(150.0), chamber(100.0)) == ("ventricle", "not determined")
    assert chamber(100.0, ventricular=[25.0, 25.0] + [np.nan] * 3) == "ventricle"
    assert chamber(150.0, atrial=[200.0] + [np.nan] * 4) == "atrium and ventricle"


@pytest.mark.parametrize("chamber", CHAMBERS)
def test_texts_name_the_chamber_and_are_verified(chamber):
    _, features = paced(chamber, pr_ms=230)
    assert findings(features)[0].statement == NAMES[chamber]
    for style in ("brief", "interpretation", "report", "teaching"):
        text = compose(features, seed=1, style=style)
        assert NAMES[chamber] in text.lower(), style
        assert "sinus" not in text
        assert ("AV conduction cannot be judged" in text) == (chamber != "atrium")
        assert {v.verdict for v in verify(text, features).verdicts} == {SUPPORTED}, text
    for claim in ("Paced rhythm.", f"{NAMES[chamber].capitalize()}.", "Beat 2 is paced."):
        assert verify(claim, features).verdicts[0].verdict == SUPPORTED, claim
    assert verify("No pacing.", features).verdicts[0].verdict == CONTRADICTED
    if chamber != "ventricle":
        assert verify("Sinus rhythm.", features).verdicts[0].verdict == CONTRADICTED


def test_paced_records_of_ludb_keep_their_class(shared_data):
    """The labels: all paced records of the odd half stimulate the ventricles, 45 the atria too (smoothed to 0.2 mV)."""
    folder = shared_data / "ludb_odd" / "data"
    if not folder.exists():
        pytest.skip("LUDB is not here")
    for name, chamber in (("45", "atrium and ventricle"), *((n, "ventricle") for n in ("93", "95", "111"))):
        decision = decide("paced_rhythm", measure(read_ecg(folder / f"{name}.hea")))
        assert (decision.met, decision.evidence["paced_chamber"]) == (True, chamber), name
    for name in ("43", "169", "5", "147"):  # a device below the limit, and artefacts that repeat nothing
        assert not len(delineate(read_ecg(folder / f"{name}.hea")).stimuli), name
