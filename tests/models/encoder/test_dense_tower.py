"""The dense encoder as a tower: numbers reach the language model digit by digit, and weights find their place."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch._subclasses.fake_tensor import FakeTensorMode

from gem_lightning.errors import DataError
from gem_lightning.models import build_gem
from gem_lightning.models.encoder.dense import DenseEncoder
from gem_lightning.models.encoder.dense_beats import BeatTokens
from gem_lightning.models.encoder.dense_tower import NUMBERS, DenseTower, numbers_of
from gem_lightning.models.encoder.dense_values import MEASURED, VALUES
from gem_lightning.models.encoder.number_tokens import DIGITS, NO_DIGIT, NumberTokens, spell

SIZES = {"width": 32, "layers": 1, "heads": 2, "channels": [8, 16]}
LLM = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
       "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 300}  # fmt: skip


@pytest.mark.parametrize(
    ("number", "digits"),
    [(61.2, [6, 1]), (-7.6, [8]), (1016.0, [1, 0, 1, 6]), (0.2, [0]), (99_999.0, [9, 9, 9, 9]), (float("nan"), [])],
)
def test_digits_come_from_the_left(number, digits):
    assert spell(torch.tensor([number]))[0].tolist() == digits + [NO_DIGIT] * (DIGITS - len(digits))


def test_tokens_of_equal_digits_differ_by_number_place_and_sign():
    tokens = NumberTokens(2, 16)(torch.tensor([[11.0, 11.0], [-11.0, 11.0]]))
    assert tokens.shape == (2, 2 * DIGITS, 16)
    rows = tokens[0].tolist() + tokens[1, :DIGITS].tolist()
    assert len({tuple(row) for row in rows}) == 3 * DIGITS
    assert torch.equal(tokens[0, DIGITS:], tokens[1, DIGITS:])


def test_qtc_and_axis_follow_from_the_values():
    values = torch.zeros(1, len(VALUES))
    for name, value in {"rate_bpm": 75.0, "pr_ms": float("nan"), "qrs_ms": 90.0, "qt_ms": 400.0,
                        "axis_sin": -0.5, "axis_cos": 0.866}.items():  # fmt: skip
        values[0, VALUES.index(name)] = value
    found = dict(zip(NUMBERS, numbers_of(values)[0].tolist()))
    assert found["rr_ms"] == pytest.approx(800) and found["qtc_ms"] == pytest.approx(400 / 0.8 ** (1 / 3), abs=0.1)
    assert found["axis_deg"] == pytest.approx(-30, abs=0.1) and found["pr_ms"] != found["pr_ms"]


def test_the_tower_gives_tokens_values_and_digits_and_its_reading():
    tower = DenseTower(SIZES, pooled=25)
    signals = torch.randn(3, 12, 5000) * 0.2
    targets = {"waves": torch.zeros(2, 3, 500), "values": torch.full((2, len(VALUES)), torch.nan)}
    with tower.supervised(targets, torch.tensor([0, 2])) as supervision:
        tokens = tower(signals)
    assert tokens.shape == (3, 125 // 25 + 16 + BeatTokens.count + len(NUMBERS) * DIGITS, 32)
    loss = tower.loss(supervision)
    assert loss > 0 and loss != tower.loss(replace(supervision, rows=torch.tensor([1, 1])))
    loss.backward()
    assert tower.encoder.wave_head.spread.weight.grad.abs().sum() > 0
    with tower.supervised(None, None) as supervision:
        tower(signals)
    assert tower.loss(supervision) is None
    with pytest.raises(DataError, match="pooled to divide"):
        DenseTower(SIZES, pooled=7)


def test_the_true_numbers_are_spelled_where_they_are_forced():
    signals, truth = torch.randn(2, 12, 5000) * 0.2, torch.full((1, len(VALUES)), torch.nan)
    truth[0, VALUES.index("rate_bpm")] = 61.0
    targets = {"waves": torch.zeros(1, 3, 500), "values": truth}
    always, never = DenseTower(SIZES, 25, forced=1.0), DenseTower(SIZES, 25, forced=0.0)
    never.load_state_dict(always.state_dict())
    tokens = []
    for tower in (always.eval(), never.eval()):
        with tower.supervised(targets, torch.tensor([1])):
            tokens.append(tower(signals)[:, 35:])
    assert torch.equal(tokens[0][0], tokens[1][0]) and torch.equal(tokens[1], never(signals)[:, 35:])
    assert torch.allclose(tokens[0][1], always.number_tokens(numbers_of(truth))[0])


def test_what_the_waves_do_not_show_is_not_spelled():
    tower = DenseTower(SIZES, 25).eval()
    torch.nn.init.constant_(tower.encoder.wave_head.mix[-1].bias, -20.0)
    reading = tower.encoder.read(torch.zeros(1, 12, 5000))
    known = tower.known(reading, tower.encoder.intervals(reading))
    assert torch.isnan(known[:, : len(MEASURED)]).all() and torch.isfinite(known[:, len(MEASURED) :]).all()


def test_shapes_can_be_traced_without_decoding():
    tower = DenseTower(SIZES, 25)
    with FakeTensorMode(allow_non_fake_inputs=True):  # as the estimate of a run's memory does
        assert tower(torch.zeros(5, 12, 5000)).shape == (5, 63, tower.width)


def test_a_gem_starts_from_the_weights_of_the_pretrained_encoder(tmp_path):
    encoder = DenseEncoder(**SIZES)
    save_file(encoder.state_dict(), tmp_path / "own.safetensors")
    parts = {"llm": LLM, "ecg": partial(DenseTower, encoder=SIZES, pooled=25), "vision": "none"}
    model = build_gem(**parts, ecg_weights=tmp_path / "own.safetensors")
    own = model.model.ecg_tower.encoder.state_dict()
    assert all(torch.equal(own[name], value) for name, value in encoder.state_dict().items())
    model.save_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model")
    assert all(torch.equal(v, model.state_dict()[n]) for n, v in again.state_dict().items())

    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="names or shapes of another"):
        build_gem(**parts, ecg_weights=tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="given as a class"):
        build_gem(llm=LLM, ecg={"width": 32, "head_width": 16, "layers": 1}, vision="none", ecg_weights="x")


def test_a_tower_in_half_precision_reads_the_same():
    torch.manual_seed(1)
    tower, signals = DenseTower(SIZES, 25).eval(), torch.randn(2, 12, 5000) * 0.1
    with torch.no_grad():
        full, half = tower(signals), tower.to(torch.bfloat16)(signals.bfloat16())
    assert half.dtype == torch.bfloat16 and torch.allclose(half.float()[:, :4], full[:, :4], atol=0.2)
