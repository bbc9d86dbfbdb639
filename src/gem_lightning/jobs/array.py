"""Run the parts of a job as an array of cluster jobs, through submitit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gem_lightning.errors import MissingExtraError
from gem_lightning.jobs.folder import JobError


def run_array(
    work: Callable[[int, int], Any],
    parts: int,
    folder: str | os.PathLike[str],
    cluster: str = "slurm",
    **parameters: Any,
) -> list[Any]:
    """Submit ``work(part, parts)`` once per part and wait for all.

    Args:
        work: Picklable function.
        parts: Number of machines.
        folder: Folder of submitit's logs.
        cluster: ``slurm``, or ``local`` for processes on this machine.
        parameters: Arguments of ``submitit.AutoExecutor.update_parameters``, such as ``timeout_min`` and
            ``slurm_partition``.

    Returns:
        The return value of each part.

    Raises:
        JobError: An unknown cluster, or failed parts; a rerun resumes them.
        MissingExtraError: submitit is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise MissingExtraError("submitit", "sweep") from None
    if cluster not in ("slurm", "local"):
        raise JobError(f"expected cluster slurm or local, got {cluster!r}")
    executor = submitit.AutoExecutor(folder=str(Path(folder)), cluster=cluster)
    executor.update_parameters(name="gem-lightning", **{"timeout_min": 24 * 60, **parameters})
    jobs = executor.map_array(work, range(parts), [parts] * parts)
    results, failed = [], []
    for part, job in enumerate(jobs):
        try:
            results.append(job.result())
        except Exception as error:  # submitit wraps whatever the part raised, or what killed it
            failed.append(f"part {part}: {str(error).strip().splitlines()[-1][:200]}")
    if failed:
        raise JobError(f"{len(failed)} of {parts} parts failed; run the same again to resume: {'; '.join(failed[:5])}")
    return results
