"""Commands with a model or about models: interpret, mcp, export, compare, leaderboard."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning.cli import outcome
from gem_lightning.cli.inputs import STDIN, Input, find_inputs, read, reading, stated_assumptions
from gem_lightning.cli.outcome import Failures, busy, warn, watched
from gem_lightning.cli.records import is_folder, print_json, short_names
from gem_lightning.errors import GemError, MissingExtraError

if TYPE_CHECKING:
    from gem_lightning.models import Gem
    from gem_lightning.reporting.interpretation import Interpretation

_TOGETHER = 8  # records that the model answers at once where results are printed one by one
_ALONE = 16  # records for which starting processes that import torch takes longer than preparing them here. Ours.


def interpret(args: argparse.Namespace) -> None:
    """Interpret recordings with a GEM: print verified texts, write one page, or a folder of pages and JSON."""
    inputs = find_inputs(args.files)
    if args.out is not None and is_folder(inputs, args.out):
        _interpret_into(args, inputs)
        return
    if args.out is not None and args.out.suffix not in _PAGES:
        raise GemError(f"expected an output that ends in {', '.join(_PAGES)}, or a folder, got {args.out}")
    failures, refused = Failures(len(inputs), "interpreted"), 0
    for one, found in _interpreted(args, inputs):
        with failures.of(one.name):
            if isinstance(found, Exception):
                raise found
            refused += found.quality.refused is not None
            _show(args, one, found, len(inputs) > 1)
    failures.end()
    if refused == len(inputs):
        raise SystemExit(outcome.NOTHING_CHECKED)


def _interpreted(args: argparse.Namespace, inputs: Sequence[Input]) -> Iterator[tuple[Input, Any]]:
    """Yield each recording with its interpretation or the reason for having none."""
    if not any(map(_exists, inputs)):
        read(inputs[0], args)  # raises at once what reading would raise after loading the model
    with busy(args.model):
        gem = _load(args)
    options = {"verify": args.verify, "tries": args.tries, "on_fail": args.on_fail, "complete": args.complete}

    def answers() -> Iterator[tuple[Input, Any]]:
        for start in range(0, len(inputs), _TOGETHER):
            some = inputs[start : start + _TOGETHER]
            with stated_assumptions(), busy(", ".join(one.name for one in some)):
                sources = [one.source for one in some]
                found = gem.interpret_many(sources, args.question, reading=reading(args), **options)
            yield from zip(some, found, strict=True)

    yield from watched(answers(), len(inputs))


def _exists(one: Input) -> bool:
    return isinstance(one.source, bytes) or one.source.exists() or Path(f"{one.source}.hea").exists()


def _load(args: argparse.Namespace) -> Gem:
    from gem_lightning.models import Gem
    from gem_lightning.models.compat.load import without_progress_bars

    with without_progress_bars():  # they would end in files of standard error
        return Gem.from_pretrained(args.model)


def _show(args: argparse.Namespace, one: Input, found: Interpretation, several: bool) -> None:
    """Print an interpretation, or write its page."""
    from gem_lightning.jobs import write_atomically
    from gem_lightning.reporting.measured import facts

    known = facts(one.name, found)
    if found.quality.refused:
        warn(f"{one.name}: {found.quality.refused}")
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        content = _PAGES[args.out.suffix](found, known)
        write_atomically(args.out, content.encode())
        print(args.out)
    elif args.json:
        print_json({**known, **found.to_dict(), **known})
    elif not found.quality.refused:
        print((f"{one.name}\n" if several else "") + found.to_terminal())


#: Ending → content of the file for one interpretation and its facts.
_PAGES: dict[str, Callable[[Interpretation, dict[str, Any]], str]] = {
    ".html": lambda found, known: found.to_html(),
    ".json": lambda found, known: json.dumps({**known, **found.to_dict(), **known}, indent=1, ensure_ascii=False),
    ".txt": lambda found, known: found.to_terminal(color=False) + "\n",
}


def _interpret_into(args: argparse.Namespace, inputs: Sequence[Input]) -> None:
    """Write a folder as ``python -m gem_lightning.predict`` does: pages, JSON Lines, a summary; resumable.

    Raises:
        GemError: Standard input among the files, or not one recording could be read.
        SystemExit: With 4 where some could not.
    """
    from gem_lightning import predict
    from gem_lightning.models.compat.load import without_progress_bars

    if any(one.name == STDIN for one in inputs):
        raise GemError("expected files for a folder of results, got standard input; leave -o out, or name a .html file")
    ids = dict(zip(short_names(inputs), inputs, strict=True))
    cfg = _predict_config(args, _write_inputs(args.out, ids))
    folder = predict.open_job(cfg)
    if args.retry_failed:
        folder.undo_broken()
    if folder.missing():
        from omegaconf import OmegaConf

        plain: Any = OmegaConf.to_container(cfg, resolve=False)
        with stated_assumptions(), without_progress_bars():
            predict.run_part(plain, 0, 1)
    failures = Failures(folder.total, "interpreted; --retry-failed tries them again")
    for row in folder.broken():
        failures.note(ids[row["id"]].name, row["reason"])
    if failures.count < failures.total:
        predict.write_results(cfg, folder)
        for place in ("predictions.jsonl", "summary.json", "pages"):
            print(args.out / place)
    failures.end()


def _write_inputs(out: Path, ids: Mapping[str, Input]) -> Path:
    """Write the table of recordings that a folder of results is begun with.

    Args:
        out: The folder.
        ids: Name in the results → recording.

    Raises:
        GemError: The folder was begun with other recordings: their results would mix.
    """
    from gem_lightning.jobs import write_atomically

    table = io.StringIO()
    csv.writer(table).writerows([("id", "ecg"), *((n, Path(str(one.source)).resolve()) for n, one in ids.items())])
    listed, content = out / "inputs.csv", table.getvalue().encode()
    if (out / "job" / "items.jsonl").exists() and listed.exists() and listed.read_bytes() != content:
        raise GemError(f"expected the recordings that {out} was begun with, got others; choose another folder with -o")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(listed, content)
    return listed


def _predict_config(args: argparse.Namespace, listed: Path) -> Any:
    """The config of ``predict`` for a table of recordings."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("gem_lightning.conf", version_base="1.3"):
        cfg = compose("predict")
    OmegaConf.set_struct(cfg, False)
    stated = {name: value for name, value in reading(args).items() if value is not None and name != "format"}
    files = "gem_lightning.sources.base.RecordFiles"
    many = listed.read_bytes().count(b"\n") > _ALONE
    options = {name: getattr(args, name) for name in ("question", "verify", "tries", "on_fail", "complete")}
    options |= {"weights": args.model, "out": str(args.out), "html": True, "reading": stated}
    options |= {"source": {"_target_": files, "root": str(listed.resolve()), "format": args.format}}
    options |= {"workers": args.workers if args.workers is not None or many else 0}
    return OmegaConf.merge(cfg, options)


