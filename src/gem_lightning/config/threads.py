"""Thread settings of the numerical libraries, applied by every entry point before any of them is imported."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: "<quota> <period>" in microseconds, or "max <period>"


def set_thread_defaults() -> None:
    """Set OpenMP's environment variables that the user has not set.

    Threads that wait for work sleep. By default they spin, and on a machine that other programs use the spinning
    threads take the cores from those that compute: a training step then takes ten times as long.

    ``OMP_NUM_THREADS`` is set only where a control group limits the process to fewer cores than it sees; elsewhere
    OpenMP's own default, one thread a core, is right.
    """
    defaults = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",  # GNU's OpenMP, which PyTorch's wheels bring, spins first even if the policy is passive
        "KMP_BLOCKTIME": "0",  # Intel's and LLVM's name for the same, ms
    }
    if usable_cores() < visible_cores():
        defaults["OMP_NUM_THREADS"] = str(usable_cores())
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def visible_cores() -> int:
    """Return the number of CPU cores that the scheduler may run this process on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores(quota: Path = _QUOTA) -> int:
    """Return the number of CPU cores whose time this process gets.

    Args:
        quota: File with the control group's CPU limit, which ``os.cpu_count`` and OpenMP ignore: in a container they
            start one thread for each core of the host.
    """
    try:
        limit, period = quota.read_text().split()
        allowed = max(1, round(int(limit) / int(period)))
    except (OSError, ValueError):  # no control groups of version 2, or "max": no limit
        return visible_cores()
    return min(visible_cores(), allowed)
