"""The documentation: every block runs or says why not, every output is real, the site builds without a warning."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from helpers_docs import DOCS, ROOT, blocks, differs, pages, prepare, run_page

RUN = [page for page in pages() if any(block.is_code and block.runs_here for block in blocks(page))]


def is_slow(page):
    return "<!-- slow -->" in page.read_text(encoding="utf-8")


def name(page):
    return page.relative_to(DOCS).with_suffix("").as_posix()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files that the pages name."""
    return prepare(tmp_path_factory.mktemp("docs"))


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=name(page), marks=[pytest.mark.slow] if is_slow(page) else []) for page in RUN]
)
def test_the_blocks_of_a_page(page, files, tmp_path, monkeypatch):
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for block, printed in run_page(page):
        if block.output is not None and "not compared" not in block.output.marks:
            assert differs(block.output.text, printed) is None, f"{name(page)}:{block.line} prints\n{printed}"


def test_a_block_that_is_not_run_says_why():
    for page in pages():
        for block in blocks(page):
            place = f"{name(page)}:{block.line}"
            if block.language in ("python", "bash"):
                assert block.runs_here or any(block.marks.get(mark) for mark in ("not run", "run")), place
                for test in re.findall(r"tests/[\w/.]+", block.marks.get("not run", "")):
                    assert (ROOT / test).exists(), f"{place}: {test}"
            for test in filter(None, [block.marks.get("run")]):
                assert page.name in (ROOT / test).read_text(encoding="utf-8"), f"{place}: {test} does not name the page"


def commands_not_run():
    """Commands of blocks that are not run, as modules and arguments; sweeps and abridged commands are left out."""
    for page in pages():
        for block in blocks(page):
            for line in block.commands if "not run" in block.marks else ():
                words = shlex.split(line, comments=True)
                whole = not {"-m", "..."} & set(words[3:])
                if whole and words[:2] == ["python", "-m"] and words[2].startswith("gem_lightning."):
                    yield pytest.param(words[2], words[3:], id=f"{name(page)}: {' '.join(words[2:])[:70]}")


@pytest.mark.parametrize(("module", "arguments"), commands_not_run())
def test_the_config_of_a_command_that_is_not_run_composes(module, arguments, monkeypatch):
    composed = []

    def compose_only(given, parser, task, path, config_name):
        with initialize_config_module("gem_lightning.conf", version_base="1.3"):
            composed.append(compose(config_name, given.overrides))

    monkeypatch.setattr("gem_lightning.config.main._run_hydra", compose_only)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    GlobalHydra.instance().clear()
    importlib.import_module(module).main()
    assert composed


def test_the_reference_has_every_public_name(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    import reference

    documented = "\n".join(reference.pages().values())
    for module, names in reference.homes().items():
        assert f"# `{module}`\n" in documented
        for path in names.values():
            assert documented.count(f"::: {path}\n") == 1, path


def test_links_to_other_sites_are_whole():
    for page in pages():
        for link in re.findall(r"\]\((\w+:[^)]*)\)", page.read_text(encoding="utf-8")):
            assert re.fullmatch(r"https?://[\w.-]+\.[a-z]{2,}(/[\w./#?=&%~:+-]*)?", link), f"{name(page)}: {link}"


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_no_other_site(tmp_path):
    gallery = DOCS / "gallery"
    if not gallery.is_dir():
        subprocess.run([sys.executable, DOCS / "render_gallery.py", gallery], check=True)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    html = sorted((tmp_path / "site").rglob("*.html"))
    assert len(html) > 80
    for page in html:
        tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text("utf-8"))
        assert not [tag for tag in tags if re.search(r"(?:src|href)=\"?(?:https?:)?//", tag)], page.name
