"""Where the parts of a job run: processes of this machine, an array of cluster jobs (submitit), or Ray."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from gem_lightning.errors import MissingExtraError
from gem_lightning.jobs.folder import JobError
from gem_lightning.jobs.runner import follow_parent

Work = Callable[[int, int], Any]


class Engine(Protocol):
    """Runs ``work(part, parts)`` once per part and waits for all.

    A job's shards are written by its parts, each by one process; a part that was killed resumes where it stopped.
    """

    def run(self, work: Work, folder: str | os.PathLike[str]) -> list[Any]:
        """Run the parts.

        Args:
            work: Picklable function of (part, parts).
            folder: For logs.

        Returns:
            What each part returned.

        Raises:
            JobError: Parts failed; a rerun resumes them.
        """
        ...


class LocalEngine:
    """One process for each GPU of this machine; without several GPUs, this process.

    Args:
        parts: Number of processes; None takes the number of GPUs, at least one.
    """

    def __init__(self, parts: int | None = None) -> None:
        self.parts = _checked(max(1, len(gpus())) if parts is None else parts)

    def run(self, work: Work, folder: str | os.PathLike[str]) -> list[Any]:
        """Run the parts, each on a GPU of its own where there are any."""
        if self.parts == 1:
            return [work(0, 1)]
        devices, context = gpus() or [None], multiprocessing.get_context("spawn")
        pools = [
            ProcessPoolExecutor(1, context, _on_gpu, (devices[part % len(devices)],)) for part in range(self.parts)
        ]
        try:
            futures = [pool.submit(work, part, self.parts) for part, pool in enumerate(pools)]
            return _results(futures)
        finally:
            for pool in pools:
                pool.shutdown(wait=False, cancel_futures=True)


class SubmititEngine:
    """An array of cluster jobs.

    Args:
        parts: Number of jobs.
        cluster: ``slurm``, or ``local`` for processes on this machine.
        **parameters: Of ``submitit.AutoExecutor.update_parameters``, such as ``timeout_min`` and ``slurm_partition``.

    Raises:
        JobError: An unknown cluster.
    """

    def __init__(self, parts: int = 2, cluster: str = "slurm", **parameters: Any) -> None:
        if cluster not in ("slurm", "local"):
            raise JobError(f"expected cluster slurm or local, got {cluster!r}")
        self.parts, self.cluster = _checked(parts), cluster
        self.parameters = {"name": "gem-lightning", "timeout_min": 24 * 60, **parameters}

    def run(self, work: Work, folder: str | os.PathLike[str]) -> list[Any]:
        """Submit the parts and wait.

        Raises:
            MissingExtraError: submitit is not installed.
        """
        try:
            import submitit
        except ImportError:
            raise MissingExtraError("submitit", "sweep") from None
        executor = submitit.AutoExecutor(folder=str(Path(folder)), cluster=self.cluster)
        executor.update_parameters(**self.parameters)
        return _results(executor.map_array(work, range(self.parts), [self.parts] * self.parts))


class RayEngine:
    """Tasks of a Ray cluster, which share the job's folder; a task whose worker died is started again.

    Args:
        parts: Number of tasks.
        address: Of a running cluster; None starts one on this machine.
        cpus: Cores per task.
        gpus: GPUs per task.
        retries: Times that a task is started again.
    """

    def __init__(
        self, parts: int = 2, address: str | None = None, cpus: float = 1, gpus: float = 0, retries: int = 3
    ) -> None:
        self.parts, self.address = _checked(parts), address
        self.options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": retries}

    def run(self, work: Work, folder: str | os.PathLike[str]) -> list[Any]:
        """Run the parts as tasks.

        Raises:
            MissingExtraError: ray is not installed.
        """
        try:
            import ray
        except ImportError:
            raise MissingExtraError("ray", "ray") from None
        started = not ray.is_initialized()
        if started:
            ray.init(address=self.address, include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            remote: Any = ray.remote
            task = remote(**self.options)(_call)
            return _results([task.remote(work, part, self.parts).future() for part in range(self.parts)])
        finally:
            if started:
                ray.shutdown()


def _call(work: Work, part: int, parts: int) -> Any:
    return work(part, parts)  # a partial is no function, which Ray's decorator asks for


def gpus() -> list[str | None]:
    """Names of this machine's GPUs, as CUDA_VISIBLE_DEVICES takes them; CUDA itself is left alone."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def _on_gpu(device: str | None) -> None:
    follow_parent()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device


def _checked(parts: int) -> int:
    if not isinstance(parts, int) or parts < 1:
        raise JobError(f"expected engine.parts as a number of processes of at least 1, got {parts!r}")
    return parts


def _results(futures: Sequence[Future[Any] | Any]) -> list[Any]:
    """Wait for every part, so that one failure does not cost the others their work."""
    found, failed = [], []
    for part, future in enumerate(futures):
        try:
            found.append(future.result())
        except Exception as error:  # whatever the part raised, or what killed it
            failed.append(f"part {part}: {(str(error).strip().splitlines() or [type(error).__name__])[-1][:200]}")
    if failed:
        count = len(futures)
        raise JobError(f"{len(failed)} of {count} parts failed; run the same again to resume: {'; '.join(failed[:5])}")
    return found
