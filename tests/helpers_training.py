"""Training at the smallest size, for tests and the processes that they start."""

import lightning
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Checkpoint

from gem_lightning import lit, models  # noqa: F401 - what every process of a test needs
from gem_lightning.data import SimulatedCohort


def tiny_cohort(folder):
    """Eight simulated ECGs, made once."""
    cohort = SimulatedCohort(folder / "cohort", n=8, seed=3, workers=1)
    cohort.prepare()
    return cohort


def parts(cohort, *overrides):
    """Module and data of experiment=gem_tiny over the given cohort."""
    GlobalHydra.instance().clear()
    with initialize_config_module("gem_lightning.conf", version_base="1.3"):
        cfg = compose("train", ["experiment=gem_tiny", "paths.output=unused", *overrides])
    cfg.data.train = cfg.data.val = None
    lightning.seed_everything(0, verbose=False)
    data = instantiate(cfg.data)
    data.sources.update(train=cohort, val=cohort)
    return instantiate(cfg.model), data


class Losses(lightning.Callback):
    """``values``: (ids, loss) of each batch; ``logged``: the loss over all processes."""

    def __init__(self):
        self.values, self.logged = [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.values.append((batch["ids"], outputs["loss"].item()))
        self.logged.append(float(trainer.callback_metrics["train/loss"]))


class SaveAt(lightning.Callback):
    """Writes a checkpoint at one step."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


class StopAfter(lightning.Callback):
    """Ends the run without shortening its schedule, as a kill does."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.global_step >= self.steps


def fit(module, data, *callbacks, ckpt_path=None, **options):
    """Train on the CPU without logs and validation; returns the trainer."""
    settings = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
        "min_epochs": 0,
        "gradient_clip_val": 1.0,
        "limit_val_batches": 0,
    }
    trainer = lightning.Trainer(accelerator="cpu", callbacks=list(callbacks), **settings | options)
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer
