"""The command line: its commands and options, their help, suggestions for mistyped ones, shell completion.

A command is one function ``_NAME(commands)`` here, listed in :data:`COMMANDS`, and the function that it runs.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gem_lightning import __version__
from gem_lightning.cli import models, records
from gem_lightning.cli.outcome import EXIT_CODES, USER_ERROR

_EXAMPLES = """12-lead ECG: measure, draw, interpret, and verify a text. Research software, not a medical device.

  gem-lightning measure ecg.dcm                                  measurements and findings of a recording
  gem-lightning measure folder/ -o table.parquet                 a table of a folder, one row per recording
  gem-lightning render ecg.hea -o ecg.png                        draw it on 12-lead paper
  gem-lightning interpret folder/ -o out/                        verified texts, a page per recording
  gem-lightning check ecg.hea "Sinus rhythm. QTc 400 ms."        verify statements against the signal
"""
_FOOT = """Training, evaluation, data: python -m gem_lightning.{train,evaluate,predict,generate,serve} --help
Shell completion: eval "$(gem-lightning completion bash)"; also zsh, fish, tcsh"""

_Commands = argparse._SubParsersAction


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are one line, with the nearest existing command or option."""

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '([^']*)'|unrecognized arguments: (-[^\s=]+)", message)
        typed = (wrong[1] or wrong[2]) if wrong else ""
        near = difflib.get_close_matches(typed, sorted(self._known()), n=1)
        if typed and "COMMAND" in message:
            message = f"there is no command {typed!r}"
        advice = f"; did you mean {near[0]}?" if near else ""
        self.exit(USER_ERROR, f"gem-lightning: {message}{advice} (help: {self.prog} --help)\n")

    def _known(self) -> set[str]:
        """Commands, options and choices of this parser and of its commands."""
        known: set[str] = set()
        for action in self._actions:
            known |= {*action.option_strings, *map(str, action.choices or ())}
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    known |= {option for inner in parser._actions for option in inner.option_strings}
        return known


class _MainParser(_Parser):
    """The program's parser: its help begins with examples."""

    def format_help(self) -> str:
        return f"{_EXAMPLES}\n{super().format_help()}"


class _Version(argparse.Action):
    """Print the package's version."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"gem-lightning {__version__}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; nothing that a command needs is imported."""
    parser = _MainParser(
        prog="gem-lightning",
        epilog=f"{EXIT_CODES}\n\n{_FOOT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", dest="command", parser_class=_Parser
    )
    for add in COMMANDS:
        add(commands)
    return parser


def _measure(commands: _Commands) -> None:
    one = _command(commands, records.measure, "measurements and findings", "a table of a folder: -o table.parquet")
    one.add_argument(
        "-o", "--out", type=Path, help="table to write, a row per recording: .parquet, .csv, .json, .jsonl"
    )
    _json(one, "everything measured")
    one.add_argument("--explain", action="store_true", help="show the criterion of every finding")
    one.add_argument("--workers", type=int, metavar="N", help="processes for a table (default: all cores if worth it)")


def _render(commands: _Commands) -> None:
    one = _command(commands, records.render, "draw recordings on 12-lead paper")
    one.add_argument(
        "-o", "--out", type=Path, required=True, help="file to write: .png, .jpg, .svg or .pdf; or a folder"
    )
    one.add_argument("--to", choices=("png", "jpg", "svg", "pdf"), help="format of files in a folder (default: png)")
    one.add_argument("--layout", default="3x4+1", help="such as 3x4+1, 6x2, 12x1 (default: %(default)s)")
    one.add_argument("--dpi", type=float, default=150, help="dots per inch (default: %(default)s)")
    _json(one, "written files")


def _check(commands: _Commands) -> None:
    one = _command(commands, records.check, "verify a text's statements against the signal")
    one.add_argument("text", help="the text, or - for standard input")
    _json(one, "verdicts")
    one.add_argument("--strict", action="store_true", help="exit code 3 also for clinical content that was not read")


def _interpret(commands: _Commands) -> None:
    one = _command(commands, models.interpret, "interpret recordings with a trained GEM")
    what = "folder or hub id that Gem.from_pretrained reads (default: %(default)s, which comes with the package)"
    one.add_argument("--model", default="gem_small", help=what)
    one.add_argument("--question", help="replaces the model's usual instruction")
    out = "page to write (.html, .json, .txt), or a folder for pages and JSON; otherwise the text is printed"
    one.add_argument("-o", "--out", type=Path, help=out)
    _json(one, "text, verdicts and measurements")
    held = one.add_argument_group("how the text is held to the measurements")
    modes = "report, revise, guide or rerank (default: %(default)s)"
    held.add_argument("--verify", default="report", metavar="MODE", help=modes)
    held.add_argument("--tries", type=int, default=0, metavar="N", help="sentences or texts to sample instead")
    fails = "restate, drop or flag a contradicted sentence (default: %(default)s)"
    held.add_argument("--on-fail", default="restate", metavar="WHAT", help=fails)
    held.add_argument("--complete", action="store_true", help="add measured findings that the text leaves out")
    many = one.add_argument_group("of a folder of results (-o out/), which a rerun of the command resumes")
    many.add_argument("--workers", type=int, metavar="N", help="processes that prepare recordings ahead of the model")
    many.add_argument("--retry-failed", action="store_true", help="try recordings again that failed before")


def _info(commands: _Commands) -> None:
    _json(_command(commands, records.info, "what files hold and how they are read"), "what they hold")


