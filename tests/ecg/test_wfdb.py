"""WFDB: the same numbers as the wfdb library, and a header that cannot lie or lead elsewhere."""

import numpy as np
import pytest

from gem_lightning.ecg import LEADS, EcgReadError, EcgRecord, read_ecg, write_wfdb
from gem_lightning.ecg.readers.wfdb import decode

HEADER = "rec 12 500 2000\n" + "".join(f"rec.dat 16 1000(0)/mV 16 0 0 0 0 {lead}\n" for lead in LEADS)


@pytest.fixture
def change(wfdb_record):
    """Write another header over the record's and read it."""

    def read(old: str, new: str, **options):
        text = wfdb_record.read_text()
        assert old in text
        wfdb_record.write_text(text.replace(old, new, 1))
        return read_ecg(wfdb_record, **options)

    return read


def test_round_trip_and_names(wfdb_record, truth):
    for path in (wfdb_record, str(wfdb_record), wfdb_record.with_suffix(""), wfdb_record.with_suffix(".dat")):
        record = read_ecg(path)
        assert np.array_equal(record.signal, truth.signal)
        assert record.leads == LEADS
    assert record.meta == {"format": "wfdb", "age": truth.meta["age"], "sex": truth.meta["sex"]}


def test_names_beyond_ascii(tmp_path, wfdb_record, truth):
    name = "Größe_心電図"
    text = wfdb_record.read_text().replace(wfdb_record.stem, name)
    (tmp_path / f"{name}.hea").write_text(text, encoding="utf-8")
    (tmp_path / f"{name}.dat").write_bytes(wfdb_record.with_suffix(".dat").read_bytes())
    assert np.array_equal(read_ecg(tmp_path / f"{name}.hea").signal, truth.signal)
    wfdb_record.write_bytes(wfdb_record.read_text().encode() + "# Gerät\n".encode("latin-1"))
    assert np.array_equal(read_ecg(wfdb_record).signal, truth.signal)


def test_same_as_the_wfdb_library(wfdb_record, truth):
    import wfdb

    signal, fields = wfdb.rdsamp(str(wfdb_record.with_suffix("")))
    assert fields["fs"] == truth.fs
    assert np.array_equal(signal.T.astype(np.float32), truth.signal)
    assert wfdb.rdrecord(str(wfdb_record.with_suffix("")), physical=False).checksum is not None


def test_unknown_samples_and_large_values_survive_writing(tmp_path):
    signal = np.zeros((2, 100), dtype=np.float32)
    signal[0, 3], signal[1, 5] = np.nan, 50.0
    header = write_wfdb(EcgRecord(signal, 250.5, ("II", "V1")), tmp_path / "x.hea")
    record = read_ecg(header, leads="any", contract="gem")
    assert record.fs == 250.5
    assert record.signal[0, 3] == 0  # NaN is 0 in the gem contract
    assert record.signal[1, 5] == pytest.approx(50, abs=0.01)
    assert read_ecg(header, leads="any").quality.repaired == {"II": 2}  # one sample at 250.5 Hz
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.dat", "x.hea"]


@pytest.mark.parametrize("name", ["a name", "1.2.840.10008.1", "größe", "a/b".replace("/", "_"), "50%"])
def test_any_name_can_be_written_and_read_by_the_library_too(name, truth, tmp_path):
    import wfdb

    header = write_wfdb(truth, tmp_path / name)
    assert np.array_equal(read_ecg(header).signal, truth.signal)
    assert wfdb.rdrecord(str(header.with_suffix(""))).sig_len == truth.samples