def mcp(args: argparse.Namespace) -> None:
    """Serve the files of folders to agents over the Model Context Protocol."""
    try:
        from gem_lightning.serving.mcp import build_server, serve
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise MissingExtraError("mcp", "mcp") from error
    serve(build_server(args.root, args.model), args.http)


def compare(args: argparse.Namespace) -> None:
    """Compare two evaluation runs on the records that both have; write the report."""
    from gem_lightning.evaluation.comparison import compare as compare_runs

    print(compare_runs(args.run_a, args.run_b).save(args.out))


def leaderboard(args: argparse.Namespace) -> None:
    """Run several models over several benchmarks; write one page.

    Raises:
        SystemExit: With 4 where a cell failed.
    """
    from gem_lightning.leaderboard import run

    failed, page = run(args.config)
    print(page)
    if failed:
        warn(f"{failed} cells failed; the page says why")
        raise SystemExit(outcome.SOME_FAILED)


def export(args: argparse.Namespace) -> None:
    """Write a training checkpoint as a folder that ``Gem.from_pretrained`` reads, or a model as folders for vLLM."""
    if args.source[0] == "vllm" and len(args.source) == 2:
        from gem_lightning.models import Gem
        from gem_lightning.models.inference.vllm import export_vllm

        print(export_vllm(Gem.from_pretrained(args.source[1]), args.out))
        return
    if len(args.source) != 1:
        raise GemError(f"expected a checkpoint, or vllm and a model, got {' '.join(args.source)}")
    from gem_lightning.lit import export as export_checkpoint

    print(export_checkpoint(Path(args.source[0]), args.out))
