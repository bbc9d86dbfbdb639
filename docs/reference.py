"""MkDocs hook: the reference, a page for each public module, from the same list as ``docs/api.md``.

Each name is documented once, where it is imported from first; other modules that export it link there. The text is the
code's own docstrings, which mkdocstrings reads without importing the package.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))

import api_page

GROUPS = {
    "Signals": ("ecg", "digitizer", "render"),
    "Measurements and text": ("features", "claims", "composition", "grounding", "revision", "reporting"),
    "Data": ("sources", "samples", "generation", "llm", "data", "jobs"),
    "Networks": ("models",),
    "Training": ("lit", "rl"),
    "Evaluation and serving": ("evaluation", "serving", "config"),
}
OTHER = "Everything else"


def homes() -> dict[str, dict[str, str]]:
    """Module -> public name -> full path of what it is."""
    found: dict[str, dict[str, str]] = {}
    for module, names in api_page.public_modules().items():
        found[module] = {}
        for name in sorted(names, key=str.lower):
            home, node = api_page.locate(module, name)
            found[module][name] = home if node is None else f"{home}.{original(home, name, node)}"
    return found


def original(home: str, name: str, node: Any) -> str:
    """Name of a definition in its own module, which an import may have renamed."""
    bound = api_page.bound(node)
    return name if name in bound or not bound else sorted(bound)[0]


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown of every page of the reference."""
    documented: dict[str, str] = {}
    paths = homes()
    result = {}
    for module in sorted(paths, key=lambda m: (m == "gem_lightning", m.count("."), m)):  # the top level only links
        title = module.removeprefix("gem_lightning.")
        parts = [f"# `{module}`\n", f"{api_page.summary(api_page.tree(module))}\n"]
        links = [f"- {link(name, path)}" for name, path in paths[module].items() if path in documented]
        for name, path in paths[module].items():
            if path not in documented:
                documented[path] = module
                parts.append(f"::: {path}\n    options:\n      heading: {name}\n      toc_label: {name}\n")
        if links:
            parts.insert(2, "Also here, documented where they are defined:\n\n" + "\n".join(links) + "\n")
        result[f"reference/{title}.md"] = "\n".join(parts)
    result["reference/index.md"] = index(paths)
    return result


def link(name: str, path: str) -> str:
    """A name with a link to its documentation."""
    return f"[`{name}`][{path}]"


def index(paths: dict[str, dict[str, str]]) -> str:
    """The first page: modules by subject, each with its names."""
    parts = ["# Reference\n", "Every public name, grouped as one imports them. What is not here may change."]
    parts.append("The same as one page of signatures: [Public names](../api.md).\n")
    for group, modules in grouped(paths).items():
        parts.append(f"## {group}\n")
        for module in modules:
            names = ", ".join(link(name, path) for name, path in paths[module].items())
            parts.append(f"- [`{module}`]({module.removeprefix('gem_lightning.')}.md)  \n    {names}")
        parts.append("")
    return "\n".join(parts)


def grouped(paths: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """Group -> modules, in the order of the layers."""
    found: dict[str, list[str]] = defaultdict(list)
    found["The package"] = ["gem_lightning"]
    for group, rooms in GROUPS.items():
        found[group] = [m for room in rooms for m in sorted(paths) if m.split(".")[1:2] == [room]]
    known = {module for modules in found.values() for module in modules}
    found[OTHER] = sorted(paths.keys() - known)
    return {group: modules for group, modules in found.items() if modules}


def on_config(config: Any) -> Any:
    """Put the pages into the navigation, under the section that mkdocs.yml calls Reference."""
    section = next(part["Reference"] for part in config.nav if isinstance(part, dict) and "Reference" in part)
    for group, modules in grouped(api_page.public_modules()).items():  # type: ignore[arg-type]
        files = [{module: f"reference/{module.removeprefix('gem_lightning.')}.md"} for module in modules]
        section.append({group: files} if len(files) > 1 else files[0])
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Show Sphinx roles of docstrings, such as :func:`measure`, as code."""
    if not page.file.src_uri.startswith("reference/"):
        return html
    return re.sub(r":(?:class|func|data|mod|meth|attr|exc):<code>~?\.?", "<code>", html)
