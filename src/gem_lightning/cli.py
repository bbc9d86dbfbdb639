"""The console script: ``gem-lightning measure|render|check|interpret FILE`` and ``compare RUN RUN``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gem_lightning.errors import GemError


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; a mistake of the user ends in one message and exit code 2."""
    args = _parser().parse_args(arguments)
    try:
        args.run(args)
    except (GemError, OSError) as error:
        sys.stderr.write(f"gem-lightning: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def measure(args: argparse.Namespace) -> None:
    """Print measurements and findings of one record."""
    from gem_lightning.ecg import read_ecg
    from gem_lightning.features import findings
    from gem_lightning.features import measure as measure_record

    record = read_ecg(args.file, **_reading(args))
    features = measure_record(record)
    if args.json:
        print(features.to_json())
        return
    from gem_lightning.reporting.terminal import print_measurements

    print_measurements(record, features, findings(features))


def render(args: argparse.Namespace) -> None:
    """Draw one record on 12-lead paper."""
    from gem_lightning.ecg import read_ecg
    from gem_lightning.render import EcgRenderer

    args.out.parent.mkdir(parents=True, exist_ok=True)
    print(EcgRenderer(layout=args.layout, dpi=args.dpi).save(read_ecg(args.file, **_reading(args)), args.out))


def check(args: argparse.Namespace) -> None:
    """Check every claim of a text against a record."""
    from gem_lightning.claims.verify import verify
    from gem_lightning.ecg import read_ecg
    from gem_lightning.features import measure as measure_record

    text = sys.stdin.read() if args.text == "-" else args.text
    report = verify(text, measure_record(read_ecg(args.file, **_reading(args))))
    print(report.to_json() if args.json else report.to_terminal(color=sys.stdout.isatty()))
    if not report.verdicts:
        sys.stderr.write("gem-lightning: the text makes no statement that can be checked\n")
    if any(v.verdict == "contradicted" for v in report.verdicts):
        raise SystemExit(1)


def interpret(args: argparse.Namespace) -> None:
    """Let a GEM interpret one record; print the checked text, or write the page."""
    from gem_lightning.ecg import read_ecg
    from gem_lightning.models import Gem
    from gem_lightning.reporting.html import interpretation_html

    reading = _reading(args)
    record = read_ecg(args.file, **reading)
    found = Gem.from_pretrained(args.model).interpret(args.file, question=args.question, reading=reading)
    if args.out is None:
        print(found.claims.to_terminal(color=sys.stdout.isatty()))
        return
    page = interpretation_html(
        found.text,
        found.claims,
        found.features,
        None,
        record,
        provenance=f"model {args.model}",
        question=args.question or "",
    )
    _write(args.out, page.encode())


def compare(args: argparse.Namespace) -> None:
    """Compare two evaluation runs on the records that both have; write the report."""
    from gem_lightning.evaluation.comparison import compare as compare_runs

    print(compare_runs(args.run_a, args.run_b).save(args.out))


def export(args: argparse.Namespace) -> None:
    """Weights of a training checkpoint as a folder that ``Gem.from_pretrained`` reads."""
    from gem_lightning.lit import export as export_checkpoint

    print(export_checkpoint(args.checkpoint, args.out))


def _reading(args: argparse.Namespace) -> dict[str, Any]:
    """What the user says about a file that does not say it itself, for ``read_ecg``."""
    return {"fs": args.fs, "units": args.units, "lead_names": args.leads.split(",") if args.leads else None}


def _write(path: Path, data: bytes) -> None:
    from gem_lightning.jobs import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    print(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gem-lightning",
        description="12-lead ECG: measure, draw, interpret, and check what a text says. Research software, not a "
        "medical device.",
        epilog="Training, evaluation and data generation: python -m gem_lightning.{train,evaluate,predict,generate}",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = _command(commands, measure, "measurements and findings of a record")
    one.add_argument("--json", action="store_true", help="everything measured, as JSON")

    one = _command(commands, render, "draw a record on 12-lead paper")
    one.add_argument("-o", "--out", type=Path, required=True, help="file to write: .png, .jpg, .svg or .pdf")
    one.add_argument("--layout", default="3x4+1", help="such as 3x4+1, 6x2, 12x1 (default: %(default)s)")
    one.add_argument("--dpi", type=float, default=150, help="dots per inch (default: %(default)s)")

    one = _command(commands, check, "check a text's claims against a record; exit code 1 if one is contradicted")
    one.add_argument("text", help="the text, or - for standard input")
    one.add_argument("--json", action="store_true", help="verdicts as JSON")

    one = _command(commands, interpret, "interpret a record with a trained GEM")
    one.add_argument("--model", required=True, help="folder or hub id that Gem.from_pretrained reads")
    one.add_argument("--question", help="asked instead of the model's usual instruction")
    one.add_argument("-o", "--out", type=Path, help="HTML page to write; otherwise the text is printed")

    one = _command(commands, compare, "compare two evaluation runs on the same records, with paired tests", file=False)
    one.add_argument("run_a", help="folder that evaluate wrote")
    one.add_argument("run_b", help="another, of the same benchmark")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder for the report")

    one = _command(commands, export, "weights of a training checkpoint, a file or shards, as one model", file=False)
    one.add_argument("checkpoint", type=Path, help="such as outputs/NAME/checkpoints/step-0000120.ckpt")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder to write")
    return parser


def _command(
    commands: argparse._SubParsersAction, run: Callable[[argparse.Namespace], None], help_text: str, file: bool = True
) -> argparse.ArgumentParser:
    one: argparse.ArgumentParser = commands.add_parser(run.__name__, help=help_text, description=help_text)
    if file:
        one.add_argument("file", help="any ECG file: WFDB header, DICOM, ...")
        told = one.add_argument_group("for files that do not hold it (CSV, NPY, NPZ)")
        told.add_argument("--fs", type=float, metavar="HZ", help="sampling rate")
        told.add_argument("--units", help="of the samples: mV, uV, nV or V")
        told.add_argument(
            "--leads", metavar="I,II,...", help="names of the columns, in order, where the first line lacks them"
        )
    one.set_defaults(run=run)
    return one


if __name__ == "__main__":
    main()
