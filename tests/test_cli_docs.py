"""Every command line of docs/command_line.md and docs/agents.md, and of an agent in tutorials/serve_and_agent.md."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gem_lightning.cli import main, parser
from gem_lightning.cli.table import table_schema
from helpers_docs import DOCS, prepare, run_line

TUTORIAL = "tutorials/serve_and_agent.md"


def blocks(page, language):
    """The code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def lines(page):
    """The command lines of a page, with the comments that state exit codes."""
    return [line for block in blocks(page, "bash") for line in block.splitlines() if "gem-lightning " in line]


def commands():
    """Those that end by themselves; a model's take seconds each."""
    for line in lines("command_line.md"):
        yield pytest.param(
            line, marks=[pytest.mark.slow] if re.search(" interpret | digitize ", line) else [], id=line[:60]
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the pages name."""
    return prepare(tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize("line", commands())
def test_a_line_of_the_page(line, place, monkeypatch):
    monkeypatch.chdir(place)
    code, out = run_line(line)
    stated = re.search(r"# exit code (\d+)", line)
    assert code == (int(stated[1]) if stated else 0), out
    assert out or code in (2, 3)
    words = shlex.split(line, comments=True)
    if "-o" in words:
        assert Path(words[words.index("-o") + 1]).exists()
    if "--json" in words:
        assert all(
            {"file", "version", "quality", "refused", "findings"} <= set(json.loads(row)) for row in out.splitlines()
        )


def test_the_page_names_every_command_and_every_example_of_the_help():
    page = (DOCS / "command_line.md").read_text(encoding="utf-8")
    named = {one.__name__.lstrip("_") for one in parser.COMMANDS}
    assert {name for name in named if f"gem-lightning {name} " in page} == named
    assert f"{len(table_schema())} columns" in page
    examples = re.findall(r"^  (gem-lightning .*?)  ", parser.build_parser().format_help(), re.MULTILINE)
    assert len(examples) == 5
    opening = blocks("command_line.md", "bash")[0]
    assert [re.split(" {2,}", line)[0] for line in opening.splitlines()] == examples


def test_servers_of_the_agents_page_start(place, monkeypatch):
    monkeypatch.chdir(place)
    served = []
    monkeypatch.setattr("gem_lightning.serving.mcp.serve", lambda server, http: served.append((server.name, http)))
    starts = [*lines("agents.md"), *lines(TUTORIAL)]
    for page in ("agents.md", TUTORIAL):
        (entry,) = json.loads(blocks(page, "json")[0])["mcpServers"].values()
        assert Path(entry["args"][-1]).is_absolute()  # clients start it anywhere
        starts.append(shlex.join([entry["command"], *entry["args"][:-1], str(place / "folder")]))
    for line in starts:
        main(shlex.split(line, comments=True)[1:])
    assert served == [("gem-lightning", http) for http in (None, "127.0.0.1:8765", None, None, None)]


@pytest.mark.slow
def test_the_script_of_the_agents_page(place, tmp_path):
    command = tmp_path / "gem-lightning"
    paths = os.pathsep.join(path for path in sys.path if path)
    command.write_text(f"#!/bin/sh\nPYTHONPATH='{paths}' exec '{sys.executable}' -m gem_lightning.cli \"$@\"\n")
    command.chmod(0o755)
    (script,) = blocks("agents.md", "python")
    searched = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=place, env=searched, capture_output=True, text=True, check=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["supported", "contradicted"]
