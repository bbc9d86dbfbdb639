"""Commands on the signals of recordings: info, measure, check, render, digitize, convert."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning.cli import outcome
from gem_lightning.cli.inputs import STDIN, Input, find_inputs, for_each
from gem_lightning.cli.outcome import Failures, busy, warn, watched
from gem_lightning.errors import GemError

if TYPE_CHECKING:
    from gem_lightning.claims.report import ClaimReport
    from gem_lightning.ecg.record import EcgRecord
    from gem_lightning.reporting.interpretation import Interpretation


DRAWN = (".png", ".jpg", ".jpeg", ".svg", ".pdf")  # endings that ``EcgRenderer.save`` writes


def print_json(facts: dict[str, Any]) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(facts, default=str, ensure_ascii=False), flush=True)


def info(args: argparse.Namespace) -> None:
    """Print what files hold and how they were read: format, leads, rate, repairs, quality, notes."""
    inputs = find_inputs(args.files)
    failures = Failures(len(inputs), "read")

    def show(one: Input, record: EcgRecord) -> None:
        from gem_lightning.features.reliability import reliability
        from gem_lightning.reporting.measured import facts, measured
        from gem_lightning.reporting.terminal import print_facts

        if args.json:
            print_json({**facts(one.name, measured(record)), **_contents(record)})
            return
        judged = reliability(record)
        print_facts(
            {
                "file": one.name,
                **_contents(record),
                "quality": judged.verdict,
                **({"quality reasons": judged.reasons} if judged.reasons else {}),
            }
        )
        if len(inputs) > 1:
            print()

    for_each(args, inputs, failures, show)
    failures.end()


def _contents(record: EcgRecord) -> dict[str, Any]:
    """What a file holds, and how it was read."""
    quality = record.quality
    return {
        **record.meta,
        "leads": list(record.leads),
        "rate_hz": quality.resampled_from if quality and quality.resampled_from else record.fs,
        "seconds": record.seconds,
        "repairs": {k: v for k, v in vars(quality).items() if v} if quality else {},
    }


def measure(args: argparse.Namespace) -> None:
    """Print measurements and findings: in full of one recording, a line each of several; or write a table.

    Raises:
        SystemExit: With 3 where every recording is unusable.
    """
    inputs = find_inputs(args.files)
    if args.out is not None:
        from gem_lightning.cli.table import write_table

        write_table(args, inputs)
        return
    failures, lines, refused = Failures(len(inputs), "measured"), None, 0
    if not args.json and len(inputs) > 1 and not args.explain:
        from gem_lightning.reporting.terminal import MeasuredLines

        lines = MeasuredLines([one.name for one in inputs])

    def show(one: Input, record: EcgRecord) -> None:
        from gem_lightning.reporting.measured import facts, measured
        from gem_lightning.reporting.terminal import print_measurements

        nonlocal refused
        found = measured(record)
        refused += found.quality.refused is not None
        if args.json:
            print_json({**facts(one.name, found), **found.features.to_dict()})
        elif lines is not None:
            lines.print(one.name, found)
        else:
            print_measurements(found, "standard input" if one.name == STDIN else one.name, args.explain)

    for_each(args, inputs, failures, show)
    failures.end()
    if refused == len(inputs):
        raise SystemExit(outcome.NOTHING_CHECKED)


def render(args: argparse.Namespace) -> None:
    """Draw recordings on 12-lead paper: one into a file, several into a folder."""
    from gem_lightning.render import EcgRenderer

    inputs = find_inputs(args.files)
    if args.out.suffix and args.out.suffix.lower() not in DRAWN and not args.out.is_dir():
        raise GemError(f"expected an image that ends in {', '.join(DRAWN)}, or a folder, got {args.out}")
    renderer, failures = EcgRenderer(layout=args.layout, dpi=args.dpi), Failures(len(inputs), "drawn")
    targets = dict(zip(inputs, output_files(inputs, args.out, f".{args.to or 'png'}"), strict=True))

    def draw(one: Input, record: EcgRecord) -> None:
        _report_written(args, one, record, renderer.save(record, targets[one]))

    for_each(args, inputs, failures, draw)
    failures.end()


def convert(args: argparse.Namespace) -> None:
    """Write recordings in another format: one into a file, several into a folder."""
    from gem_lightning.ecg.writers import SUFFIXES, write_ecg

    inputs = find_inputs(args.files)
    failures = Failures(len(inputs), "converted")
    targets = dict(zip(inputs, output_files(inputs, args.out, SUFFIXES[args.to]), strict=True))

    def write(one: Input, record: EcgRecord) -> None:
        _report_written(args, one, record, write_ecg(record, targets[one], args.to))

    for_each(args, inputs, failures, write)
    failures.end()


def digitize(args: argparse.Namespace) -> None:
    """Digitise photos and scans of paper ECGs: write the signals, and images of what was read.

    Raises:
        SystemExit: With 3 where the only page cannot be read.
    """
    from PIL import Image

    from gem_lightning.digitizer import digitize as digitize_page
    from gem_lightning.ecg.writers import SUFFIXES, write_ecg

    inputs = [Input(image, Path(image)) for image in dict.fromkeys(args.images)]
    failures = Failures(len(inputs), "digitised")
    kind = args.to if args.to or not is_folder(inputs, args.out) else "dicom"
    targets = output_files(inputs, args.out, SUFFIXES[kind or "dicom"])
    overlays = [None] * len(inputs) if args.overlay is None else output_files(inputs, args.overlay, ".png")
    for one, target, overlay in zip(watched(inputs, len(inputs)), targets, overlays, strict=True):
        with failures.of(one.name):
            with busy(one.name):
                page = digitize_page(str(one.source), layout=args.layout, speed=args.speed, gain=args.gain)
            if overlay is not None:
                Image.fromarray(page.overlay()).save(overlay)
            if page.record is None:
                failures.note(one.name, f"not digitised: {page.refused}")
                continue
            for note in page.notes:
                warn(f"{one.name}: {note}")
            _report_written(args, one, page.record, write_ecg(page.record, target, kind))
    if len(inputs) == failures.count == 1:
        raise SystemExit(outcome.NOTHING_CHECKED)
    failures.end()


def _report_written(args: argparse.Namespace, one: Input, record: EcgRecord, path: Path) -> None:
    if not args.json:
        print(path)
        return
    from gem_lightning.reporting.measured import facts, measured

    print_json({**facts(one.name, measured(record)), "out": str(path)})


def output_files(inputs: Sequence[Input], out: Path, suffix: str) -> list[Path]:
    """The file to write for each input; folders are made.

    Args:
        inputs: Recordings.
        out: A file where there is one recording and the name has a suffix, else a folder.
        suffix: Of files in a folder.
    """
    if is_folder(inputs, out):
        out.mkdir(parents=True, exist_ok=True)
        return [out / f"{name}{suffix}" for name in short_names(inputs)]
    out.parent.mkdir(parents=True, exist_ok=True)
    return [out]


def is_folder(inputs: Sequence[Input], out: Path) -> bool:
    """Whether ``out`` is a folder for files of its own.

    Raises:
        GemError: It is named like a file, and there are several recordings.
    """
    if len(inputs) > 1 and out.suffix and not out.is_dir():
        raise GemError(f"expected a folder for {len(inputs)} recordings, got {out}; name one without {out.suffix}")
    return out.is_dir() or not out.suffix


def short_names(inputs: Sequence[Input]) -> list[str]:
    """A short name for each recording, no two alike; those of one name in several folders are numbered."""
    from gem_lightning.ecg.listing import short_names as without_suffixes

    files = list(dict.fromkeys(Path(one.stem) for one in inputs))
    short = dict(zip(files, without_suffixes(files), strict=True))
    names = [short[Path(one.stem)] for one in inputs]
    total, met = Counter(names), Counter[str]()
    used = {name for name in names if total[name] == 1}
    for i, name in enumerate(names):
        if total[name] > 1:
            while names[i] in used or names[i] == name:  # `a-1` may be a file's own name
                met[name] += 1
                names[i] = f"{name}-{met[name]}"
            used.add(names[i])
    return names


def check(args: argparse.Namespace) -> None:
    """Check every claim of a text against recordings.

    Raises:
        SystemExit: With 1 where a claim is contradicted, with 3 where nothing could be checked, or with ``--strict``
            where clinical content was not read.
    """
    from gem_lightning.reporting.measured import measured

    if args.text == STDIN and STDIN in args.files:
        raise GemError("expected one of file and text from standard input, got both; name the file")
    text = sys.stdin.read() if args.text == STDIN else args.text
    if args.text != STDIN and Path(text).is_file():
        warn(f"{text!r} is checked as a text; for the content of that file: gem-lightning check FILE - < {text}")
    inputs = find_inputs(args.files)
    failures, codes = Failures(len(inputs), "checked"), []

    def judge(one: Input, record: EcgRecord) -> None:
        codes.append(_check_one(args, one.name, text, measured(record), len(inputs) > 1))

    for_each(args, inputs, failures, judge)
    if outcome.CONTRADICTED in codes:
        raise SystemExit(outcome.CONTRADICTED)
    failures.end()
    if outcome.NOTHING_CHECKED in codes:
        raise SystemExit(outcome.NOTHING_CHECKED)


def _check_one(args: argparse.Namespace, name: str, text: str, found: Interpretation, several: bool) -> int:
    """Print the verdicts on one recording; return its exit code."""
    from gem_lightning.claims.report import CONTRADICTED, SUPPORTED
    from gem_lightning.claims.verify import verify
    from gem_lightning.reporting.measured import facts

    if found.quality.refused:
        warn(f"{name}: {found.quality.refused}")
        if args.json:
            print_json({**facts(name, found), "text": text, "verdicts": []})
        return outcome.NOTHING_CHECKED
    report = verify(text, found.features, findings=found.findings)
    if args.json:
        print_json({**facts(name, found), **report.to_dict()})
    else:
        print((f"{name}\n" if several else "") + report.to_terminal())
    unread = _report_unread(report, text)
    if report.count(CONTRADICTED):
        return outcome.CONTRADICTED
    if not report.count(SUPPORTED):
        warn("the text makes no statement that could be checked")
    return outcome.NOTHING_CHECKED if not report.count(SUPPORTED) or (args.strict and unread) else 0


def _report_unread(report: ClaimReport, text: str) -> list[str]:
    """Name what was not read on standard error; return the clinical parts."""
    unread = [text[start:end] for start, end in report.unread_clinical]
    if report.languages:
        warn(f"only English is read; the text is in part in {', '.join(report.languages)}")
    if unread:
        warn(f"clinical content that was not checked: {'; '.join(unread)}")
    return unread
