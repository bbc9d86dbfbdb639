import logging
from concurrent.futures import ThreadPoolExecutor

from gem_lightning.data import SimulatedCohort


def test_several_that_begin_at_once_make_one_cohort(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    cohorts = [SimulatedCohort(tmp_path, n=2, seed=6, diagnoses=("sinus",), workers=1) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(SimulatedCohort.prepare, cohorts))
    assert sum("simulating" in record.message for record in caplog.records) == 1
    assert [len(cohort.samples()) for cohort in cohorts] == [2, 2, 2]
