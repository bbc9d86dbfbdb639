"""Largest difference of each kind between our numbers and the original implementation's golden files.

python benchmarks/parity.py [folder with gem_tiny, by default tests/golden]
"""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "models"))

from golden_cases import CASES, batch_of, sketch  # noqa: E402

from gem_lightning.models import load_original, save_original  # noqa: E402
from gem_lightning.models.preprocessing import normalise  # noqa: E402

TOLERANCES = {"embeddings": 1e-4, "logits": 1e-3, "loss": 1e-4, "tensors changed by the round trip": 0}


def main(golden: pathlib.Path) -> dict[str, float]:
    folder = golden / "gem_tiny"
    facts = json.loads((folder / "expected.json").read_text())
    tiles = np.load(folder / "images" / "tiles_u8.npz")
    ecgs = load_file(folder / "ecg_inputs.safetensors")["ecgs"]
    worst: dict[str, float] = {}

    def pixels(name: str) -> torch.Tensor:
        return torch.from_numpy(normalise(tiles[name])).reshape(-1, 3, *tiles[name].shape[-2:])

    def note(kind: str, value: float) -> None:
        worst[kind] = max(worst.get(kind, 0.0), value)

    with tempfile.TemporaryDirectory() as place:
        for name in CASES:
            case = pathlib.Path(place) / name
            shutil.copytree(folder / "model", case)
            (case / "config.json").chmod(0o644)
            raw = json.loads((case / "config.json").read_text()) | facts["cases"][name]["config_overrides"]
            (case / "config.json").write_text(json.dumps(raw))
            model, processor = load_original(
                case,
                vision_tower=folder / raw["mm_vision_tower"],
                ecg_config=folder / f"{raw['open_clip_config']}.json",
            )
            batch, wanted, said = batch_of(name, folder, model, processor, ecgs, pixels)
            inputs = {key: value for key, value in batch.items() if key not in ("attention_mask", "labels")}
            with torch.no_grad():
                outputs, embeds = model(**batch), model.embed_inputs(**inputs)
            mask = wanted["out.attention_mask"]
            note("embeddings", float((sketch(embeds) - wanted["out.inputs_embeds_sketch"])[mask].abs().max()))
            note("logits", float((sketch(outputs.logits) - wanted["out.logits_sketch"])[mask].abs().max()))
            note("loss", abs(float(outputs.loss) - said["loss"]))
        again = pathlib.Path(place) / "again"
        save_original(model, processor, again)
        one, other = (load_file(path / "model.safetensors") for path in (folder / "model", again))
        note(
            "tensors changed by the round trip",
            sum(not torch.equal(one[k], other[k]) for k in one.keys() & other.keys()),
        )
        note("tensors changed by the round trip", len(one.keys() ^ other.keys()))
    return worst


if __name__ == "__main__":
    for kind, value in main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests" / "golden").items():
        print(f"{kind:36s} {value:.1e}   (tolerance {TOLERANCES[kind]:g})")
