"""The network that reads and the network that is trained are one; practice pieces say where their ink is."""

from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gem_lightning.digitizer.network import MAPS, TRACE, WEIGHTS, draw_maps, forward, load_weights, network_input
from gem_lightning.digitizer.practice import practise
from gem_lightning.ecg import simulate
from gem_lightning.errors import DataError
from gem_lightning.lit.data.paper import PaperDataModule
from gem_lightning.lit.optim import Optimization
from gem_lightning.lit.trace_module import TraceLitModule
from gem_lightning.models.trace_net import TraceNet
from gem_lightning.sources.base import Simulated
from helpers_training import fit


@pytest.fixture(scope="module")
def records():
    return [simulate(name, seed=k).record for k, name in enumerate(("sinus", "lbbb", "pvc"))]


def test_the_stored_network_draws_what_the_trained_one_does():
    torch.manual_seed(0)
    net = TraceNet(widths=(4, 6, 8))
    for _ in range(3):  # statistics of the normalisation that are not the initial ones
        net(torch.randn(4, 3, 32, 32) * 2 + 1)
    net.eval()
    x = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        assert torch.allclose(forward(net.folded(), x), net(x), atol=1e-4)


def test_the_packaged_weights_fit_the_configured_network():
    shapes = {name: value.shape for name, value in TraceNet().folded().items()}
    assert {name: value.shape for name, value in load_weights().items()} == shapes


def test_practice_marks_lie_on_ink(records):
    darker = []
    for seed in range(12):
        piece = practise(records, (1, seed), 128)
        assert piece.maps.shape == (MAPS, 128, 128) and piece.image.dtype == np.uint8
        on, off = piece.maps[TRACE] > 0.9, piece.maps.max(0) < 0.01
        if on.sum() > 50 and off.sum() > 500:
            darker.append(np.median(piece.image[on].mean(-1)) < np.median(piece.image[off].mean(-1)) - 20)
    assert len(darker) >= 5 and np.mean(darker) >= 0.8  # the rest is faded paper


def test_a_piece_depends_on_its_seed_alone(records):
    one, same, other = (practise(records, seed, 96) for seed in ((3, 1), (3, 1), (3, 2)))
    assert (one.image == same.image).all() and (one.maps == same.maps).all()
    assert (one.image != other.image).any()


def test_light_does_not_matter():
    rng = np.random.default_rng(0)
    page = rng.integers(80, 120, (128, 128, 3)).astype(np.uint8)
    assert np.abs(network_input(page) - network_input((page * 2).astype(np.uint8))).max() < 0.5


def test_tiles_agree_with_the_whole():
    rng = np.random.default_rng(1)
    page = rng.integers(0, 255, (480, 600, 3)).astype(np.uint8)
    maps = draw_maps(page, np.ones(page.shape[:2], bool))
    with torch.inference_mode():
        whole = torch.sigmoid(forward(load_weights(), torch.from_numpy(network_input(page)[None, :, :480, :592])))[0]
    assert maps.shape == (MAPS, 480, 600)
    assert np.abs(maps[:, 64:400, 64:520] - whole.numpy()[:, 64:400, 64:520]).mean() < 0.01


def test_the_data_module_resumes_where_it_was():
    data = PaperDataModule({"some": Simulated(n=2, seed=5)}, length=8, size=64, batch_size=4, seed=1)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 3, 64, 64) and batch["steep"].dtype == torch.bool
    with pytest.raises(DataError, match="all twelve leads"):
        PaperDataModule({"none": Simulated(n=0, seed=0)}).setup("fit")


@pytest.mark.slow
def test_the_recipe_learns_and_writes_weights(tmp_path):
    module = TraceLitModule(partial(TraceNet, (8, 16, 24)), Optimization(lr=1e-2), tmp_path)
    data = PaperDataModule({"some": Simulated(n=6, seed=5)}, length=800, size=96, batch_size=8, seed=1)
    fit(module, data, max_epochs=2)
    weights = load_file(tmp_path / WEIGHTS)
    assert set(weights) == set(TraceNet((8, 16, 24)).folded())
    unseen = practise([simulate("sinus", seed=77).record], (9, 1), 160)
    with torch.inference_mode():
        x = torch.from_numpy(network_input(unseen.image)[None])
        trace = torch.sigmoid(forward({n: v.float() for n, v in weights.items()}, x))[0, TRACE].numpy()
    on, off = unseen.maps[TRACE] > 0.8, unseen.maps.max(0) < 0.01
    assert trace[on].mean() > 3 * trace[off].mean()
