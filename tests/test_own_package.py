"""A package of somebody else: encoder, reader, data set, benchmark and configs, used without a change to the library.

It is put on the path as pip would install it: a folder and its metadata.
"""

import json
import os
import subprocess
import sys
from functools import partial
from textwrap import dedent

import pytest
import torch

from gem_lightning.errors import CheckpointError, DataError
from gem_lightning.models import build_gem, build_processor, load_gem, save_original, tiny_tokenizer
from gem_lightning.models.modeling_gem import GemForConditionalGeneration
from helpers_sizes import TINY

FILES = {
    "mylab/__init__.py": "",
    "mylab/encoder.py": """
        import torch

        class Pooled(torch.nn.Module):
            '''Means of stretches of all leads: (N, leads, samples) -> (N, tokens, width).'''

            leads, samples = 12, 4000

            def __init__(self, width=16, stretch=500):
                super().__init__()
                self.stretch, self.proj = stretch, torch.nn.Parameter(torch.full((12, width), 0.25))

            def forward(self, ecg):
                means = ecg.unflatten(-1, (-1, self.stretch)).mean(-1)  # (N, leads, tokens)
                return means.transpose(1, 2) @ self.proj

        class Flat(torch.nn.Linear):
            def forward(self, ecg):
                return ecg.mean(-1)
    """,
    "mylab/reader.py": """
        import json
        import numpy as np
        from gem_lightning.ecg.readers.base import RawEcg

        def read(source, options):
            content = json.loads(source.data)
            signal = np.array(content["uV"], dtype=np.float64)
            return RawEcg(signal, content["hz"], tuple(content["names"]), ("uV",) * len(signal), {"age": 50.0})
    """,
    "mylab/source.py": """
        from dataclasses import dataclass
        from pathlib import Path
        from gem_lightning.sources.base import Source
        from gem_lightning.sources.record import SourceRecord

        @dataclass
        class Clinic(Source):
            name: str = "my clinic"

            def _records(self):
                for path in sorted(Path(self.root).glob("*.mylab")):
                    yield SourceRecord(path.stem, str(path.resolve()), patient=path.stem)
    """,
    "mylab/benchmark.py": """
        from pathlib import Path
        from gem_lightning.ecg import read_ecg
        from gem_lightning.evaluation.base import Query, Result, answer_all
        from gem_lightning.reporting.evaluation import EvaluationReport
        from gem_lightning.reporting.html import Table

        class Words:
            name = "words"

            def __init__(self, folder):
                self.records = {path.stem: read_ecg(path) for path in sorted(Path(folder).glob("*.mylab"))}

            def __call__(self, predictor, out, progress=None):
                make = lambda name: Query(name, "How long?", self.records[name])
                answers = answer_all(predictor, list(self.records), make, Path(out) / "predictions.jsonl", progress)
                counts = {name: float(len(answer.text.split())) for name, answer in answers.items()}
                report = EvaluationReport("Words", "Their number")
                report.tables.append(Table("Words", ["Record", "Words"], [[n, str(v)] for n, v in counts.items()]))
                return Result(self.name, predictor.name, {"n": len(counts)}, report, {"words": counts})
    """,
    "mylab/conf/__init__.py": "",
    "mylab/conf/model/net/ecg/pooled.yaml": """
        # @package model.net
        ecg: {_target_: mylab.encoder.Pooled, _partial_: true, width: 24}
    """,
    "mylab/conf/source/clinic.yaml": "_target_: mylab.source.Clinic\nroot: ???\n",
    "mylab/conf/benchmark/words.yaml": "_target_: mylab.benchmark.Words\nfolder: ???\n",
    "mylab-0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: mylab\nVersion: 0.1\n",
    "mylab-0.1.dist-info/entry_points.txt": "[gem_lightning.readers]\nmylab = mylab.reader:read\n",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder that holds the installed package."""
    folder = tmp_path_factory.mktemp("site")
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(content).lstrip("\n"))
    return folder


@pytest.fixture
def mylab(package, monkeypatch):
    """The package on this process's path."""
    monkeypatch.syspath_prepend(package)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "mylab"]:
        del sys.modules[name]


def network(**options):
    from mylab.encoder import Pooled

    torch.manual_seed(0)
    return TINY | {"ecg": partial(Pooled, **options)}


