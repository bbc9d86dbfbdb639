"""Damaged files never raise anything but EcgReadError, and never hang or fill the memory."""

import shutil

import numpy as np
import pytest

from gem_lightning.ecg import EcgReadError, read_ecg

FORMATS = ("muse", "edf", "ishne", "cpsc", "csv", "npy", "npz", "cardiosoft", "schiller", "eli", "mfer")
SHARED = {
    "aecg": "aecg/ecgtoolkit_Example.xml",
    "scp": "scp/ecgtoolkit_Example.scp",
    "sierra": "sierra/129DYPRG.XML",
}


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits (mostly near the front, where headers are), cut, repeat or blank a stretch."""
    raw = bytearray(data)
    kind = rng.integers(5)
    if kind == 0:
        return bytes(raw[: rng.integers(len(raw))])
    if kind == 1:
        at, length = rng.integers(len(raw)), rng.integers(1, 64)
        raw[at : at + length] = bytes([int(rng.integers(256))]) * length
        return bytes(raw)
    if kind == 2:
        at, length = rng.integers(len(raw)), rng.integers(1, 64)
        return bytes(raw[:at] + raw[at : at + length] * 2 + raw[at + length :])
    reach = len(raw) if kind == 3 else min(len(raw), 1200)
    for at in rng.integers(reach, size=rng.integers(1, 9)):
        raw[at] ^= 1 << int(rng.integers(8))
    return bytes(raw)


def survives(source, options) -> None:
    """Reads, or says why not."""
    for contract in ("clean", "gem"):
        try:
            record = read_ecg(source, contract=contract, **options)
        except EcgReadError as error:
            message = str(error)
        else:
            assert record.signal.shape[0] == 12
            message = "expected"
        assert "expected" in message


def fuzz(data: bytes, options: dict, rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        survives(damage(data, rng), options)


def fuzz_wfdb(header, rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    text, samples = header.read_bytes(), header.with_suffix(".dat").read_bytes()
    for i in range(rounds):
        header.write_bytes(damage(text, rng) if i % 4 else text)
        header.with_suffix(".dat").write_bytes(samples if i % 4 else damage(samples, rng))
        survives(header, {})


@pytest.mark.parametrize("name", FORMATS)
def test_few(name, written):
    data, options = written[name]
    fuzz(data, {"format": name} | options, 40, 1)


def test_few_wfdb(wfdb_record):
    fuzz_wfdb(wfdb_record, 100, 1)


def test_few_dicom():
    from pydicom.examples import get_path

    fuzz(get_path("waveform").read_bytes(), {"format": "dicom"}, 8, 1)


@pytest.mark.parametrize("name", SHARED)
def test_few_shared(name, shared_data):
    fuzz((shared_data / "formats" / SHARED[name]).read_bytes(), {"format": name}, 6, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_many(name, written):
    data, options = written[name]
    fuzz(data, {"format": name} | options, 1000, 2)


@pytest.mark.slow
def test_many_wfdb(wfdb_record):
    fuzz_wfdb(wfdb_record, 2000, 2)


@pytest.mark.slow
def test_many_dicom():
    from pydicom.examples import get_path

    fuzz(get_path("waveform").read_bytes(), {"format": "dicom"}, 400, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
def test_many_shared(name, shared_data):
    fuzz((shared_data / "formats" / SHARED[name]).read_bytes(), {"format": name}, 150, 2)


@pytest.mark.slow
def test_many_hdf5(written, tmp_path):
    """HDF5 is read by a C library, so in a process of its own."""
    import subprocess
    import sys

    data, _ = written["code15"]
    rng = np.random.default_rng(2)
    for i in range(60):
        (tmp_path / f"{i}.h5").write_bytes(damage(data, rng))
    program = (
        "import sys, pathlib\nfrom gem_lightning.ecg import read_ecg, EcgReadError\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).glob('*.h5')):\n"
        "    try: read_ecg(path, format='code15', index=1)\n"
        "    except EcgReadError: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=300)
    shutil.rmtree(tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def inflate(data: bytes, rng: np.random.Generator) -> bytes:
    """Make a header claim more: digits become larger numbers, small integers large ones, content is repeated."""
    raw = bytearray(data)
    kind = rng.integers(3)
    digits = [i for i in range(min(len(raw), 4000)) if 48 <= raw[i] <= 57]
    if kind == 0 and digits:
        at = digits[rng.integers(len(digits))]
        return bytes(raw[:at] + b"9" * int(rng.integers(1, 10)) + raw[at + 1 :])
    if kind == 1:
        at = int(rng.integers(min(len(raw), 2000)))
        raw[at : at + 2] = b"\xff\x7f"
        return bytes(raw)
    times = int(rng.integers(2, 1 + max(2, 5_000_000 // max(len(raw), 1))))
    return bytes(raw * times)[:5_000_000]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_no_small_file_takes_much_memory(name, written):
    import tracemalloc

    data, options = written[name]
    rng = np.random.default_rng(3)
    for _ in range(60):
        tracemalloc.start()
        survives(inflate(data, rng), {"format": name} | options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 500_000_000
