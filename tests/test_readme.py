"""Every block and every command of the README runs; entry points at sizes that a test can afford."""

import re
import shutil

import pytest

from helpers_docs import ROOT, blocks, prepare, run_block, run_line

README = ROOT / "README.md"
#: Overrides of the entry points.
SMALL = {
    "train": "trainer.max_steps=2 data.train.n=22 data.val.n=11 data.batch_size=4 data.num_workers=0 "
    "validate_first=false callbacks.samples=null",
    "evaluate": "benchmark.n=2 benchmark.pairs=0 benchmark.draws=20 max_new_tokens=8",
    "predict": "max_new_tokens=8 workers=0",
    "generate": "workers=1 splits.val=0 splits.test=0",
    "serve": "",
}


def commands():
    """The commands of the table, each once, with the exit code that its row states."""
    found = {}
    for row in re.findall(r"^\|.*\|$", README.read_text(encoding="utf-8"), flags=re.MULTILINE):
        stated = re.search(r"exit code (\d)", row)
        for line in re.findall(r"`((?:gem-lightning|python -m) [^`]+)`", row):
            found[line] = int(stated[1]) if stated else 0
    return found.items()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files that the README names."""
    return prepare(tmp_path_factory.mktemp("readme"))


@pytest.fixture
def place(files, tmp_path, monkeypatch):
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_is_short_and_names_every_entry_point():
    text = " ".join(line for line, _ in commands())
    assert set(re.findall(r"gem_lightning\.(\w+)", text)) == set(SMALL)
    assert 12 <= len(commands()) <= 16
    assert README.read_text(encoding="utf-8").count("\n") < 110  # one page


def test_what_is_not_run_says_why():
    for block in blocks(README):
        assert block.runs_here or len(block.marks["not run"]) > 20
    for path in re.findall(r"\]\((?!http)([^)#]+)", README.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


@pytest.mark.slow
def test_the_python_block(place, capsys):
    (block,) = [block for block in blocks(README) if block.language == "python"]
    printed = run_block(block, {"__name__": "readme"})
    assert "normal PR interval" in printed and "contradicted" in printed


@pytest.mark.slow
@pytest.mark.parametrize(("line", "code"), commands())
def test_a_command_of_the_table(line, code, place, monkeypatch):
    started = []
    monkeypatch.setattr("gem_lightning.serving.mcp.serve", lambda server, http: started.append(server.name))
    monkeypatch.setattr("uvicorn.run", lambda app, **options: started.append(app.title))
    module = re.match(r"python -m gem_lightning\.(\w+)", line)
    found, printed = run_line(f"{line} {SMALL[module[1]]}" if module else line)
    assert found == code, printed
    made = re.search(r" (?:-o |out=)(\S+)", line)
    assert (place / made[1]).exists() if made else printed or started
