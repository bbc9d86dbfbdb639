"""Metrics of encoders against independent computation, and the benchmark end to end."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from gem_lightning.data.ecg_text.collate import train_tokenizer
from gem_lightning.data.ecg_text.dataset import EcgText, EcgTextTable
from gem_lightning.errors import DataError
from gem_lightning.evaluation.encoder import metrics
from gem_lightning.evaluation.encoder.benchmark import EncoderBenchmark, embed, load_encoder
from gem_lightning.evaluation.encoder.metrics import macro_auroc
from gem_lightning.evaluation.encoder.probe import choose_strength, cross_validated, few_shot, fit_probe
from gem_lightning.models.compat.coca import save_coca
from gem_lightning.models.encoder.coca import bert_text_encoder, build_coca
from gem_lightning.models.encoder.transformer import EcgTransformer

BERT = {
    "model_type": "bert", "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 80,
}  # fmt: skip


def test_auroc_equals_scikit_learn_also_with_ties_and_scores_out_of_range():
    rng = np.random.default_rng(0)
    scores, truth = np.round(rng.normal(0, 30, (200, 3))), rng.uniform(size=(200, 3)) < 0.3
    wanted = [roc_auc_score(truth[:, i], scores[:, i]) for i in range(3)]
    for pair in ((scores, truth), (torch.from_numpy(scores), torch.from_numpy(truth))):
        assert macro_auroc(*pair) == pytest.approx(np.mean(wanted), abs=1e-12)


def test_labels_without_both_classes_are_excluded():
    scores, truth = torch.randn(10, 2), torch.zeros(10, 2)
    truth[:5, 0] = 1
    wanted = roc_auc_score(truth[:, 0].numpy(), scores[:, 0].numpy())
    assert macro_auroc(scores, truth) == pytest.approx(wanted)
    assert np.isnan(macro_auroc(scores.numpy(), np.zeros((10, 2))))


def test_retrieval_by_hand():
    ecg = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), dim=1)
    text = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [0.6, 0.8], [0.0, 1.0]]), dim=1)
    found = metrics.retrieval_recall(ecg, text, ks=(1, 2))
    assert found["ecg_to_text_R@1"] == pytest.approx(1 / 3)  # only the first ECG is nearest to its own text
    assert found["ecg_to_text_R@2"] == 1.0
    assert found["text_to_ecg_R@1"] == pytest.approx(1 / 3)


def test_constant_embeddings_do_not_look_good():
    same = torch.ones(50, 4) / 2
    assert metrics.retrieval_recall(same, same)["ecg_to_text_R@10"] == 0.0


def test_class_embedding_is_the_mean_of_unit_prompts():
    prompts, owner = torch.tensor([[2.0, 0.0], [0.0, 5.0], [1.0, 0.0]]), torch.tensor([0, 0, 1])
    found = metrics.class_embeddings(prompts, owner, 2)
    torch.testing.assert_close(found, torch.tensor([[0.5**0.5, 0.5**0.5], [1.0, 0.0]]))


def make_features(seed=0, n=300):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 10)).astype(np.float32)
    targets = (features[:, :2] + 0.3 * rng.normal(size=(n, 2)) > 0).astype(np.float32)
    return features, targets


def test_probes_find_a_linear_truth_and_only_that():
    features, targets = make_features()
    others, truth = make_features(1)
    assert macro_auroc(fit_probe(features, targets, others, 0.1), truth) > 0.95
    ridge = metrics.ridge_probe(*map(torch.from_numpy, (features, targets, others)))
    assert macro_auroc(ridge.numpy(), truth) > 0.95
    rng = np.random.default_rng(2)
    chance = [macro_auroc(fit_probe(features, rng.permutation(targets), others, 0.1), truth) for _ in range(20)]
    assert abs(np.mean(chance) - 0.5) < 0.12
    assert choose_strength(features, targets, others, truth) in (0.001, 0.01, 0.1, 1.0)


def test_more_shots_are_better_and_rare_labels_are_left_out():
    features, targets = make_features()
    others, truth = make_features(1)
    one, twenty = (np.mean(few_shot(features, targets, others, truth, shots)) for shots in (1, 20))
    assert 0.5 < one < twenty
    assert np.isnan(few_shot(features, targets, others, truth, 1000)).all()


def test_cross_validation_never_sees_the_patient():
    """Labels that are a patient's own noise cannot be learned from other patients."""
    rng = np.random.default_rng(0)
    patients = np.repeat([f"p{i:03}" for i in range(60)], 4)
    features = np.repeat(rng.normal(size=(60, 80)), 4, axis=0) + 0.01 * rng.normal(size=(240, 80))
    targets = np.repeat(rng.integers(0, 2, (60, 1)), 4, axis=0)
    scores = cross_validated(features, targets, list(patients))
    assert macro_auroc(scores, targets) < 0.75
    assert macro_auroc(fit_probe(features, targets, features, 0.01), targets) > 0.95


