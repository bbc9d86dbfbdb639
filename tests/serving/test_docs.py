"""Commands and programs of docs/serving.md and tutorials/serve_and_agent.md, against a server as users start it."""

import json
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from gem_lightning.ecg import simulate, write_ecg, write_wfdb
from gem_lightning.render import EcgRenderer
from helpers_serving import DICOM

pytestmark = pytest.mark.slow  # a server of its own
DOCS = Path(__file__).parents[2] / "docs"
PAGE = "\n".join((DOCS / name).read_text(encoding="utf-8") for name in ("serving.md", "tutorials/serve_and_agent.md"))
HOME = "http://127.0.0.1:8000"


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


CURLS = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("curl ")]


@pytest.fixture(scope="module")
def server():
    """``python -m gem_lightning.serve`` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gem_lightning.serve", f"port={port}", "max_new_tokens=20"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            httpx.get(f"{url}/healthz")
            break
        except httpx.TransportError:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.1)
    yield url
    process.terminate()
    process.wait()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that the page names."""
    monkeypatch.chdir(tmp_path)
    record = simulate("sinus", seed=1).record
    Path("ecg.dcm").write_bytes(DICOM.read_bytes())
    write_wfdb(record, tmp_path / "r1")
    write_ecg(record, tmp_path / "ecg.csv")
    EcgRenderer(dpi=150).save(record, "page.png")
    return tmp_path


def test_the_page_has_its_commands():
    routes = ("measure", "interpret", "verify", "compare", "render", "convert", "digitize", "models")
    assert all(any(f"/v1/{route}" in line for line in CURLS) for route in routes)


@pytest.mark.parametrize("line", CURLS)
def test_a_command(server, folder, line):
    command = [*shlex.split(line.replace(HOME, server)), "--silent", "--show-error", "--fail-with-body"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if "-o" in command:
        assert Path(command[command.index("-o") + 1]).stat().st_size > 1000
    elif "stream=true" in line:
        assert b"event: done" in done.stdout
    elif not line.endswith("metrics"):
        assert "detail" not in json.loads(done.stdout)


def test_the_programs(server, folder, capsys):
    for program in blocks("python"):
        exec(compile(program.replace(HOME, server), "docs/serving.md", "exec"), {})
        if "print" in program:
            assert capsys.readouterr().out.strip()
