"""The package of docs/extension_points.md: ten kinds of parts, used without a change to the library.

It is put on the path as pip would install it: a folder and its metadata.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import pytest
import torch

from gem_lightning.errors import CheckpointError, DataError, RenderError
from gem_lightning.evaluation.base import Result
from gem_lightning.evaluation.llm_judge.judge import Judge, calibrate
from gem_lightning.evaluation.metrics import score_answers
from gem_lightning.models import build_gem, build_processor, load_gem, save_original, tiny_tokenizer
from gem_lightning.models.modeling_gem import GemForConditionalGeneration
from gem_lightning.plugins import plugins
from gem_lightning.reporting.evaluation import EvaluationReport
from helpers_sizes import TINY

PAGE = Path(__file__).parents[1] / "docs" / "extension_points.md"
FLAT = """
import torch

class Flat(torch.nn.Linear):
    def forward(self, ecg):
        return ecg.mean(-1)
"""


def files_of_page():
    """The package of docs/extension_points.md, as pip would install it."""
    blocks = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    files = dict(blocks) | {"mylab/__init__.py": "", "mylab/conf/__init__.py": "", "mylab/flat.py": FLAT}
    project = tomllib.loads(files.pop("pyproject.toml"))["project"]
    points = [
        f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in rows.items())
        for group, rows in project["entry-points"].items()
    ]
    files["mylab-0.1.dist-info/entry_points.txt"] = "\n".join(points)
    files["mylab-0.1.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: mylab\nVersion: 0.1\n"
    return files


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder that holds the installed package."""
    folder = tmp_path_factory.mktemp("site")
    for name, content in files_of_page().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.fixture
def mylab(package, monkeypatch):
    """The package on this process's path."""
    monkeypatch.syspath_prepend(package)
    plugins.cache_clear()
    yield
    plugins.cache_clear()
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
    from mylab.encoder import Pooled
    from mylab.flat import Flat

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


def run(package, folder, module, *arguments):
    path = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_layout_is_drawn_by_its_name(mylab):
    from gem_lightning.ecg import simulate
    from gem_lightning.render import EcgRenderer

    drawn = EcgRenderer("two-columns", size=(400, 560))(simulate("sinus", seed=0).record)
    assert [trace.lead for trace in drawn.geometry.traces] == ["I", "V1", "II", "V2", "III", "V5", "II"]
    with pytest.raises(RenderError, match="two-columns"):
        EcgRenderer("three-columns")


def test_a_family_of_language_models_is_registered_when_it_is_named(mylab, tmp_path):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    parts = TINY | {"llm": {"model_type": "mylab_llm", "vocab_size": 640, **sizes}}
    assert "mylab.language_model" not in sys.modules
    model = build_gem(**parts)
    assert type(model.model.language_model).__name__ == "PocketModel"
    model.save_pretrained(tmp_path)
    build_processor(tiny_tokenizer(), parts).save_pretrained(tmp_path)
    assert type(load_gem(tmp_path)[0].model.language_model).__name__ == "PocketModel"
    with pytest.raises(CheckpointError, match="got 'another_llm'"):
        build_gem(**TINY | {"llm": {"model_type": "another_llm"}})


def test_a_metric_scores_the_answers_of_any_benchmark(tmp_path):
    answers = [
        {"question_id": "a", "text": "sinus", "model_id": "m"},
        {"question_id": "b", "text": "AF", "model_id": "m"},
    ]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    result = Result("words", "m", {"n": 2}, EvaluationReport("Words", ""), groups={"a": "1", "b": "2"})
    score_answers(result, {"one": lambda found: {"a": 1.0}, "half": lambda found: {"a": 1.0, "b": 0.0}}, tmp_path)
    assert result.metrics["half"]["value"] == 0.5 and result.metrics["half"]["groups"] == 2
    assert result.per_record["one"] == {"a": 1.0}
    assert [row[0] for row in result.report.tables[-1].rows] == ["one", "half"]
    for name, metric, folder, message in [
        ("n", lambda found: {"a": 1.0}, tmp_path, "a new name of a metric, got 'n'"),
        ("none", lambda found: {"c": 1.0}, tmp_path, "got none of 2"),
        ("other", lambda found: {"a": 1.0}, tmp_path / "nowhere", "found none; metrics= works with"),
    ]:
        with pytest.raises(DataError, match=message):
            score_answers(result, {name: metric}, folder)


def test_the_judge_passes_its_calibration(mylab):
    from mylab.judge import Overlap

    assert calibrate(Judge(Overlap(), "grounding")).trusted
    assert not calibrate(Judge(Overlap(floor=1.0), "grounding")).trusted


@pytest.mark.slow
def test_data_training_and_evaluation_with_parts_of_another_package(package, tmp_path):
    from gem_lightning.ecg import simulate

    clinic = tmp_path / "recordings"
    clinic.mkdir()
    for i in range(6):
        record = simulate(("sinus", "rbbb")[i % 2], seed=i, snr_db=30).record
        content = {"hz": record.fs, "names": record.leads, "uV": (1000 * record.signal).round(1).tolist()}
        (clinic / f"p{i}.mylab").write_text(json.dumps(content))
    generate, train, evaluate, grade, render = commands_of_page()
    run(package, tmp_path, *generate, "workers=1", "splits={val: 0.2, test: 0}")
    card = json.loads((tmp_path / "data" / "run_card.json").read_text())
    assert card["teacher"] == "terse" and card["samples"] == 6
    assert len(list((tmp_path / "data").glob("teacher-*of3.json"))) == 3  # one of each part of the engine
    small = ("data.batch_size=2", "data.num_workers=0", "trainer.max_epochs=1", "render.size=[112,112]")
    run(package, tmp_path, *train, *small)
    model = tmp_path / "outputs" / "gem_tiny" / "model"
    stored = json.loads((model / "config.json").read_text())
    assert stored["ecg_config"]["encoder"] == {"target": "mylab.encoder.Pooled", "arguments": {"width": 24}}
    assert stored["text_config"]["model_type"] == "mylab_llm"
    run(package, tmp_path, *evaluate, "max_new_tokens=6")
    judged = json.loads((tmp_path / "judged" / "results.json").read_text())
    assert judged["metrics"]["n"] == 6 and judged["metrics"]["sinus"]["n"] == 6
    run(package, tmp_path, *grade, "max_new_tokens=6")
    (scores,) = json.loads((tmp_path / "graded" / "results.json").read_text())["metrics"]["judges"].values()
    assert scores["calibration"]["trusted"] and scores["n"] == 5
    run(package, tmp_path, *render)
    assert (tmp_path / "p0.png").stat().st_size > 10_000
    weights = reloaded_tower(package, model)
    assert weights["changed"] and weights["class"] == "mylab.encoder.Pooled"
    alone = [sys.executable, "-m", "gem_lightning.evaluate", f"model={model}", "benchmark=simulator", "out=x"]
    done = subprocess.run(alone, cwd=tmp_path, capture_output=True, text=True)  # without the package
    assert done.returncode == 2 and "pip install -U transformers, or the package that brings it" in done.stderr


def commands_of_page():
    """The commands at the end of the page, as modules and arguments."""
    block = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)[-1]
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        yield words[2:] if words[0] == "python" else ["gem_lightning.cli", *words[1:]]


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
