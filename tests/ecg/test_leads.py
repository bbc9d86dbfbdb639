import numpy as np
import pytest

from gem_lightning.ecg import LEADS, EcgReadError, simulate
from gem_lightning.ecg.leads import (
    SWAPS,
    complete_limb_leads,
    lead_from_code,
    lead_name,
    limb_leads,
    swap_electrodes,
)


@pytest.mark.parametrize(
    ("text", "lead"),
    [
        ("i", "I"),
        ("AVR", "aVR"),
        ("avl", "aVL"),
        ("aVF ", "aVF"),
        ("VF", "aVF"),
        ("v1", "V1"),
        ("V 3", "V3"),
        ("V-4", "V4"),
        ("C6", "V6"),
        ("DII", "II"),
        ("D3", "III"),
        ("Lead I (Einthoven)", "I"),
        ("Lead aVR (Goldberger)", "aVR"),
        ("lead_II", "II"),
        ("ECG V5", "V5"),
        ("ECG Lead aVL", "aVL"),
        ("MDC_ECG_LEAD_AVF", "aVF"),
        ("MDC_ECG_LEAD_V2", "V2"),
        ("III, bipolar", "III"),
        ("vx", None),
        ("V7", None),
        ("V3R", None),
        ("-aVR", None),
        ("MLII", None),
        ("IV", None),
        ("", None),
        ("ECG", None),
        ("time", None),
    ],
)
def test_spellings(text, lead):
    assert lead_name(text) == lead


def test_codes():
    codes = {"2:1": "I", "2:61": "III", "5.6.3-9-64": "aVF", "2:3": "V1", "5.6.3-9-8": "V6", "2:99": None, "x": None}
    assert {code: lead_from_code(code) for code in codes} == codes


@pytest.mark.parametrize(
    "have", [("I", "II"), ("I", "III"), ("II", "aVF"), ("aVR", "aVL"), ("aVL", "aVF"), ("III", "aVR")]
)
def test_any_two_limb_leads_give_the_rest(have):
    signal = simulate(seed=3).record.signal.astype(np.float64)
    signal = limb_leads(signal[[0, 1, 6, 7, 8, 9, 10, 11]])
    rows = [LEADS.index(lead) for lead in have]
    full, names, derived = complete_limb_leads(signal[rows], have)
    assert set(names) == set(LEADS[:6])
    assert len(derived) == 4
    for lead, row in zip(names, full):
        assert np.allclose(row, signal[LEADS.index(lead)], atol=1e-12)


def test_one_limb_lead_gives_nothing():
    _, names, derived = complete_limb_leads(np.zeros((2, 5)), ("I", "V1"))
    assert names == ("I", "V1")
    assert derived == ()


@pytest.mark.parametrize("electrodes", SWAPS)
def test_swaps_keep_kirchhoff_and_undo_themselves(electrodes):
    record = simulate(seed=4).record
    swapped = swap_electrodes(record, electrodes)
    assert not np.array_equal(swapped.signal, record.signal)
    assert np.array_equal(swap_electrodes(swapped, electrodes).signal, record.signal)
    again = limb_leads(swapped.signal[[0, 1, 6, 7, 8, 9, 10, 11]])
    assert np.abs(again - swapped.signal).max() < 1e-6


def test_swapping_arms_by_electrode_potentials():
    """From potentials at the electrodes, not from the table of leads."""
    ra, la, ll = np.random.default_rng(0).normal(size=(3, 50))

    def leads(ra, la, ll):
        one, two, three = la - ra, ll - ra, ll - la
        return np.stack([one, two, three, ra - (la + ll) / 2, la - (ra + ll) / 2, ll - (ra + la) / 2])

    chest = np.zeros((6, 50))
    record = simulate().record.with_signal(np.concatenate([leads(ra, la, ll), chest]))
    for name, exchanged in (("LA-RA", (la, ra, ll)), ("RA-LL", (ll, la, ra)), ("LA-LL", (ra, ll, la))):
        assert np.allclose(swap_electrodes(record, name).signal[:6], leads(*exchanged), atol=1e-5)


def test_unknown_swap():
    with pytest.raises(EcgReadError, match="LA-RA"):
        swap_electrodes(simulate().record, "RA-RL")
