"""The network: an ECG tower, an image tower and a language model that reads both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from gem_lightning.errors import DataError
from gem_lightning.jobs.files import open_weights
from gem_lightning.models.card import write_card
from gem_lightning.models.configuration_gem import EcgConfig, GemConfig
from gem_lightning.models.encoder.outside import build_ecg_tower, is_tower_of
from gem_lightning.models.encoder.transformer import EcgTransformer
from gem_lightning.models.fusion import build_projector, merge_tiles, scatter_features, tower_outputs
from gem_lightning.models.inference.decoding import InVocabulary, InVocabularyCandidates
from gem_lightning.models.language import build_language_model
from gem_lightning.models.loss import next_token_loss

_DATA = ("ecg_values", "pixel_values", "image_sizes")


class GemPreTrainedModel(PreTrainedModel):
    """What transformers needs to know about the family."""

    config_class = GemConfig
    base_model_prefix = "model"
    input_modalities = ["text", "image", "time"]  # noqa: RUF012 - the base class annotates it as an instance's
    supports_gradient_checkpointing = True
    _no_split_modules = ["EcgTransformer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, EcgTransformer):
            module.init_parameters()
        elif isinstance(module, GemModel):
            if module.image_newline is not None:
                init.normal_(module.image_newline, std=module.config.text_config.hidden_size**-0.5)
        else:
            super()._init_weights(module)


class GemModel(GemPreTrainedModel):
    """Towers, projectors and the language model's body: from ids, ECGs and images to hidden states.

    Args:
        config: Sizes; a tower whose config is None does not exist.
    """

    def __init__(self, config: GemConfig) -> None:
        super().__init__(config)
        hidden, width = config.text_config.hidden_size, int(config.projector_width or 0)
        self.ecg_tower = build_ecg_tower(config.ecg_config) if config.ecg_config else None
        self.vision_tower = AutoModel.from_config(config.vision_config) if config.vision_config else None
        self.ecg_projector = (
            build_projector(config.ecg_projector_type, config.ecg_config.width, width) if config.ecg_config else None
        )
        self.multi_modal_projector = build_projector(config.projector_type, width, hidden)
        self.image_newline = nn.Parameter(torch.empty(hidden)) if config.image_newline else None
        self.language_model = build_language_model(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's embedding table."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's embedding table."""
        self.language_model.set_input_embeddings(value)

    def get_ecg_features(self, ecg_values: Tensor) -> Tensor:
        """ECGs as tokens of the language model.

        Args:
            ecg_values: (N, leads, samples), mV.

        Returns:
            (N, tokens, H); 101 tokens in the published size, class token first.

        Raises:
            DataError: The model has no ECG tower, or the shape is another.
        """
        if self.ecg_tower is None or self.ecg_projector is None:
            raise DataError("expected no ecg_values, got some: this model has no ECG tower; leave the ECG out")
        if not len(ecg_values):  # an ECG of which nothing is kept
            return self.get_ecg_features(ecg_values.new_zeros(1, *ecg_values.shape[1:]))[:0]
        with _grad_where_needed(self.ecg_tower, ecg_values):
            tokens = self.ecg_tower(ecg_values)
        return self.multi_modal_projector(self.ecg_projector(_as(self.ecg_projector, tokens)))

    def get_image_features(
        self,
        pixel_values: Tensor | Sequence[Tensor],
        image_sizes: Tensor | Sequence[Sequence[int]] | None = None,
    ) -> list[Tensor]:
        """Images as tokens of the language model.

        Args:
            pixel_values: (N, 3, h, w), or one (tiles, 3, h, w) per image (as list or tensor (N, tiles, 3, h, w)).
            image_sizes: (width, height) of each image before tiling, pixels; needed where there are several tiles and
                ``config.image_merge`` is not ``flat``.

        Returns:
            One (tokens, H) per image.

        Raises:
            DataError: The model has no image tower, or tiles and sizes contradict each other.
        """
        if self.vision_tower is None:
            raise DataError("expected no pixel_values, got some: this model has no image tower; leave the image out")
        if isinstance(pixel_values, Tensor) and not len(pixel_values):  # an image of which nothing is kept
            return [self.get_image_features(pixel_values.new_zeros(1, *pixel_values.shape[1:]))[0][:0]]
        images = [image[None] if image.ndim == 3 else image for image in pixel_values]
        tiles = torch.cat([image.to(self.vision_tower.device, self.vision_tower.dtype) for image in images])
        own = self.config
        with _grad_where_needed(self.vision_tower, tiles):
            states = self.vision_tower(pixel_values=tiles, output_hidden_states=True, return_dict=True)
        features = states.hidden_states[own.vision_feature_layer]  # (all tiles, 1 + patches, W)
        if own.vision_feature_select == "patch" and features.shape[1] == own.patches_per_side**2 + 1:
            features = features[:, 1:]
        features = self.multi_modal_projector(_as(self.multi_modal_projector, features))
        sizes = [None] * len(images) if image_sizes is None else [(int(w), int(h)) for w, h in image_sizes]
        if len(sizes) != len(images):
            raise DataError(f"expected one size per image, got {len(sizes)} sizes and {len(images)} images")
        return [
            merge_tiles(part, size, newline=self.image_newline, **own.tiling)
            for part, size in zip(features.split([len(image) for image in images]), sizes, strict=True)
        ]

    def _ecg_tokens(self, values: Tensor) -> Tensor:
        """(all tokens, H) of ECGs (N, leads, samples)."""

        def compute(rows: list[int]) -> list[Tensor]:
            return list(self.get_ecg_features(values if len(rows) == len(values) else values[rows]))

        if not len(values):
            return self.get_ecg_features(values).flatten(0, 1)
        return torch.cat(tower_outputs(list(values), [None] * len(values), compute))

    def _image_tokens(self, values: Tensor | Sequence[Tensor], sizes: Any) -> Tensor:
        """(all tokens, H) of images, see :meth:`get_image_features`."""

        def compute(rows: list[int]) -> list[Tensor]:
            if len(rows) == len(values):
                return self.get_image_features(values, sizes)
            some = [values[row] for row in rows]
            return self.get_image_features(some, None if sizes is None else [sizes[row] for row in rows])

        if not len(values):
            return torch.cat(self.get_image_features(values, sizes))
        facts = [None if sizes is None else tuple(map(int, sizes[row])) for row in range(len(values))]
        return torch.cat(tower_outputs(list(values), facts, compute))

    def embed_inputs(
        self,
        input_ids: Tensor,
        ecg_values: Tensor | None = None,
        pixel_values: Tensor | Sequence[Tensor] | None = None,
        image_sizes: Tensor | Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """Return the language model's input: word embeddings with ECG and image features at their placeholders.

        Args:
            input_ids: (B, S), placeholders expanded.
            ecg_values: (N_ecg, leads, samples) in the order of their placeholders, mV; None without ECGs, an empty
                tensor where the tower is to run all the same (sharded training).
            pixel_values: Images in the order of their placeholders, see :meth:`get_image_features`.
            image_sizes: See :meth:`get_image_features`.

        Returns:
            (B, S, H).

        Raises:
            DataError: Placeholders and features differ in number.
        """
        ecg_mask = input_ids == self.config.ecg_token_id
        image_mask = input_ids == self.config.image_token_id
        embeds = self.get_input_embeddings()(input_ids.masked_fill(ecg_mask | image_mask, 0))
        none = embeds.new_zeros(0, embeds.shape[-1])
        ecgs = images = none
        if ecg_values is not None:
            ecgs = self._ecg_tokens(ecg_values)
        if pixel_values is not None and (len(pixel_values) or isinstance(pixel_values, Tensor)):
            images = self._image_tokens(pixel_values, image_sizes)
        embeds = scatter_features(embeds, ecg_mask, ecgs, "ECG")
        return scatter_features(embeds, image_mask, images, "image")

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        ecg_values: Tensor | None = None,
        pixel_values: Tensor | Sequence[Tensor] | None = None,
        image_sizes: Tensor | Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of the language model; see :meth:`embed_inputs` for the arguments."""
        if (input_ids is None) == (inputs_embeds is None):
            raise DataError("expected exactly one of input_ids and inputs_embeds; drop the other")
        if input_ids is not None:
            inputs_embeds = self.embed_inputs(input_ids, ecg_values, pixel_values, image_sizes)
        kwargs.pop("return_dict", None)
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            return_dict=True,
            **kwargs,
        )


class GemForConditionalGeneration(GemPreTrainedModel, GenerationMixin):
    """Text about ECGs: :class:`GemModel` and the language model's head.

    Args:
        config: Sizes and switches.

    Attributes:
        token_loss: How the loss is computed on this machine, see :func:`gem_lightning.models.loss.next_token_loss`.
    """

    token_loss = "auto"
    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: GemConfig) -> None:
        super().__init__(config)
        self.model = GemModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Return the head."""
        return self.lm_head

    def embed_inputs(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the fused embeddings (B, S, H), see :meth:`GemModel.embed_inputs`."""
        return self.model.embed_inputs(*args, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        ecg_values: Tensor | None = None,
        pixel_values: Tensor | Sequence[Tensor] | None = None,
        image_sizes: Tensor | Sequence[Sequence[int]] | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        return_logits: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Loss and logits.

        Args:
            input_ids: (B, S), placeholders expanded by :class:`GemProcessor`.
            attention_mask: (B, S), 0 at padding.
            labels: (B, S), -100 where no loss is wanted.
            ecg_values: (N_ecg, leads, samples), mV, in the order of their placeholders.
            pixel_values: (N_img, 3, h, w), or one (tiles, 3, h, w) per image.
            image_sizes: (width, height) per image, pixels.
            position_ids: (B, S), by default counted by the language model.
            past_key_values: Cache of earlier tokens.
            inputs_embeds: (B, S, H) in place of ``input_ids``, already fused.
            logits_to_keep: Number of last positions, or index tensor, whose logits are wanted; 0 means all.
            return_logits: None omits the logits while training with labels, where they are unused.
            num_items_in_batch: Divisor of the loss in place of the number of labels.
            **kwargs: For the language model.

        Returns:
            ``loss`` (float32) where labels were given, ``logits`` (B, S, V) where wanted, and the cache.
        """
        kwargs.pop("return_dict", None)
        if labels is not None:
            kwargs.setdefault("use_cache", False)  # no token follows, and packed rows are separated only without
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            ecg_values=ecg_values,
            pixel_values=pixel_values,
            image_sizes=image_sizes,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        logits = None
        if return_logits or (return_logits is None and (labels is None or not self.training)):
            keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(hidden[:, keep])
        loss = None if labels is None else self._loss(hidden, labels, num_items_in_batch)
        cache = outputs.past_key_values
        return CausalLMOutputWithPast(loss, logits, cache, outputs.hidden_states, outputs.attentions)  # type: ignore

    def _loss(self, hidden: Tensor, labels: Tensor, divisor: Tensor | int | None) -> Tensor:
        vocab, chunk = self.config.text_config.vocab_size, self.config.loss_chunk_mib
        return next_token_loss(hidden, labels, self.lm_head, vocab, chunk, divisor, self.token_loss)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """Write config, weights, generation settings and a model card."""
        tower = self.model.ecg_tower
        if tower is not None and not is_tower_of(self.config.ecg_config, tower):
            got = f"got {type(tower).__name__}, which from_pretrained cannot rebuild"
            raise DataError(f"expected the ECG tower of config.ecg_config, {got}; build it in: build_gem(ecg=CLASS)")
        done = super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            write_card(self, Path(save_directory))
            open_weights(Path(save_directory))
        return done

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        return InVocabulary(super()._get_logits_processor(*args, **kwargs))  # type: ignore[misc]

    def _get_candidate_generator(self, *args: Any, **kwargs: Any) -> Any:
        assistant = kwargs.get("assistant_model")
        foreign = assistant is not None and not isinstance(assistant, GemForConditionalGeneration)
        if foreign:  # a language model alone takes no signals and images
            kwargs["model_kwargs"] = {k: v for k, v in kwargs["model_kwargs"].items() if k not in _DATA}
        generator = super()._get_candidate_generator(*args, **kwargs)  # type: ignore[misc]
        if foreign or isinstance(generator, PromptLookupCandidateGenerator):
            return InVocabularyCandidates(generator, self.config.text_config.vocab_size)
        return generator

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        inputs_embeds: Tensor | None = None,
        ecg_values: Tensor | None = None,
        pixel_values: Any = None,
        image_sizes: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Model inputs of one decoding step: ECGs and images only where their placeholders are read.

        With ``past_key_values`` of earlier turns, pass the whole conversation's ids and all its ECGs and images again:
        what the cache holds is not computed twice.
        """
        inputs = super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)  # type: ignore
        ids = inputs.get("input_ids")
        if ids is None or (ids.shape[1] == 1 and input_ids.shape[1] > 1):
            return inputs  # embeddings are fused already, and a generated token is no placeholder
        data = dict(zip(_DATA, (ecg_values, pixel_values, image_sizes), strict=True))
        if ids.shape == input_ids.shape:
            return inputs | data
        if bool(((ids == self.config.ecg_token_id) | (ids == self.config.image_token_id)).any()):
            embeds = self.embed_inputs(input_ids, **data)[:, -ids.shape[1] :]
            return inputs | {"input_ids": None, "inputs_embeds": embeds}
        return inputs


def _as(module: nn.Module, values: Tensor) -> Tensor:
    """Values in the dtype that a projector computes in (a quantised layer reports an integer dtype: left alone)."""
    *_, last = module.parameters()  # under adapters the copy that trains comes after the original
    dtype = last.dtype
    return values.to(dtype) if dtype.is_floating_point else values


def _grad_where_needed(tower: nn.Module, values: Tensor) -> torch.set_grad_enabled:
    """No graph through a frozen tower, unless the gradient of its input is wanted."""
    wanted = values.requires_grad or any(parameter.requires_grad for parameter in tower.parameters())
    return torch.set_grad_enabled(torch.is_grad_enabled() and wanted)


AutoConfig.register(EcgConfig.model_type, EcgConfig, exist_ok=True)
AutoConfig.register(GemConfig.model_type, GemConfig, exist_ok=True)
AutoModel.register(GemConfig, GemModel, exist_ok=True)
AutoModelForImageTextToText.register(GemConfig, GemForConditionalGeneration, exist_ok=True)
