"""The wheels, installed away from the repository, run: configs and data files travel with them."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import textwrap
import tomllib
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
#: What needs gigabytes; gem-ecg may require none of them.
HEAVY = {"torch", "torchvision", "lightning", "transformers", "open-clip-torch", "peft", "accelerate", "bitsandbytes"}


@pytest.fixture(scope="module")
def gem_ecg():
    """The script that builds the distribution without torch, imported."""
    spec = importlib.util.spec_from_file_location("gem_ecg", ROOT / "packaging" / "gem_ecg.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def settings():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_light_distribution_is_the_same_package_with_fewer_dependencies(gem_ecg, settings):
    light = tomllib.loads(gem_ecg.to_toml(gem_ecg.light_settings(settings)))
    whole, part = settings["project"], light["project"]
    assert (part["name"], part["version"]) == ("gem-ecg", whole["version"])
    assert light["tool"]["setuptools"] == settings["tool"]["setuptools"]
    assert set(part["dependencies"]) < set(whole["dependencies"])
    assert part["optional-dependencies"].items() < whole["optional-dependencies"].items()
    assert part["scripts"] == whole["scripts"]
    assert not any(line.startswith(tuple(HEAVY)) for line in part["dependencies"])


def test_a_light_dependency_that_does_not_exist_is_refused(gem_ecg, settings):
    wrong = settings | {"tool": settings["tool"] | {"gem-ecg": {"dependencies": ["nunpy"], "extras": []}}}
    with pytest.raises(SystemExit, match="nunpy"):
        gem_ecg.light_settings(wrong)


def test_without_torch_one_error_states_what_to_install(tmp_path):
    code = """
        from importlib.machinery import PathFinder
        find = PathFinder.find_spec
        hidden = ("torch", "transformers", "lightning", "safetensors")
        PathFinder.find_spec = lambda name, *rest: None if name in hidden else find(name, *rest)
        import gem_lightning as gl
        from gem_lightning.cli import main
        from gem_lightning.errors import LightInstallError, MissingExtraError
        gl.EcgRenderer().save(gl.simulate("sinus", seed=1).record, "ecg.png")
        for use in (lambda: gl.Gem, lambda: gl.digitize("ecg.png"), lambda: gl.read_ecg("ecg.png", leads="any")):
            try:
                use()
            except LightInstallError as error:
                print(error)
        print(MissingExtraError("openpyxl", "formats"))
        main(["interpret", "ecg.png"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr[-3000:]
    assert done.stdout.count("run: pip uninstall -y gem-ecg && pip install gem-lightning") == 3
    assert "pip install 'gem-ecg[formats]'" in done.stdout
    assert "Traceback" not in done.stderr and done.stderr.count("pip install gem-lightning") == 1


@pytest.mark.slow
def test_the_light_wheel_in_a_clean_environment(tmp_path):
    """It installs without torch; what needs none runs, the rest ends in one error."""
    subprocess.run(
        [sys.executable, ROOT / "packaging" / "gem_ecg.py", tmp_path], check=True, capture_output=True, cwd=ROOT
    )
    (wheel,) = tmp_path.glob("*.whl")
    uv, python = pathlib.Path(sys.executable).parent / "uv", tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python, "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(install, check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    smoke = [python, ROOT / "tests" / "smoke.py"]
    done = subprocess.run(smoke, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "no_networks: passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_wheel_trains_in_an_empty_folder(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--installer", "uv", "--outdir", str(tmp_path / "dist")]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(site)
    assert "gem_lightning/conf/experiment/gem7b.yaml" in names
    missing = [
        str(p.relative_to(ROOT / "src"))
        for p in (ROOT / "src").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and "egg-info" not in str(p)
        if str(p.relative_to(ROOT / "src")) not in names
    ]
    assert missing == []
    work = tmp_path / "empty"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "gem_lightning.train", "experiment=gem_tiny", "trainer.max_steps=2"],
        cwd=work,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    where = "import gem_lightning, gem_lightning.conf; print(gem_lightning.__file__, gem_lightning.conf.__file__)"
    printed = subprocess.run(
        [sys.executable, "-c", where],
        env=os.environ | {"PYTHONPATH": str(site)},
        cwd=work,
        capture_output=True,
        text=True,
    ).stdout
    assert printed.count(str(site)) == 2
    assert (work / "outputs" / "gem_tiny" / "model" / "model.safetensors").exists()
