"""Several models over several benchmarks on one page: ``gem-lightning leaderboard config.yaml``.

Each cell is what ``python -m gem_lightning.evaluate`` runs, in a folder of its own: finished cells are not run again,
interrupted ones resume with the answers that are missing.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gem_lightning.config.main import explain
from gem_lightning.config.threads import set_thread_defaults
from gem_lightning.errors import GemError
from gem_lightning.evaluate import evaluate
from gem_lightning.evaluation.base import NO_ROW, NotApplicableError, fingerprint, read_predictions
from gem_lightning.evaluation.standings import Cell, standings
from gem_lightning.jobs import file_name, write_atomically
from gem_lightning.llm.budget import Budget, Limits
from gem_lightning.llm.cache import AnswerStore

logger = logging.getLogger(__name__)

BENCHMARKS = ("ecgbench", "grounding", "claims", "reasoning", "robustness", "simulator")
KEYS = ("models", "benchmarks", "out")
_OF_A_RUN = {"benchmark", "weights", "out", "against", "samples"}  # keys of evaluate.yaml that are no model's
# Settings of a model and its endpoint that change no answer: what is there stays valid, and paid, when they change.
_SPEED_ONLY = {"device", "batch_size", "api_key_env", "cache"} | {f.name for g in (Limits, Budget) for f in fields(g)}


@dataclass
class _Task:
    """One model on one benchmark: its place in the table, its config, and a mark of everything that it depends on."""

    cell: Cell
    cfg: Any
    mark: str

    @property
    def state(self) -> Path:
        return Path(self.cell.folder) / "cell.json"


def run(config: Path) -> tuple[int, Path]:
    """Run every cell that is not done; write ``results.json`` and ``leaderboard.html`` to the config's ``out``.

    Returns:
        Number of cells that failed, and the page.

    Raises:
        GemError: The config has a key or value that is not known; nothing was run.
    """
    set_thread_defaults()
    out, tasks = read_config(config)
    try:
        for task in tasks:
            _run(task)
    finally:  # also of an interrupted run, with the cells so far
        page = standings([task.cell for task in tasks]).save(out)
    return sum(task.cell.status == "failed" for task in tasks), page


def read_config(config: Path) -> tuple[Path, list[_Task]]:
    """Check the whole config and compose that of every cell, before anything runs.

    Raises:
        GemError: An unknown key, a value that is missing, or two models of one name.
    """
    import yaml
    from hydra import initialize_config_module

    try:
        given = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise GemError(f"expected YAML at {config}, got: {error}") from None
    _known(given, KEYS, str(config))
    if not isinstance(given.get("models"), list) or not given["models"] or not given.get("benchmarks"):
        raise GemError(f"expected lists of models and benchmarks in {config}, got none of one; see docs/evaluation.md")
    out = Path(given.get("out") or "outputs/leaderboard")
    tasks = []
    with initialize_config_module("gem_lightning.conf", version_base="1.3"):
        for model in given["models"]:
            for name, settings in given["benchmarks"].items():
                tasks.append(_task(out, model, name, dict(settings or {})))
    cells = [(task.cell.model, task.cell.benchmark) for task in tasks]
    if len(set(cells)) < len(cells):
        raise GemError(f"expected models of different names in {config}, got a name twice; give each a `name`")
    return out, tasks


def _task(out: Path, entry: Any, label: str, settings: dict[str, Any]) -> _Task:
    """Compose the config of one cell as ``evaluate`` takes it."""
    from hydra import compose
    from omegaconf import OmegaConf

    kind = settings.pop("benchmark", label)
    if kind not in BENCHMARKS:
        raise GemError(f"expected benchmarks among {', '.join(BENCHMARKS)}, got {kind!r}")
    cfg = compose("evaluate", [f"benchmark={kind}"])
    OmegaConf.set_struct(cfg, False)
    _known(entry, ["model", *(str(key) for key in cfg if key not in _OF_A_RUN)], "a model")
    _known(settings, [str(key) for key in cfg.benchmark if key != "_target_"], f"benchmark {label}")
    model = dict(entry)
    weights = model.pop("model", None)
    name = str(model.get("name") or Path(str(weights)).name)
    file = weights.get(label) if isinstance(weights, dict) else weights
    if weights is None:
        raise GemError(f"expected `model` for {name}: a folder, a file, instrument or an endpoint's name, got none")
    own = _lasting(model) | {"endpoint": _lasting(model.get("endpoint") or {})}
    version = fingerprint(_text([file, own, _stamps(file)]))[:8]  # a changed model never meets the old one's answers
    folder = out / "cells" / file_name(f"{name}-{version}") / file_name(label)
    cell = Cell(name, label, folder=str(folder), report=str(folder.relative_to(out) / "report.html"))
    if file is None:
        cell.status, cell.why = "not applicable", "the model has no file for this benchmark"
        return _Task(cell, cfg, "")
    _set(cfg, {**model, "weights": file, "name": name, "out": str(folder)})
    _set(cfg.benchmark, settings)
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise GemError(f"expected {', '.join(missing)} in the config, got none; give it under benchmarks: {label}")
    return _Task(cell, cfg, fingerprint(_text([kind, settings, _stamps(settings)])))


def _lasting(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in _SPEED_ONLY}


def _known(given: Any, expected: Any, what: str) -> None:
    if not isinstance(given, dict):
        raise GemError(f"expected a mapping of {', '.join(expected)} in {what}, got {type(given).__name__}")
    unknown = [str(key) for key in given if key not in expected]
    if unknown:
        raise GemError(f"expected keys of {what} among {', '.join(expected)}, got {', '.join(unknown)}")


def _set(cfg: Any, given: Mapping[str, Any]) -> None:
    """Set values; a mapping is merged into the one that is there unless it names another ``_target_``."""
    from omegaconf import DictConfig, OmegaConf

    for key, value in given.items():
        merged = isinstance(value, dict) and "_target_" not in value and isinstance(cfg.get(key), DictConfig)
        cfg[key] = OmegaConf.merge(cfg[key], value) if merged else value


def _stamps(value: Any) -> list[Any]:
    """Return sizes and times of all files that a value names, so that a replaced file is not mistaken for the old."""
    if isinstance(value, dict | list):
        return [_stamps(one) for one in (value.values() if isinstance(value, dict) else value)]
    path = Path(str(value))
    if not isinstance(value, str) or not path.exists():
        return []
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _run(task: _Task) -> None:
    """Run one cell unless it is done; whatever goes wrong becomes its state."""
    cell = task.cell
    if cell.status == "not applicable":
        return
    before = json.loads(task.state.read_text()) if task.state.is_file() else {}
    if before.get("mark") == task.mark and before["status"] in ("done", "not applicable"):
        vars(cell).update({key: value for key, value in before.items() if key not in ("mark", "folder", "report")})
        return
    logger.info("%s on %s", cell.model, cell.benchmark)
    Path(cell.folder).mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        evaluate(task.cfg)
        cell.status = "done"
    except NotApplicableError as error:
        cell.status, cell.why = "not applicable", str(error)
    except Exception as error:  # the other cells go on
        message = explain(error, "evaluate")
        cell.status, cell.why = "failed", message or f"{type(error).__name__}: {error}"
        # a user's mistake is one message; a bug needs its traceback
        logger.error("%s on %s: %s", cell.model, cell.benchmark, cell.why, exc_info=message is None)
    except KeyboardInterrupt:
        cell.status, cell.why = "interrupted", "rerun the command to resume"
        raise
    finally:
        cell.seconds = round(before.get("seconds", 0.0) + time.monotonic() - started, 2)
        _count(cell)
        write_atomically(task.state, _text(asdict(cell) | {"mark": task.mark}).encode())


def _count(cell: Cell) -> None:
    """Count a cell's answers, and what endpoints (models and judges) were paid for."""
    folder = Path(cell.folder)
    found = [p for file in folder.rglob("predictions*.jsonl") for p in read_predictions(file).values()]
    errors = [p.error for p in found if p.error is not None]
    if found:  # answers to chains that come from a file are not copied
        cell.answers, cell.errors = len(found), len(errors)
    if cell.status == "done" and found and errors == [NO_ROW] * len(found):
        cell.status, cell.why = "not applicable", "the file of predictions has no row for this benchmark"
    known = [p.tokens for p in found if p.tokens is not None]
    cell.tokens = sum(known) if known else None
    stores = [AnswerStore(file) for file in folder.glob("answers*.jsonl")]
    if stores:
        ledgers = [store.ledger for store in stores]
        cell.requests = sum(one.answers for one in ledgers)
        cell.cost_usd = sum(one.cost for one in ledgers) or None  # no prices were given: not known, not free
        cell.tokens = sum(one.tokens for one in ledgers)
