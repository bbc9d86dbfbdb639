import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from gem_lightning.data import RecombinedCohort, SimulatedCohort
from gem_lightning.samples.io import RecordRef
from helpers_marked import donors


def test_several_that_begin_at_once_make_one_cohort(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    cohorts = [SimulatedCohort(tmp_path, n=2, seed=6, diagnoses=("sinus",), workers=1) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(SimulatedCohort.prepare, cohorts))
    assert sum("simulating" in record.message for record in caplog.records) == 1
    assert [len(cohort.samples()) for cohort in cohorts] == [2, 2, 2]


def test_a_recombined_cohort_keeps_its_truth_and_marks(tmp_path):
    make = partial(RecombinedCohort, tmp_path, n=3, seed=2, records=donors(), workers=1)
    cohort = make()
    cohort.prepare()
    samples = list(cohort.samples())
    assert [s.id for s in samples] == ["recombined-2-0", "recombined-2-1", "recombined-2-2"]
    for sample in samples:
        truth, marks = sample.metadata["truth"], sample.metadata["marks"]
        assert {"heart_rate", "pr_ms", "qrs_ms", "qt_ms", "p_share", "af", "diagnoses"} <= set(truth)
        assert f"{truth['heart_rate']:.0f} bpm" in sample.conversations[1]["value"]
        assert len(marks["R"]) == len(marks["P_on"]) > 2
        assert RecordRef.parse(sample.ecg).read().samples == 5000
    before = cohort.path.stat().st_mtime_ns
    make().prepare()
    assert cohort.path.stat().st_mtime_ns == before
    assert make(patients=["patient 0"]).path != cohort.path
