"""Build ``gem-ecg``, the same package with the dependencies that need no torch: ``python packaging/gem_ecg.py [OUT]``.

Version, packages and data files are those of the one ``pyproject.toml``; its table ``tool.gem-ecg`` names the
dependencies and extras that stay. Source and wheel are built in a temporary copy.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SUMMARY = "12-lead ECGs: read, measure, draw and verify texts against the signal; gem-lightning without torch"
CARRIED = ("README.md", "LICENSE", "conf", "src")


def light_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the ``pyproject.toml`` of ``gem-ecg`` from that of ``gem-lightning``.

    Raises:
        SystemExit: ``tool.gem-ecg`` names a dependency or an extra that does not exist.
    """
    project, kept = dict(settings["project"]), settings["tool"]["gem-ecg"]
    ranges = {re.split(r"[<>=!~\[;]", one, maxsplit=1)[0].strip(): one for one in project["dependencies"]}
    unknown = [name for name in kept["dependencies"] if name not in ranges]
    unknown += [name for name in kept["extras"] if name not in project["optional-dependencies"]]
    if unknown:
        raise SystemExit(f"expected dependencies and extras of gem-lightning in tool.gem-ecg, got {unknown}")
    project |= {
        "name": "gem-ecg",
        "description": SUMMARY,
        "dependencies": [ranges[name] for name in kept["dependencies"]],
        "optional-dependencies": {name: project["optional-dependencies"][name] for name in kept["extras"]},
    }
    project.pop("entry-points", None)  # vLLM's plugin
    return {
        "build-system": settings["build-system"],
        "project": project,
        "tool": {"setuptools": settings["tool"]["setuptools"]},
    }


def to_toml(table: dict[str, Any], name: str = "") -> str:
    """Write tables of strings, booleans and lists as TOML, of which JSON's strings and lists are a part."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"[{name}]"] if name and plain else []
    lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in plain.items()]
    tables = [to_toml(value, ".".join(filter(None, (name, json.dumps(key))))) for key, value in table.items()
              if isinstance(value, dict)]  # fmt: skip
    return "\n".join([*lines, *tables])


def build(out: Path) -> None:
    """Build source distribution and wheel into ``out``."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in CARRIED:
            place = ROOT / name
            if place.is_dir():
                shutil.copytree(place, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(place, copy / name)
        (copy / "pyproject.toml").write_text(to_toml(light_settings(settings)), encoding="utf-8")
        command = [sys.executable, "-m", "build", "--installer", "uv", "--outdir", str(out.resolve()), str(copy)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist"))
