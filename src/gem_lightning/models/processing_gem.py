"""Conversations, ECGs and pictures to the tensors that the network reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoProcessor, BatchFeature, ProcessorMixin

from gem_lightning.errors import DataError
from gem_lightning.models.chat.formats import Message, plain_chat, tokenize_conversation
from gem_lightning.models.chat.tokens import ECG, IMAGE
from gem_lightning.models.configuration_gem import ECG_TOKEN_ID, IGNORE_INDEX, IMAGE_TOKEN_ID, GemConfig
from gem_lightning.models.fusion import count_image_tokens
from gem_lightning.models.placeholders import expand_markers, read_messages, share_out, without_markers
from gem_lightning.models.signals import signal_values
from gem_lightning.models.tiles import CLIP_MEAN, CLIP_STD, Picture, image_tiles, normalise
from gem_lightning.render.fit import best_grid


class GemProcessor(ProcessorMixin):
    """Turns what people have (text, records, pictures) into what :class:`GemForConditionalGeneration` takes.

    Args:
        tokenizer: Of the language model.
        image_size: Side of an image tile, pixels.
        patch_size: Side of an image patch, pixels.
        image_mode: ``pad``, ``stretch``, ``ori`` or ``anyres``, see :func:`gem_lightning.models.tiles.image_tiles`.
        image_merge: ``flat``, ``spatial`` or ``spatial_unpad``, as in the model's config.
        image_grid_pinpoints: Canvases of anyres, pixels.
        image_mean: Mean colour, 0 to 1.
        image_std: Deviation of the colours.
        tile_tokens: Tokens of one image tile; None means one per patch.
        ecg_samples: Samples per lead that the ECG tower reads.
        ecg_patch_size: Samples per ECG token.
        sampling_rate: Rate that the ECG tower was trained at, Hz.
        contract: ``clean`` orders leads by name and resamples; ``gem`` takes rows and rate as they come, as the
            published weights were trained.
        chat: Conversation format, see :func:`gem_lightning.models.chat.formats.tokenize_conversation`.
        legacy_masks: Label masks with the original's faults.
        ecg_token_id: Placeholder of one ECG token.
        image_token_id: Placeholder of one image token.
        chat_template: Of the tokenizer, for ``chat="template"``.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        image_size: int = 336,
        patch_size: int = 14,
        image_mode: str = "pad",
        image_merge: str = "flat",
        image_grid_pinpoints: Sequence[Sequence[int]] | None = None,
        image_mean: Sequence[float] = CLIP_MEAN,
        image_std: Sequence[float] = CLIP_STD,
        tile_tokens: int | None = None,
        ecg_samples: int = 5000,
        ecg_patch_size: int = 50,
        sampling_rate: float = 500.0,
        contract: str = "clean",
        chat: Any = "llava_v1",
        legacy_masks: bool = False,
        ecg_token_id: int = ECG_TOKEN_ID,
        image_token_id: int = IMAGE_TOKEN_ID,
        chat_template: str | None = None,
    ) -> None:
        if contract not in ("clean", "gem"):
            raise DataError(f"expected the contract clean or gem, got {contract!r}")
        super().__init__(tokenizer, chat_template=chat_template)
        self.image_size, self.patch_size = image_size, patch_size
        self.image_mode, self.image_merge = image_mode, image_merge
        self.image_grid_pinpoints = [list(pair) for pair in image_grid_pinpoints] if image_grid_pinpoints else None
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        self.tile_tokens = tile_tokens if tile_tokens is not None else (image_size // patch_size) ** 2
        self.ecg_samples, self.ecg_patch_size, self.sampling_rate = ecg_samples, ecg_patch_size, sampling_rate
        self.contract, self.chat, self.legacy_masks = contract, plain_chat(chat), legacy_masks
        self.ecg_token_id, self.image_token_id = ecg_token_id, image_token_id

    @classmethod
    def from_config(cls, tokenizer: Any, config: GemConfig, **settings: Any) -> GemProcessor:
        """The processor that fits a network; ``settings`` are further arguments of the class."""
        fitted: dict[str, Any] = {"ecg_token_id": config.ecg_token_id, "image_token_id": config.image_token_id}
        if config.vision_config is not None:
            fitted |= {
                "image_size": config.vision_config.image_size,
                "patch_size": config.vision_config.patch_size,
                "image_merge": config.image_merge,
                "image_grid_pinpoints": config.image_grid_pinpoints,
                "tile_tokens": config.tile_tokens,
            }
            if "siglip" in config.vision_config.model_type:
                fitted |= {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
        if config.ecg_config is not None:
            ecg = config.ecg_config
            fitted |= {"ecg_samples": ecg.samples, "ecg_patch_size": ecg.patch_size, "sampling_rate": ecg.sampling_rate}
        return cls(tokenizer, **fitted | settings)

    @property
    def ecg_tokens(self) -> int:
        """Tokens of one ECG."""
        return self.ecg_samples // self.ecg_patch_size + 1

    @property
    def pad_id(self) -> int:
        """Id that fills short texts; the mask hides it, so any id will do where the tokenizer names none."""
        return next((i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if i is not None), 0)

    def ecg_values(self, ecg: Any) -> np.ndarray:
        """float32 (leads, samples) of one record (``EcgRecord``) or array (leads, samples), mV, without NaN."""
        return signal_values(ecg, self.ecg_samples, self.sampling_rate, self.contract)

    def image_values(self, picture: Picture) -> tuple[np.ndarray, tuple[int, int]]:
        """float32 (tiles, 3, h, w) of one picture, and its size (width, height), pixels."""
        size = picture.size if not isinstance(picture, np.ndarray) else picture.shape[1::-1]
        tiles = image_tiles(picture, self.image_mode, self.image_size, self.image_grid_pinpoints, self.image_mean)
        return normalise(tiles, self.image_mean, self.image_std), (int(size[0]), int(size[1]))

    def image_tokens(self, size: tuple[int, int] | None = None, tiles: int = 1) -> int:
        """Tokens of a picture of ``size`` (width, height) cut into ``tiles``."""
        if size is None and (self.image_mode == "anyres" or tiles > 1):
            raise DataError("expected the sizes of the pictures for anyres, got none; pass images or image_sizes")
        return count_image_tokens(
            tiles,
            size or (1, 1),
            merge=self.image_merge,
            side=self.image_size // self.patch_size,
            tile_tokens=self.tile_tokens,
            tile_size=self.image_size,
            pinpoints=self.image_grid_pinpoints,
        )

    def encode(
        self,
        conversation: Sequence[Message],
        ecgs: Sequence[Any] = (),
        images: Sequence[Picture] = (),
        max_length: int | None = None,
        add_generation_prompt: bool = False,
    ) -> dict[str, Any]:
        """One conversation with its data; :meth:`pad` makes a batch of several.

        Args:
            conversation: Messages ``{"from", "value"}`` or ``{"role", "content"}``. An ``<ecg>`` is the place of one
                ECG and an ``<image>`` of one picture; without any ``<ecg>``, each ``<image>`` is the place of an ECG
                and of its picture, as in the published data. Markers of a modality that is not given vanish.
            ecgs: Records or arrays, in the order of their markers.
            images: Pictures, in the order of their markers.
            max_length: Longest sample, tokens; the end of a longer one is cut.
            add_generation_prompt: End with what asks for an answer.

        Returns:
            ``input_ids`` and ``labels`` (lists), ``cut`` (bool) and, where given, ``ecg_values`` (n, leads, samples),
            ``pixel_values`` (list of (tiles, 3, h, w)) and ``image_sizes``.

        Raises:
            DataError: Markers and data differ in number, or the cut would go through them.
        """
        pictures = [self.image_values(image) for image in images]
        tokens = [self.image_tokens(size, len(tiles)) for tiles, size in pictures]
        item = self._tokens(conversation, [self.ecg_tokens] * len(ecgs), tokens, max_length, add_generation_prompt)
        if len(ecgs):
            item["ecg_values"] = torch.from_numpy(np.stack([self.ecg_values(ecg) for ecg in ecgs]))
        if pictures:
            item["pixel_values"] = [torch.from_numpy(tiles) for tiles, _ in pictures]
            item["image_sizes"] = [size for _, size in pictures]
        return item

    def tokenize_conversation(
        self,
        conversation: Sequence[Message],
        has_ecg: bool = True,
        has_image: bool = True,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        max_length: int | None = None,
    ) -> dict[str, Any]:
        """Ids and labels with the placeholders of data that lie elsewhere: one ECG and picture at each marker.

        Args:
            conversation: See :meth:`encode`.
            has_ecg: Its ECGs will be there.
            has_image: Its pictures will be there.
            image_sizes: (width, height) of each picture; needed for anyres.
            max_length: Longest sample, tokens.
        """
        messages = read_messages(conversation)
        markers = [sum(message["value"].count(name) for message in messages) for name in (ECG, IMAGE)]
        ecgs = (markers[0] or markers[1]) if has_ecg else 0
        images = markers[1] if has_image else 0
        sizes = list(image_sizes) if image_sizes else [None] * images
        tiles = [self._tile_count(size) for size in sizes[:images]]
        tokens = [self.image_tokens(size, count) for size, count in zip(sizes, tiles)]
        return self._tokens(conversation, [self.ecg_tokens] * ecgs, tokens, max_length, False)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        ecgs: Sequence[Any] | None = None,
        images: Sequence[Any] | None = None,
        conversations: Sequence[Any] | None = None,
        padding: str | bool | None = None,
        add_generation_prompt: bool | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """A batch of questions or conversations.

        Args:
            text: One question, or one per sample.
            ecgs: Records or arrays: one list for the batch in reading order, or one list per sample.
            images: Pictures, like ``ecgs``.
            conversations: One conversation (a list of messages) or one per sample, in place of ``text``.
            padding: ``left`` or ``right``; by default left where an answer is asked for.
            add_generation_prompt: End with what asks for an answer; by default where ``text`` is given or a
                conversation ends with a question.
            max_length: Longest sample, tokens.
            **kwargs: ``return_tensors`` and the like are accepted for compatibility; tensors are always returned.

        Returns:
            ``input_ids, attention_mask`` (B, S), ``labels`` where no answer is asked for, ``ecg_values``,
            ``pixel_values`` and ``image_sizes`` where there are any.

        Raises:
            DataError: Markers and data differ in number.
        """
        batch = _conversations(text, conversations)
        ask = add_generation_prompt
        if ask is None:
            ask = text is not None or batch[0][-1]["from"] == "human"
        parts = share_out(batch, list(ecgs or []), list(images or []))
        items = [
            self.encode(messages, own_ecgs, own_images, max_length, ask) for messages, own_ecgs, own_images in parts
        ]
        side = padding if padding in ("left", "right") else "left" if ask else "right"
        padded = self.pad(items, str(side))
        if ask:
            del padded["labels"]
        return padded

    def pad(self, items: Sequence[Mapping[str, Any]], side: str = "right") -> BatchFeature:
        """Items of :meth:`encode` as one batch; signals and pictures one after another in the order of their markers.

        Args:
            items: One per sample.
            side: Where short texts are filled, ``left`` or ``right``.
        """
        longest = max(len(item["input_ids"]) for item in items)
        ids = torch.full((len(items), longest), self.pad_id)
        labels = torch.full((len(items), longest), IGNORE_INDEX)
        mask = torch.zeros((len(items), longest), dtype=torch.long)
        for row, item in enumerate(items):
            count = len(item["input_ids"])
            part = slice(longest - count, longest) if side == "left" else slice(0, count)
            ids[row, part] = torch.as_tensor(item["input_ids"])
            labels[row, part] = torch.as_tensor(item["labels"])
            mask[row, part] = 1
        batch: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        ecgs = [item["ecg_values"] for item in items if "ecg_values" in item]
        images = [image for item in items for image in item.get("pixel_values", ())]
        if ecgs:
            batch["ecg_values"] = torch.cat(ecgs)
        if images:
            single = all(len(image) == 1 for image in images)
            batch["pixel_values"] = torch.cat(images) if single else images
            batch["image_sizes"] = torch.tensor([size for item in items for size in item.get("image_sizes", ())])
        return BatchFeature(batch)

    def _tokens(
        self,
        conversation: Sequence[Message],
        ecgs: list[int],
        images: list[int],
        max_length: int | None,
        generate: bool,
    ) -> dict[str, Any]:
        messages = read_messages(conversation)
        if not ecgs and not images:
            messages = without_markers(messages)
        multimodal = bool(ecgs or images)
        limit = max_length if self.legacy_masks and not multimodal and max_length is not None else 2**31
        found = tokenize_conversation(
            messages, self.tokenizer, self.chat, self.legacy_masks, limit, multimodal, generate=generate
        )
        ids, labels = expand_markers(
            found["input_ids"], found["labels"], ecgs, images, self.ecg_token_id, self.image_token_id
        )
        cut = max_length is not None and len(ids) > max_length
        if max_length is not None and any(i in (self.ecg_token_id, self.image_token_id) for i in ids[max_length:]):
            raise DataError(
                f"expected max_length to keep every ECG and image token, got {max_length} for a sample of {len(ids)} "
                "tokens; raise max_length or leave a modality out"
            )
        return {"input_ids": ids[:max_length], "labels": labels[:max_length], "cut": cut}

    def _tile_count(self, size: tuple[int, int] | None) -> int:
        if self.image_mode != "anyres":
            return 1
        if size is None:
            raise DataError("expected image_sizes for anyres, got none; pass (width, height) per picture")
        width, height = best_grid(size, self.image_grid_pinpoints or [])
        return 1 + (width // self.image_size) * (height // self.image_size)


def _conversations(text: str | Sequence[str] | None, conversations: Sequence[Any] | None) -> list[list[dict[str, str]]]:
    if (text is None) == (conversations is None):
        raise DataError("expected either text or conversations, got both or neither")
    if text is not None:
        texts = [text] if isinstance(text, str) else list(text)
        return [[{"from": "human", "value": question}] for question in texts]
    assert conversations is not None
    nested = [conversations] if conversations and isinstance(conversations[0], Mapping) else conversations
    return [read_messages(conversation) for conversation in nested]


def as_device(batch: Mapping[str, Any], device: torch.device | str, dtype: torch.dtype | None = None) -> dict[str, Any]:
    """A batch on a device, its signals and pictures in ``dtype``."""

    def move(value: Any) -> Any:
        if isinstance(value, list):
            return [move(part) for part in value]
        if not isinstance(value, Tensor):
            return value
        return value.to(device, dtype if value.is_floating_point() else None)

    return {name: move(value) for name, value in batch.items()}


AutoConfig.register(GemConfig.model_type, GemConfig, exist_ok=True)
AutoProcessor.register(GemConfig, GemProcessor, exist_ok=True)
