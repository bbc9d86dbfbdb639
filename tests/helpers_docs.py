"""The code blocks of the documentation and what runs them.

A comment directly above a block says how:

    <!-- not run: REASON -->      it is not run
    <!-- run: tests/FILE.py -->   that test runs it
    <!-- run with: KEY=VALUE -->  its ``python -m`` commands get these overrides too: sizes that a test can afford
    <!-- slow -->                 the page runs in the slow suite

A block with a title is a file, which is written. A ``text`` block directly below a block is its output: numbers may
differ, the rest may not, and a line of three dots stands for any lines; ``<!-- not compared: REASON -->`` omits it.

    python tests/helpers_docs.py docs/tutorials/PAGE.md    run a page and write the outputs into it
"""

from __future__ import annotations

import importlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np

from helpers_llm_server import LoopbackLLM

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ENDPOINT = "http://127.0.0.1:8001/v1"  # of the pages' language model
FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\s*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"(?:^<!-- (.+?) -->\n)+\Z", re.MULTILINE)


@dataclass
class Block:
    """One fenced block of a page, its marks, and the block that shows its output."""

    language: str
    title: str | None
    text: str
    line: int
    marks: dict[str, str]
    span: tuple[int, int]
    output: Block | None = field(default=None)

    @property
    def is_code(self) -> bool:
        return self.language in ("python", "bash")

    @property
    def runs_here(self) -> bool:
        return not self.marks.keys() & {"not run", "run"}

    @property
    def commands(self) -> list[str]:
        """Command lines of a bash block, each whole."""
        lines = self.text.replace("\\\n", " ").splitlines() if self.language == "bash" else []
        return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    """Every block of a page that is code, a file or an output."""
    text, found = page.read_text(encoding="utf-8"), []
    end = -1
    for fence in FENCE.finditer(text):
        above = MARK.search(text[: fence.start()])
        names = re.findall(r"<!-- (.+?) -->", above[0]) if above else []
        marks = {name.partition(": ")[0]: name.partition(": ")[2] for name in names}
        one = Block(fence[1], fence[2], fence[3], text.count("\n", 0, fence.start()) + 1, marks, fence.span(3))
        start = above.start() if above else fence.start()
        if one.language == "text" and found and not text[end:start].strip():
            found[-1].output = one
        else:
            found.append(one)
        end = fence.end()
    return found


def pages() -> list[Path]:
    """Every page of the documentation that is written by hand."""
    return sorted(page for page in DOCS.rglob("*.md") if page.name != "api.md" and "reference" not in page.parts)


def prepare(folder: Path) -> Path:
    """Fill a folder with the files that the pages name: simulated ECGs in several formats, a page of paper."""
    from gem_lightning.ecg import LEADS, EcgRecord, simulate, write_ecg, write_wfdb
    from gem_lightning.render import EcgRenderer

    (folder / "folder" / "deep").mkdir(parents=True)
    record = simulate("sinus", seed=1).record
    write_ecg(record, folder / "ecg.dcm")
    write_wfdb(record, folder / "ecg")
    write_ecg(record, folder / "ecg.csv")
    write_ecg(record, folder / "folder" / "one.dcm")
    write_wfdb(simulate("rbbb", seed=3).record, folder / "folder" / "deep" / "two")
    write_wfdb(EcgRecord(record.signal[:2], 500, LEADS[:2]), folder / "holter")
    write_ecg(EcgRecord(np.zeros((12, 5000), np.float32), 500, LEADS), folder / "flat.dcm")
    np.savetxt(folder / "bare.csv", record.signal.T, delimiter=",", fmt="%.4f")
    np.savetxt(folder / "three.csv", record.signal[[1, 6, 10]].T, delimiter=",", fmt="%.4f")
    for name in ("photo.png", "photo.jpg"):
        EcgRenderer(size=(1275, 1650)).save(record, folder / name)
    (folder / "broken.dcm").write_bytes(b"no DICOM")
    (folder / "report.txt").write_text("Sinus rhythm. No ST elevation.")
    return folder


