"""Any mix of text, ECGs and pictures, each at its own marker."""

import json

import numpy as np
import pytest
import torch

from gem_lightning.ecg.record import LEADS, EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.models import GemProcessor
from gem_lightning.models.preprocessing import EcgOptions


def ids_of(processor, item):
    return [
        "E" if i == processor.ecg_token_id else "I" if i == processor.image_token_id else "t" for i in item["input_ids"]
    ]


def runs(letters):
    return "".join(letter for i, letter in enumerate(letters) if i == 0 or letters[i - 1] != letter)


QUESTION = [{"from": "human", "value": "<image>\nRate?"}, {"from": "gpt", "value": "72 bpm."}]


def test_one_marker_is_the_place_of_the_ecg_and_then_of_its_picture(tiny, signal, picture):
    _, processor = tiny
    item = processor.encode(QUESTION, [signal], [picture])
    letters = ids_of(processor, item)
    assert runs(letters) == "tEIt"
    assert (letters.count("E"), letters.count("I")) == (11, 16)
    assert item == item | processor.tokenize_conversation(QUESTION)
    assert all(label == -100 for label, kind in zip(item["labels"], letters) if kind != "t")


def test_missing_modalities_leave_no_trace(tiny, signal, picture):
    _, processor = tiny
    assert runs(ids_of(processor, processor.encode(QUESTION, [signal]))) == "tEt"
    assert runs(ids_of(processor, processor.encode(QUESTION, [], [picture]))) == "tIt"
    plain = [{"from": "human", "value": "Rate?"}, {"from": "gpt", "value": "72 bpm."}]
    assert processor.encode(QUESTION)["input_ids"] == processor.encode(plain)["input_ids"]
    batch = processor.pad([processor.encode(QUESTION)])
    assert "ecg_values" not in batch
    assert "pixel_values" not in batch


def test_several_ecgs_and_pictures_each_at_its_marker(tiny, signal, picture):
    _, processor = tiny
    talk = [
        {"from": "human", "value": "Before <ecg> and after <ecg>, printed <image>: what changed?"},
        {"from": "gpt", "value": "The rate."},
        {"from": "human", "value": "And here? <ecg>"},
        {"from": "gpt", "value": "Nothing."},
    ]
    item = processor.encode(talk, [signal, signal * 2, signal * 3], [picture])
    assert runs(ids_of(processor, item)) == "tEtEtItEt"
    assert torch.allclose(item["ecg_values"][2], torch.from_numpy(signal) * 3)
    pairs = [{"from": "human", "value": "<image> <image> compare"}, {"from": "gpt", "value": "Same."}]
    assert runs(ids_of(processor, processor.encode(pairs, [signal] * 2, [picture] * 2))) == "tEItEIt"
    with pytest.raises(DataError, match="3 markers"):
        processor.encode(talk, [signal])


def test_messages_with_roles_and_parts(tiny, signal):
    _, processor = tiny
    parts = [{"type": "ecg"}, {"type": "text", "text": "Rate?"}]
    other = processor.encode(
        [{"role": "user", "content": parts}, {"role": "assistant", "content": "72 bpm."}], [signal]
    )
    same = [{"from": "human", "value": "<ecg>\nRate?"}, {"from": "gpt", "value": "72 bpm."}]
    assert other["input_ids"] == processor.encode(same, [signal])["input_ids"]


def test_batches_share_data_out_by_markers(tiny, signal, picture):
    _, processor = tiny
    batch = processor(["<ecg> a?", "no data", "<ecg> b? <image>"], ecgs=[signal, signal * 2], images=[picture])
    assert batch["ecg_values"].shape == (2, 12, 500)
    assert batch["attention_mask"][1, 0] == 0  # left padding where an answer is asked for
    assert "labels" not in batch
    batch = processor(conversations=[QUESTION, QUESTION], ecgs=[[signal], []], images=[[], [picture]])
    assert batch["attention_mask"][0, 0] == 1
    assert {k: len(batch[k]) for k in ("ecg_values", "pixel_values")} == {"ecg_values": 1, "pixel_values": 1}
    with pytest.raises(DataError, match="one list per sample"):
        processor(["<image> a?", "<image> b?"], ecgs=[signal])


def test_texts_without_markers_get_one(tiny, signal, picture):
    _, processor = tiny
    batch = processor(["Rate?", "Rhythm?"], ecgs=[signal, signal], images=[picture, picture])
    assert int((batch["input_ids"] == processor.ecg_token_id).sum()) == 22


def test_signal_contracts(tokenizer):
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(12, 1000)).astype(np.float32)
    swapped = EcgRecord(signal[[1, 0, *range(2, 12)]], 250.0, (LEADS[1], LEADS[0], *LEADS[2:]))
    clean = GemProcessor(tokenizer).ecg_values(swapped)
    raw = GemProcessor(tokenizer, ecg=EcgOptions(contract="gem")).ecg_values(swapped)
    assert clean.shape == raw.shape == (12, 5000)
    assert np.array_equal(raw[0, :1000], signal[1])  # rows as they came, no resampling
    assert not raw[:, 1000:].any()
    assert np.corrcoef(clean[0, :2000:2], signal[0])[0, 1] > 0.95  # reordered by name, 250 Hz to 500 Hz
    assert not clean[:, 2000:].any()


def test_cutting_keeps_placeholders(tiny, signal):
    _, processor = tiny
    long = [{"from": "human", "value": "<image>\nRate?"}, {"from": "gpt", "value": "72 bpm. " * 40}]
    item = processor.encode(long, [signal], max_length=120)
    assert len(item["input_ids"]) == len(item["labels"]) == 120
    assert item["cut"]
    with pytest.raises(DataError, match="max_length"):
        processor.encode(long, [signal], max_length=40)


def test_saved_and_loaded(tiny, tmp_path, signal):
    _, processor = tiny
    processor.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "processor_config.json").read_text())
    assert stored["image_size"] == 112 and stored["contract"] == "clean"  # side by side, as in earlier versions
    again = GemProcessor.from_pretrained(tmp_path)
    assert GemProcessor.from_pretrained(tmp_path, contract="gem").contract == "gem"
    assert again.to_dict() == processor.to_dict()
    assert again.encode(QUESTION, [signal])["input_ids"] == processor.encode(QUESTION, [signal])["input_ids"]
