"""Make data: ``python -m gem_lightning.generate source=ptbxl source.root=FOLDER teacher=compose out=FOLDER``.

Stages: ``samples`` (default), ``features``, ``check``, ``merge``, ``validate`` (alias ``doctor``), ``shards``.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning.config.main import main_with_errors
from gem_lightning.errors import GemError
from gem_lightning.jobs.progress import show_progress

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Settings of source and teacher that shape the rows; the others (prices, budget, concurrency) may change on the way.
SAME_ROWS = frozenset((
    "_target_", "root", "n", "seed", "diagnoses", "snr_db", "samples", "rate", "origin", "prefix", "columns",
    "suffixes", "format", "fs", "units", "leads", "patients", "machine_reports", "denoised",
    "model", "dtype", "base_url", "images", "temperature", "max_tokens", "max_new_tokens", "answers",
))  # fmt: skip


def generate(cfg: DictConfig) -> None:
    """Run one stage.

    Raises:
        GemError: An unknown stage, or what the stage refuses.
    """
    stages = {
        "samples": make_samples,
        "features": make_features,
        "check": check_source,
        "merge": merge_parts,
        "validate": validate_data,
        "doctor": validate_data,  # the former name
        "shards": make_shards,
    }
    if cfg.stage not in stages:
        raise GemError(f"expected stage {', '.join(stages)}, got {cfg.stage!r}")
    stages[cfg.stage](cfg)


def make_features(cfg: DictConfig) -> None:
    """Records → ``features.parquet``."""
    from gem_lightning.generation import run as production

    engine = _engine(cfg)
    if engine:
        _spread(cfg, engine)
    else:
        source = _source(cfg)
        folder = production.open_features_job(source, cfg.out, _settings(cfg), cfg.limit, cfg.block or 256)
        if cfg.retry_broken:
            folder.undo_broken(cfg.part, cfg.parts)
        production.run_features(folder, source.paths, _share(cfg), show_progress(), cfg.contract)
    _merge_or_wait(cfg, bool(engine))


def make_samples(cfg: DictConfig) -> None:
    """Records → verified instruction samples."""
    from gem_lightning.generation import run as production
    from gem_lightning.samples.io import check_name

    check_name(f"train.{cfg.format}")
    if engine := _engine(cfg):
        _spread(cfg, engine)
        merge_parts(cfg)
        return
    source, teacher = _source(cfg), _instantiate(cfg.teacher)
    pipeline = _pipeline(cfg, source, teacher)
    folder = production.open_samples_job(source, cfg.out, _settings(cfg), cfg.limit, cfg.block or 32)
    if cfg.retry_broken:
        folder.undo_broken(cfg.part, cfg.parts)
    _, stopped = production.run_samples(folder, pipeline, teacher, _share(cfg), show_progress())
    facts = teacher.facts() | ({"stopped": stopped} if stopped else {})
    production.note_teacher(cfg.out, cfg.part, cfg.parts, facts)
    if stopped:
        sys.stderr.write(f"stopped: {stopped}; raise the budget and rerun the command to resume\n")
    _merge_or_wait(cfg)


def _merge_or_wait(cfg: DictConfig, whole: bool = False) -> None:
    if cfg.parts == 1 or whole:
        merge_parts(cfg)
    else:
        print(
            f"part {cfg.part} is done (of 0 to {cfg.parts - 1}); after all of them rerun the command with stage=merge"
        )


def merge_parts(cfg: DictConfig) -> None:
    """Merge the shards of all parts and print a summary.

    Raises:
        GemError: The run is whole, and has no sample at all, or none for a split that was asked for.
    """
    from gem_lightning.generation import run as production

    folders = _run_folders(cfg.out)
    suffix = json.loads((folders[0] / "job" / "job.json").read_text())["suffix"]
    if suffix == ".bin":
        from gem_lightning.data.shards import finish_shards

        for folder in folders:
            finish_shards(folder)
        _report_shards(folders)
        return
    if suffix == ".jsonl":
        source = _source(cfg)
        card = production.finish_samples(
            cfg.out, cfg.format, source, production.teacher_facts(cfg.out), dict(cfg.splits)
        )
        print(production.card_text(card))
        _report_losses(card, cfg.out)
        if not card["samples"] and not card["records_unfinished"]:
            raise GemError(_why_none(card, cfg.out))
        if "too_few" in card and "stopped" not in card:
            raise GemError(card["too_few"])
        return
    facts = production.finish_features(cfg.out)
    print(f"{facts['records']} records measured, {facts['broken']} broken (see {cfg.out}/broken.jsonl)")
    if facts["core_hours_for_800k"] is not None:
        print(
            f"{facts['cpu_ms_a_record']:.1f} ms of one core a record (reading, measuring, findings): "
            f"{facts['core_hours_for_800k']} core-hours for 800,000 records"
        )


def _run_folders(out: str) -> list[Path]:
    """Find the job folders of an earlier run: its folder, or one folder below it for each file of samples."""
    jobs = sorted(Path(out).glob("job/job.json")) or sorted(Path(out).glob("*/job/job.json"))
    if not jobs:
        raise GemError(f"expected the out= of an earlier run, got {out}; its stage and parts come first")
    return [job.parent.parent for job in jobs]


def _report_shards(folders: list[Path]) -> None:
    """Report the contents of finished shards; exit with 1 where one is empty."""
    counts = []
    for folder in folders:
        counts.append(sum(chunk["chunk_size"] for chunk in json.loads((folder / "index.json").read_text())["chunks"]))
        broken = len((folder / "broken.jsonl").read_text().splitlines())
        lost = f", {broken} broken (see {folder}/broken.jsonl)" if broken else ""
        print(f"{counts[-1]} samples in shards{lost}; read with gem_lightning.data.ShardReader({str(folder)!r})")
    if not all(counts):
        raise SystemExit(1)


def _report_losses(card: dict[str, Any], out: str) -> None:
    """Report unanswered and broken records on stderr."""
    from gem_lightning.generation.teaching import NO_ANSWER

    unanswered = card["reject_reasons"].get(NO_ANSWER, 0)
    if unanswered:
        sys.stderr.write(f"{unanswered} without an answer (see rejected.jsonl); rerun the command to retry\n")
    if card["records_broken"]:
        with Path(out, "broken.jsonl").open("rb") as file:
            first = json.loads(next(file))
        broken = f"{card['records_broken']} broken (see {out}/broken.jsonl; retry_broken=true tries them again)"
        sys.stderr.write(f"{broken}; {first['id']}: {first['reason']}\n")


def _why_none(card: dict[str, Any], out: str) -> str:
    """Explain a whole run without a sample: what happened to its records, and what can be done."""
    reasons = "; ".join(f"{count} × {reason}" for reason, count in card["reject_reasons"].items())
    rejected = f"{card['rejected']} texts rejected{f' ({reasons})' if reasons else ''}"
    return (
        f"expected accepted samples, got none of {card['records']} records: {rejected}, {card['records_broken']} "
        f"records broken; {out}/rejected.jsonl and {out}/broken.jsonl hold texts and reasons; to try another teacher, "
        "prompt_file or gate, choose another out="
    )


def check_source(cfg: DictConfig) -> None:
    """Report whether the source is complete: its layout, and each record's files.

    Raises:
        SystemExit: With 1 when something is missing.
    """
    from itertools import islice

    from gem_lightning.sources.base import missing_files

    source = _source(cfg)
    records = list(islice(source.records(), cfg.limit))
    missing = list(missing_files(source, records))
    print(f"{source.name}: {len(records)} records, licence {source.licence}")
    for line in missing[:20]:
        print(f"missing: {line}")
    without = sum(record.ecg is None for record in records)
    if without:
        print(f"{without} records name no ECG: nothing can be measured of them")
    if missing:
        print(f"{len(missing)} files are missing; get them from {source.home or 'the origin of the source'}")
    if missing or without == len(records):
        raise SystemExit(1)
    print("nothing is missing")


def validate_data(cfg: DictConfig) -> None:
    """Validate instruction data; writes ``validation.html``, ``validation.json`` and ``validation.jsonl``.

    Raises:
        SystemExit: With 1 when there are faults of the severity ``validate.fail_on``.
    """
    from omegaconf import OmegaConf

    from gem_lightning.generation.validate import DataValidator
    from gem_lightning.jobs import write_atomically
    from gem_lightning.reporting.validation import validation_page

    options: Any = OmegaConf.to_container(cfg.validate, resolve=True)
    former: Any = OmegaConf.to_container(cfg.doctor, resolve=True)
    options |= {name: value for name, value in former.items() if value is not None}
    fail_on = options.pop("fail_on")
    validator = DataValidator(
        _files(cfg), paths=dict(cfg.paths or {}), renderer=_instantiate(cfg.get("render")), **options
    )
    found = validator.validate(workers=cfg.workers, show=show_progress())
    found.write(cfg.out)
    write_atomically(Path(cfg.out) / "validation.html", validation_page(found).to_html().encode())
    print(found.to_text())
    if found.fails(fail_on):
        raise SystemExit(1)


def make_shards(cfg: DictConfig) -> None:
    """Instruction samples with their signals → streaming shards; the job that writes the last chunk finishes them."""
    from gem_lightning.data.shards import write_shards

    files = _files(cfg)
    engine = _engine(cfg)
    if engine:
        _spread(cfg, engine)
    else:
        share = {"workers": cfg.workers, "part": cfg.part, "parts": cfg.parts}
        print(write_shards(files, cfg.out, dict(cfg.paths or {}), cfg.contract, **share, show=show_progress()))
        if cfg.parts == 1:
            _report_shards(_run_folders(cfg.out))
            return
    _merge_or_wait(cfg, bool(engine))


def _files(cfg: DictConfig) -> Any:
    """Resolve ``data=``: a file, several by name, or the files of a run by its folder."""
    from omegaconf import OmegaConf

    from gem_lightning.samples.io import files_of_run

    if not cfg.files:
        raise GemError("expected data=FILE with instruction samples, got none")
    if OmegaConf.is_dict(cfg.files):
        return OmegaConf.to_container(cfg.files, resolve=True)
    return files_of_run(cfg.files) if Path(cfg.files).is_dir() else cfg.files


def run_part(container: dict[str, Any], part: int, parts: int) -> None:
    """Run the stage for one part of an array job."""
    from omegaconf import OmegaConf

    cfg = OmegaConf.create(container)
    cfg.part, cfg.parts, cfg.cluster, cfg.engine = part, parts, None, None
    generate(cfg)


def _engine(cfg: DictConfig) -> Any:
    """The engine of ``engine=`` or ``cluster=``; None where this process works itself."""
    from omegaconf import OmegaConf

    from gem_lightning.jobs import LocalEngine, SubmititEngine

    if cfg.cluster:
        options: Any = OmegaConf.to_container(cfg.cluster_options, resolve=True) if cfg.cluster_options else {}
        return SubmititEngine(cfg.parts, cfg.cluster, **options)
    engine = _instantiate(cfg.engine)
    return None if engine is None or isinstance(engine, LocalEngine) else engine


def _spread(cfg: DictConfig, engine: Any) -> None:
    """Run the parts of the stage on an engine."""
    from omegaconf import OmegaConf

    from gem_lightning import generate as module  # by name, not as __main__: other processes import it

    container: Any = OmegaConf.to_container(cfg, resolve=False)
    engine.run(partial(module.run_part, container), Path(cfg.out) / "logs")


def _instantiate(node: Any) -> Any:
    from hydra.utils import instantiate

    return None if node is None else instantiate(node, _convert_="all")


def _source(cfg: DictConfig) -> Any:
    """Instantiate the source; ``paths=`` maps the folders that a file of samples names to folders here."""
    source = _instantiate(cfg.source)
    if cfg.paths:
        if not hasattr(source, "folders"):
            raise GemError(f"expected source.root for {source.name}, got paths=; paths= is for files of samples")
        source.folders = {**(source.folders or {}), **cfg.paths}
    return source


def _pipeline(cfg: DictConfig, source: Any, teacher: Any) -> Any:
    from omegaconf import OmegaConf

    from gem_lightning.generation.pipeline import Pipeline

    names = ("samples_per_record", "style", "seed", "tries", "quality", "measurements", "prompt_file", "contract")
    return Pipeline(
        paths=source.paths,
        out=cfg.out,
        kinds=OmegaConf.to_container(cfg.kinds),  # type: ignore[arg-type]
        splits=OmegaConf.to_container(cfg.splits),  # type: ignore[arg-type]
        gate=_instantiate(cfg.gate),
        renderer=_instantiate(cfg.get("render")),
        source=source.name,
        teacher=teacher.name,
        attached=teacher.sees_images,
        verbatim=teacher.verbatim,
        **{name: cfg[name] for name in names},
    )


def _share(cfg: DictConfig) -> Any:
    from gem_lightning.generation.run import RunOptions

    return RunOptions(cfg.workers, cfg.part, cfg.parts, cfg.limit_s)


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """Collect the settings that decide the rows: a job resumed with other ones would mix two data sets."""
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    found = {"stage": plain["stage"], "seed": plain["seed"], "limit": plain["limit"], "contract": plain["contract"]}
    found |= {f"source.{k}": v for k, v in plain["source"].items() if k in SAME_ROWS}
    if plain["stage"] == "samples":
        names = ("kinds", "samples_per_record", "style", "splits", "quality", "measurements", "prompt_file", "tries")
        found |= {name: plain[name] for name in (*names, "gate")} | {"render": plain.get("render")}
        if cfg.prompt_file and Path(cfg.prompt_file).is_file():
            found["prompt_sha256"] = hashlib.sha256(Path(cfg.prompt_file).read_bytes()).hexdigest()[:16]
        found |= {f"teacher.{k}": v for k, v in plain["teacher"].items() if k in SAME_ROWS}
    return found


def kind_weights(argument: str) -> str:
    """Translate ``kinds=[a,b]`` into equal weights; Hydra cannot put a list in the place of a mapping."""
    found = re.fullmatch(r"kinds=\[(.*)\]", argument)
    if found is None:
        return argument
    named = [name.strip() for name in found[1].split(",") if name.strip()]
    weights = {"interpretation": 0} | dict.fromkeys(named, 1)  # the only kind whose own weight is not 0
    return f"kinds={{{','.join(f'{name}:{weight}' for name, weight in weights.items())}}}"


def main() -> None:
    """``python -m gem_lightning.generate``."""
    sys.argv[1:] = [kind_weights(argument) for argument in sys.argv[1:]]
    main_with_errors("generate", generate, aliases={"data": "files", "source": ("files", "source.root")})


if __name__ == "__main__":
    main()
