"""Check the house rules that no linter knows: cycles, sizes of rooms, files and functions, comments, language.

``make check`` runs it; it prints one line for each rule and exits with 1 where one is broken.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gem_lightning"
REGISTRIES = {"ecg/readers"}  # one file a format
MAX_FILES, MAX_SHARE, MAX_FUNCTION, MAX_FILE, MIN_COMMENTS = 16, 0.15, 60, 400, 0.03

#: Words of the private dialect and what to write in their place; the senses that stay are excepted by context.
DIALECT = {
    r"tells?|told|telling": "report, state, log",
    r"said|saith": "state, report",
    r"mend(s|ed|ing|able)?": "fix, correct",
    r"anew": "from scratch, rerun",
    r"pictures?": "image",
    r"in words|of words|whose words|the words": "text, message",
    r"vouch\w*": "untrusted",
    r"taught|untaught": "trained",
    r"told apart|tell apart": "distinguish",
    r"nobody|somebody": "the person or program meant",
    r"what came|what comes": "actual value",
    r"a whole number": "int",
    r"beside": "alongside, next to, compared with",
    r"drawn at random": "randomly initialised, sampled",
}
#: Number words are a term; "picture" is a key of shards and seeds that exist.
ALLOWED = re.compile(r"number words|\"picture\"|^picture$", re.IGNORECASE)


def main() -> int:
    """Run every rule; 1 if one is broken."""
    broken = [*cycles(), *room_sizes(), *long_files_and_functions(), *comments(), *dialect()]
    for line in broken:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"house rules: {len(broken)} broken\n")
    return int(bool(broken))


def python_files() -> list[Path]:
    """Every source file of the package, sorted."""
    return sorted(SOURCE.rglob("*.py"))


def cycles() -> Iterator[str]:
    """Modules that import each other, directly or around, also inside functions; type-only imports do not count."""
    graph = grimp.build_graph("gem_lightning", exclude_type_checking_imports=True, cache_dir=None)
    edges = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    for group in strongly_connected(edges):
        if len(group) > 1:
            yield f"cycle: {' <-> '.join(sorted(group))}"


def strongly_connected(edges: dict[str, set[str]]) -> Iterator[set[str]]:
    """Tarjan's strongly connected components of a directed graph."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            cut = stack.index(node)
            found.append(set(stack[cut:]))
            del stack[cut:]

    sys.setrecursionlimit(10_000)
    for node in edges:
        if node not in index:
            visit(node)
    yield from found


def room_sizes() -> Iterator[str]:
    """Folders with too many files or too large a share of the package's lines."""
    files, lines = Counter[str](), Counter[str]()
    for path in python_files():
        room = path.parent.relative_to(SOURCE).as_posix()
        files[room] += path.name != "__init__.py"
        lines[room] += path.read_text(encoding="utf-8").count("\n")
    total = sum(lines.values())
    for room in files:
        if files[room] > MAX_FILES and room not in REGISTRIES:
            yield f"room {room}: {files[room]} files, at most {MAX_FILES}"
        if lines[room] > MAX_SHARE * total:
            yield f"room {room}: {lines[room] / total:.0%} of all lines, at most {MAX_SHARE:.0%}"


def long_files_and_functions() -> Iterator[str]:
    """Files and functions beyond the limits, in lines."""
    for path in python_files():
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT)
        if text.count("\n") > MAX_FILE:
            yield f"{name}: {text.count(chr(10))} lines, at most {MAX_FILE}"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > MAX_FUNCTION:
                    yield f"{name}:{node.lineno} {node.name}: {length} lines, at most {MAX_FUNCTION}"


def comments() -> Iterator[str]:
    """The share of lines with a comment."""
    commented = total = 0
    for path in python_files():
        text = path.read_text(encoding="utf-8")
        total += sum(bool(line.strip()) for line in text.splitlines())
        commented += sum(t.type == tokenize.COMMENT for t in tokenize.generate_tokens(io.StringIO(text).readline))
    sys.stdout.write(f"comment lines: {commented / total:.1%} of {total:,}\n")
    if commented < MIN_COMMENTS * total:
        yield f"comments: {commented / total:.1%} of lines, at least {MIN_COMMENTS:.0%}"


def dialect() -> Iterator[str]:
    """Words that STYLE rules out, in comments, docstrings and messages of the package, its configs and its docs."""
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), *ROOT.glob("conf/**/*.yaml"), *SOURCE.rglob("*.jinja")]
    for path in [*python_files(), *sorted(pages)]:
        prose = python_prose(path) if path.suffix == ".py" else enumerate(path.read_text("utf-8").splitlines(), 1)
        for number, line in prose:
            for pattern, better in DIALECT.items():
                match = re.search(rf"\b(?:{pattern})\b", line, re.IGNORECASE)
                if match and not ALLOWED.search(line):
                    yield f"{path.relative_to(ROOT)}:{number}: {match.group()!r} -> {better}"


def python_prose(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every comment and string literal."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)):
                for offset, line in enumerate(token.string.splitlines()):
                    yield token.start[0] + offset, line


if __name__ == "__main__":
    raise SystemExit(main())
