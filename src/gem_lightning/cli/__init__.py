"""The console script ``gem-lightning``: measure, render, check, interpret and convert recordings, serve agents."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence

from gem_lightning.cli.outcome import CLOSED_PIPE, INTERRUPTED, USER_ERROR, warn
from gem_lightning.cli.parser import build_parser
from gem_lightning.errors import GemError, explain_import

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; a user error ends in one message and exit code 2."""
    parser = build_parser()
    given = sys.argv[1:] if arguments is None else arguments
    if not given:
        parser.print_help(sys.stderr)
        raise SystemExit(USER_ERROR)
    args = parser.parse_args(given)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 has no ✓
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # the readers' own errors say what is wrong with a file
    try:
        args.run(args)
    except BrokenPipeError:
        # what is still buffered would raise once more when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CLOSED_PIPE) from None
    except (GemError, OSError) as error:
        warn(str(error))
        raise SystemExit(USER_ERROR) from None
    except ModuleNotFoundError as error:
        explained = explain_import(error)
        if explained is error:
            raise
        warn(str(explained))
        raise SystemExit(USER_ERROR) from None
    except KeyboardInterrupt:
        warn("interrupted; a table or a folder of results is resumed by the same command")
        raise SystemExit(INTERRUPTED) from None
