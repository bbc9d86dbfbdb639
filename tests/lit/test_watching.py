"""What a run shows: counted speed, checked texts, and the samples of a step that is not finite."""

import json
import os

import lightning
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from gem_lightning.data import SimulatedCohort
from gem_lightning.ecg import simulate
from gem_lightning.errors import DataError, GemError
from gem_lightning.features import measure
from gem_lightning.grounding import compose
from gem_lightning.lit import GemLitModule, InstructionDataModule, ProgressBar, SampleTexts, Throughput
from gem_lightning.lit.callbacks.nan_guard import NanGuard
from gem_lightning.lit.callbacks.sample_texts import text_metrics
from gem_lightning.lit.callbacks.throughput import device_peak
from gem_lightning.lit.optim import Optimization
from gem_lightning.models import build_gem, build_processor, tiny_tokenizer
from helpers_kill import exit_codes
from helpers_processes import start
from helpers_sizes import TINY
from helpers_training import fit as fit_plainly
from helpers_training import parts, tiny_cohort

SIZES = TINY | {"vision": "none"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    cohort = SimulatedCohort(tmp_path_factory.mktemp("cohort"), n=8, seed=3, workers=1)
    cohort.prepare()
    processor = build_processor(tiny_tokenizer(), SIZES)
    return InstructionDataModule(processor, cohort, cohort, batch_size=2, num_workers=0)


def module(**options):
    torch.manual_seed(0)
    return GemLitModule(lambda: build_gem(**SIZES), optim=Optimization(lr=1e-3, warmup=1), **options)


def fit(net, data, *callbacks, loggers=False, **options):
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=loggers,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
        max_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **options,
    )
    trainer.fit(net, data)
    return trainer


def test_speed_is_logged_with_what_it_means(data, tmp_path):
    csv = CSVLogger(tmp_path, name=None, version="csv")
    speed = Throughput(every_n_steps=2, peak_tflops=2.0)
    trainer = fit(module(), data, speed, loggers=[csv], limit_val_batches=0)
    logged = trainer.logged_metrics
    assert 0 < logged["speed/real_token_share"] <= 1
    assert logged["speed/mfu"] == pytest.approx(logged["speed/tflops"] / 2.0)
    assert logged["speed/tokens_per_s"] > logged["speed/samples_per_s"] > 0
    assert 0 <= logged["speed/data_wait_share"] <= 1
    assert logged["memory/peak_gib"] > 0.1
    assert logged["data/cut_samples"] == 0
    assert "train/grad_norm" in (tmp_path / "csv" / "metrics.csv").read_text()


