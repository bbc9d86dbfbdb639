"""The numbers of the original implementation, at the tolerances of the golden files."""

import importlib.util
import pathlib

import pytest
import torch
from safetensors.torch import load_file

from gem_lightning.models import load_original

_spec = importlib.util.spec_from_file_location("golden_cases", pathlib.Path(__file__).with_name("golden_cases.py"))
golden_cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden_cases)


def largest(found, wanted, mask=None):
    difference = (found - wanted).abs()
    return float((difference if mask is None else difference[mask.bool()]).max())


@pytest.fixture(scope="module")
def cases(gem_tiny, expected, loaded, ecgs, pixels, tmp_path_factory):
    """A function: name -> (batch, golden, facts, outputs, embeddings)."""
    import json
    import shutil

    def run(name):
        model, processor = loaded
        changes = expected["cases"][name]["config_overrides"]
        if changes:
            folder = tmp_path_factory.mktemp(name) / "model"
            shutil.copytree(gem_tiny / "model", folder)
            raw = json.loads((folder / "config.json").read_text()) | changes
            (folder / "config.json").write_text(json.dumps(raw))
            sizes = {"vision_tower": gem_tiny / "clip-vit-tiny-patch14-336", "ecg_config": gem_tiny / "coca_tiny.json"}
            model, processor = load_original(folder, **sizes)
        batch, golden, facts = golden_cases.batch_of(name, gem_tiny, model, processor, ecgs, pixels)
        with torch.no_grad():
            inputs = {k: v for k, v in batch.items() if k not in ("attention_mask", "labels")}
            return batch, golden, facts, model(**batch), model.embed_inputs(**inputs)

    return run


@pytest.mark.parametrize("name", golden_cases.CASES)
def test_embeddings_logits_and_loss(cases, name):
    batch, golden, facts, outputs, embeds = cases(name)
    mask = golden["out.attention_mask"]
    assert torch.equal(batch["attention_mask"].bool(), mask)
    assert torch.equal(batch["labels"], golden["out.labels"])
    assert largest(golden_cases.sketch(embeds), golden["out.inputs_embeds_sketch"], mask) < 1e-4
    rows = golden["out.rows"]
    assert largest(embeds[:, rows], golden["out.inputs_embeds_rows"], mask[:, rows]) < 1e-4
    if "out.inputs_embeds" in golden:
        assert largest(embeds, golden["out.inputs_embeds"], mask) < 1e-4
    assert largest(golden_cases.sketch(outputs.logits), golden["out.logits_sketch"], mask) < 1e-3
    at = golden["out.answer_positions"]
    assert largest(outputs.logits[:, at], golden["out.logits_at_answer_positions"], mask[:, at]) < 1e-3
    assert abs(float(outputs.loss) - facts["loss"]) < 1e-4


def test_tower_and_projectors_as_parts(loaded, ecgs, gem_tiny):
    model = loaded[0].model
    golden = load_file(gem_tiny / "cases" / "flat_batch2_right_pad.safetensors")
    with torch.no_grad():
        tokens = model.ecg_tower(ecgs[1:3])
        assert largest(tokens, golden["out.ecg_tokens"]) < 1e-4
        projected = model.multi_modal_projector(model.ecg_projector(tokens))
        assert largest(projected, golden["out.ecg_features_projected"]) < 1e-4


@pytest.mark.parametrize(
    "name", ["flat_single", "flat_other", "anyres_unpad", "text_only_no_image_no_ecg", "flat_token_absent"]
)
def test_greedy_tokens(name, loaded, expected, ecgs, pixels, gem_tiny, copied):
    from gem_lightning.models.chat.placeholders import expand_markers

    facts = expected["generation"][name]
    model, _ = load_original(copied(**facts["config_overrides"])) if facts["config_overrides"] else loaded
    data = {}
    tokens = ([], [])
    if -200 in facts["input_ids"]:
        image = pixels(facts["image"])
        number = int(facts["image"][3])
        size = expected_size(gem_tiny, number)
        features = model.model.get_image_features([image], [size])
        tokens = ([101], [features[0].shape[0]])
        data = {
            "ecg_values": ecgs[facts["ecg_row"]][None],
            "pixel_values": [image] if len(image) > 1 else image,
            "image_sizes": [size],
        }
    ids, _ = expand_markers(
        facts["input_ids"], facts["input_ids"], *tokens, model.config.ecg_token_id, model.config.image_token_id
    )
    ids = torch.tensor([ids])
    for cache in (True, False):
        found = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=20,
            do_sample=False,
            use_cache=cache,
            **data,
        )
        assert found[0, ids.shape[1] :].tolist() == facts["new_tokens"]


def expected_size(gem_tiny, number):
    import json

    return json.loads((gem_tiny / "images" / "pixel_expected.json").read_text())["image_sizes_wh"][number]


def test_gradients_and_six_steps(gem_tiny, expected, ecgs, pixels):
    from gem_lightning.models.compat.names import GEM_LAYOUT, to_theirs

    facts = expected["training"]
    model, processor = load_original(gem_tiny / "model")
    batch, _, _ = golden_cases.batch_of(facts["case"], gem_tiny, model, processor, ecgs, pixels)
    model.model.ecg_tower.requires_grad_(False)
    model.model.vision_tower.requires_grad_(False)
    model.train()
    named = {to_theirs(name, GEM_LAYOUT): p for name, p in model.named_parameters() if p.requires_grad}
    assert set(named) - {"model.image_newline"} == set(facts["trainable"]) - {"model.image_newline"}
    groups = [
        {"params": [named[n] for n in facts["decay_names"]], "weight_decay": facts["adamw"]["weight_decay"]},
        {"params": [named[n] for n in facts["no_decay_names"]], "weight_decay": 0.0},
    ]
    settings = facts["adamw"]
    optimizer = torch.optim.AdamW(groups, lr=settings["lr"], betas=settings["betas"], eps=settings["eps"])
    gradients = load_file(gem_tiny / "gradients.safetensors")
    for step, wanted in enumerate(facts["losses_before_each_step"]):
        optimizer.zero_grad()
        loss = model(**batch).loss
        assert abs(float(loss.detach()) - wanted) < 1e-3
        loss.backward()
        if step == 0:
            for name, norm in facts["grad_norms"].items():
                assert abs(float(named[name].grad.norm()) - norm) < 1e-4 * norm + 1e-6, name
            for name, gradient in gradients.items():
                own = named[name.removeprefix("grad.")].grad
                assert largest(own, gradient) < 1e-4 * float(gradient.abs().max()) + 1e-6, name
        norm = torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], settings["clip_grad_norm"])
        assert abs(float(norm) - facts["grad_norm_before_clip"][step]) < 1e-3 * float(norm)
        optimizer.step()


def test_published_size_has_the_published_names(gem_tiny):
    """841 names and shapes of a 7B GEM, from the configs that are built in; nothing is allocated."""
    import json

    from transformers import LlamaConfig

    from gem_lightning.models import GemConfig, GemForConditionalGeneration
    from gem_lightning.models.compat.names import GEM_LAYOUT, to_theirs

    wanted = json.loads((gem_tiny / "full_size_keys_7b.json").read_text())["state_dict"]
    llama = LlamaConfig(vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32)
    with torch.device("meta"):
        state = GemForConditionalGeneration(GemConfig(text_config=llama, image_newline=True)).state_dict()
    assert {to_theirs(name, GEM_LAYOUT): list(value.shape) for name, value in state.items()} == wanted