class Output(io.TextIOWrapper):
    """A standard output whose content can be read."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", write_through=True)

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


def run_line(line: str) -> tuple[int, str]:
    """Run a line as a shell does, in this process and the current folder; return its exit code and output."""
    words = shlex.split(line, comments=True)
    given = b""
    if words[0] == "cat":
        given, words = Path(words[1]).read_bytes(), words[3:]
    if "<" in words:
        given = Path(words.pop(words.index("<") + 1)).read_bytes()
        words.remove("<")
    written = words.pop(words.index(">") + 1) if ">" in words else None
    words = [word for word in words if word != ">"]
    assert words[0] == "gem-lightning" or words[:2] == ["python", "-m"], f"expected a command of this library: {line}"
    module, words = ("gem_lightning.cli", words[1:]) if words[0] == "gem-lightning" else (words[2], words[3:])
    stdin = io.TextIOWrapper(io.BytesIO(given))
    collected = Output()
    environment = mock.patch.dict(os.environ)  # an entry point sets threads and Hydra's own variables
    with environment, mock.patch.multiple(sys, stdin=stdin, stdout=collected, argv=[module, *words]):
        try:
            importlib.import_module(module).main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    if written is not None:
        Path(written).write_text(collected.text)
    return code, collected.text


def run_block(block: Block, namespace: dict) -> str:
    """Run a block in the current folder; return what it prints."""
    if block.title:
        Path(block.title).parent.mkdir(parents=True, exist_ok=True)
        Path(block.title).write_text(block.text)
        return ""
    if block.language == "python":
        collected = Output()
        with mock.patch.object(sys, "stdout", collected):
            exec(compile(block.text, f"line {block.line}", "exec"), namespace)
        return collected.text
    printed = ""
    for line in block.commands:
        overrides = f" {block.marks.get('run with', '')}" if line.startswith("python -m") else ""
        body, _, comment = line.partition("  #")
        code, text = run_line(body + overrides)
        stated = re.search(r"exit code (\d+)", comment)
        assert code == (int(stated[1]) if stated else 0), f"{line}\nexit code {code}\n{text}"
        printed += text
    return printed


def teacher(request: dict, number: int) -> str:
    """A language model that quotes what it was given, and once another rate."""
    measured = dict(
        re.findall(
            r"(heart_rate_bpm|qrs_ms|qtc_fridericia_ms): (\d+)", " ".join(m["content"] for m in request["messages"])
        )
    )
    rate = 2 * int(measured["heart_rate_bpm"]) if number == 0 else measured["heart_rate_bpm"]
    sentences = [f"The heart rate is {rate} bpm.", f"The QRS duration is {measured['qrs_ms']} ms."]
    sentences += [f"The QTc is {measured['qtc_fridericia_ms']} ms."] if "qtc_fridericia_ms" in measured else []
    return " ".join(sentences)


def run_page(page: Path) -> Iterator[tuple[Block, str]]:
    """Run a page in the current folder, block by block, and yield each block with its output."""
    namespace: dict = {"__name__": "docs"}
    key, path = {"OPENAI_API_KEY": "none"}, [os.getcwd(), *sys.path]
    with LoopbackLLM(teacher) as server, mock.patch.object(sys, "path", path), mock.patch.dict(os.environ, key):
        for block in blocks(page):
            block.text = block.text.replace(ENDPOINT, server.base_url)
            if block.runs_here and (block.title or block.is_code):
                yield block, run_block(block, namespace)


def differs(stated: str, printed: str) -> str | None:
    """The first line of a stated output that is not in the printed one, in order; numbers may differ."""

    def plain(text: str) -> list[str]:
        return [" ".join(re.sub(r"[\d.,]*\d", "#", line).split()) for line in text.splitlines() if line.strip()]

    rest, skipping = plain(printed), False
    for line in plain(stated):
        if line == "...":
            skipping = True
            continue
        while skipping and rest and rest[0] != line:
            rest.pop(0)
        if not rest or rest.pop(0) != line:
            return line
        skipping = False
    return None if skipping or not rest else f"(end; printed goes on: {rest[0]})"


def main() -> None:
    """Run a page and write the outputs into it."""
    page = Path(sys.argv[1]).resolve()
    text = page.read_text(encoding="utf-8")
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(prepare(Path(folder)))
        for block, printed in list(run_page(page))[::-1]:
            sys.stderr.write(f"--- line {block.line}\n{printed}\n")
            if block.output is not None and "..." not in block.output.text.split():
                a, b = block.output.span
                lines = "\n".join(line.rstrip() for line in printed.replace(folder + "/", "").splitlines())
                text = f"{text[:a]}{lines.strip(chr(10))}\n{text[b:]}"
        os.chdir(home)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
