"""The recipe of the small model at the size of CI: the language model learns to copy the encoder's digits."""

import lightning
import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from safetensors.torch import save_file

from gem_lightning.data import ConversationCohort, ConversationPlan, SimulatedRecords
from gem_lightning.ecg import simulate
from gem_lightning.evaluation.text import read_text
from gem_lightning.models import Gem, load_gem
from helpers_training import fit

KINDS = ("sinus", "sinus_bradycardia", "sinus_tachycardia", "av_block_1", "rbbb")


def quoted(gem, ecgs):
    """Rate that each text quotes, bpm; NaN without one."""
    found = gem.interpret_many([ecg.record for ecg in ecgs], max_new_tokens=60, seed=0)
    return np.array([read_text(one.text).values.get("rate", np.nan) for one in found])


@pytest.mark.slow
def test_the_recipe_beats_the_median_answer_in_a_minute(tmp_path):
    shipped, _ = load_gem("gem_small")
    save_file(shipped.model.ecg_tower.encoder.state_dict(), tmp_path / "encoder.safetensors")
    plan = ConversationPlan({"brief": 1.0}, per_record=8)
    cohort = ConversationCohort(tmp_path, SimulatedRecords(KINDS), 150, 3, plan, workers=1)
    GlobalHydra.instance().clear()
    with initialize_config_module("gem_lightning.conf", version_base="1.3"):
        cfg = compose("train", [
            "experiment=gem_small", f"model.net.ecg_weights={tmp_path}/encoder.safetensors", "model.net.ecg.pooled=125",
            "paths.output=unused", "model.freeze=[model.ecg_tower.encoder.trunk.*]", "optim.warmup=20",
        ])  # fmt: skip
    cfg.data.train = cfg.data.val = None
    lightning.seed_everything(0, verbose=False)
    data, module = instantiate(cfg.data), instantiate(cfg.model)
    data.sources.update(train=cohort)
    cohort.prepare()

    module.configure_model()
    held_out = [simulate(KINDS[k % len(KINDS)], 9_000 + k, snr_db=25) for k in range(15)]
    assert np.isnan(quoted(Gem(module.net.eval(), data.processor), held_out)).all()
    module.net.train()
    fit(module, data, max_steps=150, max_epochs=-1)
    rates = np.array([ecg.parameters["heart_rate"] for ecg in held_out])
    error = np.abs(quoted(Gem(module.net.eval(), data.processor), held_out) - rates)
    assert np.isfinite(error).all() and np.mean(error <= 5) >= 0.8
    assert error.mean() < 0.25 * np.abs(rates - np.median(rates)).mean()
