"""Write the page of public names ``docs/api.md`` and compare them with the last release.

    python docs/api_page.py            write the page
    python docs/api_page.py --check    exit with 1 where the page is out of date, or where a name differs from the last
                                       release and no newer section of the changelog states it
    python docs/api_page.py --freeze   store the names as those of the current version: the last step before a tag

Public is what the ``__all__`` of a package or module lists. All is read from the source; no package is imported.
"""

from __future__ import annotations

import ast
import contextlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PAGE = ROOT / "docs" / "api.md"
RELEASED = ROOT / "tests" / "golden" / "public_api.txt"
CHANGELOG = ROOT / "CHANGELOG.md"
#: Their ``__all__`` states what other parts of the library may import.
INTERNAL = {"gem_lightning.cli", "gem_lightning.models.compat"}
HEAD = """# Public names

Names that you may rely on, grouped as you import them. What is not here may change in any version. The page is made
from the code by `make docs`; where a signature here changes, `make check` asks for a line in `CHANGELOG.md`.
"""


@dataclass
class Entry:
    """One public name: its signature, the first sentence of its docstring, and the members of a class."""

    name: str
    signature: str = ""
    summary: str = ""
    members: list[Entry] = field(default_factory=list)


@cache
def tree(module: str) -> ast.Module:
    """Syntax tree of a module or package."""
    path = SOURCE / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def is_module(name: str) -> bool:
    """Whether a dotted name is a module or package of the library."""
    path = SOURCE / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


@cache
def constants(module: str) -> dict[str, object]:
    """Values of a module's assignments that need no import: ``__all__`` and tables of lazy names."""
    names: dict[str, object] = {}
    for node in tree(module).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            with contextlib.suppress(NameError):  # a value that needs an import is no table of names
                exec(
                    compile(ast.Module([node], []), module, "exec"), {"__builtins__": {"sorted": sorted}} | names, names
                )
    return names


def public_modules() -> dict[str, list[str]]:
    """Public names of every package and module that defines ``__all__``, the top of the library first."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if "\n__all__" in path.read_text(encoding="utf-8") and module not in INTERNAL:
            found[module] = list(constants(module)["__all__"])  # type: ignore[call-overload]
    return dict(sorted(found.items()))


def statements(module: str) -> Iterator[ast.stmt]:
    """Top-level statements of a module, those under ``if TYPE_CHECKING`` included."""
    for node in tree(module).body:
        yield from node.body if isinstance(node, ast.If) else [node]


def locate(module: str, name: str) -> tuple[str, ast.AST | None]:
    """Module and node that define a public name, through imports and tables of lazy names; None for a module.

    Raises:
        LookupError: The module neither defines nor imports it.
    """
    for node in statements(module):
        if name in bound(node):
            return module, node
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gem_lightning"):
            original = next((alias.name for alias in node.names if (alias.asname or alias.name) == name), None)
            if original:
                return imported(module, str(node.module), original)
    for value in constants(module).values():
        if isinstance(value, dict) and isinstance(value.get(name), str):
            homes = (f"{module}.{value[name]}", f"gem_lightning.{value[name]}", value[name])
            return locate(next(home for home in homes if is_module(home)), name)
    raise LookupError(f"expected {module} to define or import {name!r}")


def imported(module: str, source: str, name: str) -> tuple[str, ast.AST | None]:
    """Module and node of ``from source import name``: what the source binds, else its module of that name."""
    if source != module:  # a package imports its own modules
        with contextlib.suppress(LookupError):
            return locate(source, name)
    if is_module(f"{source}.{name}"):
        return f"{source}.{name}", None
    raise LookupError(f"expected {source} to define or import {name!r}")


def bound(node: ast.AST) -> set[str]:
    """Names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def summary(node: ast.AST) -> str:
    """First paragraph of a docstring, in Markdown."""
    documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
    text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split()) if documented else ""
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def call(node: ast.FunctionDef | ast.AsyncFunctionDef, bound_first: bool = False) -> str:
    """Arguments and result of a function; of a method without ``self``."""
    arguments = ast.unparse(node.args)
    if bound_first:
        arguments = re.sub(r"^\w+(, /)?(, |$)", "", arguments)
    return f"({arguments})" + (f" -> {ast.unparse(node.returns)}" if node.returns else "")


def lineage(module: str, node: ast.ClassDef) -> list[tuple[str, ast.ClassDef]]:
    """A class and its bases within the library, the class last."""
    chain = []
    for base in node.bases:
        with contextlib.suppress(LookupError):
            home, found = locate(module, ast.unparse(base).split("[")[0])
            if isinstance(found, ast.ClassDef):
                chain += lineage(home, found)
    return [*chain, (module, node)]


