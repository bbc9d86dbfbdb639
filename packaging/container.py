"""Run the steps of the Dockerfile on this machine, where no container engine is: ``python packaging/container.py``.

The build stage's RUN lines run in a temporary folder, with the locked packages of the ordinary index. Then the image's
command starts as the image's user id, without rights and, where the system allows it, in a network of its own that has
only the loopback address; the image's own health check and one interpretation have to succeed. Needs root.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 300  # that a busy machine may take to start the server
INSTALLED = "/opt/gem"  # the Dockerfile's virtual environment


def instructions() -> list[tuple[str, str]]:
    """(instruction, argument) of the Dockerfile, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]  # type: ignore


def build(steps: list[tuple[str, str]], folder: Path) -> None:
    """Copy and run what the build stage does; ``/opt/gem`` lies in ``folder``, PyTorch is the index's own."""
    arguments = {"PYTHON": sys.executable}
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # its python and uv
    for name, argument in steps:
        if name == "ARG":
            key, _, value = argument.partition("=")
            arguments.setdefault(key, value)
        elif name == "COPY" and "--from" not in argument:
            *sources, target = argument.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                    shutil.copytree(ROOT / source, folder / "build" / target, ignore=ignored, dirs_exist_ok=True)
                else:
                    shutil.copy(ROOT / source, folder / "build" / target)
        elif name == "RUN" and "useradd" not in argument:
            line = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], argument)
            line = line.replace(INSTALLED, str(folder / "gem")).replace("--no-cache ", "")
            line = re.sub(r"--torch-backend \"\w+\"", "", line)
            line = re.sub(r"python -m pip install [^&]*&&", "", line)  # uv: the environment of this script has it
            line = line.replace("python -m venv", f"uv venv --quiet --python {interpreter()}")
            subprocess.run(["bash", "-euc", line], cwd=folder / "build", env=os.environ | path, check=True)


def interpreter() -> str:
    """A Python that the image's user may run; one in root's home is none."""
    user = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups"]
    for one in ("/usr/bin/python3", os.path.realpath(sys.executable)):
        if subprocess.run([*user, one, "-c", ""], capture_output=True).returncode == 0:
            return one
    raise SystemExit("expected a Python that every user may run, got none; install python3")


def run(steps: list[tuple[str, str]], folder: Path) -> None:
    """Start the image's command as its user and ask its health check; then interpret without a network."""
    last = max(index for index, (name, _) in enumerate(steps) if name == "FROM")
    stage = steps[last:]
    variables = dict(pair.split("=", 1) for name, argument in stage if name == "ENV" for pair in argument.split())
    (user,) = [argument for name, argument in stage if name == "USER"]
    command = json.loads(next(argument for name, argument in stage if name == "CMD"))
    check = json.loads(next(argument for name, argument in stage if name == "HEALTHCHECK").partition("CMD ")[2])
    home = folder / "home"
    home.mkdir()
    os.chown(home, int(user), int(user))
    folder.chmod(0o755)
    environment = variables | {"PATH": f"{folder / 'gem' / 'bin'}:{os.environ['PATH']}", "HOME": str(home)}
    environment["NUMBA_CACHE_DIR"] = str(home / "numba")
    code = (
        "import subprocess, sys, time\n"
        "subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=False)\n"
        f"user = ['setpriv', '--reuid={user}', '--regid={user}', '--clear-groups', '--no-new-privs']\n"
        f"server = subprocess.Popen([*user, *{command!r}])\n"
        f"end = time.monotonic() + {SECONDS}\n"
        f"while subprocess.run([*user, *{check!r}], stderr=subprocess.DEVNULL).returncode:\n"
        "    assert server.poll() is None and time.monotonic() < end, 'the server did not start'\n"
        "    time.sleep(2)\n"
        "server.terminate()\n"
        f"subprocess.run([*user, 'gem-lightning', 'interpret', {str(example(folder))!r}], check=True)\n"
    )
    alone = [] if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode else ["unshare", "-n"]
    sys.stdout.write(f"==> as user {user}, {'without a network' if alone else 'with the network of this machine'}\n")
    sys.stdout.flush()
    subprocess.run([*alone, sys.executable, "-c", code], cwd=home, env=environment, check=True)


def example(folder: Path) -> Path:
    """The real ECG that pydicom ships, as a file that every user may read."""
    source = next((folder / "gem").rglob("waveform_ecg.dcm"))
    return Path(shutil.copy(source, folder / "ecg.dcm"))


def main() -> None:
    """Build, then run."""
    if os.geteuid() != 0:
        raise SystemExit("expected root, to start a command as the image's user; use docker instead")
    steps, began = instructions(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "build").mkdir()
        build(steps, folder)
        sys.stdout.write(f"==> built in {time.monotonic() - began:.0f} s\n")
        run(steps, folder)
    sys.stdout.write("==> every step of the Dockerfile passed\n")


if __name__ == "__main__":
    main()