def test_an_encoder_is_saved_by_name_and_rebuilt(mylab, tmp_path):
    parts = network(width=20)
    model, processor = build_gem(**parts), build_processor(tiny_tokenizer(), parts)
    tower = model.model.ecg_tower
    assert type(tower).__name__ == "Pooled" and tower.proj.shape == (12, 20)
    assert torch.equal(tower.proj, torch.full((12, 20), 0.25))  # its own initial values stay
    torch.nn.init.normal_(tower.proj)
    item = processor.encode([{"from": "human", "value": "<ecg>\nWhat?"}], [torch.randn(12, 5000).numpy()])
    assert item["input_ids"].count(processor.ecg_token_id) == processor.ecg_tokens == 8
    batch = {"input_ids": torch.tensor([item["input_ids"]]), "ecg_values": item["ecg_values"]}
    loss = model(**batch, labels=batch["input_ids"].clamp(max=600)).loss
    loss.backward()
    assert tower.proj.grad.abs().sum() > 0
    model.eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())["ecg_config"]["encoder"]
    assert written == {"target": "mylab.encoder.Pooled", "arguments": {"width": 20}}
    for again in (GemForConditionalGeneration.from_pretrained(tmp_path), load_gem(tmp_path)[0]):
        assert type(again.model.ecg_tower) is type(tower)
        assert torch.equal(again.model.ecg_tower.proj, tower.proj)
        assert torch.equal(again.eval()(**batch).logits, model(**batch).logits)
    assert load_gem(tmp_path)[1].ecg_tokens == 8
    with pytest.raises(CheckpointError, match="no place in the published layout"):
        save_original(model, processor, tmp_path / "original")


def test_an_encoder_that_is_not_here_is_one_clear_error(mylab, tmp_path):
    build_gem(**network()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for target, message in [
        ("elsewhere.Encoder", r"elsewhere.Encoder, got: No module named 'elsewhere'; install its package"),
        ("os.system", r"expected os.system to be a torch.nn.Module"),
    ]:
        config["ecg_config"]["encoder"] = {"target": target, "arguments": {"command": "true"}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=message):
            GemForConditionalGeneration.from_pretrained(tmp_path)


def test_what_is_no_encoder_is_refused(mylab):
    from mylab.encoder import Flat, Pooled

    class Local(Pooled):
        pass

    for encoder, message in [
        (partial(Flat, 12, 8), "expected the class of an ECG encoder"),
        (partial(Flat, in_features=12, out_features=8), r"tokens of shape \(1, tokens, width\).*got \(1, 12\)"),
        (partial(Pooled, width=torch.float32), "plain arguments"),
        (Pooled(), "_partial_: true"),
        (Local, "in a module that can be imported"),
    ]:
        with pytest.raises(DataError, match=message):
            build_gem(**TINY | {"ecg": encoder})


def run(package, folder, module, *arguments, code=0):
    path = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", f"gem_lightning.{module}", "hydra.searchpath=[pkg://mylab.conf]", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr


@pytest.mark.slow
def test_data_training_and_evaluation_with_parts_of_another_package(package, tmp_path):
    from gem_lightning.ecg import simulate

    clinic = tmp_path / "recordings"
    clinic.mkdir()
    for i in range(6):
        record = simulate(("sinus", "rbbb")[i % 2], seed=i, snr_db=30).record
        content = {"hz": record.fs, "names": record.leads, "uV": (1000 * record.signal).round(1).tolist()}
        (clinic / f"p{i}.mylab").write_text(json.dumps(content))
    made = ("source=clinic", "source.root=recordings", "out=data", "workers=1", "splits={val: 0.2, test: 0}")
    run(package, tmp_path, "generate", *made)
    training = (
        "experiment=gem_tiny", "data=instructions", "model/net/ecg=pooled", "data.train=data/train.jsonl",
        "data.val=data/val.jsonl", "data.batch_size=2", "data.num_workers=0", "trainer.max_epochs=1",
        "render.size=[112,112]",
    )  # fmt: skip
    run(package, tmp_path, "train", *training)
    model = tmp_path / "outputs" / "gem_tiny" / "model"
    stored = json.loads((model / "config.json").read_text())["ecg_config"]
    assert stored["encoder"] == {"target": "mylab.encoder.Pooled", "arguments": {"width": 24}}
    asked = ("benchmark=words", "benchmark.folder=recordings", "out=judged", "max_new_tokens=6")
    run(package, tmp_path, "evaluate", f"model={model}", *asked)
    assert json.loads((tmp_path / "judged" / "results.json").read_text())["metrics"] == {"n": 6}
    weights = reloaded_tower(package, model)
    assert weights["changed"] and weights["class"] == "mylab.encoder.Pooled"
    alone = [sys.executable, "-m", "gem_lightning.evaluate", f"model={model}", "benchmark=simulator", "out=x"]
    done = subprocess.run(alone, cwd=tmp_path, capture_output=True, text=True)  # without the package
    assert done.returncode == 2 and "expected the ECG encoder mylab.encoder.Pooled" in done.stderr


def reloaded_tower(package, folder):
    """Reload the trained model in a process that has the package."""
    code = (
        "import json, sys, torch; from gem_lightning.models.modeling_gem import GemForConditionalGeneration as G;"
        "t = G.from_pretrained(sys.argv[1]).model.ecg_tower;"
        "print(json.dumps({'class': f'{type(t).__module__}.{type(t).__name__}',"
        " 'changed': not torch.equal(t.proj, torch.full_like(t.proj, 0.25))}))"
    )
    path = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    return json.loads(done.stdout.splitlines()[-1])
