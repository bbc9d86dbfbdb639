import numpy as np
import pytest

from gem_lightning.ecg import EcgRecord, simulate
from gem_lightning.ecg.recombination import RecombinedBeats
from gem_lightning.errors import DataError
from gem_lightning.sources.marked import FOLDS, DelineatedMarks, LudbMarks, is_held_out


def test_every_fold_holds_out_a_fifth_and_no_record_twice():
    odd = range(1, 201, 2)
    folds = [{n for n in odd if is_held_out(n, fold)} for fold in range(FOLDS)]
    assert set.union(*folds) == set(odd)
    assert [len(fold) for fold in folds] == [20] * FOLDS
    assert 1 in folds[0] and 3 in folds[1] and 11 in folds[0]


def test_a_folder_without_ludb_says_what_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"ludb\.csv"):
        list(LudbMarks(str(tmp_path)))
    with pytest.raises(DataError, match="split train, held_out or all"):
        list(LudbMarks(str(tmp_path), "even"))


def test_ludb_s_records_have_marks_over_all_leads(shared_data):
    folder = shared_data / "ludb_odd"
    if not (folder / "ludb.csv").is_file():
        pytest.skip("LUDB is not here")
    found = []
    for marked in LudbMarks(str(folder), "held_out"):
        found.append(marked)
        if len(found) == 3:
            break
    assert [m.patient for m in found] == ["ludb/1", "ludb/11", "ludb/21"]
    for m in found:
        assert m.licence == "ODC-By 1.0" and m.record.fs == 500
        assert 60 < np.nanmedian(m.marks["QRS_off"] - m.marks["QRS_on"]) * 2 < 200
        assert m.span[0] > 0 and m.span[1] < m.record.samples


def test_confidently_delineated_records_are_donors():
    noise = np.random.default_rng(0).normal(0, 0.3, (12, 5000)).astype(np.float32)
    records = [("clear", simulate("sinus", seed=1, snr_db=30).record), ("noise", EcgRecord(noise, 500.0))]
    records.append(("fibrillating", simulate("atrial_fibrillation", seed=2, fs=250, snr_db=30).record))
    found = list(DelineatedMarks(records, origin="ours", licence="CC0"))
    assert [(m.patient, m.af, m.licence) for m in found] == [("clear", False, "CC0"), ("fibrillating", True, "CC0")]
    assert found[1].record.fs == 500
    assert RecombinedBeats(found)[0].record.samples == 5000
