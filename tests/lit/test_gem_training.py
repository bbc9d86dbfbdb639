"""Training for real at the smallest size: it learns, it reads the signal, and a restart changes nothing."""

import lightning
import numpy as np
import pytest
import torch

from gem_lightning.data import SimulatedCohort
from gem_lightning.grounding import extract
from gem_lightning.lit import KeepLast
from gem_lightning.lit.checkpointing.io import newest_whole
from gem_lightning.models import generate_texts
from helpers_training import Losses, StopAfter, fit, parts


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    made = SimulatedCohort(tmp_path_factory.mktemp("cohort"), n=8, seed=3, workers=1)
    made.prepare()
    return made


def test_overfits_eight_ecgs_and_reads_them_from_the_signal(cohort):
    module, data = parts(cohort, "data.batch_size=8", "optim.lr=0.003", "optim.weight_decay=0", "optim.warmup=10")
    fit(module, data, max_steps=160, max_epochs=-1)
    examples = data.examples(8)
    answers = [example["answer"] for example in examples]
    assert len(set(answers)) == 8
    written = generate_texts(module.net, data.processor, examples, max_new_tokens=192)
    assert written == answers

    swapped = [e | {"record": f["record"], "image": f["image"]} for e, f in zip(examples, examples[1:] + examples[:1])]
    written = generate_texts(module.net, data.processor, swapped, max_new_tokens=192)
    assert agreement(written, answers) < 0.5 < agreement(answers, answers) == 1.0
    assert written == answers[1:] + answers[:1]


def agreement(written, answers):
    """Share of the numeric claims of the answers that the written texts repeat."""

    def numbers(text):
        return {(c.kind, c.value) for c in extract(text) if c.value is not None}

    pairs = [(numbers(w), numbers(a)) for w, a in zip(written, answers)]
    return sum(len(w & a) for w, a in pairs) / sum(len(a) for _, a in pairs)


def test_resume_in_the_middle_of_an_epoch_is_exact(cohort, tmp_path):
    whole = Losses()
    fit(*parts(cohort, "data.batch_size=2"), whole, max_epochs=3)

    first, second = Losses(), Losses()
    keep = KeepLast(tmp_path, every_n_steps=1)
    stop = StopAfter(6)
    fit(*parts(cohort, "data.batch_size=2"), first, keep, stop, max_epochs=3)
    module, data = parts(cohort, "data.batch_size=2")
    torch.manual_seed(99)
    fit(module, data, second, max_epochs=3, ckpt_path=newest_whole(tmp_path))
    assert len(whole.values) == 12
    assert first.values + second.values == whole.values


@pytest.mark.parametrize(("stop", "together"), [(4, 1), (5, 1), (8, 1), (2, 2)])
def test_an_epoch_that_ended_before_the_restart_is_not_counted_again(cohort, tmp_path, stop, together):
    """With a limit of steps and one of epochs; four batches an epoch, the last stops fall on its end."""
    options = {"max_epochs": 3, "max_steps": 100, "accumulate_grad_batches": together}
    first, second = Losses(), Losses()
    fit(*parts(cohort, "data.batch_size=2"), first, KeepLast(tmp_path, every_n_steps=1), StopAfter(stop), **options)
    keep = KeepLast(tmp_path)
    trainer = fit(*parts(cohort, "data.batch_size=2"), second, keep, ckpt_path=newest_whole(tmp_path), **options)
    assert len(first.values) + len(second.values) == 12
    assert (trainer.current_epoch, trainer.global_step) == (3, 12 // together)


@pytest.mark.slow
def test_worker_processes_change_nothing(cohort):
    one, two = Losses(), Losses()
    fit(*parts(cohort, "data.batch_size=2"), one, max_epochs=1)
    fit(*parts(cohort, "data.batch_size=2", "data.num_workers=2"), two, max_epochs=1)
    assert one.values == two.values


def test_an_interrupted_run_keeps_its_last_step(cohort, tmp_path):
    class Interrupt(lightning.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 3:
                raise KeyboardInterrupt

    keep = KeepLast(tmp_path)
    with pytest.raises(SystemExit):
        fit(*parts(cohort, "data.batch_size=2"), Interrupt(), keep, max_epochs=2)
    state = torch.load(newest_whole(tmp_path), weights_only=True)
    assert state["global_step"] == 3


def test_frozen_towers_stay_as_they_are_and_in_eval_mode(cohort):
    module, data = parts(cohort, "data.batch_size=4", "model.freeze=[model.ecg_tower.*,model.vision_tower.*]")
    module.configure_model()
    before = {k: v.clone() for k, v in module.net.state_dict().items()}
    fit(module, data, max_epochs=1)
    after = module.net.state_dict()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert not any("tower" in k for k in moved)
    assert any(k.startswith("model.ecg_projector") for k in moved)
    assert any(k.startswith("model.multi_modal_projector") for k in moved)
    module.train()
    assert module.net.training and not module.net.model.ecg_tower.training


def test_a_loss_that_is_not_finite_names_its_samples(cohort):
    module, data = parts(cohort, "data.batch_size=4")
    module.configure_model()
    with torch.no_grad():
        module.net.lm_head.weight.fill_(np.nan)
    with pytest.raises(ValueError, match="simulated-3-"):
        fit(module, data, max_epochs=1)
