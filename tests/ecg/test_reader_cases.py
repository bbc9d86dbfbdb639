"""Files as recorders, spreadsheets and attackers write them: read exactly, or refused in one sentence.

The inputs come from ``shared/cases/make_reader_cases.py``, where it is present.
"""

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from gem_lightning.ecg import LEADS, EcgReadError, quality, read_ecg
from gem_lightning.ecg.readers import ReadWarning

MAKER = Path(__file__).parents[3] / "shared" / "cases" / "make_reader_cases.py"

READ = """
comments.csv european.csv sep_line.csv atm.csv titles_mv.csv labchart.txt
biopac.txt mixed.hea pleth.hea skew.hea frames.hea segments.hea
respiration.edf plus_d.edf no_unit.edf reference.edf nom_codes.xml vendor_codes.xml
sierra_11.xml zero_based.scp short_data.scp order.scp aecg_order.xml zipped.xml.gz
""".split()  # noqa: SIM905 (a list of files reads better so)

REFUSED = {
    "external.hdf5": "another file",
    "external_link.hdf5": "got a link",
    "virtual.hdf5": "another file",
    "link.hea": "link to another folder",
    "zeros.hdf5": "at most .* samples",
    "bomb.hdf5": "expected stored samples",
    "one_bit.scp": "at most .* Huffman-coded samples",
    "many_codes.scp": "at most 512 Huffman codes",
    "wide.hea": "at most 256 channels",
    "slow_rate.csv": "at most .* samples",
    "tiny_gain.hea": "expected values of an ECG",
    "small_gain.hea": "expected values of an ECG",
    "baseline.hea": "expected values of an ECG",
    "muse_gain_300.xml": "expected values of an ECG",
    "muse_gain_30.xml": "expected values of an ECG",
    "huge_row.csv": "expected values of an ECG",
    "huge.csv": "expected values of an ECG",
    "raw_63.scp": "Huffman codes of at most 32 bits",
    "steep.scp": "expected values of an ECG",
    "digits_nan.xml": "damaged digits",
    "one_row.csv": "shorter than a beat",
    "one_value.csv": "shorter than a beat",
    "titles_uv.csv": "leave units= out",
    "sample_size.xml": "LeadSampleSize 1",
    "nogain.hea": "pass gain=",
    "gain0.hea": "pass gain=",
    "bimodal.scp": "expected section 4",
    "reference_beat.scp": "expected section 4",
    "unit_one.dcm": "lead I, got '1'",
    "v73.mat": r"MATLAB 7\.3",
    "print.ecg": "expected a PDF with a page",
    "photo.png": "expected an image",
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Folder of the inputs, their arguments, and the true signal (12, 5000), mV."""
    if not MAKER.exists():
        pytest.skip("shared/cases is not here")
    spec = importlib.util.spec_from_file_location("make_reader_cases", MAKER)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    folder = tmp_path_factory.mktemp("cases") / "files"
    before, sys.argv = sys.argv, ["make_reader_cases.py", str(folder)]
    try:
        maker.main()
    finally:
        sys.argv = before
    return folder, json.loads((folder / "arguments.json").read_text()), np.load(folder / "truth.npz")["signal"]


def read(cases, name, **more):
    folder, arguments, _ = cases
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReadWarning)
        return read_ecg(folder / name, **{**arguments.get(name, {}), **more})


def error_uv(record, truth, rows=LEADS):
    return max(np.nanmax(np.abs(record.lead(lead)[:5000] - truth[LEADS.index(lead)])) * 1000 for lead in rows)


@pytest.mark.parametrize("name", READ)
def test_read_exactly(cases, name):
    record = read(cases, name)
    stored = [
        lead for lead in record.leads if lead in LEADS and not (record.quality and lead in record.quality.derived)
    ]
    assert stored
    assert record.fs == 500
    assert error_uv(record, cases[2], stored) <= (5.0 if name in ("sierra_11.xml", "zipped.xml.gz") else 0.5)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence(cases, name):
    with pytest.raises(EcgReadError, match=REFUSED[name]):
        read(cases, name)


@pytest.mark.parametrize(
    "name", ["header_0_11.csv", "header_1_12.csv", "index_0_11.csv", "channel_12.csv", "channel_blank.csv"]
)
def test_twelve_unnamed_columns_are_standard_order_with_a_warning(cases, name):
    folder, arguments, truth = cases
    with pytest.warns(ReadWarning, match="standard order"):
        record = read_ecg(folder / name, **arguments[name])
    assert record.leads == LEADS
    assert record.samples == 5000
    assert error_uv(record, truth) <= 0.5
    assert any("standard order" in note for note in record.meta["notes"])


@pytest.mark.parametrize(("name", "first"), [("channel_3.csv", "Channel_1"), ("ordinals.edf", "ECG 1")])
def test_identity_is_never_guessed_from_ordinals(cases, name, first):
    record = read(cases, name)
    assert len(record.leads) == 3
    assert record.leads[0] == first
    with pytest.raises(EcgReadError, match="leads named I, II"):
        read(cases, name, leads="12")


def test_offsets_and_skews_of_the_file_count(cases):
    truth = cases[2]
    shifted = read(cases, "first_sample.xml")
    assert np.abs(shifted.lead("V2") - truth[LEADS.index("V2")] - 0.488).max() < 0.005
    origin = read(cases, "origin_mv.xml")
    assert np.abs(origin.signal - truth - 0.5).max() < 1e-3
    plain, late = read(cases, "no_preamble.dcm"), read(cases, "time_skew.dcm")
    assert np.nanmax(np.abs(late.lead("I")[10:4000] - plain.lead("I")[8:3998])) < 0.01
    assert np.nanmax(np.abs(late.lead("II") - plain.lead("II"))) < 1e-6


def test_what_is_left_out_or_missing_is_noted(cases):
    notes = {name: " ".join(read(cases, name).meta["notes"]) for name in ("mixed.hea", "frames.hea", "short_data.scp")}
    assert "PLETH" in notes["mixed.hea"]
    assert "ABP" in notes["mixed.hea"]
    assert "RESP" in notes["frames.hea"]
    assert "5856" in notes["short_data.scp"]
    assert read(cases, "sierra_60.xml").seconds == 60
    assert read(cases, "birth_date.dcm").meta["age"] == 56


def test_gain_of_the_caller_calibrates(cases):
    for name in ("nogain.hea", "gain0.hea"):
        record = read(cases, name, gain=200)
        assert error_uv(record, cases[2]) <= 5.0  # stored at 5 uV a count
        assert any("gain 200" in note for note in record.meta["notes"])


def test_microvolts_declared_as_mv_keep_their_values_and_are_named(cases):
    with pytest.warns(ReadWarning, match="microvolts declared as mV"):
        record = read_ecg(cases[0] / "microvolts.csv", **cases[1]["microvolts.csv"])
    assert np.abs(record.signal / 1000 - cases[2]).max() < 1e-3
    assert any("microvolts" in note for note in record.meta["notes"])
    assert any(reason.startswith("scale:") for reason in quality(record).reasons)


def test_gem_contract_of_other_formats_is_standard_order_at_500_hz(cases):
    for name in ("order.scp", "aecg_order.xml"):
        assert error_uv(read(cases, name), cases[2]) <= 0.5
    record = read(cases, "rate_800.edf")
    assert record.fs == 500
    assert record.samples == 5000


def test_a_watch_export_names_nobody(cases):
    record = read(cases, "watch.csv")
    assert record.leads == ("I",)
    assert record.quality.resampled_from == 512
    assert record.meta["statements"] == ("Sinus Rhythm",)
    assert "2021" not in str(record.meta)
