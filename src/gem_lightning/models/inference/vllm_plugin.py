"""The whole GEM inside vLLM: towers, projectors and language model, with ECGs as a modality of their own.

vLLM finds it by the entry point ``vllm.general_plugins``; written against vLLM 0.32. A request is what
:func:`gem_lightning.models.inference.vllm.vllm_request` makes: ids in which each ECG and image is a short mark, and
the data. vLLM refuses ids beyond the vocabulary, so that marks and placeholders are ids which no text holds in a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import SupportsMultiModal, SupportsPP
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    WeightsMapper,
    init_vllm_registered_model,
    maybe_prefix,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import MultiModalDataParser, ProcessorBatchItems
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
)
from vllm.multimodal.processing.inputs import ProcessorInputs

from gem_lightning.ecg.record import LEADS
from gem_lightning.models.inference.vllm import marks, without_layers
from gem_lightning.models.modeling_gem import GemModel

MODALITIES = ("ecg", "image")


class EcgItems(ProcessorBatchItems):
    """ECGs of one request, each float32 (leads, samples), mV."""

    def __init__(self, data: Sequence[np.ndarray]) -> None:
        super().__init__(data, "ecg")


class EcgParser(MultiModalDataParser):
    """vLLM's parser of a request's data, which knows ECGs too."""

    def _get_subparsers(self) -> Mapping[str, Any]:
        def parse(data: Any) -> EcgItems:
            one = isinstance(data, (np.ndarray, torch.Tensor)) and data.ndim == 2
            return EcgItems([np.asarray(ecg, dtype=np.float32) for ecg in ([data] if one else data)])

        return {**super()._get_subparsers(), "ecg": parse}


class GemProcessingInfo(BaseProcessingInfo):
    """What vLLM asks about a GEM's inputs."""

    def get_data_parser(self) -> EcgParser:
        """Return the parser of requests."""
        return EcgParser(expected_hidden_size=self._get_expected_hidden_size())

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """Return the modalities that the model has a tower for; their number is not limited."""
        config = self.get_hf_config()
        towers = (config.ecg_config, config.vision_config)
        return {name: None for name, tower in zip(MODALITIES, towers, strict=True) if tower is not None}


class GemDummyInputs(BaseDummyInputsBuilder[GemProcessingInfo]):
    """The largest inputs, with which vLLM measures memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """Return no text: marks are ids, see :meth:`GemVllmProcessor.get_dummy_inputs`."""
        return ""

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any) -> dict[str, Any]:
        """Return silent ECGs, and white images of the shape that gives most tokens."""
        processor = self.info.get_hf_processor()
        own = processor.image
        sizes = [(int(width), int(height)) for width, height in own.image_grid_pinpoints or [[own.image_size] * 2]]
        width, height = max(sizes, key=lambda size: own.count_tokens(size, own.count_tiles(size)))
        blank = np.zeros((len(LEADS), processor.ecg.ecg_samples), np.float32)
        return {
            "ecg": [blank] * mm_counts.get("ecg", 0),
            "image": self._get_dummy_images(width=width, height=height, num_images=mm_counts.get("image", 0)),
        }


class GemVllmProcessor(BaseMultiModalProcessor[GemProcessingInfo]):
    """Signals and images of a request as tensors, and its marks as placeholders."""

    def get_dummy_inputs(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any) -> ProcessorInputs:
        """Return marks and data for vLLM's measurement of memory."""
        data = self.dummy_inputs.get_dummy_mm_data(seq_len, mm_counts, mm_options)
        mark, _ = marks(self.info.get_hf_processor())
        prompt = [token for name in MODALITIES for token in mark[name] * mm_counts.get(name, 0)]
        return ProcessorInputs(prompt=prompt, mm_data_items=self.info.parse_mm_data(data, validate=False))

    def _call_hf_processor(self, hf_data: Mapping[str, Any], hf_kwargs: Mapping[str, Any]) -> BatchFeature:
        processor = self.info.get_hf_processor()
        found: dict[str, Any] = {}
        if hf_data.get("ecgs"):
            found["ecg_values"] = torch.from_numpy(np.stack([processor.ecg_values(ecg) for ecg in hf_data["ecgs"]]))
        if hf_data.get("images"):
            made = [processor.image_values(image) for image in hf_data["images"]]
            found["pixel_values"] = [torch.from_numpy(tiles) for tiles, _ in made]
            found["image_sizes"] = torch.tensor([size for _, size in made])
        return BatchFeature(found)

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        image = MultiModalFieldConfig.batched("image")
        return {"ecg_values": MultiModalFieldConfig.batched("ecg"), "pixel_values": image, "image_sizes": image}

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, object], out_mm_kwargs: Any
    ) -> list[PromptReplacement]:
        processor = self.info.get_hf_processor()
        mark, fill = marks(processor)

        def image_placeholders(index: int) -> list[int]:
            image = out_mm_kwargs["image"][index]
            width, height = image["image_sizes"].data.tolist()
            return [fill["image"]] * processor.image_tokens((width, height), len(image["pixel_values"].data))

        replacement = {"ecg": [fill["ecg"]] * processor.ecg_tokens, "image": image_placeholders}
        return [PromptReplacement(modality=name, target=mark[name], replacement=replacement[name]) for name in mm_items]