@pytest.mark.parametrize("format", ["16", "24", "32", "61", "80", "160", "212", "310", "311"])
def test_every_sample_format_decodes_as_the_library_does(format, tmp_path):
    import wfdb

    raw = np.random.default_rng(3).integers(0, 256, 1200, dtype=np.uint8)
    if format == "311":
        raw[3::4] &= 63  # two bits of each word are unused
    raw = raw.tobytes()
    count = {"16": 600, "61": 600, "160": 600, "24": 400, "32": 300, "80": 1200, "212": 800, "310": 900, "311": 900}
    samples = count[format] // 2
    (tmp_path / "r.dat").write_bytes(raw)
    lines = "".join(f"r.dat {format} 1000(0)/mV 16 0 0 0 0 {lead}\n" for lead in ("I", "II"))
    (tmp_path / "r.hea").write_text(f"r 2 500 {samples}\n{lines}")
    expected = wfdb.rdrecord(str(tmp_path / "r"), physical=False, return_res=64).d_signal
    assert np.array_equal(decode(raw, format, 2 * samples).reshape(samples, 2), expected)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rec 12 500", "rec 12 0", "sampling rate from 20"),
        ("rec 12 500", "rec 12 nan", "sampling rate from 20"),
        ("rec 12 500 2000", "rec 12 500 1000000000000", "at most 16,000,000 samples"),
        ("rec 12 500 2000", "rec 12 500 2001", "truncated"),
        ("rec 12 500 2000", "rec 0 500 0", "expected 12 leads, got 0|no ECG"),
        ("rec 12 500", "rec 11 500", "missing V6"),
        ("rec 12 500", "rec 13 500", "expected 13 signal lines, got 12"),
        ("rec 12 500", "rec/3 12 500", "got no such file"),
        ("16 1000(0)/mV", "16 0(0)/mV", "expected a gain"),
        ("16 1000(0)/mV", "16 nan/mV", "expected a gain"),
        ("16 1000(0)/mV", "16\n# ", "expected a gain"),
        ("16 1000(0)/mV", "16 1000(0)/mmHg", "voltage unit"),
        ("16 1000(0)/mV", "16x4 1000(0)/mV", "truncated"),
        ("16 1000(0)/mV", "999 1000(0)/mV", "expected WFDB format"),
        ("rec.dat", "../rec.dat", "plain file name"),
        ("rec.dat", "/etc/passwd", "plain file name"),
        ("rec.dat", "https://example.org/rec.dat", "plain file name"),
        ("rec.dat", "other.dat", "got no such file"),
        (" 0 V6", " 0 V7", "missing V6"),
        (" 0 V6", " 0 V5", "missing V6"),
    ],
)
def test_bad_headers(change, old, new, words):
    with pytest.raises(EcgReadError, match=words):
        change(old, new)


def test_a_lead_twice(change):
    with pytest.raises(EcgReadError, match="V5 more than once"):
        change("rec 12 500 2000", "rec 13 500 1846\nrec.dat 16 1000(0)/mV 16 0 0 0 0 V5")


def test_missing_samples(wfdb_record):
    samples = wfdb_record.with_suffix(".dat")
    samples.write_bytes(samples.read_bytes()[:-2])
    with pytest.raises(EcgReadError, match="truncated"):
        read_ecg(wfdb_record)
    samples.unlink()
    with pytest.raises(EcgReadError, match=r"rec\.dat next to rec\.hea"):
        read_ecg(wfdb_record)


def test_zero_length(change, wfdb_record):
    wfdb_record.with_suffix(".dat").write_bytes(b"")
    with pytest.raises(EcgReadError, match="the recording is empty"):
        change("rec 12 500 2000", "rec 12 500 0")


def test_length_from_the_file(change, truth):
    record = change("rec 12 500 2000", "rec 12 500")
    assert np.array_equal(record.signal, truth.signal)


def test_baseline_and_units(change, truth):
    record = change("16 1000(0)/mV", "16 1(10)/uV")
    assert np.abs(record.signal[0] - (truth.signal[0] - 0.010)).max() < 1e-6


def test_damage_is_flagged(wfdb_record):
    assert "checksum_mismatch" not in read_ecg(wfdb_record).meta
    samples = bytearray(wfdb_record.with_suffix(".dat").read_bytes())
    samples[24 * 700 + 2] ^= 1  # lead II
    wfdb_record.with_suffix(".dat").write_bytes(samples)
    assert read_ecg(wfdb_record).meta["checksum_mismatch"] == ("II",)


def test_bytes_of_a_header_need_a_path():
    with pytest.raises(EcgReadError, match=r"give the \.hea file's path"):
        read_ecg(HEADER.encode())
