"""List the licences of everything that gem-lightning installs, extras included: ``python packaging/licences.py [OUT]``.

The packages are those of the environment that the script runs in, reached from gem-lightning's own requirements; its
tools (extra ``dev``) are not distributed with it and left out. :func:`refused` is what a test requires to be empty.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|MPL|EPL|EUPL|CDDL|SSPL|GNU|Mozilla Public|Eclipse Public)", re.IGNORECASE)
#: Copyleft licences that are accepted, and why.
ACCEPTED = {
    "certifi": "MPL-2.0, per file: a list of root certificates, used unchanged",
    "shtab": "MPL-2.0, per file: writes shell completion scripts, used unchanged",
    "tqdm": "MPL-2.0 and MIT, per file: progress bars, used unchanged",
}


def canonical(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(name: str) -> str:
    """The licence that an installed package states: its SPDX expression, else its classifiers, else the first line."""
    found = metadata.metadata(name)
    if found.get("License-Expression"):
        return str(found["License-Expression"])
    classifiers = [line.split(" :: ")[-1] for line in found.get_all("Classifier", []) if line.startswith("License ::")]
    specific = [line for line in classifiers if line != "OSI Approved"]
    if specific:
        return ", ".join(sorted(set(specific)))
    text = (found.get("License") or "").strip()
    return text.splitlines()[0][:60] if text else "not stated"


def reached() -> dict[str, str]:
    """Name → licence of every installed package that gem-lightning and its extras require, sorted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "dev"}
    waiting = [Requirement(line) for some in (project["dependencies"], *extras.values()) for line in some]
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while waiting:
        one = waiting.pop()
        name = canonical(one.name)
        for extra in sorted(one.extras | {""}):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                found[name] = licence(name)
                required = metadata.requires(name) or []
            except metadata.PackageNotFoundError:  # of another platform, or an extra that is not installed
                continue
            parts = map(Requirement, required)
            waiting += [part for part in parts if part.marker is None or part.marker.evaluate({"extra": extra})]
    return dict(sorted(found.items()))


def refused(found: dict[str, str]) -> dict[str, str]:
    """The packages under a copyleft licence that :data:`ACCEPTED` does not name."""
    return {name: text for name, text in found.items() if COPYLEFT.search(text) and name not in ACCEPTED}


def table(found: dict[str, str]) -> str:
    """Markdown of the list."""
    rows = [f"| {name} | {metadata.version(name)} | {text} |" for name, text in found.items()]
    return "\n".join(["| package | version | licence |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    text = table(reached())
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    sys.exit(1 if refused(reached()) else 0)
