"""Write the index of modules into ``docs/architecture.md``: ``python docs/module_index.py [--check]``.

Each row is a module and the first line of its docstring, so that the page and the code state one thing.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gem_lightning"
PAGE = ROOT / "docs" / "architecture.md"
START, END = "<!-- modules: make docs -->\n", "<!-- end of modules -->\n"
ROOMS = (
    "", "cli", "config", "serving", "lit", "rl", "evaluation", "data", "models", "reporting", "generation", "sources",
    "samples", "llm", "claims", "composition", "render", "features", "ecg", "jobs", "grounding",
)  # fmt: skip


def summary(path: Path) -> str:
    """First line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def index() -> str:
    """Markdown of all rooms, highest layer first."""
    parts = []
    for room in ROOMS:
        folder = SOURCE / room
        pattern = "*.py" if not room else "**/*.py"
        modules = sorted(path for path in folder.glob(pattern) if path.name != "__init__.py")
        title = f"`{room}/`" if room else "Entry points"
        about = summary(folder / "__init__.py") if room else ""
        rows = [f"| `{path.relative_to(SOURCE).as_posix()}` | {summary(path)} |" for path in modules]
        head = [f"### {title}", "", *([about, ""] if about else [])]
        parts.append("\n".join([*head, "| module | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Rewrite the page, or with ``--check`` exit with 1 where it is out of date."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(START)
    after = rest.split(END)[1]
    new = f"{before}{START}\n{index()}\n{END}{after}"
    if "--check" in sys.argv:
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
