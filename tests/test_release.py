"""Files around the code: one version everywhere, forms that parse, commands and paths that exist."""

import datetime
import importlib.util
import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import gem_lightning

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def parsed(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def sections() -> list[tuple[str, str, str]]:
    """(version, date, text) of every section of the changelog, newest first."""
    found = re.findall(r"^## \[(.+?)\](?: - (\S+))?\n(.*?)(?=^## |\Z)", CHANGELOG, flags=re.MULTILINE | re.DOTALL)
    return [(version, date, text.strip()) for version, date, text in found]


def commands(workflow: Path) -> list[str]:
    """Every command line that a workflow runs."""
    steps = [step for job in parsed(workflow)["jobs"].values() for step in job["steps"]]
    return [line.strip() for step in steps if "run" in step for line in step["run"].splitlines() if line.strip()]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), flags=re.MULTILINE))


def targets_named(text: str) -> list[str]:
    """Targets of ``make`` commands, without their variables."""
    return re.findall(r"\bmake(?: [A-Z]+=\S+)* ([a-z][a-z-]*)", text)


def test_one_version():
    (unreleased, *_), (version, date, _), *_ = sections()
    citation = parsed(ROOT / "CITATION.cff")
    assert unreleased == "Unreleased"
    assert tomllib.loads(read("pyproject.toml"))["project"]["version"] == version
    assert gem_lightning.__version__ == version == citation["version"]
    assert datetime.date.fromisoformat(date) == citation["date-released"]


def test_the_changelog_has_the_agreed_form():
    versions = [tuple(map(int, version.split("."))) for version, _, _ in sections()[1:]]
    assert versions == sorted(versions, reverse=True)
    kinds = set(re.findall(r"^### (.+)$", CHANGELOG, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert all(text.startswith("### ") for _, _, text in sections()[1:])


@pytest.mark.skipif("RELEASE_TAG" not in os.environ, reason="a release states its tag: make release TAG=v1.2.3")
def test_the_tag_is_that_of_the_version():
    (_, _, unreleased), (version, _, _), *_ = sections()
    assert os.environ["RELEASE_TAG"] == f"v{version}", "expected the tag of the version in pyproject.toml"
    assert unreleased == "", "move Unreleased to the version"
    stored = read("tests/golden/public_api.txt").split("\n", 1)[0]
    assert stored == f"gem-lightning {version}", "run: python docs/api_page.py --freeze"


def test_the_citation_is_valid():
    """The keys of the Citation File Format 1.2.0 that are used, and those that it requires."""
    citation = parsed(ROOT / "CITATION.cff")
    required = {"cff-version", "message", "title", "authors"}
    used = {"type", "abstract", "version", "date-released", "license", "keywords", "references"}
    assert required <= set(citation) <= required | used
    assert (citation["cff-version"], citation["type"], citation["license"]) == ("1.2.0", "software", "Apache-2.0")
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert paper["doi"].endswith("2503.06073") and "2503.06073" in read("README.md")
    assert [person["family-names"] for person in paper["authors"]] == ["Lan", "Wu", "He", "Zhao", "Hong", "Feng"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_exists(path):
    workflow = parsed(path)
    triggers = workflow[True]  # YAML 1.1 reads the key `on` as true
    assert triggers and workflow["permissions"] == {"contents": "read"}
    for line in commands(path):
        if line.removeprefix("sudo ").startswith("make "):
            assert targets_named(line) and set(targets_named(line)) <= make_targets(), line
        else:
            assert re.match(r"\.venv/bin/(uv|python) ", line) and "make PYTHON=python setup" in commands(path), line
    for action in re.findall(r"uses: (\S+)", path.read_text(encoding="utf-8")):
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+(\.\d+)*", action), action


def test_the_matrix_is_what_the_package_supports():
    matrix = parsed(ROOT / ".github" / "workflows" / "test.yml")["jobs"]["fast"]["strategy"]["matrix"]["python"]
    lowest = tomllib.loads(read("pyproject.toml"))["project"]["requires-python"]
    assert matrix == ["3.11", "3.12", "3.13"] and lowest == f">={matrix[0]}"


def test_only_publishing_jobs_may_identify_themselves():
    for path in WORKFLOWS:
        for name, job in parsed(path)["jobs"].items():
            assert ("id-token" in job.get("permissions", {})) == (name == "publish"), f"{path.name}: {name}"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "AGENTS.md", ".github/PULL_REQUEST_TEMPLATE.md"])
def test_pages_name_targets_and_paths_that_exist(name):
    text = read(name)
    named = re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, flags=re.MULTILINE)
    assert named and set(named) <= make_targets()
    for path in re.findall(r"`((?:src|tests|docs|conf|benchmarks|notebooks|\.github)/[\w./-]*)`", text):
        assert (ROOT / path).exists() or "NAME" in path, path


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_what_the_forge_asks_for(path):
    form = parsed(path)
    assert {"name", "description", "body"} <= set(form)
    fields = [item for item in form["body"] if item["type"] != "markdown"]
    assert len({item["id"] for item in fields}) == len(fields) > 0
    assert all(item["attributes"]["label"] for item in fields)


