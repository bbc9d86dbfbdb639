"""Peak memory while a checkpoint is loaded: one copy, and nothing is read before everything is checked."""

import json
import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys, torch
from gem_lightning.models import load_gem
import gem_lightning.models.modeling_gem
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    model, _ = load_gem(sys.argv[1])
    assert torch.isfinite(model.lm_head.weight.float().sum())
except ValueError:
    pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def peak(folder):
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["ours", "original"])
def test_loading_a_gigabyte_takes_one_copy(layout, parts, tokenizer, tmp_path):
    import torch

    from gem_lightning.models import build_gem, build_processor, save_original

    parts["llm"] |= {"hidden_size": 1536, "intermediate_size": 4096, "num_hidden_layers": 19, "num_attention_heads": 12}
    model, processor = build_gem(**parts, dtype="bfloat16"), build_processor(tokenizer, parts, image_mode="ori")
    if layout == "ours":
        model.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
    else:
        save_original(model, processor, tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 1e9
    assert next(model.parameters()).dtype == torch.bfloat16
    del model
    assert peak(tmp_path) < 1.25 * size
    raw = json.loads((tmp_path / "config.json").read_text())
    where = raw["text_config"] if layout == "ours" else raw
    where["intermediate_size"] = 4000
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert peak(tmp_path) < 0.1 * size
