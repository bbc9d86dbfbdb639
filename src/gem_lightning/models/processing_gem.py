"""Conversations, ECGs and images to the tensors that the network reads; pads them to a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoProcessor, BatchFeature, ProcessorMixin
from transformers.image_utils import load_image

from gem_lightning.errors import DataError
from gem_lightning.models.chat.formats import TEMPLATE, Message, chat_format, plain_chat, tokenize_conversation
from gem_lightning.models.chat.placeholders import (
    expand_markers,
    filled_markers,
    read_messages,
    share_out,
    without_markers,
)
from gem_lightning.models.chat.tokens import ECG, IMAGE
from gem_lightning.models.configuration_gem import ECG_TOKEN_ID, IGNORE_INDEX, IMAGE_TOKEN_ID, GemConfig
from gem_lightning.models.preprocessing import EcgOptions, Image, ImageOptions, image_tiles, normalise, signal_values


class GemProcessor(ProcessorMixin):
    """Turns text, records and images into the inputs of :class:`GemForConditionalGeneration`.

    Saved folders hold all settings side by side (``image_size``, ``contract``, ...); :meth:`from_pretrained` and
    :meth:`from_config` take them by these names too.

    Args:
        tokenizer: Of the language model.
        image: How images become tiles, and tiles tokens.
        ecg: How records become arrays, and arrays tokens.
        chat: Conversation format, see :func:`gem_lightning.models.chat.formats.tokenize_conversation`.
        legacy_masks: Label masks with the original's faults.
        ecg_token_id: Placeholder of one ECG token.
        image_token_id: Placeholder of one image token.
        data_ends: Tokens before and after the placeholders of each marker, as LLaVA's ``mm_use_im_start_end`` writes.
        chat_template: Of the tokenizer, for ``chat="template"``.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        image: ImageOptions | None = None,
        ecg: EcgOptions | None = None,
        chat: Any = "llava_v1",
        legacy_masks: bool = False,
        ecg_token_id: int = ECG_TOKEN_ID,
        image_token_id: int = IMAGE_TOKEN_ID,
        data_ends: Sequence[str] | None = None,
        chat_template: str | None = None,
    ) -> None:
        super().__init__(tokenizer, chat_template=chat_template)
        self.image, self.ecg = image or ImageOptions(), ecg or EcgOptions()
        self.chat, self.legacy_masks = plain_chat(chat), legacy_masks
        self.ecg_token_id, self.image_token_id = ecg_token_id, image_token_id
        self.data_ends = list(data_ends) if data_ends else None

    @classmethod
    def from_config(cls, tokenizer: Any, config: GemConfig, **settings: Any) -> GemProcessor:
        """Build the processor that fits a network; ``settings`` override single settings."""
        fitted: dict[str, Any] = {"ecg_token_id": config.ecg_token_id, "image_token_id": config.image_token_id}
        if config.vision_config is not None:
            fitted |= {
                "image_size": config.vision_config.image_size,
                "patch_size": config.vision_config.patch_size,
                "image_merge": config.image_merge,
                "image_grid_pinpoints": config.image_grid_pinpoints,
                "image_max_tiles": config.image_max_tiles,
                "tile_tokens": config.tile_tokens,
            }
            if "siglip" in config.vision_config.model_type:
                fitted |= {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
        if config.ecg_config is not None:
            ecg = config.ecg_config
            sizes = {"ecg_samples": ecg.samples, "ecg_patch_size": ecg.patch_size, "ecg_token_count": ecg.token_count}
            fitted |= sizes | {"sampling_rate": ecg.sampling_rate}
        return cls(tokenizer, **_grouped(fitted | settings))

    @classmethod
    def from_args_and_dict(cls, args: Any, processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build from a saved folder's settings; called by ``from_pretrained``."""
        unused = {"return_unused_kwargs": kwargs.pop("return_unused_kwargs", False)}
        return super().from_args_and_dict(args, _grouped(processor_dict | kwargs), **unused)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings side by side, as saved folders hold them."""
        found = super().to_dict()
        image, ecg = found.pop("image"), found.pop("ecg")
        return found | asdict(image) | asdict(ecg)

    @property
    def contract(self) -> str:
        """Signal contract, ``clean`` or ``gem``."""
        return self.ecg.contract

    @property
    def ecg_tokens(self) -> int:
        """Tokens of one ECG."""
        return self.ecg.ecg_token_count or self.ecg.ecg_samples // self.ecg.ecg_patch_size + 1

    @property
    def remembers(self) -> bool:
        """Whether a question is asked behind the earlier turns of a conversation, or alone."""
        return self.chat == TEMPLATE or chat_format(self.chat).remembers

    @property
    def pad_id(self) -> int:
        """Id of padding; the mask hides it, so any id will do where the tokenizer names none."""
        return next((i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if i is not None), 0)

    def ecg_values(self, ecg: Any) -> np.ndarray:
        """float32 (leads, samples) of one record (``EcgRecord``) or array (leads, samples), mV, without NaN."""
        return signal_values(ecg, self.ecg.ecg_samples, self.ecg.sampling_rate, self.ecg.contract)

    def image_values(self, image: Image) -> tuple[np.ndarray, tuple[int, int]]:
        """float32 (tiles, 3, h, w) of one image, and its size (width, height), pixels."""
        size = image.size if not isinstance(image, np.ndarray) else image.shape[1::-1]
        own = self.image
        tiles = image_tiles(image, own.image_mode, own.image_size, own.image_grid_pinpoints, own.image_mean)
        return normalise(tiles, own.image_mean, own.image_std), (int(size[0]), int(size[1]))

    def image_tokens(self, size: tuple[int, int] | None = None, tiles: int = 1) -> int:
        """Return tokens of an image of ``size`` (width, height) cut into ``tiles``."""
        return self.image.count_tokens(size, tiles)

    def encode(
        self,
        conversation: Sequence[Message],
        ecgs: Sequence[Any] = (),
        images: Sequence[Image] = (),
        max_length: int | None = None,
        add_generation_prompt: bool = False,
    ) -> dict[str, Any]:
        """Encode one conversation with its data; :meth:`pad` makes a batch of several.

        Args:
            conversation: Messages ``{"from", "value"}`` or ``{"role", "content"}``. An ``<ecg>`` is the place of one
                ECG and an ``<image>`` of one image; without any ``<ecg>``, each ``<image>`` is the place of an ECG
                and of its image, as in the published data. Markers of a modality that is not given vanish.
            ecgs: Records or arrays, in the order of their markers.
            images: Images, in the order of their markers.
            max_length: Longest sample, tokens; the end of a longer one is cut.
            add_generation_prompt: End with the start of an answer.

        Returns:
            ``input_ids`` and ``labels`` (lists), ``cut`` (bool) and, where given, ``ecg_values`` (n, leads, samples),
            ``pixel_values`` (list of (tiles, 3, h, w)) and ``image_sizes``.

        Raises:
            DataError: Markers and data differ in number, or the cut would go through them.
        """
        values = [self.image_values(image) for image in images]
        tokens = [self.image_tokens(size, len(tiles)) for tiles, size in values]
        item = self._tokens(conversation, [self.ecg_tokens] * len(ecgs), tokens, max_length, add_generation_prompt)
        if len(ecgs):
            item["ecg_values"] = torch.from_numpy(np.stack([self.ecg_values(ecg) for ecg in ecgs]))
        if values:
            item["pixel_values"] = [torch.from_numpy(tiles) for tiles, _ in values]
            item["image_sizes"] = [size for _, size in values]
        return item

    def tokenize_conversation(
        self,
        conversation: Sequence[Message],
        has_ecg: bool = True,
        has_image: bool = True,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        max_length: int | None = None,
    ) -> dict[str, Any]:
        """Return ids and labels with the placeholders of data that lie elsewhere: one ECG and image at each marker.

        Args:
            conversation: See :meth:`encode`.
            has_ecg: Its ECGs will be given.
            has_image: Its images will be given.
            image_sizes: (width, height) of each image; needed for anyres.
            max_length: Longest sample, tokens.
        """
        messages = read_messages(conversation)
        markers = [sum(message["value"].count(name) for message in messages) for name in (ECG, IMAGE)]
        ecgs = (markers[0] or markers[1]) if has_ecg else 0
        images = markers[1] if has_image else 0
        sizes = list(image_sizes) if image_sizes else [None] * images
        tiles = [self.image.count_tiles(size) for size in sizes[:images]]
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
        """Encode a batch of questions or conversations.

        Args:
            text: One question, or one per sample.
            ecgs: Records or arrays: one list for the batch in reading order, or one list per sample.
            images: Images, like ``ecgs``.
            conversations: One conversation (a list of messages) or one per sample, in place of ``text``.
            padding: ``left`` or ``right``; by default left where an answer is to be generated.
            add_generation_prompt: End with the start of an answer; by default where ``text`` is given or a
                conversation ends with a question.
            max_length: Longest sample, tokens.
            **kwargs: ``return_tensors`` and the like are accepted for compatibility; tensors are always returned.

        Returns:
            ``input_ids, attention_mask`` (B, S), ``labels`` where none is to be generated, ``ecg_values``,
            ``pixel_values`` and ``image_sizes`` where there are any.

        Raises:
            DataError: Markers and data differ in number.
        """
        batch = _conversations(text, conversations)
        prompt = add_generation_prompt
        if prompt is None:
            prompt = text is not None or batch[0][-1]["from"] == "human"
        parts = share_out(batch, _as_list(ecgs, 2), _as_list(images, 3))
        items = [
            self.encode(messages, own_ecgs, own_images, max_length, prompt) for messages, own_ecgs, own_images in parts
        ]
        side = padding if padding in ("left", "right") else "left" if prompt else "right"
        padded = self.pad(items, str(side))
        if prompt:
            del padded["labels"]
        return padded

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        tokenize: bool = True,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        processor_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Encode messages whose content holds its data, as transformers' pipelines pass them.

        Args:
            conversation: Messages ``{"role", "content"}``, or one list of them per sample; content is a text or parts
                ``{"type": "text", "text"}``, ``{"type": "image", "image"}`` and ``{"type": "ecg", "ecg"}``. An image
                is an array, a PIL image, a path or an address; an ECG is a record, an array or a path.
            chat_template: Not used: the format is the processor's own ``chat``.
            tokenize: Only True: a conversation is encoded together with its data.
            add_generation_prompt: End with the start of an answer.
            continue_final_message: Only False.
            processor_kwargs: For :meth:`__call__`.
            **kwargs: Accepted for compatibility.

        Raises:
            DataError: A part without its data, or what is not supported.
        """
        if not tokenize or continue_final_message:
            raise DataError("expected tokenize=True and continue_final_message=False; other settings are not supported")
        nested = [conversation] if isinstance(conversation[0], Mapping) else conversation
        return self(
            conversations=list(map(read_messages, nested)),
            ecgs=[[self._record(ecg) for ecg in _parts(messages, "ecg")] for messages in nested],
            images=[
                [image if isinstance(image, np.ndarray) else load_image(image) for image in _parts(messages, "image")]
                for messages in nested
            ],
            add_generation_prompt=add_generation_prompt,
            **(processor_kwargs or {}),
        )

    def _record(self, ecg: Any) -> Any:
        if not isinstance(ecg, (str, Path)):
            return ecg
        from gem_lightning.ecg.readers import read_ecg

        return read_ecg(ecg, contract=self.contract)

    def pad(self, items: Sequence[Mapping[str, Any]], side: str = "right") -> BatchFeature:
        """Collate items of :meth:`encode`; signals and images are concatenated in the order of their markers.

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
        around = {marker: self.data_ends for marker in filled_markers(messages, ecgs, images) if self.data_ends}
        limit = max_length if self.legacy_masks and not multimodal and max_length is not None else 2**31
        found = tokenize_conversation(
            messages, self.tokenizer, self.chat, self.legacy_masks, limit, multimodal, generate, around
        )
        placeholders = (self.ecg_token_id, self.image_token_id)
        ids, labels = expand_markers(found["input_ids"], found["labels"], ecgs, images, *placeholders)
        cut = max_length is not None and len(ids) > max_length
        if max_length is not None and any(i in placeholders for i in ids[max_length:]):
            raise DataError(
                f"expected max_length to keep every ECG and image token, got {max_length} for a sample of {len(ids)} "
                "tokens; raise max_length or leave a modality out"
            )
        return {"input_ids": ids[:max_length], "labels": labels[:max_length], "cut": cut}


def _grouped(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Collect flat settings into the options of an image and of an ECG."""
    rest, found = dict(settings), {}
    for name, kind in (("image", ImageOptions), ("ecg", EcgOptions)):
        found[name] = kind(**{field.name: rest.pop(field.name) for field in fields(kind) if field.name in rest})
    return rest | found


def _as_list(values: Any, dimensions: int) -> list[Any]:
    """Several data as a list; a single record, image or array of so many dimensions becomes a list of one."""
    if values is None:
        return []
    single = not isinstance(values, (list, tuple)) and getattr(values, "ndim", dimensions) == dimensions
    return [values] if single else list(values)


def _parts(messages: Sequence[Mapping[str, Any]], kind: str) -> list[Any]:
    """The data of a kind, ``image`` or ``ecg``, in the content of messages."""
    contents = [message.get("content") for message in messages]
    parts = [p for content in contents if isinstance(content, (list, tuple)) for p in content if p.get("type") == kind]
    for part in parts:
        if part.get(kind) is None and part.get("url") is None:
            raise DataError(f'expected {{"type": "{kind}", "{kind}": ...}}, got {sorted(part)}')
    return [part.get("url") if part.get(kind) is None else part[kind] for part in parts]


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
    """Return a batch on a device, its signals and images in ``dtype``."""

    def move(value: Any) -> Any:
        if isinstance(value, list):
            return [move(part) for part in value]
        if not isinstance(value, Tensor):
            return value
        return value.to(device, dtype if value.is_floating_point() else None)

    return {name: move(value) for name, value in batch.items()}


AutoConfig.register(GemConfig.model_type, GemConfig, exist_ok=True)
AutoProcessor.register(GemConfig, GemProcessor, exist_ok=True)
