"""What a command reports: exit codes, messages on standard error, failures of single files, progress."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

CONTRADICTED = 1
USER_ERROR = 2
NOTHING_CHECKED = 3
SOME_FAILED = 4
_PATIENCE_S = 1.0  # longer than a recording takes, shorter than a digitised page: who waits sees why
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
CLOSED_PIPE = 141  # 128 + SIGPIPE: the reader of the output has ended, as in `... | head`

#: Printed by ``gem-lightning --help`` and by the help of every command.
EXIT_CODES = """exit codes:
  0    all files are done
  1    a statement is contradicted by the recording (check)
  2    a mistake in the command, or not one file could be read
  3    nothing could be measured, interpreted or checked: the recording or paper is unusable, or the text states nothing
  4    some files failed, the others are done
  130  interrupted"""

#: Arguments of the library as its errors name them -> options of this program.
_OPTIONS = (
    (r"\bfs=(\d[\d.]*), ", r"--fs \1 "),  # options are not separated by commas
    (r"\bunits='(\w+)'", r"--units \1"),
    (r"\bgain=(\d+)", r"--gain \1"),
    (r"\bleads='(any|12)'", r"--leads \1"),
    (r"\blead_names=", "--leads I,II,..."),
    (r"\b(units|gain|index|format)=", r"--\1"),
)


def in_options(message: str) -> str:
    """An error of the library with this program's options in place of Python's arguments."""
    for argument, option in _OPTIONS:
        message = re.sub(argument, option, message)
    return message


def warn(message: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"gem-lightning: {in_options(message)}\n")


class Failures:
    """Counts the files of a command that failed, and names each on standard error.

    Args:
        total: Number of files.
        done: What is done to a file, for the last line: ``measured``.
    """

    def __init__(self, total: int, done: str) -> None:
        self.total, self.done, self.count = total, done, 0

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Turn an error of one of several files into a line; the only file's error goes on to the caller.

        Raises:
            GemError: There is one file, and it failed.
        """
        try:
            yield
        except BrokenPipeError:
            raise
        except Exception as error:  # any file can be broken in any way; the rest go on
            if self.total == 1:
                raise
            self.note(name, str(error) or type(error).__name__)

    def note(self, name: str, reason: str) -> None:
        """Count and name a file that failed."""
        self.count += 1
        warn(f"{name}: {reason}")

    def end(self) -> None:
        """Report the failures.

        Raises:
            SystemExit: With 4 where some files failed, with 2 where all did.
        """
        if self.count:
            warn(f"{self.count} of {self.total} files were not {self.done}")
            raise SystemExit(USER_ERROR if self.count == self.total else SOME_FAILED)


@contextmanager
def busy(name: str) -> Iterator[None]:
    """Show what is worked on, and for how long, on a terminal; the line goes when the work ends."""
    from gem_lightning.jobs.progress import duration

    if not sys.stderr.isatty():
        yield
        return
    done, start = threading.Event(), time.monotonic()

    def show() -> None:
        while not done.wait(_PATIENCE_S):
            sys.stderr.write(f"\r\033[K{name}: {duration(time.monotonic() - start)}")
            sys.stderr.flush()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        sys.stderr.write("\r\033[K")


def watched(items: Iterable[Any], total: int) -> Iterator[Any]:
    """Yield items with a line of rate and time left, where standard error is a terminal that shows nothing else."""
    from gem_lightning.jobs.progress import Progress, show_progress

    silent = total < 2 or sys.stdout.isatty() or not sys.stderr.isatty()
    show: Callable[[Progress], None] = (lambda _: None) if silent else show_progress()
    progress = Progress(total)
    for item in items:
        yield item
        progress.done += 1
        show(progress)