def test_hooks_are_tools_of_the_environment():
    (repository,) = parsed(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"  # so that constraints.txt holds the only version of ruff
    for hook in repository["hooks"]:
        program, *arguments = hook["entry"].split()
        assert program in (".venv/bin/ruff", ".venv/bin/python") and hook["language"] == "system"
        assert program.endswith("ruff") or (ROOT / arguments[0]).is_file()


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, argument) of the Dockerfile, continued lines joined."""
    lines = [line for line in read("Dockerfile").splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


def test_the_image_copies_what_exists_and_does_not_hide_it():
    kept = [line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")]
    copied = []
    for instruction, argument in dockerfile():
        if instruction in ("COPY", "ADD") and "--from=" not in argument:
            copied += argument.split()[:-1]
    assert sorted(copied) == sorted(kept)
    for source in copied:
        assert (ROOT / source).exists(), source
    assert (ROOT / "src/gem_lightning/models/shipped/gem_small/model.safetensors").is_file()


def test_the_image_runs_offline_as_an_ordinary_user():
    instructions = dockerfile()
    last_stage = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    users = [argument for name, argument in instructions[last_stage:] if name == "USER"]
    assert users and users[-1] not in ("root", "0")
    assert any(name == "RUN" and f"useradd --create-home --uid {users[-1]} " in rest for name, rest in instructions)
    after_user = [name for name, _ in instructions[instructions.index(("USER", users[-1])) :]]
    assert after_user == ["USER", "CMD"]
    assert any("HF_HUB_OFFLINE=1" in argument for name, argument in instructions if name == "ENV")
    for name, argument in instructions:
        if name == "FROM":
            assert re.match(r"python:\$\{PYTHON\}-slim\b", argument), argument
    extras = next(a.split("=")[1] for name, a in instructions if name == "ARG" and a.startswith("EXTRAS"))
    assert set(extras.split(",")) <= set(tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"])


def test_no_copyleft_licence_but_those_named():
    spec = importlib.util.spec_from_file_location("licences", ROOT / "packaging" / "licences.py")
    licences = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(licences)
    found = licences.reached()
    assert len(found) > 100 and found["torch"] != "not stated"
    assert licences.refused(found) == {}, "choose another package, or add it to ACCEPTED with the reason"
    assert licences.refused({"readline": "GNU General Public License v3 (GPLv3)"})
    page = read("docs/dependencies.md")
    assert set(licences.ACCEPTED) <= set(found) and all(name in page for name in licences.ACCEPTED)


def test_pages_that_a_forge_looks_for_are_there():
    names = ["LICENSE", "SECURITY.md", "CODE_OF_CONDUCT.md", ".github/PULL_REQUEST_TEMPLATE.md"]
    assert [name for name in names if not read(name).strip()] == []