def _convert(commands: _Commands) -> None:
    one = _command(commands, records.convert, "write recordings as WFDB, DICOM, EDF, CSV or Parquet")
    one.add_argument("--to", required=True, choices=("wfdb", "dicom", "edf", "csv", "parquet"), help="format to write")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder, or the file where there is one input")
    _json(one, "written files")


def _digitize(commands: _Commands) -> None:
    one = _command(commands, records.digitize, "digitise photos and scans of paper ECGs", files=False)
    one.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG, TIFF, WebP or BMP")
    out = "signal to write: .dcm, .hea, .edf, .csv or .parquet; or a folder"
    one.add_argument("-o", "--out", type=Path, required=True, help=out)
    one.add_argument("--to", choices=("wfdb", "dicom", "edf", "csv", "parquet"), help="format in a folder (dicom)")
    what = "image to write, or a folder for several: the page with what was read drawn over it"
    one.add_argument("--overlay", type=Path, help=what)
    one.add_argument("--layout", default="auto", help="such as 3x4+1, 6x2, 12x1 (default: what the leads prove)")
    one.add_argument("--speed", type=float, metavar="MM_S", help="paper speed (default: read off the pulse, else 25)")
    one.add_argument("--gain", type=float, metavar="MM_MV", help="mm per mV (default: read off the pulse, else 10)")
    _json(one, "written files")


def _mcp(commands: _Commands) -> None:
    what = "serve the ECGs of folders to agents (Model Context Protocol)"
    one = _command(commands, models.mcp, what, files=False)
    one.add_argument(
        "--root", type=Path, action="append", required=True, metavar="DIR", help="folder with ECGs; may be repeated"
    )
    one.add_argument("--http", metavar="HOST:PORT", help="serve streamable HTTP at /mcp; otherwise standard streams")
    one.add_argument("--model", default="gem_small", help="for the tool interpret (default: %(default)s)")


def _compare(commands: _Commands) -> None:
    what = "compare two evaluation runs on the same records, with paired tests"
    one = _command(commands, models.compare, what, files=False)
    one.add_argument("run_a", help="folder that evaluate wrote")
    one.add_argument("run_b", help="another, of the same benchmark")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder for the report")


def _leaderboard(commands: _Commands) -> None:
    what = "several models over several benchmarks: one page, resumable"
    one = _command(commands, models.leaderboard, what, files=False)
    one.add_argument("config", type=Path, help="YAML of models, benchmarks and out; see docs/evaluation.md")


def _export(commands: _Commands) -> None:
    what = "weights of a training checkpoint, a file or shards, as one model"
    one = _command(commands, models.export, what, files=False)
    what = "such as outputs/NAME/checkpoints/step-0000120.ckpt; or: vllm MODEL, a model as folders for vLLM"
    one.add_argument("source", nargs="+", help=what)
    one.add_argument("-o", "--out", type=Path, required=True, help="folder to write")


def _completion(commands: _Commands) -> None:
    what = "print the completion script of a shell"
    one = _command(commands, print_completion, what, files=False, name="completion")
    one.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"))


#: In the order of the help.
COMMANDS: tuple[Callable[[_Commands], None], ...] = (
    _measure,
    _render,
    _check,
    _interpret,
    _info,
    _convert,
    _digitize,
    _mcp,
    _compare,
    _leaderboard,
    _export,
    _completion,
)


def print_completion(args: argparse.Namespace) -> None:
    """Print the script that completes commands, options and files in a shell."""
    import shtab

    parser = build_parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, shtab.FILE)
    print(shtab.complete(parser, args.shell))


def _complete_files(command: argparse.ArgumentParser, files: Any) -> None:
    """Mark the arguments of a command that are files or folders."""
    for action in command._actions:
        if action.dest in ("files", "images", "overlay", "out", "root", "config", "source", "run_a", "run_b", "model"):
            action.complete = files  # type: ignore[attr-defined]


def _json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"{what}, as one JSON object per recording and line")


def _command(
    commands: _Commands,
    run: Callable[[argparse.Namespace], None],
    help_text: str,
    more: str = "",
    files: bool = True,
    name: str = "",
) -> argparse.ArgumentParser:
    """Add a subcommand; with ``files`` it takes recordings and what the user states about them."""
    one: argparse.ArgumentParser = commands.add_parser(
        name or run.__name__,
        help=help_text,
        description=f"{help_text[0].upper()}{help_text[1:]}{'; ' * bool(more)}{more}.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if files:
        what = "files of any ECG format, folders, patterns such as '**/*.dcm', or - for standard input"
        one.add_argument("files", nargs="+", metavar="FILE", help=what)
        given = one.add_argument_group("what the files do not hold")
        given.add_argument("--fs", type=float, metavar="HZ", help="sampling rate")
        given.add_argument("--units", help="of the samples: mV, uV, nV or V")
        given.add_argument("--gain", type=float, metavar="COUNTS", help="counts per mV of uncalibrated samples")
        leads = "any: whatever leads there are; I,II,...: names of the columns, in order"
        given.add_argument("--leads", metavar="LEADS", help=leads)
        given.add_argument("--format", help="of the files, where it cannot be recognised: wfdb, csv, dicom, scp, ...")
        given.add_argument(
            "--index", type=int, metavar="N", help="which recording of a file that holds several, from 0"
        )
    one.set_defaults(run=run)
    return one
