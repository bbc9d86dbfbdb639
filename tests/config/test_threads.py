"""Thread defaults: idle threads sleep, a container's CPU limit counts, and the user's own settings stay."""

import os

import pytest

from gem_lightning.config import threads

NAMES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture
def environment(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    return os.environ


def test_idle_threads_do_not_spin(environment):
    threads.set_thread_defaults()
    assert (environment["OMP_WAIT_POLICY"], environment["GOMP_SPINCOUNT"]) == ("PASSIVE", "0")


def test_the_users_settings_stay(environment):
    environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"] = "3", "ACTIVE"
    threads.set_thread_defaults()
    assert (environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("3", "ACTIVE")


@pytest.mark.parametrize(("limit", "cores"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 8), (None, 8)])
def test_a_containers_limit_counts(monkeypatch, tmp_path, limit, cores):
    monkeypatch.setattr(threads, "visible_cores", lambda: 8)
    file = tmp_path / "cpu.max"
    if limit is not None:
        file.write_text(limit)
    assert threads.usable_cores(file) == cores
