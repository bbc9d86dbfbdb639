"""Networks that read ECGs: encoders, the multimodal language model, and conversion of published weights.

Importing this package registers the family with transformers: ``AutoConfig``, ``AutoModel``,
``AutoModelForImageTextToText`` and ``AutoProcessor`` then load its folders.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gem_lightning.errors import explain_import

try:
    from gem_lightning.models import modeling_gem, processing_gem  # both register their classes with transformers
except ImportError as error:
    raise explain_import(error) from error

_HOME_OF = {
    "EcgCoCa": "encoder.coca",
    "EcgConfig": "configuration_gem",
    "EcgTransformer": "encoder.transformer",
    "Gem": "gem",
    "GemConfig": "configuration_gem",
    "GemForConditionalGeneration": "modeling_gem",
    "GemModel": "modeling_gem",
    "GemProcessor": "processing_gem",
    "Interpretation": "gem",
    "build_gem": "build",
    "build_processor": "build",
    "build_projector": "fusion",
    "generate_texts": "inference.generation",
    "load_gem": "compat",
    "load_original": "compat",
    "save_original": "compat",
    "small_tokenizer": "build",
    "tiny_tokenizer": "build",
    "tokenize_conversation": "chat.formats",
}
__all__ = [
    "EcgCoCa",
    "EcgConfig",
    "EcgTransformer",
    "Gem",
    "GemConfig",
    "GemForConditionalGeneration",
    "GemModel",
    "GemProcessor",
    "Interpretation",
    "build_gem",
    "build_processor",
    "build_projector",
    "generate_texts",
    "load_gem",
    "load_original",
    "save_original",
    "small_tokenizer",
    "tiny_tokenizer",
    "tokenize_conversation",
]

if TYPE_CHECKING:
    from gem_lightning.models.build import build_gem, build_processor, small_tokenizer, tiny_tokenizer
    from gem_lightning.models.chat.formats import tokenize_conversation
    from gem_lightning.models.compat import load_gem, load_original, save_original
    from gem_lightning.models.configuration_gem import EcgConfig, GemConfig
    from gem_lightning.models.encoder.coca import EcgCoCa
    from gem_lightning.models.encoder.transformer import EcgTransformer
    from gem_lightning.models.fusion import build_projector
    from gem_lightning.models.gem import Gem, Interpretation
    from gem_lightning.models.inference.generation import generate_texts
    from gem_lightning.models.modeling_gem import GemForConditionalGeneration, GemModel
    from gem_lightning.models.processing_gem import GemProcessor


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        from gem_lightning.renamed import resolve

        return resolve(__name__, name)
    return getattr(importlib.import_module(f"gem_lightning.models.{_HOME_OF[name]}"), name)
