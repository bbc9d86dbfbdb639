"""The console script: ``gem-lightning measure|render|check|interpret|info|convert FILE``, ``compare``, …"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning.errors import GemError

if TYPE_CHECKING:
    from gem_lightning.ecg.record import EcgRecord

NOT_READ = 3  # exit code of ``check``; 1 is a contradiction, 2 a user error


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; a user error ends in one message and exit code 2."""
    args = _parser().parse_args(arguments)
    try:
        args.run(args)
    except (GemError, OSError) as error:
        sys.stderr.write(f"gem-lightning: {_in_options(str(error))}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


#: Arguments of ``read_ecg`` as errors name them -> options of this program.
_OPTIONS = (
    (r"\bfs=(\d[\d.]*), ", r"--fs \1 "),  # options are not separated by commas
    (r"\bunits='(\w+)'", r"--units \1"),
    (r"\bgain=(\d+)", r"--gain \1"),
    (r"\bleads='(any|12)'", r"--leads \1"),
    (r"\blead_names=", "--leads I,II,..."),
    (r"\b(units|gain|index|format)=", r"--\1"),
)


def _in_options(message: str) -> str:
    """An error of the library with this program's options in place of Python's arguments."""
    for argument, option in _OPTIONS:
        message = re.sub(argument, option, message)
    return message


def info(args: argparse.Namespace) -> None:
    """Print what a file holds and how it was read: format, leads, rate, repairs, quality, notes."""
    from gem_lightning.features.reliability import reliability

    record = _read(args)
    judged = reliability(record)
    facts = {
        "file": Path(args.file).name,
        **record.meta,
        "leads": list(record.leads),
        "rate_hz": record.quality.resampled_from if record.quality and record.quality.resampled_from else record.fs,
        "seconds": record.seconds,
        "repairs": {k: v for k, v in vars(record.quality).items() if v} if record.quality else {},
        "quality": {"verdict": judged.verdict, "reasons": list(judged.reasons)},
    }
    if args.json:
        print(json.dumps(facts, default=str, ensure_ascii=False))
        return
    from gem_lightning.reporting.terminal import print_facts

    print_facts(facts)


def convert(args: argparse.Namespace) -> None:
    """Write recordings in another format; a file that cannot be read is named and the rest go on."""
    from gem_lightning.ecg.writers import SUFFIXES, write_ecg

    out, failed = args.out, 0
    if len(args.files) > 1 or out.is_dir() or not out.suffix:
        out.mkdir(parents=True, exist_ok=True)
        targets = [out / f"{name}{SUFFIXES[args.to]}" for name in _names(args.files)]
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        targets = [out]
    for file, target in zip(args.files, targets, strict=True):
        args.file = file
        try:
            print(write_ecg(_read(args), target, args.to))
        except GemError as error:
            if len(args.files) == 1:
                raise
            failed += 1
            sys.stderr.write(f"gem-lightning: {file}: {_in_options(str(error))}\n")
    if failed:
        sys.stderr.write(f"gem-lightning: {failed} of {len(args.files)} files were not converted\n")
        raise SystemExit(4)


def _names(files: Sequence[str]) -> list[str]:
    """A short name for each file; those of one name in several folders are numbered."""
    from gem_lightning.ecg.listing import short_names

    names = short_names([Path(Path(file).name) for file in files])
    return [name if names.count(name) == 1 else f"{name}-{names[:i].count(name) + 1}" for i, name in enumerate(names)]


def measure(args: argparse.Namespace) -> None:
    """Print measurements and findings of one record."""
    from gem_lightning.features import findings
    from gem_lightning.features import measure as measure_record

    record = _read(args)
    features = measure_record(record)
    if args.json:
        print(features.to_json())
        return
    from gem_lightning.reporting.terminal import print_measurements

    print_measurements(record, features, findings(features))


def render(args: argparse.Namespace) -> None:
    """Draw one record on 12-lead paper."""
    from gem_lightning.render import EcgRenderer

    record = _read(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    print(EcgRenderer(layout=args.layout, dpi=args.dpi).save(record, args.out))


def check(args: argparse.Namespace) -> None:
    """Check every claim of a text against a record.

    Raises:
        SystemExit: With 1 where a claim is contradicted, with 3 where nothing could be checked, or with ``--strict``
            where clinical content was not read.
    """
    from gem_lightning.claims.report import CONTRADICTED, SUPPORTED
    from gem_lightning.claims.verify import verify
    from gem_lightning.features import measure as measure_record

    text = sys.stdin.read() if args.text == "-" else args.text
    report = verify(text, measure_record(_read(args)))
    print(report.to_json() if args.json else report.to_terminal(color=sys.stdout.isatty()))
    unread = [text[start:end] for start, end in report.unread_clinical]
    if report.languages:
        sys.stderr.write(f"gem-lightning: only English is read; the text is in part in {', '.join(report.languages)}\n")
    if unread:
        sys.stderr.write(f"gem-lightning: clinical content that was not checked: {'; '.join(unread)}\n")
    confirmed, contradicted = report.count(SUPPORTED), report.count(CONTRADICTED)
    if not confirmed and not contradicted:
        sys.stderr.write("gem-lightning: the text makes no statement that could be checked\n")
    if contradicted:
        raise SystemExit(1)
    if not confirmed or (args.strict and unread):
        raise SystemExit(NOT_READ)


def interpret(args: argparse.Namespace) -> None:
    """Interpret one record with a GEM; print the verified text, or write the page."""
    from gem_lightning.models import Gem

    held = {"verify": args.verify, "tries": args.tries, "on_fail": args.on_fail, "complete": args.complete}
    gem = Gem.from_pretrained(args.model)
    found = gem.interpret(args.file, question=args.question, reading=_reading(args), **held)
    if args.out is None:
        print(found.to_terminal(color=sys.stdout.isatty()))
    else:
        _write(args.out, found.to_html().encode())


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
        sys.stderr.write(f"gem-lightning: {failed} cells failed; the page says why\n")
        raise SystemExit(4)


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


def _reading(args: argparse.Namespace) -> dict[str, Any]:
    """Collect what the user states about a file, for ``read_ecg``; ``--leads`` takes names, or any, or 12."""
    named = args.leads not in (None, "any", "12")
    return {
        "fs": args.fs,
        "units": args.units,
        "gain": args.gain,
        "lead_names": args.leads.split(",") if named else None,
        "leads": "12" if named or args.leads is None else args.leads,
    }


def _read(args: argparse.Namespace) -> EcgRecord:
    from gem_lightning.ecg import read_ecg

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = read_ecg(args.file, **_reading(args))
    for warning in caught:
        sys.stderr.write(f"gem-lightning: {args.file}: {_in_options(str(warning.message))}\n")
    return record


def _write(path: Path, data: bytes) -> None:
    from gem_lightning.jobs import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    print(path)


class _Version(argparse.Action):
    """Print the package's version, read only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"gem-lightning {version('gem-lightning')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gem-lightning",
        description="12-lead ECG: measure, draw, interpret, and verify a text. Research software, not a "
        "medical device.",
        epilog="Training, evaluation and data generation: python -m gem_lightning.{train,evaluate,predict,generate}",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = _command(commands, measure, "measurements and findings of a record")
    one.add_argument("--json", action="store_true", help="everything measured, as JSON")

    one = _command(commands, render, "draw a record on 12-lead paper")
    one.add_argument("-o", "--out", type=Path, required=True, help="file to write: .png, .jpg, .svg or .pdf")
    one.add_argument("--layout", default="3x4+1", help="such as 3x4+1, 6x2, 12x1 (default: %(default)s)")
    one.add_argument("--dpi", type=float, default=150, help="dots per inch (default: %(default)s)")

    one = _command(commands, check, "check a text's claims against a record")
    one.add_argument("text", help="the text, or - for standard input")
    one.add_argument("--json", action="store_true", help="verdicts as JSON")
    one.add_argument("--strict", action="store_true", help="exit code 3 also for clinical content that was not read")
    one.epilog = "exit codes: 0 none contradicted, 1 a claim is contradicted, 3 nothing could be checked"

    one = _command(commands, interpret, "interpret a record with a trained GEM")
    one.add_argument("--model", required=True, help="folder or hub id that Gem.from_pretrained reads")
    one.add_argument("--question", help="replaces the model's usual instruction")
    one.add_argument("-o", "--out", type=Path, help="HTML page to write; otherwise the text is printed")
    held = one.add_argument_group("how the text is held to the measurements")
    modes = "report, revise, guide or rerank (default: %(default)s)"
    held.add_argument("--verify", default="report", metavar="MODE", help=modes)
    held.add_argument("--tries", type=int, default=0, metavar="N", help="sentences or texts to sample instead")
    fails = "restate, drop or flag a contradicted sentence (default: %(default)s)"
    held.add_argument("--on-fail", default="restate", metavar="WHAT", help=fails)
    held.add_argument("--complete", action="store_true", help="add measured findings that the text leaves out")

    one = _command(commands, info, "what a file holds and how it is read")
    one.add_argument("--json", action="store_true", help="as JSON")

    one = _command(commands, convert, "write recordings as WFDB, DICOM, EDF, CSV or Parquet", files="files")
    one.add_argument("--to", required=True, choices=("wfdb", "dicom", "edf", "csv", "parquet"), help="format to write")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder, or the file where there is one input")

    one = _command(commands, compare, "compare two evaluation runs on the same records, with paired tests", files="")
    one.add_argument("run_a", help="folder that evaluate wrote")
    one.add_argument("run_b", help="another, of the same benchmark")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder for the report")

    one = _command(commands, leaderboard, "several models over several benchmarks: one page, resumable", files="")
    one.add_argument("config", type=Path, help="YAML of models, benchmarks and out; see docs/evaluation.md")
    one.epilog = "exit codes: 0 all cells are there, 4 some failed; rerun the command to resume"

    one = _command(commands, export, "weights of a training checkpoint, a file or shards, as one model", files="")
    what = "such as outputs/NAME/checkpoints/step-0000120.ckpt; or: vllm MODEL, a model as folders for vLLM"
    one.add_argument("source", nargs="+", help=what)
    one.add_argument("-o", "--out", type=Path, required=True, help="folder to write")
    return parser


def _command(
    commands: argparse._SubParsersAction, run: Callable[[argparse.Namespace], None], help_text: str, files: str = "file"
) -> argparse.ArgumentParser:
    """A subcommand; ``files`` is the argument that names its input: ``file``, ``files`` or empty for none."""
    one: argparse.ArgumentParser = commands.add_parser(run.__name__, help=help_text, description=help_text)
    if files:
        several = {"nargs": "+"} if files == "files" else {}
        one.add_argument(files, help="any ECG file: WFDB header, DICOM, SCP, XML, CSV, ...", **several)  # type: ignore[arg-type]
        given = one.add_argument_group("what the file does not hold")
        given.add_argument("--fs", type=float, metavar="HZ", help="sampling rate")
        given.add_argument("--units", help="of the samples: mV, uV, nV or V")
        given.add_argument("--gain", type=float, metavar="COUNTS", help="counts per mV of uncalibrated samples")
        given.add_argument(
            "--leads", metavar="LEADS", help="any: whatever leads there are; I,II,...: names of the columns, in order"
        )
    one.set_defaults(run=run)
    return one


if __name__ == "__main__":
    main()
