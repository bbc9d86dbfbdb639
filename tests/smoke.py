"""Smoke test of an installed wheel, away from the repository: ``python smoke.py [EXTRA ...]``.

It needs nothing but the distribution under test, gem-lightning or gem-ecg, and reports what ran. With the names of
extras it also imports every library that they install, and the module of ours that uses them.
"""

from __future__ import annotations

import importlib
import importlib.metadata as metadata
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import gem_lightning as gl
from gem_lightning.errors import LightInstallError

FULL = find_spec("torch") is not None
DISTRIBUTION = "gem-lightning" if FULL else "gem-ecg"
PROGRAM = str(Path(sys.executable).parent / "gem-lightning")
#: Extra -> our module that imports its libraries.
USERS = {
    "serve": "gem_lightning.serving.api",
    "mcp": "gem_lightning.serving.mcp",
    "stream": "gem_lightning.data.shards",
    "teacher": "gem_lightning.llm.client",
    "ray": "gem_lightning.jobs.engines",
}


def run(*command: str, code: int = 0) -> str:
    """Run a command; its output, standard error included."""
    done = subprocess.run(command, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert done.returncode == code, f"{' '.join(command)} ended with {done.returncode}:\n{output[-3000:]}"
    return output


def version() -> None:
    """Metadata, package and program state one version."""
    assert "site-packages" in gl.__file__, f"expected the installed wheel, got {gl.__file__}"
    assert metadata.version(DISTRIBUTION) == gl.__version__
    assert run(PROGRAM, "--version").split() == ["gem-lightning", gl.__version__]


def library() -> None:
    """The lines of the README that need no torch, which is not imported."""
    drawn = gl.simulate("lbbb", seed=1)
    gl.write_wfdb(drawn.record, "ecg")
    features = gl.measure(gl.read_ecg("ecg.hea"))
    assert abs(features.qrs_ms - drawn.parameters["qrs_ms"]) < 20
    assert "lbbb" in [found.code for found in gl.findings(features)]
    page = gl.EcgRenderer(layout="3x4+1", size=(850, 1100))(gl.read_ecg("ecg.hea")).image
    assert page.shape == (850, 1100, 3) and page.dtype == np.uint8 and page.std() > 5
    assert gl.verify(gl.compose(features, seed=0), features).precision == 1
    assert gl.verify("PR 400 ms", features).verdicts[0].verdict == "contradicted"
    assert "torch" not in sys.modules


def commands() -> None:
    """The program measures, draws and verifies, and reports exit codes."""
    assert "QRS" in run(PROGRAM, "measure", "ecg.hea")
    run(PROGRAM, "measure", "ecg.hea", "-o", "table.parquet")
    run(PROGRAM, "render", "ecg.hea", "-o", "ecg.png")
    run(PROGRAM, "convert", "ecg.hea", "--to", "dicom", "-o", "out/")
    run(PROGRAM, "check", "ecg.hea", "PR 400 ms", code=1)
    assert Path("ecg.png").stat().st_size > 10_000 and Path("out/ecg.dcm").is_file()


def networks() -> None:
    """The shipped model interprets, a page is digitised, and a model of every part at tiny size trains."""
    found = gl.Gem.from_pretrained("gem_small").interpret("ecg.hea")
    assert found.text and found.claims.verdicts
    assert gl.digitize("ecg.png").record.signal.shape[0] == 12
    for name in ("train", "evaluate", "predict", "generate", "serve"):
        run(sys.executable, "-m", f"gem_lightning.{name}", "--help")
    run(sys.executable, "-m", "gem_lightning.train", "experiment=gem_tiny", "trainer.max_steps=2", "check_memory=false")
    assert Path("outputs/gem_tiny/model/model.safetensors").is_file()


def no_networks() -> None:
    """Where torch would be needed, one error states what to install."""
    for use in (lambda: gl.Gem, lambda: gl.digitize("ecg.png")):
        try:
            use()
        except LightInstallError as error:
            assert "pip install gem-lightning" in str(error)
        else:
            raise AssertionError("expected a LightInstallError")
    for command in (("digitize", "ecg.png", "-o", "x.dcm"), ("interpret", "ecg.hea"), ("measure", "ecg.png")):
        assert "pip install gem-lightning" in run(PROGRAM, *command, code=2)
    for arguments in (("train", "experiment=gem_tiny"), ("predict", "record=ecg.hea"), ("serve",)):
        printed = run(sys.executable, "-m", f"gem_lightning.{arguments[0]}", *arguments[1:], code=2)
        assert "pip install gem-lightning" in printed


def extra(name: str) -> None:
    """Import what an extra installs, and our module that uses it."""
    marked = re.compile(rf"extra == [\"']{name}[\"']")
    required = [line for line in metadata.requires(DISTRIBUTION) or () if marked.search(line)]
    assert required, f"{DISTRIBUTION} has no extra {name!r}"
    wanted = {re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0].lower() for line in required}
    modules = [m for m, homes in metadata.packages_distributions().items() if wanted & {home.lower() for home in homes}]
    for module in modules:
        if module.isidentifier() and not module.startswith("_"):
            importlib.import_module(module)
    if name in USERS:
        importlib.import_module(USERS[name])


def main() -> None:
    """Run every step in an empty folder; the first that fails ends the process."""
    parts = [version, library, commands, networks if FULL else no_networks]
    steps = [(part.__name__, part) for part in parts]
    steps += [(f"extra {name}", lambda name=name: extra(name)) for name in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, step in steps:
            start = time.perf_counter()
            step()
            sys.stdout.write(f"{name}: passed, {time.perf_counter() - start:.1f} s\n")
        os.chdir("/")
    sys.stdout.write(f"{DISTRIBUTION} {gl.__version__} on Python {sys.version.split()[0]}: {len(steps)} steps passed\n")


if __name__ == "__main__":
    main()
