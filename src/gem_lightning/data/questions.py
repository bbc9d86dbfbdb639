"""Other words for the question of a sample."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from gem_lightning.errors import DataError
from gem_lightning.samples.sample import InstructionSample

Templates = str | Sequence[str] | Mapping[str, str | Sequence[str]]
_MARKER = re.compile(r"<image>|<ecg>")


class QuestionTemplates:
    """The first question of each sample in other words, one of several drawn for it each epoch.

    Args:
        templates: A text, several, or kind of sample (its ``kind``) → those; other kinds keep their question.
            ``{question}`` stands for the sample's own, other names in braces for its own facts, such as ``{age}``.
    """

    def __init__(self, templates: Templates) -> None:
        by_kind = templates if isinstance(templates, Mapping) else {None: templates}
        self.templates = {kind: [texts] if isinstance(texts, str) else list(texts) for kind, texts in by_kind.items()}

    def __call__(self, sample: InstructionSample, draw: np.random.Generator) -> list[dict[str, str]]:
        """The turns with the first question put in other words; markers of signal and picture stay before it.

        Raises:
            DataError: A template names what the sample does not have.
        """
        texts = self.templates.get(None) or self.templates.get(sample.metadata.get("kind"))
        place = next((i for i, turn in enumerate(sample.conversations) if turn["from"] == "human"), None)
        if not texts or place is None:
            return sample.conversations
        old = sample.conversations[place]["value"]
        facts = {"question": _MARKER.sub("", old).strip(), **sample.metadata}
        try:
            text = texts[int(draw.integers(len(texts)))].format_map(facts)
        except KeyError as name:
            raise DataError(f"a question template uses {name}; this sample has: {', '.join(facts)}") from None
        if not _MARKER.search(text):
            text = "\n".join([*_MARKER.findall(old), text])
        turns = list(sample.conversations)
        turns[place] = {"from": "human", "value": text}
        return turns
