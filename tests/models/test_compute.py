"""What is computed twice, compiled, or kept in float32 changes no result; what it costs in memory is bounded."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from gem_lightning.errors import DataError, GemError
from gem_lightning.models import build_gem
from gem_lightning.models.build import make_config
from gem_lightning.models.compute import compile_layers, recompute
from gem_lightning.models.loss import next_token_loss
from gem_lightning.models.sharding import Sharding, compute_buffers

VOCABULARY = 2**18


class LogitsPeak(TorchDispatchMode):
    """Most bytes that tensors as wide as the vocabulary held at one time."""

    def __init__(self):
        super().__init__()
        self.live, self.now, self.peak = set(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.ndim and tensor.shape[-1] == VOCABULARY:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self.live:
                    self._count(storage)
        return result

    def _count(self, storage):
        key, size = storage.data_ptr(), storage.nbytes()
        self.live.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key, size):
        self.live.discard(key)
        self.now -= size


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_stay_below_256_mib_at_any_batch(dtype):
    torch.manual_seed(0)
    head = torch.nn.Linear(4, VOCABULARY, bias=False, dtype=dtype)
    labels = torch.randint(0, VOCABULARY, (4, 101))
    hidden = torch.randn(4, 101, 4, dtype=dtype, requires_grad=True)
    with LogitsPeak() as count:
        next_token_loss(hidden, labels, head, VOCABULARY).backward()
    assert 0 < count.peak <= 256 * 2**20


def gradients(model, batch):
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.fixture
def step(parts):
    """A network of four layers in training mode, and a batch of text."""
    parts["llm"]["num_hidden_layers"] = 4
    torch.manual_seed(0)
    model = build_gem(**parts)
    ids = torch.randint(3, 1500, (2, 40))
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def cost(model, batch):
    """FLOPs of a step, and bytes kept for its backward pass."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with FlopCounterMode(display=False) as flops:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(**batch).loss
        loss.backward()
    return flops.get_total_flops(), sum(kept.values())


@pytest.mark.parametrize("how", [True, 2, "selective"])
def test_recomputation_changes_no_gradient(step, how):
    model, batch = step
    wanted = gradients(model, batch)
    recompute(model, how)
    for one, other in zip(gradients(model, batch), wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_recomputation_trades_memory_for_flops(step):
    model, batch = step
    costs = {}
    for how in (False, 2, True):
        recompute(model, how)
        costs[how] = cost(model, batch)
    assert costs[False][0] < costs[2][0] < costs[True][0]
    assert costs[False][1] > costs[2][1] > costs[True][1]


def test_selective_recomputation_repeats_no_matrix_product(step):
    model, batch = step
    plain, _ = cost(model, batch)
    recompute(model, "selective")
    assert cost(model, batch)[0] == plain


def test_recomputation_of_another_kind_is_refused(step):
    with pytest.raises(GemError, match="selective or a number"):
        recompute(step[0], "some")


@pytest.mark.parametrize("how", [False, True, "selective"])
def test_compiled_layers_change_no_gradient_and_no_name(step, how):
    model, batch = step
    names = list(model.state_dict())
    wanted = gradients(model, batch)
    recompute(model, how)
    compile_layers(model, "aot_eager")
    for one, other in zip(gradients(model, batch), wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert list(model.state_dict()) == names


def test_positions_keep_their_phase_in_half_precision(parts):
    parts["llm"] |= {"max_position_embeddings": 4096, "hidden_size": 256, "intermediate_size": 64}
    model = build_gem(**parts)
    rotary = model.model.language_model.rotary_emb
    exact, last = rotary.inv_freq.clone(), 4095
    model.to(torch.bfloat16)
    assert ((rotary.inv_freq.float() - exact) * last).abs().max() > 1  # radians
    weight = model.lm_head.weight.clone()
    compute_buffers(model)
    assert torch.equal(rotary.inv_freq, exact)
    assert torch.equal(model.lm_head.weight, weight) and weight.dtype == torch.bfloat16
    cos, _ = rotary(torch.zeros(1, 1, dtype=torch.bfloat16), torch.tensor([[last]]))
    assert (cos.float()[0, 0, : len(exact)] - (exact * last).cos()).abs().max() < 2**-8


def test_what_excludes_each_other_is_refused_before_a_weight_is_read():
    with pytest.raises(DataError, match="expected a checkpoint to quantise, got parts"):
        build_gem(llm="nowhere", quantization="nf4")
    with pytest.raises(DataError, match="expected no adapters with sharding, got lora"):
        build_gem(checkpoint="nowhere", lora={"r": 4}, shard=Sharding(None, None))


def test_parts_that_cannot_be_fetched_are_named(tmp_path):
    with pytest.raises(DataError, match=r"expected a folder or a hub id that can be reached, got '.*nowhere'"):
        make_config(str(tmp_path / "nowhere"), "none", "none", {})