def test_cross_validation_of_noise_is_chance_not_below():
    """Pooled scores must not rank backwards where the parts differ in their share of a label."""
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        features, targets = rng.normal(size=(60, 5)), (rng.uniform(size=(60, 1)) < 0.12).astype(float)
        scores = cross_validated(features, targets, [f"{i:03}" for i in range(60)])
        found.append(macro_auroc(scores, targets))
    assert abs(np.nanmean(found) - 0.5) < 0.09


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An untrained encoder in the original's layout, with its tokenizer."""
    torch.manual_seed(0)
    network = build_coca(
        ecg=partial(EcgTransformer, width=32, layers=1, head_width=16, output_dim=16),
        text=partial(bert_text_encoder, BERT, output_dim=16),
    )
    folder = tmp_path_factory.mktemp("encoder")
    save_coca(network, folder, tokenizer=train_tokenizer(["Sinus rhythm. Right bundle branch block."], 400))
    return folder


def table(n, split="test", start=0):
    names = ("sinus_tachycardia", "rbbb")
    pairs = [
        EcgText(str(i), f"simulate:{names[i % 2]}::{i}", "", f"p{i // 2}", (names[i % 2],), split)
        for i in range(start, start + n)
    ]
    return EcgTextTable(pairs)


def test_benchmark_end_to_end(trained, tmp_path):
    import pyarrow.parquet as pq

    run = EncoderBenchmark(table(24), "simulated", train=table(40, start=100), shots=(2,), draws=50)
    seen = []
    result = run(trained, tmp_path, lambda done, total: seen.append((done, total)))
    found = result.metrics
    assert seen[-1] == (64, 64)
    assert found["records"] == {"train": 36, "val": 4, "test": 24}
    # even untrained features separate a wide QRS from a fast rhythm
    assert found["linear_probe"]["value"] > 0.7
    assert set(found["linear_probe"]["labels"]) == {"rbbb", "sinus_tachycardia"}
    assert found["zero_shot"]["low"] <= found["zero_shot"]["value"] <= found["zero_shot"]["high"]
    assert set(found["few_shot"]) == {"2"}
    result.save(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["metrics"]["task"] == "simulated"
    assert "Linear probe" in (tmp_path / "report.md").read_text()
    rows = pq.read_table(tmp_path / "embeddings.parquet")
    assert rows.num_rows == 64
    network, _ = load_encoder(trained)
    again = embed(network, table(24))
    stored = np.stack(rows.filter(np.array(rows.column("split")) == "test").column("embedding").to_pylist())
    np.testing.assert_allclose(stored, again, atol=1e-5)


def test_embedding_does_not_depend_on_the_batch_size(trained):
    network, tokenizer = load_encoder(trained)
    assert tokenizer.pad_token_id == 0
    np.testing.assert_allclose(embed(network, table(5), batch_size=2), embed(network, table(5)), atol=1e-5)


def test_without_tokenizer_there_is_no_zero_shot_and_unknown_labels_are_refused(trained):
    network, _ = load_encoder(trained)
    result = EncoderBenchmark(table(24), "simulated", draws=10)(network)
    assert set(result.metrics) == {"task", "records"}
    with pytest.raises(DataError, match="got lbbb"):
        EncoderBenchmark(table(24), "simulated", labels=["lbbb"])(network)
