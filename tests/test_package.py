"""The wheel, installed away from the repository, runs the entry points: configs and data files travel with it."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent


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