@MULTIMODAL_REGISTRY.register_processor(GemVllmProcessor, info=GemProcessingInfo, dummy_inputs=GemDummyInputs)
class GemForVllm(torch.nn.Module, SupportsMultiModal, SupportsPP):
    """A GEM whose language model is vLLM's own; towers and projectors are the library's.

    Args:
        vllm_config: Of the engine; its ``hf_config`` is a ``GemConfig``.
        prefix: Of the weights' names.
    """

    hf_to_vllm_mapper = WeightsMapper(
        orig_to_new_prefix={
            "lm_head.": "language_model.lm_head.",
            "model.language_model.": "language_model.model.",
            "model.": "front.",
        }
    )

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """Return None: a chat's text holds no marks, only ids do."""
        return None

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        self.config = config = vllm_config.model_config.hf_config
        with self._mark_tower_model(vllm_config, set(MODALITIES)):  # type: ignore[operator]
            self.front = _front(config).to(vllm_config.model_config.dtype)
        with self._mark_language_model(vllm_config):  # type: ignore[operator]
            self.language_model = init_vllm_registered_model(
                vllm_config=vllm_config,
                hf_config=config.text_config,
                prefix=maybe_prefix(prefix, "language_model"),
                architectures=[MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.text_config.model_type]],
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    @torch.inference_mode()
    def embed_multimodal(self, **kwargs: Any) -> list[torch.Tensor]:
        """Return the tokens (T, H) of each ECG or image, for one modality at a time, as vLLM calls it."""
        front: Any = self.front
        parameter = next(front.parameters())
        if kwargs.get("ecg_values") is not None:
            values = torch.stack(list(kwargs["ecg_values"])).to(parameter.device, parameter.dtype)
            return list(front.get_ecg_features(values))
        if kwargs.get("pixel_values") is not None:
            sizes = torch.stack(list(kwargs["image_sizes"])).tolist()
            return list(front.get_image_features(kwargs["pixel_values"], sizes))
        return []

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: object,
    ) -> Any:
        """Return the language model's hidden states (tokens, H)."""
        if intermediate_tensors is not None:
            inputs_embeds = None
        return self.language_model.model(input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """Return logits (tokens, V)."""
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load a folder that ``save_pretrained`` wrote; return the names that were loaded."""
        return AutoWeightsLoader(self).load_weights(weights, mapper=self.hf_to_vllm_mapper)


def _front(config: Any) -> GemModel:
    """Towers and projectors alone."""
    front = GemModel(without_layers(config)).eval().requires_grad_(False)
    del front.language_model
    return front
