"""The page of public names is that of the code, and a changed signature needs a line in the changelog."""

import ast
import importlib
import importlib.util
import sys
import tomllib
from pathlib import Path
from types import FunctionType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def api():
    """The script, imported."""
    spec = importlib.util.spec_from_file_location("api_page", ROOT / "docs" / "api_page.py")
    module = sys.modules["api_page"] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["api_page"]


def test_the_page_is_that_of_the_code(api):
    assert api.PAGE.read_text(encoding="utf-8") == api.page(), "run: make docs"


def test_changed_signatures_are_in_the_changelog(api):
    version, old = api.released()
    changelog = api.CHANGELOG.read_text(encoding="utf-8")
    missing = list(api.unstated(api.changes(old, api.signatures()), version, changelog))
    assert missing == [], f"add a line with these names to Unreleased in CHANGELOG.md: {', '.join(missing)}"


def test_a_change_is_found_and_a_line_above_the_release_excuses_it(api):
    old = {
        "gem_lightning.ecg.read_ecg": "(path)",
        "gem_lightning.models.Gem": "()",
        "gem_lightning.models.Gem.chat": "()",
    }
    new = {"gem_lightning.ecg.read_ecg": "(path, fs)", "gem_lightning.models.Gem": "()", "gem_lightning.ecg.LEADS": ""}
    changed = api.changes(old, new)
    assert changed == ["gem_lightning.ecg.LEADS", "gem_lightning.ecg.read_ecg", "gem_lightning.models.Gem.chat"]
    text = "# Changelog\n\n## [Unreleased]\n\n{}\n\n## [0.2.0] - 2026-11-30\n\n- `read_ecg`, `LEADS`, `Gem.chat`\n"
    every = ["LEADS", "read_ecg", "Gem.chat"]
    assert list(api.unstated(changed, "0.2.0", text.format(""))) == every
    assert list(api.unstated(changed, "0.2.0", text.format("- read_ecg, LEADS and Gem.chat"))) == every  # no code
    assert list(api.unstated(changed, "0.2.0", text.format("- `LEADS`; `read_ecg(fs=)`; `Gem.chats`"))) == ["Gem.chat"]
    assert list(api.unstated(changed, "0.2.0", text.format("- `LEADS`, `read_ecg`, `Gem.chat` is gone"))) == []


def test_a_class_that_goes_is_one_line(api):
    old = {"gem_lightning.models.Gem": "()", "gem_lightning.models.Gem.chat": "()"}
    assert api.changes(old, {}) == ["gem_lightning.models.Gem"]


@pytest.mark.parametrize(
    "module", ["ecg", "features", "render", "grounding", "errors", "sources.base", "jobs", "revision"]
)
def test_static_reading_finds_what_an_import_finds(api, module):
    imported = importlib.import_module(f"gem_lightning.{module}")
    names = api.public_modules()[f"gem_lightning.{module}"]
    assert sorted(names) == sorted(imported.__all__)
    for name in names:
        home, node = api.locate(f"gem_lightning.{module}", name)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            value = getattr(imported, name)
            assert (value.__module__, value.__name__) == (home, node.name)
        else:  # a constant, such as LEADS
            assert not isinstance(getattr(imported, name), FunctionType)


def test_every_package_that_reexports_names_states_which(api):
    """A name that a package's own file imports for others stands in its ``__all__``."""
    unstated = []
    for path in sorted((ROOT / "src").rglob("__init__.py")):
        text = path.read_text(encoding="utf-8")
        if "TYPE_CHECKING:\n" in text and "\n__all__" not in text:
            unstated.append(path.parent.name)
    assert unstated == []


def test_strict_type_checkers_see_lazy_names():
    """Without implicit re-exports they read a literal ``__all__``, or ``import a as a``."""
    hidden = []
    for path in sorted((ROOT / "src").rglob("__init__.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        listed = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        literal = {one.value for node in listed for one in ast.walk(node) if isinstance(one, ast.Constant)}
        blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
        aliases = [a for node in blocks for line in node.body if isinstance(line, ast.ImportFrom) for a in line.names]
        hidden += [f"{path.parent.name}.{a.name}" for a in aliases if listed and a.name not in literal and not a.asname]
    assert hidden == []


def test_types_are_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert "py.typed" in settings["package-data"]["gem_lightning"]
    assert (ROOT / "src" / "gem_lightning" / "py.typed").is_file()
