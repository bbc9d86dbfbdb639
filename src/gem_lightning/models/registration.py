"""Importing this makes transformers' Auto classes know the family."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from gem_lightning.models.configuration_gem import EcgConfig, GemConfig
from gem_lightning.models.modeling_gem import GemForConditionalGeneration, GemModel
from gem_lightning.models.processing_gem import GemProcessor

AutoConfig.register(EcgConfig.model_type, EcgConfig, exist_ok=True)
AutoConfig.register(GemConfig.model_type, GemConfig, exist_ok=True)
AutoModel.register(GemConfig, GemModel, exist_ok=True)
AutoModelForImageTextToText.register(GemConfig, GemForConditionalGeneration, exist_ok=True)
AutoProcessor.register(GemConfig, GemProcessor, exist_ok=True)

__all__ = ["EcgConfig", "GemConfig", "GemForConditionalGeneration", "GemModel", "GemProcessor"]
