"""Model card of saved weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_CARD = """---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [ecg, electrocardiography, gem-lightning]
---

# 12-lead ECG interpretation

Research software, not a medical device: nothing this model writes may guide the care of a patient.

| part | |
|---|---|
| language model | {llm} |
| ECG tower | {ecg} |
| image tower | {vision} |
| parameters | {parameters:,} |
{untrained}
## Use

```python
from gem_lightning import Gem

found = Gem.from_pretrained("path/or/hub-id").interpret("record.hea")
print(found.text)
print(found.claims)  # every claim in the text, checked against the record's own measurements
```

After `import gem_lightning.models`, `AutoModelForImageTextToText` and `AutoProcessor` load it too.
Made with gem-lightning {version}; the method is GEM, arXiv:2503.06073.
"""


def write_card(model: Any, folder: Path) -> None:
    """Write README.md into a folder of weights, unless it exists."""
    target = folder / "README.md"
    if target.exists():
        return
    from gem_lightning import __version__

    config = model.config
    text, ecg, vision = config.text_config, config.ecg_config, config.vision_config
    untrained = ", ".join(config.fresh_parts or ())
    target.write_text(
        _CARD.format(
            llm=f"{text.model_type}, {text.num_hidden_layers} layers of width {text.hidden_size}",
            ecg=f"{ecg.layers} layers of width {ecg.width}, {ecg.tokens} tokens" if ecg else "none",
            vision=f"{vision.model_type}, {vision.num_hidden_layers} layers, {vision.image_size} px"
            if vision
            else "none",
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            untrained=f"\nRandomly initialised and not trained: {untrained}.\n" if untrained else "",
            version=__version__,
        ),
        encoding="utf-8",
    )
