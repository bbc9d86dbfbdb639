import numpy as np
import pytest

from gem_lightning.ecg.pack import PackWriter, read_pack, write_pack
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import EcgReadError


def records(n, samples=500):
    draw = np.random.default_rng(0)
    return [EcgRecord(draw.normal(0, 1 + i, (12, samples)), 500.0, meta={"age": i}) for i in range(n)]


def test_comes_back_within_half_a_count(tmp_path):
    written = records(5)
    write_pack(written, tmp_path / "a.ecgpack", 5)
    for i, record in enumerate(written):
        back = read_pack(tmp_path / "a.ecgpack", i)
        step = np.abs(record.signal).max() / 32767
        assert np.abs(back.signal - record.signal).max() <= 0.5 * step + 1e-6 * np.abs(record.signal).max()
        assert (back.fs, back.leads, back.meta) == (500.0, record.leads, {"age": i})


def test_nothing_appears_when_writing_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), PackWriter(tmp_path / "b.ecgpack", 3) as pack:
        pack.add(records(1)[0])
        raise KeyboardInterrupt
    with pytest.raises(EcgReadError, match="expected 3 records, got 1"):
        write_pack(records(1), tmp_path / "b.ecgpack", 3)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_named(tmp_path):
    with pytest.raises(EcgReadError, match="ecgpack"):
        PackWriter(tmp_path / "b.npy", 1)
    with pytest.raises(EcgReadError, match="like the first"):
        write_pack([*records(1), *records(1, samples=400)], tmp_path / "b.ecgpack", 2)
    write_pack(records(2), tmp_path / "c.ecgpack", 2)
    with pytest.raises(EcgReadError, match="0 to 1"):
        read_pack(tmp_path / "c.ecgpack", 2)
    with pytest.raises(EcgReadError, match="write_pack"):
        read_pack(tmp_path / "absent.ecgpack", 0)