def test_a_short_run_shows_everything_on_its_bar(data):
    """As the configs ask: at every logged step, with a peak that the CPU itself gave."""
    bar = ProgressBar(refresh_rate=1)
    trainer = fit(module(), data, Throughput(), bar, limit_val_batches=0, limit_train_batches=2)
    shown = bar.get_metrics(trainer, trainer.lightning_module)
    assert {"train/loss", "samples/s", "tokens/s", "MFU", "real", "wait", "GiB"} <= shown.keys()
    assert 0 < trainer.logged_metrics["speed/mfu"] < 1.5


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989.4e12), ("NVIDIA H100 80GB HBM3", 989.4e12), ("NVIDIA A100-SXM4-80GB", 312e12)],
)
def test_peaks_of_gpus_are_dense(name, peak, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    found, source = device_peak(torch.device("cuda"))
    assert found == pytest.approx(peak, rel=1e-3) and name in source


def test_a_cpu_measures_its_peak():
    peak, source = device_peak(torch.device("cpu"))
    assert peak > 1e8 and source == "measured matrix product, float32"


def test_long_samples_are_cut_and_counted(data):
    short = InstructionDataModule(data.processor, data.sources["train"], batch_size=2, num_workers=0, max_length=90)
    trainer = fit(module(), short, Throughput(every_n_steps=1), limit_val_batches=0)
    assert trainer.logged_metrics["data/cut_samples"] == 8


def test_validation_shows_texts_beside_pictures_and_checks_them(data, tmp_path):
    board = TensorBoardLogger(tmp_path, name=None, version="board")
    show = SampleTexts(count=3, shown=2, max_new_tokens=8, folder=tmp_path / "samples")
    trainer = fit(module(), data, show, loggers=[board], limit_train_batches=1, limit_val_batches=1)
    assert {"val/claims/claims_per_text", "val/claims/finding_f1"} <= trainer.logged_metrics.keys()
    (page,) = (tmp_path / "samples").glob("step-*.html")
    html = page.read_text()
    assert html.count("Reference:") == 2 and "simulated-3-0" in html
    assert list((tmp_path / "board").glob("events*"))


def test_figures_of_texts_are_what_a_reader_would_count():
    ecgs = [simulate(name, seed=5, snr_db=35) for name in ("lbbb", "sinus", "av_block_1")]
    features = [measure(ecg.record) for ecg in ecgs]
    truth = [compose(f, seed=0, style="brief") for f in features]
    perfect = text_metrics(truth, truth, features)
    assert perfect["finding_f1"] == 1.0 and perfect["precision"] == 1.0 and perfect["hallucination_rate"] == 0.0
    moved = truth[1:] + truth[:1]
    wrong = text_metrics(moved, truth, features)
    assert wrong["finding_f1"] < 0.7 and wrong["precision"] < 0.7 and wrong["hallucination_rate"] > 0.1
    assert text_metrics(["No."], ["Left bundle branch block."], [None])["finding_f1"] == 0.0


class Poison(lightning.Callback):
    """Makes the gradients of some steps infinite, as a broken sample does."""

    def __init__(self, *steps):
        self.steps, self.before, self.same = steps, None, []

    def on_after_backward(self, trainer, net):
        if trainer.global_step in self.steps:
            self.before = net.net.lm_head.weight.detach().clone()
            net.net.lm_head.weight.grad[0, 0] = float("nan")

    def on_train_batch_end(self, trainer, net, outputs, batch, batch_idx):
        if self.before is not None:
            self.same.append(torch.equal(self.before, net.net.lm_head.weight))
            self.before = None


def test_a_bad_step_is_left_out_and_counted(data):
    poison = Poison(1, 2)
    net = module(nonfinite="skip")
    fit(net, data, poison, limit_val_batches=0)
    assert poison.same == [True, True]
    assert net.guard.skipped == 2
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_a_bad_step_stops_and_names_its_samples(data):
    with pytest.raises(DataError, match="simulated-3-"):
        fit(module(), data, Poison(1), limit_val_batches=0)


def test_of_several_batches_the_bad_one_is_named():
    guard = NanGuard("skip")
    guard.watch(torch.tensor(1.0), ["good"])
    guard.watch(torch.tensor(float("nan")), ["bad"])
    guard.policy = "stop"
    with pytest.raises(DataError, match=r"samples \['bad'\]"):
        guard.let_pass(float("nan"))


def _poisoned_on_two(folder, policy):
    """One of two processes meets a sample that breaks the loss; both must say whose, and end or go on alike."""
    rank = int(os.environ["RANK"])
    net, samples = parts(tiny_cohort(folder), "data.batch_size=2", f"model.nonfinite={policy}")
    poison = Spoil(rank, folder / f"ids-{policy}.json")
    try:
        trainer = fit_plainly(net, samples, poison, devices=2, strategy="ddp", max_steps=4, max_epochs=-1)
    except DataError as error:
        (folder / f"said-{policy}-{rank}").write_text(str(error))
    else:
        weights = sum(float(p.detach().double().sum()) for p in net.parameters())
        (folder / f"said-{policy}-{rank}").write_text(f"{trainer.global_step} {net.guard.skipped} {weights!r}")


class Spoil(lightning.Callback):
    """Process 1's signals become NaN at the second step."""

    def __init__(self, rank, file):
        self.rank, self.file = rank, file

    def on_train_batch_start(self, trainer, net, batch, batch_idx):
        if self.rank == 1 and batch_idx == 1 and trainer.current_epoch == 0:
            batch["ecg_values"].fill_(float("nan"))
            self.file.write_text(json.dumps(batch["ids"]))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_two_processes_name_the_bad_samples_and_decide_alike(tmp_path, policy):
    assert exit_codes(start(_poisoned_on_two, tmp_path, policy, ranks=2)) == [0, 0]
    said = [(tmp_path / f"said-{policy}-{rank}").read_text() for rank in range(2)]
    assert said[0] == said[1]
    if policy == "stop":
        assert str(json.loads((tmp_path / "ids-stop.json").read_text())) in said[0]
    else:
        steps, skipped, _ = said[0].split()
        assert (steps, skipped) == ("4", "1")


def test_a_loss_scaler_sees_to_its_own_steps():
    guard = NanGuard()
    for number in range(3):
        guard.watch(torch.tensor(1.0), [number])
        assert guard.let_pass(float("inf"), scaled=True)
    guard.watch(torch.tensor(1.0), ["last"])
    with pytest.raises(DataError, match=r"samples \['last'\]"):
        guard.let_pass(float("inf"))


def test_a_run_of_bad_steps_stops():
    guard = NanGuard("skip")
    for _ in range(9):
        guard.watch(torch.tensor(1.0), ["a"])
        assert not guard.let_pass(float("inf"))
    with pytest.raises(DataError, match="10 step"):
        guard.let_pass(float("inf"))
    with pytest.raises(GemError, match="nonfinite"):
        NanGuard("ignore")
