"""The loss: which kernel computes it, refusals, and that a fused kernel gives the same numbers."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from gem_lightning.errors import GemError, MissingExtraError
from gem_lightning.lit.plan import Run, refuse_what_cannot_work
from gem_lightning.models import build_gem
from gem_lightning.models import loss as losses
from gem_lightning.models.compute import Kernels
from helpers_sizes import TINY


@pytest.fixture
def installed(monkeypatch):
    """Pretends that Liger is, or is not, installed."""

    def pretend(there):
        monkeypatch.setattr(losses, "find_spec", lambda name: object() if there else None)

    return pretend


class OnCuda:
    """As much of a tensor on a GPU as the choice looks at."""

    is_cuda, device = True, torch.device("cuda")


@pytest.mark.parametrize(
    ("how", "head", "states", "there", "fused"),
    [
        ("auto", nn.Linear(4, 8, bias=False), OnCuda, True, True),
        ("auto", nn.Linear(4, 8, bias=False), OnCuda, False, False),
        ("auto", nn.Linear(4, 8, bias=False), torch.zeros(1, 4), True, False),
        ("auto", nn.Linear(4, 8), OnCuda, True, False),
        ("auto", nn.Sequential(nn.Linear(4, 8)), OnCuda, True, False),
        ("chunked", nn.Linear(4, 8, bias=False), OnCuda, True, False),
        ("liger", nn.Linear(4, 8, bias=False), OnCuda, True, True),
    ],
)
def test_the_fused_kernel_is_taken_where_it_can_run(how, head, states, there, fused, installed):
    installed(there)
    assert losses._fuses(how, head, states) is fused


def test_validation_is_chunked(installed):
    installed(True)
    with torch.no_grad():
        assert not losses._fuses("auto", nn.Linear(4, 8, bias=False), OnCuda)


def test_what_cannot_be_had_is_refused(installed):
    with pytest.raises(GemError, match=r"one of .*'liger'.*got 'fused'"):
        build_gem(**TINY, kernels=Kernels(loss="fused"))
    installed(False)
    with pytest.raises(MissingExtraError, match=r"gem-lightning\[liger\]"):
        build_gem(**TINY, kernels=Kernels(loss="liger"))
    installed(True)
    refuse_what_cannot_work(Run(net={"kernels": Kernels(loss="liger")}))
    with pytest.raises(GemError, match="expected a GPU for loss=liger, got cpu"):
        refuse_what_cannot_work(Run(net={"kernels": Kernels(loss="liger")}, cuda=False))
    model = build_gem(**TINY, kernels=Kernels(loss="liger"))
    ids = torch.randint(3, 600, (1, 8))
    with pytest.raises(GemError, match="expected a GPU"):
        model(input_ids=ids, labels=ids)
    assert build_gem(**TINY, kernels=Kernels(loss="chunked"))(input_ids=ids, labels=ids).loss > 0


PROGRAM = """
import torch
from gem_lightning.models.loss import next_token_loss
torch.manual_seed(0)
head = torch.nn.Linear(64, 640, bias=False)
hidden = torch.randn(3, 17, 64, requires_grad=True)
labels = torch.randint(0, 640, (3, 17))
labels[:, :5] = -100
found = []
for how in ("liger", "chunked"):
    loss = next_token_loss(hidden, labels, head, 640, how=how, num_items_in_batch=7)
    found.append([loss, *torch.autograd.grad(loss, [hidden, head.weight])])
for fused, plain in zip(*found):
    assert torch.allclose(fused, plain, rtol=1e-5, atol=1e-5 * float(plain.abs().max())), (fused - plain).abs().max()
assert float(next_token_loss(hidden, torch.full_like(labels, -100), head, 640, how="liger")) == 0.0
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("liger_kernel") is None, reason="pip install 'gem-lightning[liger]'")
def test_the_fused_kernel_gives_the_same_loss_and_gradients():
    """Through Triton's interpreter, on the CPU."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, env=environment)
