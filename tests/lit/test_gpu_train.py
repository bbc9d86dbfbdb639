"""benchmarks/gpu_train.py runs at tiny size, each way to train in turn."""

import importlib.util
import pathlib
import weakref

import torch


def loaded():
    path = pathlib.Path(__file__).parents[2] / "benchmarks" / "gpu_train.py"
    spec = importlib.util.spec_from_file_location("gpu_train", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_every_way_to_train_is_measured(capsys):
    rows = loaded().main(["--steps", "1", "--rank", "4", "--recompute", "selective"])
    assert [row["kind"] for row in rows] == ["full", "lora", "qlora"]
    assert all(row["tokens_per_s"] > 0 and row["tflops"] > 0 for row in rows)
    assert rows[0]["trained_parameters"] > rows[1]["trained_parameters"] == rows[2]["trained_parameters"]


def test_one_way_that_does_not_fit_leaves_the_others(capsys, monkeypatch):
    script = loaded()
    measure, free = script.measure, script._free
    networks, held = [], []

    def small(kind, *rest):
        if kind == "full":
            network = torch.nn.Linear(1, 1)
            networks.append(weakref.ref(network))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.00 GiB. GPU 0 has ...")
        return measure(kind, *rest)

    def look(device):
        free(device)
        held.append([network() is not None for network in networks])

    monkeypatch.setattr(script, "measure", small)
    monkeypatch.setattr(script, "_free", look)
    full, lora = script.main(["--steps", "1", "--rank", "4", "--kinds", "full", "lora"])
    assert full["out_of_memory"].startswith("CUDA out of memory; fewer --samples")
    assert lora["tokens_per_s"] > 0
    assert held == [[], [False]]  # nothing of the first was left when memory was given back
