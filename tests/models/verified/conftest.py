"""A network that writes what a script holds, sentence by sentence, whatever stands before."""

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from gem_lightning.revision.segments import segments


class Script(LogitsProcessor):
    """Forces the n-th sentence of the script as the n-th sentence of the answer, then the end of text."""

    def __init__(self, processor, sentences, prompt):
        self.tokenizer, self.sentences, self.prompt = processor.tokenizer, sentences, prompt
        self.steps = 0

    def __call__(self, input_ids, scores):
        self.steps += 1
        answer = self.tokenizer.decode(input_ids[0, self.prompt :], skip_special_tokens=True)
        pieces = [p for p in segments(answer) if p.strip()]
        done = [p for p in pieces if p.rstrip().endswith(".")]
        rest = "" if len(done) == len(pieces) else pieces[-1]
        forced = self.tokenizer.eos_token_id
        if len(done) < len(self.sentences):
            wanted = self.sentences[len(done)]
            ids = self.tokenizer(f". {wanted}" if done else f".{wanted}", add_special_tokens=False)["input_ids"]
            behind = [self.tokenizer.decode(ids[:k]).lstrip(".").lstrip() for k in range(1, len(ids) + 1)]
            places = [k for k, text in enumerate(behind) if text == rest.lstrip()]
            forced = ids[places[-1] + 1] if places else forced
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([forced]), 0.0)


@pytest.fixture
def scripted(tiny):
    """A function: record and sentences → (network, processor, encoded prompt, settings that make it write them)."""
    from gem_lightning.models.inference.generation import encode_example

    net, processor = tiny

    def make(record, sentences):
        item = encode_example(processor, {"question": "Interpret this ECG.", "record": record})
        script = Script(processor, sentences, len(item["input_ids"]))
        return net, processor, item, {"logits_processor": LogitsProcessorList([script])}

    return make
