"""Shared fixtures: where golden files and real ECGs lie, and one thread a process."""

import os
import pathlib

for _name, _value in (("OMP_NUM_THREADS", "1"), ("GOMP_SPINCOUNT", "0"), ("OMP_WAIT_POLICY", "passive")):
    os.environ.setdefault(_name, _value)

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def golden() -> pathlib.Path:
    """Outputs of the original implementation, committed under tests/golden."""
    return HERE / "golden"


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Real ECGs that stay outside the repository; tests that need them skip where they are absent."""
    folder = pathlib.Path(os.environ.get("GEM_LIGHTNING_DATA", HERE.parent.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real ECGs are not here: {folder} (set GEM_LIGHTNING_DATA)")
    return folder


@pytest.fixture(scope="session")
def tiny_gem():
    """A network of the quickstart's kind with random weights: real parts, meaningless words."""
    import torch

    from gem_lightning.models import Gem, build_gem, build_processor, tiny_tokenizer
    from helpers_sizes import TINY

    torch.manual_seed(0)
    model = build_gem(**TINY)
    model.config.fresh_parts = None
    return Gem(model.eval(), build_processor(tiny_tokenizer(), TINY))
