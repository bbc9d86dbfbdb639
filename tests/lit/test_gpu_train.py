"""benchmarks/gpu_train.py runs at tiny size, each way to train in turn."""

import importlib.util
import pathlib


def test_every_way_to_train_is_measured(capsys):
    path = pathlib.Path(__file__).parents[2] / "benchmarks" / "gpu_train.py"
    spec = importlib.util.spec_from_file_location("gpu_train", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rows = script.main(["--steps", "1", "--rank", "4", "--recompute", "selective"])
    assert [row["kind"] for row in rows] == ["full", "lora", "qlora"]
    assert all(row["tokens_per_s"] > 0 and row["tflops"] > 0 for row in rows)
    assert rows[0]["trained_parameters"] > rows[1]["trained_parameters"] == rows[2]["trained_parameters"]