def decorators(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Names of a definition's decorators, without arguments."""
    return {ast.unparse(d).split("(")[0].split(".")[-1] for d in node.decorator_list}


def construction(module: str, node: ast.ClassDef) -> str:
    """Arguments of ``__init__``, or a data class's fields; empty where both come from another library."""
    fields: dict[str, str] = {}
    signature = ""
    for _, part in lineage(module, node):
        own = next((f for f in part.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
        if own:
            signature = call(own, bound_first=True).split(" -> ")[0]
        elif decorators(part) & {"dataclass"} or "NamedTuple" in map(ast.unparse, part.bases):
            fields |= data_fields(part)
            signature = f"({', '.join(fields.values())})"
    return signature


def data_fields(node: ast.ClassDef) -> dict[str, str]:
    """Fields of a data class that are arguments, as ``name: type = default``; a made default is ``...``."""
    found = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            text = ast.unparse(item)
            if "ClassVar" not in text and "init=False" not in text:
                found[item.target.id] = re.sub(r" = field\(.*default.*\)$", " = ...", text)
    return found


def members(module: str, node: ast.ClassDef) -> list[Entry]:
    """Public methods and properties of a class, those of its bases within the library included."""
    found: dict[str, Entry] = {}
    for _, part in lineage(module, node):
        for item in part.body:
            if not isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            kinds = decorators(item)
            if "setter" in kinds or (item.name.startswith("_") and item.name != "__call__"):
                continue
            if kinds & {"property", "cached_property"}:
                signature = f": {ast.unparse(item.returns)}" if item.returns else ""
            else:
                signature = call(item, bound_first="staticmethod" not in kinds)
            found[item.name] = Entry(item.name, signature, summary(item))
    return list(found.values())


def entry(module: str, name: str) -> Entry:
    """What the page states of one public name."""
    home, node = locate(module, name)
    if module == "gem_lightning":  # a short way to a name of a package below, where its signature stands
        return Entry(name, "", summary(node) if node else "")
    if node is None:
        return Entry(name, "", summary(tree(home)))
    if isinstance(node, ast.ClassDef):
        return Entry(name, construction(home, node), summary(node), members(home, node))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return Entry(name, call(node), summary(node))
    annotation = f": {ast.unparse(node.annotation)}" if isinstance(node, ast.AnnAssign) else ""
    return Entry(name, annotation, "")


def page() -> str:
    """Markdown of all public names."""
    parts = [HEAD]
    for module, names in public_modules().items():
        rows = [f"## `{module}`\n", f"{summary(tree(module))}\n"]
        for item in (entry(module, name) for name in sorted(names, key=str.lower)):
            constant = item.signature.startswith(":")
            rows.append(f"- **`{item.name}{item.signature if constant else ''}`** {item.summary}".rstrip())
            rows[-1] += f"  \n  `{item.signature}`" if item.signature and not constant else ""
            rows += [f"    - `.{m.name}{m.signature}`" + (f" {m.summary}" if m.summary else "") for m in item.members]
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def signatures() -> dict[str, str]:
    """Signature of every public name and member: ``gem_lightning.ecg.read_ecg`` -> ``(path_or_bytes: ...)``."""
    found = {}
    for module, names in public_modules().items():
        for item in (entry(module, name) for name in names):
            found[f"{module}.{item.name}"] = item.signature
            found |= {f"{module}.{item.name}.{m.name}": m.signature for m in item.members}
    return dict(sorted(found.items()))


def released() -> tuple[str, dict[str, str]]:
    """Version of the last release, and its signatures."""
    first, *lines = RELEASED.read_text(encoding="utf-8").splitlines()
    return first.split()[-1], dict(line.split("\t") for line in lines)


def changes(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Names that appeared, went or changed; a class that appeared or went stands for its members."""
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    whole = {name for name in changed if (name in old) != (name in new)}
    return [name for name in changed if name.rpartition(".")[0] not in whole]


def unstated(changed: list[str], version: str, changelog: str) -> Iterator[str]:
    """Changed names that no changelog section above the released version's has in backticks, each once."""
    newer = re.split(rf"^## \[?{re.escape(version)}\b", changelog, maxsplit=1, flags=re.MULTILINE)[0]
    for short in dict.fromkeys(short_name(name) for name in changed):
        if not re.search(rf"`[^`\n]*(?<!\w){re.escape(short)}(?!\w)[^`\n]*`", newer):
            yield short


def short_name(name: str) -> str:
    """A public name without its modules: ``read_ecg``, ``Gem.interpret``."""
    module = max((m for m in public_modules() if name.startswith(f"{m}.")), key=len, default="gem_lightning")
    return name.removeprefix(f"{module}.")


def main() -> int:
    """Write, check or freeze."""
    if "--freeze" in sys.argv:
        version = constants("gem_lightning")["__version__"]
        lines = [f"gem-lightning {version}", *(f"{name}\t{signature}" for name, signature in signatures().items())]
        RELEASED.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    stale = PAGE.read_text(encoding="utf-8") != page()
    if stale:
        sys.stdout.write("docs/api.md: out of date; run: make docs\n")
    version, old = released()
    missing = list(unstated(changes(old, signatures()), version, CHANGELOG.read_text(encoding="utf-8")))
    for name in missing:
        sys.stdout.write(f"CHANGELOG.md: `{name}` differs from {version}; add a line with it to Unreleased\n")
    return int(stale or bool(missing))


if __name__ == "__main__":
    raise SystemExit(main())
