"""Mutation run: change one operator or constant at a time and count how many changes the tests notice.

    python benchmarks/mutation.py [--sample 300] [--seed 0] [--only chambers]

Each mutant runs its tests in a forked process, into which the changed module is compiled; no file is written. mutmut 3
was tried first and leaves out decorated functions, which all criteria are. Bar: 90 % killed.
"""

from __future__ import annotations

import argparse
import ast
import importlib.machinery
import os
import pathlib
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from types import CodeType

ROOT = pathlib.Path(__file__).parent.parent
SRC = ROOT / "src" / "gem_lightning"
#: Files to change → tests that must notice.
TARGETS: dict[str, tuple[str, ...]] = {
    "features/criteria/*.py": (
        "tests/features/test_criteria_limits.py",
        "tests/features/test_criteria_forms.py",
        "tests/features/test_criteria_acute.py",
        "tests/features/test_criteria_edges.py",
        "tests/features/test_criteria_patterns.py",
        "tests/features/test_findings.py",
    ),
    "claims/parser/units.py": (
        "tests/claims/test_edges.py",
        "tests/claims/test_units.py",
        "tests/claims/test_extract.py",
    ),
    "claims/tolerance.py": ("tests/claims/test_edges.py", "tests/claims/test_scores.py", "tests/claims/test_verify.py"),
    "claims/report.py": ("tests/claims/test_edges.py", "tests/claims/test_scores.py", "tests/claims/test_verify.py"),
    "evaluation/ecgbench/strict.py": ("tests/evaluation/ecgbench",),
}
_COMPARED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_COMPUTED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
#: Functions that are the criteria's operators.
_CALLED = {
    "all_of": "any_of", "any_of": "all_of", "at_least": "above", "above": "at_least", "at_most": "below",
    "below": "at_most", "min": "max", "max": "min", "any": "all", "all": "any",
}  # fmt: skip


def places(tree: ast.Module) -> list[ast.AST]:
    """Return the nodes of a module that can be changed, without annotations, docstrings and decorators."""
    found: list[ast.AST] = []

    def visit(node: ast.AST) -> None:
        found.append(node)
        for name, field in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    visit(child)

    visit(tree)
    return found


def changes(node: ast.AST) -> Iterator[str]:
    """Name what can be changed in a node, and change it in place before the name is yielded."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            node.ops[i] = _COMPARED[type(op)]()
            yield f"{type(op).__name__} → {type(node.ops[i]).__name__}"
            node.ops[i] = op
    elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        op, node.op = node.op, _COMPUTED[type(node.op)]()
        yield f"{type(op).__name__} → {type(node.op).__name__}"
        node.op = op
    elif isinstance(node, ast.BoolOp):
        op, node.op = node.op, ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield f"{type(op).__name__} → {type(node.op).__name__}"
        node.op = op
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node.op = ast.UAdd()
        yield "minus dropped"
        node.op = ast.USub()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = node.operand
        node.operand = ast.UnaryOp(ast.Not(), inner)
        yield "not dropped"
        node.operand = inner
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = node.value
        node.value = (not value) if isinstance(value, bool) else value + 1 if value in (0, 1) else value * 2
        yield f"{value} → {node.value}"
        node.value = value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLED:
        name = node.func.id
        node.func.id = _CALLED[name]
        yield f"{name} → {node.func.id}"
        node.func.id = name


def mutants(path: pathlib.Path) -> Iterator[tuple[int, str, CodeType]]:
    """Yield line, change and compiled code of every mutant of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    known = {alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names}
    known |= {"min", "max", "any", "all"} | {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    for node in places(tree):
        for change in changes(node):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
            if called is None or called in known:  # else the change would be a NameError
                code = compile(ast.fix_missing_locations(tree), str(path), "exec")
                yield getattr(node, "lineno", 0), change, code


def killed(path: pathlib.Path, code: CodeType, tests: tuple[str, ...], limit_s: float = 120.0) -> bool:
    """Run the tests on a mutant in a forked process and return whether one fails."""
    child = os.fork()
    if child == 0:
        import signal

        import pytest

        signal.alarm(int(limit_s))  # an endless loop is noticed too
        load = importlib.machinery.SourceFileLoader.get_code
        importlib.machinery.SourceFileLoader.get_code = (  # type: ignore[method-assign]
            lambda self, name: code if self.path == str(path) else load(self, name)
        )
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
            os._exit(int(pytest.main([*options, *(str(ROOT / t) for t in tests if (ROOT / t).exists())]) != 0))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=300, help="mutants drawn at random; 0 takes all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="files whose path contains this")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    import hypothesis  # noqa: F401  # loaded once for all forks

    import gem_lightning.ecg  # noqa: F401

    every = [
        (path, tests, line, change, code)
        for pattern, tests in TARGETS.items()
        for path in sorted(SRC.glob(pattern))
        if args.only in str(path)
        for line, change, code in mutants(path)
    ]
    drawn = random.Random(args.seed).sample(every, min(args.sample or len(every), len(every)))
    start, total, dead = time.time(), Counter[str](), Counter[str]()
    for path, tests, line, change, code in sorted(drawn, key=lambda m: (str(m[0]), m[2])):
        name = str(path.relative_to(SRC))
        total[name] += 1
        if killed(path, code, tests):
            dead[name] += 1
        else:
            print(f"survived {name}:{line}: {change}", flush=True)
    for name, count in total.items():
        print(f"{name:44s}{dead[name]:5d} of {count:4d} killed")
    share = sum(dead.values()) / max(sum(total.values()), 1)
    print(f"killed {share:.1%} of {len(drawn)} out of {len(every)} mutants in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
